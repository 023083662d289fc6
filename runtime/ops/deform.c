/* DeformConv: a two-dimensional convolution whose taps are moved by offsets from a tensor. */
#include <math.h>

#include "runtime/ops/conv.h"
#include "runtime/ops/element.h"

enum { X, W, OFFSET, BIAS, MASK };

/* Output pixels that are done together, so that each weight is read once for all of them. */
#define TILE 32

struct state {
    struct rt_conv conv;
    int64_t offset_groups;
    int64_t n_column; /* elements that one output pixel reads */
};

static enum rt_status check_operand(struct rt_graph *g, const struct rt_node *n, int i,
                                    const struct rt_shape *wanted, struct rt_error *err)
{
    if (!rt_has_in(n, i))
        return RT_OK;
    char text[RT_SHAPE_TEXT];
    if (!rt_shape_equal(&rt_in(g, n, i)->shape, wanted))
        return rt_node_fail(err, RT_E_INVALID, n, "input %d should have the shape %s", i,
                            rt_shape_text(wanted, text));
    return rt_check_same_type(g, n, X, i, err);
}

static enum rt_status read_state(struct state *s, struct rt_graph *g, const struct rt_node *n,
                                 struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, X)->shape;
    if (x->rank != 4)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "an input of rank %d (4 is served)", x->rank);
    enum rt_status status = rt_conv_fit(&s->conv, n, x, &rt_in(g, n, W)->shape, false, err);
    if (status != RT_OK)
        return status;
    s->offset_groups = rt_attr_int(n, "offset_group", 1);
    s->n_column = s->conv.channels * rt_conv_taps(&s->conv);
    if (s->offset_groups < 1 || s->conv.channels % s->offset_groups != 0)
        return rt_node_fail(err, RT_E_INVALID, n, "offset_group %lld does not divide %lld channels",
                            (long long)s->offset_groups, (long long)s->conv.channels);
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    struct state s;
    enum rt_status status = rt_check_type(g, n, X, RT_T_REAL, err);
    if (status == RT_OK)
        status = rt_check_same_type(g, n, X, W, err);
    if (status == RT_OK)
        status = read_state(&s, g, n, err);
    if (status != RT_OK)
        return status;
    const int64_t taps = s.offset_groups * rt_conv_taps(&s.conv);
    struct rt_shape shape = rt_in(g, n, X)->shape;
    shape.dim[2] = s.conv.out[1];
    shape.dim[3] = s.conv.out[2];
    shape.dim[1] = 2 * taps;
    status = check_operand(g, n, OFFSET, &shape, err);
    shape.dim[1] = taps;
    if (status == RT_OK)
        status = check_operand(g, n, MASK, &shape, err);
    const struct rt_shape bias = rt_shape_of(1, &s.conv.maps);
    if (status == RT_OK)
        status = check_operand(g, n, BIAS, &bias, err);
    return status == RT_OK ? rt_conv_set_out(&s.conv, g, n, err) : status;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    n->state = s;
    enum rt_status status = read_state(s, b->g, n, err);
    rt_set_scratch(b, n, (size_t)s->n_column * TILE * sizeof(double));
    n->flops = rt_conv_flops(&s->conv, b->g, n, false);
    return status;
}

/* The value between four pixels; those outside the picture are 0. */
static double between(const struct rt_tensor *x, int64_t base, const struct rt_conv *c, double h,
                      double w)
{
    const double top = floor(h), left = floor(w);
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        const int down = i / 2, right = i % 2;
        const double row = top + down, column = left + right;
        if (row >= 0 && row < (double)c->in[1] && column >= 0 && column < (double)c->in[2])
            sum += (1 - fabs(h - row)) * (1 - fabs(w - column)) *
                   rt_element(x, base + (int64_t)row * c->in[2] + (int64_t)column);
    }
    return sum;
}

/* What output pixel number at of a sample reads, a TILE apart. */
static void gather_column(const struct rt_call *call, const struct state *s, int64_t sample,
                          int64_t at, double *column)
{
    const struct rt_conv *c = &s->conv;
    const int64_t taps = rt_conv_taps(c), out = c->out[1] * c->out[2], in = c->in[1] * c->in[2];
    const int64_t share = c->channels / s->offset_groups;
    for (int64_t k = 0; k < s->offset_groups * taps; k++) {
        const int64_t group = k / taps, tap = k % taps;
        const int64_t offset = (sample * s->offset_groups * taps + k) * 2 * out + at;
        const int64_t row =
            at / c->out[2] * c->stride[1] - c->pad[1] + tap / c->kernel[2] * c->dilation[1];
        const int64_t col =
            at % c->out[2] * c->stride[2] - c->pad[2] + tap % c->kernel[2] * c->dilation[2];
        const double h = (double)row + rt_element(&call->in[OFFSET], offset);
        const double w = (double)col + rt_element(&call->in[OFFSET], offset + out);
        double mask = 1;
        if (rt_has_in(call->node, MASK))
            mask = rt_element(&call->in[MASK], (sample * s->offset_groups * taps + k) * out + at);
        for (int64_t ch = group * share; ch < (group + 1) * share; ch++)
            column[(ch * taps + tap) * TILE] =
                mask * between(&call->in[X], (sample * c->channels + ch) * in, c, h, w);
    }
}

static void multiply(const struct rt_call *call, const struct state *s, int64_t map,
                     const double *columns, double sum[TILE])
{
    const struct rt_conv *c = &s->conv;
    const int64_t len = c->group_channels * rt_conv_taps(c);
    const double *from = columns + map / c->group_maps * len * TILE;
    const double start = rt_has_in(call->node, BIAS) ? rt_element(&call->in[BIAS], map) : 0;
    union rt_chunk buf;
    for (int i = 0; i < TILE; i++)
        sum[i] = start;
    for (int64_t k = 0, n; k < len; k += n) {
        n = len - k < RT_CHUNK ? len - k : RT_CHUNK;
        const double *w = rt_load(&call->in[W], map * len + k, n, RT_KIND_DOUBLE, &buf);
        for (int64_t j = 0; j < n; j++, from += TILE)
            for (int i = 0; i < TILE; i++)
                sum[i] += w[j] * from[i];
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    const struct rt_tensor *y = &c->out[0];
    const int64_t out = s->conv.out[1] * s->conv.out[2], tiles = (out + TILE - 1) / TILE;
    double *columns = (double *)c->scratch + (int64_t)w->id * s->n_column * TILE;
    int64_t i, end;
    rt_worker_share(w, y->shape.dim[0] * tiles, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t sample = i / tiles, first = i % tiles * TILE;
        const int64_t n = out - first < TILE ? out - first : TILE;
        for (int64_t k = 0; k < s->n_column * TILE; k++)
            columns[k] = 0;
        for (int64_t k = 0; k < n; k++)
            gather_column(c, s, sample, first + k, columns + k);
        for (int64_t map = 0; map < s->conv.maps; map++) {
            double sum[TILE];
            multiply(c, s, map, columns, sum);
            rt_store_elements(y->dtype,
                              rt_element_at(y, (sample * s->conv.maps + map) * out + first), 1, sum,
                              RT_KIND_DOUBLE, n);
        }
    }
}

const struct rt_op rt_op_DeformConv = {
    .name = "DeformConv",
    .since = 19,
    .min_in = 3,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};
