/* Direct convolution of channel-blocked tensors, or of a plain input with few channels, with packed
 * weights.
 *
 * Output channels are packed in panels of two blocks. A worker takes a strip of rows of one image
 * (or several small images whole), which stays in its second cache, and goes over its panels, one
 * or two at a time as the kernel likes; their weights are cut into chunks of input channels that
 * stay in the first cache while the strip passes by. Padding is made by copying the strip once, for
 * all panels. The order in which an element's products are added is that of rt_mac, whatever the
 * cut; where the build is exact chunks are short and their sums are added to each other. */
#include "runtime/ops/conv_dense.h"
#include "runtime/ops/steps.h"

#include <stdio.h>
#include <string.h>

/* Floats of input that a strip may have, and of weights that a chunk may. */
#define STRIP_FLOATS (64 * 1024)
#define CHUNK_FLOATS (5 * 1024)
/* Channels of a chunk where the build is exact: the sums of chunks are added to each other, so that
 * fewer terms follow each other and less is lost to rounding. */
#define EXACT_CHANNELS 16
/* Rows of pixels that pointwise convolutions are cut into, a multiple of every level's tile. */
#define FLAT_PIXELS 84

struct rt_dense_conv {
    struct rt_conv c;
    float *w;
    const float *bias;
    struct rt_conv_weights unpacked; /* as they come, until they are packed */
    /* How rt_mac's sums run over the input: blocks of channels with their lanes; in a plain input
     * channels, with the taps of a row as lanes. */
    int64_t outer, kw, lanes, last_lanes;
    int64_t width;       /* floats of an input pixel: the block, or 1 in a plain input */
    int64_t blocks;      /* of output channels, a group */
    int64_t panels;      /* a group */
    size_t panel_floats; /* weights of a panel of two blocks */
    int64_t chunk;       /* of outer */
    const float *zeros; /* where the sums of chunks past the first start; NULL: at the one before */
    bool flat;          /* pointwise: rows are stretches of FLAT_PIXELS pixels */
    bool thinned;       /* pointwise with a stride: strips are copied without what it skips */
    bool padded;        /* strips are copied with padding around them */
    int64_t rows, row_pixels;
    int64_t strip_rows, strip_images; /* at most */
    size_t strip_floats;              /* of a worker's copy */
};

/* Input row elements that an output row's taps span. */
static int64_t padded_width(const struct rt_conv *c)
{
    return (c->out[2] - 1) * c->stride[2] + rt_conv_extent(c, 2);
}

static int64_t padded_rows(const struct rt_conv *c, int64_t rows)
{
    return (rows - 1) * c->stride[1] + rt_conv_extent(c, 1);
}

static void choose_strips(struct rt_dense_conv *s, int64_t samples)
{
    const struct rt_conv *c = &s->c;
    int64_t row_floats; /* of input that a further row takes */
    s->rows = c->out[1];
    s->row_pixels = c->out[2];
    if (s->flat) {
        s->rows = rt_ceil_div(c->out[1] * c->out[2], FLAT_PIXELS);
        s->row_pixels = rt_least(FLAT_PIXELS, c->out[1] * c->out[2]);
    }
    row_floats = s->outer * s->width * s->row_pixels;
    if (!s->flat && !s->thinned)
        row_floats = s->outer * s->width * padded_width(c) * c->stride[1];
    int64_t around =
        s->flat || s->thinned ? 0 : (rt_conv_extent(c, 1) - c->stride[1]) / c->stride[1];
    int64_t rows = STRIP_FLOATS / row_floats - around;
    rows = rows < 1 ? 1 : rt_least(rows, s->rows);
    s->strip_rows = rt_ceil_div(s->rows, rt_ceil_div(s->rows, rows)); /* of even size */
    int64_t floats = s->outer * s->width * padded_width(c) * padded_rows(c, s->strip_rows);
    if (s->thinned)
        floats = row_floats * s->strip_rows;
    s->strip_images = 1;
    if (s->strip_rows == s->rows)
        s->strip_images = rt_least(samples, 2 * STRIP_FLOATS / floats);
    if (s->strip_images < 1)
        s->strip_images = 1;
    s->strip_floats = s->padded || s->thinned ? rt_align_up((size_t)(floats * s->strip_images)) : 0;
}

/* How many panels are done at once from this one on. A last one of one block is packed closer. */
static int64_t panels_at_once(const struct rt_dense_conv *s, int64_t panel)
{
    const int64_t most = rt_kernels()->wide / 2;
    return s->blocks - 2 * panel >= 2 * most ? most : 1;
}

/* Weights of a map that are packed at a time. */
#define PACK_FLOATS 256
#define MAX_BLOCK 16

/* Where weights first .. first + count - 1 of a map, [channel][kh][kw], are in a panel of so many
 * maps: at[0..count). */
static void packed_at(const struct rt_dense_conv *s, int64_t first, int64_t count, int64_t maps,
                      int64_t *at)
{
    const int64_t block = rt_kernels()->block, taps = s->c.kernel[1] * s->c.kernel[2];
    if (s->width == 1 || taps == 1) {
        for (int64_t i = 0; i < count; i++)
            at[i] = (first + i) * maps;
        return;
    }
    int64_t tap = first % taps;
    for (int64_t ch = first / taps, i = 0; i < count; ch++, tap = 0) {
        const int64_t o = ch / block, lanes = o + 1 < s->outer ? s->lanes : s->last_lanes;
        for (; tap < taps && i < count; tap++)
            at[i++] = (o * block * taps + tap * lanes + ch % block) * maps;
    }
}

/* Weights first .. first + count - 1 of a block's maps from map on, to to[at[0..count)]; lanes past
 * the last map are 0, whatever gain they have. */
static void pack_block(const struct rt_dense_conv *s, float *to, const int64_t *at, int64_t map,
                       int64_t maps, int64_t first, int64_t count)
{
    const struct rt_conv *c = &s->c;
    const struct rt_kernels *k = rt_kernels();
    const int64_t block = k->block, row = c->group_channels * c->kernel[1] * c->kernel[2];
    float gain[MAX_BLOCK];
    for (int64_t l = 0; l < block; l++)
        gain[l] = l < maps ? rt_conv_gain(&s->unpacked, map + l) : 0.0f;
    if (!s->unpacked.turned)
        k->pack(to, at, s->unpacked.w + map * row + first, (size_t)count, (size_t)row, (int)maps,
                gain);
    for (int64_t i = 0; s->unpacked.turned && i < count; i++) {
        float *lanes = to + at[i];
        memset(lanes, 0, (size_t)block * sizeof *lanes);
        memcpy(lanes, s->unpacked.w + (first + i) * c->maps + map, (size_t)maps * sizeof *lanes);
        k->affine_block(lanes, lanes, 1, gain, NULL);
    }
    for (int64_t i = 0; s->unpacked.in_gain != NULL && i < count; i++)
        k->affine(to + at[i], to + at[i], (size_t)block, s->unpacked.in_gain[first + i], 0.0f);
}

/* [group][panel][outer][kh][kw][lane][block of the panel][b]. */
static void pack_panel(void *ctx, int64_t panel)
{
    const struct rt_dense_conv *s = ctx;
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block;
    const int64_t row = c->group_channels * c->kernel[1] * c->kernel[2];
    const int64_t group = panel / s->panels, first = panel % s->panels * 2;
    const int64_t blocks = rt_least(2, s->blocks - first);
    float *to = s->w + (size_t)panel * s->panel_floats;
    int64_t at[PACK_FLOATS];
    for (int64_t q = 0; q < row; q += PACK_FLOATS) {
        const int64_t count = rt_least(PACK_FLOATS, row - q);
        packed_at(s, q, count, blocks * block, at);
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t in_group = (first + b) * block, map = group * c->group_maps + in_group;
            pack_block(s, to + b * block, at, map, rt_least(block, c->group_maps - in_group), q,
                       count);
        }
    }
}

enum rt_status rt_dense_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                const struct rt_conv_weights *w, const float *bias,
                                struct rt_dense_conv **out, struct rt_error *err)
{
    const int64_t block = rt_kernels()->block;
    const bool plain = rt_in(b->g, n, RT_CONV_X)->layout == RT_PLAIN;
    struct rt_dense_conv *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    s->c = *c;
    s->bias = bias;
    const struct rt_value *x = rt_in(b->g, n, RT_CONV_X);
    if (plain) {
        s->width = 1;
        s->outer = c->channels;
        s->kw = 1;
        s->lanes = s->last_lanes = c->kernel[2];
    } else {
        s->width = block;
        s->outer = rt_ceil_div(c->group_channels, block);
        s->kw = c->kernel[2];
        s->lanes = block;
        s->last_lanes = c->group_channels - (s->outer - 1) * block;
    }
    s->blocks = rt_ceil_div(c->group_maps, block);
    s->panels = rt_ceil_div(s->blocks, 2);
    int64_t step = c->kernel[1] * s->kw * s->lanes * 2 * block;
    s->panel_floats = (size_t)(s->outer * step);
    const int64_t chunk = CHUNK_FLOATS / (step * panels_at_once(s, 0));
    s->chunk = chunk < 1 ? 1 : rt_least(s->outer, chunk);
    s->chunk = rt_ceil_div(s->outer, rt_ceil_div(s->outer, s->chunk));
    if (b->exact) {
        const size_t floats = (size_t)(2 * panels_at_once(s, 0) * block);
        s->zeros = rt_arena_array(b->arena, floats, sizeof *s->zeros);
        if (s->zeros == NULL)
            return rt_fail_nomem(err, floats * sizeof *s->zeros);
        s->chunk = rt_least(s->chunk, plain ? 1 : rt_ceil_div(EXACT_CHANNELS, block));
    }
    s->flat = rt_conv_taps(c) == 1 && c->stride[1] == 1 && c->stride[2] == 1 &&
              c->out[1] == c->in[1] && c->out[2] == c->in[2];
    s->thinned = rt_conv_taps(c) == 1 && !s->flat && !plain && c->pad[1] == 0 && c->pad[2] == 0 &&
                 padded_rows(c, c->out[1]) <= c->in[1] && padded_width(c) <= c->in[2];
    s->padded = c->pad[1] > 0 || c->pad[2] > 0 || padded_rows(c, c->out[1]) > c->in[1] ||
                padded_width(c) > c->in[2];
    choose_strips(s, rt_dim_at(x->shape.dim[0], b->max_batch));
    rt_set_scratch(b, n, s->strip_floats * sizeof(float));
    size_t floats = (size_t)(c->groups * s->panels) * s->panel_floats;
    s->w = rt_arena_array(b->arena, floats, sizeof *s->w);
    if (s->w == NULL)
        return rt_fail_nomem(err, floats * sizeof *s->w);
    s->unpacked = *w;
    n->weight_bytes = floats * sizeof *s->w;
    char *algorithm = rt_arena_alloc(b->arena, 32);
    if (algorithm == NULL)
        return rt_fail_nomem(err, 32);
    snprintf(algorithm, 32, "direct %dx%d%s", rt_kernels()->tile, (int)(2 * block),
             plain ? " from plain" : "");
    n->algorithm = algorithm;
    *out = s;
    return rt_build_pack(b, pack_panel, s, c->groups * s->panels, err);
}
/* --- running ------------------------------------------------------------------------------ */

/* Where a strip's input is: x is the first tap of its first row. */
struct view {
    const float *x;
    size_t image, outer, row; /* distances in floats: images, blocks of channels, input rows */
};

/* The input of images image.. and group as it is, for output rows from row on. */
static struct view view_input(const struct rt_dense_conv *s, const float *x, int64_t image,
                              int64_t group, int64_t row)
{
    const struct rt_conv *c = &s->c;
    const int64_t plane = c->in[1] * c->in[2] * s->width;
    const int64_t image_floats = c->groups * s->outer * plane;
    int64_t pitch = s->flat ? FLAT_PIXELS * s->width : c->in[2] * s->width;
    x += image * image_floats + group * s->outer * plane + row * c->stride[1] * pitch;
    return (struct view){ x, (size_t)image_floats, (size_t)plane, (size_t)pitch };
}

/* The same as a copy in room with its padding. */
static struct view view_padded(const struct rt_dense_conv *s, const float *x, int64_t image,
                               int64_t images, int64_t group, int64_t row, int64_t rows,
                               float *room)
{
    const struct rt_conv *c = &s->c;
    const int64_t width = s->width, pitch = padded_width(c) * width;
    const int64_t count = padded_rows(c, rows), first = row * c->stride[1] - c->pad[1];
    const int64_t left = rt_least(c->pad[2] * width, pitch);
    const int64_t middle = rt_least(c->in[2] * width, pitch - left), right = pitch - left - middle;
    float *to = room;
    for (int64_t i = 0; i < images * s->outer; i++) {
        int64_t plane = ((image + i / s->outer) * c->groups + group) * s->outer + i % s->outer;
        const float *from = x + plane * c->in[1] * c->in[2] * width;
        for (int64_t r = first; r < first + count; r++, to += pitch) {
            if (r < 0 || r >= c->in[1]) {
                memset(to, 0, (size_t)pitch * sizeof *to);
                continue;
            }
            memset(to, 0, (size_t)left * sizeof *to);
            memcpy(to + left, from + r * c->in[2] * width, (size_t)middle * sizeof *to);
            memset(to + left + middle, 0, (size_t)right * sizeof *to);
        }
    }
    return (struct view){ room, (size_t)(s->outer * count * pitch), (size_t)(count * pitch),
                          (size_t)pitch };
}

/* The same as a copy in room of the pixels that a pointwise convolution's stride does not skip. */
static struct view view_thinned(const struct rt_dense_conv *s, const float *x, int64_t image,
                                int64_t images, int64_t group, int64_t row, int64_t rows,
                                float *room)
{
    const struct rt_conv *c = &s->c;
    const int64_t width = s->width, plane = c->in[1] * c->in[2] * width;
    const size_t pixel = (size_t)width * sizeof *room;
    float *to = room;
    for (int64_t i = 0; i < images * s->outer; i++) {
        int64_t at = ((image + i / s->outer) * c->groups + group) * s->outer + i % s->outer;
        for (int64_t r = row; r < row + rows; r++) {
            const float *from = x + at * plane + r * c->stride[1] * c->in[2] * width;
            for (int64_t p = 0; p < c->out[2]; p++, to += width)
                memcpy(to, from + p * c->stride[2] * width, pixel);
        }
    }
    const size_t pitch = (size_t)(c->out[2] * width), each = (size_t)rows * pitch;
    return (struct view){ room, (size_t)s->outer * each, each, pitch };
}

/* A strip, and what of it this worker does. */
struct strip {
    int64_t image, images, group, row, rows;
    int64_t first_panel, last_panel;
};

/* The mac of chunk outer.. of panels from this one on, but for where its pixels are. */
static struct rt_mac start_mac(const struct rt_dense_conv *s, const struct view *v,
                               const struct rt_epilogue *e, int64_t panel, int64_t panels,
                               int64_t outer, const struct strip *strip)
{
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block;
    const bool last = outer + s->chunk >= s->outer;
    const size_t at = (size_t)(strip->group * s->panels + panel) * s->panel_floats;
    struct rt_mac m = {
        .blocks = (size_t)rt_least(2 * panels, s->blocks - 2 * panel),
        .w_panel = s->panel_floats,
        .x_pixel = (size_t)((s->thinned ? 1 : c->stride[2]) * s->width),
        .x_row = (size_t)c->stride[1] * v->row,
        .x_outer = v->outer,
        .x_kh = (size_t)c->dilation[1] * v->row,
        .x_kw = (size_t)(c->dilation[2] * s->width),
        .y_pixel = (size_t)block,
        .y_row = (size_t)(s->row_pixels * block),
        .y_block = (size_t)(c->out[1] * c->out[2] * block),
        .outer = (size_t)(last ? s->outer - outer : s->chunk),
        .kh = (size_t)c->kernel[1],
        .kw = (size_t)s->kw,
        .lanes = (size_t)s->lanes,
        .last_lanes = (size_t)(last ? s->last_lanes : s->lanes),
        .clamp = last && e->clamp,
        .lo = e->lo,
        .hi = e->hi,
    };
    const int64_t step = rt_least(2, (int64_t)m.blocks) * block;
    m.w = s->w + at + (size_t)outer * m.kh * m.kw * m.lanes * (size_t)step;
    m.bias = outer > 0 ? s->zeros : s->bias + (strip->group * s->blocks + 2 * panel) * block;
    return m;
}

/* What is added to the sums of the chunk at outer when they are complete: the residual to the last,
 * or to the first where the others start anew and are added to y, the sums before them. */
static const float *addend(const struct rt_dense_conv *s, int64_t outer, const float *residual,
                           const float *y)
{
    if (s->zeros != NULL)
        return outer == 0 ? residual : y;
    return outer + s->chunk >= s->outer ? residual : NULL;
}

/* Lets the kernel fetch what follows in passes calls of m: the next chunk, or the first one of what
 * comes after these panels. */
static void look_ahead(const struct rt_dense_conv *s, struct rt_mac *m, int64_t panels, bool last,
                       int64_t passes)
{
    const size_t lanes = (m->outer - 1) * m->lanes + m->last_lanes;
    const size_t step = (m->blocks > 1 ? 2 : 1) * (size_t)rt_kernels()->block;
    size_t len = lanes * m->kh * m->kw * step;
    m->ahead = m->w + len;
    if (last)
        m->ahead += (size_t)(panels - 1) * s->panel_floats;
    const size_t all = (size_t)(s->c.groups * s->panels) * s->panel_floats;
    const size_t at = (size_t)(m->ahead - s->w) + (m->blocks > 2 ? s->panel_floats : 0);
    const size_t left = at < all ? all - at : 0;
    len = len < left ? len : left;
    m->ahead_len = len / (size_t)passes;
}

static void run_strip(const struct rt_call *call, const struct rt_dense_conv *s,
                      const struct strip *strip, const struct view *v, const struct rt_epilogue *e)
{
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block, pixels = c->out[1] * c->out[2];
    const int64_t all_blocks = c->groups * s->blocks;
    float *y = call->out[0].data;
    const float *residual = e->residual >= 0 ? call->in[e->residual].data : NULL;
    /* One row at a time where there are steps to do while it is in the first cache. Those of a
     * pointwise convolution follow each other in memory: else they are one. */
    const bool apart = e->rest < call->node->n_steps && !s->thinned;
    const bool joined = !apart && (s->flat || s->thinned);
    const int64_t calls = apart ? strip->rows : 1;
    const int64_t width = s->row_pixels * (joined ? strip->rows : 1);
    int64_t panels;
    for (int64_t panel = strip->first_panel; panel < strip->last_panel; panel += panels) {
        panels = rt_least(panels_at_once(s, panel), strip->last_panel - panel);
        const int64_t first_block = strip->group * s->blocks + 2 * panel;
        for (int64_t outer = 0; outer < s->outer; outer += s->chunk) {
            struct rt_mac m = start_mac(s, v, e, panel, panels, outer, strip);
            const bool last = outer + s->chunk >= s->outer;
            const int64_t passes = strip->images * calls;
            look_ahead(s, &m, panels, last, passes);
            for (int64_t i = 0; i < passes; i++) {
                const int64_t image = i / calls, row = i % calls;
                const int64_t plane = (strip->image + image) * all_blocks + first_block;
                const int64_t pixel = (strip->row + row) * s->row_pixels;
                const int64_t at = (plane * pixels + pixel) * block;
                m.pixels = (size_t)rt_least(width, pixels - pixel);
                m.rows = apart || joined ? 1 : (size_t)strip->rows;
                m.x = v->x + (size_t)image * v->image + (size_t)outer * v->outer +
                      (size_t)(row * c->stride[1]) * v->row;
                m.y = y + at;
                m.residual = addend(s, outer, residual != NULL ? residual + at : NULL, m.y);
                rt_kernels()->mac(&m);
                m.ahead += m.ahead_len;
                for (size_t k = 0; last && e->rest < call->node->n_steps && k < m.blocks; k++)
                    rt_steps_blocked_from(call, e->rest, m.y + k * m.y_block, strip->image + image,
                                          first_block + (int64_t)k, at + (int64_t)(k * m.y_block),
                                          (int64_t)m.pixels);
            }
        }
    }
}
struct rt_conv_pieces rt_dense_pieces(const struct rt_dense_conv *s)
{
    struct rt_conv_pieces pieces = { 0 };
    if (s->flat && s->c.groups == 1)
        pieces = (struct rt_conv_pieces){ .blocks = rt_kernels()->wide, .images = s->strip_images };
    return pieces;
}

/* Panels panel..panel+panels-1, at once. */
static void make_panels(const struct rt_call *call, const struct rt_dense_conv *s, int64_t image,
                        int64_t panel, int64_t panels, int64_t pixel, int64_t pixels, float *y,
                        int64_t plane)
{
    const struct rt_epilogue e = rt_epilogue_clamp(call->node);
    const struct view v = view_input(s, call->in[RT_CONV_X].data, image, 0, 0);
    const struct strip strip = { .image = image };
    const int64_t block = rt_kernels()->block;
    const bool apart =
        e.rest < call->node->n_steps; /* steps find their pixels in the first cache */
    const int64_t stretch = apart ? FLAT_PIXELS : pixels;
    for (int64_t outer = 0; outer < s->outer; outer += s->chunk) {
        struct rt_mac m = start_mac(s, &v, &e, panel, panels, outer, &strip);
        const bool last = outer + s->chunk >= s->outer;
        look_ahead(s, &m, panels, last, rt_ceil_div(pixels, stretch));
        m.y_block = (size_t)plane;
        m.rows = 1;
        for (int64_t p = 0; p < pixels; p += stretch) {
            m.pixels = (size_t)rt_least(stretch, pixels - p);
            m.x = v.x + (size_t)outer * v.outer + (pixel + p) * s->width;
            m.y = y + p * block;
            m.residual = addend(s, outer, NULL, m.y);
            rt_kernels()->mac(&m);
            m.ahead += m.ahead_len;
            for (int64_t k = 0; last && apart && k < (int64_t)m.blocks; k++)
                rt_steps_blocked_from(call, e.rest, m.y + k * plane, image, 2 * panel + k, 0,
                                      (int64_t)m.pixels);
        }
    }
}
void rt_dense_make_piece(const struct rt_call *call, const struct rt_dense_conv *s, int64_t image,
                         int64_t piece, int64_t pixel, int64_t pixels, float *y, int64_t plane)
{
    const int64_t most = rt_kernels()->wide / 2, first = piece * most;
    const int64_t end = rt_least(s->panels, first + most);
    int64_t panels;
    for (int64_t panel = first; panel < end; panel += panels) {
        panels = rt_least(panels_at_once(s, panel), end - panel);
        make_panels(call, s, image, panel, panels, pixel, pixels, y + 2 * (panel - first) * plane,
                    plane);
    }
}
/* What a strip has of images and rows. */
struct cut {
    int64_t images, rows;
};

/* As planned, or less where the team would not find enough to do. */
static struct cut cut_strips(const struct rt_dense_conv *s, int64_t images, int team)
{
    const int64_t enough = team == 1 ? 1 : 8 * (int64_t)team;
    const int64_t each = s->c.groups * s->panels;
    struct cut cut = { rt_least(s->strip_images, images > 0 ? images : 1), s->strip_rows };
    while (cut.images > 1 && rt_ceil_div(images, cut.images) * each < enough)
        cut.images = rt_ceil_div(cut.images, 2);
    while (cut.rows > 1 && images * rt_ceil_div(s->rows, cut.rows) * each < enough)
        cut.rows = rt_ceil_div(cut.rows, 2);
    return cut;
}

/* What a worker sees, and which strip of the input it is: whoever claims its panels in parts makes
 * one copy for all. */
struct sight {
    int64_t unit; /* -1: of none yet */
    struct view view;
};

static void look_at(const struct rt_dense_conv *s, const float *x, const struct strip *strip,
                    float *room, struct view *v)
{
    if (s->thinned)
        *v = view_thinned(s, x, strip->image, strip->images, strip->group, strip->row, strip->rows,
                          room);
    else if (s->padded)
        *v = view_padded(s, x, strip->image, strip->images, strip->group, strip->row, strip->rows,
                         room);
    else
        *v = view_input(s, x, strip->image, strip->group, strip->row);
}

/* Items item .. end - 1: panels of strips, strip by strip. */
static void run_items(const struct rt_call *call, const struct rt_dense_conv *s,
                      const struct cut *cut, int64_t item, int64_t end, float *room,
                      struct sight *sight)
{
    const struct rt_epilogue e = rt_epilogue_of(call->node);
    const float *x = call->in[RT_CONV_X].data;
    const int64_t images = call->in[RT_CONV_X].shape.dim[0];
    const int64_t strips = rt_ceil_div(s->rows, cut->rows);
    while (item < end) {
        const int64_t unit = item / s->panels;
        struct strip strip = { .first_panel = item % s->panels };
        strip.last_panel = rt_least(s->panels, strip.first_panel + end - item);
        strip.row = unit % strips * cut->rows;
        strip.rows = rt_least(cut->rows, s->rows - strip.row);
        strip.group = unit / strips % s->c.groups;
        strip.image = unit / strips / s->c.groups * cut->images;
        strip.images = rt_least(cut->images, images - strip.image);
        if (unit != sight->unit)
            look_at(s, x, &strip, room, &sight->view);
        sight->unit = unit;
        run_strip(call, s, &strip, &sight->view, &e);
        item += strip.last_panel - strip.first_panel;
    }
}

void rt_dense_run(const struct rt_call *call, const struct rt_dense_conv *s,
                  const struct rt_worker *w)
{
    const int64_t images = call->in[RT_CONV_X].shape.dim[0];
    const struct cut cut = cut_strips(s, images, w->count);
    const int64_t items =
        rt_ceil_div(images, cut.images) * s->c.groups * rt_ceil_div(s->rows, cut.rows) * s->panels;
    float *room = (float *)call->scratch + (size_t)w->id * s->strip_floats;
    struct sight sight = { .unit = -1 };
    int64_t item = 0, end = 0;
    while (rt_worker_claim(w, items, panels_at_once(s, 0), &item, &end))
        run_items(call, s, &cut, item, end, room, &sight);
}
