/* One struct of function pointers a level of instructions; the best level that the CPU has is
 * chosen once. A kernel is single-threaded, allocates nothing and touches exactly the elements its
 * comment says. The result for an element depends on its operands alone: not on its position, on n
 * or on alignment, so the tail of a loop computes as its vectors do. */
#ifndef RUNTIME_KERNELS_KERNELS_H
#define RUNTIME_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A float at whatever address it has in a file. */
typedef float rt_float_anywhere __attribute__((aligned(1)));

/* With parameters a and b. NaN in, NaN out. */
enum rt_activation {
    RT_ACT_RELU,
    RT_ACT_CLIP,         /* min(b, max(a, x)) */
    RT_ACT_LEAKY_RELU,   /* x < 0 ? a * x : x */
    RT_ACT_SIGMOID,
    RT_ACT_TANH,
    RT_ACT_HARD_SIGMOID, /* max(0, min(1, a * x + b)) */
    RT_ACT_HARD_SWISH,   /* x * max(0, min(1, x / 6 + 0.5)) */
    RT_ACT_SILU,         /* x * sigmoid(a * x) */
    RT_ACT_GELU,         /* 0.5 x (1 + erf(x / sqrt 2)) */
    RT_ACT_GELU_TANH,    /* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
    RT_ACT_ELU,          /* x < 0 ? a (exp(x) - 1) : x */
    RT_ACT_SELU,         /* x <= 0 ? b (a exp(x) - a) : b x */
    RT_ACT_SOFTPLUS,     /* log(exp(x) + 1), without overflow */
    RT_ACT_MISH,         /* x tanh(softplus(x)) */
    RT_ACT_EXP,
    RT_ACT_ABS,
    RT_ACT_NEG,
    RT_ACT_SQRT,
    RT_ACT_LOG,          /* natural */
    RT_ACT_ERF,
    RT_N_ACTIVATIONS
};

/* Sums of products for rows of pixels and a panel of channels: the inside of convolutions and of
 * matrix products. With b = block, for r in 0..rows-1, p in 0..pixels-1, k in 0..blocks-1, l in
 * 0..b-1:
 *
 *   y[r * y_row + p * y_pixel + k * y_block + l] = start + sum over o, i, j, c of
 *       x[r * x_row + p * x_pixel + o * x_outer + i * x_kh + j * x_kw + c] * w[o][i][j][c][k][l]
 *
 * o in 0..outer-1, i in 0..kh-1, j in 0..kw-1, c in 0..lanes-1 (0..last_lanes-1 for the last o),
 * added one after the other in that order, so that a sum may be cut between two o and continued
 * without changing a bit. w holds a panel of two blocks densely, [..][c][2][b] (of one where blocks
 * is 1). Where blocks > 2, panels follow each other at a distance of w_panel floats. */
struct rt_mac {
    const float *x;
    const float *w;
    float *y;
    const float *bias;     /* [blocks][b], where the sums start; NULL: they go on from what is in y */
    const float *residual; /* laid out as y, added when the sum is complete; NULL: none */
    size_t pixels, rows, blocks;
    size_t x_pixel, x_row, x_outer, x_kh, x_kw;
    size_t y_pixel, y_row, y_block;
    size_t w_panel;
    size_t outer, kh, kw, lanes, last_lanes;
    bool clamp; /* min(hi, max(lo, sum)) in the end */
    float lo, hi;
    const float *ahead; /* what is read after this call, to be brought closer meanwhile */
    size_t ahead_len;   /* floats; 0: nothing. As many for each panel, w_panel further on */
};

/* Rows of pixels of one block of channels, each channel on its own: with b = block, for r in
 * 0..rows-1, p in 0..pixels-1, l in 0..b-1:
 *
 *   y[r * y_row + p * y_pixel + l] = bias[l] + sum over i, j of
 *       x[r * x_row + p * x_pixel + i * x_kh + j * x_kw + l] * w[i * w_kh + j * b + l]
 *
 * i in 0..kh-1, j in 0..kw-1, added in that order; then clamped as in rt_mac. */
struct rt_depthwise {
    const float *x;
    const float *w;
    float *y;
    const float *bias;
    size_t pixels, rows;
    size_t x_pixel, x_row, x_kh, x_kw;
    size_t y_pixel, y_row;
    size_t w_kh;
    size_t kh, kw;
    bool clamp;
    float lo, hi;
};

/* Rows of pixels of one block of maps, each from channels of its own in one block of channels: as
 * rt_depthwise, with
 *
 *   y[..] = bias[l] + sum over i, c, j of
 *       x[r * x_row + p * x_pixel + i * x_kh + j * x_kw + lane[c * b + l]] * w[i][c][j][l]
 *
 * c in 0..channels-1, added in that order. */
struct rt_grouped {
    const float *x;
    const float *w;
    float *y;
    const float *bias;
    const int32_t *lane;
    size_t pixels, rows;
    size_t x_pixel, x_row, x_kh, x_kw;
    size_t y_pixel, y_row;
    size_t kh, kw, channels;
    bool clamp;
    float lo, hi;
};

/* A row of windows of one block of channels: for p in 0..pixels-1, y[p * b + l] is what is made of
 * x[p * x_pixel + i * x_kh + j * x_kw + l] over i in 0..kh-1, j in 0..kw-1. */
struct rt_window {
    const float *x;
    float *y;
    size_t pixels;
    size_t x_pixel, x_kh, x_kw;
    size_t kh, kw;
    float count; /* of a mean: what the sum is divided by */
};

/* A block of channels put together from lanes of others: y[p * b + l] is
 * x[i][p * b + lane[i * b + l]] for the i whose mask[i * b + l] is -1, 0 where there is none; the
 * others' are 0. */
struct rt_select {
    const float *const *x;
    float *y;
    size_t pixels, sources;
    const int32_t *lane, *mask;
};

/* Winograd's 3x3 convolution makes a tile of m x m outputs, m 2 or 4, from n x n inputs, n = m + 2:
 * each of the n * n elements of the transformed tile is a matrix product of its own over channels.
 * Both transforms take a run of tiles that lie side by side in one channel block of one image. */
struct rt_winograd_in {
    const float *x; /* [height][width][b] */
    int64_t height, width;
    int64_t row, column; /* of the first tile's first input; there are zeros around the plane */
    size_t tiles;
    int m;
    float *v; /* element e of tile t: v[e * v_step + t * b + l] */
    size_t v_step;
};

struct rt_winograd_out {
    const float *z; /* the sums, laid out as v */
    size_t z_step;
    int m;
    const float *bias; /* [b] */
    float *y;          /* [height][width][b]; of a tile only what lies in it is written */
    const float *residual; /* the same, added after the bias; NULL: none */
    int64_t height, width;
    int64_t row, column; /* of the first tile's first output */
    size_t tiles;
    bool clamp; /* min(hi, max(lo, y)) in the end */
    float lo, hi;
};

/* Normalises pixels over their channels, which lie in blocks step floats apart:
 *   y[k * step + p * b + l] = (x[..] - mean(p)) / sqrt(variance(p) + epsilon)
 * mean and variance over the channels alone; the lanes after the last one get anything. y may be x. */
struct rt_channel_norm {
    const float *x;
    float *y;
    size_t pixels, channels, step;
    float epsilon;
};

struct rt_kernels {
    const char *name; /* "scalar", "avx2", "avx512", "neon" */
    int block;        /* floats of a channel block: the width of a vector, 8 where there is none */

    /* y[i] = act(x[i]) for i in 0..n-1; y may be x. */
    void (*activation[RT_N_ACTIVATIONS])(float *y, const float *x, size_t n, float a, float b);
    /* y[i] = a[i] op b[i]; y may be a or b. */
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*sub)(float *y, const float *a, const float *b, size_t n);
    void (*mul)(float *y, const float *a, const float *b, size_t n);
    void (*div)(float *y, const float *a, const float *b, size_t n);
    /* y[i] = x[i] * scale + shift, rounded twice; y may be x. */
    void (*affine)(float *y, const float *x, size_t n, float scale, float shift);
    /* y[i] += x[i] * a, rounded once where the level has fused multiply-add. */
    void (*axpy)(float *y, const float *x, size_t n, float a);
    /* affine on a blocked tensor's pixels: y[p][l] = x[p][l] * scale[l] + shift[l], l in
     * 0..block-1. shift may be NULL: multiplies only. */
    void (*affine_block)(float *y, const float *x, size_t pixels, const float *scale,
                         const float *shift);
    /* y[p][l] = x[p][l] < 0 ? x[p][l] * slope[l] : x[p][l]. */
    void (*prelu_block)(float *y, const float *x, size_t pixels, const float *slope);
    /* y[l] = the mean of x[p * block + l] over p in 0..pixels-1. */
    void (*mean_block)(float *y, const float *x, size_t pixels);
    void (*channel_norm)(const struct rt_channel_norm *n);
    /* One channel block between layouts: y[p][l] = x[l * stride + p] for l in 0..channels-1 and 0
     * for the lanes after that; and back. */
    void (*to_blocked)(float *y, const rt_float_anywhere *x, size_t pixels, size_t stride,
                       int channels);
    void (*to_plain)(float *y, const float *x, size_t pixels, size_t stride, int channels);
    /* Weights of a block of maps, each a row of x, side by side: y[at[i] + l] = x[l * stride + i] *
     * gain[l] for l in 0..maps-1 and 0 for the lanes after that, whose gain has to be 0. */
    void (*pack)(float *y, const int64_t *at, const rt_float_anywhere *x, size_t count,
                 size_t stride, int maps, const float *gain);

    int tile; /* pixels that mac does at once; a row of a multiple of it has no slower rest */
    int wide; /* blocks that mac does at once where it is given as many */
    void (*mac)(const struct rt_mac *m);
    void (*depthwise)(const struct rt_depthwise *d);
    void (*grouped)(const struct rt_grouped *g);
    void (*select)(const struct rt_select *s);
    void (*max_pool)(const struct rt_window *t); /* NaN where there is one; -infinity of nothing */
    void (*mean_pool)(const struct rt_window *t);
    void (*winograd_input)(const struct rt_winograd_in *t);
    void (*winograd_output)(const struct rt_winograd_out *t);
    /* u[e * u_step + l], e in 0..n * n - 1, from the weights w[3][3][b] of b output channels. */
    void (*winograd_weights)(float *u, size_t u_step, const float *w, int m);
};

/* The levels, each in the file of its name; the first on any CPU, two on x86-64, the last on arm64. */
extern const struct rt_kernels rt_kernels_scalar;
extern const struct rt_kernels rt_kernels_avx2;
extern const struct rt_kernels rt_kernels_avx512;
extern const struct rt_kernels rt_kernels_neon;

/* The chosen level; RT_ISA=scalar|avx2|avx512|neon lowers it. Same pointer on every call. */
const struct rt_kernels *rt_kernels(void);
/* The i-th level that this CPU can run, the reference ("scalar") first; NULL past the last. */
const struct rt_kernels *rt_kernels_at(int i);
/* For tests: what rt_kernels() gives from now on; NULL: the choice again. */
void rt_kernels_use(const struct rt_kernels *k);

#endif
