/* The geometry of a convolution, shared by its plain, blocked and transposed forms. */
#ifndef RUNTIME_OPS_CONV_H
#define RUNTIME_OPS_CONV_H

#include "runtime/ops/op.h"

enum { RT_CONV_X, RT_CONV_W, RT_CONV_B };

/* Always three spatial axes, depth, height and width: those that a tensor lacks come first, of
 * size 1. in and out are sizes of the convolution's input and output; for a transposed one too. */
struct rt_conv {
    int64_t groups;
    int64_t channels, maps;             /* of input and output, all groups together */
    int64_t group_channels, group_maps; /* of one group */
    int64_t in[3], out[3];
    int64_t kernel[3], stride[3], dilation[3], pad[3], pad_end[3];
};

/* Fills *c from the node's attributes and the types and shapes of its inputs, all of which it
 * checks. transposed: for ConvTranspose, whose weights are [C, M / group, ...]. */
enum rt_status rt_conv_init(struct rt_conv *c, const struct rt_graph *g, const struct rt_node *n,
                            bool transposed, struct rt_error *err);

/* The part of it that is geometry: for inputs of any type, wherever among the node's they are. */
enum rt_status rt_conv_fit(struct rt_conv *c, const struct rt_node *n, const struct rt_shape *x,
                           const struct rt_shape *w, bool transposed, struct rt_error *err);

/* Output 0 from *c: [N, maps, out...] of the input's rank and type. */
enum rt_status rt_conv_set_out(const struct rt_conv *c, struct rt_graph *g, struct rt_node *n,
                               struct rt_error *err);

/* Multiply-adds of one sample, counted as two. */
double rt_conv_flops(const struct rt_conv *c, const struct rt_graph *g, const struct rt_node *n,
                     bool transposed);

/* The node's bias, an index into n->in, or -1: a fused step's operand may stand in its place. */
int rt_conv_bias(const struct rt_node *n);

/* Makes value v the node's bias. RT_E_UNSUPPORTED when its place is taken by a step's operand. */
enum rt_status rt_conv_set_bias(struct rt_graph *g, struct rt_node *n, int v, struct rt_error *err);

/* True when weights and bias are float constants, so that they can be changed and packed. */
bool rt_conv_has_constants(const struct rt_graph *g, const struct rt_node *n);

/* A Conv's constant weights as they are to be packed: those from channel c to map m are w's times
 * gain[m] and in_gain[c]; NULL: all are 1. Only those of pointwise convolutions in one group have
 * an in_gain or are turned, which is w[c][m]. */
struct rt_conv_weights {
    const rt_float_anywhere *w;
    const float *gain, *in_gain;
    bool turned;
};
struct rt_conv_weights rt_conv_weights(const struct rt_graph *g, const struct rt_node *n);

static inline float rt_conv_gain(const struct rt_conv_weights *w, int64_t map)
{
    return w->gain != NULL ? w->gain[map] : 1.0f;
}

static inline bool rt_conv_is_pointwise(const struct rt_conv *c)
{
    return c->groups == 1 && c->kernel[0] * c->kernel[1] * c->kernel[2] == 1;
}

/* Adds a value for weights of that shape; -1: no memory. */
int rt_conv_put_off(struct rt_graph *g, const struct rt_shape *shape,
                    const struct rt_conv_weights *w);

/* For whoever wants the weights' elements: does what was put off. */
enum rt_status rt_conv_settle_weights(struct rt_graph *g, struct rt_node *n, struct rt_error *err);

/* rt_op.absorb_affine of both directions. */
enum rt_status rt_conv_absorb_affine(struct rt_graph *g, struct rt_node *n, const struct rt_conv *c,
                                     bool transposed, const float *scale, const float *shift,
                                     struct rt_error *err);

static inline int64_t rt_conv_taps(const struct rt_conv *c)
{
    return c->kernel[0] * c->kernel[1] * c->kernel[2];
}

/* Elements from the first to the last tap along an axis. */
static inline int64_t rt_conv_extent(const struct rt_conv *c, int axis)
{
    return (c->kernel[axis] - 1) * c->dilation[axis] + 1;
}

/* The output positions begin..end-1 along an axis whose tap k falls inside the input. */
void rt_conv_valid(const struct rt_conv *c, int axis, int64_t k, int64_t *begin, int64_t *end);

/* This worker's share of a tensor of any real type as floats at to, and back. */
void rt_conv_widen(float *to, const struct rt_tensor *from, const struct rt_worker *w);
void rt_conv_narrow(struct rt_tensor *to, const float *from, const struct rt_worker *w);

/* The channel-blocked form of rt_op_Conv, in conv_blocked.c. */
extern const struct rt_op rt_op_ConvBlocked;
bool rt_conv_can_block(const struct rt_graph *g, const struct rt_node *n);
bool rt_conv_reads_plain(const struct rt_graph *g, const struct rt_node *n, int i);

#endif
