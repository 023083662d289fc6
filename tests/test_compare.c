/* Tensor comparison, the best classes, and the JSON that results are written as. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/mem.h"
#include "server/compare.h"
#include "server/json_out.h"
#include "server/scores.h"

static const struct sv_tolerance onnx = { 1e-3, 1e-7, 1e-4 };

static struct rt_tensor floats(float *x, int64_t n)
{
    return (struct rt_tensor){ RT_FLOAT, { 1, { n } }, x };
}

static struct sv_comparison compare(float *got, float *wanted, int64_t n)
{
    struct rt_tensor a = floats(got, n), b = floats(wanted, n);
    struct sv_comparison c;
    struct rt_error err = { 0 };
    assert_int_equal(sv_compare(&a, &b, &onnx, &c, &err), RT_OK);
    return c;
}

static void test_tolerance(void **state)
{
    (void)state;
    float wanted[] = { 0, 1000, -1000, 1 }, near[] = { 5e-8f, 1000.9f, -999.1f, 1 };
    float far[] = { 0, 1000, -1000, 1.5f };
    struct sv_comparison c = compare(near, wanted, 4);
    assert_true(c.elementwise_ok);
    assert_false(c.range_ok);
    c = compare(far, wanted, 4);
    assert_false(c.elementwise_ok);
    assert_false(c.range_ok);
    assert_int_equal(c.worst, 3);
    assert_int_equal(c.n_outside, 1);
    assert_true(c.absolute == 0.5 && c.relative == 0.5 && c.range == 2000);
    float small[] = { 0, 1000, -1000, 1.1f }; /* 10 % off, but 5e-5 of the range */
    c = compare(small, wanted, 4);
    assert_false(c.elementwise_ok);
    assert_true(c.range_ok);
}

static void test_special(void **state)
{
    (void)state;
    float wanted[] = { NAN, INFINITY, -INFINITY, 0 }, same[] = { -NAN, INFINITY, -INFINITY, -0.f };
    struct sv_comparison c = compare(same, wanted, 4);
    assert_true(c.elementwise_ok && c.range_ok && c.n_special == 0);
    for (int i = 0; i < 3; i++) {
        float other[4];
        memcpy(other, same, sizeof other);
        other[i] = i == 1 ? -INFINITY : FLT_MAX;
        c = compare(other, wanted, 4);
        assert_false(c.elementwise_ok || c.range_ok);
        assert_int_equal(c.worst, i);
        assert_true(isinf(c.absolute) && isinf(c.relative));
    }
    c = compare(wanted, wanted, 0);
    assert_true(c.elementwise_ok && c.range_ok && c.worst == -1);
}

static void test_integers_are_exact(void **state)
{
    (void)state;
    int64_t a[] = { INT64_MAX, INT64_MIN }, b[] = { INT64_MAX - 1, INT64_MIN };
    struct rt_tensor x = { RT_INT64, { 1, { 2 } }, a }, y = { RT_INT64, { 1, { 2 } }, b };
    struct sv_comparison c;
    char text[SV_ELEMENT_TEXT];
    assert_int_equal(sv_compare(&x, &y, &onnx, &c, NULL), RT_OK);
    assert_false(c.elementwise_ok || c.range_ok);
    assert_true(c.absolute == 1);
    assert_string_equal(sv_element_text(&x, 0, text), "9223372036854775807");
}

static void test_form(void **state)
{
    (void)state;
    float x[6] = { 0 };
    struct rt_tensor a = { RT_FLOAT, { 2, { 2, 3 } }, x }, b = { RT_FLOAT, { 2, { 3, 2 } }, x };
    struct sv_comparison c;
    struct rt_error err = { 0 };
    char text[RT_SHAPE_TEXT];
    assert_int_equal(sv_compare(&a, &b, &onnx, &c, &err), RT_E_INVALID);
    assert_string_equal(err.text, "the shape is [2,3], wanted [3,2]");
    b = (struct rt_tensor){ RT_INT32, { 2, { 2, 3 } }, x };
    assert_int_equal(sv_compare(&a, &b, &onnx, &c, &err), RT_E_INVALID);
    assert_string_equal(err.text, "the type is float, wanted int32");
    assert_string_equal(sv_index_text(&a.shape, 4, text), "[1,1]");
}

static void top(const float *x, int64_t n, enum sv_scores scores, int k, const int64_t *want)
{
    struct rt_tensor t = { RT_FLOAT, { 2, { 1, n } }, (void *)(uintptr_t)x };
    struct sv_class best[8];
    int got;
    assert_int_equal(sv_scores_top(&t, 0, 1, scores, false, k, best, &got, NULL), RT_OK);
    assert_int_equal(got, k < n ? k : n);
    for (int i = 0; i < got; i++)
        assert_int_equal(best[i].index, want[i]);
}

static void test_best_classes(void **state)
{
    (void)state;
    const float x[] = { 1, 3, 2, 3, NAN, -1 };
    top(x, 6, SV_SCORES_NONE, 8, (const int64_t[]){ 1, 3, 2, 0, 5, 4 });
    top(x, 6, SV_SCORES_NONE, 3, (const int64_t[]){ 1, 3, 2 });
    top(x, 4, SV_SCORES_SOFTMAX, 1, (const int64_t[]){ 1 });

    float logits[] = { 1000, 1001, 0, 0 };
    struct rt_tensor t = { RT_FLOAT, { 2, { 2, 2 } }, logits };
    struct sv_class best[2];
    int n;
    assert_int_equal(sv_scores_top(&t, 0, 2, SV_SCORES_AUTO, false, 2, best, &n, NULL), RT_OK);
    assert_true(fabsf(best[0].score - 0.7310586f) < 1e-6f && best[0].index == 1);
    assert_int_equal(sv_scores_top(&t, 1, 2, SV_SCORES_AUTO, false, 2, best, &n, NULL), RT_OK);
    assert_true(best[0].score == 0.5f && best[0].index == 0);
    assert_int_equal(sv_scores_top(&t, 0, 2, SV_SCORES_AUTO, true, 1, best, &n, NULL), RT_OK);
    assert_true(best[0].score == 1001);
    assert_int_equal(sv_scores_top(&t, 0, 3, SV_SCORES_AUTO, true, 1, best, &n, NULL),
                     RT_E_INVALID);
    float boxes[12] = { 0 };
    t = (struct rt_tensor){ RT_FLOAT, { 3, { 1, 3, 4 } }, boxes };
    assert_int_equal(sv_scores_top(&t, 0, 1, SV_SCORES_AUTO, true, 1, best, &n, NULL),
                     RT_E_INVALID);
    assert_int_equal(rt_mem_live(), 0);
}

static void test_json(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    const struct rt_shape shape = { 2, { -1, 3 } };
    struct sv_json j;
    sv_json_init(&j, f);
    sv_json_object(&j, NULL);
    sv_json_string(&j, "s", "a\"\\\n\x01\xc3\xa9\xff");
    sv_json_string(&j, "none", NULL);
    sv_json_array(&j, "list");
    sv_json_row(&j, NULL);
    sv_json_int(&j, "i", -3);
    sv_json_bool(&j, "b", true);
    sv_json_end(&j);
    sv_json_double(&j, NULL, 0.1);
    sv_json_float(&j, NULL, 0.1f);
    sv_json_double(&j, NULL, (double)NAN);
    sv_json_end(&j);
    sv_json_shape(&j, "shape", &shape);
    sv_json_array(&j, "empty");
    sv_json_end(&j);
    sv_json_end(&j);
    fclose(f);
    assert_string_equal(text, "{\n"
                              "  \"s\": \"a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd\",\n"
                              "  \"none\": null,\n"
                              "  \"list\": [\n"
                              "    {\"i\": -3, \"b\": true},\n"
                              "    0.1,\n"
                              "    0.1,\n"
                              "    null\n"
                              "  ],\n"
                              "  \"shape\": [-1,3],\n"
                              "  \"empty\": []\n"
                              "}\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tolerance),          cmocka_unit_test(test_special),
        cmocka_unit_test(test_integers_are_exact), cmocka_unit_test(test_form),
        cmocka_unit_test(test_best_classes),       cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
