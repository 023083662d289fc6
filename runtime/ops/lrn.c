/* LRN: each element divided by a power of the squares in the channels around its own. */
#include <math.h>
#include <tgmath.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

struct window {
    int64_t before, after; /* channels */
    double scale, beta, bias;
};

static struct window window_of(const struct rt_node *n)
{
    const int64_t size = rt_attr_int(n, "size", 0);
    return (struct window){ .before = (size - 1) / 2,
                            .after = size / 2,
                            .scale = (double)rt_attr_float(n, "alpha", 1e-4f) / (double)size,
                            .beta = (double)rt_attr_float(n, "beta", 0.75f),
                            .bias = (double)rt_attr_float(n, "bias", 1) };
}

/* sum becomes x / (bias + scale * sum) ^ beta. Three quarters, which nearly all networks have, are
 * two square roots. */
#define DIVIDE(name, type)                                                                         \
    static void divide_##name(void *sums, const void *from, int64_t n, const struct window *v)     \
    {                                                                                              \
        const type *x = from;                                                                      \
        type *sum = sums;                                                                          \
        const type scale = (type)v->scale, bias = (type)v->bias, beta = (type)v->beta;             \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const type base = bias + scale * sum[i], root = sqrt(base);                            \
            sum[i] = x[i] / (v->beta == 0.75 ? root * sqrt(root) : pow(base, beta));               \
        }                                                                                          \
    }                                                                                              \
    static void square_##name(void *sums, const void *from, int64_t n)                             \
    {                                                                                              \
        const type *x = from;                                                                      \
        type *sum = sums;                                                                          \
        for (int64_t i = 0; i < n; i++)                                                            \
            sum[i] += x[i] * x[i];                                                                 \
    }
DIVIDE(float, float)
DIVIDE(double, double)

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    enum rt_status s = rt_check_type(g, n, 0, RT_T_REAL, err);
    if (s != RT_OK)
        return s;
    const int64_t size = rt_attr_int(n, "size", 0);
    if (x->shape.rank < 2)
        return rt_node_fail(err, RT_E_INVALID, n, "the input has no channels");
    if (rt_is_batched(x->shape.dim[1]))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "normalises along the batch axis");
    if (size < 1)
        return rt_node_fail(err, RT_E_INVALID, n, "size is %lld", (long long)size);
    return rt_infer_same(g, n, err);
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    const struct window v = window_of(c->node);
    const enum rt_kind kind = rt_kind_of(x->dtype);
    const int64_t channels = x->shape.dim[1];
    const int64_t pixels = rt_shape_range(&x->shape, 2, x->shape.rank);
    const int64_t tiles = (pixels + RT_CHUNK - 1) / RT_CHUNK;
    union rt_chunk in, sum;
    int64_t i, end;
    rt_worker_share(w, x->shape.dim[0] * channels * tiles, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t channel = i / tiles % channels, pixel = i % tiles * RT_CHUNK;
        const int64_t n = pixels - pixel < RT_CHUNK ? pixels - pixel : RT_CHUNK;
        const int64_t at = i / tiles * pixels + pixel;
        const int64_t first = channel < v.before ? 0 : channel - v.before;
        const int64_t last = v.after < channels - channel ? channel + v.after : channels - 1;
        sum = (union rt_chunk){ { 0 } };
        for (int64_t k = first; k <= last; k++) {
            const void *from = rt_load(x, at + (k - channel) * pixels, n, kind, &in);
            (kind == RT_KIND_DOUBLE ? square_double : square_float)(&sum, from, n);
        }
        const void *from = rt_load(x, at, n, kind, &in);
        (kind == RT_KIND_DOUBLE ? divide_double : divide_float)(&sum, from, n, &v);
        rt_store_elements(y->dtype, rt_element_at(y, at), 1, &sum, kind, n);
    }
}

const struct rt_op rt_op_LRN = {
    .name = "LRN", .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .traits = RT_OP_FLUSHES, .infer = infer, .run = run
};
