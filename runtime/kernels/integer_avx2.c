/* AVX2: products of 16-bit numbers, whose sums by twos no operand can overflow (those of bytes,
 * vpmaddubsw, saturate). Compiled with -mavx2. */
#if defined(__x86_64__)

#include "runtime/kernels/integer.h"

#include <immintrin.h>
#include <string.h>

#define ISA(name) name##_avx2
#include "runtime/kernels/integer.inc"

#define PIXELS_1(M) M(0)
#define PIXELS_2(M) PIXELS_1(M) M(1)
#define PIXELS_3(M) PIXELS_2(M) M(2)
#define PIXELS_4(M) PIXELS_3(M) M(3)
#define PIXELS_5(M) PIXELS_4(M) M(4)
#define PIXELS_6(M) PIXELS_5(M) M(5)

static inline __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline __m128i load_16(const void *p)
{
    return _mm_loadu_si128(p);
}

static inline __m256i two_shorts(const int16_t *x)
{
    int32_t two;
    memcpy(&two, x, sizeof two);
    return _mm256_set1_epi32(two);
}

static inline __m256i dot(__m256i sum, __m256i x, __m256i w)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
}

static inline __m256 low_floats(__m256i shorts)
{
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_unpacklo_epi16(shorts, shorts), 16));
}

static inline __m256 high_floats(__m256i shorts)
{
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_unpackhi_epi16(shorts, shorts), 16));
}

static inline __m256i shorts_of(__m256 a, __m256 b)
{
    return _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
}

static inline __m256i clamp_shorts(__m256i v, int32_t lo, int32_t hi)
{
    return _mm256_min_epi16(_mm256_max_epi16(v, _mm256_set1_epi16((short)lo)),
                            _mm256_set1_epi16((short)hi));
}

/* Two vectors of sums of 16 channels, in the order that packing undoes, to bytes at y. */
static inline void finish(const struct rt_requantize *q, __m256 a, __m256 b, uint8_t *y,
                          const uint8_t *residual)
{
    if (residual != NULL) {
        const __m256 own = _mm256_set1_ps(q->own), other = _mm256_set1_ps(q->other);
        if (q->middle) {
            const __m256i t = clamp_shorts(shorts_of(a, b), q->mid_lo, q->mid_hi);
            a = low_floats(t);
            b = high_floats(t);
        }
        const __m256i r = _mm256_sub_epi16(_mm256_cvtepu8_epi16(load_16(residual)),
                                           _mm256_set1_epi16((short)q->r_zero));
        a = _mm256_add_ps(_mm256_mul_ps(a, own), _mm256_mul_ps(low_floats(r), other));
        b = _mm256_add_ps(_mm256_mul_ps(b, own), _mm256_mul_ps(high_floats(r), other));
    }
    const __m256i zero = _mm256_set1_epi16((short)q->zero);
    const __m256i v = clamp_shorts(_mm256_adds_epi16(shorts_of(a, b), zero), q->lo, q->hi);
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(v, v), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)y, _mm256_castsi256_si128(bytes));
}

static inline __m256 real(__m256i sum, const float *factor, const float *shift)
{
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(factor));
    return shift != NULL ? _mm256_add_ps(v, _mm256_loadu_ps(shift)) : v;
}

struct place {
    const int16_t *x;
    size_t y;
};

#define START(p) __m256i s_##p##_0 = load(m->bias), s_##p##_1 = load(m->bias + 8);
#define PRODUCTS(p)                                                                                \
    {                                                                                              \
        const __m256i v = two_shorts(x + p * x_pixel);                                             \
        s_##p##_0 = dot(s_##p##_0, v, w_0);                                                        \
        s_##p##_1 = dot(s_##p##_1, v, w_1);                                                        \
    }
#define FINISH(p)                                                                                  \
    finish(m->q, real(s_##p##_0, m->factor, m->shift),                                             \
           real(s_##p##_1, m->factor + 8, m->shift != NULL ? m->shift + 8 : NULL),                 \
           m->y + at->y + p * m->y_pixel,                                                          \
           m->residual != NULL ? m->residual + at->y + p * m->y_pixel : NULL);

#define TILE(P)                                                                                    \
    static void mac_##P(const struct rt_qmac *m, struct place *at, size_t tiles)                   \
    {                                                                                              \
        const size_t x_pixel = m->x_pixel;                                                         \
        for (; tiles > 0; tiles--) {                                                               \
            const int16_t *w = m->w;                                                               \
            PIXELS_##P(START) for (size_t i = 0; i < m->kh; i++)                                   \
            {                                                                                      \
                for (size_t j = 0; j < m->kw; j++) {                                               \
                    const int16_t *x = at->x + i * m->x_kh + j * m->x_kw;                          \
                    for (size_t n = m->groups; n > 0; n--) {                                       \
                        const __m256i w_0 = load(w), w_1 = load(w + 16);                           \
                        PIXELS_##P(PRODUCTS) w += 32;                                              \
                        x += 2;                                                                    \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
            PIXELS_##P(FINISH) at->x += P * m->x_pixel;                                            \
            at->y += P * m->y_pixel;                                                               \
        }                                                                                          \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

static void (*const tiles[])(const struct rt_qmac *m, struct place *at, size_t tiles) = {
    mac_1, mac_2, mac_3, mac_4, mac_5, mac_6,
};

static void mac(const struct rt_qmac *m)
{
    const size_t whole = m->pixels / 6, rest = m->pixels % 6;
    for (size_t r = 0; r < m->rows; r++) {
        struct place at = { (const int16_t *)m->x + r * m->x_row, r * m->y_row };
        mac_6(m, &at, whole);
        if (rest > 0)
            tiles[rest - 1](m, &at, 1);
    }
}

static void widen(int16_t *y, const uint8_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(y + i), _mm256_cvtepu8_epi16(load_16(x + i)));
    for (; i < n; i++)
        y[i] = x[i];
}

/* --- depthwise ------------------------------------------------------------------------------ */

#define DW_START(p) __m256i d_##p##_0 = load(bias), d_##p##_1 = load(bias + 8);
/* The tap of pixel p that reads this column, if there is one. */
#define DW_TAP(p)                                                                                  \
    {                                                                                              \
        const size_t j = column - p * d->stride;                                                   \
        if (j < d->kw) {                                                                           \
            const int16_t *by = w + j * 64;                                                        \
            d_##p##_0 = dot(dot(d_##p##_0, x_0, load(by)), x_2, load(by + 32));                    \
            d_##p##_1 = dot(dot(d_##p##_1, x_1, load(by + 16)), x_3, load(by + 48));               \
        }                                                                                          \
    }
/* Channels are in their own order here, where packing would leave each 128 bits by itself. */
#define DW_FINISH(p)                                                                               \
    {                                                                                              \
        const __m256 a = real(d_##p##_0, factor, shift);                                           \
        const __m256 b = real(d_##p##_1, factor + 8, shift != NULL ? shift + 8 : NULL);            \
        finish(d->q, _mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31),       \
               d->y + y, d->residual != NULL ? d->residual + y : NULL);                            \
        y += d->y_pixel;                                                                           \
    }

/* P pixels from x on, of 16 channels from c on. */
#define DEPTHWISE(P)                                                                               \
    static void depthwise_##P(const struct rt_qdepthwise *d, const uint8_t *x, const int16_t *w,   \
                              size_t c, size_t y)                                                  \
    {                                                                                              \
        const size_t reach = (P - 1) * d->stride + (d->kw - 1) * d->dilation;                      \
        const size_t next = P == 1 ? d->dilation : 1;                                              \
        const int32_t *bias = d->bias + c;                                                         \
        const float *factor = d->factor + c, *shift = d->shift != NULL ? d->shift + c : NULL;      \
        PIXELS_##P(DW_START) for (size_t plane = 0; plane < d->planes; plane++)                    \
        {                                                                                          \
            for (size_t i = 0; i < d->kh; i += RT_QROWS, w += d->kw * 64) {                        \
                const size_t last = d->kh - 1 - i; /* rows that are none have weights of 0 */      \
                const uint8_t *row_0 = x + i * d->x_kh;                                            \
                const uint8_t *row_1 = row_0 + (last < 1 ? last : 1) * d->x_kh;                    \
                const uint8_t *row_2 = row_0 + (last < 2 ? last : 2) * d->x_kh;                    \
                const uint8_t *row_3 = row_0 + (last < 3 ? last : 3) * d->x_kh;                    \
                size_t column = 0;                                                                 \
                for (size_t n = 0; n <= reach; n += next, column++) {                              \
                    const size_t at = n * d->x_column;                                             \
                    const __m128i r_0 = load_16(row_0 + at), r_1 = load_16(row_1 + at);            \
                    const __m128i r_2 = load_16(row_2 + at), r_3 = load_16(row_3 + at);            \
                    const __m256i x_0 = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(r_0, r_1));         \
                    const __m256i x_1 = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(r_0, r_1));         \
                    const __m256i x_2 = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(r_2, r_3));         \
                    const __m256i x_3 = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(r_2, r_3));         \
                    PIXELS_##P(DW_TAP)                                                             \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        PIXELS_##P(DW_FINISH)                                                                      \
    }
DEPTHWISE(1)
DEPTHWISE(2)
DEPTHWISE(3)
DEPTHWISE(4)

static void depthwise(const struct rt_qdepthwise *d)
{
    /* Pixels whose taps are apart share no columns. */
    const size_t most = d->dilation == 1 ? 4 : 1;
    for (size_t c = 0; c < d->channels; c += RT_PIXEL_CHANNELS) {
        const int16_t *w = (const int16_t *)(const void *)((const char *)d->w +
                                                           c / RT_PIXEL_CHANNELS * d->w_chunk);
        for (size_t r = 0; r < d->rows; r++) {
            for (size_t p = 0, n; p < d->pixels; p += n) {
                const uint8_t *x = d->x + r * d->x_row + p * d->stride * d->x_column + c;
                const size_t y = r * d->y_row + p * d->y_pixel + c;
                n = d->pixels - p < most ? d->pixels - p : most;
                if (n == 4)
                    depthwise_4(d, x, w, c, y);
                else if (n == 3)
                    depthwise_3(d, x, w, c, y);
                else if (n == 2)
                    depthwise_2(d, x, w, c, y);
                else
                    depthwise_1(d, x, w, c, y);
            }
        }
    }
}

const struct rt_integer_kernels rt_integer_avx2 = {
    .name = "avx2",
    .lanes = 8,
    .group = 2,
    .wide = true,
    .tile = 6,
    .chunk = RT_PIXEL_CHANNELS,
    .mac = mac,
    .widen = widen,
    .depthwise = depthwise,
    INTEGER_SLOTS,
};

#else
typedef int rt_no_integer_avx2; /* a file may not be empty */
#endif
