/* A network whose first nodes are run sample by sample and the rest on the whole batch, as the rest
 * has many weights: what goes over from one to the other is every sample's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/mem.h"
#include "runtime/rt.h"
#include "tests/onnx_bytes.h"

#define SAMPLES 8
#define SIDE 28
#define IMAGE (3 * SIDE * SIDE)
#define MAPS 512

enum { FLOAT = 1 };

static void add_conv(struct bytes *graph, const char *in, const char *out, int64_t channels,
                     int64_t maps)
{
    static const int64_t pads[] = { 1, 1, 1, 1 };
    static float some[MAPS * 128 * 9];
    char name[8], both[16];
    for (int64_t i = 0; i < maps * channels * 9; i++)
        some[i] = ((float)(i * 37 % 101) - 50) / (float)(100 * channels);
    snprintf(name, sizeof name, "w_%s", out);
    snprintf(both, sizeof both, "%s,%s", in, name);
    struct bytes w = tensor(name, FLOAT, 4, (const int64_t[]){ maps, channels, 3, 3 });
    put_data(&w, 9, some, (size_t)(maps * channels * 9) * sizeof *some);
    put_message(graph, 5, w);
    put_message(graph, 1, with_ints(node("Conv", out, both, out), "pads", 4, pads));
}

/* What was joined is changed in place once it was pooled, too: both go over the cut. */
static struct bytes network(void)
{
    struct bytes g = { 0 };
    add_conv(&g, "x", "a", 3, 64);
    add_conv(&g, "x", "b", 3, 64);
    put_message(&g, 1, with_attr(node("Concat", "ab", "a,b", "ab"), attr_int("axis", 1)));
    put_message(&g, 1,
                with_ints(with_ints(node("MaxPool", "top", "ab", "top"), "kernel_shape", 2,
                                    (const int64_t[]){ 3, 3 }),
                          "pads", 4, (const int64_t[]){ 1, 1, 1, 1 }));
    put_message(&g, 1, node("Softplus", "soft", "ab", "soft"));
    add_conv(&g, "soft", "c", 128, MAPS);
    add_conv(&g, "top", "d", 128, MAPS);
    put_message(&g, 1, node("Add", "sum", "c,d", "sum"));
    put_message(&g, 1, node("GlobalAveragePool", "y", "sum", "y"));
    put_message(&g, 11, value("x", FLOAT, 4, (const int64_t[]){ -1, 3, SIDE, SIDE }));
    put_message(&g, 12, value("y", FLOAT, 4, (const int64_t[]){ -1, MAPS, 1, 1 }));
    return model(g);
}

static void run(struct rt_session *s, int first, int n, float *y)
{
    static float x[SAMPLES * IMAGE];
    struct rt_error err = { .text = "" };
    for (int i = 0; i < n * IMAGE; i++)
        x[i] = (float)((first * IMAGE + i) * 29 % 211) / 100 - 1;
    const struct rt_tensor in = { RT_FLOAT, { 4, { n, 3, SIDE, SIDE } }, x };
    struct rt_tensor out;
    if (rt_session_run(s, &in, &out, &err) != RT_OK)
        fail_msg("%s", err.text);
    memcpy(y, out.data, (size_t)n * MAPS * sizeof *y);
}

static void samples_go_over_the_cut_by_themselves(void **state)
{
    (void)state;
    static float together[SAMPLES * MAPS], alone[MAPS];
    struct bytes file = network();
    struct rt_error err = { .text = "" };
    struct rt_model *m;
    const struct rt_options o = { .max_batch = SAMPLES };
    if (rt_model_load(file.p, file.len, &o, &m, &err) != RT_OK)
        fail_msg("%s", err.text);
    for (int threads = 1; threads <= 3; threads++) {
        struct rt_session *s;
        assert_int_equal(rt_session_create(m, threads, &s, &err), RT_OK);
        run(s, 0, SAMPLES, together);
        for (int i = 0; i < SAMPLES; i++) {
            run(s, i, 1, alone);
            if (memcmp(alone, together + i * MAPS, sizeof alone) != 0)
                fail_msg("sample %d is another one alone, on %d threads", i, threads);
        }
        rt_session_destroy(s);
    }
    rt_model_release(m);
    free(file.p);
    assert_int_equal(rt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_go_over_the_cut_by_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
