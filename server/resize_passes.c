/* The passes for each level of instructions.
 *
 * The products of pixels with the halves of coefficients are summed apart and put together at the
 * end: the same integer as multiplying in 32 bits, but a form in which SSE2 does eight products an
 * instruction. Both halves have the coefficient's sign, so that even sums over thousands of taps
 * stay far from overflow. */
#include "server/resize_passes.h"

#include <string.h>

#include "runtime/rt.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

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
    const __m128i half = _mm_set1_epi32(1 << (SV_TAP_BITS - 1));
    return _mm_srai_epi32(
        _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(high, SV_TAP_LOW_BITS), low), half),
        SV_TAP_BITS);
}

/* Two neighbouring pixels are shuffled into r0 r1 g0 g1 b0 b1, and multiplied in pairs. */
static void across_rgb(const struct sv_taps *t, const uint8_t *src, uint8_t *dst)
{
    const __m128i zero = _mm_setzero_si128();
    for (int i = 0; i < t->n; i++) {
        const uint8_t *p = src + (size_t)t->first[i] * 3;
        const int16_t *l = t->low + (size_t)i * (size_t)t->room;
        const int16_t *h = t->high + (size_t)i * (size_t)t->room;
        __m128i low = zero, high = zero;
        for (int k = 0; k < t->count[i]; k += 2, p += 6) {
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

static void across_gray(const struct sv_taps *t, const uint8_t *src, uint8_t *dst)
{
    const __m128i zero = _mm_setzero_si128();
    for (int i = 0; i < t->n; i++) {
        const uint8_t *p = src + t->first[i];
        const __m128i *l = (const __m128i *)(t->low + (size_t)i * (size_t)t->room);
        const __m128i *h = (const __m128i *)(t->high + (size_t)i * (size_t)t->room);
        __m128i low = zero, high = zero;
        for (int k = 0; k < t->count[i]; k += 8, p += 8) {
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
    const int v = (high * (1 << SV_TAP_LOW_BITS) + low + (1 << (SV_TAP_BITS - 1))) >> SV_TAP_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void across_any(const struct sv_taps *t, const uint8_t *src, uint8_t *dst, int channels)
{
    for (int i = 0; i < t->n; i++) {
        const int16_t *l = t->low + (size_t)i * (size_t)t->room;
        const int16_t *h = t->high + (size_t)i * (size_t)t->room;
        for (int c = 0; c < channels; c++) {
            const uint8_t *p = src + (ptrdiff_t)t->first[i] * channels + c;
            int low = 0, high = 0;
            for (int k = 0; k < t->count[i]; k++, p += channels) {
                low += *p * l[k];
                high += *p * h[k];
            }
            *dst++ = join(low, high);
        }
    }
}

static void across_rgb(const struct sv_taps *t, const uint8_t *src, uint8_t *dst)
{
    across_any(t, src, dst, 3);
}

static void across_gray(const struct sv_taps *t, const uint8_t *src, uint8_t *dst)
{
    across_any(t, src, dst, 1);
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

static void across(const struct sv_taps *t, int channels, const uint8_t *const *src,
                   uint8_t *const *dst)
{
    if (channels == 3)
        across_rgb(t, src[0], dst[0]);
    else
        across_gray(t, src[0], dst[0]);
}

static const struct sv_passes plain = { 1, across, down };

#if defined(__SSE2__)

/* Three bytes a pixel, of which two neighbours become r0 r1 g0 g1 b0 b1 in 16 bits each. */
#define PAIR(at) at, -1, at + 3, -1, at + 1, -1, at + 4, -1, at + 2, -1, at + 5, -1, -1, -1, -1, -1

static inline __m128i load_16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

static inline void store_pixel(uint8_t *dst, __m128i v)
{
    const int rgbx = _mm_cvtsi128_si32(v);
    memcpy(dst, &rgbx, 4);
}

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i join_avx2(__m256i low, __m256i high)
{
    const __m256i half = _mm256_set1_epi32(1 << (SV_TAP_BITS - 1));
    high = _mm256_slli_epi32(high, SV_TAP_LOW_BITS);
    return _mm256_srai_epi32(_mm256_add_epi32(_mm256_add_epi32(high, low), half), SV_TAP_BITS);
}

AVX2 static inline __m256i load_pair_avx2(const int16_t *p)
{
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* Two rows, one in each half of a vector. */
AVX2 static void across_avx2(const struct sv_taps *t, int channels, const uint8_t *const *src,
                             uint8_t *const *dst)
{
    if (channels != 3) {
        for (int i = 0; i < 2; i++)
            across_gray(t, src[i], dst[i]);
        return;
    }
    const __m256i pair0 = _mm256_broadcastsi128_si256(_mm_setr_epi8(PAIR(0)));
    const __m256i pair1 = _mm256_broadcastsi128_si256(_mm_setr_epi8(PAIR(6)));
    for (int i = 0; i < t->n; i++) {
        size_t at = (size_t)t->first[i] * 3;
        const int16_t *l = t->low + (size_t)i * (size_t)t->room;
        const int16_t *h = t->high + (size_t)i * (size_t)t->room;
        __m256i low = _mm256_setzero_si256(), high = low;
        for (int k = 0; k < t->count[i]; k += 4, at += 12) {
            const __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(load_16(src[0] + at)),
                                                      load_16(src[1] + at), 1);
            const __m256i v0 = _mm256_shuffle_epi8(v, pair0), v1 = _mm256_shuffle_epi8(v, pair1);
            low = _mm256_add_epi32(low, _mm256_madd_epi16(v0, load_pair_avx2(l + k)));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(v0, load_pair_avx2(h + k)));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(v1, load_pair_avx2(l + k + 2)));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(v1, load_pair_avx2(h + k + 2)));
        }
        __m256i v = join_avx2(low, high);
        v = _mm256_packs_epi32(v, v);
        v = _mm256_packus_epi16(v, v);
        store_pixel(dst[0] + (size_t)i * 3, _mm256_castsi256_si128(v));
        store_pixel(dst[1] + (size_t)i * 3, _mm256_extracti128_si256(v, 1));
    }
}

/* Sixteen columns at a time, two rows at a time. */
AVX2 static void down_avx2(const int16_t *l, const int16_t *h, int count, const uint8_t *src,
                           size_t stride, uint8_t *dst, size_t len)
{
    const __m256i zero = _mm256_setzero_si256();
    for (size_t x = 0; x < len; x += 16) {
        const uint8_t *p = src + x;
        __m256i low0 = zero, low1 = zero, high0 = zero, high1 = zero;
        for (int k = 0; k < count; k += 2, p += 2 * stride) {
            const __m128i a = load_16(p);
            const __m128i b = k + 1 < count ? load_16(p + stride) : _mm_setzero_si128();
            const __m256i v0 = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
            const __m256i v1 = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
            const __m256i lk = load_pair_avx2(l + k), hk = load_pair_avx2(h + k);
            low0 = _mm256_add_epi32(low0, _mm256_madd_epi16(v0, lk));
            low1 = _mm256_add_epi32(low1, _mm256_madd_epi16(v1, lk));
            high0 = _mm256_add_epi32(high0, _mm256_madd_epi16(v0, hk));
            high1 = _mm256_add_epi32(high1, _mm256_madd_epi16(v1, hk));
        }
        __m256i v = _mm256_packs_epi32(join_avx2(low0, high0), join_avx2(low1, high1));
        v = _mm256_permute4x64_epi64(v, 0xd8);
        v = _mm256_permute4x64_epi64(_mm256_packus_epi16(v, v), 0xd8);
        uint8_t out[16];
        _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(v));
        memcpy(dst + x, out, len - x < 16 ? len - x : 16);
    }
}

static const struct sv_passes avx2 = { 2, across_avx2, down_avx2 };

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

AVX512 static inline __m512i join_avx512(__m512i low, __m512i high)
{
    const __m512i half = _mm512_set1_epi32(1 << (SV_TAP_BITS - 1));
    high = _mm512_slli_epi32(high, SV_TAP_LOW_BITS);
    return _mm512_srai_epi32(_mm512_add_epi32(_mm512_add_epi32(high, low), half), SV_TAP_BITS);
}

AVX512 static inline __m512i load_pair_avx512(const int16_t *p)
{
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* Four rows, one in each quarter of a vector. */
AVX512 static void across_avx512(const struct sv_taps *t, int channels, const uint8_t *const *src,
                                 uint8_t *const *dst)
{
    if (channels != 3) {
        for (int i = 0; i < 4; i++)
            across_gray(t, src[i], dst[i]);
        return;
    }
    const __m512i pair0 = _mm512_broadcast_i32x4(_mm_setr_epi8(PAIR(0)));
    const __m512i pair1 = _mm512_broadcast_i32x4(_mm_setr_epi8(PAIR(6)));
    for (int i = 0; i < t->n; i++) {
        size_t at = (size_t)t->first[i] * 3;
        const int16_t *l = t->low + (size_t)i * (size_t)t->room;
        const int16_t *h = t->high + (size_t)i * (size_t)t->room;
        __m512i low = _mm512_setzero_si512(), high = low;
        for (int k = 0; k < t->count[i]; k += 4, at += 12) {
            __m512i v = _mm512_castsi128_si512(load_16(src[0] + at));
            v = _mm512_inserti32x4(v, load_16(src[1] + at), 1);
            v = _mm512_inserti32x4(v, load_16(src[2] + at), 2);
            v = _mm512_inserti32x4(v, load_16(src[3] + at), 3);
            const __m512i v0 = _mm512_shuffle_epi8(v, pair0), v1 = _mm512_shuffle_epi8(v, pair1);
            low = _mm512_add_epi32(low, _mm512_madd_epi16(v0, load_pair_avx512(l + k)));
            high = _mm512_add_epi32(high, _mm512_madd_epi16(v0, load_pair_avx512(h + k)));
            low = _mm512_add_epi32(low, _mm512_madd_epi16(v1, load_pair_avx512(l + k + 2)));
            high = _mm512_add_epi32(high, _mm512_madd_epi16(v1, load_pair_avx512(h + k + 2)));
        }
        __m512i v = join_avx512(low, high);
        v = _mm512_packs_epi32(v, v);
        v = _mm512_packus_epi16(v, v);
        store_pixel(dst[0] + (size_t)i * 3, _mm512_castsi512_si128(v));
        store_pixel(dst[1] + (size_t)i * 3, _mm512_extracti32x4_epi32(v, 1));
        store_pixel(dst[2] + (size_t)i * 3, _mm512_extracti32x4_epi32(v, 2));
        store_pixel(dst[3] + (size_t)i * 3, _mm512_extracti32x4_epi32(v, 3));
    }
}

/* Thirty-two columns at a time, two rows at a time. Unpacking works in halves, which leaves columns
 * 0 to 7 and 16 to 23 in one vector and the others in the second. */
AVX512 static void down_avx512(const int16_t *l, const int16_t *h, int count, const uint8_t *src,
                               size_t stride, uint8_t *dst, size_t len)
{
    const __m512i zero = _mm512_setzero_si512();
    for (size_t x = 0; x < len; x += 32) {
        const uint8_t *p = src + x;
        __m512i low0 = zero, low1 = zero, high0 = zero, high1 = zero;
        for (int k = 0; k < count; k += 2, p += 2 * stride) {
            const __m256i a = _mm256_loadu_si256((const __m256i *)p);
            const __m256i b = k + 1 < count ? _mm256_loadu_si256((const __m256i *)(p + stride))
                                            : _mm256_setzero_si256();
            const __m512i v0 = _mm512_cvtepu8_epi16(_mm256_unpacklo_epi8(a, b));
            const __m512i v1 = _mm512_cvtepu8_epi16(_mm256_unpackhi_epi8(a, b));
            const __m512i lk = load_pair_avx512(l + k), hk = load_pair_avx512(h + k);
            low0 = _mm512_add_epi32(low0, _mm512_madd_epi16(v0, lk));
            low1 = _mm512_add_epi32(low1, _mm512_madd_epi16(v1, lk));
            high0 = _mm512_add_epi32(high0, _mm512_madd_epi16(v0, hk));
            high1 = _mm512_add_epi32(high1, _mm512_madd_epi16(v1, hk));
        }
        const __m512i v0 = _mm512_max_epi32(join_avx512(low0, high0), zero);
        const __m512i v1 = _mm512_max_epi32(join_avx512(low1, high1), zero);
        const __m128i b0 = _mm512_cvtusepi32_epi8(v0), b1 = _mm512_cvtusepi32_epi8(v1);
        uint8_t out[32];
        _mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi64(b0, b1));
        _mm_storeu_si128((__m128i *)(out + 16), _mm_unpackhi_epi64(b0, b1));
        memcpy(dst + x, out, len - x < 32 ? len - x : 32);
    }
}

static const struct sv_passes avx512 = { 4, across_avx512, down_avx512 };

const struct sv_passes *sv_resize_passes(void)
{
    const char *isa = rt_isa();
    return strcmp(isa, "avx512") == 0 ? &avx512 : strcmp(isa, "avx2") == 0 ? &avx2 : &plain;
}

#else

const struct sv_passes *sv_resize_passes(void)
{
    return &plain;
}

#endif
