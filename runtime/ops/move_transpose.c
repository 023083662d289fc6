/* Operators that reorder axes: Transpose, and depth against space. */
#include <string.h>

#include "runtime/ops/move.h"

/* perm[i]: the input's axis that becomes axis i; without the attribute the order is reversed. */
static enum rt_status read_perm(const struct rt_node *n, int rank, int perm[RT_MAX_RANK],
                                struct rt_error *err)
{
    const int64_t *ints;
    bool seen[RT_MAX_RANK] = { false };
    int count = rt_attr_ints(n, "perm", &ints);
    for (int i = 0; i < rank; i++)
        perm[i] = rank - 1 - i;
    if (rt_attr(n, "perm") == NULL)
        return RT_OK;
    if (count != rank)
        return rt_node_fail(err, RT_E_INVALID, n, "perm has %d axes, the input has %d", count,
                            rank);
    for (int i = 0; i < rank; i++) {
        if (ints[i] < 0 || ints[i] >= rank || seen[ints[i]])
            return rt_node_fail(err, RT_E_INVALID, n, "perm is no order of %d axes", rank);
        seen[ints[i]] = true;
        perm[i] = (int)ints[i];
    }
    return RT_OK;
}

static enum rt_status infer_transpose(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    int perm[RT_MAX_RANK];
    enum rt_status s = read_perm(n, x->shape.rank, perm, err);
    if (s != RT_OK)
        return s;
    struct rt_shape y = { .rank = x->shape.rank };
    for (int i = 0; i < y.rank; i++)
        y.dim[i] = x->shape.dim[perm[i]];
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

static void run_transpose(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    const struct rt_shape *y = &c->out[0].shape;
    int perm[RT_MAX_RANK];
    int64_t from[RT_MAX_RANK], stride[RT_MAX_RANK];
    read_perm(c->node, y->rank, perm, NULL);
    rt_strides(&x->shape, from);
    for (int i = 0; i < y->rank; i++)
        stride[i] = from[perm[i]];
    struct rt_walk v;
    rt_walk_init(&v, y->rank, y->dim, stride, 0, rt_size_of(x));
    rt_walk_copy(&v, x->data, c->out[0].data, w);
}

const struct rt_op rt_op_Transpose = {
    .name = "Transpose",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer_transpose,
    .run = run_transpose,
};

static enum rt_status read_block(struct rt_graph *g, const struct rt_node *n, int64_t *block,
                                 struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape;
    *block = rt_attr_int(n, "blocksize", 0);
    if (x->rank != 4)
        return rt_node_fail(err, RT_E_INVALID, n, "the input has %d dimensions, not 4", x->rank);
    if (*block < 1 || *block > INT32_MAX)
        return rt_node_fail(err, RT_E_INVALID, n, "blocksize is %lld", (long long)*block);
    for (int i = 1; i < 4; i++)
        if (rt_is_batched(x->dim[i]))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "the batch is not its first axis");
    return RT_OK;
}

static bool is_column_row_depth(const struct rt_node *n)
{
    return strcmp(rt_attr_string(n, "mode", "DCR"), "CRD") == 0;
}

static enum rt_status infer_depth_to_space(struct rt_graph *g, struct rt_node *n,
                                           struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    struct rt_shape y = x->shape;
    int64_t b;
    const char *mode = rt_attr_string(n, "mode", "DCR");
    enum rt_status s = read_block(g, n, &b, err);
    if (s != RT_OK)
        return s;
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return rt_node_fail(err, RT_E_INVALID, n, "mode is '%s', not DCR or CRD", mode);
    if (y.dim[1] % (b * b) != 0)
        return rt_node_fail(err, RT_E_INVALID, n, "%lld channels are no multiple of blocksize^2",
                            (long long)y.dim[1]);
    y.dim[1] /= b * b;
    if (!rt_mul_i64(y.dim[2], b, &y.dim[2]) || !rt_mul_i64(y.dim[3], b, &y.dim[3]))
        return rt_node_fail(err, RT_E_LIMIT, n, "the output is too large");
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

/* The input as [N, b, b, C, H, W] or [N, C, b, b, H, W], the output as [N, C, H, b, W, b]. */
static void run_depth_to_space(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    const int64_t *d = c->out[0].shape.dim, b = rt_attr_int(c->node, "blocksize", 1);
    const int64_t height = x->shape.dim[2], width = x->shape.dim[3], plane = height * width;
    bool crd = is_column_row_depth(c->node);
    const int64_t channel = crd ? b * b * plane : plane, row = crd ? plane : d[1] * plane;
    const int64_t dim[] = { d[0], d[1], height, b, width, b };
    const int64_t stride[] = { d[1] * b * b * plane, channel, width, b * row, 1, row };
    struct rt_walk v;
    rt_walk_init(&v, 6, dim, stride, 0, rt_size_of(x));
    rt_walk_copy(&v, x->data, c->out[0].data, w);
}

const struct rt_op rt_op_DepthToSpace = {
    .name = "DepthToSpace",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_depth_to_space,
    .run = run_depth_to_space,
};

static enum rt_status infer_space_to_depth(struct rt_graph *g, struct rt_node *n,
                                           struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    struct rt_shape y = x->shape;
    int64_t b;
    enum rt_status s = read_block(g, n, &b, err);
    if (s != RT_OK)
        return s;
    if (y.dim[2] % b != 0 || y.dim[3] % b != 0)
        return rt_node_fail(err, RT_E_INVALID, n, "%lld x %lld pixels are no multiple of blocksize",
                            (long long)y.dim[2], (long long)y.dim[3]);
    y.dim[2] /= b;
    y.dim[3] /= b;
    if (!rt_mul_i64(y.dim[1], b * b, &y.dim[1]))
        return rt_node_fail(err, RT_E_LIMIT, n, "the output is too large");
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

/* The input as [N, C, H, b, W, b], the output as [N, b, b, C, H, W]. */
static void run_space_to_depth(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    const int64_t *d = x->shape.dim, *o = c->out[0].shape.dim;
    const int64_t b = rt_attr_int(c->node, "blocksize", 1);
    const int64_t dim[] = { d[0], b, b, d[1], o[2], o[3] };
    const int64_t stride[] = { d[1] * d[2] * d[3], d[3], 1, d[2] * d[3], b * d[3], b };
    struct rt_walk v;
    rt_walk_init(&v, 6, dim, stride, 0, rt_size_of(x));
    rt_walk_copy(&v, x->data, c->out[0].data, w);
}

const struct rt_op rt_op_SpaceToDepth = {
    .name = "SpaceToDepth",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_space_to_depth,
    .run = run_space_to_depth,
};
