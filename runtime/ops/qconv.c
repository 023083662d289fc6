/* QLinearConv and ConvInteger: Conv of 8-bit integers with zero points and scales. */
#include <math.h>

#include "runtime/ops/conv.h"
#include "runtime/ops/integer.h"

/* Sums wrap, as integers of 32 bits do. */
static void axpy_int(uint32_t *y, const uint32_t *x, size_t n, uint32_t a)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i] * a;
}

#define T uint32_t
#define PLANE plane_int
#define AXPY axpy_int
#include "runtime/ops/conv_plane.inc"

/* Which input is what; -1: the operator has none. */
struct inputs {
    int x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias;
};
static const struct inputs quantized = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
static const struct inputs integer = { 0, -1, 2, 1, -1, 3, -1, -1, -1 };

struct state {
    const struct inputs *in;
    struct rt_conv conv;
    const int32_t *weights; /* without zero points; NULL: they are not constant */
};

static const struct inputs *inputs_of(const struct rt_node *n)
{
    return n->op == &rt_op_QLinearConv ? &quantized : &integer;
}

/* A parameter is one number or, for the weights, one for each output channel. */
static enum rt_status check_parameter(struct rt_graph *g, const struct rt_node *n, int i,
                                      unsigned types, int64_t maps, struct rt_error *err)
{
    if (i < 0 || !rt_has_in(n, i))
        return RT_OK;
    enum rt_status s = rt_check_type(g, n, i, types, err);
    const struct rt_shape *p = &rt_in(g, n, i)->shape;
    if (s == RT_OK && rt_shape_numel(p) != 1 && (p->rank != 1 || p->dim[0] != maps))
        s = rt_node_fail(err, RT_E_INVALID, n, "the shape of input %d does not fit", i);
    return s;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct inputs *in = inputs_of(n);
    struct rt_shape y = rt_in(g, n, in->x)->shape;
    struct rt_conv conv;
    enum rt_status s = rt_check_type(g, n, in->x, RT_T_QUANTIZED, err);
    if (s == RT_OK)
        s = rt_check_type(g, n, in->w, RT_T_QUANTIZED, err);
    if (s == RT_OK)
        s = rt_conv_fit(&conv, n, &y, &rt_in(g, n, in->w)->shape, false, err);
    if (s != RT_OK)
        return s;
    const struct {
        int input;
        unsigned types;
        int64_t maps;
    } parameters[] = {
        { in->x_scale, RT_T_REAL, 1 },         { in->x_zero, RT_T_QUANTIZED, 1 },
        { in->w_scale, RT_T_REAL, conv.maps }, { in->w_zero, RT_T_QUANTIZED, conv.maps },
        { in->y_scale, RT_T_REAL, 1 },         { in->y_zero, RT_T_QUANTIZED, 1 },
    };
    for (size_t i = 0; s == RT_OK && i < sizeof parameters / sizeof parameters[0]; i++)
        s = check_parameter(g, n, parameters[i].input, parameters[i].types, parameters[i].maps,
                            err);
    if (s == RT_OK && in->bias >= 0 && rt_has_in(n, in->bias)) {
        const struct rt_shape *b = &rt_in(g, n, in->bias)->shape;
        s = rt_check_type(g, n, in->bias, RT_T(RT_INT32), err);
        if (s == RT_OK && (b->rank != 1 || b->dim[0] != conv.maps))
            s = rt_node_fail(err, RT_E_INVALID, n, "the bias does not have %lld elements",
                             (long long)conv.maps);
    }
    if (s != RT_OK)
        return s;
    y.dim[1] = conv.maps;
    for (int a = 2; a < y.rank; a++)
        y.dim[a] = conv.out[3 - y.rank + a];
    const enum rt_dtype dtype = in == &quantized ? rt_in(g, n, in->y_zero)->dtype : RT_INT32;
    return rt_set_out(g, n, 0, dtype, &y, err);
}

static size_t aligned(int64_t n)
{
    return rt_align_up((size_t)n * sizeof(int32_t));
}

static int64_t pixels(const int64_t size[3])
{
    return size[0] * size[1] * size[2];
}

/* Scratch: the input and, where they are not constant, the weights without zero points, then a
 * plane of sums for each worker. */
static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    s->in = inputs_of(n);
    const struct rt_value *x = rt_in(b->g, n, s->in->x), *w = rt_in(b->g, n, s->in->w);
    enum rt_status status = rt_conv_fit(&s->conv, n, &x->shape, &w->shape, false, err);
    if (status != RT_OK)
        return status;
    const struct rt_value *zero =
        rt_has_in(n, s->in->w_zero) ? rt_in(b->g, n, s->in->w_zero) : NULL;
    const struct rt_shape most = rt_shape_at(&x->shape, b->max_batch);
    const int64_t n_weights = rt_shape_numel(&w->shape);
    n->scratch = aligned(rt_shape_numel(&most)) + (size_t)b->threads * aligned(pixels(s->conv.out));
    n->flops =
        2 * (double)rt_dim_at(x->shape.dim[0], 1) * (double)pixels(s->conv.out) * (double)n_weights;
    n->algorithm = "plain";
    n->state = s;
    if (!w->constant || (zero != NULL && !zero->constant)) {
        n->scratch += aligned(n_weights);
        return RT_OK;
    }
    int32_t *weights = rt_arena_array(b->arena, (size_t)n_weights, sizeof *weights);
    if (weights == NULL)
        return rt_graph_nomem(b->g, err);
    const struct rt_tensor from = rt_graph_tensor(b->g, n->in[s->in->w]);
    const struct rt_tensor by =
        rt_graph_tensor(b->g, rt_has_in(n, s->in->w_zero) ? n->in[s->in->w_zero] : -1);
    rt_integer_center(weights, &from, &by, 0, &(struct rt_worker){ .count = 1 });
    s->weights = weights;
    n->weight_bytes = (size_t)n_weights * sizeof *weights;
    n->in[s->in->w] = -1;
    if (zero != NULL)
        n->in[s->in->w_zero] = -1;
    return RT_OK;
}

/* One plane of output: its sums into the output (ConvInteger) or, brought to its scale, there. */
static void finish_plane(const struct rt_call *c, const struct state *s, int64_t plane,
                         const int32_t *sums)
{
    const struct rt_tensor *y = &c->out[0], *w_scale = &c->in[s->in->w_scale];
    const int64_t size = pixels(s->conv.out), map = plane % s->conv.maps;
    const bool one = rt_shape_numel(&w_scale->shape) == 1;
    const float factor = (float)rt_element(&c->in[s->in->x_scale], 0) *
                         (float)rt_element(w_scale, one ? 0 : map) /
                         (float)rt_element(&c->in[s->in->y_scale], 0);
    const float zero = (float)rt_element(&c->in[s->in->y_zero], 0);
    float factors[RT_CHUNK], zeros[RT_CHUNK];
    for (int i = 0; i < RT_CHUNK; i++)
        factors[i] = factor, zeros[i] = zero;
    for (int64_t at = 0, n; at < size; at += n) {
        n = size - at < RT_CHUNK ? size - at : RT_CHUNK;
        rt_integer_rescale(y, plane * size + at, n, sums + at, factors, zeros);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    const struct rt_conv *conv = &s->conv;
    const struct rt_tensor *x = &c->in[s->in->x];
    const int64_t in_size = pixels(conv->in), out_size = pixels(conv->out);
    int32_t *centered = c->scratch;
    char *rest = (char *)c->scratch + aligned(rt_shape_numel(&x->shape));
    rt_integer_center(centered, x, rt_has_in(c->node, s->in->x_zero) ? &c->in[s->in->x_zero] : NULL,
                      0, w);
    const int32_t *weights = s->weights;
    if (weights == NULL) {
        rt_integer_center((int32_t *)(void *)rest, &c->in[s->in->w],
                          rt_has_in(c->node, s->in->w_zero) ? &c->in[s->in->w_zero] : NULL, 0, w);
        weights = (int32_t *)(void *)rest;
        rest += aligned(rt_shape_numel(&c->in[s->in->w].shape));
    }
    rt_worker_barrier(w);

    const int64_t map_weights = conv->group_channels * rt_conv_taps(conv);
    uint32_t *own = (uint32_t *)(void *)(rest + (size_t)w->id * aligned(out_size));
    int64_t plane, end;
    rt_worker_share(w, x->shape.dim[0] * conv->maps, 1, &plane, &end);
    for (; plane < end; plane++) {
        const int64_t sample = plane / conv->maps, map = plane % conv->maps;
        const int64_t channel = map / conv->group_maps * conv->group_channels;
        uint32_t *sums = s->in == &quantized ? own : (uint32_t *)c->out[0].data + plane * out_size;
        uint32_t start = 0;
        if (s->in->bias >= 0 && rt_has_in(c->node, s->in->bias))
            start = ((const uint32_t *)c->in[s->in->bias].data)[map];
        plane_int(conv, sums,
                  (const uint32_t *)centered + (sample * conv->channels + channel) * in_size,
                  (const uint32_t *)weights + map * map_weights, start);
        if (s->in == &quantized)
            finish_plane(c, s, plane, (const int32_t *)sums);
    }
}

const struct rt_op rt_op_ConvInteger = {
    .name = "ConvInteger",
    .since = 10,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};

const struct rt_op rt_op_QLinearConv = {
    .name = "QLinearConv",
    .since = 10,
    .min_in = 8,
    .max_in = 9,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};
