/* Normalisation that exporters spell out,
 *
 *     d = x - ReduceMean(x),   y = d / Sqrt(ReduceMean(d^2) + epsilon)
 *
 * becomes LayerNormalization where it goes over the last axes and ChannelNorm where it goes over
 * axis 1; scale and bias behind a LayerNormalization become its own. */
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

#include <string.h>

/* v is the mean of *x along *axes (a bit each), which stay as ones. */
static bool is_mean(struct rt_graph *g, int v, int *x, unsigned *axes)
{
    const struct rt_node *n = rt_match(g, v, &rt_op_ReduceMean);
    if (n == NULL || rt_attr_int(n, "keepdims", 1) == 0)
        return false;
    const int64_t *list;
    int64_t count;
    const int rank = g->value[n->in[0]].shape.rank;
    if (rt_attr_or_const(g, n, "axes", 1, &list, &count, NULL) != RT_OK || count <= 0)
        return false;
    *x = n->in[0];
    *axes = 0;
    for (int64_t i = 0; i < count; i++) {
        int axis;
        if (rt_fix_axis(n, list[i], rank, false, &axis, NULL) != RT_OK)
            return false;
        *axes |= 1u << axis;
    }
    return true;
}

static bool is_square(const struct rt_graph *g, int v, int d)
{
    const struct rt_node *n = rt_match(g, v, &rt_op_Pow);
    if (n != NULL)
        return n->in[0] == d && rt_match_number(g, n->in[1], 2.0f);
    n = rt_match(g, v, &rt_op_Mul);
    return n != NULL && n->in[0] == d && n->in[1] == d;
}

static bool find_norm(struct rt_graph *g, const struct rt_node *n, int *x, unsigned *axes,
                      float *epsilon)
{
    const struct rt_node *d = rt_match(g, n->in[0], &rt_op_Sub);
    const struct rt_node *root = rt_match(g, n->in[1], &rt_op_Sqrt);
    int of, variance, square;
    unsigned square_axes;
    if (d == NULL || root == NULL)
        return false;
    *x = d->in[0];
    return is_mean(g, d->in[1], &of, axes) && of == *x &&
           rt_match_plus(g, root->in[0], &variance, epsilon) &&
           is_mean(g, variance, &square, &square_axes) && square_axes == *axes &&
           is_square(g, square, n->in[0]);
}

/* A constant of shape full of k. */
static int add_filled(struct rt_graph *g, const struct rt_shape *shape, float k)
{
    float *data;
    const int v = rt_graph_add_floats(g, shape, &data);
    for (int64_t i = 0; v >= 0 && i < rt_shape_numel(shape); i++)
        data[i] = k;
    return v;
}

static enum rt_status join(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    int x;
    unsigned axes;
    float epsilon;
    if (!find_norm(g, &g->node[node], &x, &axes, &epsilon))
        return RT_OK;
    const struct rt_shape shape = g->value[x].shape;
    int first = 0;
    while (!(axes >> first & 1))
        first++;
    const bool layer = axes == (1u << shape.rank) - (1u << first);
    if ((!layer && axes != 1u << 1) || !rt_shape_equal(&shape, &g->value[g->node[node].out[0]].shape))
        return RT_OK;
    struct rt_shape kept = { .rank = shape.rank - first };
    for (int i = 0; i < kept.rank; i++)
        kept.dim[i] = shape.dim[first + i];
    if (rt_shape_batch_axis(&kept) >= 0 || (!layer && rt_is_batched(shape.dim[1])))
        return RT_OK; /* it mixes samples, which is for others to refuse */
    const int made = rt_match_become(g, node, layer ? &rt_op_LayerNormalization : &rt_op_ChannelNorm,
                                     x, layer ? 2 : 1);
    struct rt_attr eps = { .name = "epsilon", .type = RT_ATTR_FLOAT, .f = epsilon };
    struct rt_attr axis = { .name = "axis", .type = RT_ATTR_INT, .i = first };
    bool ok = made >= 0 && rt_match_set_attr(g, &g->node[made], eps);
    if (ok && layer) {
        const int ones = add_filled(g, &kept, 1.0f);
        ok = ones >= 0 && rt_match_set_attr(g, &g->node[made], axis);
        g->node[made].in[1] = ones;
    }
    if (!ok)
        return rt_graph_nomem(g, err);
    r->changes++;
    return rt_graph_tidy(g, err);
}

/* Constant v as one float for each element of shape, the last axes of what it is broadcast to; in
 * bulk memory. *to is NULL when it does not fit or, with s changed, when there is no memory. */
static enum rt_status spread(struct rt_graph *g, int v, const struct rt_shape *shape, float **to,
                             int *made, struct rt_error *err)
{
    const struct rt_value *k = &g->value[v];
    struct rt_shape s = k->shape;
    *to = NULL;
    while (s.rank > shape->rank && s.dim[0] == 1)
        memmove(s.dim, s.dim + 1, (size_t)--s.rank * sizeof s.dim[0]);
    const int64_t count = rt_shape_numel(shape);
    if (!k->constant || k->dtype != RT_FLOAT ||
        (rt_shape_numel(&s) != 1 && !rt_shape_equal(&s, shape)))
        return RT_OK;
    const float *from = k->data;
    const int64_t step = rt_shape_numel(&s) == 1 ? 0 : 1;
    *made = rt_graph_add_floats(g, shape, to);
    if (*made < 0)
        return rt_graph_nomem(g, err);
    for (int64_t i = 0; i < count; i++)
        (*to)[i] = from[i * step];
    return RT_OK;
}

/* Mul or Add of a constant behind a LayerNormalization goes into its scale or bias. */
static enum rt_status absorb(struct rt_pass_run *r, int node, bool is_scale, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    for (int i = 0; i < 2; i++) {
        const int y = g->node[node].in[i], k = g->node[node].in[1 - i];
        const struct rt_node *norm = rt_match_only(g, y, &rt_op_LayerNormalization);
        if (norm == NULL || norm->n_out > 1 || !g->value[norm->in[1]].constant ||
            (rt_has_in(norm, 2) && !g->value[norm->in[2]].constant) ||
            !rt_shape_equal(&g->value[y].shape, &g->value[g->node[node].out[0]].shape))
            continue;
        const struct rt_shape shape = g->value[norm->in[1]].shape;
        const int at = g->value[y].producer;
        int made = -1, scale = norm->in[1], bias = rt_has_in(norm, 2) ? norm->in[2] : -1;
        float *to;
        if (is_scale && bias >= 0)
            continue; /* would scale the bias too: exporters do not write that */
        enum rt_status s = spread(g, k, &shape, &to, &made, err);
        if (s != RT_OK || to == NULL)
            return s;
        const int old = is_scale ? scale : bias;
        const float *before = old >= 0 ? g->value[old].data : NULL;
        for (int64_t e = 0; before != NULL && e < rt_shape_numel(&shape); e++)
            to[e] = is_scale ? to[e] * before[e] : to[e] + before[e];
        if (is_scale)
            g->node[at].in[1] = made;
        else if (bias >= 0 || g->node[at].n_in > 2)
            g->node[at].in[2] = made;
        else if (rt_graph_add_input(g, &g->node[at], made) < 0)
            return rt_graph_nomem(g, err);
        g->node[at].out[0] = g->node[node].out[0];
        g->node[node].op = NULL;
        r->changes++;
        return rt_graph_tidy(g, err);
    }
    return RT_OK;
}

enum rt_status rt_pass_find_norms(struct rt_pass_run *r, int node, struct rt_error *err)
{
    const struct rt_node *n = &r->g->node[node];
    if (n->n_steps > 0 || r->g->value[n->out[0]].dtype != RT_FLOAT)
        return RT_OK;
    if (n->op == &rt_op_Div)
        return join(r, node, err);
    if (n->op == &rt_op_Mul || n->op == &rt_op_Add)
        return absorb(r, node, n->op == &rt_op_Mul, err);
    return RT_OK;
}
