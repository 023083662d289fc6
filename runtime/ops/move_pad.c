/* Pad and CenterCropPad: a tensor with a margin, or with its margin cut off. */
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/move.h"

enum mode { CONSTANT, REFLECT, EDGE, WRAP };

static enum rt_status read_mode(const struct rt_node *n, enum mode *mode, struct rt_error *err)
{
    static const char *const name[] = { "constant", "reflect", "edge", "wrap" };
    const char *text = rt_attr_string(n, "mode", "constant");
    for (int i = 0; i < 4; i++)
        if (strcmp(text, name[i]) == 0) {
            *mode = (enum mode)i;
            return RT_OK;
        }
    return rt_node_fail(err, RT_E_INVALID, n, "mode is '%s'", text);
}

/* The input's element that stands at i, which may be outside 0..dim-1; -1: the constant. */
static int64_t source(enum mode mode, int64_t i, int64_t dim)
{
    if (i >= 0 && i < dim)
        return i;
    int64_t period = 2 * (dim - 1);
    switch (mode) {
    case REFLECT:
        if (dim == 1)
            return 0;
        i = (i % period + period) % period;
        return i < dim ? i : period - i;
    case EDGE:
        return i < 0 ? 0 : dim - 1;
    case WRAP:
        return (i % dim + dim) % dim;
    default:
        return -1;
    }
}

/* Writes elements from..to-1 of one row of the output, whose element 0 is the input's -before. */
static void pad_row(enum mode mode, char *y, const char *x, int64_t before, int64_t dim,
                    int64_t from, int64_t to, const void *value, size_t size)
{
    for (int64_t i = from; i < to;) {
        int64_t at = i - before, run = 1, k = source(mode, at, dim);
        char *out = y + (size_t)(i - from) * size;
        if (at >= 0 && at < dim) {
            run = dim - at < to - i ? dim - at : to - i;
            memcpy(out, x + (size_t)at * size, (size_t)run * size);
        } else if (k >= 0) {
            memcpy(out, x + (size_t)k * size, size);
        } else {
            int64_t end = at < 0 && before < to ? before : to;
            run = end - i;
            rt_fill(out, value, run, size);
        }
        i += run;
    }
}

/* Writes this worker's share: y[i] = x[i - before] along each axis. */
static void pad(const struct rt_tensor *x, const struct rt_tensor *y, const int64_t *before,
                enum mode mode, const void *value, const struct rt_worker *w)
{
    int last = y->shape.rank - 1;
    size_t size = rt_size_of(x);
    int64_t begin, end, stride[RT_MAX_RANK];
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &begin, &end);
    if (last < 0 && begin < end)
        memcpy(y->data, x->data, size);
    rt_strides(&x->shape, stride);
    for (int64_t at = begin; at < end && last >= 0;) {
        int64_t n = y->shape.dim[last], from = at % n,
                to = end - at < n - from ? from + end - at : n;
        int64_t row = at / n, offset = 0;
        bool outside = false;
        for (int i = last - 1; i >= 0; i--) {
            /* NOLINTNEXTLINE(clang-analyzer-core.*): spread() wrote all */
            int64_t k = source(mode, row % y->shape.dim[i] - before[i], x->shape.dim[i]);
            row /= y->shape.dim[i];
            outside |= k < 0;
            offset += k * stride[i];
        }
        char *out = rt_out_at(y, at);
        if (outside)
            rt_fill(out, value, to - from, size);
        else
            pad_row(mode, out, rt_at(x, offset), before[last], x->shape.dim[last], from, to, value,
                    size);
        at += to - from;
    }
}

/* Spreads n values a side over the axes they are for; those that are not named get none. */
static enum rt_status spread(const struct rt_node *n, const int64_t *pads, int64_t count,
                             const int64_t *axes, int64_t n_axes, int rank,
                             int64_t before[RT_MAX_RANK], int64_t after[RT_MAX_RANK],
                             struct rt_error *err)
{
    int64_t named = n_axes >= 0 ? n_axes : rank;
    for (int i = 0; i < rank; i++)
        before[i] = after[i] = 0;
    if (count != 2 * named)
        return rt_node_fail(err, RT_E_INVALID, n, "pads has %lld values, %lld axes need %lld",
                            (long long)count, (long long)named, 2 * (long long)named);
    for (int64_t i = 0; i < named; i++) {
        int axis;
        enum rt_status s = rt_fix_axis(n, n_axes >= 0 ? axes[i] : i, rank, false, &axis, err);
        if (s != RT_OK)
            return s;
        before[axis] = pads[i];
        after[axis] = pads[i + named];
    }
    return RT_OK;
}

static enum rt_status read_pads(struct rt_graph *g, const struct rt_node *n, int rank,
                                int64_t before[RT_MAX_RANK], int64_t after[RT_MAX_RANK],
                                struct rt_error *err)
{
    const int64_t *pads, *axes;
    int64_t count, n_axes;
    const char *name = n->opset < 2 ? "paddings" : "pads";
    enum rt_status s = rt_attr_or_const(g, n, name, 1, &pads, &count, err);
    if (s == RT_OK)
        s = rt_const_ints(g, n, 3, "axes", &axes, &n_axes, err);
    return s == RT_OK ? spread(n, pads, count, axes, n_axes, rank, before, after, err) : s;
}

static enum rt_status infer_pad(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0), *value = rt_in(g, n, 2);
    struct rt_shape y = x->shape;
    int64_t before[RT_MAX_RANK], after[RT_MAX_RANK];
    enum mode mode;
    enum rt_status s = read_mode(n, &mode, err);
    if (s == RT_OK)
        s = read_pads(g, n, y.rank, before, after, err);
    if (s == RT_OK)
        s = rt_check_same_type(g, n, 0, 2, err);
    if (s != RT_OK)
        return s;
    if (value != NULL && rt_shape_numel(&value->shape) != 1)
        return rt_node_fail(err, RT_E_INVALID, n, "constant_value must have one element");
    for (int i = 0; i < y.rank; i++) {
        int64_t dim = y.dim[i];
        if (before[i] == 0 && after[i] == 0)
            continue;
        s = rt_keep_samples(g, n, 0, i, err);
        if (s != RT_OK)
            return s;
        if (!rt_add_i64(dim, before[i], &y.dim[i]) || !rt_add_i64(y.dim[i], after[i], &y.dim[i]) ||
            rt_is_batched(y.dim[i]))
            return rt_node_fail(err, RT_E_LIMIT, n, "axis %d is padded by %lld and %lld", i,
                                (long long)before[i], (long long)after[i]);
        if (y.dim[i] < 0)
            return rt_node_fail(err, RT_E_INVALID, n, "pads of axis %d cut off more than there is",
                                i);
        if (dim == 0 && y.dim[i] > 0 && mode != CONSTANT)
            return rt_node_fail(err, RT_E_INVALID, n,
                                "axis %d is empty: there is nothing to repeat", i);
    }
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

/* The constant, as an element of the tensor's type, to *value. */
static void constant_value(const struct rt_call *c, uint64_t *value)
{
    const struct rt_tensor *x = &c->in[0];
    *value = 0;
    if (rt_has_in(c->node, 2)) {
        memcpy(value, c->in[2].data, rt_size_of(x));
    } else if (rt_attr(c->node, "value") != NULL) {
        double v = rt_attr_float(c->node, "value", 0);
        rt_store_elements(x->dtype, value, 1, &v, RT_KIND_DOUBLE, 1);
    }
}

static void run_pad(const struct rt_call *c, const struct rt_worker *w)
{
    int rank = c->in[0].shape.rank;
    int64_t pads[2 * RT_MAX_RANK], axes[RT_MAX_RANK], before[RT_MAX_RANK], after[RT_MAX_RANK];
    const char *name = c->node->opset < 2 ? "paddings" : "pads";
    int count = rt_run_ints(c, name, 1, pads, 2 * RT_MAX_RANK);
    int n_axes = rt_run_ints(c, NULL, 3, axes, RT_MAX_RANK);
    enum mode mode = CONSTANT;
    uint64_t value;
    read_mode(c->node, &mode, NULL);
    spread(c->node, pads, count, axes, n_axes, rank, before, after, NULL);
    constant_value(c, &value);
    pad(&c->in[0], &c->out[0], before, mode, &value, w);
}

const struct rt_op rt_op_Pad = {
    .name = "Pad",
    .min_in = 1,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_pad,
    .run = run_pad,
};

static enum rt_status infer_center(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    struct rt_shape y = x->shape;
    const int64_t *want, *axes;
    int64_t count;
    enum rt_status s = rt_const_ints(g, n, 1, "shape", &want, &count, err);
    if (s != RT_OK)
        return s;
    int n_axes = rt_attr_ints(n, "axes", &axes);
    bool by_axes = rt_attr(n, "axes") != NULL;
    if (count != (by_axes ? n_axes : y.rank))
        return rt_node_fail(err, RT_E_INVALID, n, "the shape has %lld dimensions for %d axes",
                            (long long)count, by_axes ? n_axes : y.rank);
    for (int64_t i = 0; i < count && s == RT_OK; i++) {
        int axis;
        s = rt_fix_axis(n, by_axes ? axes[i] : i, y.rank, false, &axis, err);
        if (s == RT_OK && want[i] < 0)
            s = rt_node_fail(err, RT_E_INVALID, n, "dimension %lld of the shape is negative",
                             (long long)i);
        if (s == RT_OK && want[i] != y.dim[axis])
            s = rt_keep_samples(g, n, 0, axis, err);
        if (s == RT_OK)
            y.dim[axis] = want[i];
    }
    return s == RT_OK ? rt_set_out(g, n, 0, x->dtype, &y, err) : s;
}

/* An odd row is cut off, or added, at the end. */
static void run_center(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t before[RT_MAX_RANK];
    static const uint64_t zero = 0;
    for (int i = 0; i < x->rank; i++)
        before[i] =
            y->dim[i] >= x->dim[i] ? (y->dim[i] - x->dim[i]) / 2 : -((x->dim[i] - y->dim[i]) / 2);
    pad(&c->in[0], &c->out[0], before, CONSTANT, &zero, w);
}

const struct rt_op rt_op_CenterCropPad = {
    .name = "CenterCropPad",
    .since = 18,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_READS_SHAPE,
    .infer = infer_center,
    .run = run_center,
};
