/* The steps that are fused into a node: applied to a piece of its output while it is in cache.
 * An affine step rounds the product and then the sum, as the Mul and Add that it stands for. */
#include "runtime/ops/steps.h"

#include <math.h>
#include <string.h>

static bool is_clamp(const struct rt_step *s)
{
    return s->kind == RT_STEP_ACTIVATION && (s->act == RT_ACT_RELU || s->act == RT_ACT_CLIP);
}

struct rt_epilogue rt_epilogue_clamp(const struct rt_node *n)
{
    struct rt_epilogue e = { .residual = -1 };
    if (n->n_steps > 0 && is_clamp(&n->step[0])) {
        bool relu = n->step[0].act == RT_ACT_RELU;
        e.clamp = true;
        e.lo = relu ? 0.0f : n->step[0].a;
        e.hi = relu ? INFINITY : n->step[0].b;
        e.rest = 1;
    }
    return e;
}

struct rt_epilogue rt_epilogue_of(const struct rt_node *n)
{
    if (n->n_steps == 0 || n->step[0].kind != RT_STEP_ADD)
        return rt_epilogue_clamp(n);
    struct rt_epilogue e = { .residual = n->step[0].arg, .rest = 1 };
    if (n->n_steps > 1 && is_clamp(&n->step[1])) {
        bool relu = n->step[1].act == RT_ACT_RELU;
        e.clamp = true;
        e.lo = relu ? 0.0f : n->step[1].a;
        e.hi = relu ? INFINITY : n->step[1].b;
        e.rest = 2;
    }
    return e;
}

static bool reads_tensor(enum rt_step_kind kind)
{
    return kind == RT_STEP_ADD || kind == RT_STEP_MUL || kind == RT_STEP_SCALE_NC;
}

bool rt_steps_read(const struct rt_node *n, int i)
{
    for (int k = 0; k < n->n_steps; k++)
        if (reads_tensor(n->step[k].kind) && n->step[k].arg == i)
            return true;
    return false;
}

static const float *operand(const struct rt_call *c, const struct rt_step *s)
{
    return c->in[s->arg].data;
}

void rt_steps_plain_from(const struct rt_call *c, int first, float *y, int64_t sample,
                         int64_t channel, int64_t offset, int64_t len)
{
    const struct rt_kernels *k = rt_kernels();
    const size_t n = (size_t)len;
    for (int i = first; i < c->node->n_steps; i++) {
        const struct rt_step *s = &c->node->step[i];
        switch (s->kind) {
        case RT_STEP_AFFINE:
            k->affine(y, y, n, s->scale[channel], s->shift[channel]);
            break;
        case RT_STEP_ADD:
            k->add(y, y, operand(c, s) + offset, n);
            break;
        case RT_STEP_MUL:
            k->mul(y, y, operand(c, s) + offset, n);
            break;
        case RT_STEP_SCALE_NC: {
            const float scale = operand(c, s)[sample * c->out[0].shape.dim[1] + channel];
            /* Minus zero is what changes no product when it is added. */
            k->affine(y, y, n, scale, -0.0f);
            break;
        }
        case RT_STEP_ACTIVATION:
            k->activation[s->act](y, y, n, s->a, s->b);
            break;
        case RT_STEP_PRELU:
            k->activation[RT_ACT_LEAKY_RELU](y, y, n, s->scale[channel], 0.0f);
            break;
        }
    }
}

/* A block's worth of per-channel constants; those of channels that do not exist read 0. */
static const float *lanes(const float *per_channel, int64_t first, int64_t channels, int64_t block,
                          float *room)
{
    if (first + block <= channels)
        return per_channel + first;
    memset(room, 0, (size_t)block * sizeof *room);
    memcpy(room, per_channel + first, (size_t)(channels - first) * sizeof *room);
    return room;
}

#define MAX_BLOCK 16

void rt_steps_blocked_from(const struct rt_call *c, int first, float *y, int64_t sample,
                           int64_t channel_block, int64_t offset, int64_t pixels)
{
    const struct rt_kernels *k = rt_kernels();
    const int64_t block = k->block, channels = c->out[0].shape.dim[1];
    const int64_t blocks = (channels + block - 1) / block, ch = channel_block * block;
    const size_t n = (size_t)(pixels * block);
    float scale[MAX_BLOCK], shift[MAX_BLOCK];
    for (int i = first; i < c->node->n_steps; i++) {
        const struct rt_step *s = &c->node->step[i];
        switch (s->kind) {
        case RT_STEP_AFFINE:
            k->affine_block(y, y, (size_t)pixels, lanes(s->scale, ch, channels, block, scale),
                            lanes(s->shift, ch, channels, block, shift));
            break;
        case RT_STEP_ADD:
            k->add(y, y, operand(c, s) + offset, n);
            break;
        case RT_STEP_MUL:
            k->mul(y, y, operand(c, s) + offset, n);
            break;
        case RT_STEP_SCALE_NC:
            k->affine_block(y, y, (size_t)pixels,
                            operand(c, s) + (sample * blocks + channel_block) * block, NULL);
            break;
        case RT_STEP_ACTIVATION:
            k->activation[s->act](y, y, n, s->a, s->b);
            break;
        case RT_STEP_PRELU:
            k->prelu_block(y, y, (size_t)pixels, lanes(s->scale, ch, channels, block, scale));
            break;
        }
    }
}

void rt_steps_channels_from(const struct rt_call *c, int first, float *y, int64_t sample,
                            int64_t channel, int64_t offset, int64_t len)
{
    const struct rt_kernels *k = rt_kernels();
    const size_t n = (size_t)len;
    for (int i = first; i < c->node->n_steps; i++) {
        const struct rt_step *s = &c->node->step[i];
        switch (s->kind) {
        case RT_STEP_AFFINE:
            k->mul(y, y, s->scale + channel, n);
            k->add(y, y, s->shift + channel, n);
            break;
        case RT_STEP_ADD:
            k->add(y, y, operand(c, s) + offset, n);
            break;
        case RT_STEP_MUL:
            k->mul(y, y, operand(c, s) + offset, n);
            break;
        case RT_STEP_SCALE_NC:
            k->mul(y, y, operand(c, s) + sample * c->out[0].shape.dim[1] + channel, n);
            break;
        case RT_STEP_ACTIVATION:
            k->activation[s->act](y, y, n, s->a, s->b);
            break;
        case RT_STEP_PRELU:
            for (size_t l = 0; l < n; l++)
                y[l] = y[l] < 0.0f ? y[l] * s->scale[(size_t)channel + l] : y[l];
            break;
        }
    }
}

void rt_steps_plain(const struct rt_call *c, float *y, int64_t sample, int64_t channel,
                    int64_t offset, int64_t len)
{
    rt_steps_plain_from(c, 0, y, sample, channel, offset, len);
}

void rt_steps_blocked(const struct rt_call *c, float *y, int64_t sample, int64_t channel_block,
                      int64_t offset, int64_t pixels)
{
    rt_steps_blocked_from(c, 0, y, sample, channel_block, offset, pixels);
}
