/* ChannelNorm, the runtime's own: each pixel's channels (axis 1) minus their mean and divided by
 * their deviation, in float. What a LayerNormalization over channels that lie behind becomes when
 * they are brought to the front. */
#include "runtime/ops/op.h"

#include <math.h>

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    return rt_infer_same(g, n, err);
}

static float epsilon_of(const struct rt_node *n)
{
    return rt_attr_float(n, "epsilon", 1e-5f);
}

/* Pixels of the plain form that are worked on together. */
#define RUN 64

/* sum[p] over the channels of pixels x[p], each of them step floats after the other. */
static void add_up(float *sum, const float *x, int64_t pixels, int64_t channels, int64_t step,
                   const float *mean)
{
    for (int64_t p = 0; p < pixels; p++)
        sum[p] = 0.0f;
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t p = 0; p < pixels; p++) {
            const float d = x[c * step + p];
            sum[p] += mean == NULL ? d : (d - mean[p]) * (d - mean[p]);
        }
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *s = &c->in[0].shape;
    const int64_t channels = s->dim[1], step = rt_shape_range(s, 2, s->rank);
    const int64_t runs = (step + RUN - 1) / RUN;
    const float epsilon = epsilon_of(c->node);
    int64_t begin, end;
    rt_worker_share(w, s->dim[0] * runs, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i % runs * RUN, at = i / runs * channels * step + first;
        const int64_t pixels = step - first < RUN ? step - first : RUN;
        const float *x = (const float *)c->in[0].data + at;
        float *y = (float *)c->out[0].data + at;
        float mean[RUN], factor[RUN];
        add_up(mean, x, pixels, channels, step, NULL);
        for (int64_t p = 0; p < pixels; p++)
            mean[p] /= (float)channels;
        add_up(factor, x, pixels, channels, step, mean);
        for (int64_t p = 0; p < pixels; p++)
            factor[p] = 1.0f / sqrtf(factor[p] / (float)channels + epsilon);
        for (int64_t ch = 0; ch < channels; ch++) {
            for (int64_t p = 0; p < pixels; p++)
                y[ch * step + p] = (x[ch * step + p] - mean[p]) * factor[p];
            rt_steps_plain(c, y + ch * step, i / runs, ch, at + ch * step, pixels);
        }
    }
}

static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    return g->value[n->in[0]].shape.rank == 4;
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *s = &c->in[0].shape;
    const int64_t block = rt_kernels()->block, blocks = (s->dim[1] + block - 1) / block;
    const int64_t pixels = s->dim[2] * s->dim[3], runs = (pixels + RUN - 1) / RUN;
    int64_t begin, end;
    rt_worker_share(w, s->dim[0] * runs, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i % runs * RUN, sample = i / runs;
        const int64_t at = (sample * blocks * pixels + first) * block;
        const struct rt_channel_norm norm = {
            .x = (const float *)c->in[0].data + at,
            .y = (float *)c->out[0].data + at,
            .pixels = (size_t)(pixels - first < RUN ? pixels - first : RUN),
            .channels = (size_t)s->dim[1],
            .step = (size_t)(pixels * block),
            .epsilon = epsilon_of(c->node),
        };
        rt_kernels()->channel_norm(&norm);
        for (int64_t k = 0; c->node->n_steps > 0 && k < blocks; k++)
            rt_steps_blocked(c, norm.y + k * pixels * block, sample, k, at + k * pixels * block,
                             (int64_t)norm.pixels);
    }
}

#define COMMON                                                                                     \
    .name = "ChannelNorm", .domain = "ai.convd", .min_in = 1, .max_in = 1, .min_out = 1,           \
    .max_out = 1, .traits = RT_OP_EPILOGUE | RT_OP_INPLACE | RT_OP_FLUSHES, .infer = infer

static const struct rt_op blocked = { COMMON, .run = run_blocked };
const struct rt_op rt_op_ChannelNorm = { COMMON, .run = run, .can_block = can_block,
                                         .blocked = &blocked };
