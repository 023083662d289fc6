/* Recognising quantised regions (integers.h). Nothing here changes the graph. */
#include "runtime/ops/element.h"
#include "runtime/ops/pixels.h"
#include "runtime/passes/integers.h"

#include <math.h>
#include <string.h>

struct rt_node *rt_int_producer(const struct rt_graph *g, int v)
{
    const int i = v >= 0 ? g->value[v].producer : -1;
    return i >= 0 && g->node[i].op != NULL ? &g->node[i] : NULL;
}

static bool is_byte(enum rt_dtype t)
{
    return t == RT_UINT8 || t == RT_INT8;
}

bool rt_int_has_pixels(const struct rt_value *v)
{
    const struct rt_shape *s = &v->shape;
    return v->inferred && !v->constant && (s->rank == 2 || s->rank == 4) &&
           !rt_is_batched(s->dim[1]) && s->dim[1] > 0 &&
           (s->rank == 2 || rt_shape_range(s, 2, 4) > 0);
}

bool rt_int_read_scale(const struct rt_graph *g, int v, float *scale)
{
    if (v < 0 || !g->value[v].constant || g->value[v].dtype != RT_FLOAT ||
        rt_shape_numel(&g->value[v].shape) != 1)
        return false;
    *scale = *(const float *)g->value[v].data;
    return isnormal(*scale) && *scale > 0;
}

bool rt_int_read_zero(const struct rt_graph *g, int v, enum rt_dtype dtype, int32_t *zero)
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

bool rt_int_read_quantised(const struct rt_graph *g, int v, int scale, int zero,
                           struct rt_int_quantised *q)
{
    const struct rt_value *value = &g->value[v];
    q->value = v;
    q->flatten = -1;
    return is_byte(value->dtype) && rt_int_has_pixels(value) &&
           rt_int_read_scale(g, scale, &q->scale) &&
           rt_int_read_zero(g, zero, value->dtype, &q->zero);
}

bool rt_int_is_flatten(const struct rt_graph *g, const struct rt_node *n)
{
    if (n->op != &rt_op_Flatten && n->op != &rt_op_Reshape && n->op != &rt_op_Squeeze &&
        n->op != &rt_op_Unsqueeze)
        return false;
    const struct rt_value *x = &g->value[n->in[0]], *y = &g->value[n->out[0]];
    return rt_int_has_pixels(x) && rt_int_has_pixels(y) && x->shape.dim[0] == y->shape.dim[0] &&
           x->shape.dim[1] == y->shape.dim[1] && rt_shape_range(&x->shape, 2, x->shape.rank) == 1 &&
           rt_shape_range(&y->shape, 2, y->shape.rank) == 1;
}

bool rt_int_is_dequantised(const struct rt_graph *g, int v, struct rt_int_quantised *q)
{
    const struct rt_node *n = rt_int_producer(g, v);
    if (n == NULL || n->n_steps > 0 || g->value[v].dtype != RT_FLOAT)
        return false;
    if (rt_int_is_flatten(g, n)) {
        if (!rt_int_is_dequantised(g, n->in[0], q) || q->flatten >= 0)
            return false;
        q->flatten = v;
        return true;
    }
    return n->op == &rt_op_DequantizeLinear &&
           rt_int_read_quantised(g, n->in[0], n->in[1], rt_int_input(n, 2), q);
}

int rt_int_behind_clamps(const struct rt_graph *g, int v, struct rt_int_clamp *c)
{
    *c = (struct rt_int_clamp){ .lo = -INFINITY, .hi = INFINITY };
    for (;;) {
        const struct rt_node *n = rt_int_producer(g, v);
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

static bool one_or_each(const struct rt_graph *g, int v, int64_t maps)
{
    const int64_t n = rt_shape_numel(&g->value[v].shape);
    return g->value[v].constant && (n == 1 || (n == maps && g->value[v].shape.rank == 1));
}

bool rt_int_weights_fit(const struct rt_graph *g, const struct rt_int_weights *w, int64_t maps)
{
    return g->value[w->w].constant && is_byte(g->value[w->w].dtype) &&
           g->value[w->scale].dtype == RT_FLOAT && one_or_each(g, w->scale, maps) &&
           (w->zero < 0 ||
            (one_or_each(g, w->zero, maps) && g->value[w->zero].dtype == g->value[w->w].dtype));
}

/* Weights that are made real by a DequantizeLinear of constants, a scale for each map of axis. */
static bool read_weights(const struct rt_graph *g, int v, int axis, int64_t maps,
                         struct rt_int_weights *w)
{
    const struct rt_node *n = rt_int_producer(g, v);
    if (n == NULL || n->op != &rt_op_DequantizeLinear || rt_attr_int(n, "block_size", 0) != 0)
        return false;
    *w = (struct rt_int_weights){ n->in[0], n->in[1], rt_int_input(n, 2), axis };
    if (!rt_int_weights_fit(g, w, maps))
        return false;
    const int64_t own = rt_attr_int(n, "axis", 1);
    return rt_shape_numel(&g->value[w->scale].shape) == 1 ||
           (own < 0 ? own + g->value[v].shape.rank : own) == axis;
}

int64_t rt_int_of_map(const struct rt_graph *g, int v, int64_t map)
{
    const struct rt_tensor t = rt_graph_tensor(g, v);
    return rt_element_int(&t, rt_shape_numel(&t.shape) == 1 ? 0 : map);
}

float rt_int_float_of_map(const struct rt_graph *g, int v, int64_t map)
{
    const struct rt_tensor t = rt_graph_tensor(g, v);
    return (float)rt_element(&t, rt_shape_numel(&t.shape) == 1 ? 0 : map);
}

static bool read_bias(const struct rt_graph *g, int v, int64_t maps, struct rt_int_bias *b)
{
    *b = (struct rt_int_bias){ -1, -1, false };
    if (v < 0)
        return true;
    const struct rt_node *n = rt_int_producer(g, v);
    b->v = v;
    if (n != NULL && n->op == &rt_op_DequantizeLinear) {
        *b = (struct rt_int_bias){ n->in[0], n->in[1], false };
        if (rt_int_input(n, 2) >= 0) { /* no other zero point than 0 is allowed with int32 */
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

bool rt_int_serves(const struct rt_conv *c)
{
    const bool dense = c->groups == 1;
    const bool depthwise = c->groups == c->channels && c->groups == c->maps;
    return c->maps > 4 && c->kernel[0] == 1 && c->in[0] == 1 &&
           (dense || (depthwise && c->channels > 4) ||
            (c->group_channels % RT_PIXEL_CHANNELS == 0 && c->group_maps % RT_PIXEL_CHANNELS == 0));
}

bool rt_int_find_conv(const struct rt_graph *g, int v, struct rt_int_found *f)
{
    const struct rt_node *n = rt_int_producer(g, v);
    if (n == NULL || n->op != &rt_op_Conv || n->n_steps > 0 || g->value[v].uses != 1 ||
        !rt_int_is_dequantised(g, n->in[RT_CONV_X], &f->x) ||
        rt_conv_init(&f->c, g, n, false, NULL) != RT_OK || !rt_int_serves(&f->c) ||
        g->value[v].shape.rank != 4 || !read_weights(g, n->in[RT_CONV_W], 0, f->c.maps, &f->w) ||
        !read_bias(g, rt_int_input(n, RT_CONV_B), f->c.maps, &f->b))
        return false;
    f->op = &rt_op_ConvPixels;
    f->name = n->name;
    f->w_map = f->c.group_channels * rt_conv_taps(&f->c);
    f->w_channel = rt_conv_taps(&f->c);
    return true;
}

struct rt_conv rt_int_one_pixel(int64_t channels, int64_t maps)
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

bool rt_int_find_product(const struct rt_graph *g, int v, struct rt_int_found *f)
{
    const struct rt_node *n = rt_int_producer(g, v);
    int bias = -1;
    if (n != NULL && n->op == &rt_op_Add && n->n_steps == 0 && g->value[v].uses == 1) {
        const int k = rt_int_producer(g, n->in[0]) != NULL &&
                              rt_int_producer(g, n->in[0])->op == &rt_op_MatMul
                          ? 0
                          : 1;
        bias = n->in[1 - k];
        v = n->in[k];
        n = rt_int_producer(g, v);
        if (n == NULL || n->op != &rt_op_MatMul)
            return false;
    }
    if (n == NULL || (n->op != &rt_op_Gemm && n->op != &rt_op_MatMul) || n->n_steps > 0 ||
        g->value[v].uses != 1 || !rt_int_is_dequantised(g, n->in[0], &f->x))
        return false;
    const bool gemm = n->op == &rt_op_Gemm;
    const bool across = rt_attr_int(n, "transB", 0) != 0; /* weights are [M,K] */
    if (gemm) {
        bias = rt_int_input(n, 2);
        if (rt_attr_float(n, "alpha", 1) != 1 || rt_attr_float(n, "beta", 1) != 1 ||
            rt_attr_int(n, "transA", 0) != 0)
            return false;
    }
    const struct rt_shape *w = &g->value[n->in[1]].shape, *x = &g->value[n->in[0]].shape;
    if (w->rank != 2 || x->rank != 2)
        return false;
    const int64_t maps = w->dim[across ? 0 : 1], channels = w->dim[across ? 1 : 0];
    f->c = rt_int_one_pixel(channels, maps);
    if (!rt_int_serves(&f->c) || !read_weights(g, n->in[1], across ? 0 : 1, maps, &f->w) ||
        !read_bias(g, bias, maps, &f->b))
        return false;
    f->op = &rt_op_GemmPixels;
    f->name = n->name;
    f->w_map = across ? channels : 1;
    f->w_channel = across ? 1 : maps;
    return true;
}

/* --- pools ------------------------------------------------------------------------------------ */

/* Blocks of channels go through pools; sums over a plane, times 255, stay below 2^24 times that. */
bool rt_int_can_pool(const struct rt_graph *g, const struct rt_int_quantised *x,
                     const struct rt_int_quantised *y)
{
    const struct rt_shape *s = &g->value[x->value].shape;
    return s->dim[1] > 4 && rt_shape_range(s, 2, s->rank) < (1 << 22) &&
           (double)x->scale / (double)y->scale * 255 < RT_INT_MOST;
}

bool rt_int_is_global_mean(const struct rt_graph *g, const struct rt_node *n)
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
