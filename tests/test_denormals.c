/* Denormals: sums of products take them for zeros and make none, on every level and team, whatever
 * the caller's own floating-point mode, which they leave as it was; all else keeps their bits. */
#include "tests/onnx_bytes.h"

#include "runtime/float_mode.h"
#include "runtime/kernels/kernels.h"
#include "runtime/rt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdio.h>

enum { CHANNELS = 16, SIDE = 12, SAMPLE = CHANNELS * SIDE * SIDE, BATCH = 3 };

static const int teams[] = { 1, 2, 5 };

static const int64_t image[] = { -1, CHANNELS, SIDE, SIDE };

/* A float constant whose elements are all v, or v and -v in turns. */
static struct bytes constant(const char *name, size_t rank, const int64_t *dims, float v,
                             bool turns)
{
    int64_t n = 1;
    for (size_t i = 0; i < rank; i++)
        n *= dims[i];
    float *data = malloc((size_t)n * sizeof *data);
    for (int64_t i = 0; i < n; i++)
        data[i] = turns && i % 3 == 1 ? -v : v;
    struct bytes t = tensor(name, 1, rank, dims);
    put_data(&t, 9, data, (size_t)n * sizeof *data);
    free(data);
    return t;
}

static struct bytes attr_ints(const char *name, size_t n, const int64_t *v)
{
    struct bytes b = { 0 };
    put_text(&b, 1, name);
    for (size_t i = 0; i < n; i++)
        put_int(&b, 8, v[i]);
    put_int(&b, 20, 7);
    return b;
}

static struct rt_model *load(struct bytes graph)
{
    struct bytes m = model(graph);
    struct rt_model *loaded;
    struct rt_error err = { .text = "" };
    const struct rt_options options = { .max_batch = BATCH, .threads = 5 };
    if (rt_model_load(m.p, m.len, &options, &loaded, &err) != RT_OK)
        fail_msg("%s", err.text);
    free(m.p);
    return loaded;
}

/* Runs samples [0, n) of x; returns the bytes of output i in memory of malloc(). */
static void *run(struct rt_model *m, const float *x, int64_t n, int threads, int i, size_t *bytes)
{
    struct rt_session *s;
    struct rt_error err = { .text = "" };
    struct rt_tensor in = { RT_FLOAT, { 4, { n, CHANNELS, SIDE, SIDE } }, (void *)(uintptr_t)x };
    struct rt_tensor out[2];
    if (rt_session_create(m, threads, &s, &err) != RT_OK ||
        rt_session_run(s, &in, out, &err) != RT_OK)
        fail_msg("%s", err.text);
    assert_true(rt_shape_bytes(&out[i].shape, out[i].dtype, bytes));
    void *copy = memcpy(malloc(*bytes), out[i].data, *bytes);
    rt_session_destroy(s);
    return copy;
}

/* What each of BATCH * SAMPLE elements is. */
static float *filled(float v)
{
    float *x = malloc(BATCH * SAMPLE * sizeof *x);
    for (int i = 0; i < BATCH * SAMPLE; i++)
        x[i] = i % 2 == 0 ? v : -v;
    return x;
}

/* A graph x -> op -> y; a weight of dims joins if there is a rank, of elements v. */
static struct bytes graph_of(struct bytes n, size_t rank, const int64_t *dims, float v, int type)
{
    struct bytes g = { 0 };
    put_message(&g, 11, value("x", 1, 4, image));
    if (rank > 0)
        put_message(&g, 5, constant("w", rank, dims, v, true));
    put_message(&g, 1, n);
    put_message(&g, 12, value("y", type, 4, (const int64_t[]){ -1, -1, -1, -1 }));
    return g;
}

static struct bytes padded(struct bytes n)
{
    return with_attr(n, attr_ints("pads", 4, (const int64_t[]){ 1, 1, 1, 1 }));
}

static void expect_zeros(const char *what, struct bytes graph, float v)
{
    struct rt_model *m = load(graph);
    float *x = filled(v);
    for (size_t t = 0; t < sizeof teams / sizeof teams[0]; t++) {
        size_t bytes;
        float *y = run(m, x, BATCH, teams[t], 0, &bytes);
        for (size_t i = 0; i < bytes / sizeof *y; i++)
            if (y[i] != 0.0f)
                fail_msg("%s, %s, %d threads: output %zu of inputs %g is %g", rt_kernels()->name,
                         what, teams[t], i, (double)v, (double)y[i]);
        free(y);
    }
    free(x);
    rt_model_release(m);
}

/* Denormal inputs with large weights, then normal inputs whose products are denormal. */
static void sums_give_zeros(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int64_t w[4], group, stride;
    } convs[] = {
        { "Conv 3x3", { 16, 16, 3, 3 }, 1, 1 },        { "Conv 1x1", { 24, 16, 1, 1 }, 1, 1 },
        { "depthwise", { 16, 1, 3, 3 }, 16, 1 },       { "grouped", { 16, 4, 3, 3 }, 4, 1 },
        { "Conv of stride 2", { 8, 16, 3, 3 }, 1, 2 }, { "Conv 5x3", { 20, 16, 5, 3 }, 1, 1 },
    };
    for (size_t i = 0; i < sizeof convs / sizeof convs[0]; i++)
        for (int k = 0; k < 2; k++) {
            struct bytes n = padded(node("Conv", "n", "x,w", "y"));
            n = with_attr(n, attr_int("group", convs[i].group));
            n = with_attr(
                n, attr_ints("strides", 2, (const int64_t[]){ convs[i].stride, convs[i].stride }));
            expect_zeros(convs[i].what, graph_of(n, 4, convs[i].w, k == 0 ? 1e10f : 1e-20f, 1),
                         k == 0 ? 1e-40f : 1e-21f);
        }
    for (int k = 0; k < 2; k++) {
        const float v = k == 0 ? 1e-40f : 1e-21f, w = k == 0 ? 1e10f : 1e-20f;
        expect_zeros("ConvTranspose",
                     graph_of(node("ConvTranspose", "n", "x,w", "y"), 4,
                              (const int64_t[]){ 16, 8, 2, 2 }, w, 1),
                     v);
        expect_zeros(
            "MatMul",
            graph_of(node("MatMul", "n", "x,w", "y"), 2, (const int64_t[]){ SIDE, 20 }, w, 1), v);
    }
    expect_zeros("GlobalAveragePool",
                 graph_of(node("GlobalAveragePool", "n", "x", "y"), 0, NULL, 0, 1), 1e-40f);
    expect_zeros("AveragePool",
                 graph_of(with_attr(node("AveragePool", "n", "x", "y"),
                                    attr_ints("kernel_shape", 2, (const int64_t[]){ 2, 2 })),
                          0, NULL, 0, 1),
                 1e-40f);
}

/* Of a run that the caller makes in this mode. */
static void expect_bits(const char *what, struct bytes graph, uint64_t mode, float v, float want,
                        bool is_double)
{
    struct rt_model *m = load(graph);
    float *x = filled(v);
    size_t bytes;
    const uint64_t before = rt_float_mode();
    rt_float_mode_set(mode);
    void *y = run(m, x, BATCH, 2, 0, &bytes);
    rt_float_mode_set(before);
    const size_t n = bytes / (is_double ? sizeof(double) : sizeof(float));
    for (size_t i = 0; i < n; i++) {
        const double got = is_double ? ((double *)y)[i] : (double)((float *)y)[i];
        if (fabs(got) != (double)want)
            fail_msg("%s, %s: output %zu of inputs %g is %g, not %g", rt_kernels()->name, what, i,
                     (double)v, got, (double)want);
    }
    free(y);
    free(x);
    rt_model_release(m);
}

static void others_keep_them(void **state)
{
    (void)state;
    static const uint64_t modes[] = { RT_FLOATS_EXACT, RT_FLOATS_FLUSH };
    const float v = 1e-40f, twice = v + v;
    for (int k = 0; k < 2; k++) {
        struct bytes cast = with_attr(node("Cast", "n", "x", "y"), attr_int("to", 11));
        struct bytes turn = with_attr(node("Transpose", "n", "x", "y"),
                                      attr_ints("perm", 4, (const int64_t[]){ 0, 2, 3, 1 }));
        struct bytes join = with_attr(node("Concat", "n", "x,x", "y"), attr_int("axis", 1));
        struct bytes neg = node("Neg", "n", "x", "y"), add = node("Add", "n", "x,x", "y");
        struct bytes mul = node("Mul", "n", "x,w", "y");
        const int64_t one = 1;
        expect_bits("Cast", graph_of(cast, 0, NULL, 0, 11), modes[k], v, v, true);
        expect_bits("Transpose", graph_of(turn, 0, NULL, 0, 1), modes[k], v, v, false);
        expect_bits("Concat", graph_of(join, 0, NULL, 0, 1), modes[k], v, v, false);
        expect_bits("Neg", graph_of(neg, 0, NULL, 0, 1), modes[k], v, v, false);
        expect_bits("Add", graph_of(add, 0, NULL, 0, 1), modes[k], v, twice, false);
        expect_bits("Mul", graph_of(mul, 1, &one, 2, 1), modes[k], v, twice, false);
    }
}

/* --- a network that decays ----------------------------------------------------------------- */

enum { LAYERS = 8 };

/* Each layer makes values about a millionth; y is what the sixth gives, near the smallest normal
 * number, z what the last does. */
static struct rt_model *decaying(void)
{
    struct bytes g = { 0 };
    put_message(&g, 11, value("x", 1, 4, image));
    put_message(&g, 5, constant("w", 4, (const int64_t[]){ 16, 16, 3, 3 }, 1e-8f, true));
    char in[16] = "x";
    for (int i = 1; i <= LAYERS; i++) {
        char names[24], out[16];
        snprintf(out, sizeof out, "%s", i == 6 ? "y" : i == LAYERS ? "z" : "a");
        if (out[0] == 'a')
            snprintf(out, sizeof out, "a%d", i);
        snprintf(names, sizeof names, "%s,w", in);
        put_message(&g, 1, padded(node("Conv", out, names, out)));
        memcpy(in, out, sizeof in);
    }
    put_message(&g, 12, value("y", 1, 4, image));
    put_message(&g, 12, value("z", 1, 4, image));
    return load(g);
}

static void same_bits_for_all(void **state)
{
    (void)state;
    struct rt_model *m = decaying();
    float *x = malloc(BATCH * SAMPLE * sizeof *x);
    uint32_t h = 1;
    for (int i = 0; i < BATCH * SAMPLE; i++) {
        h = h * 1664525u + 1013904223u;
        x[i] = (float)(h >> 8) / (float)(1 << 24) - 0.5f;
    }
    size_t bytes;
    float *want = run(m, x, BATCH, 1, 0, &bytes), *last = run(m, x, BATCH, 1, 1, &bytes);
    int normal = 0, zero = 0;
    for (int i = 0; i < BATCH * SAMPLE; i++) {
        assert_true(want[i] == 0.0f || fabsf(want[i]) >= FLT_MIN);
        normal += want[i] != 0.0f;
        zero += want[i] == 0.0f;
        assert_true(last[i] == 0.0f);
    }
    assert_true(normal > 0 && zero > 0); /* else the test would not be at the limit */
    const int rounding = fegetround();
    for (size_t t = 0; t < sizeof teams / sizeof teams[0]; t++)
        for (int64_t n = 1; n <= BATCH; n++)
            for (int k = 0; k < 3; k++) {
                const uint64_t before = rt_float_mode();
                if (k == 1)
                    rt_float_mode_set(RT_FLOATS_FLUSH);
                else if (k == 2)
                    fesetround(FE_TOWARDZERO);
                const uint64_t mine = rt_float_mode();
                float *y = run(m, x, n, teams[t], 0, &bytes);
                /* Flags that instructions raise are in the same word. */
                const uint64_t flags = FE_ALL_EXCEPT;
                assert_int_equal(rt_float_mode() & ~flags, mine & ~flags);
                rt_float_mode_set(before);
                fesetround(rounding);
                if (memcmp(y, want, bytes) != 0)
                    fail_msg("%s, %d threads, %lld samples, mode %d: other bits",
                             rt_kernels()->name, teams[t], (long long)n, k);
                free(y);
            }
    free(last);
    free(want);
    free(x);
    rt_model_release(m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_give_zeros),
        cmocka_unit_test(others_keep_them),
        cmocka_unit_test(same_bits_for_all),
    };
    if (RT_FLOATS_FLUSH == RT_FLOATS_EXACT) {
        puts("this machine has no mode that flushes: 1 skipped");
        return 0;
    }
    int failed = 0;
    for (int i = 0; rt_kernels_at(i) != NULL; i++) {
        rt_kernels_use(rt_kernels_at(i));
        failed += cmocka_run_group_tests_name(rt_kernels()->name, tests, NULL, NULL);
    }
    return failed;
}
