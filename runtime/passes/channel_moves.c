/* Moves of whole channels become ChannelSelect, which works on channel-blocked tensors whatever the
 * numbers of channels are, and one after the other become one:
 *
 *     Concat(a, b) ─ Reshape ─ Transpose ─ Reshape ─ Slice      what a shuffle unit begins with
 *     ChannelSelect(a, b)
 *
 * A Concat alone stays where it copies whole blocks. */
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

#include <string.h>

/* Node n has one float output of rank 4 (or so) with axis 1 known. */
static bool has_channels(const struct rt_graph *g, int v)
{
    const struct rt_value *x = &g->value[v];
    return x->dtype == RT_FLOAT && x->shape.rank == 4 && !rt_is_batched(x->shape.dim[1]) &&
           x->shape.dim[1] <= INT32_MAX;
}

/* Node i becomes a ChannelSelect of values in[0..n_in), with what *channels says; the table is the
 * graph's. */
static enum rt_status become(struct rt_pass_run *r, int i, int n_in, const int *in,
                             const int64_t *channels, int64_t count, int out, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const int made = rt_graph_add_node(g, &rt_op_ChannelSelect, g->node[i].name, n_in, 1);
    struct rt_attr attr = { .name = "channels", .type = RT_ATTR_INTS, .n = (int)count,
                            .ints = channels };
    if (made < 0 || !rt_match_set_attr(g, &g->node[made], attr))
        return rt_graph_nomem(g, err);
    for (int k = 0; k < n_in; k++)
        g->node[made].in[k] = in[k];
    g->node[made].out[0] = out;
    r->changes++;
    return RT_OK;
}

static int64_t *new_table(struct rt_graph *g, int64_t count)
{
    return rt_graph_alloc(g, (size_t)count, sizeof(int64_t));
}

/* --- single nodes --------------------------------------------------------------------------- */

/* Reshape [N,C,H,W] -> [N,G,C/G,H,W], Transpose of axes 1 and 2, Reshape back; node is the last. */
static enum rt_status from_shuffle(struct rt_pass_run *r, int node, struct rt_error *err)
{
    static const int64_t swapped[] = { 0, 2, 1, 3, 4 };
    struct rt_graph *g = r->g;
    const struct rt_node *last = &g->node[node];
    const struct rt_node *turn = rt_match_only(g, last->in[0], &rt_op_Transpose);
    const struct rt_node *first =
        turn != NULL ? rt_match_only(g, turn->in[0], &rt_op_Reshape) : NULL;
    const int64_t *perm;
    if (first == NULL || !has_channels(g, first->in[0]) || !has_channels(g, last->out[0]) ||
        rt_attr_ints(turn, "perm", &perm) != 5 || memcmp(perm, swapped, sizeof swapped) != 0)
        return RT_OK;
    const int x = first->in[0], y = last->out[0];
    const struct rt_shape s = g->value[x].shape, mid = g->value[turn->in[0]].shape;
    if (!rt_shape_equal(&s, &g->value[y].shape) || mid.rank != 5 || mid.dim[0] != s.dim[0] ||
        mid.dim[3] != s.dim[2] || mid.dim[4] != s.dim[3])
        return RT_OK;
    int64_t *table = new_table(g, s.dim[1]);
    if (table == NULL)
        return rt_graph_nomem(g, err);
    for (int64_t c = 0; c < s.dim[1]; c++)
        table[c] = c % mid.dim[1] * mid.dim[2] + c / mid.dim[1];
    enum rt_status status = become(r, node, 1, &x, table, s.dim[1], y, err);
    if (status != RT_OK)
        return status;
    rt_graph_kill(g, node);
    return rt_graph_tidy(g, err);
}

/* Channels from first on of node's input 0 are its output k. */
static enum rt_status take_range(struct rt_pass_run *r, int node, int k, int64_t first,
                                 struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const int x = g->node[node].in[0], y = g->node[node].out[k];
    const int64_t count = g->value[y].shape.dim[1];
    int64_t *table = new_table(g, count);
    if (table == NULL)
        return rt_graph_nomem(g, err);
    for (int64_t c = 0; c < count; c++)
        table[c] = first + c;
    return become(r, node, 1, &x, table, count, y, err);
}

static enum rt_status from_slice(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const struct rt_node *n = &g->node[node];
    const int64_t *start, *axis, *step;
    int64_t starts, axes, steps = -1;
    if (!has_channels(g, n->in[0]) || !has_channels(g, n->out[0]) ||
        rt_attr_or_const(g, n, "starts", 1, &start, &starts, NULL) != RT_OK || starts != 1 ||
        rt_attr_or_const(g, n, "axes", 3, &axis, &axes, NULL) != RT_OK || axes != 1 ||
        rt_const_ints(g, n, 4, "steps", &step, &steps, NULL) != RT_OK ||
        (steps > 0 && step[0] != 1) || (axis[0] != 1 && axis[0] != -3))
        return RT_OK;
    const int64_t channels = g->value[n->in[0]].shape.dim[1];
    int64_t first = start[0] < 0 ? start[0] + channels : start[0];
    first = first < 0 ? 0 : first;
    if (first + g->value[n->out[0]].shape.dim[1] > channels)
        return RT_OK; /* nothing at all is left */
    enum rt_status s = take_range(r, node, 0, first, err);
    if (s != RT_OK)
        return s;
    rt_graph_kill(g, node);
    return rt_graph_tidy(g, err);
}

static enum rt_status from_split(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const int64_t axis = rt_attr_int(&g->node[node], "axis", 0);
    const int n_out = g->node[node].n_out;
    if (!has_channels(g, g->node[node].in[0]) || (axis != 1 && axis != -3))
        return RT_OK;
    for (int k = 0; k < n_out; k++)
        if (g->node[node].out[k] < 0)
            return RT_OK; /* where the next part begins is not known */
    int64_t first = 0;
    for (int k = 0; k < n_out; k++) {
        enum rt_status s = take_range(r, node, k, first, err);
        if (s != RT_OK)
            return s;
        first += g->value[g->node[node].out[k]].shape.dim[1];
    }
    rt_graph_kill(g, node);
    return rt_graph_tidy(g, err);
}

/* Whether some input but the last ends within a block. */
static bool cuts_blocks(const struct rt_graph *g, const struct rt_node *n)
{
    for (int i = 0; i + 1 < n->n_in; i++)
        if (g->value[n->in[i]].shape.dim[1] % rt_kernels()->block != 0)
            return true;
    return false;
}

static bool is_concat(const struct rt_graph *g, const struct rt_node *n)
{
    const int64_t axis = rt_attr_int(n, "axis", 1);
    if (n->op != &rt_op_Concat || n->n_steps > 0 || (axis != 1 && axis != -3) ||
        !has_channels(g, n->out[0]))
        return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] < 0 || g->value[n->in[i]].constant)
            return false;
    return true;
}

static enum rt_status from_concat(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const struct rt_node *n = &g->node[node];
    if (!is_concat(g, n) || !cuts_blocks(g, n))
        return RT_OK;
    const int64_t count = g->value[n->out[0]].shape.dim[1];
    int64_t *table = new_table(g, count);
    if (table == NULL)
        return rt_graph_nomem(g, err);
    for (int64_t c = 0; c < count; c++)
        table[c] = c;
    enum rt_status s = become(r, node, n->n_in, n->in, table, count, n->out[0], err);
    if (s != RT_OK)
        return s;
    rt_graph_kill(g, node);
    return rt_graph_tidy(g, err);
}

/* --- one after the other --------------------------------------------------------------------- */

/* Whether every reader of value v selects from it. */
static bool only_selected(const struct rt_graph *g, int v)
{
    if (g->value[v].is_output)
        return false;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; g->node[i].op != NULL && k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == v && g->node[i].op != &rt_op_ChannelSelect)
                return false;
    return true;
}

/* A ChannelSelect of one input that a ChannelSelect or Concat makes selects from that one's inputs
 * itself, if that one then goes. */
static enum rt_status from_two(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const int v = g->node[node].in[0], at = g->value[v].producer;
    const struct rt_node *before = at >= 0 ? &g->node[at] : NULL;
    const int64_t *mine, *theirs = NULL;
    if (g->node[node].n_in != 1 || before == NULL || before->op == NULL || before->n_steps > 0 ||
        (before->op != &rt_op_ChannelSelect && !is_concat(g, before)) || !only_selected(g, v))
        return RT_OK;
    const int64_t count = rt_attr_ints(&g->node[node], "channels", &mine);
    if (before->op == &rt_op_ChannelSelect)
        rt_attr_ints(before, "channels", &theirs);
    int64_t *table = new_table(g, count);
    if (table == NULL)
        return rt_graph_nomem(g, err);
    for (int64_t c = 0; c < count; c++)
        table[c] = theirs != NULL ? theirs[mine[c]] : mine[c];
    enum rt_status s = become(r, node, before->n_in, before->in, table, count,
                              g->node[node].out[0], err);
    if (s != RT_OK)
        return s;
    rt_graph_kill(g, node);
    return rt_graph_tidy(g, err);
}

enum rt_status rt_pass_channel_moves(struct rt_pass_run *r, int node, struct rt_error *err)
{
    const struct rt_node *n = &r->g->node[node];
    if (n->n_steps > 0)
        return RT_OK;
    if (n->op == &rt_op_Reshape)
        return from_shuffle(r, node, err);
    if (n->op == &rt_op_Slice)
        return from_slice(r, node, err);
    if (n->op == &rt_op_Split)
        return from_split(r, node, err);
    if (n->op == &rt_op_Concat)
        return from_concat(r, node, err);
    if (n->op == &rt_op_ChannelSelect)
        return from_two(r, node, err);
    return RT_OK;
}
