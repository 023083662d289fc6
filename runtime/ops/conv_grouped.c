/* Convolution of groups that are smaller than a block, on channel-blocked tensors. All lanes of a
 * block of maps work at once, each on the channels of its own group: no product is made of another
 * group's channels, so none of their NaNs gets in.
 *
 *   groups of 4, lanes of 8     step 0: x0 x0 x0 x0 x4 x4 x4 x4   times weights a lane
 *                               step 1: x1 x1 x1 x1 x5 x5 x5 x5   ...
 *
 * Strips of rows are copied with zeros around them where windows hang over. */
#include "runtime/ops/conv_grouped.h"
#include "runtime/ops/steps.h"

#include <string.h>

/* Floats of input that a strip may have: it stays in the first cache. */
#define STRIP_FLOATS (4 * 1024)

struct rt_grouped_conv {
    struct rt_conv c;
    float *w;      /* [block of maps][kh][channel of the group][kw][b] */
    int32_t *lane; /* [block of maps][channel of the group][b]: its lane in the input block */
    int64_t *from; /* [block of maps]: the input block */
    const float *bias;
    int64_t in_blocks, blocks;
    bool padded;
    int64_t strip_rows;
    size_t strip_floats; /* of a worker's copy */
};

/* The first channel of the group that makes a map; maps past the last are as the last. */
static int64_t first_channel(const struct rt_conv *c, int64_t map)
{
    return (map < c->maps ? map : c->maps - 1) / c->group_maps * c->group_channels;
}

bool rt_conv_is_grouped(const struct rt_conv *c)
{
    const int64_t block = rt_kernels()->block;
    const bool whole = c->group_channels % block == 0 && c->group_maps % block == 0;
    if (c->groups == 1 || whole || c->group_channels > block)
        return false;
    for (int64_t m = 0; m < c->maps; m++) {
        const int64_t here = first_channel(c, m), with = first_channel(c, m / block * block);
        if (here / block != with / block || (here + c->group_channels - 1) / block != with / block)
            return false;
    }
    return true;
}

static int64_t padded_rows(const struct rt_conv *c, int64_t rows)
{
    return (rows - 1) * c->stride[1] + rt_conv_extent(c, 1);
}

static int64_t padded_width(const struct rt_conv *c)
{
    return (c->out[2] - 1) * c->stride[2] + rt_conv_extent(c, 2);
}

static void pack(struct rt_grouped_conv *s, const struct rt_conv_weights *w, int64_t block)
{
    const struct rt_conv *c = &s->c;
    const int64_t kh = c->kernel[1], kw = c->kernel[2], channels = c->group_channels;
    for (int64_t m = 0; m < s->blocks * block; m++) {
        const int64_t k = m / block, l = m % block;
        s->from[k] = first_channel(c, k * block) / block;
        for (int64_t ch = 0; ch < channels; ch++) {
            s->lane[(k * channels + ch) * block + l] =
                (int32_t)(first_channel(c, m) + ch - s->from[k] * block);
            for (int64_t i = 0; i < kh && m < c->maps; i++)
                for (int64_t j = 0; j < kw; j++)
                    s->w[(((k * kh + i) * channels + ch) * kw + j) * block + l] =
                        w->w[((m * channels + ch) * kh + i) * kw + j] * rt_conv_gain(w, m);
        }
    }
}

enum rt_status rt_grouped_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                  const struct rt_conv_weights *w, const float *bias,
                                  struct rt_grouped_conv **out, struct rt_error *err)
{
    const int64_t block = rt_kernels()->block;
    struct rt_grouped_conv *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    s->c = *c;
    s->bias = bias;
    s->in_blocks = rt_ceil_div(c->channels, block);
    s->blocks = rt_ceil_div(c->maps, block);
    const size_t lanes = (size_t)(s->blocks * c->group_channels * block);
    const size_t floats = lanes * (size_t)rt_conv_taps(c);
    s->w = rt_arena_array(b->arena, floats, sizeof *s->w);
    s->lane = rt_arena_array(b->arena, lanes, sizeof *s->lane);
    s->from = rt_arena_array(b->arena, (size_t)s->blocks, sizeof *s->from);
    if (s->w == NULL || s->lane == NULL || s->from == NULL)
        return rt_fail_nomem(err, floats * sizeof *s->w);
    pack(s, w, block);
    s->padded = c->pad[1] > 0 || c->pad[2] > 0 || padded_rows(c, c->out[1]) > c->in[1] ||
                padded_width(c) > c->in[2];
    s->strip_rows = (STRIP_FLOATS / (padded_width(c) * block) - rt_conv_extent(c, 1)) /
                    c->stride[1];
    if (s->strip_rows < 1)
        s->strip_rows = 1;
    s->strip_rows =
        rt_ceil_div(c->out[1], rt_ceil_div(c->out[1], s->strip_rows)); /* of even size */
    if (s->padded)
        s->strip_floats =
            rt_align_up((size_t)(padded_rows(c, s->strip_rows) * padded_width(c) * block));
    rt_set_scratch(b, n, s->strip_floats * sizeof(float));
    n->weight_bytes = floats * sizeof *s->w + lanes * sizeof *s->lane;
    n->algorithm = "grouped";
    *out = s;
    return RT_OK;
}

/* Input rows row..row+rows-1 of a plane, which may lie outside of it, with margins; to room. */
static void copy_strip(const struct rt_conv *c, float *room, const float *x, int64_t row,
                       int64_t rows)
{
    const int64_t block = rt_kernels()->block, width = padded_width(c);
    const int64_t left = c->pad[2] < width ? c->pad[2] : width;
    const int64_t columns = c->in[2] < width - left ? c->in[2] : width - left;
    for (int64_t r = row; r < row + rows; r++, room += width * block) {
        if (r < 0 || r >= c->in[1]) {
            memset(room, 0, (size_t)(width * block) * sizeof *room);
            continue;
        }
        memset(room, 0, (size_t)(left * block) * sizeof *room);
        memcpy(room + left * block, x + r * c->in[2] * block,
               (size_t)(columns * block) * sizeof *room);
        memset(room + (left + columns) * block, 0,
               (size_t)((width - left - columns) * block) * sizeof *room);
    }
}

void rt_grouped_run(const struct rt_call *call, const struct rt_grouped_conv *s,
                    const struct rt_worker *w)
{
    const struct rt_conv *c = &s->c;
    const struct rt_epilogue e = rt_epilogue_clamp(call->node);
    const int64_t block = rt_kernels()->block, width = s->padded ? padded_width(c) : c->in[2];
    const int64_t in = c->in[1] * c->in[2] * block, out = c->out[1] * c->out[2] * block;
    const int64_t strips = rt_ceil_div(c->out[1], s->strip_rows), channels = c->group_channels;
    struct rt_grouped g = {
        .pixels = (size_t)c->out[2],
        .x_pixel = (size_t)(c->stride[2] * block),
        .x_row = (size_t)(c->stride[1] * width * block),
        .x_kh = (size_t)(c->dilation[1] * width * block),
        .x_kw = (size_t)(c->dilation[2] * block),
        .y_pixel = (size_t)block,
        .y_row = (size_t)(c->out[2] * block),
        .kh = (size_t)c->kernel[1],
        .kw = (size_t)c->kernel[2],
        .channels = (size_t)channels,
        .clamp = e.clamp,
        .lo = e.lo,
        .hi = e.hi,
    };
    int64_t i, end;
    rt_worker_share(w, call->in[RT_CONV_X].shape.dim[0] * s->blocks * strips, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t k = i / strips % s->blocks, sample = i / strips / s->blocks;
        const int64_t row = i % strips * s->strip_rows;
        const int64_t rows = c->out[1] - row < s->strip_rows ? c->out[1] - row : s->strip_rows;
        const int64_t first = row * c->stride[1] - c->pad[1];
        const int64_t at = (sample * s->blocks + k) * out + row * c->out[2] * block;
        const float *x = call->in[RT_CONV_X].data;
        x += (sample * s->in_blocks + s->from[k]) * in;
        g.x = x + row * c->stride[1] * c->in[2] * block;
        if (s->padded) {
            float *room = (float *)call->scratch + (size_t)w->id * s->strip_floats;
            copy_strip(c, room, x, first, padded_rows(c, rows));
            g.x = room;
        }
        g.rows = (size_t)rows;
        g.w = s->w + k * rt_conv_taps(c) * channels * block;
        g.lane = s->lane + k * channels * block;
        g.bias = s->bias + k * block;
        g.y = (float *)call->out[0].data + at;
        rt_kernels()->grouped(&g);
        rt_steps_blocked_from(call, e.rest, g.y, sample, k, at, rows * c->out[2]);
    }
}
