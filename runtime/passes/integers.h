/* What passes/integers.c is made of: the formulas of quantised networks are recognised in
 * integers_match.c, which only reads the graph, and become operators on bytes in integers_write.c.
 */
#ifndef RUNTIME_PASSES_INTEGERS_H
#define RUNTIME_PASSES_INTEGERS_H

#include "runtime/graph.h"
#include "runtime/ops/conv.h"
#include "runtime/ops/op.h"

/* Sums times factors stay below this in size. */
#define RT_INT_MOST 1e9

struct rt_int_sweep {
    struct rt_graph *g;
    int *twin, *back; /* [cap] a value's bytes; the node that makes the value of them; -1: none */
    int cap;
    int *uses; /* [n_values of the file's] as they were: readers that became bytes count no more */
    int changes;
};

/* A quantised tensor and what it stands for: scale * (byte - zero). */
struct rt_int_quantised {
    int value;
    float scale;
    int32_t zero; /* of the byte: 128 more than an int8's own */
    int flatten;  /* a value that is it in another shape of as many bytes; -1: none */
};

/* What is done with a result before it is quantised. */
struct rt_int_clamp {
    float lo, hi;
    const char *label[2];
    int n_labels;
};

/* Weights as integers: constant value w, with a scale for all or for each map along axis. */
struct rt_int_weights {
    int w, scale, zero, axis;
};

/* A bias of integers at the scale of the sums, which is part of them; else, of reals, it is added
 * when they are real. */
struct rt_int_bias {
    int v, scale;  /* -1: none; an int32 with a scale of its own */
    bool at_scale; /* an int32 at the scale of the sums by definition */
};

/* A convolution that is found: what it is made of. */
struct rt_int_found {
    const struct rt_op *op;
    const char *name;
    struct rt_conv c;
    struct rt_int_quantised x, y;
    struct rt_int_weights w;
    struct rt_int_bias b;
    int64_t w_map, w_channel;
    struct rt_int_clamp clamp;
    int residual; /* real and dequantised; -1: none */
};

/* --- recognising: integers_match.c ---------------------------------------------------------- */

static inline int rt_int_input(const struct rt_node *n, int i)
{
    return i < n->n_in ? n->in[i] : -1;
}

/* The node that makes v, or NULL. */
struct rt_node *rt_int_producer(const struct rt_graph *g, int v);
/* [N, C] or [N, C, H, W] whose samples may be anything. */
bool rt_int_has_pixels(const struct rt_value *v);
/* A positive number that floats can be divided by. */
bool rt_int_read_scale(const struct rt_graph *g, int v, float *scale);
/* The zero point of a tensor of that type, which a node may leave out. */
bool rt_int_read_zero(const struct rt_graph *g, int v, enum rt_dtype dtype, int32_t *zero);
/* What quantised value v, with that scale and zero point, stands for. */
bool rt_int_read_quantised(const struct rt_graph *g, int v, int scale, int zero,
                           struct rt_int_quantised *q);
/* Whether n hands on its input [N, C, 1, 1] as [N, C] or the other way round. */
bool rt_int_is_flatten(const struct rt_graph *g, const struct rt_node *n);
/* Whether v is a quantised tensor made real. */
bool rt_int_is_dequantised(const struct rt_graph *g, int v, struct rt_int_quantised *q);
/* The value that goes, clamped, into v, if nobody else sees the steps between. */
int rt_int_behind_clamps(const struct rt_graph *g, int v, struct rt_int_clamp *c);

/* Constant integers with a scale and a zero point for all maps or for each. */
bool rt_int_weights_fit(const struct rt_graph *g, const struct rt_int_weights *w, int64_t maps);
/* The number of a map in v, which has one for all or one for each. */
int64_t rt_int_of_map(const struct rt_graph *g, int v, int64_t map);
float rt_int_float_of_map(const struct rt_graph *g, int v, int64_t map);
/* What ops/pixels_conv.c can do. */
bool rt_int_serves(const struct rt_conv *c);
/* A matrix product as a convolution of planes of one pixel. */
struct rt_conv rt_int_one_pixel(int64_t channels, int64_t maps);
/* Whether v is a Conv of what is quantised; a Gemm or MatMul [N,K] x [K,M] of it, with a bias or
 * without. */
bool rt_int_find_conv(const struct rt_graph *g, int v, struct rt_int_found *f);
bool rt_int_find_product(const struct rt_graph *g, int v, struct rt_int_found *f);
/* Whether ops/pixels_pool.c can do a pool from x to y. */
bool rt_int_can_pool(const struct rt_graph *g, const struct rt_int_quantised *x,
                     const struct rt_int_quantised *y);
bool rt_int_is_global_mean(const struct rt_graph *g, const struct rt_node *n);

/* --- rewriting: integers_write.c ------------------------------------------------------------- */

/* The value of bytes that stands for a quantised one; -1: there is none yet. */
int rt_int_twin_of(const struct rt_int_sweep *s, int value);
/* The bytes of q, which is quantised here from real numbers, or brought into order, unless they are
 * made already; -1: no memory. */
int rt_int_bytes_of(struct rt_int_sweep *s, const struct rt_int_quantised *q);
/* From now on quantised value y, which node i made, is made from bytes. */
enum rt_status rt_int_take_over(struct rt_int_sweep *s, int i, int y, int bytes,
                                struct rt_error *err);

/* Each makes the quantised result of node i (y, or what f says) by an operator on bytes.
 * rt_int_put_conv() sets *done unless sums could be too large. */
enum rt_status rt_int_put_conv(struct rt_int_sweep *s, int i, const struct rt_int_found *f,
                               bool *done, struct rt_error *err);
/* As a part of the convolution n that makes a. */
enum rt_status rt_int_add_to_conv(struct rt_int_sweep *s, int i, struct rt_node *n,
                                  const struct rt_int_quantised *a,
                                  const struct rt_int_quantised *b,
                                  const struct rt_int_quantised *y,
                                  const struct rt_int_clamp *clamp, struct rt_error *err);
enum rt_status rt_int_put_add(struct rt_int_sweep *s, int i, const char *name,
                              const struct rt_int_quantised *a, const struct rt_int_quantised *b,
                              const struct rt_int_quantised *y, const struct rt_int_clamp *clamp,
                              struct rt_error *err);
/* op with the windows of node from. */
enum rt_status rt_int_put_pool(struct rt_int_sweep *s, int i, const struct rt_op *op, int from,
                               const struct rt_int_quantised *x, const struct rt_int_quantised *y,
                               const struct rt_int_clamp *clamp, struct rt_error *err);
/* Real numbers of q's bytes in place of node i's. */
enum rt_status rt_int_put_dequantize(struct rt_int_sweep *s, int i,
                                     const struct rt_int_quantised *q, struct rt_error *err);

#endif
