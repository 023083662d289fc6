/* Chooses the layout of each value. Convolutions and their like ask for channel-blocked inputs;
 * what can work on blocked tensors and reads one stays blocked; conversions stand only where the
 * two meet, one for each value. */
#include "runtime/passes/pass.h"

#include <string.h>

struct layouts {
    struct rt_graph *g;
    int *twin; /* [n_values at the start] the value in the other layout, -1: none yet */
};

static bool same_bytes(const struct rt_shape *s)
{
    return rt_shape_range(s, 2, s->rank) == 1 && s->dim[1] % rt_kernels()->block == 0;
}

/* The value that holds v in the other layout. */
static enum rt_status convert(struct layouts *l, int v, int *out, struct rt_error *err)
{
    struct rt_graph *g = l->g;
    if (l->twin[v] >= 0) {
        *out = l->twin[v];
        return RT_OK;
    }
    bool block = g->value[v].layout == RT_PLAIN;
    const struct rt_op *op = block ? &rt_op_ToBlocked : &rt_op_ToPlain;
    if (same_bytes(&g->value[v].shape))
        op = &rt_op_Relayout;
    struct rt_shape shape = g->value[v].shape;
    int made = rt_graph_add_typed(g, RT_FLOAT, &shape);
    int node = made >= 0 ? rt_graph_add_node(g, op, op->name, 1, 1) : -1;
    if (node < 0)
        return rt_graph_nomem(g, err);
    g->value[made].name = g->value[v].name;
    g->value[made].layout = block ? RT_BLOCKED : RT_PLAIN;
    g->node[node].in[0] = v;
    g->node[node].out[0] = made;
    l->twin[v] = made;
    *out = made;
    return RT_OK;
}

static bool any_blocked_input(const struct rt_graph *g, const struct rt_node *n)
{
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && g->value[n->in[k]].layout == RT_BLOCKED)
            return true;
    return false;
}

static bool wants_blocked(const struct rt_graph *g, const struct rt_node *n, int k)
{
    return !g->value[n->in[k]].constant &&
           (n->op->reads_plain == NULL || !n->op->reads_plain(g, n, k));
}

static enum rt_status assign_node(struct layouts *l, int i, struct rt_error *err)
{
    struct rt_graph *g = l->g;
    struct rt_node *n = &g->node[i];
    bool block = n->op->can_block != NULL && n->op->can_block(g, n) &&
                 (n->op->prefers_blocked || any_blocked_input(g, n));
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0)
            continue;
        enum rt_layout have = g->value[n->in[k]].layout;
        if (have == RT_PIXELS)
            continue; /* its readers know */
        enum rt_layout want = block && wants_blocked(g, n, k) ? RT_BLOCKED : RT_PLAIN;
        if (have == want)
            continue;
        int v;
        enum rt_status s = convert(l, n->in[k], &v, err);
        if (s != RT_OK)
            return s;
        n = &g->node[i];
        n->in[k] = v;
    }
    if (!block)
        return RT_OK;
    n->op = n->op->blocked;
    for (int k = 0; k < n->n_out; k++)
        if (n->out[k] >= 0)
            g->value[n->out[k]].layout = RT_BLOCKED;
    return RT_OK;
}

enum rt_status rt_assign_layouts(struct rt_graph *g, struct rt_error *err)
{
    int n_nodes = g->n_nodes;
    struct layouts l = { g, rt_alloc_array((size_t)g->n_values + 1, sizeof *l.twin) };
    if (l.twin == NULL)
        return rt_graph_nomem(g, err);
    memset(l.twin, -1, (size_t)g->n_values * sizeof *l.twin);
    enum rt_status s = RT_OK;
    for (int i = 0; s == RT_OK && i < n_nodes; i++)
        s = assign_node(&l, i, err);
    for (int i = 0; s == RT_OK && i < g->n_outputs; i++)
        if (g->value[g->output[i]].layout == RT_BLOCKED)
            s = convert(&l, g->output[i], &g->output[i], err);
    rt_free(l.twin);
    return s == RT_OK ? rt_graph_tidy(g, err) : s;
}
