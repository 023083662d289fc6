/* AVX-512 with VNNI: 64 products of bytes an instruction, summed by fours. Compiled with -mavx512f
 * -mavx512bw -mavx512dq -mavx512vl -mavx512vnni. */
#if defined(__x86_64__)

#include "runtime/kernels/integer.h"

#include <immintrin.h>
#include <string.h>

#define ISA(name) name##_avx512
#include "runtime/kernels/integer.inc"

/* sum += four products a lane, of bytes of x and signed bytes of w. The intrinsic would make gcc
 * copy the sums around in each round of a loop. */
#define DOT(sum, x, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
#define DOT_FROM(sum, x, address)                                                                  \
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "m"(*(const __m512i_u *)(address)))

#define PIXELS_1(M, B) M(0, B)
#define PIXELS_2(M, B) PIXELS_1(M, B) M(1, B)
#define PIXELS_3(M, B) PIXELS_2(M, B) M(2, B)
#define PIXELS_4(M, B) PIXELS_3(M, B) M(3, B)
#define PIXELS_5(M, B) PIXELS_4(M, B) M(4, B)
#define PIXELS_6(M, B) PIXELS_5(M, B) M(5, B)
#define PIXELS_7(M, B) PIXELS_6(M, B) M(6, B)
#define PIXELS_8(M, B) PIXELS_7(M, B) M(7, B)
#define PIXELS_9(M, B) PIXELS_8(M, B) M(8, B)
#define PIXELS_10(M, B) PIXELS_9(M, B) M(9, B)
#define PIXELS_11(M, B) PIXELS_10(M, B) M(10, B)
#define PIXELS_12(M, B) PIXELS_11(M, B) M(11, B)
#define PIXELS_13(M, B) PIXELS_12(M, B) M(12, B)
#define PIXELS_14(M, B) PIXELS_13(M, B) M(13, B)

#define FROM_BIAS_1(p) __m512i s_##p##_0 = bias_0;
#define FROM_BIAS_2(p) FROM_BIAS_1(p) __m512i s_##p##_1 = bias_1;
#define FROM_BIAS(p, B) FROM_BIAS_##B(p)
#define PRODUCTS_1(p) DOT(s_##p##_0, v, w_0);
#define PRODUCTS_2(p) PRODUCTS_1(p) DOT(s_##p##_1, v, w_1);
#define PRODUCTS(p, B)                                                                             \
    {                                                                                              \
        const __m512i v = four_bytes(X_##p);                                                       \
        PRODUCTS_##B(p)                                                                            \
    }
#define KEEP_1(p) sums[p] = s_##p##_0;
#define KEEP_2(p) sums[2 * p] = s_##p##_0, sums[2 * p + 1] = s_##p##_1;
#define KEEP(p, B) KEEP_##B(p)
#define WEIGHTS_1 const __m512i w_0 = _mm512_loadu_si512(w);
#define WEIGHTS_2 WEIGHTS_1 const __m512i w_1 = _mm512_loadu_si512(w + 64);

/* Where pixels are read: a pointer for three of them, since an address adds no more than twice a
 * register. The compiler must not see how they hang together, or it makes one of each address. */
#define X_0 (x_0)
#define X_1 (x_0 + x_pixel)
#define X_2 (x_0 + 2 * x_pixel)
#define X_3 (x_3)
#define X_4 (x_3 + x_pixel)
#define X_5 (x_3 + 2 * x_pixel)
#define X_6 (x_6)
#define X_7 (x_6 + x_pixel)
#define X_8 (x_6 + 2 * x_pixel)
#define X_9 (x_9)
#define X_10 (x_9 + x_pixel)
#define X_11 (x_9 + 2 * x_pixel)
#define X_12 (x_12)
#define X_13 (x_12 + x_pixel)
#define POINT(P, p, from)                                                                          \
    const uint8_t *x_##p = (from) + p * x_pixel;                                                   \
    if (P > p)                                                                                     \
        __asm__("" : "+r"(x_##p));
#define POINT_TO(P, from)                                                                          \
    POINT(P, 0, from) POINT(P, 3, from) POINT(P, 6, from) POINT(P, 9, from) POINT(P, 12, from)
#define ADVANCE(step) (x_0 += (step), x_3 += (step), x_6 += (step), x_9 += (step), x_12 += (step))

static inline __m512i four_bytes(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Where a run of pixels begins. */
struct place {
    const uint8_t *x;
    const int32_t *x_sum;
    size_t y;
};

/* Adds what the inputs' zero point, which the weights do not have, comes to. */
static void add_sums(const struct rt_qmac *m, const int32_t *x_sum, __m512i *sums, size_t pixels,
                     size_t blocks)
{
    for (size_t i = 0; i < pixels * blocks; i++) {
        const __m512i zero = _mm512_loadu_si512(m->x_zero + i % blocks * 16);
        const __m512i all = _mm512_set1_epi32(x_sum[i / blocks]);
        sums[i] = _mm512_add_epi32(sums[i], _mm512_mullo_epi32(all, zero));
    }
}

static inline __m512 low_floats(__m512i shorts)
{
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_unpacklo_epi16(shorts, shorts), 16));
}

static inline __m512 high_floats(__m512i shorts)
{
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_unpackhi_epi16(shorts, shorts), 16));
}

static inline __m512i shorts_of(__m512 a, __m512 b)
{
    return _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
}

static inline __m512i clamp_shorts(__m512i v, int32_t lo, int32_t hi)
{
    return _mm512_min_epi16(_mm512_max_epi16(v, _mm512_set1_epi16((short)lo)),
                            _mm512_set1_epi16((short)hi));
}

/* 32 reals in the order of two vectors, with the bytes at r added, to bytes in their own order. */
static inline __m256i with_residual(const struct rt_requantize *q, __m512 a, __m512 b, __m256i r)
{
    const __m512 own = _mm512_set1_ps(q->own), other = _mm512_set1_ps(q->other);
    if (q->middle) {
        const __m512i t = clamp_shorts(shorts_of(a, b), q->mid_lo, q->mid_hi);
        a = low_floats(t);
        b = high_floats(t);
    }
    const __m512i rest =
        _mm512_sub_epi16(_mm512_cvtepu8_epi16(r), _mm512_set1_epi16((short)q->r_zero));
    a = _mm512_add_ps(_mm512_mul_ps(a, own), _mm512_mul_ps(low_floats(rest), other));
    b = _mm512_add_ps(_mm512_mul_ps(b, own), _mm512_mul_ps(high_floats(rest), other));
    const __m512i v = _mm512_adds_epi16(shorts_of(a, b), _mm512_set1_epi16((short)q->zero));
    return _mm512_cvtepi16_epi8(clamp_shorts(v, q->lo, q->hi));
}

static void finish_2(const struct rt_qmac *m, const __m512i *sums, size_t pixels, size_t at)
{
    const struct rt_requantize *q = m->q;
    const __m512 f_0 = _mm512_loadu_ps(m->factor), f_1 = _mm512_loadu_ps(m->factor + 16);
    const __m512 s_0 = m->shift != NULL ? _mm512_loadu_ps(m->shift) : _mm512_setzero_ps();
    const __m512 s_1 = m->shift != NULL ? _mm512_loadu_ps(m->shift + 16) : _mm512_setzero_ps();
    const __m512i zero = _mm512_set1_epi16((short)q->zero);
    for (size_t p = 0; p < pixels; p++, at += m->y_pixel) {
        __m512 a = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[2 * p]), f_0);
        __m512 b = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[2 * p + 1]), f_1);
        if (m->shift != NULL) {
            a = _mm512_add_ps(a, s_0);
            b = _mm512_add_ps(b, s_1);
        }
        __m256i bytes;
        if (m->residual != NULL) {
            const __m256i r = _mm256_loadu_si256((const __m256i_u *)(m->residual + at));
            bytes = with_residual(q, a, b, r);
        } else {
            const __m512i v = _mm512_adds_epi16(shorts_of(a, b), zero);
            bytes = _mm512_cvtepi16_epi8(clamp_shorts(v, q->lo, q->hi));
        }
        _mm256_storeu_si256((__m256i_u *)(m->y + at), bytes);
    }
}

/* One vector of maps is finished as the low half of two, in their own order: 4 maps of each 128
 * bits are what unpacking and packing keep together. */
static void finish_1(const struct rt_qmac *m, const __m512i *sums, size_t pixels, size_t at)
{
    const struct rt_requantize *q = m->q;
    const __m512 factor = _mm512_loadu_ps(m->factor);
    const __m512 shift = m->shift != NULL ? _mm512_loadu_ps(m->shift) : _mm512_setzero_ps();
    for (size_t p = 0; p < pixels; p++, at += m->y_pixel) {
        __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[p]), factor);
        if (m->shift != NULL)
            v = _mm512_add_ps(v, shift);
        if (m->residual != NULL) {
            if (q->middle)
                v = _mm512_cvtepi32_ps(_mm512_min_epi32(
                    _mm512_max_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(q->mid_lo)),
                    _mm512_set1_epi32(q->mid_hi)));
            const __m512i r = _mm512_sub_epi32(
                _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i_u *)(m->residual + at))),
                _mm512_set1_epi32(q->r_zero));
            v = _mm512_add_ps(_mm512_mul_ps(v, _mm512_set1_ps(q->own)),
                              _mm512_mul_ps(_mm512_cvtepi32_ps(r), _mm512_set1_ps(q->other)));
        }
        /* Cut to 16 bits first, as where there are two vectors: adding the zero could wrap. */
        __m256i shorts = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v));
        shorts = _mm256_adds_epi16(shorts, _mm256_set1_epi16((short)q->zero));
        shorts = _mm256_min_epi16(_mm256_max_epi16(shorts, _mm256_set1_epi16((short)q->lo)),
                                  _mm256_set1_epi16((short)q->hi));
        _mm_storeu_si128((__m128i_u *)(m->y + at), _mm256_cvtepi16_epi8(shorts));
    }
}

#define TILE(P, B)                                                                                 \
    static void mac_##P##x##B(const struct rt_qmac *m, struct place *at, size_t tiles)             \
    {                                                                                              \
        size_t x_pixel = m->x_pixel;                                                               \
        const __m512i bias_0 = _mm512_loadu_si512(m->bias);                                        \
        const __m512i bias_1 = _mm512_loadu_si512(m->bias + (B - 1) * 16);                         \
        (void)bias_1;                                                                              \
        for (; tiles > 0; tiles--) {                                                               \
            __m512i sums[P * B];                                                                   \
            const int8_t *w = m->w;                                                                \
            PIXELS_##P(FROM_BIAS, B);                                                              \
            for (size_t plane = 0; plane < m->planes; plane++) {                                   \
                for (size_t i = 0; i < m->kh; i++) {                                               \
                    for (size_t j = 0; j < m->kw; j++) {                                           \
                        POINT_TO(P, at->x + i * m->x_kh + j * m->x_kw);                            \
                        for (size_t n = m->groups; n > 0; n--) {                                   \
                            WEIGHTS_##B;                                                           \
                            __asm__("" : "+r"(x_pixel));                                           \
                            PIXELS_##P(PRODUCTS, B);                                               \
                            w += B * 64;                                                           \
                            ADVANCE(4);                                                            \
                        }                                                                          \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
            PIXELS_##P(KEEP, B) if (m->x_zero != NULL)                                             \
            {                                                                                      \
                add_sums(m, at->x_sum, sums, P, B);                                                \
                at->x_sum += P;                                                                    \
            }                                                                                      \
            finish_##B(m, sums, P, at->y);                                                         \
            at->x += P * m->x_pixel;                                                               \
            at->y += P * m->y_pixel;                                                               \
        }                                                                                          \
    }

#define EACH_TILE(T, B)                                                                            \
    T(1, B)                                                                                        \
    T(2, B)                                                                                        \
    T(3, B) T(4, B) T(5, B) T(6, B) T(7, B) T(8, B) T(9, B) T(10, B) T(11, B) T(12, B) T(13, B)    \
        T(14, B)
EACH_TILE(TILE, 1)
EACH_TILE(TILE, 2)

typedef void tile_fn(const struct rt_qmac *m, struct place *at, size_t tiles);
#define ENTRY(P, B) mac_##P##x##B,
static tile_fn *const tiles[2][14] = { { EACH_TILE(ENTRY, 1) }, { EACH_TILE(ENTRY, 2) } };

static void mac(const struct rt_qmac *m)
{
    tile_fn *const *const tile = tiles[m->maps > 16];
    const size_t whole = m->pixels / 14, rest = m->pixels % 14;
    struct place at = { .x_sum = m->x_sum };
    for (size_t r = 0; r < m->rows; r++) {
        at.x = (const uint8_t *)m->x + r * m->x_row;
        at.y = r * m->y_row;
        tile[13](m, &at, whole);
        if (rest > 0)
            tile[rest - 1](m, &at, 1);
    }
}

/* The first n <= 64 bytes. */
static inline __m512i part(const void *x, size_t n)
{
    return _mm512_maskz_loadu_epi8(n >= 64 ? ~0ull : (1ull << n) - 1, x);
}

/* The sum of the inputs of one pixel, spread over 16 lanes. */
static inline __m512i sum_pixel(const struct rt_qsum *s, const uint8_t *x)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < s->kh; i++) {
        for (size_t j = 0; j < s->kw; j++) {
            for (size_t c = 0; c < s->bytes; c += 64) {
                const __m512i v = part(x + i * s->x_kh + j * s->x_kw + c, s->bytes - c);
                const __m512i w = part(s->w + c, s->bytes - c);
                DOT(sum, v, w);
            }
        }
    }
    return sum;
}

/* The sums of the lanes of four, in order. */
static inline __m128i add_lanes(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i all =
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static void sums(const struct rt_qsum *s)
{
    int32_t *out = s->out;
    for (size_t r = 0; r < s->rows; r++) {
        const uint8_t *x = s->x + r * s->x_row;
        size_t p = 0;
        for (; p + 4 <= s->pixels; p += 4, x += 4 * s->x_pixel, out += 4) {
            const __m512i a = sum_pixel(s, x), b = sum_pixel(s, x + s->x_pixel);
            const __m512i c = sum_pixel(s, x + 2 * s->x_pixel);
            const __m512i d = sum_pixel(s, x + 3 * s->x_pixel);
            _mm_storeu_si128((__m128i_u *)out, add_lanes(a, b, c, d));
        }
        for (; p < s->pixels; p++, x += s->x_pixel, out++)
            *out = _mm512_reduce_add_epi32(sum_pixel(s, x));
    }
}

/* --- depthwise ------------------------------------------------------------------------------ */

/* The bytes of 64 channels at four rows, to four vectors of [channel][row]: channels 16 L + 4 q + i
 * in lane 4 L + i of vector q, which packing puts in order again. */
#define INTERLEAVE(c)                                                                              \
    const __m512i r_0 = _mm512_maskz_loadu_epi8(mask, row_0 + (c));                                \
    const __m512i r_1 = _mm512_maskz_loadu_epi8(mask, row_1 + (c));                                \
    const __m512i r_2 = _mm512_maskz_loadu_epi8(mask, row_2 + (c));                                \
    const __m512i r_3 = _mm512_maskz_loadu_epi8(mask, row_3 + (c));                                \
    const __m512i low = _mm512_unpacklo_epi8(r_0, r_1), high = _mm512_unpackhi_epi8(r_0, r_1);     \
    const __m512i low_2 = _mm512_unpacklo_epi8(r_2, r_3), high_2 = _mm512_unpackhi_epi8(r_2, r_3); \
    const __m512i x_0 = _mm512_unpacklo_epi16(low, low_2);                                         \
    const __m512i x_1 = _mm512_unpackhi_epi16(low, low_2);                                         \
    const __m512i x_2 = _mm512_unpacklo_epi16(high, high_2);                                       \
    const __m512i x_3 = _mm512_unpackhi_epi16(high, high_2);

#define DW_START(p, unused)                                                                        \
    __m512i d_##p##_0 = _mm512_loadu_si512(bias), d_##p##_1 = _mm512_loadu_si512(bias + 16);       \
    __m512i d_##p##_2 = _mm512_loadu_si512(bias + 32), d_##p##_3 = _mm512_loadu_si512(bias + 48);
/* The tap of pixel p that reads this column, if there is one. */
#define DW_TAP(p, unused)                                                                          \
    {                                                                                              \
        const size_t j = column - p * d->stride;                                                   \
        if (j < d->kw) {                                                                           \
            const int8_t *at = w + j * 256;                                                        \
            DOT_FROM(d_##p##_0, x_0, at);                                                          \
            DOT_FROM(d_##p##_1, x_1, at + 64);                                                     \
            DOT_FROM(d_##p##_2, x_2, at + 128);                                                    \
            DOT_FROM(d_##p##_3, x_3, at + 192);                                                    \
        }                                                                                          \
    }
#define DW_KEEP(p, unused)                                                                         \
    sum[4 * p] = d_##p##_0, sum[4 * p + 1] = d_##p##_1, sum[4 * p + 2] = d_##p##_2,                \
            sum[4 * p + 3] = d_##p##_3;

/* P pixels from x on; the columns that they read are put together once for all of them. */
#define DEPTHWISE(P)                                                                               \
    static void depthwise_##P(const struct rt_qdepthwise *d, const uint8_t *x, const int8_t *w,    \
                              const int32_t *bias, __mmask64 mask, __m512i *sum)                   \
    {                                                                                              \
        const size_t reach = (P - 1) * d->stride + (d->kw - 1) * d->dilation;                      \
        const size_t next = P == 1 ? d->dilation : 1;                                              \
        PIXELS_##P(DW_START, ) for (size_t plane = 0; plane < d->planes; plane++)                  \
        {                                                                                          \
            for (size_t i = 0; i < d->kh; i += RT_QROWS, w += d->kw * 256) {                       \
                const size_t last = d->kh - 1 - i; /* rows that are none have weights of 0 */      \
                const uint8_t *row_0 = x + i * d->x_kh;                                            \
                const uint8_t *row_1 = row_0 + (last < 1 ? last : 1) * d->x_kh;                    \
                const uint8_t *row_2 = row_0 + (last < 2 ? last : 2) * d->x_kh;                    \
                const uint8_t *row_3 = row_0 + (last < 3 ? last : 3) * d->x_kh;                    \
                size_t column = 0;                                                                 \
                for (size_t c = 0; c <= reach; c += next, column++) {                              \
                    INTERLEAVE(c * d->x_column)                                                    \
                    PIXELS_##P(DW_TAP, )                                                           \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        PIXELS_##P(DW_KEEP, )                                                                      \
    }
DEPTHWISE(1)
DEPTHWISE(2)
DEPTHWISE(3)
DEPTHWISE(4)

static inline __m512 real(const __m512i *sum, const float *factor, const float *shift)
{
    const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(*sum), _mm512_loadu_ps(factor));
    return shift != NULL ? _mm512_add_ps(v, _mm512_loadu_ps(shift)) : v;
}

/* Packing 32-bit lanes twice puts the channels in order: a pair of vectors has those of 16 L + 8 h
 * on in each 128 bits. */
static void finish_channels(const struct rt_qdepthwise *d, size_t first, const __m512i *sum,
                            size_t pixels, size_t at, __mmask64 mask)
{
    const struct rt_requantize *q = d->q;
    const float *factor = d->factor + first, *shift = d->shift != NULL ? d->shift + first : NULL;
    for (size_t p = 0; p < pixels; p++, at += d->y_pixel, sum += 4) {
        __m512i half[2];
        __m512i rest = _mm512_setzero_si512();
        if (d->residual != NULL)
            rest = _mm512_maskz_loadu_epi8(mask, d->residual + at);
        for (size_t h = 0; h < 2; h++) {
            const float *add = shift != NULL ? shift + 32 * h : NULL;
            __m512 a = real(sum + 2 * h, factor + 32 * h, add);
            __m512 b = real(sum + 2 * h + 1, factor + 32 * h + 16, add != NULL ? add + 16 : NULL);
            if (d->residual != NULL) {
                if (q->middle) {
                    const __m512i t = clamp_shorts(shorts_of(a, b), q->mid_lo, q->mid_hi);
                    a = low_floats(t);
                    b = high_floats(t);
                }
                const __m512i none = _mm512_setzero_si512();
                __m512i r =
                    h == 0 ? _mm512_unpacklo_epi8(rest, none) : _mm512_unpackhi_epi8(rest, none);
                r = _mm512_sub_epi16(r, _mm512_set1_epi16((short)q->r_zero));
                const __m512 own = _mm512_set1_ps(q->own), other = _mm512_set1_ps(q->other);
                a = _mm512_add_ps(_mm512_mul_ps(a, own), _mm512_mul_ps(low_floats(r), other));
                b = _mm512_add_ps(_mm512_mul_ps(b, own), _mm512_mul_ps(high_floats(r), other));
            }
            const __m512i v = _mm512_adds_epi16(shorts_of(a, b), _mm512_set1_epi16((short)q->zero));
            half[h] = clamp_shorts(v, q->lo, q->hi);
        }
        _mm512_mask_storeu_epi8(d->y + at, mask, _mm512_packus_epi16(half[0], half[1]));
    }
}

static void depthwise(const struct rt_qdepthwise *d)
{
    /* Pixels whose taps are apart share no columns. */
    const size_t most = d->dilation == 1 ? 4 : 1;
    for (size_t c = 0; c < d->channels; c += 64) {
        const size_t left = d->channels - c;
        const __mmask64 mask = left >= 64 ? ~0ull : (1ull << left) - 1;
        const int8_t *w = (const int8_t *)d->w + c / 64 * d->w_chunk;
        for (size_t r = 0; r < d->rows; r++) {
            for (size_t p = 0, n; p < d->pixels; p += n) {
                const uint8_t *x = d->x + r * d->x_row + p * d->stride * d->x_column + c;
                __m512i sum[16];
                n = d->pixels - p < most ? d->pixels - p : most;
                if (n == 4)
                    depthwise_4(d, x, w, d->bias + c, mask, sum);
                else if (n == 3)
                    depthwise_3(d, x, w, d->bias + c, mask, sum);
                else if (n == 2)
                    depthwise_2(d, x, w, d->bias + c, mask, sum);
                else
                    depthwise_1(d, x, w, d->bias + c, mask, sum);
                finish_channels(d, c, sum, n, r * d->y_row + p * d->y_pixel + c, mask);
            }
        }
    }
}

const struct rt_integer_kernels rt_integer_avx512 = {
    .name = "vnni",
    .lanes = 16,
    .group = 4,
    .tile = 14,
    .chunk = 64,
    .mac = mac,
    .sums = sums,
    .depthwise = depthwise,
    INTEGER_SLOTS,
};

#else
typedef int rt_no_integer_avx512; /* a file may not be empty */
#endif
