/* Operators that change or tell a shape and leave the elements where they are. */
#include "runtime/ops/move.h"

#include <string.h>

#include "runtime/ops/element.h"

/* A count of elements with the batch taken out: n * batch^power. */
struct count {
    int64_t n;
    int power;
};

static bool count_times(struct count *c, int64_t dim)
{
    bool batched = rt_is_batched(dim);
    c->power += batched;
    return dim % (batched ? RT_BATCH : 1) == 0 &&
           rt_mul_i64(c->n, batched ? dim / RT_BATCH : dim, &c->n);
}

static bool count_of(const struct rt_shape *s, struct count *c)
{
    *c = (struct count){ 1, 0 };
    for (int i = 0; i < s->rank; i++)
        if (!count_times(c, s->dim[i]))
            return false;
    return true;
}

/* Elements in front of the axis that follows the batch: while they stay as many, a sample keeps
 * its elements. */
static int64_t in_front_of_batch(const struct rt_shape *s)
{
    int axis = rt_shape_batch_axis(s);
    return axis < 0 ? 0 : rt_shape_range(s, 0, axis);
}

/* Sets output 0 to input 0's elements under shape. */
static enum rt_status set_view(struct rt_graph *g, struct rt_node *n, const struct rt_shape *shape,
                               struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    char from[RT_SHAPE_TEXT], to[RT_SHAPE_TEXT];
    struct count a, b;
    struct rt_shape x1 = rt_shape_at(&x->shape, 1), y1 = rt_shape_at(shape, 1);
    if (!count_of(&x->shape, &a) || !count_of(shape, &b) || a.n != b.n ||
        (a.power != b.power && a.n != 0))
        return rt_node_fail(err, RT_E_INVALID, n, "a tensor of shape %s cannot become one of %s",
                            rt_shape_text(&x1, from), rt_shape_text(&y1, to));
    if (in_front_of_batch(&x->shape) != in_front_of_batch(shape))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n,
                            "it moves elements from one sample of the batch to another");
    return rt_set_out(g, n, 0, x->dtype, shape, err);
}

static enum rt_status infer_identity(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    return rt_infer_same(g, n, err);
}

const struct rt_op rt_op_Identity = {
    .name = "Identity",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_VIEW | RT_OP_DIMS | RT_OP_READS_SHAPE,
    .infer = infer_identity,
};

/* Import makes a constant of each such node: none is ever inferred or run. */
const struct rt_op rt_op_Constant = {
    .name = "Constant",
    .min_out = 1,
    .max_out = 1,
};

/* The dimension written as -1: what is left of the count. */
static enum rt_status infer_rest(const struct rt_node *n, const struct rt_shape *x,
                                 struct rt_shape *y, int unknown, struct rt_error *err)
{
    struct count total, known = { 1, 0 };
    bool fits = count_of(x, &total);
    for (int i = 0; i < y->rank && fits; i++)
        if (i != unknown)
            fits = count_times(&known, y->dim[i]);
    if (!fits || known.n == 0 || total.n % known.n != 0 || total.power < known.power) {
        char from[RT_SHAPE_TEXT], to[RT_SHAPE_TEXT];
        struct rt_shape x1 = rt_shape_at(x, 1), y1 = rt_shape_at(y, 1);
        return rt_node_fail(err, RT_E_INVALID, n, "a tensor of shape %s cannot become one of %s",
                            rt_shape_text(&x1, from), rt_shape_text(&y1, to));
    }
    y->dim[unknown] = total.n / known.n * (total.power > known.power ? RT_BATCH : 1);
    return RT_OK;
}

static enum rt_status infer_reshape(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape x = rt_in(g, n, 0)->shape;
    const int64_t *want;
    int64_t count;
    enum rt_status s = rt_attr_or_const(g, n, "shape", 1, &want, &count, err);
    if (s != RT_OK)
        return s;
    if (count < 0)
        return rt_node_fail(err, RT_E_INVALID, n, "there is no shape");
    if (count > RT_MAX_RANK)
        return rt_node_fail(err, RT_E_LIMIT, n, "the shape has %lld dimensions, more than %d",
                            (long long)count, RT_MAX_RANK);
    bool zero_is_zero = rt_attr_int(n, "allowzero", 0) != 0;
    struct rt_shape y = { .rank = (int)count };
    int unknown = -1;
    for (int i = 0; i < y.rank; i++) {
        y.dim[i] = want[i];
        if (want[i] == 0 && !zero_is_zero) {
            if (i >= x.rank)
                return rt_node_fail(err, RT_E_INVALID, n,
                                    "dimension %d of the shape is 0, but the input has only %d", i,
                                    x.rank);
            y.dim[i] = x.dim[i];
        } else if (want[i] == -1) {
            if (unknown >= 0)
                return rt_node_fail(err, RT_E_INVALID, n, "the shape has -1 twice");
            unknown = i;
        } else if (want[i] < 0) {
            return rt_node_fail(err, RT_E_INVALID, n, "dimension %d of the shape is %lld", i,
                                (long long)want[i]);
        }
    }
    if (unknown >= 0)
        s = infer_rest(n, &x, &y, unknown, err);
    return s == RT_OK ? set_view(g, n, &y, err) : s;
}

const struct rt_op rt_op_Reshape = {
    .name = "Reshape",
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_VIEW | RT_OP_DIMS | RT_OP_READS_SHAPE,
    .infer = infer_reshape,
};

/* The product of dimensions from..to-1, of which one may follow the batch. */
static bool product(const struct rt_shape *s, int from, int to, int64_t *out)
{
    struct count c = { 1, 0 };
    for (int i = from; i < to; i++)
        if (!count_times(&c, s->dim[i]))
            return false;
    *out = c.n;
    return c.power == 0 || rt_mul_i64(c.n, RT_BATCH, out);
}

static enum rt_status infer_flatten(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape;
    int axis;
    enum rt_status s = rt_fix_axis(n, rt_attr_int(n, "axis", 1), x->rank, true, &axis, err);
    if (s != RT_OK)
        return s;
    struct rt_shape y = { .rank = 2 };
    if (!product(x, 0, axis, &y.dim[0]) || !product(x, axis, x->rank, &y.dim[1]))
        return rt_node_fail(err, RT_E_LIMIT, n, "the flattened dimensions are too large");
    return set_view(g, n, &y, err);
}

const struct rt_op rt_op_Flatten = {
    .name = "Flatten",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_VIEW,
    .infer = infer_flatten,
};

/* Marks the axes named by the attribute or input "axes". *count is -1 when there are none. */
static enum rt_status marked_axes(struct rt_graph *g, const struct rt_node *n, int rank,
                                  bool marked[RT_MAX_RANK], int64_t *count, struct rt_error *err)
{
    const int64_t *axes;
    memset(marked, 0, RT_MAX_RANK * sizeof *marked);
    enum rt_status s = rt_attr_or_const(g, n, "axes", 1, &axes, count, err);
    for (int64_t i = 0; i < *count && s == RT_OK; i++) {
        int axis;
        s = rt_fix_axis(n, axes[i], rank, false, &axis, err);
        if (s == RT_OK && marked[axis])
            s = rt_node_fail(err, RT_E_INVALID, n, "axis %d is named twice", axis);
        if (s == RT_OK)
            marked[axis] = true;
    }
    return s;
}

static enum rt_status infer_squeeze(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape x = rt_in(g, n, 0)->shape;
    bool drop[RT_MAX_RANK];
    int64_t count;
    enum rt_status s = marked_axes(g, n, x.rank, drop, &count, err);
    if (s != RT_OK)
        return s;
    struct rt_shape y = { .rank = 0 };
    for (int i = 0; i < x.rank; i++) {
        /* A batch that has a name stays: an answer's rank does not hang on how many share it. */
        if (count < 0 && x.dim[i] == RT_BATCH && g->batch_of_one)
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "drops axis %d, the batch, while it is 1",
                                i);
        bool dropped = count < 0 ? x.dim[i] == 1 : drop[i];
        if (dropped && x.dim[i] != 1)
            return rt_node_fail(err, rt_is_batched(x.dim[i]) ? RT_E_UNSUPPORTED : RT_E_INVALID, n,
                                rt_is_batched(x.dim[i]) ? "axis %d, which it drops, is the batch"
                                                        : "axis %d, which it drops, is not 1",
                                i);
        if (!dropped)
            y.dim[y.rank++] = x.dim[i];
    }
    return set_view(g, n, &y, err);
}

const struct rt_op rt_op_Squeeze = {
    .name = "Squeeze",
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_VIEW | RT_OP_DIMS,
    .infer = infer_squeeze,
};

static enum rt_status infer_unsqueeze(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape x = rt_in(g, n, 0)->shape;
    const int64_t *axes;
    bool added[RT_MAX_RANK];
    int64_t count;
    enum rt_status s = rt_attr_or_const(g, n, "axes", 1, &axes, &count, err);
    if (s != RT_OK)
        return s;
    if (count < 0)
        return rt_node_fail(err, RT_E_INVALID, n, "there are no axes");
    if (x.rank + count > RT_MAX_RANK)
        return rt_node_fail(err, RT_E_LIMIT, n, "the output has more than %d dimensions",
                            RT_MAX_RANK);
    struct rt_shape y = { .rank = x.rank + (int)count };
    s = marked_axes(g, n, y.rank, added, &count, err);
    if (s != RT_OK)
        return s;
    for (int i = 0, k = 0; i < y.rank; i++)
        y.dim[i] = added[i] ? 1 : x.dim[k++];
    return set_view(g, n, &y, err);
}

const struct rt_op rt_op_Unsqueeze = {
    .name = "Unsqueeze",
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_VIEW | RT_OP_DIMS,
    .infer = infer_unsqueeze,
};

/* The axes that Shape tells: start..end-1, both clamped. */
static void told_axes(const struct rt_node *n, int rank, int *start, int *end)
{
    int64_t from = rt_attr_int(n, "start", 0), to = rt_attr_int(n, "end", rank);
    from = from < 0 ? from + rank : from;
    to = to < 0 ? to + rank : to;
    *start = from < 0 ? 0 : from > rank ? rank : (int)from;
    *end = to < *start ? *start : to > rank ? rank : (int)to;
}

static enum rt_status infer_shape(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    int start, end;
    told_axes(n, rt_in(g, n, 0)->shape.rank, &start, &end);
    struct rt_shape y = { .rank = 1, .dim = { end - start } };
    return rt_set_out(g, n, 0, RT_INT64, &y, err);
}

static void run_shape(const struct rt_call *c, const struct rt_worker *w)
{
    int start, end;
    told_axes(c->node, c->in[0].shape.rank, &start, &end);
    for (int i = start; i < end && w->id == 0; i++)
        ((int64_t *)c->out[0].data)[i - start] = c->in[0].shape.dim[i];
}

const struct rt_op rt_op_Shape = {
    .name = "Shape",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_OF_SHAPE,
    .infer = infer_shape,
    .run = run_shape,
};

static enum rt_status infer_size(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape;
    int64_t count;
    if (!product(x, 0, x->rank, &count))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "the size is too large");
    return rt_set_out(g, n, 0, RT_INT64, &(struct rt_shape){ .rank = 0 }, err);
}

static void run_size(const struct rt_call *c, const struct rt_worker *w)
{
    if (w->id == 0)
        *(int64_t *)c->out[0].data = rt_shape_numel(&c->in[0].shape);
}

const struct rt_op rt_op_Size = {
    .name = "Size",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_OF_SHAPE,
    .infer = infer_size,
    .run = run_size,
};
