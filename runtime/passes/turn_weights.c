/* A Transpose of constant weights in front of matrix products goes: they read the weights as the
 * file has them.
 *
 *     Transpose(w) ─ MatMul ─          MatMul, transB ─
 *
 * Folded like any constant it would be a copy of most of a transformer's file, made to be packed.
 */
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

#include <string.h>

/* Whether n turns a constant matrix of floats. */
static bool turns_constant(const struct rt_graph *g, const struct rt_node *n)
{
    static const int64_t turn[] = { 1, 0 };
    const struct rt_value *w = n->op == &rt_op_Transpose ? &g->value[n->in[0]] : NULL;
    const int64_t *perm;
    if (w == NULL || !w->constant || w->dtype != RT_FLOAT || w->shape.rank != 2 || n->n_steps > 0)
        return false;
    const int count = rt_attr_ints(n, "perm", &perm);
    return count == 0 || (count == 2 && memcmp(perm, turn, sizeof turn) == 0);
}

static bool is_right_of_product(const struct rt_node *n, int v)
{
    return n->op == &rt_op_MatMul && n->in[0] != v && n->in[1] == v && n->n_attr == 0;
}

static bool reads(const struct rt_node *n, int v)
{
    for (int k = 0; n->op != NULL && k < n->n_in; k++)
        if (n->in[k] == v)
            return true;
    return false;
}

enum rt_status rt_turn_weights(struct rt_pass_run *r, int node, bool *done, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const int w = g->node[node].in[0], turned = g->node[node].out[0];
    *done = false;
    if (!turns_constant(g, &g->node[node]) || g->value[turned].is_output)
        return RT_OK;
    for (int i = 0; i < g->n_nodes; i++)
        if (reads(&g->node[i], turned) && !is_right_of_product(&g->node[i], turned))
            return RT_OK; /* needs it as a tensor */
    for (int i = 0; i < g->n_nodes; i++) {
        if (!reads(&g->node[i], turned))
            continue;
        const struct rt_attr attr = { .name = "transB", .type = RT_ATTR_INT, .i = 1 };
        g->node[i].in[1] = w;
        g->value[w].uses++;
        if (!rt_match_set_attr(g, &g->node[i], attr))
            return rt_graph_nomem(g, err);
    }
    rt_graph_kill(g, node);
    *done = true;
    r->changes++;
    return RT_OK;
}
