/* BatchNormalization (opsets 1, 6, 7, 9, 14, 15): y = (x - mean) / sqrt(var + epsilon) * scale + B
 * along axis 1 (Ioffe and Szegedy, 2015). With running statistics it is a multiply-add per channel,
 * and compiling makes it one; run() here is for the types and the cases that stay as they are, and
 * for those who want to measure what it costs. */
#include "runtime/ops/batchnorm.h"

#include <math.h>
#include <string.h>

enum { X, SCALE, BIAS, MEAN, VAR };

/* Version 14 says so, versions before 7 could; else asking for the batch's statistics as outputs
 * means it. */
bool rt_batchnorm_is_training(const struct rt_node *n)
{
    if (n->opset >= 14)
        return rt_attr_int(n, "training_mode", 0) != 0;
    if (n->opset < 7 && rt_attr(n, "is_test") != NULL)
        return rt_attr_int(n, "is_test", 0) == 0;
    return rt_has_out(n, 1) || rt_has_out(n, 2);
}

/* Up to version 8 the statistics could be one number for each element of a sample. */
bool rt_batchnorm_is_spatial(const struct rt_node *n)
{
    return n->opset >= 9 || rt_attr_int(n, "spatial", 1) != 0;
}

/* Outputs that only training has may be named all the same, if nobody reads them. */
static enum rt_status drop_statistics(const struct rt_graph *g, struct rt_node *n,
                                      struct rt_error *err)
{
    for (int k = 1; k < n->n_out; k++) {
        if (rt_has_out(n, k) && g->value[n->out[k]].uses > 0)
            return rt_node_fail(err, RT_E_INVALID, n,
                                "output %d is a statistic of the batch, which is only there in "
                                "training mode",
                                k);
        n->out[k] = -1;
    }
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, X);
    enum rt_status s = RT_OK;
    for (int k = X; s == RT_OK && k <= VAR; k++)
        s = rt_check_type(g, n, k, RT_T_REAL, err);
    if (s != RT_OK)
        return s;
    if (x->shape.rank < 1)
        return rt_node_fail(err, RT_E_INVALID, n, "input X has no dimensions");
    if (!(rt_attr_float(n, "epsilon", 1e-5f) >= 0))
        return rt_node_fail(err, RT_E_INVALID, n, "epsilon must not be negative");
    int64_t channels = x->shape.rank > 1 ? x->shape.dim[1] : 1;
    struct rt_shape per_channel = rt_shape_of(1, &channels);
    struct rt_shape expected = per_channel;
    if (!rt_batchnorm_is_spatial(n))
        expected = rt_shape_of(x->shape.rank - 1, x->shape.dim + 1);
    if (rt_shape_batch_axis(&expected) >= 0)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "its channels follow the batch");
    for (int k = SCALE; k <= VAR; k++) {
        static const char *const name[] = { "X", "scale", "B", "mean", "var" };
        const struct rt_value *v = rt_in(g, n, k);
        if (rt_shape_numel(&v->shape) != rt_shape_numel(&expected))
            return rt_node_fail(err, RT_E_INVALID, n, "%s has %lld elements for %lld channels",
                                name[k], (long long)rt_shape_numel(&v->shape),
                                (long long)rt_shape_numel(&expected));
    }
    s = rt_set_out(g, n, 0, x->dtype, &x->shape, err);
    if (s == RT_OK && !rt_batchnorm_is_training(n))
        return drop_statistics(g, n, err);
    if (rt_shape_batch_axis(&x->shape) >= 0)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n,
                            "training_mode = 1: a sample's answer depends on its batch");
    for (int k = 1; s == RT_OK && k < n->n_out; k++)
        s = rt_set_out(g, n, k, rt_in(g, n, MEAN)->dtype, &per_channel, err);
    return s;
}

static double at(const struct rt_tensor *t, int64_t i)
{
    switch ((int)t->dtype) {
    case RT_DOUBLE:
        return ((const double *)t->data)[i];
    case RT_FLOAT:
        return ((const float *)t->data)[i];
    case RT_FLOAT16:
        return rt_half_to_float(((const uint16_t *)t->data)[i]);
    default:
        return rt_bfloat16_to_float(((const uint16_t *)t->data)[i]);
    }
}

static void put(const struct rt_tensor *t, int64_t i, double v)
{
    switch ((int)t->dtype) {
    case RT_DOUBLE:
        ((double *)t->data)[i] = v;
        break;
    case RT_FLOAT:
        ((float *)t->data)[i] = (float)v;
        break;
    case RT_FLOAT16:
        ((uint16_t *)t->data)[i] = rt_double_to_half(v);
        break;
    default:
        ((uint16_t *)t->data)[i] = rt_float_to_bfloat16((float)v);
    }
}

static double affine_scale(const struct rt_tensor *in, int64_t c, float epsilon)
{
    return at(&in[SCALE], c) / sqrt(at(&in[VAR], c) + (double)epsilon);
}

static double affine_shift(const struct rt_tensor *in, int64_t c, double scale)
{
    return at(&in[BIAS], c) - at(&in[MEAN], c) * scale;
}

static bool as_affine(const struct rt_graph *g, const struct rt_node *n, int64_t channels,
                      float *scale, float *shift, int *data)
{
    struct rt_tensor in[VAR + 1];
    if (rt_batchnorm_is_training(n) || !rt_batchnorm_is_spatial(n))
        return false;
    for (int k = SCALE; k <= VAR; k++) {
        in[k] = rt_graph_tensor(g, n->in[k]);
        if (!rt_in_const(g, n, k)->constant || rt_shape_numel(&in[k].shape) != channels)
            return false;
    }
    float epsilon = rt_attr_float(n, "epsilon", 1e-5f);
    for (int64_t c = 0; c < channels; c++) {
        double a = affine_scale(in, c, epsilon);
        scale[c] = (float)a;
        shift[c] = (float)affine_shift(in, c, a);
    }
    *data = X;
    return true;
}

/* The statistics of the batch: mean and population variance per channel, and the running ones
 * moved by momentum. Versions before 14 call the same outputs mean, var, saved_mean, saved_var. */
static void run_training(const struct rt_call *c, int64_t ch, int64_t samples, int64_t channels,
                         int64_t inner)
{
    const struct rt_tensor *in = c->in;
    float epsilon = rt_attr_float(c->node, "epsilon", 1e-5f);
    double momentum = (double)rt_attr_float(c->node, "momentum", 0.9f);
    double sum = 0, squares = 0, count = (double)(samples * inner);
    for (int64_t s = 0; s < samples; s++)
        for (int64_t i = 0; i < inner; i++)
            sum += at(&in[X], (s * channels + ch) * inner + i);
    double mean = sum / count;
    for (int64_t s = 0; s < samples; s++)
        for (int64_t i = 0; i < inner; i++) {
            double d = at(&in[X], (s * channels + ch) * inner + i) - mean;
            squares += d * d;
        }
    double var = squares / count;
    double scale = at(&in[SCALE], ch) / sqrt(var + (double)epsilon);
    for (int64_t s = 0; s < samples; s++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t e = (s * channels + ch) * inner + i;
            put(&c->out[0], e, (at(&in[X], e) - mean) * scale + at(&in[BIAS], ch));
        }
    double statistics[5] = {
        0,
        at(&in[MEAN], ch) * momentum + mean * (1 - momentum),
        at(&in[VAR], ch) * momentum + var * (1 - momentum),
        mean,
        var,
    };
    for (int k = 1; k < c->node->n_out && k < 5; k++)
        if (c->out[k].data != NULL)
            put(&c->out[k], ch, statistics[k]);
}

static void run_channel(const struct rt_call *c, int64_t ch, int64_t samples, int64_t channels,
                        int64_t inner)
{
    double scale = affine_scale(c->in, ch, rt_attr_float(c->node, "epsilon", 1e-5f));
    double shift = affine_shift(c->in, ch, scale);
    for (int64_t s = 0; s < samples; s++) {
        int64_t e = (s * channels + ch) * inner;
        if (c->in[X].dtype == RT_FLOAT)
            rt_kernels()->affine((float *)c->out[0].data + e, (const float *)c->in[X].data + e,
                                 (size_t)inner, (float)scale, (float)shift);
        else
            for (int64_t i = 0; i < inner; i++)
                put(&c->out[0], e + i, at(&c->in[X], e + i) * scale + shift);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *x = &c->in[X].shape;
    int64_t samples = x->dim[0], channels = x->rank > 1 ? x->dim[1] : 1;
    int64_t inner = rt_shape_range(x, 2, x->rank);
    if (!rt_batchnorm_is_spatial(c->node)) { /* each element of a sample is a channel of one pixel */
        channels *= inner;
        inner = 1;
    }
    int64_t begin, end;
    rt_worker_share(w, channels, 1, &begin, &end);
    for (int64_t ch = begin; ch < end; ch++)
        if (rt_batchnorm_is_training(c->node))
            run_training(c, ch, samples, channels, inner);
        else
            run_channel(c, ch, samples, channels, inner);
}

const struct rt_op rt_op_BatchNormalization = {
    .name = "BatchNormalization",
    .min_in = 5,
    .max_in = 5,
    .min_out = 1,
    .max_out = 5,
    .traits = RT_OP_FLUSHES,
    .infer = infer,
    .run = run,
    .as_affine = as_affine,
};
