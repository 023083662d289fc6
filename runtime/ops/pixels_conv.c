/* Convolutions and fully connected layers of bytes. Maps are packed in panels (rt_qmac). A worker
 * takes a strip of rows of one image, or several small images whole, which stays in its second
 * cache, and goes over panels of maps. A pixel's channels lie side by side, so those of pointwise
 * convolutions are read where they are, the whole batch as one row; padding is made by copying the
 * strip. Zero points of the input are part of the bias; so are those of the weights where these
 * have room for them, and the rest is made up for by the sums of each pixel's inputs. */
#include "runtime/ops/pixels.h"

#include <stdio.h>
#include <string.h>

/* Weights of so few bytes in all panels, which take more than a byte, are two planes of bytes:
 * their products cost less than the sums of the inputs. */
#define PLANES_BYTES 64
/* Bytes of input that a strip may have. */
#define STRIP_BYTES (128 * 1024)

enum { X, W, RESIDUAL };

struct state {
    const struct rt_integer_kernels *k;
    struct rt_pixel_conv spec;
    struct rt_pixel_depthwise *depthwise; /* does it all; NULL: what follows */
    bool has_residual;
    const uint8_t *unpacked; /* the weights as they come, until they are packed */
    bool is_signed;
    int64_t x_pixel, y_pixel; /* bytes of a pixel */
    int64_t tap_bytes;        /* of it, those of a group */
    int64_t panels;           /* a group's */
    int64_t planes;
    size_t panel_bytes;
    uint8_t *w, *ones;      /* ones: 1 for each channel of a tap that is one */
    int32_t *bias, *x_zero; /* [groups][panels][maps of a panel], as factor and shift */
    float *factor, *shift;
    bool *uneven; /* [groups][panels]: x_zero has others than 0 */
    bool sums;    /* some weights' zero points may have no room in them */
    bool flat, padded;
    int64_t strip_rows, strip_images;         /* rows are pixels where flat */
    size_t copy_bytes, wide_bytes, sum_bytes; /* of a worker's scratch */
};

/* --- preparing ------------------------------------------------------------------------------ */

static int64_t padded_width(const struct rt_conv *c)
{
    return (c->out[2] - 1) * c->stride[2] + rt_conv_extent(c, 2);
}

static int64_t padded_rows(const struct rt_conv *c, int64_t rows)
{
    return (rows - 1) * c->stride[1] + rt_conv_extent(c, 1);
}

/* The weight without its zero point: -255..255. */
static int weight_at(const struct state *s, int64_t map, int64_t channel, int64_t tap)
{
    const struct rt_pixel_conv *p = &s->spec;
    const uint8_t w = s->unpacked[map * p->w_map + channel * p->w_channel + tap];
    return (s->is_signed ? (int)(int8_t)w : (int)w) - p->w_zero[map];
}

/* What is added to all weights of a map to make signed bytes of them, if that takes anything: they
 * are no more than 255 apart. *sum is that of the weights. */
static int room_for(const struct state *s, int64_t map, uint32_t *sum)
{
    const struct rt_conv *c = &s->spec.c;
    int lo = 0, hi = 0;
    *sum = 0;
    for (int64_t ch = 0; ch < c->group_channels; ch++) {
        for (int64_t tap = 0; tap < rt_conv_taps(c); tap++) {
            const int v = weight_at(s, map, ch, tap);
            lo = v < lo ? v : lo;
            hi = v > hi ? v : hi;
            *sum += (uint32_t)v;
        }
    }
    return s->k->wide || s->planes > 1 ? 0
           : lo < INT8_MIN             ? INT8_MIN - lo
           : hi > INT8_MAX             ? INT8_MAX - hi
                                       : 0;
}

/* [plane][tap][group of channels][sum of the panel][channel of the group] */
static void pack_map(const struct state *s, uint8_t *panel, int64_t map, int room, int64_t sums,
                     int64_t place)
{
    const struct rt_conv *c = &s->spec.c;
    const int64_t group = s->k->group, steps = s->tap_bytes / group;
    int8_t *narrow = (int8_t *)panel;
    int16_t *wide = (int16_t *)(void *)panel;
    for (int64_t ch = 0; ch < c->group_channels; ch++) {
        for (int64_t tap = 0; tap < rt_conv_taps(c); tap++) {
            const int v = weight_at(s, map, ch, tap) + room;
            const int64_t step = tap * steps + ch / group;
            const int64_t at = (step * sums + place) * group + ch % group;
            if (s->k->wide) {
                wide[at] = (int16_t)v;
                continue;
            }
            const int first = v < INT8_MIN ? INT8_MIN : v > INT8_MAX ? INT8_MAX : v;
            narrow[at] = (int8_t)first;
            if (s->planes > 1)
                narrow[rt_conv_taps(c) * s->tap_bytes * sums + at] = (int8_t)(v - first);
        }
    }
}

static void pack_panel(void *ctx, int64_t i)
{
    const struct state *s = ctx;
    const struct rt_pixel_conv *p = &s->spec;
    const int64_t panel = rt_integer_panel(s->k), first = i % s->panels * panel;
    const int64_t maps = rt_least(panel, p->c.group_maps - first);
    const int64_t sums =
        maps <= RT_PIXEL_CHANNELS && s->k->lanes >= RT_PIXEL_CHANNELS ? s->k->lanes : panel;
    for (int64_t m = 0; m < maps; m++) {
        const int64_t map = i / s->panels * p->c.group_maps + first + m;
        const int64_t place = rt_integer_place(s->k, (int)m, (int)maps);
        uint32_t sum;
        const int room = room_for(s, map, &sum);
        pack_map(s, s->w + (size_t)i * s->panel_bytes, map, room, sums, place);
        const uint32_t bias = p->bias != NULL ? (uint32_t)p->bias[map] : 0;
        s->bias[i * panel + place] = (int32_t)(bias - (uint32_t)p->x_zero * sum);
        s->factor[i * panel + place] = p->factor[map];
        if (p->shift != NULL)
            s->shift[i * panel + place] = p->shift[map];
        s->x_zero[i * panel + place] = -room;
        if (room != 0)
            s->uneven[i] = true;
    }
}

/* Bytes of a strip's input, as copied. */
static int64_t strip_bytes(const struct state *s, int64_t rows)
{
    const struct rt_conv *c = &s->spec.c;
    if (s->flat)
        return rows * s->tap_bytes;
    return padded_rows(c, rows) * padded_width(c) * s->tap_bytes;
}

static void choose_strips(struct state *s, int64_t samples)
{
    const struct rt_conv *c = &s->spec.c;
    s->strip_images = 1;
    if (s->flat) {
        const int64_t tile = s->k->tile, all = samples * c->out[1] * c->out[2];
        const int64_t tiles = STRIP_BYTES / (s->tap_bytes * tile);
        s->strip_rows = rt_least((tiles < 4 ? 4 : tiles) * tile, all);
        return;
    }
    s->strip_rows = c->out[1];
    while (s->strip_rows > 1 && strip_bytes(s, s->strip_rows) > STRIP_BYTES)
        s->strip_rows = rt_ceil_div(s->strip_rows, 2);
    if (s->strip_rows == c->out[1])
        s->strip_images = rt_least(samples, STRIP_BYTES / strip_bytes(s, s->strip_rows));
    if (s->strip_images < 1)
        s->strip_images = 1;
}

/* Whether no weight takes more than a signed byte with its zero point taken off. */
static bool weights_have_room(const struct state *s)
{
    for (int64_t m = 0; m < s->spec.c.maps; m++)
        if (!s->is_signed || s->spec.w_zero[m] != 0)
            return false;
    return true;
}

static enum rt_status allocate(struct rt_build *b, struct rt_node *n, struct state *s,
                               struct rt_error *err)
{
    const size_t panels = (size_t)(s->spec.c.groups * s->panels);
    const size_t maps = panels * (size_t)rt_integer_panel(s->k);
    const size_t row_bytes = (size_t)(s->tap_bytes * s->spec.c.kernel[2]);
    n->weight_bytes = panels * s->panel_bytes;
    s->w = rt_arena_array(b->arena, panels, s->panel_bytes);
    s->ones = rt_arena_array(b->arena, row_bytes, 1);
    s->bias = rt_arena_array(b->arena, maps, sizeof *s->bias);
    s->x_zero = rt_arena_array(b->arena, maps, sizeof *s->x_zero);
    s->factor = rt_arena_array(b->arena, maps, sizeof *s->factor);
    s->shift = rt_arena_array(b->arena, maps, sizeof *s->shift);
    s->uneven = rt_arena_array(b->arena, panels, sizeof *s->uneven);
    if (s->w == NULL || s->ones == NULL || s->bias == NULL || s->x_zero == NULL ||
        s->factor == NULL || s->shift == NULL || s->uneven == NULL)
        return rt_fail_nomem(err, n->weight_bytes);
    for (size_t i = 0; i < row_bytes; i++)
        s->ones[i] = (int64_t)i % s->tap_bytes < s->spec.c.group_channels;
    return RT_OK;
}

static bool is_flat(const struct rt_conv *c)
{
    return rt_conv_taps(c) == 1 && c->stride[1] == 1 && c->stride[2] == 1 &&
           c->out[1] == c->in[1] && c->out[2] == c->in[2];
}

static enum rt_status prepare_dense(struct rt_build *b, struct rt_node *n, struct state *s,
                                    struct rt_error *err)
{
    const struct rt_conv *c = &s->spec.c;
    const struct rt_value *x = rt_in(b->g, n, X);
    const size_t element = s->k->wide ? sizeof(int16_t) : 1;
    s->tap_bytes = c->groups == 1 ? s->x_pixel : c->group_channels;
    s->panels = rt_ceil_div(c->group_maps, rt_integer_panel(s->k));
    const int64_t step_bytes = rt_conv_taps(c) * s->tap_bytes;
    s->sums = !s->k->wide && !weights_have_room(s);
    s->planes = 1;
    if (s->sums && c->groups == 1 && step_bytes * s->panels <= PLANES_BYTES) {
        s->sums = false;
        s->planes = 2;
    }
    s->panel_bytes =
        rt_align_up((size_t)(s->planes * step_bytes * rt_integer_panel(s->k)) * element);
    s->flat = is_flat(c);
    s->padded = c->pad[1] > 0 || c->pad[2] > 0 || padded_rows(c, c->out[1]) > c->in[1] ||
                padded_width(c) > c->in[2];
    choose_strips(s, rt_dim_at(x->shape.dim[0], b->max_batch));
    const size_t bytes = (size_t)(strip_bytes(s, s->strip_rows) * s->strip_images);
    s->copy_bytes = s->padded || s->k->wide ? rt_align_up(bytes) : 0;
    s->wide_bytes = s->k->wide ? rt_align_up(bytes * element) : 0;
    if (s->sums)
        s->sum_bytes =
            rt_align_up((size_t)(s->strip_rows * s->strip_images * (s->flat ? 1 : c->out[2])) *
                        sizeof(int32_t));
    rt_set_scratch(b, n, s->copy_bytes + s->wide_bytes + s->sum_bytes);
    enum rt_status status = allocate(b, n, s, err);
    char *algorithm = status == RT_OK ? rt_arena_alloc(b->arena, 32) : NULL;
    if (algorithm == NULL)
        return status == RT_OK ? rt_fail_nomem(err, 32) : status;
    snprintf(algorithm, 32, "int8 %s %dx%d", s->k->name, s->k->tile, rt_integer_panel(s->k));
    n->algorithm = algorithm;
    return rt_build_pack(b, pack_panel, s, c->groups * s->panels, err);
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    const struct rt_value *w = rt_in(b->g, n, W);
    const struct rt_shape *x = &rt_in(b->g, n, X)->shape;
    s->spec = *(const struct rt_pixel_conv *)n->state;
    s->k = rt_integer_kernels();
    s->unpacked = w->data;
    s->is_signed = w->dtype == RT_INT8;
    s->has_residual = n->n_in > RESIDUAL;
    const struct rt_conv *c = &s->spec.c;
    s->x_pixel = rt_pixel_bytes(c->channels);
    s->y_pixel = rt_pixel_bytes(c->maps);
    n->flops = 2.0 * (double)(rt_dim_at(x->dim[0], 1) * c->out[1] * c->out[2] * c->maps) *
               (double)(c->group_channels * rt_conv_taps(c));
    enum rt_status status =
        c->groups > 1 && c->group_channels == 1
            ? rt_pixel_depthwise_prepare(b, n, &s->spec, w->data, s->is_signed, &s->depthwise, err)
            : prepare_dense(b, n, s, err);
    n->state = s;
    n->in[W] = -1;
    return status;
}

/* --- running -------------------------------------------------------------------------------- */

/* A strip, and what of it this worker does. */
struct strip {
    int64_t image, images, group, row, rows;
    int64_t first_panel, last_panel;
};

/* Where a strip's input is: x is the first tap of its first row; distances in elements. */
struct view {
    const void *x;
    int64_t image, row, pixel;
};

/* The strip as it is. */
static struct view view_input(const struct state *s, const uint8_t *x, const struct strip *t)
{
    const struct rt_conv *c = &s->spec.c;
    const int64_t row = c->in[2] * s->x_pixel;
    x += t->image * c->in[1] * row + t->group * s->tap_bytes;
    x += t->row * (s->flat ? s->x_pixel : c->stride[1] * row);
    return (struct view){ x, c->in[1] * row, row, s->x_pixel };
}

/* A copy of it in room, with padding. */
static struct view view_copy(const struct state *s, const uint8_t *x, const struct strip *t,
                             uint8_t *room)
{
    const struct rt_conv *c = &s->spec.c;
    struct rt_pixel_window w = {
        .height = c->in[1],
        .width = c->in[2],
        .pixel = s->x_pixel,
        .first = t->row * c->stride[1] - c->pad[1],
        .rows = padded_rows(c, t->rows),
        .left = -c->pad[2],
        .columns = padded_width(c),
        .at = t->group * s->tap_bytes,
        .bytes = s->tap_bytes,
        .padding = (uint8_t)s->spec.x_zero,
    };
    if (s->flat) { /* a row of pixels */
        w.height = w.rows = 1;
        w.first = 0;
        w.left = t->row;
        w.columns = t->rows;
        w.width = t->row + t->rows;
    }
    const int64_t row = w.columns * w.bytes, image = w.rows * row;
    for (int64_t i = 0; i < t->images; i++) {
        w.image = x + (t->image + i) * c->in[1] * c->in[2] * s->x_pixel;
        rt_pixels_copy(room + i * image, &w);
    }
    return (struct view){ room, image, row, w.bytes };
}

static struct view view_strip(const struct state *s, const uint8_t *x, const struct strip *t,
                              uint8_t *room)
{
    struct view v = view_input(s, x, t);
    if (s->padded || (s->k->wide && !(s->flat && s->spec.c.groups == 1)))
        v = view_copy(s, x, t, room);
    if (s->k->wide) {
        int16_t *wide = (int16_t *)(void *)(room + s->copy_bytes);
        s->k->widen(wide, v.x, (size_t)(strip_bytes(s, t->rows) * t->images));
        v.x = wide;
    }
    return v;
}

/* Taps that lie side by side are one with more channels. */
static bool joined(const struct state *s, const struct view *v)
{
    return s->spec.c.dilation[2] == 1 && v->pixel == s->tap_bytes;
}

static struct rt_qmac start_mac(const struct state *s, const struct view *v, const struct strip *t)
{
    const struct rt_conv *c = &s->spec.c;
    const bool join = joined(s, v);
    return (struct rt_qmac){
        .q = &s->spec.q,
        .pixels = (size_t)(s->flat ? t->rows : c->out[2]),
        .rows = (size_t)(s->flat ? 1 : t->rows),
        .x_pixel = (size_t)(c->stride[2] * v->pixel),
        .x_row = (size_t)(c->stride[1] * v->row),
        .x_kh = (size_t)(c->dilation[1] * v->row),
        .x_kw = (size_t)(c->dilation[2] * v->pixel),
        .y_pixel = (size_t)s->y_pixel,
        .y_row = (size_t)(c->out[2] * s->y_pixel),
        .planes = (size_t)s->planes,
        .kh = (size_t)c->kernel[1],
        .kw = (size_t)(join ? 1 : c->kernel[2]),
        .groups = (size_t)(s->tap_bytes / s->k->group * (join ? c->kernel[2] : 1)),
    };
}

static const uint8_t *image_of(const struct state *s, const struct view *v, int64_t i)
{
    return (const uint8_t *)v->x + i * v->image * (s->k->wide ? 2 : 1);
}

static void sum_inputs(const struct state *s, const struct view *v, const struct strip *t,
                       const struct rt_qmac *m, int32_t *out)
{
    struct rt_qsum sum = {
        .w = s->ones,
        .out = out,
        .pixels = m->pixels,
        .rows = m->rows,
        .x_pixel = m->x_pixel,
        .x_row = m->x_row,
        .x_kh = m->x_kh,
        .x_kw = m->x_kw,
        .kh = m->kh,
        .kw = m->kw,
        .bytes = m->groups * (size_t)s->k->group,
    };
    for (int64_t i = 0; i < t->images; i++, sum.out += m->rows * m->pixels) {
        sum.x = image_of(s, v, i);
        s->k->sums(&sum);
    }
}

static void run_strip(const struct rt_call *call, const struct state *s, const struct strip *t,
                      uint8_t *room)
{
    const struct rt_conv *c = &s->spec.c;
    const int64_t panel_maps = rt_integer_panel(s->k);
    const struct view v = view_strip(s, call->in[X].data, t, room);
    int32_t *const x_sum = (int32_t *)(void *)(room + s->copy_bytes + s->wide_bytes);
    struct rt_qmac m = start_mac(s, &v, t);
    if (s->sums)
        sum_inputs(s, &v, t, &m, x_sum);
    for (int64_t panel = t->first_panel; panel < t->last_panel; panel++) {
        const int64_t i = t->group * s->panels + panel, first = i * panel_maps;
        m.w = s->w + (size_t)i * s->panel_bytes;
        m.bias = s->bias + first;
        m.factor = s->factor + first;
        m.shift = s->spec.shift != NULL ? s->shift + first : NULL;
        m.x_zero = s->uneven[i] ? s->x_zero + first : NULL;
        m.maps = (size_t)rt_least(panel_maps, c->group_maps - panel * panel_maps);
        for (int64_t image = 0; image < t->images; image++) {
            int64_t pixel = t->row;
            if (!s->flat)
                pixel = ((t->image + image) * c->out[1] + t->row) * c->out[2];
            const int64_t at = pixel * s->y_pixel + t->group * c->group_maps + panel * panel_maps;
            m.x = image_of(s, &v, image);
            m.y = (uint8_t *)call->out[0].data + at;
            m.residual = s->has_residual ? (const uint8_t *)call->in[RESIDUAL].data + at : NULL;
            m.x_sum = x_sum + (size_t)image * m.rows * m.pixels;
            s->k->mac(&m);
        }
    }
}

/* What a strip has of images and rows: as planned, or less where the team would not find enough to
 * do. */
struct cut {
    int64_t all_images, all_rows, images, rows;
};

static struct cut cut_strips(const struct state *s, int64_t images, int team)
{
    const struct rt_conv *c = &s->spec.c;
    const int64_t enough = team == 1 ? 1 : 8 * (int64_t)team;
    const int64_t each = c->groups * s->panels, least_rows = s->flat ? s->k->tile : 1;
    struct cut cut = { images, c->out[1], rt_least(s->strip_images, images), s->strip_rows };
    if (s->flat) {
        cut.all_rows = images * c->out[1] * c->out[2];
        cut.all_images = cut.images = 1;
    }
    while (cut.images > 1 && rt_ceil_div(cut.all_images, cut.images) * each < enough)
        cut.images = rt_ceil_div(cut.images, 2);
    while (cut.rows > least_rows &&
           cut.all_images * rt_ceil_div(cut.all_rows, cut.rows) * each < enough)
        cut.rows = rt_ceil_div(cut.rows, 2);
    if (s->flat) /* whole tiles */
        cut.rows = rt_ceil_div(cut.rows, least_rows) * least_rows;
    cut.rows = rt_least(cut.rows, s->strip_rows);
    return cut;
}

static void run(const struct rt_call *call, const struct rt_worker *w)
{
    const struct state *s = call->node->state;
    if (s->depthwise != NULL) {
        rt_pixel_depthwise_run(call, s->depthwise, w);
        return;
    }
    const int64_t images = call->in[X].shape.dim[0];
    const struct cut cut = cut_strips(s, images, w->count);
    const int64_t strips = rt_ceil_div(cut.all_rows, cut.rows > 0 ? cut.rows : 1);
    const int64_t units =
        rt_ceil_div(cut.all_images, cut.images > 0 ? cut.images : 1) * strips * s->spec.c.groups;
    /* All panels of a strip at once where there are strips enough: it is copied for each claim. */
    const int64_t wanted = 4 * (int64_t)w->count;
    const int64_t grain = units >= wanted ? s->panels : rt_ceil_div(s->panels * units, wanted);
    uint8_t *room =
        (uint8_t *)call->scratch + (size_t)w->id * (s->copy_bytes + s->wide_bytes + s->sum_bytes);
    int64_t item = 0, end = 0;
    while (rt_worker_claim(w, units * s->panels, grain, &item, &end)) {
        while (item < end) {
            const int64_t unit = item / s->panels;
            struct strip t = { .first_panel = item % s->panels };
            t.last_panel = rt_least(s->panels, t.first_panel + end - item);
            t.row = unit % strips * cut.rows;
            t.rows = rt_least(cut.rows, cut.all_rows - t.row);
            t.group = unit / strips % s->spec.c.groups;
            t.image = unit / strips / s->spec.c.groups * cut.images;
            t.images = rt_least(cut.images, cut.all_images - t.image);
            run_strip(call, s, &t, room);
            item += t.last_panel - t.first_panel;
        }
    }
}

#define OPERATOR(x, text)                                                                          \
    const struct rt_op rt_op_##x = { .name = text,                                                 \
                                     .domain = "ai.convd",                                         \
                                     .min_in = 2,                                                  \
                                     .max_in = 3,                                                  \
                                     .min_out = 1,                                                 \
                                     .max_out = 1,                                                 \
                                     .infer = rt_pixels_infer,                                     \
                                     .prepare = prepare,                                           \
                                     .run = run }

OPERATOR(ConvPixels, "QLinearConv");
OPERATOR(GemmPixels, "QLinearMatMul");
