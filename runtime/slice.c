/* Where to go over from samples to the batch: counts the bytes that each node moves either way. */
#include "runtime/slice.h"

#include "runtime/ops/op.h"
#include "runtime/plan.h"

/* What a batch's values may take and still be in a cache when the next node reads them. */
#define CACHED_BYTES (256 * 1024)
/* A byte of weights that is read once more counts less than one of activations, which is written
 * and read, and of which a batch shares none. */
#define WEIGHT_SHARE 0.5
/* What it costs to begin with a node once more, in bytes that are moved meanwhile. */
#define START_BYTES 4096.0

/* Whether v is [N, ...], so that a sample is a stretch of it. */
static bool has_samples(const struct rt_graph *g, int v)
{
    const struct rt_shape *s = &g->value[v].shape;
    return s->rank > 0 && s->dim[0] == RT_BATCH;
}

/* Nodes in layouts of our own keep samples apart, others where they say so; and scratch has to be
 * cut up too. */
static bool keeps_samples_apart(const struct rt_graph *g, const struct rt_node *n)
{
    if (n->out[0] < 0 || (n->scratch > 0 && n->scratch_each == 0) ||
        (g->value[n->out[0]].layout == RT_PLAIN &&
         (n->op->traits & (RT_OP_SAMPLES | RT_OP_VIEW)) == 0))
        return false;
    for (int k = 0; k < n->n_out; k++)
        if (n->out[k] >= 0 && !has_samples(g, n->out[k]))
            return false;
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && !g->value[n->in[k]].constant && !has_samples(g, n->in[k]))
            return false;
    return true;
}

/* Bytes of a sample that the node reads and writes, if a batch of them does not stay in cache. */
static double activation_bytes(const struct rt_graph *g, const struct rt_node *n, int64_t batch)
{
    double sum = 0;
    if (n->op->run == NULL)
        return 0;
    for (int k = 0; k < n->n_in + n->n_out; k++) {
        const int v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
        size_t bytes;
        if (v >= 0 && !g->value[v].constant && !g->value[v].streamed &&
            rt_value_bytes(&g->value[v], 1, &bytes))
            sum += (double)bytes;
    }
    return sum * (double)batch > CACHED_BYTES ? sum : 0;
}

int rt_slice_cut(const struct rt_graph *g, int64_t max_batch)
{
    double gain = 0, best = 0;
    int cut = 0;
    if (!g->batched || max_batch == 1)
        return 0;
    for (int i = 0; i < g->n_nodes && keeps_samples_apart(g, &g->node[i]); i++) {
        const struct rt_node *n = &g->node[i];
        gain += activation_bytes(g, n, max_batch) - WEIGHT_SHARE * (double)n->weight_bytes -
                START_BYTES;
        if (gain > best && !g->value[n->out[0]].streamed) {
            best = gain;
            cut = i + 1;
        }
    }
    return cut;
}
