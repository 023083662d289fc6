/* Depthwise convolutions of bytes: a worker takes some rows of some channels of an image, copied
 * with padding around them where there is any. */
#include "runtime/ops/pixels.h"

#include <string.h>

/* Channels that are done together, and bytes of input that rows of them may have. */
#define STRIP_CHANNELS 256
#define STRIP_BYTES (32 * 1024)

struct rt_pixel_depthwise {
    const struct rt_integer_kernels *k;
    struct rt_pixel_conv spec;
    bool has_residual, is_signed, padded;
    const uint8_t *unpacked;
    int64_t bytes;  /* of a pixel */
    int64_t repeat; /* pixels of a row that are done as if they were more channels; 1: none */
    int64_t rows;   /* of a strip */
    int64_t planes; /* of weights: 2 where some take more than a byte */
    size_t copy_bytes, chunk_bytes;
    char *w;
    int32_t *bias; /* [chunk][channel], as factor and shift */
    float *factor, *shift;
};

enum { X, RESIDUAL = 2 };

static int weight_at(const struct rt_pixel_depthwise *d, int64_t channel, int64_t tap)
{
    const uint8_t w = d->unpacked[channel * rt_conv_taps(&d->spec.c) + tap];
    return (d->is_signed ? (int)(int8_t)w : (int)w) - d->spec.w_zero[channel];
}

/* The weight of a channel's tap, for channel lane of the kernel. */
static void pack_tap(const struct rt_pixel_depthwise *d, int64_t channel, int64_t tap, int64_t at)
{
    const struct rt_conv *c = &d->spec.c;
    const int64_t chunk = d->k->chunk, i = tap / c->kernel[2], j = tap % c->kernel[2];
    const int lane = rt_integer_lane(d->k, (int)(at % chunk));
    const int64_t row = i % RT_QROWS, row_groups = rt_ceil_div(c->kernel[1], RT_QROWS);
    char *to = d->w + (size_t)(at / chunk) * d->chunk_bytes;
    const int64_t column = (i / RT_QROWS * c->kernel[2] + j) * RT_QROWS * chunk;
    const int v = weight_at(d, channel, tap);
    if (d->k->wide) {
        /* [pair of rows][channel][row of the pair] */
        ((int16_t *)(void *)to)[column + row / 2 * 2 * chunk + 2 * lane + row % 2] = (int16_t)v;
        return;
    }
    const int first = v < INT8_MIN ? INT8_MIN : v > INT8_MAX ? INT8_MAX : v;
    const int64_t plane = row_groups * c->kernel[2] * RT_QROWS * chunk;
    ((int8_t *)to)[column + RT_QROWS * lane + row] = (int8_t)first;
    if (d->planes > 1)
        ((int8_t *)to)[plane + column + RT_QROWS * lane + row] = (int8_t)(v - first);
}

/* Channel at of the kernel, of which those past the first chunk may be repetitions. */
static void pack_channel(const struct rt_pixel_depthwise *d, int64_t channel, int64_t at)
{
    const struct rt_pixel_conv *p = &d->spec;
    const int64_t chunk = at / d->k->chunk * d->k->chunk;
    const int64_t place = chunk + rt_integer_lane(d->k, (int)(at - chunk));
    uint32_t sum = 0;
    for (int64_t tap = 0; tap < rt_conv_taps(&p->c); tap++) {
        sum += (uint32_t)weight_at(d, channel, tap);
        if (d->repeat == 1 || chunk == 0)
            pack_tap(d, channel, tap, at);
    }
    const uint32_t bias = p->bias != NULL ? (uint32_t)p->bias[channel] : 0;
    d->bias[place] = (int32_t)(bias - (uint32_t)p->x_zero * sum);
    d->factor[place] = p->factor[channel];
    if (p->shift != NULL)
        d->shift[place] = p->shift[channel];
}

static void pack_channels(const struct rt_pixel_depthwise *d)
{
    for (int64_t pixel = 0; pixel < d->repeat; pixel++)
        for (int64_t channel = 0; channel < d->spec.c.channels; channel++)
            pack_channel(d, channel, pixel * d->bytes + channel);
}

static bool fits_a_byte(const struct rt_pixel_depthwise *d)
{
    for (int64_t i = 0; i < d->spec.c.channels * rt_conv_taps(&d->spec.c); i++) {
        const int64_t taps = rt_conv_taps(&d->spec.c);
        const int v = weight_at(d, i / taps, i % taps);
        if (v < INT8_MIN || v > INT8_MAX)
            return false;
    }
    return true;
}

static int64_t padded_width(const struct rt_conv *c)
{
    return (c->out[2] - 1) * c->stride[2] + rt_conv_extent(c, 2);
}

static int64_t padded_rows(const struct rt_conv *c, int64_t rows)
{
    return (rows - 1) * c->stride[1] + rt_conv_extent(c, 1);
}

enum rt_status rt_pixel_depthwise_prepare(struct rt_build *b, struct rt_node *n,
                                          const struct rt_pixel_conv *spec, const void *weights,
                                          bool is_signed, struct rt_pixel_depthwise **out,
                                          struct rt_error *err)
{
    struct rt_pixel_depthwise *d = rt_arena_alloc(b->arena, sizeof *d);
    if (d == NULL)
        return rt_fail_nomem(err, sizeof *d);
    const struct rt_conv *c = &spec->c;
    d->k = rt_integer_kernels();
    d->spec = *spec;
    d->has_residual = n->n_in > RESIDUAL;
    d->is_signed = is_signed;
    d->unpacked = weights;
    d->bytes = rt_pixel_bytes(c->channels);
    d->padded = c->pad[1] > 0 || c->pad[2] > 0 || padded_rows(c, c->out[1]) > c->in[1] ||
                padded_width(c) > c->in[2];
    d->planes = d->k->wide || fits_a_byte(d) ? 1 : 2;
    d->rows = c->out[1];
    const int64_t channels = rt_least(d->bytes, STRIP_CHANNELS);
    while (d->rows > 1 && padded_rows(c, d->rows) * padded_width(c) * channels > STRIP_BYTES)
        d->rows = rt_ceil_div(d->rows, 2);
    if (d->padded)
        d->copy_bytes = rt_align_up((size_t)(padded_rows(c, d->rows) * padded_width(c) * channels));
    rt_set_scratch(b, n, d->copy_bytes);

    /* A chunk's weights fit every row of so few channels. */
    d->repeat =
        c->stride[2] == 1 && d->k->chunk % d->bytes == 0 && d->bytes < d->k->chunk ? c->out[2] : 1;
    const size_t lanes = (size_t)(rt_ceil_div(d->bytes * d->repeat, d->k->chunk) * d->k->chunk);
    const size_t chunks = d->repeat > 1 ? 1 : lanes / (size_t)d->k->chunk;
    d->chunk_bytes = (size_t)(d->planes * rt_ceil_div(c->kernel[1], RT_QROWS) * c->kernel[2] *
                              RT_QROWS * d->k->chunk) *
                     (d->k->wide ? sizeof(int16_t) : 1);
    d->w = rt_arena_array(b->arena, chunks, d->chunk_bytes);
    d->bias = rt_arena_array(b->arena, lanes, sizeof *d->bias);
    d->factor = rt_arena_array(b->arena, lanes, sizeof *d->factor);
    d->shift = rt_arena_array(b->arena, lanes, sizeof *d->shift);
    if (d->w == NULL || d->bias == NULL || d->factor == NULL || d->shift == NULL)
        return rt_fail_nomem(err, chunks * d->chunk_bytes);
    pack_channels(d);
    n->weight_bytes = chunks * d->chunk_bytes;
    n->algorithm = d->k->wide ? "int8 depthwise" : "int8 vnni depthwise";
    *out = d;
    return RT_OK;
}

/* Rows row.. of channels at.. of an image. */
static void run_strip(const struct rt_call *call, const struct rt_pixel_depthwise *d, int64_t image,
                      int64_t row, int64_t rows, int64_t at, uint8_t *room)
{
    const struct rt_conv *c = &d->spec.c;
    const int64_t channels = rt_least(d->bytes - at, STRIP_CHANNELS);
    const size_t chunk = (size_t)(at / d->k->chunk);
    struct rt_pixel_window w = {
        .image = (const uint8_t *)call->in[X].data + image * c->in[1] * c->in[2] * d->bytes,
        .height = c->in[1],
        .width = c->in[2],
        .pixel = d->bytes,
        .first = row * c->stride[1] - c->pad[1],
        .rows = padded_rows(c, rows),
        .left = -c->pad[2],
        .columns = padded_width(c),
        .at = at,
        .bytes = channels,
        .padding = (uint8_t)d->spec.x_zero,
    };
    int64_t column = channels, pitch = w.columns * channels;
    const uint8_t *x = room;
    if (d->padded) {
        rt_pixels_copy(room, &w);
    } else {
        x = w.image + w.first * c->in[2] * d->bytes + at;
        column = d->bytes;
        pitch = c->in[2] * d->bytes;
    }
    const int64_t y = ((image * c->out[1] + row) * c->out[2]) * d->bytes + at;
    d->k->depthwise(&(struct rt_qdepthwise){
        .x = x,
        .w = d->w + chunk * d->chunk_bytes,
        .y = (uint8_t *)call->out[0].data + y,
        .residual = d->has_residual ? (const uint8_t *)call->in[RESIDUAL].data + y : NULL,
        .bias = d->bias + at,
        .factor = d->factor + at,
        .shift = d->spec.shift != NULL ? d->shift + at : NULL,
        .q = &d->spec.q,
        .channels = (size_t)(channels * d->repeat),
        .pixels = (size_t)(c->out[2] / d->repeat),
        .rows = (size_t)rows,
        .x_column = (size_t)column,
        .x_row = (size_t)(c->stride[1] * pitch),
        .x_kh = (size_t)(c->dilation[1] * pitch),
        .y_pixel = (size_t)d->bytes,
        .y_row = (size_t)(c->out[2] * d->bytes),
        .stride = (size_t)c->stride[2],
        .dilation = (size_t)c->dilation[2],
        .kh = (size_t)c->kernel[1],
        .kw = (size_t)c->kernel[2],
        .w_chunk = d->repeat > 1 ? 0 : d->chunk_bytes,
        .planes = (size_t)d->planes,
    });
}

void rt_pixel_depthwise_run(const struct rt_call *call, const struct rt_pixel_depthwise *d,
                            const struct rt_worker *w)
{
    const struct rt_conv *c = &d->spec.c;
    const int64_t images = call->in[X].shape.dim[0];
    const int64_t parts = rt_ceil_div(d->bytes, STRIP_CHANNELS);
    const int64_t enough = w->count == 1 ? 1 : 4 * (int64_t)w->count;
    int64_t rows = d->rows;
    while (rows > 1 && images * parts * rt_ceil_div(c->out[1], rows) < enough)
        rows = rt_ceil_div(rows, 2);
    const int64_t strips = rt_ceil_div(c->out[1], rows);
    uint8_t *room = (uint8_t *)call->scratch + (size_t)w->id * d->copy_bytes;
    int64_t item = 0, end = 0;
    while (rt_worker_claim(w, images * strips * parts, 1, &item, &end)) {
        for (; item < end; item++) {
            const int64_t row = item / parts % strips * rows;
            run_strip(call, d, item / parts / strips, row, rt_least(rows, c->out[1] - row),
                      item % parts * STRIP_CHANNELS, room);
        }
    }
}
