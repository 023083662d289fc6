/* Operators that pick elements by index: Gather, GatherElements, GatherND. */
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/move.h"

/* The index as 0..dim-1; -1 after reporting one that is outside. */
static int64_t fix_index(const struct rt_call *c, int64_t index, int64_t dim)
{
    int64_t i = index < 0 ? index + dim : index;
    if (i >= 0 && i < dim)
        return i;
    rt_fault(c, "index %lld is outside an axis of %lld", (long long)index, (long long)dim);
    return -1;
}

/* Constant indices are checked before anything runs. */
static enum rt_status check_constant(struct rt_graph *g, const struct rt_node *n, int64_t dim,
                                     struct rt_error *err)
{
    const struct rt_value *v = rt_in(g, n, 1);
    struct rt_tensor t = rt_graph_tensor(g, n->in[1]);
    int64_t count = v->constant ? rt_shape_numel(&v->shape) : 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t index = rt_element_int(&t, i);
        if (index < -dim || index >= dim)
            return rt_node_fail(err, RT_E_INVALID, n, "index %lld is outside an axis of %lld",
                                (long long)index, (long long)dim);
    }
    return RT_OK;
}

/* --- Gather ---------------------------------------------------------------------------------- */

static enum rt_status infer_gather(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0), *index = rt_in(g, n, 1);
    int axis;
    enum rt_status s = rt_check_index(g, n, 1, err);
    if (s == RT_OK)
        s = rt_fix_axis(n, rt_attr_int(n, "axis", 0), x->shape.rank, false, &axis, err);
    if (s == RT_OK)
        s = rt_keep_samples(g, n, 0, axis, err);
    if (s == RT_OK)
        s = check_constant(g, n, x->shape.dim[axis], err);
    if (s != RT_OK)
        return s;
    struct rt_shape y = { .rank = x->shape.rank - 1 + index->shape.rank };
    if (y.rank > RT_MAX_RANK)
        return rt_node_fail(err, RT_E_LIMIT, n, "the output has more than %d dimensions",
                            RT_MAX_RANK);
    int k = 0;
    for (int i = 0; i < axis; i++)
        y.dim[k++] = x->shape.dim[i];
    for (int i = 0; i < index->shape.rank; i++)
        y.dim[k++] = index->shape.dim[i];
    for (int i = axis + 1; i < x->shape.rank; i++)
        y.dim[k++] = x->shape.dim[i];
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

static void run_gather(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    int64_t axis = rt_attr_int(c->node, "axis", 0), begin, end;
    axis += axis < 0 ? x->shape.rank : 0;
    int64_t dim = x->shape.dim[axis], count = rt_shape_numel(&c->in[1].shape);
    int64_t outer = rt_shape_range(&x->shape, 0, (int)axis);
    int64_t inner = rt_shape_range(&x->shape, (int)axis + 1, x->shape.rank);
    if (inner == 0)
        return;
    rt_worker_share(w, outer * count, 1 + 64 / inner, &begin, &end);
    for (int64_t at = begin; at < end; at++) {
        int64_t i = fix_index(c, rt_element_int(&c->in[1], at % count), dim);
        if (i < 0)
            return;
        memcpy(rt_out_at(&c->out[0], at * inner), rt_at(x, (at / count * dim + i) * inner),
               (size_t)inner * rt_size_of(x));
    }
}

const struct rt_op rt_op_Gather = {
    .name = "Gather",
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer_gather,
    .run = run_gather,
};

/* --- GatherElements -------------------------------------------------------------------------- */

static enum rt_status infer_elements(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0), *index = rt_in(g, n, 1);
    int axis;
    enum rt_status s = rt_check_index(g, n, 1, err);
    if (s == RT_OK)
        s = rt_fix_axis(n, rt_attr_int(n, "axis", 0), x->shape.rank, false, &axis, err);
    if (s == RT_OK)
        s = rt_keep_samples(g, n, 0, axis, err);
    if (s == RT_OK)
        s = check_constant(g, n, x->shape.dim[axis], err);
    if (s != RT_OK)
        return s;
    bool fits = index->shape.rank == x->shape.rank;
    for (int i = 0; fits && i < x->shape.rank; i++)
        fits = i == axis || index->shape.dim[i] <= x->shape.dim[i];
    if (!fits)
        return rt_node_fail(err, RT_E_INVALID, n, "indices do not fit into the data");
    return rt_set_out(g, n, 0, x->dtype, &index->shape, err);
}

static void run_elements(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *index = &c->in[1], *y = &c->out[0];
    int64_t axis = rt_attr_int(c->node, "axis", 0), begin, end, stride[RT_MAX_RANK];
    axis += axis < 0 ? x->shape.rank : 0;
    rt_strides(&x->shape, stride);
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &begin, &end);
    size_t size = rt_size_of(x);
    for (int64_t at = begin; at < end; at++) {
        int64_t rest = at, from = 0;
        for (int i = y->shape.rank - 1; i >= 0; i--) {
            int64_t k = rest % y->shape.dim[i];
            rest /= y->shape.dim[i];
            from += i != axis ? k * stride[i] : 0;
        }
        int64_t i = fix_index(c, rt_element_int(index, at), x->shape.dim[axis]);
        if (i < 0)
            return;
        memcpy(rt_out_at(y, at), rt_at(x, from + i * stride[axis]), size);
    }
}

const struct rt_op rt_op_GatherElements = {
    .name = "GatherElements",
    .since = 11,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer_elements,
    .run = run_elements,
};

/* --- GatherND -------------------------------------------------------------------------------- */

static enum rt_status infer_nd(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    const struct rt_shape *xs = &x->shape, *is = &rt_in(g, n, 1)->shape;
    int64_t shared = rt_attr_int(n, "batch_dims", 0);
    enum rt_status s = rt_check_index(g, n, 1, err);
    if (s != RT_OK)
        return s;
    if (is->rank < 1 || shared < 0 || shared >= is->rank || shared >= xs->rank)
        return rt_node_fail(err, RT_E_INVALID, n, "batch_dims is %lld, the ranks are %d and %d",
                            (long long)shared, xs->rank, is->rank);
    int64_t depth = is->dim[is->rank - 1];
    if (depth < 1 || depth > xs->rank - shared)
        return rt_node_fail(err, RT_E_INVALID, n, "indices name %lld axes of %lld",
                            (long long)depth, (long long)(xs->rank - shared));
    for (int i = 0; i < shared; i++)
        if (xs->dim[i] != is->dim[i])
            return rt_node_fail(err, RT_E_INVALID, n, "data and indices differ in axis %d", i);
    for (int i = 0; i < depth && s == RT_OK; i++)
        s = rt_keep_samples(g, n, 0, (int)shared + i, err);
    if (s != RT_OK)
        return s;
    struct rt_shape y = { .rank = 0 };
    int tail = (int)(shared + depth);
    if (is->rank - 1 + xs->rank - tail > RT_MAX_RANK)
        return rt_node_fail(err, RT_E_LIMIT, n, "the output has more than %d dimensions",
                            RT_MAX_RANK);
    for (int i = 0; i < is->rank - 1; i++)
        y.dim[y.rank++] = is->dim[i];
    for (int i = tail; i < xs->rank; i++)
        y.dim[y.rank++] = xs->dim[i];
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

static void run_nd(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *index = &c->in[1];
    const struct rt_shape *is = &index->shape;
    int shared = (int)rt_attr_int(c->node, "batch_dims", 0), depth = (int)is->dim[is->rank - 1];
    int64_t inner = rt_shape_range(&x->shape, shared + depth, x->shape.rank), begin, end;
    int64_t count = rt_shape_range(is, 0, is->rank - 1);
    int64_t per_batch = rt_shape_range(is, shared, is->rank - 1);
    int64_t batch = rt_shape_range(&x->shape, shared, x->shape.rank);
    rt_worker_share(w, count, 16, &begin, &end);
    for (int64_t at = begin; at < end && inner > 0; at++) {
        int64_t from = 0;
        for (int k = 0; k < depth; k++) {
            int64_t dim = x->shape.dim[shared + k];
            int64_t i = fix_index(c, rt_element_int(index, at * depth + k), dim);
            if (i < 0)
                return;
            from = from * dim + i;
        }
        memcpy(rt_out_at(&c->out[0], at * inner), rt_at(x, at / per_batch * batch + from * inner),
               (size_t)inner * rt_size_of(x));
    }
}

const struct rt_op rt_op_GatherND = {
    .name = "GatherND",
    .since = 11,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer_nd,
    .run = run_nd,
};
