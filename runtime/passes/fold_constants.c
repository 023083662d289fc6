/* Computes what can be known while compiling; infers the type and shape of the rest. */
#include "runtime/inline.h"
#include "runtime/ops/eval.h"
#include "runtime/ops/op.h"
#include "runtime/passes/pass.h"

/* The result stays an operation of the run when it follows the batch or would only take up room:
 * a constant that is much larger than what it is made of. */
static bool worth_folding(const struct rt_graph *g, const struct rt_node *n)
{
    static const int64_t small = 1 << 20;
    int64_t in = 0, out = 0, count;
    for (int k = 0; k < n->n_out; k++) {
        const struct rt_value *v = n->out[k] >= 0 ? &g->value[n->out[k]] : NULL;
        if (v == NULL)
            continue;
        if (rt_shape_batch_axis(&v->shape) >= 0)
            return false;
        out += rt_shape_count(&v->shape, &count) ? count : INT64_MAX / 64;
    }
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0)
            in += rt_shape_numel(&g->value[n->in[k]].shape);
    return out <= small || out / 4 <= in;
}

static bool has_inferred_inputs(const struct rt_graph *g, const struct rt_node *n)
{
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && !g->value[n->in[k]].inferred)
            return false;
    return true;
}

static bool is_inferred(const struct rt_graph *g, const struct rt_node *n)
{
    for (int k = 0; k < n->n_out; k++)
        if (n->out[k] >= 0 && !g->value[n->out[k]].inferred)
            return false;
    return true;
}

enum rt_status rt_pass_fold_constants(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_node *n = &g->node[node];
    if (rt_can_inline_if(g, node)) {
        r->changes++;
        return rt_inline_if(g, node, err);
    }
    if (!has_inferred_inputs(g, n))
        return RT_OK; /* behind what has just been put in: next round */
    if (!is_inferred(g, n)) {
        enum rt_status s = rt_widen_inputs(g, n, err);
        if (s == RT_OK)
            s = n->op->infer(g, n, err);
        if (s != RT_OK)
            return s;
        r->changes++;
    }
    const bool folds = !(r->keep_quantised && n->op == &rt_op_DequantizeLinear) &&
                       n->n_steps == 0 && rt_can_eval(g, n) && worth_folding(g, n);
    const bool wide = rt_makes_wide(g, n);
    if (rt_depends_on_batch(g, n) || (wide && !folds))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "it computes with the number of samples");
    if (!folds)
        return RT_OK;
    bool turned;
    enum rt_status s = rt_turn_weights(r, node, &turned, err);
    if (s != RT_OK || turned)
        return s;
    r->changes++;
    s = rt_eval(g, node, r->threads, err);
    return s == RT_OK && wide ? rt_narrow_outputs(g, n, err) : s;
}
