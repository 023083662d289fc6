/* Batch norm, and whatever else is a multiply-add per channel, goes into its neighbours' weights:
 *
 *     Conv(w, b) -> x * s + t        =  Conv(w * s, b * s + t)
 *     x * s + t -> Conv(w, b)        =  Conv(w * s, b + sum w * t)   where nothing is padded
 *
 * What finds no neighbour becomes a ChannelAffine, which later fuses like an activation. */
#include "runtime/passes/pass.h"

#include <math.h>

struct affine {
    int data; /* index into the node's in[] */
    float *scale, *shift;
};

static bool all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* The node before takes it. */
static enum rt_status fold_back(struct rt_pass_run *r, int node, const struct affine *a,
                                const char **why, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_node *n = &g->node[node];
    const struct rt_value *x = &g->value[n->in[a->data]];
    if (x->producer < 0) {
        *why = "its input is an input of the model";
        return RT_E_UNSUPPORTED;
    }
    struct rt_node *before = &g->node[x->producer];
    if (before->op->absorb_affine == NULL || before->n_steps > 0) {
        *why = "the node before it has no weights to take it";
        return RT_E_UNSUPPORTED;
    }
    if (x->uses != 1) {
        *why = "the node before it has other readers";
        return RT_E_UNSUPPORTED;
    }
    if (before->out[0] != n->in[a->data] || !rt_shape_equal(&x->shape, &g->value[n->out[0]].shape))
        return RT_E_UNSUPPORTED;
    enum rt_status s = before->op->absorb_affine(g, before, a->scale, a->shift, err);
    if (s != RT_OK) {
        *why = "the weights of the node before it are not constant";
        return s;
    }
    before = &g->node[x->producer];
    n = &g->node[node];
    rt_batchnorm_became(g, n, RT_BN_FOLDED_BACK, before->name, NULL);
    rt_graph_replace(g, n->out[0], n->in[a->data]);
    rt_graph_kill(g, node);
    return RT_OK;
}

/* The only one who reads v, as its first input; -1: there is none, or there are others. */
static int only_reader(const struct rt_graph *g, int v)
{
    if (g->value[v].uses != 1 || g->value[v].is_output)
        return -1;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->node[i].op != NULL && rt_has_in(&g->node[i], 0) && g->node[i].in[0] == v)
            return i;
    return -1;
}

/* Node is a view of [N, C, ...] as [N, columns]: each channel becomes *repeat columns. */
static bool is_flatten(const struct rt_graph *g, int node, int64_t channels, int64_t *repeat)
{
    const struct rt_node *n = &g->node[node];
    if ((n->op->traits & RT_OP_VIEW) == 0)
        return false;
    const struct rt_shape *x = &g->value[n->in[0]].shape, *y = &g->value[n->out[0]].shape;
    if (y->rank != 2 || y->dim[0] != x->dim[0] || channels == 0 || rt_is_batched(y->dim[1]))
        return false;
    *repeat = y->dim[1] / channels;
    return true;
}

/* scale and then shift of channels, each written repeat times, to be freed with rt_free(); NULL when
 * there is no memory. */
static float *spread(const struct affine *a, int64_t channels, int64_t repeat)
{
    const int64_t columns = channels * repeat;
    float *to = rt_alloc_array((size_t)columns * 2 + 1, sizeof *to);
    for (int64_t i = 0; to != NULL && i < columns; i++) {
        to[i] = a->scale[i / repeat];
        to[columns + i] = a->shift[i / repeat];
    }
    return to;
}

/* The only reader takes it, also from behind a Flatten. */
static enum rt_status fold_forward(struct rt_pass_run *r, int node, const struct affine *a,
                                   int64_t channels, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    int after = only_reader(g, g->node[node].out[0]);
    int64_t repeat = 1;
    if (after >= 0 && is_flatten(g, after, channels, &repeat))
        after = only_reader(g, g->node[after].out[0]);
    if (after < 0 || g->node[after].op->absorb_input_affine == NULL)
        return RT_E_UNSUPPORTED;
    float *scale = spread(a, channels, repeat);
    if (scale == NULL)
        return rt_graph_nomem(g, err);
    enum rt_status s = g->node[after].op->absorb_input_affine(g, &g->node[after], scale,
                                                              scale + channels * repeat, err);
    rt_free(scale);
    if (s != RT_OK)
        return s;
    struct rt_node *n = &g->node[node];
    rt_batchnorm_became(g, n, RT_BN_FOLDED_FORWARD, g->node[after].name, NULL);
    rt_graph_replace(g, n->out[0], n->in[a->data]);
    rt_graph_kill(g, node);
    return RT_OK;
}

static enum rt_status stand_alone(struct rt_pass_run *r, int node, const struct affine *a,
                                  int64_t channels, const char *why, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_shape shape = rt_shape_of(1, &channels);
    float *scale, *shift;
    int vs = rt_graph_add_floats(g, &shape, &scale), vt = rt_graph_add_floats(g, &shape, &shift);
    if (vs < 0 || vt < 0)
        return rt_graph_nomem(g, err);
    for (int64_t c = 0; c < channels; c++) {
        scale[c] = a->scale[c];
        shift[c] = a->shift[c];
    }
    int in = g->node[node].in[a->data], out = g->node[node].out[0];
    int made = rt_graph_add_node(g, &rt_op_ChannelAffine, g->node[node].name, 3, 1);
    if (made < 0)
        return rt_graph_nomem(g, err);
    struct rt_node *n = &g->node[node], *m = &g->node[made];
    m->in[0] = in;
    m->in[1] = vs;
    m->in[2] = vt;
    m->out[0] = out;
    m->batchnorm = n->batchnorm;
    g->value[in].uses++;
    g->value[out].producer = made;
    rt_batchnorm_became(g, n, RT_BN_STANDALONE, NULL, why);
    rt_graph_kill(g, node);
    return RT_OK;
}

/* Value v's producer takes steps, and could take what makes y of v for one: as a ChannelAffine. */
static bool can_be_step(const struct rt_graph *g, int v, int y)
{
    const struct rt_value *x = &g->value[v];
    return x->producer >= 0 && x->uses == 1 && g->node[x->producer].out[0] == v &&
           (g->node[x->producer].op->traits & RT_OP_EPILOGUE) != 0 &&
           g->node[x->producer].n_steps < RT_MAX_STEPS &&
           rt_shape_equal(&x->shape, &g->value[y].shape);
}

enum rt_status rt_pass_fold_affine(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_node *n = &g->node[node];
    bool is_norm = n->op == &rt_op_BatchNormalization;
    if (n->op->as_affine == NULL || n->n_steps > 0)
        return RT_OK;
    if (is_norm && r->options->batchnorm == RT_BATCHNORM_SEPARATE)
        return RT_OK; /* asked for, to measure what it costs */
    const struct rt_value *y = &g->value[n->out[0]];
    if (y->dtype != RT_FLOAT || y->shape.rank < 2 || rt_is_batched(y->shape.dim[1]))
        return RT_OK;
    int64_t channels = y->shape.dim[1];
    const size_t limit = r->options->memory_limit;
    if (limit != 0 && (size_t)channels > limit / (2 * sizeof(float)))
        return RT_OK; /* there is no memory for y either, which is found out later */
    struct affine a;
    a.scale = rt_alloc_array((size_t)channels * 2 + 1, sizeof(float));
    if (a.scale == NULL)
        return rt_graph_nomem(g, err);
    a.shift = a.scale + channels;
    enum rt_status s = RT_OK;
    if (!n->op->as_affine(g, n, channels, a.scale, a.shift, &a.data))
        goto out;
    const char *why = "nothing before it can take it";
    if (!all_finite(a.scale, 2 * channels)) {
        /* A zero weight times infinity is not what the standard says. */
        rt_batchnorm_became(g, n, RT_BN_STANDALONE, NULL, "its statistics are not finite");
        goto out;
    }
    s = fold_back(r, node, &a, &why, err);
    if (s == RT_E_UNSUPPORTED)
        s = fold_forward(r, node, &a, channels, err);
    if (s == RT_E_UNSUPPORTED) {
        s = RT_OK;
        if (n->op == &rt_op_ChannelAffine || (!is_norm && !can_be_step(g, n->in[a.data], n->out[0])))
            goto out;
        s = stand_alone(r, node, &a, channels, why, err);
    }
    if (s == RT_OK)
        r->changes++;
out:
    rt_free(a.scale);
    return s;
}
