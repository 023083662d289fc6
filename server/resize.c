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
    void *prepared; /* of the taps across */
    size_t prepared_len;
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
    w->prepared = take(s, w->prepared_len, 1);
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

struct sv_resizing {
    struct sv_resize r;
    struct work w;
    const struct sv_passes *passes;
    struct sv_taps across;
    int from, to; /* source rows that the window needs */
    int came;     /* source rows so far */
    int made;     /* rows of the window */
    uint8_t *dst;
    size_t dst_stride;
};

/* Source rows y to end, of which the first lies at src, to the rows in between, as many at once as
 * there are lanes. */
static void pass_across(const struct sv_resizing *z, int y, int end, const uint8_t *src,
                        const uint8_t *readable)
{
    const struct work *w = &z->w;
    const size_t row_len = (size_t)z->r.width * (size_t)z->r.channels;
    const int lanes = z->passes->lanes;
    for (int first = y; y < end; y += lanes) {
        const uint8_t *from[SV_LANES_MAX];
        uint8_t *dst[SV_LANES_MAX];
        for (int i = 0; i < lanes; i++) {
            const int row = y + i < end ? y + i : end - 1;
            from[i] = src + (size_t)(row - first) * row_len;
            if ((size_t)(readable - from[i]) < row_len + SV_ROW_PAD) {
                from[i] = memcpy(w->row[i], from[i], row_len);
                memset(w->row[i] + row_len, 0, SV_ROW_PAD); /* what checkers see multiplied by 0 */
            }
            dst[i] = w->between + (size_t)(row - z->from) * w->between_stride;
        }
        z->passes->across(&z->across, z->r.channels, from, dst);
    }
}

/* The next row of the window. */
static void pass_down(const struct sv_resizing *z, int i)
{
    const struct work *w = &z->w;
    const struct axis *y = &w->y;
    const size_t k = (size_t)i * (size_t)y->taps;
    z->passes->down(y->low + k, y->high + k, y->count[i],
                    w->between + (size_t)(y->first[i] - z->from) * w->between_stride,
                    w->between_stride, z->dst + (size_t)i * z->dst_stride,
                    (size_t)w->x.n * (size_t)z->r.channels);
}

/* Both directions, without their tables. */
static struct work plan(const struct sv_resize *r)
{
    const bool whole = r->box[2] == 0 && r->box[3] == 0;
    const struct work w = {
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
    return w;
}

enum rt_status sv_resize_begin(const struct sv_resize *r, uint8_t *dst, size_t dst_stride,
                               struct sv_resizing **out, struct rt_error *err)
{
    assert(r->filter != SV_FILTER_NEAREST);
    struct sv_resizing z = {
        .r = *r,
        .w = plan(r),
        .passes = sv_resize_passes(),
        .dst = dst,
        .dst_stride = dst_stride,
    };
    struct work *w = &z.w;
    plan_taps(&w->x, r->filter);
    plan_taps(&w->y, r->filter);
    rows_needed(&w->y, r->filter, &z.from, &z.to);
    if (z.passes->prepared_len != NULL)
        w->prepared_len = z.passes->prepared_len(w->x.n, w->x.taps, r->channels);
    const size_t row_len = (size_t)r->width * (size_t)r->channels;
    struct scratch scratch = { NULL, 0 };
    take(&scratch, 1, sizeof z);
    lay_out(w, &scratch, r->channels, row_len, z.to - z.from);
    void *block = rt_alloc(scratch.used);
    if (block == NULL)
        return rt_fail_nomem(err, scratch.used);
    scratch = (struct scratch){ block, 0 };
    struct sv_resizing *made = take(&scratch, 1, sizeof z);
    lay_out(w, &scratch, r->channels, row_len, z.to - z.from);
    fill_taps(&w->x, r->filter, w->weight);
    fill_taps(&w->y, r->filter, w->weight);
    const struct axis *x = &w->x;
    z.across = (struct sv_taps){ x->n, x->taps, x->first, x->count, x->low, x->high, NULL };
    if (w->prepared_len > 0 && z.passes->prepare(&z.across, r->channels, w->prepared))
        z.across.prepared = w->prepared;
    *made = z;
    *out = made;
    return RT_OK;
}

void sv_resize_columns(const struct sv_resizing *z, int *left, int *right)
{
    const struct axis *x = &z->w.x;
    *left = x->first[0];
    *right = x->first[x->n - 1] + x->count[x->n - 1];
}

void sv_resize_rows(struct sv_resizing *z, const uint8_t *rows, int n, size_t readable)
{
    const int first = z->came > z->from ? z->came : z->from;
    const int end = z->came + n < z->to ? z->came + n : z->to;
    const size_t row_len = (size_t)z->r.width * (size_t)z->r.channels;
    if (first < end)
        pass_across(z, first, end, rows + (size_t)(first - z->came) * row_len, rows + readable);
    z->came += n;
    const struct axis *y = &z->w.y;
    while (z->made < y->n && y->first[z->made] + y->count[z->made] <= z->came)
        pass_down(z, z->made++);
}

void sv_resize_end(struct sv_resizing *z)
{
    rt_free(z);
}

enum rt_status sv_resize(const struct sv_resize *r, uint8_t *dst, size_t dst_stride,
                         struct rt_error *err)
{
    if (r->filter == SV_FILTER_NEAREST) {
        const struct work w = plan(r);
        nearest(r, &w.x, &w.y, dst, dst_stride);
        return RT_OK;
    }
    struct sv_resizing *z;
    enum rt_status s = sv_resize_begin(r, dst, dst_stride, &z, err);
    if (s != RT_OK)
        return s;
    sv_resize_rows(z, r->src, r->height,
                   (size_t)r->width * (size_t)r->height * (size_t)r->channels);
    sv_resize_end(z);
    return RT_OK;
}
