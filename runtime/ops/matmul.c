/* MatMul: numpy's product of stacks of matrices. */
#include "runtime/ops/gemm.h"
#include "runtime/ops/steps.h"

enum { A, B };

/* Whether right is a constant [N,K], read turned: an attribute that passes give, as Gemm has it. No
 * file's MatMul has any. */
static bool is_turned(const struct rt_node *n)
{
    return rt_attr_int(n, "transB", 0) != 0;
}

/* The shape of right as the product sees it. */
static struct rt_shape right_shape(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_shape s = rt_in_const(g, n, B)->shape;
    return is_turned(n) ? rt_shape_of(2, (int64_t[]){ s.dim[1], s.dim[0] }) : s;
}

/* A vector is a matrix of one row on the left, of one column on the right. */
static struct rt_shape as_matrices(const struct rt_shape *s, bool left)
{
    if (s->rank != 1)
        return *s;
    return rt_shape_of(2, left ? (int64_t[]){ 1, s->dim[0] } : (int64_t[]){ s->dim[0], 1 });
}

/* Distances in matrices of a stack, by the axes of the stack it is broadcast to. */
static void batch_strides(const struct rt_shape *s, const struct rt_product *p, int64_t *stride)
{
    int64_t step = 1;
    for (int a = p->batch_rank - 1, b = s->rank - 3; a >= 0; a--, b--) {
        const int64_t dim = b >= 0 ? s->dim[b] : 1;
        stride[a] = dim == 1 ? 0 : step;
        step *= dim;
    }
}

struct rt_product rt_matmul_product(const struct rt_shape *left, const struct rt_shape *right,
                                    const struct rt_shape *out)
{
    const struct rt_shape a = as_matrices(left, true), b = as_matrices(right, false);
    struct rt_product p = {
        .m = a.dim[a.rank - 2],
        .k = a.dim[a.rank - 1],
        .n = b.dim[b.rank - 1],
        .left_m = a.dim[a.rank - 1],
        .left_k = 1,
        .right_k = b.dim[b.rank - 1],
        .right_n = 1,
        .batches = 1,
    };
    if (b.rank == 2) { /* one matrix for all: a taller left */
        p.m = rt_shape_range(&a, 0, a.rank - 1);
        return p;
    }
    p.batch_rank = (a.rank > b.rank ? a.rank : b.rank) - 2;
    for (int i = 0; i < p.batch_rank; i++) {
        p.batch_dim[i] = out->dim[i];
        p.batches *= out->dim[i];
    }
    batch_strides(&a, &p, p.left_batch);
    batch_strides(&b, &p, p.right_batch);
    return p;
}

enum rt_status rt_matmul_shape(const struct rt_node *n, const struct rt_shape *left,
                               const struct rt_shape *right, struct rt_shape *out,
                               struct rt_error *err)
{
    char text[2][RT_SHAPE_TEXT];
    const struct rt_shape a = as_matrices(left, true), b = as_matrices(right, false);
    if (left->rank == 0 || right->rank == 0 || a.dim[a.rank - 1] != b.dim[b.rank - 2])
        return rt_node_fail(err, RT_E_INVALID, n, "A %s and B %s do not fit each other",
                            rt_shape_text(left, text[0]), rt_shape_text(right, text[1]));
    if (rt_is_batched(a.dim[a.rank - 1]))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "sums over the batch axis");
    struct rt_shape stack_a = a, stack_b = b;
    stack_a.rank -= 2;
    stack_b.rank -= 2;
    enum rt_status s = rt_broadcast(n, &stack_a, &stack_b, out, err);
    if (s != RT_OK)
        return s;
    if (left->rank > 1)
        out->dim[out->rank++] = a.dim[a.rank - 2];
    if (right->rank > 1)
        out->dim[out->rank++] = b.dim[b.rank - 1];
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    unsigned types =
        RT_T_REAL | RT_T(RT_INT32) | RT_T(RT_INT64) | RT_T(RT_UINT32) | RT_T(RT_UINT64);
    struct rt_shape out;
    const struct rt_shape right = right_shape(g, n);
    enum rt_status s = rt_check_type(g, n, A, types, err);
    if (s == RT_OK)
        s = rt_check_same_type(g, n, A, B, err);
    if (s == RT_OK)
        s = rt_matmul_shape(n, &rt_in(g, n, A)->shape, &right, &out, err);
    return s == RT_OK ? rt_set_out(g, n, 0, rt_in(g, n, A)->dtype, &out, err) : s;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *left = rt_in(b->g, n, A), *right = rt_in(b->g, n, B);
    const struct rt_value *result = rt_out(b->g, n, 0);
    const struct rt_shape turned = right_shape(b->g, n);
    struct rt_shape one[3] = { rt_shape_at(&left->shape, 1), rt_shape_at(&turned, 1),
                               rt_shape_at(&result->shape, 1) };
    struct rt_shape most = rt_shape_at(&left->shape, b->max_batch);
    struct rt_product p = rt_matmul_product(&one[0], &one[1], &one[2]);
    if (is_turned(n)) {
        p.right_k = 1;
        p.right_n = p.k;
    }
    n->flops = 2.0 * (double)p.batches * (double)p.m * (double)p.n * (double)p.k;
    n->algorithm = "plain";
    if (left->dtype != RT_FLOAT)
        return RT_OK;
    struct rt_gemm *g = rt_arena_alloc(b->arena, sizeof *g);
    n->algorithm = rt_gemm_algorithm(b->arena);
    if (g == NULL || n->algorithm == NULL)
        return rt_fail_nomem(err, sizeof *g);
    g->alpha = 1.0f;
    struct rt_shape wide = rt_shape_at(&turned, b->max_batch);
    wide = as_matrices(&wide, false);
    g->columns = rt_gemm_columns(b->arena, NULL, wide.dim[wide.rank - 1], 1.0f);
    if (g->columns == NULL)
        return rt_fail_nomem(err, (size_t)p.n * sizeof *g->columns);
    if (right->constant) {
        enum rt_status s = rt_gemm_keep_right(b, n, g, &p, err);
        if (s != RT_OK)
            return s;
        g->right = turned;
    } else {
        rt_set_scratch(b, n, rt_gemm_scratch(most.dim[most.rank - 1]));
    }
    n->state = g;
    return RT_OK;
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_product p =
        rt_matmul_product(&c->in[A].shape, rt_gemm_right(c), &c->out[0].shape);
    if (c->node->state != NULL)
        rt_gemm_run(c, w, c->node->state, &p, NULL);
    else
        rt_product_run(c, w, &p, 1.0, 0.0, NULL);
}

/* With a number to add to each column it is a Gemm. */
static enum rt_status absorb_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                    const float *shift, struct rt_error *err)
{
    if (rt_in(g, n, A)->shape.rank != 2 || rt_in(g, n, B)->shape.rank != 2)
        return RT_E_UNSUPPORTED;
    enum rt_status s = rt_op_Gemm.absorb_affine(g, n, scale, shift, err);
    if (s == RT_OK)
        n->op = &rt_op_Gemm;
    return s;
}

static enum rt_status absorb_input_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                          const float *shift, struct rt_error *err)
{
    if (rt_in(g, n, A)->shape.rank != 2 || rt_in(g, n, B)->shape.rank != 2)
        return RT_E_UNSUPPORTED;
    enum rt_status s = rt_op_Gemm.absorb_input_affine(g, n, scale, shift, err);
    if (s == RT_OK)
        n->op = &rt_op_Gemm;
    return s;
}

const struct rt_op rt_op_MatMul = {
    .name = "MatMul",
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_FLUSHES,
    .infer = infer,
    .prepare = prepare,
    .run = run,
    .absorb_affine = absorb_affine,
    .absorb_input_affine = absorb_input_affine,
};
