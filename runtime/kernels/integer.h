/* Kernels on 8-bit numbers, one struct of function pointers a level, as in kernels.h.
 *
 * Tensors are of bytes 0..255, pixel by pixel: [N][H][W][channels], the channels rounded up to
 * RT_PIXEL_CHANNELS, or to 4 where there are no more than that. A real number is scale * (byte -
 * zero). Products are summed in 32 bits, which wrap, and are exact at every level: the levels give
 * the same bytes. */
#ifndef RUNTIME_KERNELS_INTEGER_H
#define RUNTIME_KERNELS_INTEGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RT_PIXEL_CHANNELS 16

/* Input rows that a depthwise kernel's weights are packed for at once. */
#define RT_QROWS 4

/* How sums become bytes, channel by channel:
 *
 *   v = (float)sum * factor + shift
 *   y = min(hi, max(lo, round(v) + zero))
 *
 * rounding halves to even. With a residual r, bytes laid out as y,
 *
 *   v = v * own + (r - r_zero) * other,    or, where middle is set,
 *   v = min(mid_hi, max(mid_lo, round(v))) * own + (r - r_zero) * other
 *
 * The caller sees to it that no v reaches 2^31. */
struct rt_requantize {
    int32_t zero, lo, hi;
    bool middle;
    int32_t mid_lo, mid_hi;
    float own, other;
    int32_t r_zero;
};

/* Sums of products for rows of pixels and one panel of maps. For r in 0..rows-1, p in 0..pixels-1
 * and each map of the panel,
 *
 *   sum = bias + x_sum[r * pixels + p] * x_zero + sum over i, j, c of
 *       x[r * x_row + p * x_pixel + i * x_kh + j * x_kw + c] * w[i][j][c]
 *
 * i in 0..kh-1, j in 0..kw-1, c in 0..groups * group - 1 (see rt_integer_kernels). Weights that
 * take more than a byte are the sum of two planes, [plane][i][j][c]. y gets one byte
 * a map, at r * y_row + p * y_pixel. Distances of x are in its elements. What belongs to maps
 * (w, bias, factor, shift, x_zero) is in the kernel's order, see rt_integer_place(). */
struct rt_qmac {
    const void *x; /* uint8_t; int16_t where the level is wide */
    const void *w;
    uint8_t *y;
    const uint8_t *residual; /* NULL: none */
    const int32_t *bias;
    const float *factor, *shift; /* shift NULL: none */
    const int32_t *x_zero;       /* NULL: none */
    const int32_t *x_sum;        /* [rows][pixels], where x_zero is there */
    const struct rt_requantize *q;
    size_t maps; /* of the panel: 1..panel */
    size_t pixels, rows;
    size_t x_pixel, x_row, x_kh, x_kw;
    size_t y_pixel, y_row;
    size_t kh, kw, groups;
    size_t planes; /* 1 where the level is wide */
};

/* What x_sum holds: out[r * pixels + p] is the sum over i, j, c of x[..] * w[c], as in rt_qmac,
 * with weights of 0 or 1, one for each of the bytes of a tap. */
struct rt_qsum {
    const uint8_t *x, *w;
    int32_t *out;
    size_t pixels, rows;
    size_t x_pixel, x_row, x_kh, x_kw;
    size_t kh, kw, bytes;
};

/* Rows of pixels, each channel on its own, for c in 0..channels-1 (a multiple of
 * RT_PIXEL_CHANNELS):
 *
 *   sum = bias[c] + sum over i, j of
 *       x[r * x_row + (p * stride + j * dilation) * x_column + i * x_kh + c] * w[i][j][c]
 *
 * The weights of chunk channels follow each other in w at w_chunk bytes; bias, factor and shift are
 * in the order of rt_integer_lane(). */
struct rt_qdepthwise {
    const uint8_t *x;
    const void *w;
    uint8_t *y;
    const uint8_t *residual;
    const int32_t *bias;
    const float *factor, *shift;
    const struct rt_requantize *q;
    size_t channels, pixels, rows;
    size_t x_column, x_row, x_kh;
    size_t y_pixel, y_row;
    size_t stride, dilation, kh, kw;
    size_t w_chunk;
    size_t planes; /* weights are the sum of so many of 8 bits each, [plane][rows / 4][kw][..] */
};

/* A row of windows: for p in 0..pixels-1, c in 0..channels-1 (a multiple of RT_PIXEL_CHANNELS), v
 * is the largest, or the sum, of x[p * x_pixel + i * x_kh + j * x_kw + c], i in 0..kh-1, j in
 * 0..kw-1; y[p * y_pixel + c] = min(hi, max(lo, round((v - x_zero) * factor) + zero)) */
struct rt_qwindow {
    const uint8_t *x;
    uint8_t *y;
    size_t channels, pixels;
    size_t x_pixel, x_kh, x_kw, y_pixel;
    size_t kh, kw;
    float factor;
    int32_t x_zero, zero, lo, hi;
};

/* y = min(hi, max(lo, round((a - a_zero) * a_factor + (b - b_zero) * b_factor) + zero)) */
struct rt_qadd {
    const uint8_t *a, *b;
    uint8_t *y;
    size_t n;
    float a_factor, b_factor;
    int32_t a_zero, b_zero;
    int32_t zero, lo, hi;
};

struct rt_integer_kernels {
    const char *name; /* "scalar", "avx2", "vnni": what reports call it */
    int lanes;        /* sums of a vector */
    int group;        /* channels that are multiplied and summed at once */
    bool wide; /* x and w of mac are int16_t: anything from -255 to 255, and x_sum is not used */
    int tile;  /* pixels that mac does at once */
    int chunk; /* channels that depthwise does at once; its weights are int8_t, else int16_t
                  where wide */
    void (*mac)(const struct rt_qmac *m);
    void (*sums)(const struct rt_qsum *s);                 /* NULL where wide */
    void (*widen)(int16_t *y, const uint8_t *x, size_t n); /* NULL where not */
    void (*depthwise)(const struct rt_qdepthwise *d);
    void (*max_pool)(const struct rt_qwindow *t);
    void (*mean_pool)(const struct rt_qwindow *t);
    void (*add)(const struct rt_qadd *a);
    /* n pixels of up to four channels x[0..channels-1][p], as bytes at y[p * y_pixel + 0..3]:
     * round(x / scale) + zero, cut to 0..255, NaN 0; zero where there is no channel. */
    void (*quantize)(uint8_t *y, size_t y_pixel, const float *const *x, size_t channels, size_t n,
                     float scale, int32_t zero);
};

/* Maps of a panel: two vectors of sums. */
static inline int rt_integer_panel(const struct rt_integer_kernels *k)
{
    return 2 * k->lanes;
}

/* Where map 0..panel-1 of a panel with so many maps stands among its sums: two vectors are in the
 * order that packing them into one of 16 bits undoes; where one vector is enough for
 * RT_PIXEL_CHANNELS maps, it has them in their own. */
static inline int rt_integer_place(const struct rt_integer_kernels *k, int map, int maps)
{
    if (maps <= RT_PIXEL_CHANNELS && k->lanes >= RT_PIXEL_CHANNELS)
        return map;
    return map / 4 % 2 * k->lanes + map / 8 * 4 + map % 4;
}

/* Where channel 0..chunk-1 of a depthwise chunk stands among its sums. */
static inline int rt_integer_lane(const struct rt_integer_kernels *k, int channel)
{
    return k->wide ? channel : channel / 4 % 4 * 16 + channel / 16 * 4 + channel % 4;
}

extern const struct rt_integer_kernels rt_integer_scalar;
extern const struct rt_integer_kernels rt_integer_avx2;
extern const struct rt_integer_kernels rt_integer_avx512; /* with VNNI */

/* Those that go with rt_kernels(). */
const struct rt_integer_kernels *rt_integer_kernels(void);
/* The i-th that this CPU can run, "scalar" first; NULL past the last. */
const struct rt_integer_kernels *rt_integer_kernels_at(int i);

#endif
