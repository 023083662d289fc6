/* Dimensions that the file counts in 32 bits, as TensorFlow's exporters do: those that follow the
 * batch need 64 (see RT_BATCH), and so do the constants that meet them. */
#include "runtime/ops/eval.h"
#include "runtime/ops/op.h"
#include "runtime/passes/pass.h"

static bool reads_wide(const struct rt_graph *g, const struct rt_node *n)
{
    for (int k = 0; k < n->n_in; k++)
        if (rt_has_in(n, k) && g->value[n->in[k]].wide)
            return true;
    return false;
}

/* Constant v of type from as one of type to, either of them int32 and int64; -1: no memory. */
static int converted(struct rt_graph *g, int v, enum rt_dtype to)
{
    const struct rt_shape shape = g->value[v].shape;
    const int64_t n = rt_shape_numel(&shape);
    struct rt_tensor t = { to, shape, rt_graph_alloc_bulk(g, (size_t)n, rt_dtype_size(to)) };
    if (t.data == NULL)
        return -1;
    const void *from = g->value[v].data;
    for (int64_t i = 0; i < n; i++)
        if (to == RT_INT64)
            ((int64_t *)t.data)[i] = ((const int32_t *)from)[i];
        else
            ((int32_t *)t.data)[i] = (int32_t)((const int64_t *)from)[i];
    return rt_graph_add_const(g, NULL, &t);
}

enum rt_status rt_widen_inputs(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    if (!reads_wide(g, n))
        return RT_OK;
    for (int k = 0; k < n->n_in; k++) {
        if (!rt_has_in(n, k) || !g->value[n->in[k]].constant ||
            g->value[n->in[k]].dtype != RT_INT32)
            continue;
        const int v = converted(g, n->in[k], RT_INT64);
        if (v < 0)
            return rt_graph_nomem(g, err);
        n->in[k] = v;
    }
    return RT_OK;
}

bool rt_makes_wide(const struct rt_graph *g, const struct rt_node *n)
{
    /* Cast says its type; all else has the type of what it reads. */
    bool integers = false;
    for (int k = 0; k < n->n_out; k++)
        integers = integers || (rt_has_out(n, k) && g->value[n->out[k]].dtype == RT_INT64);
    return integers && n->op != &rt_op_Cast && (n->op->traits & RT_OP_OF_SHAPE) == 0 &&
           reads_wide(g, n);
}

enum rt_status rt_narrow_outputs(struct rt_graph *g, const struct rt_node *n, struct rt_error *err)
{
    for (int k = 0; k < n->n_out; k++) {
        if (!rt_has_out(n, k) || g->value[n->out[k]].dtype != RT_INT64)
            continue;
        g->value[n->out[k]].wide = rt_holds_batch(g, n->out[k]);
        if (g->value[n->out[k]].wide)
            continue;
        const int v = converted(g, n->out[k], RT_INT32);
        if (v < 0)
            return rt_graph_nomem(g, err);
        g->value[n->out[k]].dtype = RT_INT32;
        g->value[n->out[k]].data = g->value[v].data;
    }
    return RT_OK;
}
