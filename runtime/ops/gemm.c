/* Gemm: alpha * A' * B' + beta * C of matrices, where ' is an optional transpose. */
#include "runtime/ops/gemm.h"
#include "runtime/ops/element.h"
#include "runtime/ops/steps.h"

#include <string.h>

enum { A, B, C };

/* Opset versions before this one broadcast C only when attribute broadcast says so. */
#define ALWAYS_BROADCASTS 7

struct attributes {
    float alpha, beta;
    bool trans_a, trans_b;
};

static struct attributes attributes_of(const struct rt_node *n)
{
    return (struct attributes){
        .alpha = rt_attr_float(n, "alpha", 1.0f),
        .beta = rt_attr_float(n, "beta", 1.0f),
        .trans_a = rt_attr_int(n, "transA", 0) != 0,
        .trans_b = rt_attr_int(n, "transB", 0) != 0,
    };
}

/* C's index, or -1: a fused step's operand may stand in its place. */
static int addend(const struct rt_node *n)
{
    return rt_has_in(n, C) && !rt_steps_read(n, C) ? C : -1;
}

static struct rt_product product_of(const struct rt_node *n, const struct rt_shape *a,
                                    const struct rt_shape *b)
{
    struct attributes at = attributes_of(n);
    return (struct rt_product){
        .m = a->dim[at.trans_a ? 1 : 0],
        .k = a->dim[at.trans_a ? 0 : 1],
        .n = b->dim[at.trans_b ? 0 : 1],
        .left_m = at.trans_a ? 1 : a->dim[1],
        .left_k = at.trans_a ? a->dim[1] : 1,
        .right_k = at.trans_b ? 1 : b->dim[1],
        .right_n = at.trans_b ? b->dim[1] : 1,
        .batches = 1,
    };
}

static enum rt_status check_addend(const struct rt_graph *g, const struct rt_node *n,
                                   const struct rt_shape *out, struct rt_error *err)
{
    enum rt_status s = rt_check_same_type(g, n, A, C, err);
    if (s != RT_OK)
        return s;
    const struct rt_shape *c = &rt_in_const(g, n, C)->shape;
    bool fits = c->rank <= 2;
    for (int k = 1; fits && k <= c->rank; k++) {
        int64_t have = c->dim[c->rank - k], want = out->dim[2 - k];
        bool may_repeat = n->opset >= ALWAYS_BROADCASTS || rt_attr_int(n, "broadcast", 0) != 0;
        fits = have == want || (have == 1 && may_repeat);
    }
    if (n->opset < ALWAYS_BROADCASTS && rt_attr_int(n, "broadcast", 0) == 0)
        fits = fits && c->rank == 2;
    char text[2][RT_SHAPE_TEXT];
    if (!fits)
        return rt_node_fail(err, RT_E_INVALID, n, "C %s does not broadcast to %s",
                            rt_shape_text(c, text[0]), rt_shape_text(out, text[1]));
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    unsigned types =
        RT_T_REAL | RT_T(RT_INT32) | RT_T(RT_INT64) | RT_T(RT_UINT32) | RT_T(RT_UINT64);
    enum rt_status s = rt_check_type(g, n, A, types, err);
    if (s == RT_OK)
        s = rt_check_same_type(g, n, A, B, err);
    if (s != RT_OK)
        return s;
    const struct rt_shape *a = &rt_in(g, n, A)->shape, *b = &rt_in(g, n, B)->shape;
    char text[2][RT_SHAPE_TEXT];
    if (a->rank != 2 || b->rank != 2)
        return rt_node_fail(err, RT_E_INVALID, n, "A %s and B %s have to be matrices",
                            rt_shape_text(a, text[0]), rt_shape_text(b, text[1]));
    struct rt_product p = product_of(n, a, b);
    if (p.k != b->dim[attributes_of(n).trans_b ? 1 : 0])
        return rt_node_fail(err, RT_E_INVALID, n, "A %s and B %s do not fit each other%s",
                            rt_shape_text(a, text[0]), rt_shape_text(b, text[1]),
                            attributes_of(n).trans_a || attributes_of(n).trans_b ? " as transposed"
                                                                                 : "");
    struct rt_shape out = rt_shape_of(2, (int64_t[]){ p.m, p.n });
    s = addend(n) >= 0 ? check_addend(g, n, &out, err) : RT_OK;
    return s == RT_OK ? rt_set_out(g, n, 0, rt_in(g, n, A)->dtype, &out, err) : s;
}

/* True when C is the same for every row and constant, or absent. */
static bool is_column_addend(const struct rt_graph *g, const struct rt_node *n)
{
    if (addend(n) < 0)
        return true;
    const struct rt_value *c = rt_in_const(g, n, C);
    return c->constant && (c->shape.rank < 2 || c->shape.dim[0] == 1);
}

/* C's number for a column, where is_column_addend(). */
static float column_addend(const struct rt_graph *g, const struct rt_node *n, int64_t column)
{
    if (addend(n) < 0)
        return 0.0f;
    const struct rt_value *c = rt_in_const(g, n, C);
    return ((const float *)c->data)[rt_shape_numel(&c->shape) == 1 ? 0 : column];
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *left = rt_in(b->g, n, A), *right = rt_in(b->g, n, B);
    struct attributes at = attributes_of(n);
    struct rt_shape one[2] = { rt_shape_at(&left->shape, 1), rt_shape_at(&right->shape, 1) };
    struct rt_shape most[2] = { rt_shape_at(&left->shape, b->max_batch),
                                rt_shape_at(&right->shape, b->max_batch) };
    struct rt_product p = product_of(n, &one[0], &one[1]);
    n->flops = 2.0 * (double)p.m * (double)p.n * (double)p.k;
    n->algorithm = "plain";
    if (left->dtype != RT_FLOAT)
        return RT_OK;
    struct rt_gemm *g = rt_arena_alloc(b->arena, sizeof *g);
    n->algorithm = rt_gemm_algorithm(b->arena);
    if (g == NULL || n->algorithm == NULL)
        return rt_fail_nomem(err, sizeof *g);
    g->alpha = at.alpha;
    if (is_column_addend(b->g, n) && !rt_is_batched(right->shape.dim[at.trans_b ? 0 : 1])) {
        float *columns = rt_gemm_columns(b->arena, NULL, p.n, 1.0f);
        if (columns == NULL)
            return rt_fail_nomem(err, (size_t)p.n * sizeof *columns);
        for (int64_t i = 0; i < p.n; i++)
            columns[i] = addend(n) >= 0 ? at.beta * column_addend(b->g, n, i) : 0.0f;
        g->columns = columns;
        if (addend(n) >= 0)
            n->in[C] = -1;
    }
    if (right->constant) {
        enum rt_status s = rt_gemm_keep_right(b, n, g, &p, err);
        if (s != RT_OK)
            return s;
    } else {
        rt_set_scratch(b, n, rt_gemm_scratch(product_of(n, &most[0], &most[1]).k));
    }
    n->state = g;
    return RT_OK;
}

/* beta * C, broadcast. */
static void start(const struct rt_call *c, float *out, int64_t at, int64_t len)
{
    const float beta = attributes_of(c->node).beta;
    if (addend(c->node) < 0 || beta == 0.0f) {
        memset(out, 0, (size_t)len * sizeof *out);
        return;
    }
    struct rt_operand o;
    rt_operand_init(&o, &c->in[C], &c->out[0].shape);
    float buf[RT_CHUNK];
    for (int64_t i = 0; i < len; i += RT_CHUNK) {
        const int64_t n = len - i < RT_CHUNK ? len - i : RT_CHUNK;
        const float *from = rt_operand_load(&o, at + i, n, RT_KIND_FLOAT, buf);
        for (int64_t k = 0; k < n; k++)
            out[i + k] = beta * from[k];
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_gemm *g = c->node->state;
    struct rt_product p = product_of(c->node, &c->in[A].shape, rt_gemm_right(c));
    if (g != NULL) {
        rt_gemm_run(c, w, g, &p, start);
        return;
    }
    struct attributes at = attributes_of(c->node);
    struct rt_operand o;
    bool add = addend(c->node) >= 0 && at.beta != 0.0f;
    if (add)
        rt_operand_init(&o, &c->in[C], &c->out[0].shape);
    rt_product_run(c, w, &p, at.alpha, at.beta, add ? &o : NULL);
}

/* Replaces B by b and C by c, a number a column. */
static enum rt_status set_constants(struct rt_graph *g, struct rt_node *n, int b, int c,
                                    struct rt_error *err)
{
    if (n->n_in > C)
        n->in[C] = c;
    else if (rt_graph_add_input(g, n, c) != C)
        return rt_graph_nomem(g, err);
    n->in[B] = b;
    /* A row of columns broadcasts without being told to. */
    n->opset = n->opset < ALWAYS_BROADCASTS ? ALWAYS_BROADCASTS : n->opset;
    return RT_OK;
}

static bool may_absorb(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *b = rt_in_const(g, n, B);
    return b->constant && b->dtype == RT_FLOAT && is_column_addend(g, n) &&
           attributes_of(n).beta != 0.0f && (n->n_in <= C || !rt_steps_read(n, C));
}

static enum rt_status absorb_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                    const float *shift, struct rt_error *err)
{
    if (n->n_steps > 0 || !may_absorb(g, n))
        return RT_E_UNSUPPORTED;
    const struct attributes at = attributes_of(n);
    const struct rt_shape shape = rt_in(g, n, B)->shape;
    const int64_t columns = shape.dim[at.trans_b ? 0 : 1];
    const struct rt_shape row = rt_shape_of(1, &columns);
    float *new_b, *new_c;
    int b = rt_graph_add_floats(g, &shape, &new_b), c = rt_graph_add_floats(g, &row, &new_c);
    if (b < 0 || c < 0)
        return rt_graph_nomem(g, err);
    const rt_float_anywhere *old = rt_gemm_elements(rt_in(g, n, B));
    for (int64_t r = 0; r < shape.dim[0]; r++)
        for (int64_t k = 0; k < shape.dim[1]; k++)
            new_b[r * shape.dim[1] + k] = old[r * shape.dim[1] + k] * scale[at.trans_b ? r : k];
    for (int64_t i = 0; i < columns; i++)
        new_c[i] = (float)((double)column_addend(g, n, i) * scale[i] + (double)shift[i] / at.beta);
    return set_constants(g, n, b, c, err);
}

static enum rt_status absorb_input_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                          const float *shift, struct rt_error *err)
{
    const struct attributes at = attributes_of(n);
    if (!may_absorb(g, n) || at.trans_a)
        return RT_E_UNSUPPORTED;
    const struct rt_shape shape = rt_in(g, n, B)->shape;
    const int64_t columns = shape.dim[at.trans_b ? 0 : 1], k = shape.dim[at.trans_b ? 1 : 0];
    const struct rt_shape row = rt_shape_of(1, &columns);
    float *new_b, *new_c;
    int b = rt_graph_add_floats(g, &shape, &new_b), c = rt_graph_add_floats(g, &row, &new_c);
    if (b < 0 || c < 0)
        return rt_graph_nomem(g, err);
    const rt_float_anywhere *old = rt_gemm_elements(rt_in(g, n, B));
    for (int64_t i = 0; i < columns; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < k; j++) {
            int64_t at_b = at.trans_b ? i * k + j : j * columns + i;
            sum += (double)old[at_b] * shift[j];
            new_b[at_b] = old[at_b] * scale[j];
        }
        new_c[i] = (float)((double)column_addend(g, n, i) + at.alpha * sum / at.beta);
    }
    return set_constants(g, n, b, c, err);
}

const struct rt_op rt_op_Gemm = {
    .name = "Gemm",
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_FLUSHES,
    .infer = infer,
    .prepare = prepare,
    .run = run,
    .absorb_affine = absorb_affine,
    .absorb_input_affine = absorb_input_affine,
};
