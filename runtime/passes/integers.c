/* Turns quantised regions into operators on bytes (ops/pixels.h):
 *
 *     x ─ Q ─ DQ ─ Conv(DQ w, DQ b) ─ Relu ─ Q ─ DQ ─ ...       x ─ Quantize ─ Conv ─ ... ─
 * Dequantize x ─ QLinearConv ─ ...                                     the same Conv ─ Q ─ DQ ─
 * Add(DQ r) ─ Relu ─ Q                      Conv with a residual
 *
 * What a file spells with real numbers between DequantizeLinear and QuantizeLinear is computed from
 * the exact sum of integers, multiplied by one factor a channel and rounded to even once. Spelled
 * out, each product and sum is rounded to a float before; where that is within such a rounding of
 * half way between two integers, the two differ by one step. What is rounded to bytes in between is
 * so here, too. A node that does not fit, or whose parameters are not constant, stays as it is.
 *
 * The sweep goes over the file's nodes in order, before constants are folded: weights are known as
 * integers by the DequantizeLinear in front of them. Each quantised value gets a twin of bytes. */
#include "runtime/ops/element.h"
#include "runtime/ops/pixels.h"
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

#include <math.h>
#include <string.h>

/* Sums times factors stay below this in size. */
#define MOST 1e9

struct sweep {
    struct rt_graph *g;
    int *twin, *back; /* [cap] a value's bytes; the node that makes the value of them; -1: none */
    int cap;
    int *uses; /* [n_values of the file's] as they were: readers that became bytes count no more */
    int changes;
};

/* A quantised tensor and what it stands for: scale * (byte - zero). */
struct quantised {
    int value;
    float scale;
    int32_t zero; /* of the byte: 128 more than an int8's own */
    int flatten;  /* a value that is it in another shape of as many bytes; -1: none */
};

/* What is done with a result before it is quantised. */
struct clamp {
    float lo, hi;
    const char *label[2];
    int n_labels;
};

static enum rt_status nomem(const struct sweep *s, struct rt_error *err)
{
    return rt_graph_nomem(s->g, err);
}

static bool set_twin(struct sweep *s, int value, int twin, int back)
{
    if (value >= s->cap) {
        const int cap = 2 * value + 16;
        int *more = rt_graph_alloc(s->g, 2 * (size_t)cap, sizeof *more);
        if (more == NULL)
            return false;
        memset(more, -1, 2 * (size_t)cap * sizeof *more);
        if (s->cap > 0) {
            memcpy(more, s->twin, (size_t)s->cap * sizeof *more);
            memcpy(more + cap, s->back, (size_t)s->cap * sizeof *more);
        }
        s->twin = more;
        s->back = more + cap;
        s->cap = cap;
    }
    s->twin[value] = twin;
    s->back[value] = back;
    return true;
}

static int twin_of(const struct sweep *s, int value)
{
    return value < s->cap ? s->twin[value] : -1;
}

/* --- reading the graph ----------------------------------------------------------------------- */

static struct rt_node *producer(const struct rt_graph *g, int v)
{
    const int i = v >= 0 ? g->value[v].producer : -1;
    return i >= 0 && g->node[i].op != NULL ? &g->node[i] : NULL;
}

static bool is_byte(enum rt_dtype t)
{
    return t == RT_UINT8 || t == RT_INT8;
}

/* [N, C] or [N, C, H, W] whose samples may be anything. */
static bool has_pixels(const struct rt_value *v)
{
    const struct rt_shape *s = &v->shape;
    return v->inferred && !v->constant && (s->rank == 2 || s->rank == 4) &&
           !rt_is_batched(s->dim[1]) && s->dim[1] > 0 &&
           (s->rank == 2 || rt_shape_range(s, 2, 4) > 0);
}

/* A positive number that floats can be divided by. */
static bool read_scale(const struct rt_graph *g, int v, float *scale)
{
    if (v < 0 || !g->value[v].constant || g->value[v].dtype != RT_FLOAT ||
        rt_shape_numel(&g->value[v].shape) != 1)
        return false;
    *scale = *(const float *)g->value[v].data;
    return isnormal(*scale) && *scale > 0;
}

/* The zero point of a tensor of that type, which a node may leave out. */
static bool read_zero(const struct rt_graph *g, int v, enum rt_dtype dtype, int32_t *zero)
{
    int64_t own = 0;
    if (v >= 0) {
        if (!g->value[v].constant || rt_shape_numel(&g->value[v].shape) != 1 ||
            g->value[v].dtype != dtype)
            return false;
        const struct rt_tensor t = rt_graph_tensor(g, v);
        own = rt_element_int(&t, 0);
    }
    *zero = (int32_t)own + (dtype == RT_INT8 ? 128 : 0);
    return true;
}

static int input(const struct rt_node *n, int i)
{
    return i < n->n_in ? n->in[i] : -1;
}

/* What quantised value v, with that scale and zero point, stands for. */
static bool read_quantised(const struct rt_graph *g, int v, int scale, int zero,
                           struct quantised *q)
{
    const struct rt_value *value = &g->value[v];
    q->value = v;
    q->flatten = -1;
    return is_byte(value->dtype) && has_pixels(value) && read_scale(g, scale, &q->scale) &&
           read_zero(g, zero, value->dtype, &q->zero);
}

/* Whether n hands on its input [N, C, 1, 1] as [N, C] or the other way round. */
static bool is_flatten(const struct rt_graph *g, const struct rt_node *n)
{
    if (n->op != &rt_op_Flatten && n->op != &rt_op_Reshape && n->op != &rt_op_Squeeze &&
        n->op != &rt_op_Unsqueeze)
        return false;
    const struct rt_value *x = &g->value[n->in[0]], *y = &g->value[n->out[0]];
    return has_pixels(x) && has_pixels(y) && x->shape.dim[0] == y->shape.dim[0] &&
           x->shape.dim[1] == y->shape.dim[1] && rt_shape_range(&x->shape, 2, x->shape.rank) == 1 &&
           rt_shape_range(&y->shape, 2, y->shape.rank) == 1;
}

/* Whether v is a quantised tensor made real. */
static bool is_dequantised(const struct rt_graph *g, int v, struct quantised *q)
{
    const struct rt_node *n = producer(g, v);
    if (n == NULL || n->n_steps > 0 || g->value[v].dtype != RT_FLOAT)
        return false;
    if (is_flatten(g, n)) {
        if (!is_dequantised(g, n->in[0], q) || q->flatten >= 0)
            return false;
        q->flatten = v;
        return true;
    }
    return n->op == &rt_op_DequantizeLinear &&
           read_quantised(g, n->in[0], n->in[1], input(n, 2), q);
}

/* The value that goes, clamped, into v, if nobody else sees the steps between. */
static int behind_clamps(const struct rt_graph *g, int v, struct clamp *c)
{
    *c = (struct clamp){ .lo = -INFINITY, .hi = INFINITY };
    for (;;) {
        const struct rt_node *n = producer(g, v);
        struct rt_step step;
        int data;
        if (n == NULL || n->op->as_step == NULL || g->value[v].uses != 1 || n->n_steps > 0 ||
            c->n_labels == 2 || !n->op->as_step(g, n, &step, &data) ||
            step.kind != RT_STEP_ACTIVATION || (step.act != RT_ACT_RELU && step.act != RT_ACT_CLIP))
            return v;
        const float lo = step.act == RT_ACT_RELU ? 0 : step.a;
        const float hi = step.act == RT_ACT_RELU ? INFINITY : step.b;
        if (!(lo <= hi) || (c->n_labels > 0 && !(c->lo <= c->hi)))
            return v;
        /* The later one has the last word. */
        c->lo = fminf(fmaxf(lo, c->lo), c->hi);
        c->hi = fmaxf(fminf(hi, c->hi), c->lo);
        memmove(c->label + 1, c->label, sizeof c->label[0]);
        c->label[0] = n->op->name;
        c->n_labels++;
        v = n->in[data];
    }
}

/* The bytes lo..hi that a result clamped in reals has: quantising keeps the order. */
static void clamp_bytes(const struct clamp *c, const struct quantised *y, int32_t *lo, int32_t *hi)
{
    const float below = fmaxf(-1e6f, fminf(1e6f, c->lo / y->scale));
    const float above = fmaxf(-1e6f, fminf(1e6f, c->hi / y->scale));
    const int32_t least = (int32_t)rintf(below) + y->zero, most = (int32_t)rintf(above) + y->zero;
    *lo = least < 0 ? 0 : least > 255 ? 255 : least;
    *hi = most < 0 ? 0 : most > 255 ? 255 : most;
}

/* --- writing it ------------------------------------------------------------------------------ */

/* A node of op that makes bytes of that shape; its output, or -1: no memory. */
static int add_node(struct sweep *s, const struct rt_op *op, const char *name, int n_in,
                    const struct rt_shape *shape, const char *value_name, void *state)
{
    struct rt_graph *g = s->g;
    const struct rt_shape copy = *shape;
    const int v = rt_graph_add_typed(g, RT_UINT8, &copy);
    const int n = v >= 0 ? rt_graph_add_node(g, op, name, n_in, 1) : -1;
    if (n < 0)
        return -1;
    g->value[v].layout = RT_PIXELS;
    g->value[v].name = value_name;
    g->value[v].producer = n;
    g->node[n].out[0] = v;
    g->node[n].state = state;
    return v;
}

static struct rt_pixel_scale *scale_state(struct sweep *s, float scale, int32_t zero, bool flip)
{
    struct rt_pixel_scale *p = rt_graph_alloc(s->g, 1, sizeof *p);
    if (p != NULL)
        *p = (struct rt_pixel_scale){ scale, zero, flip };
    return p;
}

/* The bytes of q, which is quantised here from real numbers, or brought into order, unless they are
 * made already; -1: no memory. */
static int bytes_of(struct sweep *s, const struct quantised *q)
{
    struct rt_graph *g = s->g;
    int v = twin_of(s, q->value);
    if (v < 0) {
        const struct rt_node *n = producer(g, q->value);
        const struct rt_value *value = &g->value[q->value];
        float scale;
        int32_t zero;
        const bool real = n != NULL && n->op == &rt_op_QuantizeLinear &&
                          g->value[n->in[0]].dtype == RT_FLOAT && has_pixels(&g->value[n->in[0]]) &&
                          read_scale(g, n->in[1], &scale) &&
                          read_zero(g, input(n, 2), value->dtype, &zero);
        const int from = real ? n->in[0] : q->value;
        struct rt_pixel_scale *p = real ? scale_state(s, scale, zero, false)
                                        : scale_state(s, 1, 0, value->dtype == RT_INT8);
        if (p == NULL)
            return -1;
        v = add_node(s, real ? &rt_op_QuantizePixels : &rt_op_ToPixels,
                     real ? n->name : value->name, 1, &value->shape, value->name, p);
        if (v < 0)
            return -1;
        g->node[g->value[v].producer].in[0] = from;
        if (!set_twin(s, q->value, v, -1))
            return -1;
    }
    if (q->flatten >= 0) {
        const struct rt_value *to = &g->value[q->flatten];
        const int flat = add_node(s, &rt_op_FlattenPixels, to->name, 1, &to->shape, to->name, NULL);
        if (flat < 0)
            return -1;
        g->node[g->value[flat].producer].in[0] = v;
        return flat;
    }
    return v;
}

/* From now on quantised value y, which node i made, is made from bytes. */
static enum rt_status take_over(struct sweep *s, int i, int y, int bytes, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct rt_pixel_scale *p = scale_state(s, 1, 0, g->value[y].dtype == RT_INT8);
    const int back =
        p != NULL ? rt_graph_add_node(g, &rt_op_FromPixels, g->value[y].name, 1, 1) : -1;
    if (back < 0 || !set_twin(s, y, bytes, back))
        return nomem(s, err);
    rt_graph_kill(g, i);
    g->node[back].in[0] = bytes;
    g->node[back].out[0] = y;
    g->node[back].state = p;
    g->value[y].producer = back;
    s->changes++;
    return RT_OK;
}

/* Says in the report what else a node does. */
static void label(struct rt_node *n, const char *text)
{
    if (n->n_steps < RT_MAX_STEPS)
        n->step[n->n_steps++] = (struct rt_step){ .kind = RT_STEP_ACTIVATION, .label = text };
}

static void label_clamps(struct rt_node *n, const struct clamp *c)
{
    for (int k = 0; k < c->n_labels; k++)
        label(n, c->label[k]);
}

/* --- convolutions ---------------------------------------------------------------------------- */

/* Weights as integers: constant value w, with a scale for all or for each map along axis. */
struct weights {
    int w, scale, zero, axis;
};

static bool one_or_each(const struct rt_graph *g, int v, int64_t maps)
{
    const int64_t n = rt_shape_numel(&g->value[v].shape);
    return g->value[v].constant && (n == 1 || (n == maps && g->value[v].shape.rank == 1));
}

static bool weights_fit(const struct rt_graph *g, const struct weights *w, int64_t maps)
{
    return g->value[w->w].constant && is_byte(g->value[w->w].dtype) &&
           g->value[w->scale].dtype == RT_FLOAT && one_or_each(g, w->scale, maps) &&
           (w->zero < 0 ||
            (one_or_each(g, w->zero, maps) && g->value[w->zero].dtype == g->value[w->w].dtype));
}

/* Weights that are made real by a DequantizeLinear of constants, a scale for each map of axis. */
static bool read_weights(const struct rt_graph *g, int v, int axis, int64_t maps, struct weights *w)
{
    const struct rt_node *n = producer(g, v);
    if (n == NULL || n->op != &rt_op_DequantizeLinear || rt_attr_int(n, "block_size", 0) != 0)
        return false;
    *w = (struct weights){ n->in[0], n->in[1], input(n, 2), axis };
    if (!weights_fit(g, w, maps))
        return false;
    const int64_t own = rt_attr_int(n, "axis", 1);
    return rt_shape_numel(&g->value[w->scale].shape) == 1 ||
           (own < 0 ? own + g->value[v].shape.rank : own) == axis;
}

static int64_t of_map(const struct rt_graph *g, int v, int64_t map)
{
    const struct rt_tensor t = rt_graph_tensor(g, v);
    return rt_element_int(&t, rt_shape_numel(&t.shape) == 1 ? 0 : map);
}

static float float_of_map(const struct rt_graph *g, int v, int64_t map)
{
    const struct rt_tensor t = rt_graph_tensor(g, v);
    return (float)rt_element(&t, rt_shape_numel(&t.shape) == 1 ? 0 : map);
}

/* A bias of integers at the scale of the sums, which is part of them; else, of reals, it is added
 * when they are real. */
struct bias {
    int v, scale;  /* -1: none; an int32 with a scale of its own */
    bool at_scale; /* an int32 at the scale of the sums by definition */
};

static bool read_bias(const struct rt_graph *g, int v, int64_t maps, struct bias *b)
{
    *b = (struct bias){ -1, -1, false };
    if (v < 0)
        return true;
    const struct rt_node *n = producer(g, v);
    b->v = v;
    if (n != NULL && n->op == &rt_op_DequantizeLinear) {
        *b = (struct bias){ n->in[0], n->in[1], false };
        if (input(n, 2) >= 0) { /* no other zero point than 0 is allowed with int32 */
            const struct rt_tensor zero = rt_graph_tensor(g, n->in[2]);
            for (int64_t i = 0; zero.data != NULL && i < rt_shape_numel(&zero.shape); i++)
                if (rt_element_int(&zero, i) != 0)
                    return false;
        }
    }
    const struct rt_value *value = &g->value[b->v];
    return value->constant && rt_shape_numel(&value->shape) == maps &&
           (b->scale >= 0 ? value->dtype == RT_INT32 && one_or_each(g, b->scale, maps)
                          : value->dtype == RT_FLOAT);
}

/* Fills p's arrays. False: no memory, *fits true; or a sum could be too large. */
static bool set_maps(struct sweep *s, struct rt_pixel_conv *p, const struct weights *w,
                     const struct bias *b, const struct quantised *x, float y_scale, bool *fits)
{
    const struct rt_graph *g = s->g;
    const int64_t maps = p->c.maps;
    int32_t *zero = rt_graph_alloc(s->g, (size_t)maps, sizeof *zero);
    int32_t *bias = rt_graph_alloc(s->g, (size_t)maps, sizeof *bias);
    float *factor = rt_graph_alloc(s->g, (size_t)maps, sizeof *factor);
    float *shift = rt_graph_alloc(s->g, (size_t)maps, sizeof *shift);
    *fits = true;
    if (zero == NULL || bias == NULL || factor == NULL || shift == NULL)
        return false;
    const double most = 255.0 * 255.0 * (double)(p->c.group_channels * rt_conv_taps(&p->c));
    bool shifts = false;
    for (int64_t m = 0; m < maps && *fits; m++) {
        const float scale = x->scale * float_of_map(g, w->scale, m);
        zero[m] = w->zero >= 0 ? (int32_t)of_map(g, w->zero, m) : 0;
        factor[m] = scale / y_scale;
        double sum = most;
        if (b->v >= 0 && b->scale < 0 && !b->at_scale) {
            shift[m] = float_of_map(g, b->v, m) / y_scale;
            shifts = true;
        } else if (b->v >= 0 &&
                   (b->at_scale || rt_match_close(float_of_map(g, b->scale, m), scale))) {
            bias[m] = (int32_t)of_map(g, b->v, m);
            sum += fabs((double)bias[m]);
        } else if (b->v >= 0) {
            shift[m] = (float)of_map(g, b->v, m) * float_of_map(g, b->scale, m) / y_scale;
            shifts = true;
        }
        /* An x_zero of up to 255 is taken off each input in the bias. */
        *fits = isfinite(factor[m]) && factor[m] > 0 && isfinite(shift[m]) &&
                sum * (double)factor[m] + fabs((double)shift[m]) < MOST && sum < MOST;
    }
    p->w_zero = zero;
    p->bias = b->v >= 0 ? bias : NULL;
    p->factor = factor;
    p->shift = shifts ? shift : NULL;
    return *fits;
}

/* What ops/pixels_conv.c can do. */
static bool serves(const struct rt_conv *c)
{
    const bool dense = c->groups == 1;
    const bool depthwise = c->groups == c->channels && c->groups == c->maps;
    return c->maps > 4 && c->kernel[0] == 1 && c->in[0] == 1 &&
           (dense || (depthwise && c->channels > 4) ||
            (c->group_channels % RT_PIXEL_CHANNELS == 0 && c->group_maps % RT_PIXEL_CHANNELS == 0));
}

/* A convolution that is found: what it is made of. */
struct found {
    const struct rt_op *op;
    const char *name;
    struct rt_conv c;
    struct quantised x, y;
    struct weights w;
    struct bias b;
    int64_t w_map, w_channel;
    struct clamp clamp;
    int residual; /* real and dequantised; -1: none */
};

static enum rt_status put_conv(struct sweep *s, int i, const struct found *f, bool *done,
                               struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct quantised r;
    struct rt_pixel_conv *p = rt_graph_alloc(g, 1, sizeof *p);
    if (p == NULL)
        return nomem(s, err);
    bool fits;
    p->c = f->c;
    p->x_zero = f->x.zero;
    p->w_map = f->w_map;
    p->w_channel = f->w_channel;
    p->q.zero = f->y.zero;
    clamp_bytes(&f->clamp, &f->y, &p->q.lo, &p->q.hi);
    if (!set_maps(s, p, &f->w, &f->b, &f->x, f->y.scale, &fits))
        return fits ? nomem(s, err) : RT_OK;
    if (f->residual >= 0) {
        if (!is_dequantised(g, f->residual, &r))
            return RT_OK;
        p->q.own = 1;
        p->q.other = r.scale / f->y.scale;
        p->q.r_zero = r.zero;
        if (!isfinite(p->q.other) || (double)p->q.other * 255 > MOST)
            return RT_OK;
    }
    const int x = bytes_of(s, &f->x), res = f->residual >= 0 ? bytes_of(s, &r) : -1;
    const struct rt_value *y = &g->value[f->y.value];
    const int v = add_node(s, f->op, f->name, f->residual >= 0 ? 3 : 2, &y->shape, y->name, p);
    if (x < 0 || v < 0 || (f->residual >= 0 && res < 0))
        return nomem(s, err);
    struct rt_node *n = &g->node[g->value[v].producer];
    n->in[0] = x;
    n->in[1] = f->w.w;
    if (f->residual >= 0) {
        n->in[2] = res;
        label(n, "Add");
    }
    label_clamps(n, &f->clamp);
    *done = true;
    return take_over(s, i, f->y.value, v, err);
}

/* Whether v is a Conv of what is quantised. */
static bool find_conv(const struct rt_graph *g, int v, struct found *f)
{
    const struct rt_node *n = producer(g, v);
    if (n == NULL || n->op != &rt_op_Conv || n->n_steps > 0 || g->value[v].uses != 1 ||
        !is_dequantised(g, n->in[RT_CONV_X], &f->x) ||
        rt_conv_init(&f->c, g, n, false, NULL) != RT_OK || !serves(&f->c) ||
        g->value[v].shape.rank != 4 || !read_weights(g, n->in[RT_CONV_W], 0, f->c.maps, &f->w) ||
        !read_bias(g, input(n, RT_CONV_B), f->c.maps, &f->b))
        return false;
    f->op = &rt_op_ConvPixels;
    f->name = n->name;
    f->w_map = f->c.group_channels * rt_conv_taps(&f->c);
    f->w_channel = rt_conv_taps(&f->c);
    return true;
}

static struct rt_conv one_pixel(int64_t channels, int64_t maps)
{
    return (struct rt_conv){
        .groups = 1,
        .channels = channels,
        .maps = maps,
        .group_channels = channels,
        .group_maps = maps,
        .in = { 1, 1, 1 },
        .out = { 1, 1, 1 },
        .kernel = { 1, 1, 1 },
        .stride = { 1, 1, 1 },
        .dilation = { 1, 1, 1 },
    };
}

/* Whether v is a Gemm or MatMul [N,K] x [K,M] of what is quantised, with a bias or without. */
static bool find_product(const struct rt_graph *g, int v, struct found *f)
{
    const struct rt_node *n = producer(g, v);
    int bias = -1;
    if (n != NULL && n->op == &rt_op_Add && n->n_steps == 0 && g->value[v].uses == 1) {
        const int k =
            producer(g, n->in[0]) != NULL && producer(g, n->in[0])->op == &rt_op_MatMul ? 0 : 1;
        bias = n->in[1 - k];
        v = n->in[k];
        n = producer(g, v);
        if (n == NULL || n->op != &rt_op_MatMul)
            return false;
    }
    if (n == NULL || (n->op != &rt_op_Gemm && n->op != &rt_op_MatMul) || n->n_steps > 0 ||
        g->value[v].uses != 1 || !is_dequantised(g, n->in[0], &f->x))
        return false;
    const bool gemm = n->op == &rt_op_Gemm;
    const bool across = rt_attr_int(n, "transB", 0) != 0; /* weights are [M,K] */
    if (gemm) {
        bias = input(n, 2);
        if (rt_attr_float(n, "alpha", 1) != 1 || rt_attr_float(n, "beta", 1) != 1 ||
            rt_attr_int(n, "transA", 0) != 0)
            return false;
    }
    const struct rt_shape *w = &g->value[n->in[1]].shape, *x = &g->value[n->in[0]].shape;
    if (w->rank != 2 || x->rank != 2)
        return false;
    const int64_t maps = w->dim[across ? 0 : 1], channels = w->dim[across ? 1 : 0];
    f->c = one_pixel(channels, maps);
    if (!serves(&f->c) || !read_weights(g, n->in[1], across ? 0 : 1, maps, &f->w) ||
        !read_bias(g, bias, maps, &f->b))
        return false;
    f->op = &rt_op_GemmPixels;
    f->name = n->name;
    f->w_map = across ? channels : 1;
    f->w_channel = across ? 1 : maps;
    return true;
}

/* Q(clamp(Conv ...)) and Q(clamp(Add(Conv ..., DQ r))), y the quantised result of node i. */
static enum rt_status try_conv(struct sweep *s, int i, int real, const struct quantised *y,
                               const struct clamp *clamp, bool *done, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    struct found f = { .y = *y, .clamp = *clamp, .residual = -1 };
    struct quantised r;
    if (find_conv(g, real, &f) || find_product(g, real, &f))
        return put_conv(s, i, &f, done, err);
    const struct rt_node *n = producer(g, real);
    if (n == NULL || n->op != &rt_op_Add || n->n_steps > 0 || g->value[real].uses != 1)
        return RT_OK;
    for (int k = 0; k < 2; k++) {
        const int residual = n->in[1 - k];
        if (!rt_shape_equal(&g->value[n->in[0]].shape, &g->value[n->in[1]].shape) ||
            !is_dequantised(g, residual, &r) || !find_conv(g, n->in[k], &f))
            continue;
        f.residual = residual;
        return put_conv(s, i, &f, done, err);
    }
    return RT_OK;
}

/* --- sums of two ------------------------------------------------------------------------------ */

/* The convolution that makes a, if nobody but this sum reads it, which then may be part of it. */
static struct rt_node *only_for_sum(const struct sweep *s, int real, const struct quantised *a)
{
    const struct rt_graph *g = s->g;
    const int bytes = twin_of(s, a->value);
    struct rt_node *n = bytes >= 0 ? producer(g, bytes) : NULL;
    const bool is = n != NULL && n->op == &rt_op_ConvPixels && n->n_in == 2 && a->flatten < 0 &&
                    s->uses[a->value] == 1 && s->uses[real] == 1;
    return is ? n : NULL;
}

/* Makes the sum part of the convolution in front of a. */
static enum rt_status add_to_conv(struct sweep *s, int i, struct rt_node *n,
                                  const struct quantised *a, const struct quantised *b,
                                  const struct quantised *y, const struct clamp *clamp,
                                  struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct rt_pixel_conv *p = n->state;
    const int bytes = n->out[0], at = g->value[bytes].producer;
    p->q.middle = true;
    p->q.mid_lo = p->q.lo - p->q.zero;
    p->q.mid_hi = p->q.hi - p->q.zero;
    p->q.own = a->scale / y->scale;
    p->q.other = b->scale / y->scale;
    p->q.r_zero = b->zero;
    p->q.zero = y->zero;
    clamp_bytes(clamp, y, &p->q.lo, &p->q.hi);
    const int residual = bytes_of(s, b);
    if (residual < 0 || rt_graph_add_input(g, &g->node[at], residual) != 2)
        return nomem(s, err);
    label(&g->node[at], "Add");
    label_clamps(&g->node[at], clamp);
    /* The value that it made is no more. */
    if (s->back[a->value] >= 0)
        rt_graph_kill(g, s->back[a->value]);
    g->value[a->value].producer = -1;
    s->twin[a->value] = s->back[a->value] = -1;
    g->value[bytes].shape = g->value[y->value].shape;
    g->value[bytes].name = g->value[y->value].name;
    return take_over(s, i, y->value, bytes, err);
}

static enum rt_status put_add(struct sweep *s, int i, const char *name, const struct quantised *a,
                              const struct quantised *b, const struct quantised *y,
                              const struct clamp *clamp, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct rt_pixel_add *p = rt_graph_alloc(g, 1, sizeof *p);
    if (p == NULL)
        return nomem(s, err);
    *p = (struct rt_pixel_add){ .a_factor = a->scale / y->scale,
                                .b_factor = b->scale / y->scale,
                                .a_zero = a->zero,
                                .b_zero = b->zero,
                                .zero = y->zero };
    clamp_bytes(clamp, y, &p->lo, &p->hi);
    const int left = bytes_of(s, a), right = bytes_of(s, b);
    const struct rt_value *to = &g->value[y->value];
    const int v = add_node(s, &rt_op_AddPixels, name, 2, &to->shape, to->name, p);
    if (left < 0 || right < 0 || v < 0)
        return nomem(s, err);
    struct rt_node *n = &g->node[g->value[v].producer];
    n->in[0] = left;
    n->in[1] = right;
    label_clamps(n, clamp);
    return take_over(s, i, y->value, v, err);
}

static enum rt_status try_add(struct sweep *s, int i, int real, const struct quantised *y,
                              const struct clamp *clamp, bool *done, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = producer(g, real);
    struct quantised x[2];
    if (n == NULL || n->op != &rt_op_Add || n->n_steps > 0 || g->value[real].uses != 1 ||
        !is_dequantised(g, n->in[0], &x[0]) || !is_dequantised(g, n->in[1], &x[1]) ||
        !rt_shape_equal(&g->value[n->in[0]].shape, &g->value[n->in[1]].shape))
        return RT_OK;
    const double most = ((double)x[0].scale + (double)x[1].scale) / (double)y->scale * 255;
    if (!(most < MOST))
        return RT_OK;
    *done = true;
    for (int k = 0; k < 2; k++) {
        struct rt_node *conv = only_for_sum(s, n->in[k], &x[k]);
        if (conv != NULL && x[1 - k].value != x[k].value)
            return add_to_conv(s, i, conv, &x[k], &x[1 - k], y, clamp, err);
    }
    return put_add(s, i, n->name, &x[0], &x[1], y, clamp, err);
}

/* --- pools ------------------------------------------------------------------------------------ */

static enum rt_status put_pool(struct sweep *s, int i, const struct rt_op *op, int from,
                               const struct quantised *x, const struct quantised *y,
                               const struct clamp *clamp, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    const bool windows = op == &rt_op_MaxPoolPixels || op == &rt_op_AveragePoolPixels;
    struct rt_pixel_pool *p = rt_graph_alloc(g, 1, sizeof *p);
    struct rt_node *copy = rt_graph_alloc(g, 1, sizeof *copy);
    if (p == NULL || copy == NULL)
        return nomem(s, err);
    *copy = g->node[from]; /* which moves when others are added */
    *p = (struct rt_pixel_pool){ .from = windows ? copy : NULL,
                                 .max = op == &rt_op_MaxPoolPixels || op == &rt_op_RescalePixels,
                                 .x_scale = x->scale,
                                 .y_scale = y->scale,
                                 .x_zero = x->zero,
                                 .zero = y->zero };
    clamp_bytes(clamp, y, &p->lo, &p->hi);
    const char *name = copy->name;
    const int bytes = bytes_of(s, x);
    const struct rt_value *to = &g->value[y->value];
    const int v = bytes >= 0 ? add_node(s, op, name, 1, &to->shape, to->name, p) : -1;
    if (v < 0)
        return nomem(s, err);
    g->node[g->value[v].producer].in[0] = bytes;
    label_clamps(&g->node[g->value[v].producer], clamp);
    return take_over(s, i, y->value, v, err);
}

/* Blocks of channels go through pools; sums over a plane, times 255, stay below 2^24 times that. */
static bool can_pool(const struct rt_graph *g, const struct quantised *x, const struct quantised *y)
{
    const struct rt_shape *s = &g->value[x->value].shape;
    return s->dim[1] > 4 && rt_shape_range(s, 2, s->rank) < (1 << 22) &&
           (double)x->scale / (double)y->scale * 255 < MOST;
}

static bool is_global_mean(const struct rt_graph *g, const struct rt_node *n)
{
    if (n->op == &rt_op_GlobalAveragePool)
        return true;
    const int64_t *list;
    int64_t count;
    if (n->op != &rt_op_ReduceMean || g->value[n->in[0]].shape.rank != 4 ||
        rt_attr_int(n, "keepdims", 1) == 0 ||
        rt_attr_or_const((struct rt_graph *)(uintptr_t)g, n, "axes", 1, &list, &count, NULL) !=
            RT_OK ||
        count != 2)
        return false;
    unsigned axes = 0;
    for (int k = 0; k < 2; k++)
        axes |= 1u << (list[k] < 0 ? list[k] + 4 : list[k]);
    return axes == (1u << 2 | 1u << 3);
}

static enum rt_status try_pool(struct sweep *s, int i, int real, const struct quantised *y,
                               const struct clamp *clamp, bool *done, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const int from = g->value[real].producer;
    const struct rt_node *n = producer(g, real);
    struct quantised x;
    const struct rt_op *op = NULL;
    int source = real;
    if (n != NULL && n->n_steps == 0 && g->value[real].uses == 1 &&
        g->value[real].shape.rank == 4) {
        op = n->op == &rt_op_MaxPool && !rt_has_out(n, 1) ? &rt_op_MaxPoolPixels
             : n->op == &rt_op_AveragePool                ? &rt_op_AveragePoolPixels
             : is_global_mean(g, n)                       ? &rt_op_GlobalAveragePoolPixels
                                                          : NULL;
        source = op != NULL ? n->in[0] : real;
    }
    if (!is_dequantised(g, source, &x) || !can_pool(g, &x, y))
        return RT_OK;
    *done = true;
    return put_pool(s, i, op != NULL ? op : &rt_op_RescalePixels, op != NULL ? from : i, &x, y,
                    clamp, err);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static enum rt_status quantize_node(struct sweep *s, int i, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct quantised y;
    struct clamp clamp;
    bool done = false;
    if (g->value[n->in[0]].dtype != RT_FLOAT ||
        !read_quantised(g, n->out[0], n->in[1], input(n, 2), &y))
        return RT_OK;
    const int real = behind_clamps(g, n->in[0], &clamp);
    enum rt_status status = try_conv(s, i, real, &y, &clamp, &done, err);
    if (status == RT_OK && !done)
        status = try_add(s, i, real, &y, &clamp, &done, err);
    if (status == RT_OK && !done)
        status = try_pool(s, i, real, &y, &clamp, &done, err);
    return status;
}

static enum rt_status qlinear_conv(struct sweep *s, int i, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct found f = { .op = &rt_op_ConvPixels,
                       .name = n->name,
                       .w = { n->in[3], n->in[4], n->in[5], 0 },
                       .b = { input(n, 8), -1, true },
                       .clamp = { .lo = -INFINITY, .hi = INFINITY },
                       .residual = -1 };
    bool done;
    const struct rt_shape *x = &g->value[n->in[0]].shape, *w = &g->value[n->in[3]].shape;
    if (!read_quantised(g, n->in[0], n->in[1], n->in[2], &f.x) ||
        !read_quantised(g, n->out[0], n->in[6], n->in[7], &f.y) || x->rank != 4 ||
        rt_conv_fit(&f.c, n, x, w, false, NULL) != RT_OK || !serves(&f.c) ||
        !weights_fit(g, &f.w, f.c.maps) || (f.b.v >= 0 && !g->value[f.b.v].constant))
        return RT_OK;
    f.w_map = f.c.group_channels * rt_conv_taps(&f.c);
    f.w_channel = rt_conv_taps(&f.c);
    return put_conv(s, i, &f, &done, err);
}

static enum rt_status qlinear_matmul(struct sweep *s, int i, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct found f = { .op = &rt_op_GemmPixels,
                       .name = n->name,
                       .w = { n->in[3], n->in[4], n->in[5], 1 },
                       .b = { -1, -1, true },
                       .clamp = { .lo = -INFINITY, .hi = INFINITY },
                       .residual = -1 };
    bool done;
    const struct rt_shape *w = &g->value[n->in[3]].shape;
    if (w->rank != 2 || !read_quantised(g, n->in[0], n->in[1], n->in[2], &f.x) ||
        !read_quantised(g, n->out[0], n->in[6], n->in[7], &f.y) ||
        g->value[n->in[0]].shape.rank != 2)
        return RT_OK;
    f.c = one_pixel(w->dim[0], w->dim[1]);
    f.w_map = 1;
    f.w_channel = w->dim[1];
    if (!serves(&f.c) || !weights_fit(g, &f.w, f.c.maps))
        return RT_OK;
    return put_conv(s, i, &f, &done, err);
}

/* Views and pools of what is quantised that know no scale. */
static enum rt_status byte_node(struct sweep *s, int i, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    if (n->n_in < 1 || n->n_out < 1 || n->in[0] < 0 || n->out[0] < 0 || twin_of(s, n->in[0]) < 0)
        return RT_OK;
    const struct quantised x = { n->in[0], 1, 0, -1 }, y = { n->out[0], 1, 0, -1 };
    const struct clamp none = { .lo = -INFINITY, .hi = INFINITY };
    if (n->op == &rt_op_MaxPool && !rt_has_out(n, 1) && has_pixels(&g->value[n->out[0]]) &&
        can_pool(g, &x, &y))
        return put_pool(s, i, &rt_op_MaxPoolPixels, i, &x, &y, &none, err);
    if (!is_flatten(g, n))
        return RT_OK;
    const struct quantised flat = { n->in[0], 1, 0, n->out[0] };
    const int y_value = n->out[0], bytes = bytes_of(s, &flat);
    return bytes < 0 ? nomem(s, err) : take_over(s, i, y_value, bytes, err);
}

/* Whoever still wants real numbers gets them from the bytes. */
static enum rt_status dequantize_node(struct sweep *s, int i, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct quantised q;
    if (n->op != &rt_op_DequantizeLinear || g->value[n->out[0]].dtype != RT_FLOAT ||
        twin_of(s, n->in[0]) < 0 || !read_quantised(g, n->in[0], n->in[1], input(n, 2), &q))
        return RT_OK;
    struct rt_pixel_scale *p = scale_state(s, q.scale, q.zero, false);
    const int y = n->out[0];
    const int made = p != NULL ? rt_graph_add_node(g, &rt_op_DequantizePixels, n->name, 1, 1) : -1;
    if (made < 0)
        return nomem(s, err);
    rt_graph_kill(g, i);
    g->node[made].in[0] = twin_of(s, q.value);
    g->node[made].out[0] = y;
    g->node[made].state = p;
    g->value[y].producer = made;
    s->changes++;
    return RT_OK;
}

enum rt_status rt_find_integers(struct rt_graph *g, struct rt_error *err)
{
    struct sweep s = { .g = g, .uses = rt_graph_alloc(g, (size_t)g->n_values + 1, sizeof *s.uses) };
    const int n_nodes = g->n_nodes;
    enum rt_status status = s.uses != NULL ? RT_OK : rt_graph_nomem(g, err);
    for (int v = 0; v < g->n_values && status == RT_OK; v++)
        s.uses[v] = g->value[v].uses;
    for (int i = 0; i < n_nodes && status == RT_OK; i++) {
        const struct rt_op *op = g->node[i].op;
        if (op == NULL)
            continue;
        if (op == &rt_op_QuantizeLinear)
            status = quantize_node(&s, i, err);
        else if (op == &rt_op_QLinearConv)
            status = qlinear_conv(&s, i, err);
        else if (op == &rt_op_QLinearMatMul)
            status = qlinear_matmul(&s, i, err);
        else
            status = byte_node(&s, i, err);
    }
    for (int i = 0; i < n_nodes && status == RT_OK; i++)
        if (g->node[i].op != NULL)
            status = dequantize_node(&s, i, err);
    return status == RT_OK && s.changes > 0 ? rt_graph_tidy(g, err) : status;
}
