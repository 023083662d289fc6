/* Models that load in a way of their own or not at all, and runs that are refused: the cases that
 * the tests of the parts leave out. */
#include "tests/onnx_bytes.h"

#include "runtime/rt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct rt_error err;

static void expect(enum rt_status s, enum rt_status want, const char *part)
{
    if (s != want || strstr(err.text, part) == NULL)
        fail_msg("status %s, text '%s'; wanted %s, '%s'", rt_status_name(s), err.text,
                 rt_status_name(want), part);
}

static enum rt_status load(struct bytes m, int max_batch, struct rt_model **out)
{
    const struct rt_options o = { .max_batch = max_batch };
    err = (struct rt_error){ .text = "" };
    enum rt_status s = rt_model_load(m.p, m.len, &o, out, &err);
    free(m.p);
    return s;
}

/* n times y = op(x), each with an input of its own of that shape. */
static struct bytes unary(const char *op, int n, size_t rank, const int64_t *dims)
{
    struct bytes g = { 0 };
    for (int i = 0; i < n; i++) {
        const char x[] = { 'a', (char)('0' + i), '\0' }, y[] = { 'y', (char)('0' + i), '\0' };
        put_message(&g, 11, value(x, RT_FLOAT, rank, dims));
        put_message(&g, 12, named(y));
        put_message(&g, 1, node(op, op, x, y));
    }
    return model(g);
}

static void refuses_batches(void **state)
{
    (void)state;
    static float data[16];
    struct rt_model *m;
    struct rt_session *s;
    struct rt_tensor in[2], out[2];
    expect(load(unary("Relu", 1, 2, (const int64_t[]){ -1, 2 }), 65537, &m), RT_E_LIMIT,
           "max_batch is 65537, at most 65536 is possible");
    expect(load(unary("Relu", 2, 2, (const int64_t[]){ -1, 2 }), 4, &m), RT_OK, "");
    expect(rt_session_create(m, 1, &s, &err), RT_OK, "");
    for (int i = 0; i < 2; i++)
        in[i] = (struct rt_tensor){ RT_FLOAT, rt_shape_of(2, (int64_t[]){ 5, 2 }), data };
    expect(rt_session_run(s, in, out, &err), RT_E_INVALID, "has 5 samples, a run takes 1 to 4");
    in[0].shape.dim[0] = 2;
    in[1].shape.dim[0] = 3;
    expect(rt_session_run(s, in, out, &err), RT_E_INVALID, "has 3 samples, the others have 2");
    rt_session_destroy(s);
    rt_model_release(m);
}

static void knows_no_balance_of_open_sizes(void **state)
{
    (void)state;
    static float data[2];
    struct rt_model *m;
    struct rt_session *s;
    struct rt_balance balance;
    double largest[4];
    expect(load(unary("Relu", 1, 3, (const int64_t[]){ -1, -1, -1 }), 4, &m), RT_OK, "");
    expect(rt_session_create(m, 1, &s, &err), RT_OK, "");
    const struct rt_tensor x = { RT_FLOAT, rt_shape_of(3, (int64_t[]){ 1, 1, 2 }), data };
    expect(rt_session_balance(s, &x, &balance, largest, &err), RT_E_UNSUPPORTED,
           "not known before a run shows its sizes");
    rt_session_destroy(s);
    rt_model_release(m);
}

/* What speaks of the batch itself is run a sample, or a file's batch, at a time. */
static void fixes_the_batch_of_others(void **state)
{
    (void)state;
    static const char *const op[] = { "Shape", "Transpose", "Size" };
    for (size_t i = 0; i < sizeof op / sizeof op[0]; i++) {
        struct rt_model *m;
        expect(load(unary(op[i], 1, 2, (const int64_t[]){ -1, 2 }), 4, &m), RT_OK, "");
        assert_int_equal(rt_model_max_batch(m), 0);
        rt_model_release(m);
    }
}

static void refuses_impossible_sizes(void **state)
{
    (void)state;
    struct rt_model *m;
    expect(load(unary("Relu", 1, 3, (const int64_t[]){ -1, INT64_C(1) << 38, 1 << 8 }), 65536, &m),
           RT_E_LIMIT, "has too many elements");
}

/* y = |x| of one sample of so many numbers. */
static void run_width(struct rt_session *s, int64_t width)
{
    float data[512];
    for (int i = 0; i < width; i++)
        data[i] = (float)(i % 2 == 0 ? i : -i);
    struct rt_tensor out, in = { RT_FLOAT, rt_shape_of(2, (int64_t[]){ 1, width }), data };
    expect(rt_session_run(s, &in, &out, &err), RT_OK, "");
    assert_int_equal(out.shape.dim[1], width);
    for (int i = 0; i < width; i++)
        assert_true(((const float *)out.data)[i] == (float)i);
}

/* Each size is a program of its own: those that nobody has been at for long do not stay. */
static void sizes_without_end(void **state)
{
    (void)state;
    struct rt_model *m;
    struct rt_session *s[3];
    const long before = rt_mem_live();
    long after_some = 0;
    expect(load(unary("Abs", 1, 2, (const int64_t[]){ -1, -1 }), 4, &m), RT_OK, "");
    for (int i = 0; i < 3; i++)
        expect(rt_session_create(m, 1, &s[i], &err), RT_OK, "");
    run_width(s[2], 500);
    for (int64_t width = 1; width <= 400; width++) {
        run_width(s[0], width);
        run_width(s[1], width + 3);
        run_width(s[1], width);
        if (width == 100)
            after_some = rt_mem_live();
    }
    assert_int_equal(rt_mem_live(), after_some);
    run_width(s[2], 500); /* the program that it has had all the time */
    run_width(s[2], 1);
    for (int i = 0; i < 3; i++)
        rt_session_destroy(s[i]);
    rt_model_release(m);
    assert_int_equal(rt_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_without_end),
        cmocka_unit_test(refuses_batches),
        cmocka_unit_test(knows_no_balance_of_open_sizes),
        cmocka_unit_test(fixes_the_batch_of_others),
        cmocka_unit_test(refuses_impossible_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
