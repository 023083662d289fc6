/* Quantised networks: which operators on bytes they become, and that these answer what the file's
 * own nodes answer one by one, to within a step, at every level and in any batch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "runtime/kernels/kernels.h"
#include "runtime/rt.h"
#include "tests/starving.h"

#define SAMPLES 3
#define SIDE 9

enum { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6 };

static uint32_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

static float draw_real(void)
{
    return (float)draw(1u << 20) / (float)(1 << 19) - 1;
}

/* A network being written. Values are named by numbers. */
struct net {
    struct bytes graph;
    int values;
    int64_t channels;
    float step; /* of the output */
};

struct name {
    char text[64];
};

static struct name fresh(struct net *n)
{
    struct name s;
    snprintf(s.text, sizeof s.text, "v%d", n->values++);
    return s;
}

static struct name constant(struct net *n, int type, size_t rank, const int64_t *dims,
                            const void *data, size_t len)
{
    struct name s = fresh(n);
    struct bytes t = tensor(s.text, type, rank, dims);
    put_data(&t, 9, data, len);
    put_message(&n->graph, 5, t);
    return s;
}

static struct name number(struct net *n, float f)
{
    return constant(n, FLOAT, 0, NULL, &f, sizeof f);
}

static struct name zero_point(struct net *n, int type, int zero)
{
    return constant(n, type, 0, NULL, &(uint8_t){ (uint8_t)zero }, 1);
}

/* Node op of inputs separated by commas; attributes are added by the caller. */
static struct name put_node(struct net *n, struct bytes node)
{
    struct name y = fresh(n);
    put_text(&node, 2, y.text);
    put_message(&n->graph, 1, node);
    return y;
}

static struct bytes op(const char *type, const char *fmt, ...)
{
    char in[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(in, sizeof in, fmt, ap);
    va_end(ap);
    return node(type, "", in, "");
}

static struct name quantize(struct net *n, struct name x, float scale, int type, int zero)
{
    n->step = scale;
    return put_node(n, op("QuantizeLinear", "%s,%s,%s", x.text, number(n, scale).text,
                          zero_point(n, type, zero).text));
}

static struct name dequantize(struct net *n, struct name x, float scale, int type, int zero)
{
    return put_node(n, op("DequantizeLinear", "%s,%s,%s", x.text, number(n, scale).text,
                          zero_point(n, type, zero).text));
}

/* To bytes and back, as QDQ files have it between operators. */
static struct name through(struct net *n, struct name x, float scale, int type, int zero)
{
    return dequantize(n, quantize(n, x, scale, type, zero), scale, type, zero);
}

/* --- convolutions ----------------------------------------------------------------------------- */

struct conv {
    int64_t maps, groups, kernel, stride, pad, dilation;
    bool by_map;    /* signed weights with a scale for each map, else one and a zero point */
    bool real_bias; /* of floats, else integers at the scale of the sums */
};

static struct bytes conv_attributes(struct bytes node, const struct conv *c)
{
    node = with_attr(node, attr_int("group", c->groups));
    node = with_ints(node, "strides", 2, (const int64_t[]){ c->stride, c->stride });
    node = with_ints(node, "dilations", 2, (const int64_t[]){ c->dilation, c->dilation });
    return with_ints(node, "pads", 4, (const int64_t[]){ c->pad, c->pad, 0, c->pad });
}

struct weights {
    struct name w, scale, zero, bias, bias_scale;
    float all; /* the scale where there is one */
};

static struct weights draw_weights(struct net *n, const struct conv *c, float x_scale)
{
    const int64_t dims[4] = { c->maps, n->channels / c->groups, c->kernel, c->kernel };
    const size_t each = (size_t)(dims[1] * dims[2] * dims[3]), all = (size_t)c->maps * each;
    uint8_t *w = malloc(all), *zero = malloc((size_t)c->maps);
    float *scale = malloc((size_t)c->maps * sizeof *scale);
    int32_t *bias = malloc((size_t)c->maps * sizeof *bias);
    float *real = malloc((size_t)c->maps * sizeof *real),
          *bias_scale = malloc((size_t)c->maps * sizeof *real);
    assert_true(w != NULL && zero != NULL && scale != NULL && bias != NULL && real != NULL &&
                bias_scale != NULL);
    for (size_t i = 0; i < all; i++)
        w[i] = (uint8_t)draw(256);
    for (int64_t m = 0; m < c->maps; m++) {
        scale[m] = (0.02f + 0.01f * draw_real()) / sqrtf((float)each);
        zero[m] = 0;
        bias[m] = (int32_t)draw(4001) - 2000;
        real[m] = draw_real();
        bias_scale[m] = x_scale * (c->by_map ? scale[m] : scale[0]);
    }
    struct weights made = { .all = scale[0] };
    const int64_t maps = c->maps;
    const size_t floats = (size_t)maps * sizeof(float);
    made.w = constant(n, c->by_map ? INT8 : UINT8, 4, dims, w, all);
    made.scale = c->by_map ? constant(n, FLOAT, 1, &maps, scale, floats) : number(n, scale[0]);
    made.zero =
        c->by_map ? constant(n, INT8, 1, &maps, zero, (size_t)maps) : zero_point(n, UINT8, 190);
    made.bias = c->real_bias ? constant(n, FLOAT, 1, &maps, real, floats)
                             : constant(n, INT32, 1, &maps, bias, floats);
    made.bias_scale = constant(n, FLOAT, 1, &maps, bias_scale, floats);
    free(w);
    free(zero);
    free(scale);
    free(bias);
    free(real);
    free(bias_scale);
    return made;
}

/* Conv of reals between its DequantizeLinears. */
static struct name conv(struct net *n, struct name x, float x_scale, const struct conv *c)
{
    struct weights w = draw_weights(n, c, x_scale);
    struct bytes dq = op("DequantizeLinear", "%s,%s,%s", w.w.text, w.scale.text, w.zero.text);
    struct name real = put_node(n, with_attr(dq, attr_int("axis", 0)));
    struct name bias = w.bias;
    if (!c->real_bias)
        bias =
            put_node(n, with_attr(op("DequantizeLinear", "%s,%s", w.bias.text, w.bias_scale.text),
                                  attr_int("axis", 0)));
    n->channels = c->maps;
    return put_node(n, conv_attributes(op("Conv", "%s,%s,%s", x.text, real.text, bias.text), c));
}

/* --- comparing -------------------------------------------------------------------------------- */

struct answer {
    float *y;
    size_t n;
    char ops[512];
};

static struct net start(void)
{
    return (struct net){ .channels = 3 };
}

static struct name input(struct net *n, int64_t channels)
{
    n->channels = channels;
    put_message(&n->graph, 11, value("x", FLOAT, 4, (const int64_t[]){ -1, channels, SIDE, SIDE }));
    return (struct name){ "x" };
}

static struct answer run(const struct bytes *file, bool node_by_node, int samples, const float *x,
                         int64_t channels)
{
    const struct rt_options options = { .max_batch = SAMPLES, .any_shape = node_by_node };
    struct rt_error err = { .text = "" };
    struct rt_model *m;
    struct rt_session *s = NULL;
    struct answer a = { 0 };
    if (rt_model_load(file->p, file->len, &options, &m, &err) != RT_OK ||
        rt_session_create(m, 2, &s, &err) != RT_OK)
        fail_msg("%s", err.text);
    struct rt_tensor in = { RT_FLOAT,
                            { 4, { samples, channels, SIDE, SIDE } },
                            (void *)(uintptr_t)x };
    struct rt_tensor out;
    if (rt_session_run(s, &in, &out, &err) != RT_OK)
        fail_msg("%s", err.text);
    a.n = (size_t)rt_shape_numel(&out.shape);
    a.y = malloc(a.n * sizeof *a.y);
    assert_true(a.y != NULL && out.dtype == RT_FLOAT);
    memcpy(a.y, out.data, a.n * sizeof *a.y);
    for (int i = 0; !node_by_node && i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        const size_t at = strlen(a.ops);
        snprintf(a.ops + at, sizeof a.ops - at, "%s%s%s%s%s", at > 0 ? " " : "", l->op,
                 l->fused[0] != '\0' ? "{" : "", l->fused, l->fused[0] != '\0' ? "}" : "");
    }
    rt_session_destroy(s);
    rt_model_release(m);
    return a;
}

/* Whether the network with output y becomes ops, and differs from its own nodes by steps at most,
 * in few elements. Ends the network. */
static void expect(struct net *n, struct name y, int64_t channels, const char *ops)
{
    put_message(&n->graph, 12, named(y.text));
    struct bytes file = model(n->graph);
    const size_t each = (size_t)(channels * SIDE * SIDE);
    float *x = malloc(SAMPLES * each * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < SAMPLES * each; i++)
        x[i] = 1.3f * draw_real();
    rt_kernels_use(rt_kernels_at(0));
    struct answer want = run(&file, true, SAMPLES, x, channels);
    for (int level = 0; rt_kernels_at(level) != NULL; level++) {
        rt_kernels_use(rt_kernels_at(level));
        struct answer all = run(&file, false, SAMPLES, x, channels);
        assert_string_equal(all.ops, ops);
        assert_int_equal(all.n, want.n);
        size_t other = 0;
        for (size_t i = 0; i < all.n; i++) {
            const float steps = fabsf(all.y[i] - want.y[i]) / n->step;
            other += steps > 0.01f;
            if (!(steps < 1.01f))
                fail_msg("%s: element %zu is %g, want %g, a step is %g", rt_kernels()->name, i,
                         (double)all.y[i], (double)want.y[i], (double)n->step);
        }
        if (other * 100 > all.n)
            fail_msg("%s: %zu of %zu elements are others", rt_kernels()->name, other, all.n);
        for (int i = 0; i < SAMPLES; i++) {
            struct answer one = run(&file, false, 1, x + (size_t)i * each, channels);
            assert_memory_equal(one.y, all.y + (size_t)i * one.n, one.n * sizeof *one.y);
            free(one.y);
        }
        free(all.y);
    }
    rt_kernels_use(NULL);
    free(want.y);
    free(x);
    free(file.p);
}

/* --- the networks ----------------------------------------------------------------------------- */

/* x quantised, a convolution, quantised. */
static void one_conv(int64_t channels, const struct conv *c, int type, int x_zero,
                     const char *after)
{
    struct net n = start();
    struct name x = through(&n, input(&n, channels), 0.01f, type, x_zero);
    struct name y = conv(&n, x, 0.01f, c);
    if (after[0] != '\0')
        y = put_node(&n, op(after, "%s", y.text));
    y = through(&n, y, 0.02f, type, type == INT8 ? -7 : 120);
    char ops[128];
    snprintf(ops, sizeof ops, "QuantizeLinear QLinearConv%s%s%s DequantizeLinear",
             after[0] != '\0' ? "{" : "", after, after[0] != '\0' ? "}" : "");
    expect(&n, y, channels, ops);
}

static void convolutions(void **state)
{
    (void)state;
    static const struct {
        int64_t channels;
        struct conv c;
    } list[] = {
        { 3, { 8, 1, 3, 2, 1, 1, true, false } },
        { 3, { 40, 1, 7, 2, 3, 1, false, false } },
        { 16, { 16, 1, 1, 1, 0, 1, true, false } },
        { 20, { 72, 1, 1, 1, 0, 1, false, true } },
        { 70, { 33, 1, 3, 1, 1, 1, true, true } },
        { 33, { 24, 1, 3, 1, 2, 2, false, false } },
        { 64, { 64, 1, 1, 2, 0, 1, false, false } },
        { 24, { 24, 24, 3, 1, 1, 1, true, false } },
        { 40, { 40, 40, 3, 2, 1, 1, false, false } },
        { 80, { 80, 80, 5, 1, 2, 1, true, true } },
        { 300, { 300, 300, 3, 1, 1, 1, false, false } },
        { 16, { 16, 16, 3, 1, 2, 2, false, false } },
        { 64, { 32, 2, 3, 1, 1, 1, true, false } },
        { 96, { 144, 3, 1, 1, 0, 1, false, false } },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        one_conv(list[i].channels, &list[i].c, UINT8, 131, "");
        one_conv(list[i].channels, &list[i].c, INT8, -128, "Relu");
    }
}

/* The file's own integer convolution has the same bytes, not a step apart. */
static void qlinear_conv(void **state)
{
    (void)state;
    static const struct conv list[] = {
        { 40, 1, 3, 1, 1, 1, false, false },
        { 40, 40, 3, 2, 1, 1, false, false },
        { 17, 1, 1, 1, 0, 1, true, false },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct net n = start();
        struct name x = quantize(&n, input(&n, 40), 0.01f, UINT8, 131);
        struct weights w = draw_weights(&n, &list[i], 0.01f);
        struct name y_scale = number(&n, 0.02f), y_zero = zero_point(&n, UINT8, 120);
        struct bytes q = op("QLinearConv", "%s,%s,%s,%s,%s,%s,%s,%s,%s", x.text,
                            number(&n, 0.01f).text, zero_point(&n, UINT8, 131).text, w.w.text,
                            w.scale.text, w.zero.text, y_scale.text, y_zero.text, w.bias.text);
        struct name y = put_node(&n, conv_attributes(q, &list[i]));
        y = dequantize(&n, y, 0.02f, UINT8, 120);
        n.step = 0.002f; /* a tenth: no element may be another */
        expect(&n, y, 40, "QuantizeLinear QLinearConv DequantizeLinear");
    }
}

static const struct conv same_3x3 = { 16, 1, 3, 1, 1, 1, true, false };
static const struct conv padless_1x1 = { 16, 1, 1, 1, 0, 1, true, false };
static const struct conv even_depthwise = { 16, 16, 1, 1, 0, 1, true, false };

/* Sums with what went round a convolution: quantised before, or not. */
static void residuals(void **state)
{
    (void)state;
    const struct conv *const list[] = { &padless_1x1, &even_depthwise };
    for (int quantised = 0; quantised < 2; quantised++) {
        for (int kind = 0; kind < 2; kind++) {
            struct net n = start();
            struct name x = through(&n, input(&n, 16), 0.01f, UINT8, 131);
            struct name y = conv(&n, x, 0.01f, list[kind]);
            if (quantised)
                y = through(&n, y, 0.013f, UINT8, 119);
            y = put_node(&n, quantised ? op("Add", "%s,%s", x.text, y.text)
                                       : op("Add", "%s,%s", y.text, x.text));
            y = put_node(&n, op("Relu", "%s", y.text));
            y = through(&n, y, 0.015f, UINT8, 3);
            expect(&n, y, 16, "QuantizeLinear QLinearConv{Add, Relu} DequantizeLinear");
        }
    }
}

/* A convolution that others read, too, is no part of the sum. */
static void sum_of_two(void **state)
{
    (void)state;
    struct net n = start();
    struct name x = through(&n, input(&n, 16), 0.01f, UINT8, 131);
    struct name y = quantize(&n, conv(&n, x, 0.01f, &padless_1x1), 0.013f, UINT8, 119);
    struct name a = dequantize(&n, y, 0.013f, UINT8, 119);
    struct name b = dequantize(&n, y, 0.013f, UINT8, 119);
    struct name z = through(&n, put_node(&n, op("Add", "%s,%s", a.text, x.text)), 0.0213f, INT8, 5);
    z = through(&n, put_node(&n, op("Add", "%s,%s", z.text, b.text)), 0.0317f, UINT8, 128);
    expect(&n, z, 16, "QuantizeLinear QLinearConv Add Add DequantizeLinear");
}

static void pools(void **state)
{
    (void)state;
    static const struct {
        const char *op, *ops;
        bool window;
        int64_t pads;
    } list[] = {
        { "MaxPool", "QuantizeLinear MaxPool DequantizeLinear", true, 0 },
        { "AveragePool", "QuantizeLinear AveragePool DequantizeLinear", true, 0 },
        { "AveragePool", "QuantizeLinear AveragePool DequantizeLinear", true, 1 },
        { "GlobalAveragePool", "QuantizeLinear GlobalAveragePool DequantizeLinear", false, 0 },
        { "Relu", "QuantizeLinear Rescale{Relu} DequantizeLinear", false, 0 },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct net n = start();
        struct name x = through(&n, input(&n, 21), 0.01f, INT8, 12);
        struct bytes node = op(list[i].op, "%s", x.text);
        if (list[i].window) {
            node = with_ints(node, "kernel_shape", 2, (const int64_t[]){ 3, 2 });
            node = with_ints(node, "strides", 2, (const int64_t[]){ 2, 1 });
            node = with_ints(node, "pads", 4, (const int64_t[]){ 1, 0, 1, 1 });
        }
        if (list[i].pads != 0)
            node = with_attr(node, attr_int("count_include_pad", 1));
        struct name y = through(&n, put_node(&n, node), 0.007f, UINT8, 99);
        expect(&n, y, 21, list[i].ops);
    }
}

/* Pools and a fully connected layer, spelt in three ways. */
static void products(void **state)
{
    (void)state;
    enum { K = 21, M = 37 };
    for (int kind = 0; kind < 3; kind++) {
        struct net n = start();
        int8_t w[K * M];
        float bias[M];
        for (int i = 0; i < K * M; i++)
            w[i] = (int8_t)((int)draw(255) - 127);
        for (int i = 0; i < M; i++)
            bias[i] = draw_real();
        struct name x = through(&n, input(&n, K), 0.01f, UINT8, 131);
        x = through(&n, put_node(&n, op("GlobalAveragePool", "%s", x.text)), 0.002f, UINT8, 128);
        x = put_node(&n, op("Flatten", "%s", x.text));
        const int64_t dims[2] = { kind == 0 ? M : K, kind == 0 ? K : M }, maps = M;
        struct name weights = constant(&n, INT8, 2, dims, w, sizeof w);
        struct name b = constant(&n, FLOAT, 1, &maps, bias, sizeof bias);
        weights = dequantize(&n, weights, 0.03f, INT8, 0);
        struct name y;
        if (kind == 2) {
            y = put_node(&n, op("MatMul", "%s,%s", x.text, weights.text));
            y = put_node(&n, op("Add", "%s,%s", y.text, b.text));
        } else {
            struct bytes gemm = op("Gemm", "%s,%s,%s", x.text, weights.text, b.text);
            y = put_node(&n, with_attr(gemm, attr_int("transB", kind == 0)));
        }
        y = through(&n, y, 0.02f, UINT8, 100);
        expect(&n, y, K, "QuantizeLinear GlobalAveragePool Flatten QLinearMatMul DequantizeLinear");
    }
}

/* What bytes cannot do stays real, and so does what is seen before it is quantised. */
static void what_stays_real(void **state)
{
    (void)state;
    struct net n = start();
    struct name x = through(&n, input(&n, 16), 0.01f, UINT8, 131);
    struct name y = through(&n, conv(&n, x, 0.01f, &same_3x3), 0.02f, UINT8, 120);
    y = put_node(&n, op("Sin", "%s", y.text));
    y = through(&n, y, 0.01f, UINT8, 128);
    expect(&n, y, 16,
           "QuantizeLinear QLinearConv DequantizeLinear Sin QuantizeLinear "
           "DequantizeLinear");
    n = start();
    x = through(&n, input(&n, 16), 0.01f, UINT8, 131);
    struct name real = conv(&n, x, 0.01f, &same_3x3);
    y = through(&n, real, 0.02f, UINT8, 120);
    y = put_node(&n, op("Add", "%s,%s", y.text, real.text));
    n.step = 0.04f;
    expect(&n, y, 16,
           "QuantizeLinear DequantizeLinear ToBlocked Conv ToPlain QuantizeLinear "
           "DequantizeLinear ToBlocked Add ToPlain");
}

/* Of each kind of operator on bytes one, whose memory runs out at every place. */
static void no_memory(void **state)
{
    (void)state;
    static const struct conv depthwise = { 16, 16, 3, 1, 1, 1, true, false };
    struct net n = start();
    struct name x = through(&n, input(&n, 16), 0.01f, UINT8, 131);
    struct name y = through(&n, conv(&n, x, 0.01f, &same_3x3), 0.02f, UINT8, 120);
    y = through(&n, conv(&n, y, 0.02f, &depthwise), 0.02f, UINT8, 120);
    struct bytes pool =
        with_ints(op("MaxPool", "%s", y.text), "kernel_shape", 2, (const int64_t[]){ 3, 3 });
    pool = with_ints(pool, "pads", 4, (const int64_t[]){ 1, 1, 1, 1 });
    struct name pooled = through(&n, put_node(&n, pool), 0.02f, UINT8, 120);
    y = through(&n, put_node(&n, op("Add", "%s,%s", pooled.text, y.text)), 0.03f, UINT8, 9);
    y = through(&n, put_node(&n, op("GlobalAveragePool", "%s", y.text)), 0.02f, UINT8, 9);
    y = put_node(&n, op("Flatten", "%s", y.text));
    int8_t w[16 * 5];
    for (size_t i = 0; i < sizeof w; i++)
        w[i] = (int8_t)((int)draw(255) - 127);
    struct name weights = constant(&n, INT8, 2, (const int64_t[]){ 16, 5 }, w, sizeof w);
    weights = dequantize(&n, weights, 0.03f, INT8, 0);
    y = put_node(&n, op("MatMul", "%s,%s", y.text, weights.text));
    y = through(&n, y, 0.02f, UINT8, 100);
    put_message(&n.graph, 12, named(y.text));
    struct bytes file = model(n.graph);
    float *feed = calloc(16 * SIDE * SIDE, sizeof *feed);
    assert_non_null(feed);
    const struct rt_tensor in = { RT_FLOAT, { 4, { 1, 16, SIDE, SIDE } }, feed };
    starve(&(struct starving){ .what = "bytes", .file = &file, .in = &in });
    free(feed);
    free(file.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),    cmocka_unit_test(qlinear_conv),
        cmocka_unit_test(residuals),       cmocka_unit_test(sum_of_two),
        cmocka_unit_test(pools),           cmocka_unit_test(products),
        cmocka_unit_test(what_stays_real), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
