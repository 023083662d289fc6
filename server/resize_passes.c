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

static const struct sv_passes plain = { 1, across, down, NULL, NULL };

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

static const struct sv_passes avx2 = { 2, across_avx2, down_avx2, NULL, NULL };

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

static const struct sv_passes avx512 = { 4, across_avx512, down_avx512, NULL, NULL };

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")))

/* Five pixels of three channels in the lanes of a vector, four taps in the bytes of a lane: one
 * permutation brings the bytes there, and one instruction sums their products with four digits of
 * coefficients, each coefficient being digit2 * 65536 + digit1 * 256 + digit0. */
#define GROUP 5
#define GROUP_TAPS 4
#define WINDOW (64 / 3) /* source pixels that a load brings */

struct group {
    int first;          /* source pixel where the first window begins */
    int steps; /* windows, each GROUP_TAPS pixels behind the one before, all within the row */
    uint32_t index[16]; /* of bytes in each window */
    const void *digit;  /* [steps][3][16] of four digits, the highest first */
};

struct groups {
    int n;
    struct group group[];
};

static size_t groups_len(int n, int room, int channels)
{
    if (channels != 3)
        return 0;
    const size_t groups = ((size_t)n + GROUP - 1) / GROUP;
    const size_t digits = groups * (size_t)(room / GROUP_TAPS) * 3 * 64;
    return rt_align_up(sizeof(struct groups) + groups * sizeof(struct group)) + digits;
}

/* The digits of taps k to k + 3 of pixel i; false: one of them has more than three. */
static bool digits_of(const struct sv_taps *t, int i, int k, uint32_t digit[3])
{
    const size_t at = (size_t)i * (size_t)t->room + (size_t)k;
    bool fit = true;
    digit[0] = digit[1] = digit[2] = 0;
    for (int b = 0; b < GROUP_TAPS; b++) {
        int c = t->high[at + (size_t)b] * (1 << SV_TAP_LOW_BITS) + t->low[at + (size_t)b];
        for (int d = 2; d >= 0; d--) {
            const int8_t low = (int8_t)(c & 255);
            digit[d] |= (uint32_t)(uint8_t)low << (8 * b);
            c = (c - low) / 256;
        }
        fit &= c == 0;
    }
    return fit;
}

static bool make_groups(const struct sv_taps *t, int channels, void *room)
{
    struct groups *all = room;
    if (channels != 3)
        return false;
    all->n = (t->n + GROUP - 1) / GROUP;
    uint32_t *digit =
        (uint32_t *)(void *)((char *)room +
                             rt_align_up(sizeof *all + (size_t)all->n * sizeof all->group[0]));
    for (int g = 0; g < all->n; g++) {
        struct group *group = &all->group[g];
        const int first = t->first[g * GROUP],
                  end = (g + 1) * GROUP < t->n ? (g + 1) * GROUP : t->n;
        int steps = 0;
        for (int i = g * GROUP; i < end; i++)
            if (t->count[i] > steps * GROUP_TAPS)
                steps = (t->count[i] + GROUP_TAPS - 1) / GROUP_TAPS;
        *group = (struct group){ .first = first, .steps = steps, .digit = digit };
        memset(digit, 0, (size_t)steps * 3 * 64);
        for (int i = g * GROUP; i < end; i++) {
            const int skip = t->first[i] - first, lane = (i - g * GROUP) * 3;
            if (skip < 0 || skip + GROUP_TAPS > WINDOW)
                return false;
            for (int c = 0; c < 3; c++)
                group->index[lane + c] = (uint32_t)(skip * 3 + c) * 0x01010101u + 0x09060300u;
            for (int s = 0; s < steps; s++) {
                uint32_t d[3];
                if (!digits_of(t, i, s * GROUP_TAPS, d))
                    return false;
                for (int k = 0; k < 3; k++)
                    for (int c = 0; c < 3; c++)
                        digit[(s * 3 + k) * 16 + lane + c] = d[k];
            }
        }
        digit += steps * 3 * 16;
    }
    return true;
}

/* A row's sums with each digit of the coefficients. */
struct sums {
    __m512i digit[3];
};

VNNI static inline struct sums add_window(struct sums v, const uint8_t *p, __m512i index,
                                          const __m512i digit[3])
{
    const __m512i taps = _mm512_permutexvar_epi8(index, _mm512_loadu_si512(p));
    v.digit[0] = _mm512_dpbusd_epi32(v.digit[0], taps, digit[0]);
    v.digit[1] = _mm512_dpbusd_epi32(v.digit[1], taps, digit[1]);
    v.digit[2] = _mm512_dpbusd_epi32(v.digit[2], taps, digit[2]);
    return v;
}

VNNI static inline void store_group(uint8_t *dst, struct sums s)
{
    __m512i v = _mm512_add_epi32(_mm512_slli_epi32(s.digit[0], 8), s.digit[1]);
    v = _mm512_add_epi32(_mm512_slli_epi32(v, 8), s.digit[2]);
    v = _mm512_max_epi32(_mm512_srai_epi32(v, SV_TAP_BITS), _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)dst, _mm512_cvtusepi32_epi8(v));
}

/* Four rows of one group. */
VNNI static inline void across_group(const struct group *g, const uint8_t *const *src,
                                     uint8_t *const *dst, size_t at)
{
    const __m512i index = _mm512_loadu_si512(g->index), zero = _mm512_setzero_si512();
    const char *digits = g->digit;
    size_t from = (size_t)g->first * 3;
    struct sums v0 = { { zero, zero, _mm512_set1_epi32(1 << (SV_TAP_BITS - 1)) } };
    struct sums v1 = v0, v2 = v0, v3 = v0;
    for (int s = 0; s < g->steps; s++, digits += 3 * 64, from += GROUP_TAPS * 3) {
        const __m512i digit[3] = {
            _mm512_loadu_si512(digits),
            _mm512_loadu_si512(digits + 64),
            _mm512_loadu_si512(digits + 128),
        };
        v0 = add_window(v0, src[0] + from, index, digit);
        v1 = add_window(v1, src[1] + from, index, digit);
        v2 = add_window(v2, src[2] + from, index, digit);
        v3 = add_window(v3, src[3] + from, index, digit);
    }
    store_group(dst[0] + at, v0);
    store_group(dst[1] + at, v1);
    store_group(dst[2] + at, v2);
    store_group(dst[3] + at, v3);
}

VNNI static void across_vnni(const struct sv_taps *t, int channels, const uint8_t *const *src,
                             uint8_t *const *dst)
{
    const struct groups *all = t->prepared;
    if (all == NULL) {
        across_avx512(t, channels, src, dst);
        return;
    }
    for (int g = 0; g < all->n; g++)
        across_group(&all->group[g], src, dst, (size_t)g * GROUP * 3);
}

static const struct sv_passes vnni = { 4, across_vnni, down_avx512, groups_len, make_groups };

const struct sv_passes *sv_resize_passes_at(int i)
{
    const struct sv_passes *able[4] = { &plain };
    int n = 1;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        able[n++] = &avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        able[n++] = &avx512;
        if (__builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni"))
            able[n++] = &vnni;
    }
    return i < n ? able[i] : NULL;
}

const struct sv_passes *sv_resize_passes(void)
{
    const char *isa = rt_isa();
    if (strcmp(isa, "avx512") == 0)
        return sv_resize_passes_at(3) != NULL ? &vnni : &avx512;
    return strcmp(isa, "avx2") == 0 ? &avx2 : &plain;
}

#else

const struct sv_passes *sv_resize_passes_at(int i)
{
    return i == 0 ? &plain : NULL;
}

const struct sv_passes *sv_resize_passes(void)
{
    return &plain;
}

#endif
