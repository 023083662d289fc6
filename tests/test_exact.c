/* What --exact is worth: a convolution with long sums is closer to real numbers than without it,
 * wherever its pixels and maps end and whatever is added to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "runtime/rt.h"
#include "tests/onnx_bytes.h"

enum { FLOAT = 1 };

/* y = relu(x * w + b + x's first maps), side x side pixels, stride 1, as many as there were. */
struct layer {
    int64_t channels, maps, side, kernel;
};

/* Between 0 and 1: nothing cancels, so that sums grow and lose what is below their last digit. */
static float positive(int64_t i)
{
    uint32_t h = (uint32_t)i * 2654435761u;
    h ^= h >> 15;
    h *= 2246822519u;
    return (float)(h >> 8) * 0x1p-24f;
}

static void add_constant(struct bytes *graph, const char *name, size_t rank, const int64_t *dims)
{
    size_t n = 1;
    for (size_t i = 0; i < rank; i++)
        n *= (size_t)dims[i];
    float *some = malloc(n * sizeof *some);
    for (size_t i = 0; i < n; i++)
        some[i] = positive((int64_t)(i + 3));
    struct bytes t = tensor(name, FLOAT, rank, dims);
    put_data(&t, 9, some, n * sizeof *some);
    put_message(graph, 5, t);
    free(some);
}

static struct bytes make_model(const struct layer *l)
{
    const int64_t pad = l->kernel / 2;
    struct bytes g = { 0 }, pads = { 0 };
    add_constant(&g, "w", 4, (const int64_t[]){ l->maps, l->channels, l->kernel, l->kernel });
    add_constant(&g, "b", 1, (const int64_t[]){ l->maps });
    put_text(&pads, 1, "pads");
    for (int i = 0; i < 4; i++)
        put_int(&pads, 8, pad);
    put_int(&pads, 20, 7);
    put_message(&g, 1, with_attr(node("Conv", "conv", "x,w,b", "c"), pads));
    put_message(&g, 1, node("Add", "add", "c,r", "s"));
    put_message(&g, 1, node("Relu", "relu", "s", "y"));
    put_message(&g, 11,
                value("x", FLOAT, 4, (const int64_t[]){ 1, l->channels, l->side, l->side }));
    put_message(&g, 11, value("r", FLOAT, 4, (const int64_t[]){ 1, l->maps, l->side, l->side }));
    put_message(&g, 12, value("y", FLOAT, 4, (const int64_t[]){ 1, l->maps, l->side, l->side }));
    return model(g);
}

static double expected(const struct layer *l, const float *x, const float *r, int64_t at)
{
    const int64_t plane = l->side * l->side, taps = l->kernel * l->kernel;
    const int64_t map = at / plane, row = at % plane / l->side, column = at % l->side;
    double sum = (double)positive(map + 3) + (double)r[at];
    for (int64_t c = 0; c < l->channels; c++)
        for (int64_t t = 0; t < taps; t++) {
            const int64_t i = row + t / l->kernel - l->kernel / 2;
            const int64_t j = column + t % l->kernel - l->kernel / 2;
            if (i >= 0 && i < l->side && j >= 0 && j < l->side)
                sum += (double)x[c * plane + i * l->side + j] *
                       (double)positive((map * l->channels + c) * taps + t + 3);
        }
    return sum;
}

/* The square root of the mean of the squares of relative errors. */
static double error_of(const struct layer *l, bool exact)
{
    const int64_t plane = l->side * l->side;
    const struct rt_options options = { .max_batch = 1, .exact = exact };
    struct bytes file = make_model(l);
    struct rt_error err = { .text = "" };
    struct rt_model *m = NULL;
    struct rt_session *s = NULL;
    if (rt_model_load(file.p, file.len, &options, &m, &err) != RT_OK ||
        rt_session_create(m, 1, &s, &err) != RT_OK)
        fail_msg("%s", err.text);
    float *x = malloc((size_t)(l->channels * plane) * sizeof *x);
    float *r = malloc((size_t)(l->maps * plane) * sizeof *r);
    for (int64_t i = 0; i < l->channels * plane; i++)
        x[i] = positive(i + 1000003);
    for (int64_t i = 0; i < l->maps * plane; i++)
        r[i] = 100 * positive(i + 2000003);
    const struct rt_tensor in[] = {
        { RT_FLOAT, { 4, { 1, l->channels, l->side, l->side } }, x },
        { RT_FLOAT, { 4, { 1, l->maps, l->side, l->side } }, r },
    };
    struct rt_tensor out;
    if (rt_session_run(s, in, &out, &err) != RT_OK)
        fail_msg("%s", err.text);
    double squares = 0;
    for (int64_t i = 0; i < l->maps * plane; i++) {
        const double e = expected(l, x, r, i), off = ((double)((float *)out.data)[i] - e) / e;
        if (!(fabs(off) < 1e-4))
            fail_msg("%g is not %g", (double)((float *)out.data)[i], e);
        squares += off * off;
    }
    rt_session_destroy(s);
    rt_model_release(m);
    free(x);
    free(r);
    free(file.p);
    return sqrt(squares / (double)(l->maps * plane));
}

static void long_sums_are_closer(void **state)
{
    static const struct layer table[] = {
        { 1024, 40, 5, 1 }, /* pointwise; a last block of maps that is not full */
        { 1000, 24, 3, 1 }, /* nor is one of channels */
        { 200, 33, 4, 5 },
        { 128, 32, 6, 3 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const double usual = error_of(&table[i], false), exact = error_of(&table[i], true);
        if (!(2 * exact < usual))
            fail_msg("case %zu: off by %.2g with exact, by %.2g without", i, exact, usual);
    }
}

/* As long as one of its stretches: there is nothing to cut. */
static void short_sums_are_the_same(void **state)
{
    static const struct layer l = { 16, 32, 6, 1 };
    (void)state;
    assert_true(error_of(&l, false) == error_of(&l, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_sums_are_closer),
        cmocka_unit_test(short_sums_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
