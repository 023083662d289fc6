/* Operators that take a part of a tensor, or repeat it: Slice, Split, Expand, Tile. */
#include "runtime/ops/move.h"

#include "runtime/ops/element.h"

/* --- Slice ----------------------------------------------------------------------------------- */

/* What is taken of one axis: count elements from first on, step apart. */
struct cut {
    int64_t first, step, count;
};

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* start:end:step of an axis of dim elements, as Python has it. end may be a multiple of the batch
 * where dim is one. */
static struct cut cut_axis(int64_t start, int64_t end, int64_t step, int64_t dim)
{
    start = start < 0 ? (start < -dim ? -1 : start + dim) : start;
    end = end < 0 ? (end < -dim ? -1 : end + dim) : end;
    struct cut c = { .step = step };
    if (step > 0) {
        c.first = clamp(start, 0, dim);
        end = clamp(end, 0, dim);
        c.count = end > c.first ? (end - c.first - 1) / step + 1 : 0;
    } else {
        c.first = clamp(start, -1, dim - 1);
        end = clamp(end, -1, dim - 1);
        /* -(step + 1) + 1 would overflow for the least step; there is at most one element then. */
        c.count = c.first <= end ? 0 : step == INT64_MIN ? 1 : (c.first - end - 1) / -step + 1;
    }
    return c;
}

struct slice {
    const int64_t *start, *end, *axis, *step; /* axis and step may be NULL */
    int64_t n;
};

static enum rt_status read_slice(struct rt_graph *g, const struct rt_node *n, struct slice *out,
                                 struct rt_error *err)
{
    int64_t starts, ends, axes, steps = -1;
    struct slice sl = { .start = NULL };
    enum rt_status s = rt_attr_or_const(g, n, "starts", 1, &sl.start, &starts, err);
    if (s == RT_OK)
        s = rt_attr_or_const(g, n, "ends", 2, &sl.end, &ends, err);
    if (s == RT_OK)
        s = rt_attr_or_const(g, n, "axes", 3, &sl.axis, &axes, err);
    if (s == RT_OK)
        s = rt_const_ints(g, n, 4, "steps", &sl.step, &steps, err);
    if (s != RT_OK)
        return s;
    if (starts < 0 || starts != ends || (axes >= 0 && axes != starts) ||
        (steps >= 0 && steps != starts))
        return rt_node_fail(err, RT_E_INVALID, n, "starts, ends, axes and steps differ in length");
    sl.axis = axes < 0 ? NULL : sl.axis;
    sl.step = steps < 0 ? NULL : sl.step;
    sl.n = starts;
    *out = sl;
    return RT_OK;
}

static enum rt_status infer_slice(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    struct rt_shape y = x->shape;
    struct slice sl = { .n = 0 };
    bool seen[RT_MAX_RANK] = { false };
    enum rt_status s = read_slice(g, n, &sl, err);
    for (int64_t i = 0; s == RT_OK && i < sl.n; i++) {
        int axis;
        int64_t step = sl.step != NULL ? sl.step[i] : 1;
        s = rt_fix_axis(n, sl.axis != NULL ? sl.axis[i] : i, y.rank, false, &axis, err);
        if (s != RT_OK)
            return s;
        if (step == 0)
            return rt_node_fail(err, RT_E_INVALID, n, "a step is 0");
        if (seen[axis])
            return rt_node_fail(err, RT_E_INVALID, n, "axis %d is named twice", axis);
        seen[axis] = true;
        int64_t dim = x->shape.dim[axis];
        struct cut c = cut_axis(sl.start[i], sl.end[i], step, dim);
        if (rt_is_batched(dim) && (c.first != 0 || step != 1 || c.count != dim))
            s = rt_keep_samples(g, n, 0, axis, err);
        y.dim[axis] = c.count;
    }
    return s == RT_OK ? rt_set_out(g, n, 0, x->dtype, &y, err) : s;
}

static void run_slice(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    int64_t start[RT_MAX_RANK], axes[RT_MAX_RANK], steps[RT_MAX_RANK], stride[RT_MAX_RANK];
    int64_t offset = 0;
    int rank = x->shape.rank;
    int n = rt_run_ints(c, "starts", 1, start, RT_MAX_RANK);
    bool by_axes = rt_run_ints(c, "axes", 3, axes, RT_MAX_RANK) >= 0;
    bool by_steps = rt_run_ints(c, NULL, 4, steps, RT_MAX_RANK) >= 0;
    rt_strides(&x->shape, stride);
    for (int i = 0; i < n; i++) {
        int axis = (int)(by_axes ? axes[i] : i);
        axis += axis < 0 ? rank : 0;
        struct cut cut = cut_axis(start[i], 0, by_steps ? steps[i] : 1, x->shape.dim[axis]);
        if (c->out[0].shape.dim[axis] == 0)
            return;
        offset += cut.first * stride[axis];
        /* A lone element needs no step, which may be any number. */
        stride[axis] *= c->out[0].shape.dim[axis] > 1 ? cut.step : 1;
    }
    struct rt_walk v;
    rt_walk_init(&v, rank, c->out[0].shape.dim, stride, offset, rt_size_of(x));
    rt_walk_copy(&v, x->data, c->out[0].data, w);
}

const struct rt_op rt_op_Slice = {
    .name = "Slice",
    .min_in = 1,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS | RT_OP_READS_SHAPE,
    .infer = infer_slice,
    .run = run_slice,
};

/* --- Split ----------------------------------------------------------------------------------- */

/* Parts of equal size, but for the last, which may be smaller from opset 18 on. */
static enum rt_status equal_parts(const struct rt_node *n, int64_t dim, int64_t *size,
                                  struct rt_error *err)
{
    int64_t parts = rt_attr_int(n, "num_outputs", n->n_out);
    if (parts < n->n_out)
        return rt_node_fail(err, RT_E_INVALID, n, "num_outputs is %lld, but it has %d outputs",
                            (long long)parts, n->n_out);
    if (dim % parts != 0 && n->opset < 18)
        return rt_node_fail(err, RT_E_INVALID, n, "%lld elements do not split into %lld parts",
                            (long long)dim, (long long)parts);
    *size = dim / parts + (dim % parts != 0);
    return RT_OK;
}

static enum rt_status infer_split(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value x = *rt_in(g, n, 0);
    const int64_t *sizes;
    int64_t count, size = 0, at = 0;
    int axis;
    enum rt_status s = rt_fix_axis(n, rt_attr_int(n, "axis", 0), x.shape.rank, false, &axis, err);
    if (s == RT_OK && n->n_out > 1)
        s = rt_keep_samples(g, n, 0, axis, err);
    if (s == RT_OK)
        s = rt_attr_or_const(g, n, "split", 1, &sizes, &count, err);
    if (s != RT_OK)
        return s;
    int64_t dim = x.shape.dim[axis];
    if (count < 0)
        s = equal_parts(n, dim, &size, err);
    else if (count < n->n_out)
        s = rt_node_fail(err, RT_E_INVALID, n, "split has %lld sizes for %d outputs",
                         (long long)count, n->n_out);
    for (int64_t i = 0; s == RT_OK && i < (count < 0 ? n->n_out : count); i++) {
        struct rt_shape y = x.shape;
        int64_t part = count >= 0 ? sizes[i] : size < dim - at ? size : dim - at;
        if (part < 0 || part > dim - at)
            return rt_node_fail(err, RT_E_INVALID, n, "part %lld has %lld of %lld elements",
                                (long long)i, (long long)part, (long long)dim);
        y.dim[axis] = part;
        at += part;
        if (i < n->n_out)
            s = rt_set_out(g, n, (int)i, x.dtype, &y, err);
    }
    if (s == RT_OK && at != dim && count >= 0)
        return rt_node_fail(err, RT_E_INVALID, n, "the parts have %lld of %lld elements",
                            (long long)at, (long long)dim);
    return s;
}

static void run_split(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    int64_t stride[RT_MAX_RANK], sizes[64], offset = 0;
    int axis = (int)rt_attr_int(c->node, "axis", 0);
    axis += axis < 0 ? x->shape.rank : 0;
    rt_strides(&x->shape, stride);
    int given = rt_run_ints(c, "split", 1, sizes, 64);
    for (int i = 0; i < c->node->n_out; i++) {
        const struct rt_tensor *y = &c->out[i];
        if (c->node->out[i] >= 0) {
            struct rt_walk v;
            rt_walk_init(&v, y->shape.rank, y->shape.dim, stride, offset * stride[axis],
                         rt_size_of(x));
            rt_walk_copy(&v, x->data, y->data, w);
            offset += y->shape.dim[axis];
        } else if (given >= 0) {
            /* Sizes past the first few are rare enough to be read again. */
            offset += i < 64 ? sizes[i] : rt_element_int(&c->in[1], i);
        } else {
            int64_t parts = rt_attr_int(c->node, "num_outputs", c->node->n_out);
            offset += (x->shape.dim[axis] + parts - 1) / parts;
        }
    }
}

const struct rt_op rt_op_Split = {
    .name = "Split",
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = -1,
    .traits = RT_OP_DIMS,
    .infer = infer_split,
    .run = run_split,
};

/* --- Expand, Tile ---------------------------------------------------------------------------- */

static enum rt_status infer_expand(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    const int64_t *want;
    int64_t count;
    enum rt_status s = rt_const_ints(g, n, 1, "shape", &want, &count, err);
    if (s != RT_OK)
        return s;
    if (count > RT_MAX_RANK)
        return rt_node_fail(err, RT_E_LIMIT, n, "the shape has %lld dimensions, more than %d",
                            (long long)count, RT_MAX_RANK);
    struct rt_shape shape = rt_shape_of((int)count, want), y;
    s = rt_broadcast(n, &x->shape, &shape, &y, err);
    return s == RT_OK ? rt_set_out(g, n, 0, x->dtype, &y, err) : s;
}

static void run_expand(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *y = &c->out[0].shape;
    int64_t stride[RT_MAX_RANK];
    rt_broadcast_strides(&c->in[0].shape, y, stride);
    struct rt_walk v;
    rt_walk_init(&v, y->rank, y->dim, stride, 0, rt_size_of(&c->in[0]));
    rt_walk_copy(&v, c->in[0].data, c->out[0].data, w);
}

const struct rt_op rt_op_Expand = {
    .name = "Expand",
    .since = 8,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS | RT_OP_READS_SHAPE,
    .infer = infer_expand,
    .run = run_expand,
};

/* Opset 1 repeats one axis: inputs tiles and axis; later ones all axes: input repeats. */
static enum rt_status read_repeats(struct rt_graph *g, const struct rt_node *n, int rank,
                                   int64_t repeats[RT_MAX_RANK], struct rt_error *err)
{
    const int64_t *ints, *axes;
    int64_t count, n_axes;
    int axis;
    enum rt_status s = rt_const_ints(g, n, 1, "repeats", &ints, &count, err);
    for (int i = 0; i < rank; i++)
        repeats[i] = 1;
    if (s != RT_OK)
        return s;
    if (n->n_in == 3) {
        s = rt_const_ints(g, n, 2, "axis", &axes, &n_axes, err);
        if (s == RT_OK && (count != 1 || n_axes != 1))
            s = rt_node_fail(err, RT_E_INVALID, n, "tiles and axis must have one element");
        if (s == RT_OK)
            s = rt_fix_axis(n, axes[0], rank, false, &axis, err);
        if (s == RT_OK)
            repeats[axis] = ints[0];
    } else if (count != rank) {
        s = rt_node_fail(err, RT_E_INVALID, n, "%lld repeats for %d dimensions", (long long)count,
                         rank);
    } else {
        for (int i = 0; i < rank; i++)
            repeats[i] = ints[i];
    }
    return s;
}

static enum rt_status infer_tile(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    struct rt_shape y = x->shape;
    int64_t repeats[RT_MAX_RANK];
    enum rt_status s = read_repeats(g, n, y.rank, repeats, err);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < y.rank; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.*): read_repeats() wrote all */
        if (repeats[i] < 0)
            return rt_node_fail(err, RT_E_INVALID, n, "repeats of axis %d is %lld", i,
                                (long long)repeats[i]);
        if (!rt_mul_i64(y.dim[i], repeats[i], &y.dim[i]))
            return rt_node_fail(err, RT_E_LIMIT, n, "the output is too large");
    }
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

static void run_tile(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t from[RT_MAX_RANK], dim[RT_MAX_WALK], stride[RT_MAX_WALK];
    rt_strides(x, from);
    for (int i = 0; i < x->rank; i++) {
        dim[2 * i] = x->dim[i] > 0 ? y->dim[i] / x->dim[i] : 0;
        stride[2 * i] = 0;
        dim[2 * i + 1] = x->dim[i];
        stride[2 * i + 1] = from[i];
    }
    struct rt_walk v;
    rt_walk_init(&v, 2 * x->rank, dim, stride, 0, rt_size_of(&c->in[0]));
    rt_walk_copy(&v, c->in[0].data, c->out[0].data, w);
}

const struct rt_op rt_op_Tile = {
    .name = "Tile",
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS | RT_OP_READS_SHAPE,
    .infer = infer_tile,
    .run = run_tile,
};
