/* QLinearMatMul and MatMulInteger: MatMul of 8-bit integers with zero points and scales. */
#include "runtime/ops/gemm.h"
#include "runtime/ops/integer.h"

/* Which input is what; -1: the operator has none. */
struct inputs {
    int a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero;
};
static const struct inputs quantized = { 0, 1, 2, 3, 4, 5, 6, 7 };
static const struct inputs integer = { 0, -1, 2, 1, -1, 3, -1, -1 };

static const struct inputs *inputs_of(const struct rt_node *n)
{
    return n->op == &rt_op_QLinearMatMul ? &quantized : &integer;
}

/* Where a parameter of one number a row, or a column, lies. */
static int row_axis(const struct rt_shape *s)
{
    return s->rank > 1 ? s->rank - 2 : 0;
}

static int column_axis(const struct rt_shape *s)
{
    return s->rank > 0 ? s->rank - 1 : 0;
}

static enum rt_status check_parameter(struct rt_graph *g, const struct rt_node *n, int i,
                                      unsigned types, int axis, const struct rt_shape *of,
                                      struct rt_error *err)
{
    if (i < 0 || !rt_has_in(n, i))
        return RT_OK;
    enum rt_status s = rt_check_type(g, n, i, types, err);
    if (s == RT_OK && !rt_integer_fits(&rt_in(g, n, i)->shape, axis, of))
        s = rt_node_fail(err, RT_E_INVALID, n, "the shape of input %d does not fit", i);
    return s;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct inputs *in = inputs_of(n);
    const struct rt_shape a = rt_in(g, n, in->a)->shape, b = rt_in(g, n, in->b)->shape;
    struct rt_shape y = { 0 };
    enum rt_status s = rt_check_type(g, n, in->a, RT_T_QUANTIZED, err);
    if (s == RT_OK)
        s = rt_check_type(g, n, in->b, RT_T_QUANTIZED, err);
    if (s == RT_OK)
        s = rt_matmul_shape(n, &a, &b, &y, err);
    const struct {
        int input;
        unsigned types;
        int axis;
        const struct rt_shape *of;
    } parameters[] = {
        { in->a_scale, RT_T_REAL, row_axis(&a), &a },
        { in->a_zero, RT_T_QUANTIZED, row_axis(&a), &a },
        { in->b_scale, RT_T_REAL, column_axis(&b), &b },
        { in->b_zero, RT_T_QUANTIZED, column_axis(&b), &b },
        { in->y_scale, RT_T_REAL, row_axis(&y), &y },
        { in->y_zero, RT_T_QUANTIZED, row_axis(&y), &y },
    };
    for (size_t i = 0; s == RT_OK && i < sizeof parameters / sizeof parameters[0]; i++)
        s = check_parameter(g, n, parameters[i].input, parameters[i].types, parameters[i].axis,
                            parameters[i].of, err);
    if (s != RT_OK)
        return s;
    const enum rt_dtype dtype = in == &quantized ? rt_in(g, n, in->y_zero)->dtype : RT_INT32;
    return rt_set_out(g, n, 0, dtype, &y, err);
}

/* Both operands as integers without zero points, then the sums. */
static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    (void)err;
    const struct inputs *in = inputs_of(n);
    const int values[] = { n->in[in->a], n->in[in->b], n->out[0] };
    for (int i = 0; i < 3; i++) {
        const struct rt_shape s = rt_shape_at(&b->g->value[values[i]].shape, b->max_batch);
        n->scratch += rt_align_up((size_t)rt_shape_numel(&s) * sizeof(int32_t));
    }
    return RT_OK;
}

static void rescale(const struct rt_call *c, const struct rt_tensor *sums, const struct inputs *in,
                    const struct rt_worker *w)
{
    const struct rt_tensor *y = &c->out[0];
    struct rt_operand a_scale, b_scale, y_scale, y_zero;
    rt_integer_view(&a_scale, &c->in[in->a_scale], row_axis(&y->shape), &y->shape);
    rt_integer_view(&b_scale, &c->in[in->b_scale], column_axis(&y->shape), &y->shape);
    rt_integer_view(&y_scale, &c->in[in->y_scale], row_axis(&y->shape), &y->shape);
    rt_integer_view(&y_zero, &c->in[in->y_zero], row_axis(&y->shape), &y->shape);
    union rt_chunk a_buf, b_buf, y_buf, zero_buf;
    float factors[RT_CHUNK];
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &at, &end);
    for (int64_t n; at < end; at += n) {
        n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        const float *as = rt_operand_load(&a_scale, at, n, RT_KIND_FLOAT, &a_buf);
        const float *bs = rt_operand_load(&b_scale, at, n, RT_KIND_FLOAT, &b_buf);
        const float *ys = rt_operand_load(&y_scale, at, n, RT_KIND_FLOAT, &y_buf);
        const float *zeros = rt_operand_load(&y_zero, at, n, RT_KIND_FLOAT, &zero_buf);
        for (int64_t i = 0; i < n; i++)
            factors[i] = as[i] * bs[i] / ys[i];
        rt_integer_rescale(y, at, n, (const int32_t *)sums->data + at, factors, zeros);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct inputs *in = inputs_of(c->node);
    const struct rt_tensor *a = &c->in[in->a], *b = &c->in[in->b], *y = &c->out[0];
    const bool has_a_zero = rt_has_in(c->node, in->a_zero);
    const bool has_b_zero = rt_has_in(c->node, in->b_zero);
    struct rt_tensor operand[2] = { { RT_INT32, a->shape, c->scratch },
                                    { RT_INT32, b->shape, NULL } };
    operand[1].data =
        (char *)c->scratch + rt_align_up((size_t)rt_shape_numel(&a->shape) * sizeof(int32_t));
    struct rt_tensor sums = { RT_INT32, y->shape, y->data };
    if (in == &quantized)
        sums.data = (char *)operand[1].data +
                    rt_align_up((size_t)rt_shape_numel(&b->shape) * sizeof(int32_t));

    rt_integer_center(operand[0].data, a, has_a_zero ? &c->in[in->a_zero] : NULL,
                      row_axis(&a->shape), w);
    rt_integer_center(operand[1].data, b, has_b_zero ? &c->in[in->b_zero] : NULL,
                      column_axis(&b->shape), w);
    rt_worker_barrier(w);
    const struct rt_product p = rt_matmul_product(&a->shape, &b->shape, &y->shape);
    const struct rt_call product = { .node = c->node, .in = operand, .out = &sums, .fault = c->fault };
    rt_product_run(&product, w, &p, 1, 0, NULL);
    if (in != &quantized)
        return;
    rt_worker_barrier(w);
    rescale(c, &sums, in, w);
}

const struct rt_op rt_op_MatMulInteger = {
    .name = "MatMulInteger",
    .since = 10,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};

const struct rt_op rt_op_QLinearMatMul = {
    .name = "QLinearMatMul",
    .since = 10,
    .min_in = 8,
    .max_in = 8,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};
