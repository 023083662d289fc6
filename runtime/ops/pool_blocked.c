/* MaxPool and AveragePool on the channel-blocked layout: a vector holds the channels of a pixel. */
#include <math.h>

#include "runtime/ops/pool.h"

bool rt_pool_can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *x = &g->value[n->in[0]];
    return x->dtype == RT_FLOAT && x->shape.rank == 4 && !rt_has_out(n, 1);
}

#define MAX_LANES 16

/* One row of output pixels of one channel block. Inlined with lanes known, so that the loops over
 * them become vectors. x is the channel block's first pixel, y the row's. */
static inline __attribute__((always_inline)) void pool_row(const struct rt_pool *p,
                                                           enum rt_pool_kind kind, int lanes,
                                                           const float *x, float *y, int64_t oh)
{
    const struct rt_taps h = p->taps[1][oh];
    for (int64_t ow = 0; ow < p->out[2]; ow++, y += lanes) {
        const struct rt_taps v = p->taps[2][ow];
        float acc[MAX_LANES];
        for (int l = 0; l < lanes; l++)
            acc[l] = kind == RT_POOL_MAX ? -INFINITY : 0;
        for (int64_t kh = 0; kh < h.taps; kh++) {
            const float *e = x + ((h.begin + kh * p->dilation[1]) * p->in[2] + v.begin) * lanes;
            for (int64_t kw = 0; kw < v.taps; kw++, e += p->dilation[2] * lanes) {
                for (int l = 0; l < lanes; l++) {
                    /* NaN, the only number that is not itself, is the maximum. */
                    if (kind == RT_POOL_MAX)
                        acc[l] = ((e[l] > acc[l]) | (e[l] != e[l])) ? e[l] : acc[l];
                    else
                        acc[l] += e[l];
                }
            }
        }
        const float count = (float)(p->count_pads ? h.padded * v.padded : h.taps * v.taps);
        for (int l = 0; l < lanes; l++)
            y[l] = kind == RT_POOL_MAX ? acc[l] : acc[l] / count;
    }
}

void rt_pool_run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pool *p = c->node->state;
    const int lanes = rt_kernels()->block;
    const int64_t blocks = (c->in[0].shape.dim[1] + lanes - 1) / lanes;
    const int64_t rows = p->out[1];
    const float *in = c->in[0].data;
    float *out = c->out[0].data;

    int64_t i, end;
    rt_worker_share(w, c->in[0].shape.dim[0] * blocks * rows, 1, &i, &end);
    for (; i < end; i++) {
        const float *x = in + i / rows * p->in[1] * p->in[2] * lanes;
        float *y = out + i * p->out[2] * lanes;
        const int64_t oh = i % rows;
        if (p->kind == RT_POOL_MAX && lanes == 8)
            pool_row(p, RT_POOL_MAX, 8, x, y, oh);
        else if (p->kind == RT_POOL_MAX)
            pool_row(p, RT_POOL_MAX, 16, x, y, oh);
        else if (lanes == 8)
            pool_row(p, RT_POOL_AVERAGE, 8, x, y, oh);
        else
            pool_row(p, RT_POOL_AVERAGE, 16, x, y, oh);
    }
}
