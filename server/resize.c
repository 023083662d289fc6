/* Which source pixels make which pixel of the window, worked out once for each axis, and in which
 * order the two passes go over them. */
#include "server/resize.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "server/resize_passes.h"

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x)
{
    static const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct {
    double (*weight)(double x);
    double support;
} filters[] = {
    [SV_FILTER_BILINEAR] = { bilinear, 1 },
    [SV_FILTER_BICUBIC] = { bicubic, 2 },
};

/* One direction: which source pixels make which pixel of the window. */
struct axis {
    double from, to; /* the box */
    int in;          /* pixels of the source */
    int64_t full;    /* pixels of the whole box resized */
    int64_t at;      /* the window's first */
    int n;           /* the window's pixels */

    int taps;     /* room a pixel, a multiple of SV_TAP_PAD */
    int *first;   /* [n] first source pixel */
    int *count;   /* [n] taps in use */
    int16_t *low; /* [n * taps] */
    int16_t *high;
};

static double scale_of(const struct axis *a)
{
    return (a->to - a->from) / (double)a->full;
}

static double filter_scale(const struct axis *a)
{
    return fmax(scale_of(a), 1);
}

static void plan_taps(struct axis *a, enum sv_filter filter)
{
    const int taps = (int)ceil(filters[filter].support * filter_scale(a)) * 2 + 1;
    a->taps = (taps + SV_TAP_PAD - 1) / SV_TAP_PAD * SV_TAP_PAD;
}

/* weight[] is scratch for a->taps values. */
static void fill_taps(struct axis *a, enum sv_filter filter, double *weight)
{
    const double scale = scale_of(a), wide = filter_scale(a);
    const double support = filters[filter].support * wide, narrow = 1 / wide;
    for (int i = 0; i < a->n; i++) {
        const double center = a->from + ((double)(a->at + i) + 0.5) * scale;
        /* Rounded by cutting off, as Pillow does; it matters below zero only, where 0 wins. */
        int first = (int)(center - support + 0.5);
        int end = (int)(center + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > a->in ? a->in : end;
        a->first[i] = first;
        a->count[i] = end - first;
        double sum = 0;
        for (int k = 0; k < end - first; k++) {
            weight[k] = filters[filter].weight((k + first - center + 0.5) * narrow);
            sum += weight[k];
        }
        int16_t *low = a->low + (size_t)i * (size_t)a->taps;
        int16_t *high = a->high + (size_t)i * (size_t)a->taps;
        for (int k = 0; k < end - first; k++) {
            const double w = (sum != 0 ? weight[k] / sum : weight[k]) * (1 << SV_TAP_BITS);
            const int fixed = (int)(w < 0 ? w - 0.5 : w + 0.5);
            high[k] = (int16_t)(fixed / (1 << SV_TAP_LOW_BITS));
            low[k] = (int16_t)(fixed % (1 << SV_TAP_LOW_BITS));
        }
        for (int k = end - first; k < a->taps; k++)
            low[k] = high[k] = 0;
    }
}

/* Where the window's first pixel takes its value from. Pillow gets there by adding one step after
 * the other, and which of two pixels is nearest can hang on the rounding that this piles up. */
static double nearest_start(const struct axis *a, double step)
{
    double at = a->from + step * 0.5;
    for (int64_t i = 0; i < a->at; i++)
        at += step;
    return at;
}

static size_t nearest_pixel(const struct axis *a, double at)
{
    return (size_t)(at < a->in ? (int)at : a->in - 1);
}

static void nearest(const struct sv_resize *r, const struct axis *x, const struct axis *y,
                    uint8_t *dst, size_t dst_stride)
{
    const size_t channels = (size_t)r->channels, stride = (size_t)r->width * channels;
    const double step_x = scale_of(x), step_y = scale_of(y);
    const double left = nearest_start(x, step_x);
    double at_y = nearest_start(y, step_y);
    for (int j = 0; j < y->n; j++) {
        const uint8_t *row = r->src + nearest_pixel(y, at_y) * stride;
        uint8_t *to = dst + (size_t)j * dst_stride;
        double at_x = left;
        for (int i = 0; i < x->n; i++) {
            memcpy(to, row + nearest_pixel(x, at_x) * channels, channels);
            to += channels;
            at_x += step_x;
        }
        at_y += step_y;
    }
}

/* The pieces of the one block of memory. */
struct scratch {
    char *base; /* NULL while the sizes are being added up */
    size_t used;
};

static void *take(struct scratch *s, size_t n, size_t size)
{
    void *p = s->base != NULL ? s->base + s->used : NULL;
    s->used += rt_align_up(n * size);
    return p;
}

/* What a resize needs beside its source: the axes' tables, copies of the last source rows with room
 * to read past their ends, and the rows between the passes. */
struct work {
    struct axis x, y;
    double *weight;
    uint8_t *row[SV_LANES_MAX];
    uint8_t *between;
    size_t between_stride;
};

static void lay_out(struct work *w, struct scratch *s, int channels, size_t row_len, int n_rows)
{
    struct axis *axes[] = { &w->x, &w->y };
    for (int i = 0; i < 2; i++) {
        struct axis *a = axes[i];
        const size_t n = (size_t)a->n;
        a->first = take(s, n, sizeof *a->first);
        a->count = take(s, n, sizeof *a->count);
        a->low = take(s, n * (size_t)a->taps, sizeof *a->low);
        a->high = take(s, n * (size_t)a->taps, sizeof *a->high);
    }
    w->weight = take(s, (size_t)(w->x.taps > w->y.taps ? w->x.taps : w->y.taps), sizeof(double));
    for (int i = 0; i < SV_LANES_MAX; i++)
        w->row[i] = take(s, row_len + SV_ROW_PAD, 1);
    w->between_stride = (size_t)w->x.n * (size_t)channels + SV_ROW_PAD;
    w->between = take(s, (size_t)n_rows * w->between_stride, 1);
}

/* The source rows that the window needs: those under its first and last pixel's taps. */
static void rows_needed(const struct axis *y, enum sv_filter filter, int *from, int *to)
{
    const double scale = scale_of(y), support = filters[filter].support * filter_scale(y);
    const double top = y->from + ((double)y->at + 0.5) * scale;
    const double bottom = y->from + ((double)(y->at + y->n - 1) + 0.5) * scale;
    *from = (int)fmax(top - support + 0.5, 0);
    *to = (int)fmin(bottom + support + 0.5, y->in);
}

/* Rows from..to of the source to the rows in between, as many at once as there are lanes. */
static void pass_across(const struct sv_resize *r, const struct work *w, int from, int to)
{
    const struct sv_passes *passes = sv_resize_passes();
    const struct axis *x = &w->x;
    const struct sv_taps taps = { x->n, x->taps, x->first, x->count, x->low, x->high };
    const size_t row_len = (size_t)r->width * (size_t)r->channels;
    const uint8_t *end = r->src + (size_t)r->height * row_len;
    for (int y = from; y < to; y += passes->lanes) {
        const uint8_t *src[SV_LANES_MAX];
        uint8_t *dst[SV_LANES_MAX];
        for (int i = 0; i < passes->lanes; i++) {
            const int row = y + i < to ? y + i : to - 1;
            src[i] = r->src + (size_t)row * row_len;
            if ((size_t)(end - src[i]) < row_len + SV_ROW_PAD) {
                src[i] = memcpy(w->row[i], src[i], row_len);
                memset(w->row[i] + row_len, 0, SV_ROW_PAD); /* what checkers see multiplied by 0 */
            }
            dst[i] = w->between + (size_t)(row - from) * w->between_stride;
        }
        passes->across(&taps, r->channels, src, dst);
    }
}

static void pass_down(const struct sv_resize *r, const struct work *w, int from, uint8_t *dst,
                      size_t dst_stride)
{
    const struct sv_passes *passes = sv_resize_passes();
    const struct axis *y = &w->y;
    for (int i = 0; i < y->n; i++) {
        const size_t k = (size_t)i * (size_t)y->taps;
        passes->down(y->low + k, y->high + k, y->count[i],
                     w->between + (size_t)(y->first[i] - from) * w->between_stride,
                     w->between_stride, dst + (size_t)i * dst_stride,
                     (size_t)w->x.n * (size_t)r->channels);
    }
}

enum rt_status sv_resize(const struct sv_resize *r, uint8_t *dst, size_t dst_stride,
                         struct rt_error *err)
{
    const bool whole = r->box[2] == 0 && r->box[3] == 0;
    struct work w = {
        .x = { whole ? 0 : r->box[0], whole ? r->width : r->box[2], r->width, r->full_width,
               r->left, r->window_width, 0, NULL, NULL, NULL, NULL },
        .y = { whole ? 0 : r->box[1], whole ? r->height : r->box[3], r->height, r->full_height,
               r->top, r->window_height, 0, NULL, NULL, NULL, NULL },
    };
    assert(r->channels == 1 || r->channels == 3);
    assert(w.x.from >= 0 && w.x.from < w.x.to && w.x.to <= r->width);
    assert(w.y.from >= 0 && w.y.from < w.y.to && w.y.to <= r->height);
    assert(r->left >= 0 && w.x.n > 0 && r->left + w.x.n <= r->full_width);
    assert(r->top >= 0 && w.y.n > 0 && r->top + w.y.n <= r->full_height);
    if (r->filter == SV_FILTER_NEAREST) {
        nearest(r, &w.x, &w.y, dst, dst_stride);
        return RT_OK;
    }

    plan_taps(&w.x, r->filter);
    plan_taps(&w.y, r->filter);
    int from, to;
    rows_needed(&w.y, r->filter, &from, &to);
    const size_t row_len = (size_t)r->width * (size_t)r->channels;
    struct scratch scratch = { NULL, 0 };
    lay_out(&w, &scratch, r->channels, row_len, to - from);
    void *block = rt_alloc(scratch.used);
    if (block == NULL)
        return rt_fail_nomem(err, scratch.used);
    scratch = (struct scratch){ block, 0 };
    lay_out(&w, &scratch, r->channels, row_len, to - from);
    fill_taps(&w.x, r->filter, w.weight);
    fill_taps(&w.y, r->filter, w.weight);

    pass_across(r, &w, from, to);
    pass_down(r, &w, from, dst, dst_stride);
    rt_free(block);
    return RT_OK;
}
