/* Softmax, LogSoftmax and Hardmax. */
#include <math.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

#define JOIN2(x, y) x##_##y
#define JOIN(x, y) JOIN2(x, y)

enum mode { SOFTMAX, LOG_SOFTMAX, HARDMAX };

/* Columns that are done together where the axis is not the last one. */
#define TILE 64

static void exponentials_float(float *y, const float *x, int64_t n)
{
    rt_kernels()->activation[RT_ACT_EXP](y, x, (size_t)n, 0, 0);
}

static void exponentials_double(double *y, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = exp(x[i]);
}

#define T float
#define KIND float
#include "runtime/ops/softmax.inc"
#define T double
#define KIND double
#include "runtime/ops/softmax.inc"

/* The tensor seen as outer x len x inner, normalised along the middle. */
struct view {
    enum mode mode;
    int64_t outer, len, inner;
};

/* Before version 13 all axes from the named one on were one. */
static enum rt_status view_of(struct view *v, const struct rt_node *n, const struct rt_shape *x,
                              struct rt_error *err)
{
    int axis;
    enum rt_status s = rt_fix_axis(n, rt_attr_int(n, "axis", n->opset < 13 ? 1 : -1), x->rank,
                                   n->opset < 13, &axis, err);
    if (s != RT_OK)
        return s;
    const int end = n->opset < 13 ? x->rank : axis + 1;
    const int batch = rt_shape_batch_axis(x);
    if (batch >= axis && batch < end)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "normalises over the batch axis");
    v->mode = n->op->name[0] == 'S' ? SOFTMAX : n->op->name[0] == 'L' ? LOG_SOFTMAX : HARDMAX;
    v->outer = rt_shape_range(x, 0, axis);
    v->len = rt_shape_range(x, axis, end);
    v->inner = rt_shape_range(x, end, x->rank);
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    struct view v;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_REAL, err);
    if (s == RT_OK)
        s = view_of(&v, n, &rt_in(g, n, 0)->shape, err);
    return s == RT_OK ? rt_infer_same(g, n, err) : s;
}

static int64_t columns_at_once(const struct view *v)
{
    return v->inner < TILE ? v->inner : TILE;
}

/* Two buffers of len x columns for each worker. */
static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(b->g, n, 0);
    const struct rt_shape one = rt_shape_at(&x->shape, 1);
    struct view v;
    enum rt_status s = view_of(&v, n, &one, err);
    if (s != RT_OK)
        return s;
    /* The batch may lie behind the axis and make what is one column here a tile. */
    const int64_t columns = rt_shape_batch_axis(&x->shape) > 0 ? TILE : columns_at_once(&v);
    const size_t size = x->dtype == RT_DOUBLE ? sizeof(double) : sizeof(float);
    rt_set_scratch(b, n, 2 * (size_t)(v.len * columns) * size);
    return RT_OK;
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    struct view v;
    if (view_of(&v, c->node, &x->shape, NULL) != RT_OK || v.len == 0 || v.inner == 0)
        return;
    const enum rt_kind kind = rt_kind_of(x->dtype);
    const size_t size = kind == RT_KIND_DOUBLE ? sizeof(double) : sizeof(float);
    const int64_t most = columns_at_once(&v), tiles = (v.inner + most - 1) / most;
    const size_t buf_len = (size_t)(v.len * most) * size;
    char *buf = (char *)c->scratch + 2 * (size_t)w->id * buf_len;

    int64_t i, end;
    rt_worker_share(w, v.outer * tiles, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t column = i % tiles * most;
        const int64_t width = v.inner - column < most ? v.inner - column : most;
        const int64_t at = i / tiles * v.len * v.inner + column;
        /* Where the axis is the last, its elements are one run. */
        const int64_t rows = v.inner == 1 ? 1 : v.len, run_len = v.inner == 1 ? v.len : width;
        for (int64_t r = 0; r < rows; r++)
            rt_load_elements(buf + (size_t)(r * width) * size, kind, x->dtype,
                             rt_element_at(x, at + r * v.inner), 1, run_len);
        (kind == RT_KIND_DOUBLE ? softmax_double : softmax_float)(v.mode, buf, buf + buf_len, v.len,
                                                                  width);
        for (int64_t r = 0; r < rows; r++)
            rt_store_elements(y->dtype, rt_element_at(y, at + r * v.inner), 1,
                              buf + (size_t)(r * width) * size, kind, run_len);
    }
}

#define OPERATOR(x, more)                                                                          \
    const struct rt_op rt_op_##x = { .name = #x,                                                   \
                                     .min_in = 1,                                                  \
                                     .max_in = 1,                                                  \
                                     .min_out = 1,                                                 \
                                     .max_out = 1,                                                 \
                                     .traits = RT_OP_INPLACE | (more),                             \
                                     .infer = infer,                                               \
                                     .prepare = prepare,                                           \
                                     .run = run };

OPERATOR(Hardmax, 0)
OPERATOR(LogSoftmax, RT_OP_FLUSHES)
OPERATOR(Softmax, RT_OP_PROBABILITY | RT_OP_FLUSHES)
