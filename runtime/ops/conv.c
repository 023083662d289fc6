/* Conv on plain tensors: any rank, type, group and dilation, one output plane at a time. */
#include "runtime/ops/conv.h"
#include "runtime/ops/element.h"
#include "runtime/ops/steps.h"

#include <string.h>

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    struct rt_conv c;
    enum rt_status s = rt_conv_init(&c, g, n, false, err);
    return s == RT_OK ? rt_conv_set_out(&c, g, n, err) : s;
}

static enum rt_status absorb_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                    const float *shift, struct rt_error *err)
{
    struct rt_conv c;
    enum rt_status s = rt_conv_init(&c, g, n, false, err);
    return s == RT_OK ? rt_conv_absorb_affine(g, n, &c, false, scale, shift, err) : s;
}

static bool is_padded(const struct rt_conv *c)
{
    for (int a = 0; a < 3; a++)
        if (c->pad[a] > 0 || c->pad_end[a] > 0)
            return true;
    return false;
}

static bool all_zero(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != 0.0f)
            return false;
    return true;
}

/* A pointwise convolution's, whose weights are only read: in the order in which they lie. */
static enum rt_status absorb_into_channels(struct rt_graph *g, struct rt_node *n,
                                           const struct rt_conv *c, const float *scale,
                                           const float *shift, struct rt_error *err)
{
    struct rt_conv_weights w = rt_conv_weights(g, n);
    const struct rt_shape shape = rt_in_const(g, n, RT_CONV_W)->shape;
    const struct rt_shape maps = rt_shape_of(1, &c->maps);
    const int64_t channels = c->channels, outer = w.turned ? channels : c->maps;
    const int64_t inner = w.turned ? c->maps : channels;
    float *gain = rt_graph_alloc_bulk(g, (size_t)channels, sizeof *gain), *new_b;
    double *sum = rt_graph_alloc_bulk(g, (size_t)c->maps, sizeof *sum);
    const int b = rt_graph_add_floats(g, &maps, &new_b), bias = rt_conv_bias(n);
    if (gain == NULL || sum == NULL || b < 0)
        return rt_graph_nomem(g, err);
    const float *old_b = bias >= 0 ? rt_in_const(g, n, bias)->data : NULL;
    for (int64_t i = 0; i < outer; i++)
        for (int64_t k = 0; k < inner; k++) {
            const int64_t m = w.turned ? k : i, ch = w.turned ? i : k;
            const float own = w.in_gain != NULL ? w.in_gain[ch] : 1.0f;
            sum[m] += (double)(w.w[i * inner + k] * own) * shift[ch];
        }
    for (int64_t ch = 0; ch < channels; ch++)
        gain[ch] = (w.in_gain != NULL ? w.in_gain[ch] : 1.0f) * scale[ch];
    for (int64_t m = 0; m < c->maps; m++)
        new_b[m] = (float)((old_b != NULL ? (double)old_b[m] : 0.0) + sum[m] * rt_conv_gain(&w, m));
    w.in_gain = gain;
    const int put_off = rt_conv_put_off(g, &shape, &w);
    if (put_off < 0)
        return rt_graph_nomem(g, err);
    const enum rt_status s = rt_conv_set_bias(g, n, b, err);
    if (s == RT_OK)
        n->in[RT_CONV_W] = put_off;
    return s;
}

static enum rt_status absorb_input_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                          const float *shift, struct rt_error *err)
{
    struct rt_conv c;
    enum rt_status s = rt_conv_init(&c, g, n, false, err);
    if (s != RT_OK)
        return s;
    /* A zero of the padding stays a zero under a scale, but not under a shift. */
    if (!rt_conv_has_constants(g, n) || (is_padded(&c) && !all_zero(shift, c.channels)) ||
        (rt_conv_bias(n) < 0 && n->n_in > RT_CONV_B && rt_steps_read(n, RT_CONV_B)))
        return RT_E_UNSUPPORTED;
    if (rt_conv_is_pointwise(&c))
        return absorb_into_channels(g, n, &c, scale, shift, err);
    s = rt_conv_settle_weights(g, n, err);
    if (s != RT_OK)
        return s;
    int bias = rt_conv_bias(n);
    const struct rt_shape shape = rt_in_const(g, n, RT_CONV_W)->shape;
    const struct rt_shape maps = rt_shape_of(1, &c.maps);
    float *new_w, *new_b;
    int w = rt_graph_add_floats(g, &shape, &new_w), b = rt_graph_add_floats(g, &maps, &new_b);
    if (w < 0 || b < 0)
        return rt_graph_nomem(g, err);
    const float *old_w = rt_in_const(g, n, RT_CONV_W)->data;
    const float *old_b = bias >= 0 ? rt_in_const(g, n, bias)->data : NULL;
    int64_t taps = rt_conv_taps(&c);
    for (int64_t m = 0; m < c.maps; m++) {
        double sum = old_b != NULL ? (double)old_b[m] : 0.0;
        for (int64_t k = 0; k < c.group_channels; k++) {
            int64_t ch = m / c.group_maps * c.group_channels + k;
            for (int64_t t = 0; t < taps; t++) {
                int64_t at = (m * c.group_channels + k) * taps + t;
                sum += (double)old_w[at] * shift[ch];
                new_w[at] = old_w[at] * scale[ch];
            }
        }
        new_b[m] = (float)sum;
    }
    s = rt_conv_set_bias(g, n, b, err);
    if (s == RT_OK)
        n->in[RT_CONV_W] = w;
    return s;
}

/* What run() works on where the tensors are of a reduced type: floats in scratch. */
struct widened {
    size_t x, w, y; /* offsets in floats */
};

struct state {
    struct rt_conv c;
    bool widen;
};

static struct widened place(const struct state *s, int64_t samples)
{
    const struct rt_conv *c = &s->c;
    struct widened at = { 0 };
    at.w = (size_t)(samples * c->channels * c->in[0] * c->in[1] * c->in[2]);
    at.y = at.w + (size_t)(c->maps * c->group_channels * rt_conv_taps(c));
    return at;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    enum rt_status status = rt_conv_init(&s->c, b->g, n, false, err);
    if (status == RT_OK)
        status = rt_conv_settle_weights(b->g, n, err);
    if (status != RT_OK)
        return status;
    const struct rt_value *x = rt_in(b->g, n, RT_CONV_X), *y = rt_out(b->g, n, 0);
    s->widen = x->dtype == RT_FLOAT16 || x->dtype == RT_BFLOAT16;
    if (s->widen) {
        int64_t samples = rt_dim_at(x->shape.dim[0], b->max_batch);
        struct rt_shape out = rt_shape_at(&y->shape, b->max_batch);
        n->scratch = (place(s, samples).y + (size_t)rt_shape_numel(&out)) * sizeof(float);
    }
    n->state = s;
    n->flops = rt_conv_flops(&s->c, b->g, n, false);
    n->algorithm = "plain";
    return RT_OK;
}

#define T float
#define PLANE plane_float
#define AXPY(y, x, n, a) rt_kernels()->axpy(y, x, n, a)
#include "runtime/ops/conv_plane.inc"
#undef T
#undef PLANE
#undef AXPY

#define T double
#define PLANE plane_double
#define AXPY(y, x, n, a)                                                                           \
    do {                                                                                           \
        for (size_t i = 0; i < (n); i++)                                                           \
            (y)[i] += (x)[i] * (a);                                                                \
    } while (0)
#include "runtime/ops/conv_plane.inc"
#undef T
#undef PLANE
#undef AXPY

void rt_conv_widen(float *to, const struct rt_tensor *from, const struct rt_worker *w)
{
    int64_t begin, end;
    rt_worker_share(w, rt_shape_numel(&from->shape), 64, &begin, &end);
    const char *data = from->data;
    rt_load_elements(to + begin, RT_KIND_FLOAT, from->dtype,
                     data + (size_t)begin * rt_dtype_size(from->dtype), 1, end - begin);
}

void rt_conv_narrow(struct rt_tensor *to, const float *from, const struct rt_worker *w)
{
    int64_t begin, end;
    rt_worker_share(w, rt_shape_numel(&to->shape), 64, &begin, &end);
    char *data = to->data;
    rt_store_elements(to->dtype, data + (size_t)begin * rt_dtype_size(to->dtype), 1, from + begin,
                      RT_KIND_FLOAT, end - begin);
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    const struct rt_conv *conv = &s->c;
    const struct rt_tensor *x = &c->in[RT_CONV_X];
    const int bias = rt_conv_bias(c->node);
    const void *xdata = x->data, *wdata = c->in[RT_CONV_W].data;
    void *ydata = c->out[0].data;
    if (s->widen) {
        struct widened at = place(s, x->shape.dim[0]);
        float *room = c->scratch;
        rt_conv_widen(room + at.x, x, w);
        rt_conv_widen(room + at.w, &c->in[RT_CONV_W], w);
        rt_worker_barrier(w);
        xdata = room + at.x;
        wdata = room + at.w;
        ydata = room + at.y;
    }
    int64_t out = conv->out[0] * conv->out[1] * conv->out[2], begin, end;
    int64_t in = conv->in[0] * conv->in[1] * conv->in[2] * conv->group_channels;
    int64_t weights = conv->group_channels * rt_conv_taps(conv);
    rt_worker_share(w, x->shape.dim[0] * conv->maps, 1, &begin, &end);
    for (int64_t plane = begin; plane < end; plane++) {
        int64_t sample = plane / conv->maps, m = plane % conv->maps;
        int64_t from = (sample * conv->groups + m / conv->group_maps) * in;
        double start = bias >= 0 ? rt_element(&c->in[bias], m) : 0.0;
        if (x->dtype == RT_DOUBLE) {
            plane_double(conv, (double *)ydata + plane * out, (const double *)xdata + from,
                         (const double *)wdata + m * weights, start);
            continue;
        }
        float *y = (float *)ydata + plane * out;
        plane_float(conv, y, (const float *)xdata + from, (const float *)wdata + m * weights,
                    (float)start);
        if (!s->widen)
            rt_steps_plain(c, y, sample, m, plane * out, out);
    }
    if (s->widen) {
        rt_worker_barrier(w);
        rt_conv_narrow(&c->out[0], ydata, w);
    }
}

const struct rt_op rt_op_Conv = {
    .name = "Conv",
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_FLUSHES,
    .infer = infer,
    .prepare = prepare,
    .run = run,
    .absorb_affine = absorb_affine,
    .absorb_input_affine = absorb_input_affine,
    .can_block = rt_conv_can_block,
    .reads_plain = rt_conv_reads_plain,
    .prefers_blocked = true,
    .blocked = &rt_op_ConvBlocked,
};
