/* Identity, Dropout, a Reshape to the same shape: views that show what they look at. */
#include "runtime/passes/pass.h"

enum rt_status rt_pass_drop_identity(struct rt_pass_run *r, int node, struct rt_error *err)
{
    (void)err;
    struct rt_graph *g = r->g;
    struct rt_node *n = &g->node[node];
    if ((n->op->traits & RT_OP_VIEW) == 0)
        return RT_OK;
    const struct rt_value *x = &g->value[n->in[0]], *y = &g->value[n->out[0]];
    if (x->dtype != y->dtype || !rt_shape_equal(&x->shape, &y->shape))
        return RT_OK;
    for (int k = 1; k < n->n_out; k++)
        if (n->out[k] >= 0 && g->value[n->out[k]].uses > 0)
            return RT_OK; /* it also makes something that is read */
    if (y->is_output)
        return RT_OK; /* an output keeps a value of its own: x may be an input or constant */
    rt_graph_replace(g, n->out[0], n->in[0]);
    rt_graph_kill(g, node);
    r->changes++;
    return RT_OK;
}
