/* Into and out of tensors of bytes that lie pixel by pixel. */
#include "runtime/ops/pixels.h"

#include <string.h>

enum rt_status rt_pixels_infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    (void)g;
    (void)n;
    (void)err;
    return RT_OK;
}

void rt_pixels_copy(uint8_t *to, const struct rt_pixel_window *w)
{
    const int64_t right = w->left + w->columns;
    const int64_t begin = w->left < 0 ? -w->left : 0; /* of the columns, those in the image */
    const int64_t end = (right < w->width ? right : w->width) - w->left;
    for (int64_t r = w->first; r < w->first + w->rows; r++, to += w->columns * w->bytes) {
        if (r < 0 || r >= w->height || end <= begin) {
            memset(to, w->padding, (size_t)(w->columns * w->bytes));
            continue;
        }
        const uint8_t *from = w->image + (r * w->width + w->left + begin) * w->pixel + w->at;
        memset(to, w->padding, (size_t)(begin * w->bytes));
        memset(to + end * w->bytes, w->padding, (size_t)((w->columns - end) * w->bytes));
        if (w->bytes == w->pixel) {
            memcpy(to + begin * w->bytes, from, (size_t)((end - begin) * w->bytes));
            continue;
        }
        for (int64_t c = begin; c < end; c++, from += w->pixel)
            memcpy(to + c * w->bytes, from, (size_t)w->bytes);
    }
}

/* A tensor [N, C, ...] in both layouts. */
struct planes {
    int64_t samples, channels, pixels, bytes; /* bytes of a pixel */
};

static struct planes planes_of(const struct rt_shape *s)
{
    return (struct planes){ s->dim[0], s->dim[1], rt_shape_range(s, 2, s->rank),
                            rt_pixel_bytes(s->dim[1]) };
}

static void run_quantize(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pixel_scale *s = c->node->state;
    const struct planes p = planes_of(&c->in[0].shape);
    const int64_t groups = (p.channels + 3) / 4;
    int64_t at, end;
    rt_worker_share(w, p.samples * p.pixels, 64, &at, &end);
    for (int64_t n; at < end; at += n) {
        const int64_t sample = at / p.pixels, pixel = at % p.pixels;
        n = p.pixels - pixel < end - at ? p.pixels - pixel : end - at;
        for (int64_t g = 0; g < groups; g++) {
            const float *x[4] = { NULL };
            const int64_t left = p.channels - 4 * g, count = left < 4 ? left : 4;
            for (int64_t k = 0; k < count; k++)
                x[k] = (const float *)c->in[0].data + (sample * p.channels + 4 * g + k) * p.pixels +
                       pixel;
            rt_integer_kernels()->quantize((uint8_t *)c->out[0].data + at * p.bytes + 4 * g,
                                           (size_t)p.bytes, x, (size_t)count, (size_t)n, s->scale,
                                           s->zero);
        }
    }
}

/* Samples' blocks of channels are shared out: a block's lines are read once. */
static void run_dequantize(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pixel_scale *s = c->node->state;
    const struct planes p = planes_of(&c->out[0].shape);
    const int64_t blocks = (p.channels + RT_PIXEL_CHANNELS - 1) / RT_PIXEL_CHANNELS;
    int64_t i, end;
    rt_worker_share(w, p.samples * blocks, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t first = i % blocks * RT_PIXEL_CHANNELS, left = p.channels - first;
        const int64_t count = left < RT_PIXEL_CHANNELS ? left : RT_PIXEL_CHANNELS;
        const uint8_t *x = (const uint8_t *)c->in[0].data + i / blocks * p.pixels * p.bytes + first;
        float *y = (float *)c->out[0].data + (i / blocks * p.channels + first) * p.pixels;
        for (int64_t pixel = 0; pixel < p.pixels; pixel++)
            for (int64_t k = 0; k < count; k++)
                y[k * p.pixels + pixel] = (float)(x[pixel * p.bytes + k] - s->zero) * s->scale;
    }
}

static void run_to_pixels(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pixel_scale *s = c->node->state;
    const struct planes p = planes_of(&c->in[0].shape);
    const uint8_t flip = s->flip ? 0x80 : 0;
    int64_t at, end;
    rt_worker_share(w, p.samples * p.pixels, 16, &at, &end);
    for (; at < end; at++) {
        const uint8_t *x =
            (const uint8_t *)c->in[0].data + at / p.pixels * p.channels * p.pixels + at % p.pixels;
        uint8_t *y = (uint8_t *)c->out[0].data + at * p.bytes;
        for (int64_t k = 0; k < p.channels; k++)
            y[k] = x[k * p.pixels] ^ flip;
    }
}

static void run_from_pixels(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pixel_scale *s = c->node->state;
    const struct planes p = planes_of(&c->out[0].shape);
    const uint8_t flip = s->flip ? 0x80 : 0;
    int64_t plane, end;
    rt_worker_share(w, p.samples * p.channels, 1, &plane, &end);
    for (; plane < end; plane++) {
        const uint8_t *x = (const uint8_t *)c->in[0].data +
                           plane / p.channels * p.pixels * p.bytes + plane % p.channels;
        uint8_t *y = (uint8_t *)c->out[0].data + plane * p.pixels;
        for (int64_t k = 0; k < p.pixels; k++)
            y[k] = x[k * p.bytes] ^ flip;
    }
}

#define OPERATOR(x, text, with)                                                                    \
    const struct rt_op rt_op_##x = { .name = text,                                                 \
                                     .domain = "ai.convd",                                         \
                                     .min_in = 1,                                                  \
                                     .max_in = 1,                                                  \
                                     .min_out = 1,                                                 \
                                     .max_out = 1,                                                 \
                                     .infer = rt_pixels_infer,                                     \
                                     with }

OPERATOR(QuantizePixels, "QuantizeLinear", .run = run_quantize);
OPERATOR(DequantizePixels, "DequantizeLinear", .run = run_dequantize);
OPERATOR(ToPixels, "ToPixels", .run = run_to_pixels);
OPERATOR(FromPixels, "FromPixels", .run = run_from_pixels);
OPERATOR(FlattenPixels, "Flatten", .traits = RT_OP_VIEW);
