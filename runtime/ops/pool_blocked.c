/* MaxPool and AveragePool on the channel-blocked layout: a vector holds the channels of a pixel. */
#include "runtime/ops/pool.h"

bool rt_pool_can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *x = &g->value[n->in[0]];
    return x->dtype == RT_FLOAT && x->shape.rank == 4 && !rt_has_out(n, 1);
}

/* The outputs from ow on whose windows have as many taps in the input, and as many in all: they are
 * one call. */
static int64_t alike(const struct rt_pool *p, int64_t ow)
{
    const struct rt_taps *t = p->taps[2];
    int64_t end = ow + 1;
    while (end < p->out[2] && t[end].taps == t[ow].taps && t[end].padded == t[ow].padded &&
           t[end].begin - t[end - 1].begin == p->stride[2])
        end++;
    return end - ow;
}

void rt_pool_run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pool *p = c->node->state;
    const struct rt_kernels *k = rt_kernels();
    const int64_t block = k->block, rows = p->out[1];
    const int64_t blocks = (c->in[0].shape.dim[1] + block - 1) / block;
    struct rt_window t = {
        .x_pixel = (size_t)(p->stride[2] * block),
        .x_kh = (size_t)(p->dilation[1] * p->in[2] * block),
        .x_kw = (size_t)(p->dilation[2] * block),
    };
    int64_t i, end;
    rt_worker_share(w, c->in[0].shape.dim[0] * blocks * rows, 1, &i, &end);
    for (; i < end; i++) {
        const float *x = (const float *)c->in[0].data + i / rows * p->in[1] * p->in[2] * block;
        float *y = (float *)c->out[0].data + i * p->out[2] * block;
        const struct rt_taps h = p->taps[1][i % rows];
        for (int64_t ow = 0; ow < p->out[2]; ow += (int64_t)t.pixels) {
            const struct rt_taps v = p->taps[2][ow];
            t.pixels = (size_t)alike(p, ow);
            t.kh = (size_t)(v.taps > 0 ? h.taps : 0);
            t.kw = (size_t)v.taps;
            t.x = t.kh > 0 ? x + (h.begin * p->in[2] + v.begin) * block : x;
            t.y = y + ow * block;
            t.count = (float)(p->count_pads ? h.padded * v.padded : h.taps * v.taps);
            if (p->kind == RT_POOL_MAX)
                k->max_pool(&t);
            else
                k->mean_pool(&t);
        }
    }
}
