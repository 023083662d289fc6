/* Turns quantised regions into operators on bytes (ops/pixels.h):
 *
 *     x ─ Q ─ DQ ─ Conv(DQ w, DQ b) ─ Relu ─ Q ─ DQ ─ ...
 *     x ─ Quantize ─ Conv{Relu} ─ ... ─ Dequantize
 *
 *     QLinearConv                                the same Conv
 *     Conv ─ Q ─ DQ ─ Add(DQ r) ─ Relu ─ Q       Conv with a residual
 *
 * What a file spells with real numbers between DequantizeLinear and QuantizeLinear is computed from
 * the exact sum of integers, multiplied by one factor a channel and rounded to even once. Spelled
 * out, each product and sum is rounded to a float before; where that is within such a rounding of
 * half way between two integers, the two differ by one step. What is rounded to bytes in between is
 * so here, too. A node that does not fit, or whose parameters are not constant, stays as it is.
 *
 * The sweep goes over the file's nodes in order, before constants are folded: weights are known as
 * integers by the DequantizeLinear in front of them. Each quantised value gets a twin of bytes.
 * What is recognised is in integers_match.c, what is made of it in integers_write.c. */
#include "runtime/passes/integers.h"
#include "runtime/ops/pixels.h"
#include "runtime/passes/pass.h"

#include <math.h>
#include <string.h>

/* --- convolutions ---------------------------------------------------------------------------- */

/* Q(clamp(Conv ...)) and Q(clamp(Add(Conv ..., DQ r))), y the quantised result of node i. */
static enum rt_status try_conv(struct rt_int_sweep *s, int i, int real,
                               const struct rt_int_quantised *y, const struct rt_int_clamp *clamp,
                               bool *done, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    struct rt_int_found f = { .y = *y, .clamp = *clamp, .residual = -1 };
    struct rt_int_quantised r;
    if (rt_int_find_conv(g, real, &f) || rt_int_find_product(g, real, &f))
        return rt_int_put_conv(s, i, &f, done, err);
    const struct rt_node *n = rt_int_producer(g, real);
    if (n == NULL || n->op != &rt_op_Add || n->n_steps > 0 || g->value[real].uses != 1)
        return RT_OK;
    for (int k = 0; k < 2; k++) {
        const int residual = n->in[1 - k];
        if (!rt_shape_equal(&g->value[n->in[0]].shape, &g->value[n->in[1]].shape) ||
            !rt_int_is_dequantised(g, residual, &r) || !rt_int_find_conv(g, n->in[k], &f))
            continue;
        f.residual = residual;
        return rt_int_put_conv(s, i, &f, done, err);
    }
    return RT_OK;
}

/* --- sums of two ------------------------------------------------------------------------------ */

/* The convolution that makes a, if nobody but this sum reads it, which then may be part of it. */
static struct rt_node *only_for_sum(const struct rt_int_sweep *s, int real,
                                    const struct rt_int_quantised *a)
{
    const struct rt_graph *g = s->g;
    const int bytes = rt_int_twin_of(s, a->value);
    struct rt_node *n = bytes >= 0 ? rt_int_producer(g, bytes) : NULL;
    const bool is = n != NULL && n->op == &rt_op_ConvPixels && n->n_in == 2 && a->flatten < 0 &&
                    s->uses[a->value] == 1 && s->uses[real] == 1;
    return is ? n : NULL;
}

static enum rt_status try_add(struct rt_int_sweep *s, int i, int real,
                              const struct rt_int_quantised *y, const struct rt_int_clamp *clamp,
                              bool *done, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = rt_int_producer(g, real);
    struct rt_int_quantised x[2];
    if (n == NULL || n->op != &rt_op_Add || n->n_steps > 0 || g->value[real].uses != 1 ||
        !rt_int_is_dequantised(g, n->in[0], &x[0]) || !rt_int_is_dequantised(g, n->in[1], &x[1]) ||
        !rt_shape_equal(&g->value[n->in[0]].shape, &g->value[n->in[1]].shape))
        return RT_OK;
    const double most = ((double)x[0].scale + (double)x[1].scale) / (double)y->scale * 255;
    if (!(most < RT_INT_MOST))
        return RT_OK;
    *done = true;
    for (int k = 0; k < 2; k++) {
        struct rt_node *conv = only_for_sum(s, n->in[k], &x[k]);
        if (conv != NULL && x[1 - k].value != x[k].value)
            return rt_int_add_to_conv(s, i, conv, &x[k], &x[1 - k], y, clamp, err);
    }
    return rt_int_put_add(s, i, n->name, &x[0], &x[1], y, clamp, err);
}

/* --- pools ------------------------------------------------------------------------------------ */

static enum rt_status try_pool(struct rt_int_sweep *s, int i, int real,
                               const struct rt_int_quantised *y, const struct rt_int_clamp *clamp,
                               bool *done, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const int from = g->value[real].producer;
    const struct rt_node *n = rt_int_producer(g, real);
    struct rt_int_quantised x;
    const struct rt_op *op = NULL;
    int source = real;
    if (n != NULL && n->n_steps == 0 && g->value[real].uses == 1 &&
        g->value[real].shape.rank == 4) {
        op = n->op == &rt_op_MaxPool && !rt_has_out(n, 1) ? &rt_op_MaxPoolPixels
             : n->op == &rt_op_AveragePool                ? &rt_op_AveragePoolPixels
             : rt_int_is_global_mean(g, n)                ? &rt_op_GlobalAveragePoolPixels
                                                          : NULL;
        source = op != NULL ? n->in[0] : real;
    }
    if (!rt_int_is_dequantised(g, source, &x) || !rt_int_can_pool(g, &x, y))
        return RT_OK;
    *done = true;
    return rt_int_put_pool(s, i, op != NULL ? op : &rt_op_RescalePixels, op != NULL ? from : i, &x,
                           y, clamp, err);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static enum rt_status quantize_node(struct rt_int_sweep *s, int i, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct rt_int_quantised y;
    struct rt_int_clamp clamp;
    bool done = false;
    if (g->value[n->in[0]].dtype != RT_FLOAT ||
        !rt_int_read_quantised(g, n->out[0], n->in[1], rt_int_input(n, 2), &y))
        return RT_OK;
    const int real = rt_int_behind_clamps(g, n->in[0], &clamp);
    enum rt_status status = try_conv(s, i, real, &y, &clamp, &done, err);
    if (status == RT_OK && !done)
        status = try_add(s, i, real, &y, &clamp, &done, err);
    if (status == RT_OK && !done)
        status = try_pool(s, i, real, &y, &clamp, &done, err);
    return status;
}

static enum rt_status qlinear_conv(struct rt_int_sweep *s, int i, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct rt_int_found f = { .op = &rt_op_ConvPixels,
                              .name = n->name,
                              .w = { n->in[3], n->in[4], n->in[5], 0 },
                              .b = { rt_int_input(n, 8), -1, true },
                              .clamp = { .lo = -INFINITY, .hi = INFINITY },
                              .residual = -1 };
    bool done;
    const struct rt_shape *x = &g->value[n->in[0]].shape, *w = &g->value[n->in[3]].shape;
    if (!rt_int_read_quantised(g, n->in[0], n->in[1], n->in[2], &f.x) ||
        !rt_int_read_quantised(g, n->out[0], n->in[6], n->in[7], &f.y) || x->rank != 4 ||
        rt_conv_fit(&f.c, n, x, w, false, NULL) != RT_OK || !rt_int_serves(&f.c) ||
        !rt_int_weights_fit(g, &f.w, f.c.maps) || (f.b.v >= 0 && !g->value[f.b.v].constant))
        return RT_OK;
    f.w_map = f.c.group_channels * rt_conv_taps(&f.c);
    f.w_channel = rt_conv_taps(&f.c);
    return rt_int_put_conv(s, i, &f, &done, err);
}

static enum rt_status qlinear_matmul(struct rt_int_sweep *s, int i, struct rt_error *err)
{
    const struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct rt_int_found f = { .op = &rt_op_GemmPixels,
                              .name = n->name,
                              .w = { n->in[3], n->in[4], n->in[5], 1 },
                              .b = { -1, -1, true },
                              .clamp = { .lo = -INFINITY, .hi = INFINITY },
                              .residual = -1 };
    bool done;
    const struct rt_shape *w = &g->value[n->in[3]].shape;
    if (w->rank != 2 || !rt_int_read_quantised(g, n->in[0], n->in[1], n->in[2], &f.x) ||
        !rt_int_read_quantised(g, n->out[0], n->in[6], n->in[7], &f.y) ||
        g->value[n->in[0]].shape.rank != 2)
        return RT_OK;
    f.c = rt_int_one_pixel(w->dim[0], w->dim[1]);
    f.w_map = 1;
    f.w_channel = w->dim[1];
    if (!rt_int_serves(&f.c) || !rt_int_weights_fit(g, &f.w, f.c.maps))
        return RT_OK;
    return rt_int_put_conv(s, i, &f, &done, err);
}

/* Views and pools of what is quantised that know no scale. */
static enum rt_status byte_node(struct rt_int_sweep *s, int i, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    if (n->n_in < 1 || n->n_out < 1 || n->in[0] < 0 || n->out[0] < 0 ||
        rt_int_twin_of(s, n->in[0]) < 0)
        return RT_OK;
    const struct rt_int_quantised x = { n->in[0], 1, 0, -1 }, y = { n->out[0], 1, 0, -1 };
    const struct rt_int_clamp none = { .lo = -INFINITY, .hi = INFINITY };
    if (n->op == &rt_op_MaxPool && !rt_has_out(n, 1) && rt_int_has_pixels(&g->value[n->out[0]]) &&
        rt_int_can_pool(g, &x, &y))
        return rt_int_put_pool(s, i, &rt_op_MaxPoolPixels, i, &x, &y, &none, err);
    if (!rt_int_is_flatten(g, n))
        return RT_OK;
    const struct rt_int_quantised flat = { n->in[0], 1, 0, n->out[0] };
    const int y_value = n->out[0], bytes = rt_int_bytes_of(s, &flat);
    return bytes < 0 ? rt_graph_nomem(g, err) : rt_int_take_over(s, i, y_value, bytes, err);
}

/* Whoever still wants real numbers gets them from the bytes. */
static enum rt_status dequantize_node(struct rt_int_sweep *s, int i, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    const struct rt_node *n = &g->node[i];
    struct rt_int_quantised q;
    if (n->op != &rt_op_DequantizeLinear || g->value[n->out[0]].dtype != RT_FLOAT ||
        rt_int_twin_of(s, n->in[0]) < 0 ||
        !rt_int_read_quantised(g, n->in[0], n->in[1], rt_int_input(n, 2), &q))
        return RT_OK;
    return rt_int_put_dequantize(s, i, &q, err);
}

enum rt_status rt_find_integers(struct rt_graph *g, struct rt_error *err)
{
    struct rt_int_sweep s = { .g = g,
                              .uses = rt_graph_alloc(g, (size_t)g->n_values + 1, sizeof *s.uses) };
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
