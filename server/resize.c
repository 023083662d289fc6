/* The two passes of a resize, over taps that are worked out once for each axis.
 *
 * A tap's coefficient has 22 fractional bits, as in Pillow. It is kept as two 16-bit halves,
 * coefficient = high * 4096 + low, whose products with pixels are summed apart and put together at
 * the end: the same integer as multiplying in 32 bits, but a form in which SSE2 does eight products
 * an instruction. Both halves have the coefficient's sign, so that even sums over thousands of taps
 * stay far from overflow. */
#include "server/resize.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define PRECISION 22
#define LOW_BITS 12
/* Taps are padded with zeros to a multiple of this, and so are the rows of the picture in between:
 * the passes read and write whole vectors. */
#define PAD 8

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

    int taps;     /* room a pixel, a multiple of PAD */
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
    a->taps = (taps + PAD - 1) / PAD * PAD;
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
            const double w = (sum != 0 ? weight[k] / sum : weight[k]) * (1 << PRECISION);
            const int fixed = (int)(w < 0 ? w - 0.5 : w + 0.5);
            high[k] = (int16_t)(fixed / (1 << LOW_BITS));
            low[k] = (int16_t)(fixed % (1 << LOW_BITS));
        }
    }
}

#if defined(__SSE2__)

static inline __m128i load_pair(const int16_t *p)
{
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return _mm_set1_epi32(pair);
}

static inline __m128i load_8(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
}

/* Both sums to pixel values, not yet saturated to 8 bits. */
static inline __m128i join(__m128i low, __m128i high)
{
    const __m128i half = _mm_set1_epi32(1 << (PRECISION - 1));
    return _mm_srai_epi32(_mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(high, LOW_BITS), low), half),
                          PRECISION);
}

/* Two neighbouring pixels are shuffled into r0 r1 g0 g1 b0 b1, and multiplied in pairs. */
static void across_rgb(const struct axis *a, const uint8_t *src, uint8_t *dst)
{
    const __m128i zero = _mm_setzero_si128();
    for (int i = 0; i < a->n; i++) {
        const uint8_t *p = src + (size_t)a->first[i] * 3;
        const int16_t *l = a->low + (size_t)i * (size_t)a->taps;
        const int16_t *h = a->high + (size_t)i * (size_t)a->taps;
        __m128i low = zero, high = zero;
        for (int k = 0; k < a->count[i]; k += 2, p += 6) {
            const __m128i rgb =
                _mm_unpacklo_epi8(_mm_unpacklo_epi8(load_8(p), load_8(p + 3)), zero);
            low = _mm_add_epi32(low, _mm_madd_epi16(rgb, load_pair(l + k)));
            high = _mm_add_epi32(high, _mm_madd_epi16(rgb, load_pair(h + k)));
        }
        const __m128i v = _mm_packs_epi32(join(low, high), zero);
        const int rgbx = _mm_cvtsi128_si32(_mm_packus_epi16(v, zero));
        memcpy(dst + (size_t)i * 3, &rgbx, 4);
    }
}

static void across_gray(const struct axis *a, const uint8_t *src, uint8_t *dst)
{
    const __m128i zero = _mm_setzero_si128();
    for (int i = 0; i < a->n; i++) {
        const uint8_t *p = src + a->first[i];
        const __m128i *l = (const __m128i *)(a->low + (size_t)i * (size_t)a->taps);
        const __m128i *h = (const __m128i *)(a->high + (size_t)i * (size_t)a->taps);
        __m128i low = zero, high = zero;
        for (int k = 0; k < a->count[i]; k += 8, p += 8) {
            const __m128i v = _mm_unpacklo_epi8(load_8(p), zero);
            low = _mm_add_epi32(low, _mm_madd_epi16(v, _mm_loadu_si128(l++)));
            high = _mm_add_epi32(high, _mm_madd_epi16(v, _mm_loadu_si128(h++)));
        }
        low = _mm_add_epi32(low, _mm_shuffle_epi32(low, _MM_SHUFFLE(1, 0, 3, 2)));
        low = _mm_add_epi32(low, _mm_shuffle_epi32(low, _MM_SHUFFLE(2, 3, 0, 1)));
        high = _mm_add_epi32(high, _mm_shuffle_epi32(high, _MM_SHUFFLE(1, 0, 3, 2)));
        high = _mm_add_epi32(high, _mm_shuffle_epi32(high, _MM_SHUFFLE(2, 3, 0, 1)));
        const __m128i v = _mm_packs_epi32(join(low, high), zero);
        dst[i] = (uint8_t)_mm_cvtsi128_si32(_mm_packus_epi16(v, zero));
    }
}

/* Eight columns at a time, two rows at a time. */
static void down(const int16_t *l, const int16_t *h, int count, const uint8_t *src, size_t stride,
                 uint8_t *dst, size_t len)
{
    const __m128i zero = _mm_setzero_si128();
    for (size_t x = 0; x < len; x += 8) {
        const uint8_t *p = src + x;
        __m128i low0 = zero, low1 = zero, high0 = zero, high1 = zero;
        for (int k = 0; k < count; k += 2, p += 2 * stride) {
            const __m128i next = k + 1 < count ? load_8(p + stride) : zero;
            const __m128i both = _mm_unpacklo_epi8(load_8(p), next);
            const __m128i v0 = _mm_unpacklo_epi8(both, zero), v1 = _mm_unpackhi_epi8(both, zero);
            const __m128i lk = load_pair(l + k), hk = load_pair(h + k);
            low0 = _mm_add_epi32(low0, _mm_madd_epi16(v0, lk));
            low1 = _mm_add_epi32(low1, _mm_madd_epi16(v1, lk));
            high0 = _mm_add_epi32(high0, _mm_madd_epi16(v0, hk));
            high1 = _mm_add_epi32(high1, _mm_madd_epi16(v1, hk));
        }
        const __m128i v = _mm_packs_epi32(join(low0, high0), join(low1, high1));
        uint8_t out[8];
        _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(v, zero));
        memcpy(dst + x, out, len - x < 8 ? len - x : 8);
    }
}

#else

static inline uint8_t join(int low, int high)
{
    const int v = (high * (1 << LOW_BITS) + low + (1 << (PRECISION - 1))) >> PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void across(const struct axis *a, const uint8_t *src, uint8_t *dst, int channels)
{
    for (int i = 0; i < a->n; i++) {
        const int16_t *l = a->low + (size_t)i * (size_t)a->taps;
        const int16_t *h = a->high + (size_t)i * (size_t)a->taps;
        for (int c = 0; c < channels; c++) {
            const uint8_t *p = src + (ptrdiff_t)a->first[i] * channels + c;
            int low = 0, high = 0;
            for (int k = 0; k < a->count[i]; k++, p += channels) {
                low += *p * l[k];
                high += *p * h[k];
            }
            *dst++ = join(low, high);
        }
    }
}

static void across_rgb(const struct axis *a, const uint8_t *src, uint8_t *dst)
{
    across(a, src, dst, 3);
}

static void across_gray(const struct axis *a, const uint8_t *src, uint8_t *dst)
{
    across(a, src, dst, 1);
}

static void down(const int16_t *l, const int16_t *h, int count, const uint8_t *src, size_t stride,
                 uint8_t *dst, size_t len)
{
    for (size_t x = 0; x < len; x++) {
        const uint8_t *p = src + x;
        int low = 0, high = 0;
        for (int k = 0; k < count; k++, p += stride) {
            low += *p * l[k];
            high += *p * h[k];
        }
        dst[x] = join(low, high);
    }
}

#endif

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

/* What a resize needs beside its source: the axes' tables, a copy of a source row with room to read
 * past its end, and the rows between the passes. */
struct work {
    struct axis x, y;
    double *weight;
    uint8_t *row;
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
    w->row = take(s, row_len + 4 * PAD, 1);
    w->between_stride = (size_t)w->x.n * (size_t)channels + PAD;
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
    void *block = rt_zalloc(scratch.used);
    if (block == NULL)
        return rt_fail_nomem(err, scratch.used);
    scratch = (struct scratch){ block, 0 };
    lay_out(&w, &scratch, r->channels, row_len, to - from);
    fill_taps(&w.x, r->filter, w.weight);
    fill_taps(&w.y, r->filter, w.weight);

    const uint8_t *end = r->src + (size_t)r->height * row_len;
    for (int y = from; y < to; y++) {
        const uint8_t *row = r->src + (size_t)y * row_len;
        if ((size_t)(end - row) < row_len + 4 * PAD)
            row = memcpy(w.row, row, row_len);
        uint8_t *between = w.between + (size_t)(y - from) * w.between_stride;
        if (r->channels == 3)
            across_rgb(&w.x, row, between);
        else
            across_gray(&w.x, row, between);
    }
    for (int y = 0; y < w.y.n; y++) {
        const size_t k = (size_t)y * (size_t)w.y.taps;
        down(w.y.low + k, w.y.high + k, w.y.count[y],
             w.between + (size_t)(w.y.first[y] - from) * w.between_stride, w.between_stride,
             dst + (size_t)y * dst_stride, (size_t)w.x.n * (size_t)r->channels);
    }
    rt_free(block);
    return RT_OK;
}
