/* What Conv and ConvTranspose have in common: attributes, sizes, bias and scaled weights. */
#include "runtime/ops/conv.h"
#include "runtime/ops/steps.h"

#include <string.h>

int rt_conv_bias(const struct rt_node *n)
{
    return rt_has_in(n, RT_CONV_B) && !rt_steps_read(n, RT_CONV_B) ? RT_CONV_B : -1;
}

enum rt_status rt_conv_set_bias(struct rt_graph *g, struct rt_node *n, int v, struct rt_error *err)
{
    if (n->n_in > RT_CONV_B && rt_steps_read(n, RT_CONV_B))
        return RT_E_UNSUPPORTED;
    if (n->n_in > RT_CONV_B) {
        n->in[RT_CONV_B] = v;
        return RT_OK;
    }
    return rt_graph_add_input(g, n, v) == RT_CONV_B ? RT_OK : rt_graph_nomem(g, err);
}

bool rt_conv_has_constants(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *w = rt_in_const(g, n, RT_CONV_W);
    int bias = rt_conv_bias(n);
    return w->constant && w->dtype == RT_FLOAT && (bias < 0 || rt_in_const(g, n, bias)->constant);
}

/* An attribute of one positive number an axis; otherwise where the node has none. */
static enum rt_status axis_ints(const struct rt_node *n, const char *name, int axes, int64_t least,
                                int64_t otherwise, int64_t *out, struct rt_error *err)
{
    const int64_t *ints;
    int count = rt_attr_ints(n, name, &ints);
    if (count != 0 && count != axes)
        return rt_node_fail(err, RT_E_INVALID, n,
                            "attribute %s has %d numbers where the input has %d spatial axes", name,
                            count, axes);
    for (int a = 0; a < axes; a++) {
        out[a] = count != 0 ? ints[a] : otherwise;
        if (out[a] < least || out[a] > INT32_MAX)
            return rt_node_fail(err, RT_E_INVALID, n, "attribute %s holds %lld", name,
                                (long long)out[a]);
    }
    return RT_OK;
}

static enum rt_status check_types(const struct rt_graph *g, const struct rt_node *n,
                                  struct rt_error *err)
{
    enum rt_status s = rt_check_type(g, n, RT_CONV_X, RT_T_REAL, err);
    if (s == RT_OK)
        s = rt_check_same_type(g, n, RT_CONV_X, RT_CONV_W, err);
    if (s == RT_OK && rt_conv_bias(n) >= 0)
        s = rt_check_same_type(g, n, RT_CONV_X, RT_CONV_B, err);
    return s;
}

static enum rt_status check_shapes(const struct rt_node *n, const struct rt_shape *x,
                                   const struct rt_shape *w, struct rt_error *err)
{
    if (x->rank < 3 || x->rank > 5)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n,
                            "an input of rank %d (3 to 5, one to three spatial axes, are served)",
                            x->rank);
    char text[2][RT_SHAPE_TEXT];
    bool fits = w->rank == x->rank;
    for (int a = 0; a < w->rank && fits; a++)
        fits = w->dim[a] > 0 && w->dim[a] <= INT32_MAX;
    if (!fits)
        return rt_node_fail(err, RT_E_INVALID, n, "weights %s do not fit input %s",
                            rt_shape_text(w, text[0]), rt_shape_text(x, text[1]));
    for (int a = 1; a < x->rank; a++)
        if (rt_is_batched(x->dim[a]))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "axis %d of the input follows the batch",
                                a);
    return RT_OK;
}

static enum rt_status check_channels(struct rt_conv *c, const struct rt_node *n,
                                     const struct rt_shape *x, const struct rt_shape *w,
                                     bool transposed, struct rt_error *err)
{
    char text[2][RT_SHAPE_TEXT];
    c->groups = rt_attr_int(n, "group", 1);
    c->channels = x->dim[1];
    /* Both come from the file: the product may be anything. */
    int64_t first = w->dim[0], product;
    bool fits = c->groups > 0 && c->groups <= first && first % c->groups == 0 &&
                rt_mul_i64(w->dim[1], c->groups, &product);
    if (fits) {
        c->maps = transposed ? product : first;
        fits = c->channels == (transposed ? first : product);
    }
    if (!fits)
        return rt_node_fail(
            err, RT_E_INVALID, n, "weights %s in %lld groups do not fit the channels of input %s",
            rt_shape_text(w, text[0]), (long long)c->groups, rt_shape_text(x, text[1]));
    c->group_channels = c->channels / c->groups;
    c->group_maps = c->maps / c->groups;
    return RT_OK;
}

static enum rt_status check_bias(const struct rt_conv *c, const struct rt_graph *g,
                                 const struct rt_node *n, struct rt_error *err)
{
    if (rt_conv_bias(n) < 0)
        return RT_OK;
    char text[RT_SHAPE_TEXT];
    const struct rt_shape *b = &rt_in_const(g, n, RT_CONV_B)->shape;
    if (b->rank != 1 || b->dim[0] != c->maps)
        return rt_node_fail(err, RT_E_INVALID, n, "bias %s where there are %lld output channels",
                            rt_shape_text(b, text), (long long)c->maps);
    return RT_OK;
}

enum padding { EXPLICIT, VALID, SAME_UPPER, SAME_LOWER };

static enum rt_status padding_of(const struct rt_node *n, enum padding *out, struct rt_error *err)
{
    static const char *const name[] = { "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER" };
    const char *text = rt_attr_string(n, "auto_pad", name[EXPLICIT]);
    for (int i = 0; i < 4; i++)
        if (strcmp(text, name[i]) == 0) {
            *out = (enum padding)i;
            return RT_OK;
        }
    return rt_node_fail(err, RT_E_INVALID, n, "attribute auto_pad is '%s'", text);
}

/* Splits what padding must make up between the two ends of an axis. */
static void split_padding(struct rt_conv *c, int axis, int64_t total, bool upper)
{
    c->pad[axis] = upper ? total / 2 : total - total / 2;
    c->pad_end[axis] = total - c->pad[axis];
}

static enum rt_status size_axis(struct rt_conv *c, int axis, enum padding padding,
                                const struct rt_node *n, struct rt_error *err)
{
    int64_t in = c->in[axis], stride = c->stride[axis], extent = rt_conv_extent(c, axis);
    if (padding == SAME_UPPER || padding == SAME_LOWER) {
        c->out[axis] = in / stride + (in % stride != 0);
        int64_t total = (c->out[axis] - 1) * stride + extent - in;
        split_padding(c, axis, total > 0 ? total : 0, padding == SAME_UPPER);
        return RT_OK;
    }
    int64_t padded = in + c->pad[axis] + c->pad_end[axis];
    if (padded < extent)
        return rt_node_fail(err, RT_E_INVALID, n,
                            "the kernel spans %lld elements of an axis that has %lld with padding",
                            (long long)extent, (long long)padded);
    c->out[axis] = (padded - extent) / stride + 1;
    return RT_OK;
}

/* Output sizes of a transposed convolution, where padding takes elements away. */
static enum rt_status size_transposed(struct rt_conv *c, enum padding padding, int axes,
                                      const struct rt_node *n, struct rt_error *err)
{
    int64_t extra[3] = { 0 };
    int first = 3 - axes;
    enum rt_status s = axis_ints(n, "output_padding", axes, 0, 0, extra + first, err);
    if (s != RT_OK)
        return s;
    const int64_t *wanted;
    int count = rt_attr_ints(n, "output_shape", &wanted);
    if (count != 0 && count != axes && count != axes + 2)
        return rt_node_fail(err, RT_E_INVALID, n, "attribute output_shape has %d numbers", count);
    for (int a = first; a < 3; a++) {
        if (c->in[a] == 0)
            return rt_node_fail(err, RT_E_INVALID, n, "a spatial axis of the input is empty");
        int64_t full = (c->in[a] - 1) * c->stride[a] + rt_conv_extent(c, a) + extra[a];
        if (count != 0 || padding == SAME_UPPER || padding == SAME_LOWER) {
            c->out[a] = count != 0 ? wanted[count - axes + a - first] : c->in[a] * c->stride[a];
            int64_t total = full - c->out[a];
            if (c->out[a] <= 0 || c->out[a] > INT32_MAX)
                return rt_node_fail(err, RT_E_INVALID, n, "attribute output_shape holds %lld",
                                    (long long)c->out[a]);
            /* Elements that no tap reaches hold the bias alone. */
            split_padding(c, a, total > 0 ? total : 0, padding == SAME_UPPER);
        } else {
            c->out[a] = full - c->pad[a] - c->pad_end[a];
            if (c->out[a] <= 0)
                return rt_node_fail(err, RT_E_INVALID, n,
                                    "padding takes all %lld elements of an axis away",
                                    (long long)full);
        }
    }
    return RT_OK;
}

enum rt_status rt_conv_fit(struct rt_conv *c, const struct rt_node *n, const struct rt_shape *x,
                           const struct rt_shape *w, bool transposed, struct rt_error *err)
{
    enum rt_status s = check_shapes(n, x, w, err);
    if (s == RT_OK)
        s = check_channels(c, n, x, w, transposed, err);
    if (s != RT_OK)
        return s;
    int axes = x->rank - 2, first = 3 - axes;
    for (int a = 0; a < 3; a++) {
        c->in[a] = c->out[a] = c->kernel[a] = c->stride[a] = c->dilation[a] = 1;
        c->pad[a] = c->pad_end[a] = 0;
    }
    int64_t kernel[3] = { 0 }, pads[6] = { 0 };
    s = axis_ints(n, "kernel_shape", axes, 1, 1, kernel, err);
    if (s == RT_OK)
        s = axis_ints(n, "strides", axes, 1, 1, c->stride + first, err);
    if (s == RT_OK)
        s = axis_ints(n, "dilations", axes, 1, 1, c->dilation + first, err);
    enum padding padding = EXPLICIT;
    if (s == RT_OK)
        s = padding_of(n, &padding, err);
    if (s == RT_OK && padding == EXPLICIT)
        s = axis_ints(n, "pads", 2 * axes, 0, 0, pads, err);
    for (int a = first; s == RT_OK && a < 3; a++) {
        c->in[a] = x->dim[2 + a - first];
        c->kernel[a] = w->dim[2 + a - first];
        c->pad[a] = pads[a - first];
        c->pad_end[a] = pads[axes + a - first];
        if (rt_attr(n, "kernel_shape") != NULL && kernel[a - first] != c->kernel[a])
            s = rt_node_fail(err, RT_E_INVALID, n,
                             "attribute kernel_shape says %lld where the weights have %lld",
                             (long long)kernel[a - first], (long long)c->kernel[a]);
        int64_t reach;
        if (s == RT_OK &&
            (c->in[a] > INT32_MAX || !rt_mul_i64(c->kernel[a] - 1, c->dilation[a], &reach)))
            s = rt_node_fail(err, RT_E_LIMIT, n, "a spatial axis is too long");
        if (s == RT_OK && !transposed)
            s = size_axis(c, a, padding, n, err);
    }
    return s == RT_OK && transposed ? size_transposed(c, padding, axes, n, err) : s;
}

enum rt_status rt_conv_init(struct rt_conv *c, const struct rt_graph *g, const struct rt_node *n,
                            bool transposed, struct rt_error *err)
{
    enum rt_status s = check_types(g, n, err);
    if (s == RT_OK)
        s = rt_conv_fit(c, n, &rt_in_const(g, n, RT_CONV_X)->shape,
                        &rt_in_const(g, n, RT_CONV_W)->shape, transposed, err);
    return s == RT_OK ? check_bias(c, g, n, err) : s;
}

enum rt_status rt_conv_set_out(const struct rt_conv *c, struct rt_graph *g, struct rt_node *n,
                               struct rt_error *err)
{
    const struct rt_value *x = rt_in_const(g, n, RT_CONV_X);
    struct rt_shape shape = x->shape;
    int axes = shape.rank - 2;
    shape.dim[1] = c->maps;
    for (int a = 0; a < axes; a++)
        shape.dim[2 + a] = c->out[3 - axes + a];
    return rt_set_out(g, n, 0, x->dtype, &shape, err);
}

double rt_conv_flops(const struct rt_conv *c, const struct rt_graph *g, const struct rt_node *n,
                     bool transposed)
{
    const int64_t *pixel = transposed ? c->in : c->out;
    double samples = (double)rt_dim_at(rt_in_const(g, n, RT_CONV_X)->shape.dim[0], 1);
    return 2.0 * samples * (double)c->maps * (double)c->group_channels * (double)rt_conv_taps(c) *
           (double)pixel[0] * (double)pixel[1] * (double)pixel[2];
}

void rt_conv_valid(const struct rt_conv *c, int axis, int64_t k, int64_t *begin, int64_t *end)
{
    /* 0 <= o * stride + offset < in */
    int64_t stride = c->stride[axis], offset = k * c->dilation[axis] - c->pad[axis];
    int64_t lo = offset < 0 ? (-offset + stride - 1) / stride : 0;
    int64_t hi = c->in[axis] > offset ? (c->in[axis] - offset + stride - 1) / stride : 0;
    *end = hi < c->out[axis] ? hi : c->out[axis];
    *begin = lo < *end ? lo : *end;
}

struct rt_conv_weights rt_conv_weights(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *v = rt_in_const(g, n, RT_CONV_W);
    if (v->unscaled == NULL)
        return (struct rt_conv_weights){ .w = v->data };
    return (struct rt_conv_weights){ v->unscaled, v->gain, v->in_gain, v->turned };
}

int rt_conv_put_off(struct rt_graph *g, const struct rt_shape *shape,
                    const struct rt_conv_weights *w)
{
    const int v = rt_graph_add_typed(g, RT_FLOAT, shape);
    if (v < 0)
        return -1;
    g->value[v].constant = true;
    g->value[v].unscaled = w->w;
    g->value[v].gain = w->gain;
    g->value[v].in_gain = w->in_gain;
    g->value[v].turned = w->turned;
    return v;
}

enum rt_status rt_conv_settle_weights(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    if (rt_in_const(g, n, RT_CONV_W)->unscaled == NULL)
        return RT_OK;
    const struct rt_conv_weights from = rt_conv_weights(g, n);
    const struct rt_shape shape = rt_in_const(g, n, RT_CONV_W)->shape;
    float *data;
    int w = rt_graph_add_floats(g, &shape, &data);
    if (w < 0)
        return rt_graph_nomem(g, err);
    const int64_t maps = shape.dim[0], row = rt_shape_range(&shape, 1, shape.rank);
    for (int64_t m = 0; m < maps; m++)
        for (int64_t i = 0; i < row; i++)
            data[m * row + i] = from.w[from.turned ? i * maps + m : m * row + i] *
                                rt_conv_gain(&from, m) *
                                (from.in_gain != NULL ? from.in_gain[i] : 1.0f);
    n->in[RT_CONV_W] = w;
    return RT_OK;
}

/* Weights whose rows on axis 0 are the node's times scale. */
static int scale_maps(struct rt_graph *g, const struct rt_node *n, const float *scale)
{
    struct rt_conv_weights w = rt_conv_weights(g, n);
    const struct rt_shape shape = rt_in_const(g, n, RT_CONV_W)->shape;
    const int64_t maps = shape.dim[0];
    float *gain = rt_graph_alloc_bulk(g, (size_t)maps, sizeof *gain);
    if (gain == NULL)
        return -1;
    for (int64_t m = 0; m < maps; m++)
        gain[m] = rt_conv_gain(&w, m) * scale[m];
    w.gain = gain;
    return rt_conv_put_off(g, &shape, &w);
}

/* A transposed convolution's weights, [channels][maps of a group][taps], times scale. */
static int scale_transposed(struct rt_graph *g, const struct rt_node *n, const struct rt_conv *c,
                            const float *scale)
{
    const struct rt_shape shape = rt_in_const(g, n, RT_CONV_W)->shape;
    const int64_t taps = rt_conv_taps(c), columns = shape.dim[1];
    float *to;
    int w = rt_graph_add_floats(g, &shape, &to);
    const float *from = rt_in_const(g, n, RT_CONV_W)->data;
    for (int64_t r = 0; w >= 0 && r < shape.dim[0]; r++)
        for (int64_t i = 0; i < columns * taps; i++)
            to[r * columns * taps + i] = from[r * columns * taps + i] *
                                         scale[r / c->group_channels * c->group_maps + i / taps];
    return w;
}

enum rt_status rt_conv_absorb_affine(struct rt_graph *g, struct rt_node *n, const struct rt_conv *c,
                                     bool transposed, const float *scale, const float *shift,
                                     struct rt_error *err)
{
    if (n->n_steps > 0 || !rt_conv_has_constants(g, n))
        return RT_E_UNSUPPORTED;
    int bias = rt_conv_bias(n);
    const struct rt_shape maps = rt_shape_of(1, &c->maps);
    float *new_b;
    int w = transposed ? scale_transposed(g, n, c, scale) : scale_maps(g, n, scale);
    int b = rt_graph_add_floats(g, &maps, &new_b);
    if (w < 0 || b < 0)
        return rt_graph_nomem(g, err);
    const float *old_b = bias >= 0 ? rt_in_const(g, n, bias)->data : NULL;
    for (int64_t m = 0; m < c->maps; m++)
        new_b[m] = (float)((old_b != NULL ? (double)old_b[m] : 0.0) * scale[m] + shift[m]);
    enum rt_status s = rt_conv_set_bias(g, n, b, err);
    if (s == RT_OK)
        n->in[RT_CONV_W] = w;
    return s;
}
