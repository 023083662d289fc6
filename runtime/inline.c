/* The operator If: it is never run, only replaced by one of its branches. */
#include "runtime/inline.h"

#include "runtime/ops/op.h"

#include <string.h>

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *cond = rt_in(g, n, 0);
    if (cond->inferred && cond->dtype != RT_BOOL)
        return rt_node_fail(err, RT_E_INVALID, n, "the condition has type %s, not bool",
                            rt_dtype_name(cond->dtype));
    if (cond->constant)
        return rt_node_fail(err, RT_E_INVALID, n, "the condition has %lld elements, not one",
                            (long long)rt_shape_numel(&cond->shape));
    return rt_fail_dynamic(err, n, "the condition");
}

const struct rt_op rt_op_If = {
    .name = "If",
    .min_in = 1,
    .max_in = -1,
    .min_out = 1,
    .max_out = -1,
    .infer = infer,
};

bool rt_can_inline_if(const struct rt_graph *g, int i)
{
    const struct rt_node *n = &g->node[i];
    if (n->op != &rt_op_If)
        return false;
    const struct rt_value *cond = &g->value[n->in[0]];
    return cond->constant && cond->dtype == RT_BOOL && rt_shape_numel(&cond->shape) == 1;
}

static int copy_value(struct rt_graph *g, const struct rt_value *from)
{
    if (from->constant) {
        struct rt_tensor t = { from->dtype, from->shape, (void *)from->data };
        return rt_graph_add_const(g, from->name, &t);
    }
    return rt_graph_add_value(g, from->name);
}

/* Copies the branch's values and nodes to g; map[v] becomes what v is there. Those of the branch's
 * inputs are set. */
static enum rt_status copy_branch(struct rt_graph *g, const struct rt_graph *branch, int *map,
                                  struct rt_error *err)
{
    for (int v = 0; v < branch->n_values; v++) {
        if (map[v] == -1)
            map[v] = copy_value(g, &branch->value[v]);
        if (map[v] == -1)
            return rt_graph_nomem(g, err);
    }
    for (int i = 0; i < branch->n_nodes; i++) {
        const struct rt_node *from = &branch->node[i];
        int k = rt_graph_add_node(g, from->op, from->name, from->n_in, from->n_out);
        if (k < 0)
            return rt_graph_nomem(g, err);
        struct rt_node *to = &g->node[k];
        to->opset = from->opset;
        to->n_attr = from->n_attr;
        to->attr = from->attr;
        for (int j = 0; j < from->n_in; j++)
            to->in[j] = from->in[j] >= 0 ? map[from->in[j]] : -1;
        for (int j = 0; j < from->n_out; j++)
            to->out[j] = from->out[j] >= 0 ? map[from->out[j]] : -1;
    }
    return RT_OK;
}

enum rt_status rt_inline_if(struct rt_graph *g, int i, struct rt_error *err)
{
    struct rt_node *n = &g->node[i];
    bool taken = *(const uint8_t *)g->value[n->in[0]].data != 0;
    const struct rt_graph *then_branch = rt_attr(n, "then_branch")->g;
    const struct rt_graph *branch = taken ? then_branch : rt_attr(n, "else_branch")->g;
    const int *captured = n->in + 1 + (taken ? 0 : then_branch->n_inputs);

    int *map = rt_alloc_array((size_t)branch->n_values + 1, sizeof *map);
    if (map == NULL)
        return rt_graph_nomem(g, err);
    for (int v = 0; v < branch->n_values; v++)
        map[v] = -1;
    for (int k = 0; k < branch->n_inputs; k++)
        map[branch->input[k]] = captured[k];
    enum rt_status s = copy_branch(g, branch, map, err);
    if (s == RT_OK) {
        n = &g->node[i]; /* adding nodes may have moved it */
        n->op = NULL;
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0)
                rt_graph_replace(g, n->out[k], map[branch->output[k]]);
    }
    rt_free(map);
    return s;
}
