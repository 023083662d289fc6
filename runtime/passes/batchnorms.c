/* The batch norm report: what the file says, before passes, and what became of it. */
#include "runtime/passes/pass.h"

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

static enum rt_status record(struct rt_graph *g, struct rt_node *n, struct rt_batchnorm *b,
                             struct rt_error *err)
{
    static const char *const what[] = { "X", "scale", "B", "mean", "var" };
    *b = (struct rt_batchnorm){
        .name = n->name,
        .channels = rt_shape_numel(&g->value[n->in[1]].shape),
        .placement = placement(g, n),
        .fate = n->op->as_affine != NULL ? RT_BN_STANDALONE : RT_BN_TRAINING,
        .epsilon = rt_attr_float(n, "epsilon", 1e-5f),
        .min_var = HUGE_VALF,
        .max_var = -HUGE_VALF,
        .min_mean = HUGE_VALF,
        .max_mean = -HUGE_VALF,
    };
    if (b->placement == NULL)
        return rt_graph_nomem(g, err);
    bool training = n->opset >= 14 ? rt_attr_int(n, "training_mode", 0) != 0
                                   : rt_has_out(n, 1) || rt_has_out(n, 2);
    if (training)
        b->fate = RT_BN_TRAINING;
    else
        b->why = "its type or its statistics do not make it a multiply-add per channel";
    const float *p[5];
    for (int k = 1; k < 5; k++) {
        int64_t count;
        if (!g->value[n->in[k]].constant) {
            b->why = training ? NULL : "its statistics are not constant";
            b->min_var = b->max_var = b->min_mean = b->max_mean = 0;
            return RT_OK;
        }
        enum rt_status s = rt_const_floats(g, n, k, what[k], &p[k], &count, err);
        if (s != RT_OK)
            return s;
    }
    for (int64_t c = 0; c < b->channels; c++)
        examine(b, p[1][c], p[2][c], p[3][c], p[4][c]);
    spread(&b->mean, p[3], NULL, 0, b->channels);
    spread(&b->var, p[4], NULL, 0, b->channels);
    spread(&b->gain, p[4], p[1], b->epsilon, b->channels);
    return RT_OK;
}

enum rt_status rt_record_batchnorms(struct rt_graph *g, struct rt_error *err)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += g->node[i].op == &rt_op_BatchNormalization;
    g->batchnorm = rt_graph_alloc(g, (size_t)n, sizeof *g->batchnorm);
    if (g->batchnorm == NULL)
        return rt_graph_nomem(g, err);
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->node[i].op != &rt_op_BatchNormalization)
            continue;
        enum rt_status s = record(g, &g->node[i], &g->batchnorm[g->n_batchnorms], err);
        if (s != RT_OK)
            return s;
        g->node[i].batchnorm = g->n_batchnorms++;
    }
    return RT_OK;
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
