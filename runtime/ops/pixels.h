/* Operators on tensors of bytes that lie pixel by pixel (RT_PIXELS): what passes/integers.c makes
 * of quantised regions. A byte b of a tensor with a scale and a zero point stands for scale * (b -
 * zero); int8 tensors have 128 added to both. None of these operators can come from a file. */
#ifndef RUNTIME_OPS_PIXELS_H
#define RUNTIME_OPS_PIXELS_H

#include "runtime/kernels/integer.h"
#include "runtime/ops/conv.h"
#include "runtime/ops/op.h"

/* Bytes of a pixel with so many channels: few are read by fours, more by vectors. */
static inline int64_t rt_pixel_bytes(int64_t channels)
{
    const int64_t by = channels <= 4 ? 4 : RT_PIXEL_CHANNELS;
    return (channels + by - 1) / by * by;
}

/* How many pixels a tensor has. */
static inline int64_t rt_pixel_count(const struct rt_shape *s)
{
    return s->dim[0] * rt_shape_range(s, 2, s->rank);
}

/* What a node is to do lies in node->state from when the pass makes it: a struct of the graph's
 * arena, which prepare() takes over. */

/* Quantize, Dequantize: between real and byte. ToPixels, FromPixels: between plain int8 or uint8
 * and pixels; flip: the plain type is int8. */
struct rt_pixel_scale {
    float scale;
    int32_t zero;
    bool flip;
};

/* Conv, and Gemm as a convolution of one pixel. Inputs: x, the weights, which are constant int8 or
 * uint8, and the residual, if there is one. */
struct rt_pixel_conv {
    struct rt_conv c;
    int32_t x_zero;
    int64_t w_map, w_channel; /* where weights lie: map * w_map + channel * w_channel + tap */
    const int32_t *w_zero;    /* [maps] */
    const int32_t *bias;      /* [maps]; NULL: none */
    const float *factor;      /* [maps] */
    const float *shift;       /* [maps]; NULL: none */
    struct rt_requantize q;
};

/* MaxPool, AveragePool, GlobalAveragePool; and what only changes scale, as windows of one pixel. */
struct rt_pixel_pool {
    const struct rt_node *from; /* whose attributes count; NULL: all pixels, or one where max */
    bool max;
    float x_scale, y_scale;
    int32_t x_zero, zero, lo, hi;
};

struct rt_pixel_add {
    float a_factor, b_factor;
    int32_t a_zero, b_zero, zero, lo, hi;
};

extern const struct rt_op rt_op_QuantizePixels, rt_op_DequantizePixels;
extern const struct rt_op rt_op_ToPixels, rt_op_FromPixels;
extern const struct rt_op rt_op_FlattenPixels; /* [N,C,1,1] to [N,C] and back: a view */
extern const struct rt_op rt_op_ConvPixels, rt_op_GemmPixels, rt_op_AddPixels;
extern const struct rt_op rt_op_MaxPoolPixels, rt_op_AveragePoolPixels;
extern const struct rt_op rt_op_GlobalAveragePoolPixels, rt_op_RescalePixels;

/* Their types and shapes are set by the pass that makes them. */
enum rt_status rt_pixels_infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err);

/* Depthwise convolutions, in pixels_depthwise.c. */
struct rt_pixel_depthwise;
enum rt_status rt_pixel_depthwise_prepare(struct rt_build *b, struct rt_node *n,
                                          const struct rt_pixel_conv *spec, const void *weights,
                                          bool is_signed, struct rt_pixel_depthwise **out,
                                          struct rt_error *err);
void rt_pixel_depthwise_run(const struct rt_call *c, const struct rt_pixel_depthwise *d,
                            const struct rt_worker *w);

/* Copies rows first..first + rows - 1 of an image with some bytes of each pixel, from at on, to a
 * place with padding of that byte around them: what lies outside of the image is padding. */
struct rt_pixel_window {
    const uint8_t *image;
    int64_t height, width, pixel; /* of the image */
    int64_t first, rows, left, columns, at, bytes;
    uint8_t padding;
};
void rt_pixels_copy(uint8_t *to, const struct rt_pixel_window *w);

#endif
