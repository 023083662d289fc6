/* Nodes that are another operator's special case, which is known better:
 *
 *     ReduceMean over all spatial axes      GlobalAveragePool (and a Reshape without keepdims)
 *     Pad by nothing                        goes
 *     Pad by zeros, then Conv               Conv that pads
 *     Pad by zeros, then AveragePool        AveragePool that pads and counts its padding */
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

#include <string.h>

/* A constant of int64. */
static int add_ints(struct rt_graph *g, int n, const int64_t *ints)
{
    int64_t *data = rt_graph_alloc_bulk(g, (size_t)n, sizeof *data);
    const int64_t count = n;
    if (data == NULL)
        return -1;
    memcpy(data, ints, (size_t)n * sizeof *data);
    const struct rt_tensor t = { RT_INT64, rt_shape_of(1, &count), data };
    return rt_graph_add_const(g, NULL, &t);
}

static enum rt_status pool_mean(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const struct rt_node *n = &g->node[node];
    const struct rt_shape x = g->value[n->in[0]].shape;
    const struct rt_shape y = g->value[n->out[0]].shape;
    const int64_t *list;
    int64_t count;
    unsigned axes = 0;
    if (g->value[n->in[0]].dtype != RT_FLOAT || x.rank != 4 || rt_shape_batch_axis(&x) > 0 ||
        rt_attr_or_const(g, n, "axes", 1, &list, &count, NULL) != RT_OK || count != 2)
        return RT_OK;
    for (int i = 0; i < 2; i++)
        axes |= 1u << (list[i] < 0 ? list[i] + x.rank : list[i]);
    if (axes != (1u << 2 | 1u << 3))
        return RT_OK;
    const int made = rt_match_become(g, node, &rt_op_GlobalAveragePool, n->in[0], 1);
    if (made < 0)
        return rt_graph_nomem(g, err);
    r->changes++;
    if (y.rank == 4)
        return rt_graph_tidy(g, err);
    /* Reshape's zeros are sizes that stay. */
    const struct rt_shape pooled = { 4, { x.dim[0], x.dim[1], 1, 1 } };
    const int v = rt_graph_add_typed(g, RT_FLOAT, &pooled);
    const int target = add_ints(g, 2, (const int64_t[]){ 0, 0 });
    const int reshape = rt_graph_add_node(g, &rt_op_Reshape, g->node[made].name, 2, 1);
    if (v < 0 || target < 0 || reshape < 0)
        return rt_graph_nomem(g, err);
    g->node[reshape].in[0] = v;
    g->node[reshape].in[1] = target;
    g->node[reshape].out[0] = g->node[made].out[0];
    g->node[made].out[0] = v;
    return rt_graph_tidy(g, err);
}

/* The margins of node n, a Pad, on four axes, first all in front, then all behind. False: they are
 * not constant, or what is put there is not 0. */
static bool zero_margins(struct rt_graph *g, const struct rt_node *n, int64_t margin[8])
{
    const int rank = g->value[n->in[0]].shape.rank;
    const int64_t *pads;
    int64_t count;
    float value = n->opset < 11 ? rt_attr_float(n, "value", 0) : 0;
    const char *name = n->opset < 2 ? "paddings" : "pads";
    if (rank != 4 || g->value[n->in[0]].dtype != RT_FLOAT || rt_has_in(n, 3) ||
        strcmp(rt_attr_string(n, "mode", "constant"), "constant") != 0 ||
        rt_attr_or_const(g, n, name, 1, &pads, &count, NULL) != RT_OK || count != 8)
        return false;
    if (rt_has_in(n, 2) && !rt_match_scalar(g, n->in[2], &value))
        return false;
    memcpy(margin, pads, 8 * sizeof *margin);
    return value == 0.0f;
}

/* The only reader of v, an index; -1: it has others. */
static int only_reader(const struct rt_graph *g, int v)
{
    if (g->value[v].uses != 1 || g->value[v].is_output)
        return -1;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; g->node[i].op != NULL && k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == v)
                return i;
    return -1;
}

/* True when the node can take on margins of zeros in front of its input. */
static bool takes_margins(const struct rt_node *n)
{
    if (strcmp(rt_attr_string(n, "auto_pad", "NOTSET"), "NOTSET") != 0)
        return false;
    if (n->op == &rt_op_Conv)
        return true;
    if (n->op != &rt_op_AveragePool || rt_attr_int(n, "ceil_mode", 0) != 0)
        return false;
    const int64_t *pads;
    const int count = rt_attr_ints(n, "pads", &pads);
    for (int i = 0; i < count; i++)
        if (pads[i] != 0 && rt_attr_int(n, "count_include_pad", 0) == 0)
            return false; /* its own padding does not count, this would */
    return true;
}

/* Gives the node those margins, beside those it has. */
static bool add_margins(struct rt_graph *g, struct rt_node *n, const int64_t margin[8])
{
    const int64_t *old;
    int64_t *pads = rt_graph_alloc(g, 4, sizeof *pads);
    struct rt_attr *attr = rt_graph_alloc(g, (size_t)n->n_attr + 2, sizeof *attr);
    if (pads == NULL || attr == NULL)
        return false;
    const int count = rt_attr_ints(n, "pads", &old);
    const int64_t more[4] = { margin[2], margin[3], margin[6], margin[7] };
    for (int i = 0; i < 4; i++)
        pads[i] = more[i] + (count == 4 ? old[i] : 0);
    int at = 0;
    for (int i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, "pads") != 0 &&
            strcmp(n->attr[i].name, "count_include_pad") != 0)
            attr[at++] = n->attr[i];
    attr[at++] = (struct rt_attr){ .name = "pads", .type = RT_ATTR_INTS, .n = 4, .ints = pads };
    if (n->op == &rt_op_AveragePool)
        attr[at++] = (struct rt_attr){ .name = "count_include_pad", .type = RT_ATTR_INT, .i = 1 };
    n->attr = attr;
    n->n_attr = at;
    return true;
}

static enum rt_status merge_pad(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_node *n = &g->node[node];
    int64_t margin[8];
    if (!zero_margins(g, n, margin))
        return RT_OK;
    bool any = margin[0] != 0 || margin[1] != 0 || margin[4] != 0 || margin[5] != 0;
    bool spatial = false, cuts = false;
    for (int i = 0; i < 8; i++) {
        spatial |= i % 4 > 1 && margin[i] != 0;
        cuts |= margin[i] < 0;
    }
    if (any || (!spatial && g->value[n->out[0]].is_output))
        return RT_OK;
    if (spatial) {
        const int after = only_reader(g, n->out[0]);
        struct rt_node *reader = after >= 0 ? &g->node[after] : NULL;
        if (cuts || reader == NULL || reader->in[0] != n->out[0] || !takes_margins(reader))
            return RT_OK;
        if (!add_margins(g, reader, margin))
            return rt_graph_nomem(g, err);
    }
    rt_graph_replace(g, n->out[0], n->in[0]);
    rt_graph_kill(g, node);
    r->changes++;
    return rt_graph_tidy(g, err);
}

enum rt_status rt_pass_simplify(struct rt_pass_run *r, int node, struct rt_error *err)
{
    const struct rt_node *n = &r->g->node[node];
    if (n->n_steps > 0)
        return RT_OK;
    if (n->op == &rt_op_ReduceMean)
        return pool_mean(r, node, err);
    if (n->op == &rt_op_Pad)
        return merge_pad(r, node, err);
    return RT_OK;
}
