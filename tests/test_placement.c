/* Weights wherever they lie in a file: at addresses that no float may have, too, convolutions and
 * matrix products alone read them in place, and answers are the same bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "runtime/mem.h"
#include "runtime/rt.h"
#include "tests/onnx_bytes.h"

#define CHANNELS 32
#define SIDE 6
#define PLANE (CHANNELS * SIDE * SIDE)
#define SAMPLES 2

enum { FLOAT = 1, INT64 = 7 };

static struct bytes attr_ints(const char *name, const int64_t *v, size_t n)
{
    struct bytes a = { 0 };
    put_text(&a, 1, name);
    for (size_t i = 0; i < n; i++)
        put_int(&a, 8, v[i]);
    put_int(&a, 20, 7);
    return a;
}

/* A constant of small numbers, none of which is 0. */
static void add_constant(struct bytes *graph, const char *name, size_t rank, const int64_t *dims)
{
    static float some[512 * 512 * 9];
    size_t n = 1;
    for (size_t i = 0; i < rank; i++)
        n *= (size_t)dims[i];
    for (size_t i = 0; i < n; i++)
        some[i] = ((float)((i * 37 + n) % 101) - 50.5f) / 256;
    struct bytes t = tensor(name, FLOAT, rank, dims);
    put_data(&t, 9, some, n * sizeof *some);
    put_message(graph, 5, t);
}

static void add_weights(struct bytes *graph, const char *name, int64_t maps, int64_t channels,
                        int64_t taps)
{
    add_constant(graph, name, 4, (const int64_t[]){ maps, channels, taps, taps });
}

static void add_conv(struct bytes *graph, const char *in, const char *out, int64_t pad,
                     int64_t groups)
{
    struct bytes n = node("Conv", out, in, out);
    n = with_attr(n, attr_ints("pads", (const int64_t[]){ pad, pad, pad, pad }, 4));
    put_message(graph, 1, with_attr(n, attr_int("group", groups)));
}

/* Convolutions of every kind. wide's weights are another one's on a constant; sum's are added to
 * something, which wants floats as they are everywhere. side: of the input, or -1. */
static struct bytes every_kind(int64_t side)
{
    struct bytes g = { 0 };
    add_weights(&g, "w_wide", CHANNELS, CHANNELS, 3);
    add_weights(&g, "w_point", CHANNELS, CHANNELS, 1);
    add_weights(&g, "w_deep", CHANNELS, 1, 3);
    add_weights(&g, "w_group", CHANNELS, 4, 3);
    add_weights(&g, "w_sum", CHANNELS, CHANNELS, 1);
    add_constant(&g, "k", 4, (const int64_t[]){ 1, CHANNELS, SIDE, SIDE });
    for (int i = 0; i < 4; i++)
        add_constant(&g, (const char *[]){ "gamma", "beta", "mean", "var" }[i], 1,
                     (const int64_t[]){ CHANNELS });
    add_conv(&g, "x,w_wide", "wide", 1, 1);
    put_message(&g, 1, node("BatchNormalization", "norm", "wide,gamma,beta,mean,square", "norm"));
    put_message(&g, 1, node("Mul", "square", "var,var", "square"));
    add_conv(&g, "norm,w_point", "point", 0, 1);
    add_conv(&g, "point,w_deep", "deep", 1, CHANNELS);
    add_conv(&g, "deep,w_group", "group", 1, 8);
    add_conv(&g, "k,w_wide", "fixed", 1, 1);
    put_message(&g, 1, node("Add", "both", "group,fixed", "both"));
    add_conv(&g, "both,w_sum", "sum", 0, 1);
    put_message(&g, 1, node("ReduceMean", "mean_w", "w_sum", "mean_w"));
    put_message(&g, 1, node("Add", "out", "sum,mean_w", "y"));
    const int64_t dims[] = { -1, CHANNELS, side, side };
    put_message(&g, 11, value("x", FLOAT, 4, dims));
    put_message(&g, 12, value("y", FLOAT, 4, dims));
    return model(g);
}

static void add_gemm(struct bytes *graph, const char *in, const char *out, int64_t turned)
{
    put_message(graph, 1, with_attr(node("Gemm", out, in, out), attr_int("transB", turned)));
}

/* Linear layers: weights turned or not, changed by a batch norm before and behind them, of a
 * constant, and read by somebody else, too. */
static struct bytes linear_layers(int64_t side)
{
    const int64_t square[] = { CHANNELS, CHANNELS }, plane[] = { 0, CHANNELS, SIDE, SIDE };
    struct bytes g = { 0 };
    for (int i = 0; i < 4; i++)
        add_constant(&g, (const char *[]){ "w_turned", "w_plain", "w_fixed", "w_sum" }[i], 2,
                     square);
    add_constant(&g, "w_wide", 2, (const int64_t[]){ CHANNELS, PLANE });
    add_constant(&g, "k", 2, (const int64_t[]){ 1, CHANNELS });
    for (int i = 0; i < 3; i++)
        add_constant(&g, (const char *[]){ "gamma", "beta", "mean" }[i], 1,
                     (const int64_t[]){ CHANNELS });
    struct bytes shape = tensor("shape", INT64, 1, (const int64_t[]){ 4 });
    put_data(&shape, 9, plane, sizeof plane);
    put_message(&g, 5, shape);
    put_message(&g, 1, node("Mul", "var", "gamma,gamma", "var"));
    put_message(&g, 1, node("GlobalAveragePool", "pool", "x", "pool"));
    put_message(&g, 1, node("Flatten", "flat", "pool", "flat"));
    put_message(&g, 1,
                node("BatchNormalization", "norm_in", "flat,gamma,beta,mean,var", "norm_in"));
    add_gemm(&g, "norm_in,w_turned", "turned", 1);
    put_message(&g, 1, node("BatchNormalization", "norm", "turned,gamma,beta,mean,var", "norm"));
    add_gemm(&g, "norm,w_plain", "plain", 0);
    add_gemm(&g, "k,w_fixed", "fixed", 1);
    put_message(&g, 1, node("Add", "both", "plain,fixed", "both"));
    add_gemm(&g, "both,w_sum", "sum", 0);
    put_message(&g, 1, node("ReduceMean", "mean_w", "w_sum", "mean_w"));
    put_message(&g, 1, node("Add", "more", "sum,mean_w", "more"));
    add_gemm(&g, "more,w_wide", "wide", 0);
    put_message(&g, 1, node("Reshape", "out", "wide,shape", "y"));
    put_message(&g, 11, value("x", FLOAT, 4, (const int64_t[]){ -1, CHANNELS, side, side }));
    put_message(&g, 12, value("y", FLOAT, 4, (const int64_t[]){ -1, CHANNELS, SIDE, SIDE }));
    return model(g);
}

/* Products on any axis: two that become convolutions with the transposes around them, one of them
 * of weights that are turned, of planes, with a stack of matrices, with a vector, of a constant,
 * and with what somebody else reads, too. Something that is turned is added, not multiplied. */
static struct bytes products(int64_t side)
{
    static const int64_t last[] = { 0, 2, 3, 1 }, first[] = { 0, 3, 1, 2 };
    const int64_t plane[] = { 0, CHANNELS, SIDE, 1 };
    struct bytes g = { 0 };
    for (int i = 0; i < 2; i++)
        add_constant(&g, (const char *[]){ "w_last", "w_turned" }[i], 2,
                     (const int64_t[]){ CHANNELS, CHANNELS });
    add_constant(&g, "b_last", 1, (const int64_t[]){ CHANNELS });
    for (int i = 0; i < 4; i++)
        add_constant(&g, (const char *[]){ "w_plane", "w_fixed", "w_sum", "added" }[i], 2,
                     (const int64_t[]){ SIDE, SIDE });
    add_constant(&g, "w_stack", 3, (const int64_t[]){ CHANNELS, SIDE, SIDE });
    add_constant(&g, "w_vector", 1, (const int64_t[]){ SIDE });
    add_constant(&g, "k", 4, (const int64_t[]){ 1, CHANNELS, SIDE, SIDE });
    struct bytes shape = tensor("shape", INT64, 1, (const int64_t[]){ 4 });
    put_data(&shape, 9, plane, sizeof plane);
    put_message(&g, 5, shape);
    put_message(&g, 1,
                with_attr(node("Transpose", "last", "x", "last"), attr_ints("perm", last, 4)));
    put_message(&g, 1, node("MatMul", "wide", "last,w_last", "wide"));
    put_message(&g, 1, node("Add", "bias", "wide,b_last", "bias"));
    put_message(&g, 1, node("Transpose", "w_again", "w_turned", "w_again"));
    put_message(&g, 1, node("MatMul", "again", "bias,w_again", "again"));
    put_message(
        &g, 1,
        with_attr(node("Transpose", "first", "again", "first"), attr_ints("perm", first, 4)));
    put_message(&g, 1, node("MatMul", "plane", "first,w_plane", "plane"));
    put_message(&g, 1, node("MatMul", "stack", "plane,w_stack", "stack"));
    put_message(&g, 1, node("MatMul", "vector", "stack,w_vector", "vector"));
    put_message(&g, 1, node("Reshape", "column", "vector,shape", "column"));
    put_message(&g, 1, node("MatMul", "fixed", "k,w_fixed", "fixed"));
    put_message(&g, 1, node("Add", "both", "stack,fixed", "both"));
    put_message(&g, 1, node("Transpose", "upright", "added", "upright"));
    put_message(&g, 1, node("Add", "more", "both,upright", "more"));
    put_message(&g, 1, node("Add", "all", "more,column", "all"));
    put_message(&g, 1, node("MatMul", "sum", "all,w_sum", "sum"));
    put_message(&g, 1, node("ReduceMean", "mean_w", "w_sum", "mean_w"));
    put_message(&g, 1, node("Add", "out", "sum,mean_w", "y"));
    put_message(&g, 11, value("x", FLOAT, 4, (const int64_t[]){ -1, CHANNELS, side, side }));
    put_message(&g, 12, value("y", FLOAT, 4, (const int64_t[]){ -1, CHANNELS, side, side }));
    return model(g);
}

/* Loads the file from an address that is at past a multiple of 64, which is all it needs to be
 * there for, and runs it. */
static void answer(const struct bytes *file, size_t at, const struct rt_options *o, float *y)
{
    static float x[SAMPLES * PLANE];
    struct rt_error err = { .status = RT_OK };
    struct rt_model *m = NULL;
    struct rt_session *s = NULL;
    char *room = rt_alloc(file->len + at);
    assert_non_null(room);
    memcpy(room + at, file->p, file->len);
    if (rt_model_load(room + at, file->len, o, &m, &err) != RT_OK)
        fail_msg("at %zu: %s", at, err.text);
    memset(room, 0xff, file->len + at);
    rt_free(room);
    assert_int_equal(rt_session_create(m, 1, &s, &err), RT_OK);
    for (size_t i = 0; i < SAMPLES * PLANE; i++)
        x[i] = (float)(i % 13) - 6;
    const struct rt_shape shape = { 4, { SAMPLES, CHANNELS, SIDE, SIDE } };
    const struct rt_tensor in = { RT_FLOAT, shape, x };
    for (int run = 0; run < 2; run++) {
        struct rt_tensor out;
        if (rt_session_run(s, &in, &out, &err) != RT_OK)
            fail_msg("at %zu: %s", at, err.text);
        assert_true(rt_shape_equal(&out.shape, &shape));
        memcpy(y, out.data, SAMPLES * PLANE * sizeof *y);
    }
    rt_session_destroy(s);
    rt_model_release(m);
}

static void check_file(struct bytes file, const struct rt_options *o)
{
    static float first[SAMPLES * PLANE], y[SAMPLES * PLANE];
    /* Each of the file's floats lies where floats may in one of four places. */
    for (size_t at = 0; at < sizeof(float); at++) {
        answer(&file, at, o, at == 0 ? first : y);
        if (at > 0)
            assert_memory_equal(y, first, sizeof y);
    }
    assert_true(first[0] != first[1] && first[0] == first[0]);
    free(file.p);
}

static void check_answers(int64_t side, const struct rt_options *o)
{
    check_file(every_kind(side), o);
    check_file(linear_layers(side), o);
    check_file(products(side), o);
}

static void answers_are_the_same(void **state)
{
    (void)state;
    check_answers(SIDE, &(struct rt_options){ .max_batch = SAMPLES });
    check_answers(SIDE, &(struct rt_options){ .max_batch = SAMPLES, .exact = true });
}

/* Compiled again when it is run, from what was kept of the file. */
static void free_sizes(void **state)
{
    (void)state;
    check_answers(-1, &(struct rt_options){ .max_batch = SAMPLES });
}

static void interpreted(void **state)
{
    (void)state;
    check_answers(SIDE, &(struct rt_options){ .max_batch = SAMPLES, .any_shape = true });
}

static size_t peak_of_loading(const struct bytes *file, size_t at)
{
    struct rt_error err;
    struct rt_model *m = NULL;
    char *room = rt_alloc(file->len + at);
    assert_non_null(room);
    memcpy(room + at, file->p, file->len);
    rt_mem_peak_reset();
    const size_t before = rt_mem_bytes();
    assert_int_equal(rt_model_load(room + at, file->len, NULL, &m, &err), RT_OK);
    const size_t peak = rt_mem_peak() - before;
    rt_model_release(m);
    rt_free(room);
    return peak;
}

/* The file has so many bytes of weights. */
static void check_peak(struct bytes file, size_t weights)
{
    size_t least = SIZE_MAX, most = 0;
    for (size_t at = 0; at < sizeof(float); at++) {
        const size_t peak = peak_of_loading(&file, at);
        least = peak < least ? peak : least;
        most = peak > most ? peak : most;
    }
    if (most - least > weights / 2)
        fail_msg("loading takes %zu bytes in one place, %zu in another", least, most);
    free(file.p);
}

static void no_copy_is_made(void **state)
{
    (void)state;
    const int64_t dims[] = { -1, 512, SIDE, SIDE };
    struct bytes g = { 0 };
    add_weights(&g, "w", 512, 512, 3);
    add_conv(&g, "x,w", "y", 1, 1);
    put_message(&g, 11, value("x", FLOAT, 4, dims));
    put_message(&g, 12, value("y", FLOAT, 4, dims));
    check_peak(model(g), (size_t)512 * 512 * 9 * sizeof(float));
    g = (struct bytes){ 0 };
    add_constant(&g, "w", 2, (const int64_t[]){ 512, 512 * 9 });
    add_gemm(&g, "x,w", "y", 0);
    put_message(&g, 11, value("x", FLOAT, 2, (const int64_t[]){ -1, 512 }));
    put_message(&g, 12, value("y", FLOAT, 2, (const int64_t[]){ -1, 512 * 9 }));
    check_peak(model(g), (size_t)512 * 512 * 9 * sizeof(float));
    for (int turned = 0; turned < 2; turned++) {
        g = (struct bytes){ 0 };
        if (turned) {
            add_constant(&g, "v", 2, (const int64_t[]){ 512 * 9, 512 });
            put_message(&g, 1, node("Transpose", "w", "v", "w"));
        } else {
            add_constant(&g, "w", 2, (const int64_t[]){ 512, 512 * 9 });
        }
        put_message(&g, 1, node("MatMul", "y", "x,w", "y"));
        put_message(&g, 11, value("x", FLOAT, 3, (const int64_t[]){ -1, SIDE, 512 }));
        put_message(&g, 12, value("y", FLOAT, 3, (const int64_t[]){ -1, SIDE, 512 * 9 }));
        check_peak(model(g), (size_t)512 * 512 * 9 * sizeof(float));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same),
        cmocka_unit_test(free_sizes),
        cmocka_unit_test(interpreted),
        cmocka_unit_test(no_copy_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
