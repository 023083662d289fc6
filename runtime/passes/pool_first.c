/* An average behind a pointwise convolution goes in front of it: both are linear, and then there
 * are fewer pixels to convolve.
 *
 *     x ─ Conv 1x1 ─ AveragePool 2x2      =      x ─ AveragePool 2x2 ─ Conv 1x1 */
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

#include <string.h>

static bool all_are(const struct rt_node *n, const char *name, int64_t value)
{
    const int64_t *ints;
    const int count = rt_attr_ints(n, name, &ints);
    for (int i = 0; i < count; i++)
        if (ints[i] != value)
            return false;
    return true;
}

/* Windows whose mean is over what they have of the input, so that the mean of a constant is it. */
static bool is_mean(const struct rt_node *n)
{
    if (n->op == &rt_op_GlobalAveragePool)
        return true;
    return n->op == &rt_op_AveragePool &&
           (rt_attr_int(n, "count_include_pad", 0) == 0 ||
            (all_are(n, "pads", 0) && rt_attr_int(n, "ceil_mode", 0) == 0 &&
             strncmp(rt_attr_string(n, "auto_pad", "NOTSET"), "SAME", 4) != 0));
}

static bool is_pointwise(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *w = &g->value[n->in[1]];
    return w->shape.rank > 2 && rt_shape_range(&w->shape, 2, w->shape.rank) == 1 &&
           all_are(n, "strides", 1) && all_are(n, "pads", 0);
}

enum rt_status rt_pass_pool_first(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_node *pool = &g->node[node];
    if (pool->n_steps > 0 || pool->n_out != 1 || !is_mean(pool) || r->options->exact)
        return RT_OK;
    const int y = pool->out[0], between = pool->in[0];
    if (rt_match_only(g, between, &rt_op_Conv) == NULL)
        return RT_OK;
    struct rt_node *conv = &g->node[g->value[between].producer];
    const struct rt_value *x = &g->value[conv->in[0]];
    if (!is_pointwise(g, conv) || x->dtype != RT_FLOAT || x->constant ||
        rt_shape_range(&g->value[y].shape, 2, x->shape.rank) >=
            rt_shape_range(&x->shape, 2, x->shape.rank))
        return RT_OK;
    struct rt_shape shape = g->value[y].shape;
    shape.dim[1] = x->shape.dim[1];
    const int pooled = rt_graph_add_typed(g, RT_FLOAT, &shape);
    if (pooled < 0)
        return rt_graph_nomem(g, err);
    pool->in[0] = conv->in[0];
    pool->out[0] = pooled;
    conv->in[0] = pooled;
    conv->out[0] = y;
    r->changes++;
    return rt_graph_tidy(g, err);
}
