/* Matrix products: what Gemm and MatMul share. out[b] = start + left[b] x right[b] for a batch of
 * matrices, row-major or transposed. */
#ifndef RUNTIME_OPS_GEMM_H
#define RUNTIME_OPS_GEMM_H

#include "runtime/ops/op.h"

/* Sizes of one run. Element (m, k) of left is at m * left_m + k * left_k, one of the two being 1;
 * element (k, n) of right at k * right_k + n * right_n. Batches are walked by index in batch_dim,
 * with strides in matrices (0 where one is used for all). Out is dense. */
struct rt_product {
    int64_t m, n, k;
    int64_t left_m, left_k, right_k, right_n;
    int batch_rank;
    int64_t batch_dim[RT_MAX_RANK], left_batch[RT_MAX_RANK], right_batch[RT_MAX_RANK];
    int64_t batches; /* the product of batch_dim */
};

/* Where matrix number batch of an operand with these strides starts, in matrices. */
static inline int64_t rt_product_matrix(const struct rt_product *p, const int64_t *stride,
                                        int64_t batch)
{
    int64_t at = 0;
    for (int a = p->batch_rank - 1; a >= 0; a--) {
        at += batch % p->batch_dim[a] * stride[a];
        batch /= p->batch_dim[a];
    }
    return at;
}

/* MatMul's: the shape that the product of two operands has, and its sizes in one run. */
enum rt_status rt_matmul_shape(const struct rt_node *n, const struct rt_shape *left,
                               const struct rt_shape *right, struct rt_shape *out,
                               struct rt_error *err);
struct rt_product rt_matmul_product(const struct rt_shape *left, const struct rt_shape *right,
                                    const struct rt_shape *out);

/* The float path's share of a node's state. */
struct rt_gemm {
    float *packed;        /* right, when it is constant: rt_gemm_packed() floats for each batch */
    const float *columns; /* what sums start from, a number a column, filled up to whole panels;
                             NULL: from what start_rows() put into the output */
    float alpha;          /* of right, if it is packed at run time or later */
    /* Of a right that is packed: its shape, as the node gives it back, and what it is packed from. */
    struct rt_shape right;
    struct rt_product packing;
    const rt_float_anywhere *unpacked;
};

/* A constant right's, which may have been left in the file. */
static inline const rt_float_anywhere *rt_gemm_elements(const struct rt_value *right)
{
    return right->unscaled != NULL ? right->unscaled : right->data;
}

/* What run() gets for right: the one that was packed has only its shape. */
static inline const struct rt_shape *rt_gemm_right(const struct rt_call *c)
{
    const struct rt_gemm *g = c->node->state;
    return g != NULL && g->packed != NULL ? &g->right : &c->in[1].shape;
}

/* Floats that a right matrix of k rows and n columns takes packed. */
size_t rt_gemm_packed(int64_t k, int64_t n);
/* Takes the node's constant right, in[1], for good: *p are the sizes of a run of one sample, g->alpha
 * is set. g has to last until weights are packed. */
enum rt_status rt_gemm_keep_right(struct rt_build *b, struct rt_node *n, struct rt_gemm *g,
                                  const struct rt_product *p, struct rt_error *err);
/* Packs a panel (of two vectors of columns) of one right matrix, times alpha; to is where that panel
 * starts. */
void rt_gemm_pack_panel(float *to, const struct rt_product *p, const rt_float_anywhere *right,
                        int64_t panel, float alpha);
/* A number a column filled up with zeros, in arena; columns NULL: all zero. Times by. NULL: no
 * memory. */
float *rt_gemm_columns(struct rt_arena *arena, const float *columns, int64_t n, float by);
/* Bytes of scratch that products with an unpacked right take, for each worker. */
size_t rt_gemm_scratch(int64_t k);
/* "gemm 6x16" in arena, or NULL. */
const char *rt_gemm_algorithm(struct rt_arena *arena);

/* Where a float product's sums start if not from columns: fills len floats at out, which are
 * elements at.. of the output. */
typedef void rt_start_fn(const struct rt_call *c, float *out, int64_t at, int64_t len);

/* This worker's share of a float product, with the node's steps. start is used when g->columns is
 * NULL. */
void rt_gemm_run(const struct rt_call *c, const struct rt_worker *w, const struct rt_gemm *g,
                 const struct rt_product *p, rt_start_fn *start);

/* This worker's share of a product of any type, in[0] x in[1], computed in its kind (see
 * element.h): alpha * sums, plus beta times the operand that broadcasts, if there is one. */
struct rt_operand;
void rt_product_run(const struct rt_call *c, const struct rt_worker *w, const struct rt_product *p,
                    double alpha, double beta, const struct rt_operand *add);

#endif
