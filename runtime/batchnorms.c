/* What the file says of each batch norm, before anything is rewritten, and what became of it. */
#include "runtime/batchnorms.h"

#include "runtime/ops/batchnorm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *name_of(const struct rt_graph *g, int node)
{
    return node >= 0 ? g->node[node].op->name : NULL;
}

/* "Conv -> BatchNormalization -> Relu+Add" */
static const char *placement(struct rt_graph *g, const struct rt_node *n)
{
    char text[256];
    const struct rt_value *x = &g->value[n->in[0]];
    const char *before = name_of(g, x->producer);
    int at = snprintf(text, sizeof text, "%s -> BatchNormalization ->",
                      before != NULL ? before
                      : x->is_input  ? "input"
                                     : "constant");
    char glue = ' ';
    for (int i = 0; i < g->n_nodes && at < (int)sizeof text - 64; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == n->out[0]) {
                at += snprintf(text + at, sizeof text - (size_t)at, "%c%.40s", glue,
                               g->node[i].op->name);
                glue = '+';
                break;
            }
    if (g->value[n->out[0]].is_output)
        snprintf(text + at, sizeof text - (size_t)at, "%coutput", glue);
    return rt_arena_strdup(g->arena, text, strlen(text));
}

/* What channel c contributes to a histogram of x, or, where scale is given, of the folded scale
 * with x the variance. */
static float value_at(const float *x, const float *scale, float epsilon, int64_t c)
{
    return scale == NULL ? x[c] : scale[c] / sqrtf(x[c] + epsilon);
}

static void spread(struct rt_histogram *h, const float *x, const float *scale, float epsilon,
                   int64_t n)
{
    bool any = false;
    for (int64_t c = 0; c < n; c++) {
        const float v = value_at(x, scale, epsilon, c);
        if (!isfinite(v))
            continue;
        h->min = any ? fminf(h->min, v) : v;
        h->max = any ? fmaxf(h->max, v) : v;
        any = true;
    }
    /* Of the extremes, the difference may be more than a float holds. */
    const double width = ((double)h->max - (double)h->min) / RT_HISTOGRAM_BINS;
    for (int64_t c = 0; c < n; c++) {
        const float v = value_at(x, scale, epsilon, c);
        if (!isfinite(v))
            continue;
        const int bin = width > 0 ? (int)(((double)v - (double)h->min) / width) : 0;
        h->count[bin < RT_HISTOGRAM_BINS ? bin : RT_HISTOGRAM_BINS - 1]++;
    }
}

static void examine(struct rt_batchnorm *b, float scale, float bias, float mean, float var)
{
    b->non_finite += !isfinite(scale) || !isfinite(bias) || !isfinite(mean) || !isfinite(var);
    b->negative_var += var < 0;
    b->tiny_var += var >= 0 && var < b->epsilon;
    float gain = fabsf(scale) / sqrtf(var + b->epsilon);
    b->dead += gain < 1e-6f;
    b->exploding += gain > 1e3f;
    b->min_var = fminf(b->min_var, var);
    b->max_var = fmaxf(b->max_var, var);
    b->min_mean = fminf(b->min_mean, mean);
    b->max_mean = fmaxf(b->max_mean, mean);
}

/* Why one that is no multiply-add of constants per channel in float stands alone. Of those that
 * are, only what --batchnorm separate asks for keeps what is said here. */
static const char *why_alone(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *x = &g->value[n->in[0]];
    for (int k = 1; k < 5; k++)
        if (!g->value[n->in[k]].constant)
            return "its statistics are not constant";
    if (!rt_batchnorm_is_spatial(n))
        return "its statistics are of single elements (spatial = 0), not of channels";
    if (!x->inferred)
        return "what can take it is known once a run has shown the sizes of the inputs";
    if (x->dtype != RT_FLOAT)
        return "it does not compute in float32";
    if (x->shape.rank < 2)
        return "its input has no axis of channels";
    return "batch norms are kept apart, as asked for";
}

/* The node's record. Sets n->batchnorm. */
static enum rt_status add(struct rt_graph *g, int node, struct rt_error *err)
{
    if (g->n_batchnorms == g->cap_batchnorms) {
        const int more = g->cap_batchnorms < 16 ? 32 : g->cap_batchnorms * 2;
        struct rt_batchnorm *b = rt_graph_alloc(g, (size_t)more, sizeof *b);
        if (b == NULL)
            return rt_graph_nomem(g, err);
        if (g->n_batchnorms > 0)
            memcpy(b, g->batchnorm, (size_t)g->n_batchnorms * sizeof *b);
        g->batchnorm = b;
        g->cap_batchnorms = more;
    }
    struct rt_node *n = &g->node[node];
    const char *where = placement(g, n);
    if (where == NULL)
        return rt_graph_nomem(g, err);
    g->batchnorm[g->n_batchnorms] = (struct rt_batchnorm){
        .name = n->name,
        .placement = where,
        .fate = rt_batchnorm_is_training(n) ? RT_BN_TRAINING : RT_BN_STANDALONE,
        .epsilon = rt_attr_float(n, "epsilon", 1e-5f),
    };
    n->batchnorm = g->n_batchnorms++;
    return RT_OK;
}

/* Fills in the health, unless it is there or cannot be told yet. */
static enum rt_status fill(struct rt_graph *g, const struct rt_node *n, struct rt_batchnorm *b,
                           struct rt_error *err)
{
    static const char *const what[] = { "X", "scale", "B", "mean", "var" };
    const float *p[5];
    const int64_t channels = rt_shape_numel(&g->value[n->in[1]].shape);
    if (b->channels > 0)
        return RT_OK;
    for (int k = 1; k < 5; k++) {
        const struct rt_value *v = &g->value[n->in[k]];
        if (!v->constant || !rt_dtype_is_float(v->dtype) || rt_shape_numel(&v->shape) != channels)
            return RT_OK; /* a wrong one is refused by infer */
    }
    for (int k = 1; k < 5; k++) {
        int64_t count;
        enum rt_status s = rt_const_floats(g, n, k, what[k], &p[k], &count, err);
        if (s != RT_OK)
            return s;
    }
    b->channels = channels;
    b->min_var = b->min_mean = HUGE_VALF;
    b->max_var = b->max_mean = -HUGE_VALF;
    for (int64_t c = 0; c < channels; c++)
        examine(b, p[1][c], p[2][c], p[3][c], p[4][c]);
    spread(&b->mean, p[3], NULL, 0, channels);
    spread(&b->var, p[4], NULL, 0, channels);
    spread(&b->gain, p[4], p[1], b->epsilon, channels);
    return RT_OK;
}

enum rt_status rt_record_batchnorms(struct rt_graph *g, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    for (int i = 0; s == RT_OK && i < g->n_nodes; i++) {
        if (g->node[i].op != &rt_op_BatchNormalization)
            continue;
        if (g->node[i].batchnorm < 0)
            s = add(g, i, err);
        if (s != RT_OK)
            break;
        const struct rt_node *n = &g->node[i];
        struct rt_batchnorm *b = &g->batchnorm[n->batchnorm];
        s = fill(g, n, b, err);
        b->why = b->fate == RT_BN_STANDALONE ? why_alone(g, n) : NULL;
        if (b->channels == 0 && g->value[n->in[0]].inferred) /* they will not become constant */
            b->channels = rt_shape_numel(&g->value[n->in[1]].shape);
    }
    return s;
}

void rt_batchnorm_became(struct rt_graph *g, const struct rt_node *n, enum rt_batchnorm_fate fate,
                         const char *into, const char *why)
{
    if (n->batchnorm < 0)
        return;
    struct rt_batchnorm *b = &g->batchnorm[n->batchnorm];
    b->fate = fate;
    b->into = into;
    b->why = why;
}
