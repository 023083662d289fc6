/* ConvTranspose on plain tensors. For floats, the products of all taps of an output map with all
 * input pixels are a matrix product, [taps][channels] x [channels][pixels]; its rows are then added
 * to the places of the output that their tap reaches. */
#include "runtime/ops/conv.h"
#include "runtime/ops/element.h"
#include "runtime/ops/gemm.h"
#include "runtime/ops/steps.h"

#include <string.h>

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    struct rt_conv c;
    enum rt_status s = rt_conv_init(&c, g, n, true, err);
    return s == RT_OK ? rt_conv_set_out(&c, g, n, err) : s;
}

static enum rt_status absorb_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                    const float *shift, struct rt_error *err)
{
    struct rt_conv c;
    enum rt_status s = rt_conv_init(&c, g, n, true, err);
    return s == RT_OK ? rt_conv_absorb_affine(g, n, &c, true, scale, shift, err) : s;
}

struct state {
    struct rt_conv c;
    bool widen;              /* of a reduced type, computed in floats */
    const float *weights;    /* [maps][taps][channels of a group], when they are constant */
    struct rt_product input; /* a group's channels and pixels as the right matrix */
    size_t packed, pitch;    /* floats of a group's input packed, and of a row of products */
};

/* Where in scratch what is, in floats. Rows of products follow for each worker. */
struct places {
    size_t weights, input, rows, x, y, w, end;
};

static struct places place(const struct state *s, int64_t samples, int threads)
{
    const struct rt_conv *c = &s->c;
    const size_t weights = (size_t)(c->channels * c->group_maps * rt_conv_taps(c));
    struct places at = { 0 };
    at.input = rt_align_up(s->weights == NULL ? weights : 0);
    at.rows = at.input + rt_align_up((size_t)c->groups * s->packed);
    at.x = at.rows + (size_t)threads * rt_align_up((size_t)rt_conv_taps(c) * s->pitch);
    at.y = at.w = at.end = at.x;
    if (s->widen) {
        at.y = at.x + (size_t)(samples * c->channels * c->in[0] * c->in[1] * c->in[2]);
        at.w = at.y + (size_t)(samples * c->maps * c->out[0] * c->out[1] * c->out[2]);
        at.end = at.w + weights;
    }
    return at;
}

/* [channels][maps of a group][taps] to [maps][taps][channels of a group], maps begin..end-1. */
static void turn_weights(const struct rt_conv *c, float *to, const float *from, int64_t begin,
                         int64_t end)
{
    const int64_t taps = rt_conv_taps(c);
    for (int64_t m = begin; m < end; m++) {
        const int64_t group = m / c->group_maps;
        for (int64_t t = 0; t < taps; t++)
            for (int64_t k = 0; k < c->group_channels; k++)
                to[(m * taps + t) * c->group_channels + k] =
                    from[((group * c->group_channels + k) * c->group_maps + m % c->group_maps) *
                             taps +
                         t];
    }
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    enum rt_status status = rt_conv_init(&s->c, b->g, n, true, err);
    if (status != RT_OK)
        return status;
    const struct rt_conv *c = &s->c;
    const struct rt_value *x = rt_in(b->g, n, RT_CONV_X), *w = rt_in(b->g, n, RT_CONV_W);
    n->state = s;
    n->flops = rt_conv_flops(c, b->g, n, true);
    n->algorithm = "plain";
    if (x->dtype == RT_DOUBLE)
        return RT_OK;
    s->widen = x->dtype != RT_FLOAT;
    const int64_t pixels = c->in[0] * c->in[1] * c->in[2], panel = 2 * rt_kernels()->block;
    s->input =
        (struct rt_product){ .k = c->group_channels, .n = pixels, .right_k = pixels, .right_n = 1 };
    s->packed = rt_gemm_packed(s->input.k, pixels);
    s->pitch = (size_t)((pixels + panel - 1) / panel * panel);
    if (w->constant && !s->widen) {
        const size_t floats = (size_t)rt_shape_numel(&w->shape);
        float *turned = rt_arena_array(b->arena, floats, sizeof *turned);
        if (turned == NULL)
            return rt_fail_nomem(err, floats * sizeof *turned);
        turn_weights(c, turned, w->data, 0, c->maps);
        s->weights = turned;
        n->weight_bytes = floats * sizeof *turned;
        n->in[RT_CONV_W] = -1;
    }
    const int64_t samples = rt_dim_at(x->shape.dim[0], b->max_batch);
    n->scratch = place(s, samples, b->threads).end * sizeof(float);
    n->algorithm = "gemm and scatter";
    return RT_OK;
}

/* The input positions begin..end-1 along an axis that tap k takes into the output; the first goes
 * to *to, each next one a stride further. */
static void reach(const struct rt_conv *c, int axis, int64_t k, int64_t *begin, int64_t *end,
                  int64_t *to)
{
    const int64_t stride = c->stride[axis], offset = k * c->dilation[axis] - c->pad[axis];
    *begin = offset < 0 ? (-offset + stride - 1) / stride : 0;
    *end = c->out[axis] > offset ? (c->out[axis] - offset + stride - 1) / stride : 0;
    if (*end > c->in[axis])
        *end = c->in[axis];
    *to = *begin * stride + offset;
}

/* Adds one tap's products with all input pixels to the output plane y. */
static void scatter(const struct rt_conv *c, float *y, const float *products, int64_t tap)
{
    const int64_t k[3] = { tap / (c->kernel[1] * c->kernel[2]), tap / c->kernel[2] % c->kernel[1],
                           tap % c->kernel[2] };
    int64_t begin[3], end[3], to[3];
    for (int a = 0; a < 3; a++)
        reach(c, a, k[a], &begin[a], &end[a], &to[a]);
    if (begin[2] >= end[2])
        return;
    const int64_t count = end[2] - begin[2], step = c->stride[2];
    for (int64_t d = begin[0]; d < end[0]; d++) {
        for (int64_t h = begin[1]; h < end[1]; h++) {
            const int64_t od = to[0] + (d - begin[0]) * c->stride[0];
            const int64_t oh = to[1] + (h - begin[1]) * c->stride[1];
            float *row = y + (od * c->out[1] + oh) * c->out[2] + to[2];
            const float *from = products + (d * c->in[1] + h) * c->in[2] + begin[2];
            if (step == 1) {
                rt_kernels()->add(row, row, from, (size_t)count);
                continue;
            }
            for (int64_t i = 0; i < count; i++)
                row[i * step] += from[i];
        }
    }
}

/* One output map: products of its taps, row by row, then their sum in the order of the taps. */
static void run_map(const struct state *s, float *y, const float *packed, const float *weights,
                    float start, float *rows)
{
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block, taps = rt_conv_taps(c);
    static const float zeros[32];
    for (int64_t column = 0; column < s->input.n; column += 2 * block) {
        const struct rt_mac m = {
            .x = weights,
            .w = packed + column * c->group_channels,
            .y = rows + column,
            .bias = zeros,
            .pixels = (size_t)taps,
            .rows = 1,
            .blocks = s->input.n - column > block ? 2 : 1,
            .x_pixel = (size_t)c->group_channels,
            .y_pixel = s->pitch,
            .y_block = (size_t)block,
            .outer = 1,
            .kh = 1,
            .kw = 1,
            .lanes = (size_t)c->group_channels,
            .last_lanes = (size_t)c->group_channels,
        };
        rt_kernels()->mac(&m);
    }
    for (int64_t i = 0; i < c->out[0] * c->out[1] * c->out[2]; i++)
        y[i] = start;
    for (int64_t t = 0; t < taps; t++)
        scatter(c, y, rows + (size_t)t * s->pitch, t);
}

/* This worker's share of packing a sample's input, all groups. */
static void pack_input(const struct state *s, float *to, const float *x, const struct rt_worker *w)
{
    const int64_t columns = 2 * rt_kernels()->block;
    const int64_t panels = (s->input.n + columns - 1) / columns;
    int64_t begin, end;
    rt_worker_share(w, s->c.groups * panels, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const int64_t group = i / panels, panel = i % panels;
        rt_gemm_pack_panel(to + (size_t)group * s->packed +
                               (size_t)(panel * columns * s->c.group_channels),
                           &s->input, x + group * s->c.group_channels * s->input.n, panel, 1.0f);
    }
}

static void run_float(const struct rt_call *call, const struct rt_worker *w)
{
    const struct state *s = call->node->state;
    const struct rt_conv *c = &s->c;
    const struct rt_tensor *in = &call->in[RT_CONV_X];
    const int64_t samples = in->shape.dim[0], taps = rt_conv_taps(c);
    const int64_t out = c->out[0] * c->out[1] * c->out[2];
    const struct places at = place(s, samples, w->count);
    const int bias = rt_conv_bias(call->node);
    float *room = call->scratch;
    const float *x = in->data, *weights = s->weights;
    float *y = call->out[0].data;
    int64_t begin, end;
    rt_worker_share(w, c->maps, 1, &begin, &end);
    if (s->widen) {
        rt_conv_widen(room + at.x, in, w);
        rt_conv_widen(room + at.w, &call->in[RT_CONV_W], w);
        rt_worker_barrier(w);
        x = room + at.x;
        y = room + at.y;
    }
    if (weights == NULL) {
        turn_weights(c, room + at.weights, s->widen ? room + at.w : call->in[RT_CONV_W].data, begin,
                     end);
        weights = room + at.weights; /* a worker turns what it reads */
    }
    float *rows = room + at.rows + (size_t)w->id * rt_align_up((size_t)taps * s->pitch);
    for (int64_t sample = 0; sample < samples; sample++) {
        rt_worker_barrier(w);
        pack_input(s, room + at.input, x + sample * c->channels * s->input.n, w);
        rt_worker_barrier(w);
        for (int64_t m = begin; m < end; m++) {
            const int64_t to = (sample * c->maps + m) * out;
            run_map(s, y + to, room + at.input + (size_t)(m / c->group_maps) * s->packed,
                    weights + m * taps * c->group_channels,
                    bias >= 0 ? (float)rt_element(&call->in[bias], m) : 0.0f, rows);
            if (!s->widen)
                rt_steps_plain(call, y + to, sample, m, to, out);
        }
    }
    if (s->widen) {
        rt_worker_barrier(w);
        rt_conv_narrow(&call->out[0], y, w);
    }
}

static void scatter_double(const struct rt_conv *c, double *y, const double *x, double w,
                           int64_t tap)
{
    const int64_t k[3] = { tap / (c->kernel[1] * c->kernel[2]), tap / c->kernel[2] % c->kernel[1],
                           tap % c->kernel[2] };
    int64_t begin[3], end[3], to[3];
    for (int a = 0; a < 3; a++)
        reach(c, a, k[a], &begin[a], &end[a], &to[a]);
    for (int64_t d = begin[0]; d < end[0]; d++)
        for (int64_t h = begin[1]; h < end[1]; h++)
            for (int64_t i = begin[2]; i < end[2]; i++) {
                const int64_t od = to[0] + (d - begin[0]) * c->stride[0];
                const int64_t oh = to[1] + (h - begin[1]) * c->stride[1];
                const int64_t ow = to[2] + (i - begin[2]) * c->stride[2];
                y[(od * c->out[1] + oh) * c->out[2] + ow] +=
                    x[(d * c->in[1] + h) * c->in[2] + i] * w;
            }
}

static void run_double(const struct rt_call *call, const struct rt_worker *w)
{
    const struct state *s = call->node->state;
    const struct rt_conv *c = &s->c;
    const int64_t in = c->in[0] * c->in[1] * c->in[2], out = c->out[0] * c->out[1] * c->out[2];
    const int64_t taps = rt_conv_taps(c);
    const double *weights = call->in[RT_CONV_W].data;
    const int bias = rt_conv_bias(call->node);
    int64_t begin, end;
    rt_worker_share(w, call->in[RT_CONV_X].shape.dim[0] * c->maps, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const int64_t sample = i / c->maps, m = i % c->maps, group = m / c->group_maps;
        double *y = (double *)call->out[0].data + i * out;
        for (int64_t p = 0; p < out; p++)
            y[p] = bias >= 0 ? ((const double *)call->in[bias].data)[m] : 0.0;
        for (int64_t k = 0; k < c->group_channels; k++) {
            const int64_t ch = group * c->group_channels + k;
            const double *x = (const double *)call->in[RT_CONV_X].data;
            x += (sample * c->channels + ch) * in;
            for (int64_t t = 0; t < taps; t++)
                scatter_double(c, y, x,
                               weights[(ch * c->group_maps + m % c->group_maps) * taps + t], t);
        }
    }
}

static void run(const struct rt_call *call, const struct rt_worker *w)
{
    if (call->in[RT_CONV_X].dtype == RT_DOUBLE)
        run_double(call, w);
    else
        run_float(call, w);
}

const struct rt_op rt_op_ConvTranspose = {
    .name = "ConvTranspose",
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_FLUSHES,
    .infer = infer,
    .prepare = prepare,
    .run = run,
    .absorb_affine = absorb_affine,
};
