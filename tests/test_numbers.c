/* Numbers: that scanning rounds as the C library does, and that what is printed reads back and is
 * as short as can be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/numbers.h"

static uint64_t random_state = 1;

/* xorshift64*: the same sequence in every run. */
static uint64_t random_bits(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static double double_of(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static bool same_float(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static bool same_double(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* Scans text as float and as double and compares with strtof() and strtod(). */
static void check_scan(const char *text)
{
    enum sv_scan_fault fault;
    float f = 0, f_wanted = strtof(text, NULL);
    double d = 0, d_wanted = strtod(text, NULL);
    const char *after = sv_scan_float(text, &f, &fault);
    if (isinf(f_wanted)) {
        if (after != NULL || fault != SV_SCAN_RANGE)
            fail_msg("float %s: accepted, but it is too large", text);
    } else if (after != text + strlen(text) || !same_float(f, f_wanted)) {
        fail_msg("float %s: got %a, wanted %a", text, (double)f, (double)f_wanted);
    }
    after = sv_scan_double(text, &d, &fault);
    if (isinf(d_wanted)) {
        if (after != NULL || fault != SV_SCAN_RANGE)
            fail_msg("double %s: accepted, but it is too large", text);
    } else if (after != text + strlen(text) || !same_double(d, d_wanted)) {
        fail_msg("double %s: got %a, wanted %a", text, d, d_wanted);
    }
}

static void test_scan_known(void **state)
{
    (void)state;
    static const char *const text[] = {
        "0",
        "-0",
        "0.0",
        "1",
        "-1",
        "0.1",
        "123456789",
        "1e0",
        "1E+2",
        "1e-2",
        "0e999999999999",
        "16777217",
        "16777219",
        "9007199254740993",
        "3.4028235e38",
        "3.4028236e38",
        "1e39",
        "-1e39",
        "3.402823466385288598e38",
        "3.4028235677973366e38",
        "3.4028235677973367e38",
        "1.1754943508222875e-38",
        "1.1754942e-38",
        "1e-45",
        "7e-46",
        "7.1e-46",
        "1e-50",
        "1e-400",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "1e400",
        "4.9e-324",
        "2e-324",
        "0.000000000000000000000000000000000000000000000000000000001",
        "100000000000000000000000000000000000000000000000000000000",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "0.99999999999999999999999999999999999999",
        "1.00000000000000000000000000000000000001",
        /* the middle between two floats, and a little off */
        "1.000000059604644775390625",
        "1.000000059604644775390624999",
        "1.00000005960464477539062500000000000000000000000000000000000000000000001",
        "1.00000017881393432617187500",
        "8388608.5",
        "8388609.5",
        "8388609.50000000000000000001",
        "5e-324",
        "1e-5000000000",
        "123e5000000000",
    };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        check_scan(text[i]);
}

static void test_scan_random(void **state)
{
    (void)state;
    char text[80];
    for (int i = 0; i < 100000; i++) {
        float f = float_of((uint32_t)random_bits());
        double d = double_of(random_bits());
        if (!isfinite(f) || !isfinite(d))
            continue;
        snprintf(text, sizeof text, "%.*g", 1 + (int)(random_bits() % 20), (double)f);
        check_scan(text);
        snprintf(text, sizeof text, "%.*g", 1 + (int)(random_bits() % 20), d);
        check_scan(text);
        snprintf(text, sizeof text, "%.*f", (int)(random_bits() % 24),
                 (double)(int64_t)random_bits() / 0x1p60);
        check_scan(text);
        /* halfway between f and the next float, exactly */
        if (fabsf(f) > 1e-30f && fabsf(f) < 1e30f) {
            snprintf(text, sizeof text, "%.60g", ((double)f + (double)nextafterf(f, INFINITY)) / 2);
            check_scan(text);
        }
    }
}

/* Far more digits than any buffer: a one behind 100,000 zeros decides. */
static void test_scan_long(void **state)
{
    (void)state;
    enum { ZEROS = 100000 };
    char *text = malloc(ZEROS + 64);
    assert_non_null(text);
    static const char front[] = "1.000000059604644775390625";
    memcpy(text, front, sizeof front - 1);
    memset(text + sizeof front - 1, '0', ZEROS);
    strcpy(text + sizeof front - 1 + ZEROS, "1");
    check_scan(text);
    text[0] = '0';
    text[1] = '.';
    memset(text + 2, '0', ZEROS);
    strcpy(text + 2 + ZEROS, "123e100000");
    check_scan(text);
    memset(text, '9', ZEROS);
    strcpy(text + ZEROS, "e-99999");
    check_scan(text);
    free(text);
}

static void test_scan_words(void **state)
{
    (void)state;
    enum sv_scan_fault fault;
    float f = 0;
    double d = 0;
    assert_non_null(sv_scan_float("NaN,", &f, &fault));
    assert_true(isnan(f));
    assert_non_null(sv_scan_float("Infinity]", &f, &fault));
    assert_true(isinf(f) && f > 0);
    assert_non_null(sv_scan_double("-Infinity]", &d, &fault));
    assert_true(isinf(d) && d < 0);
    static const char *const wrong[] = {
        "",      "-",       "+1",   ".5",   "1.",   "1.e5", "01",  "-01",  "1e",
        "1e+",   "e5",      "nan",  "NAN",  "-NaN", "inf",  "Inf", "0x10", "--1",
        "\"1\"", "Infinit", "true", "null", "1.-5", "1e.5", "00",  " 1",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *after = sv_scan_float(wrong[i], &f, &fault);
        /* "0x10" and the like stop behind the number; the caller then sees no comma. */
        if (after != NULL && (*after == '\0' || *after == ','))
            fail_msg("'%s' was accepted", wrong[i]);
        after = sv_scan_double(wrong[i], &d, &fault);
        if (after != NULL && (*after == '\0' || *after == ','))
            fail_msg("'%s' was accepted", wrong[i]);
    }
}

static void test_scan_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t min, max, value;
        int fault; /* -1: good */
    } row[] = {
        { "0", INT8_MIN, INT8_MAX, 0, -1 },
        { "-0", INT8_MIN, INT8_MAX, 0, -1 },
        { "127", INT8_MIN, INT8_MAX, 127, -1 },
        { "-128", INT8_MIN, INT8_MAX, -128, -1 },
        { "128", INT8_MIN, INT8_MAX, 0, SV_SCAN_RANGE },
        { "-129", INT8_MIN, INT8_MAX, 0, SV_SCAN_RANGE },
        { "9223372036854775807", INT64_MIN, INT64_MAX, INT64_MAX, -1 },
        { "-9223372036854775808", INT64_MIN, INT64_MAX, INT64_MIN, -1 },
        { "9223372036854775808", INT64_MIN, INT64_MAX, 0, SV_SCAN_RANGE },
        { "-9223372036854775809", INT64_MIN, INT64_MAX, 0, SV_SCAN_RANGE },
        { "100000000000000000000", INT64_MIN, INT64_MAX, 0, SV_SCAN_RANGE },
        { "1.0", INT64_MIN, INT64_MAX, 0, SV_SCAN_FRACTION },
        { "1e3", INT64_MIN, INT64_MAX, 0, SV_SCAN_FRACTION },
        { "01", INT64_MIN, INT64_MAX, 0, SV_SCAN_SYNTAX },
        { "", INT64_MIN, INT64_MAX, 0, SV_SCAN_SYNTAX },
        { "-", INT64_MIN, INT64_MAX, 0, SV_SCAN_SYNTAX },
        { "NaN", INT64_MIN, INT64_MAX, 0, SV_SCAN_SYNTAX },
        { "true", INT64_MIN, INT64_MAX, 0, SV_SCAN_SYNTAX },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        enum sv_scan_fault fault = SV_SCAN_SYNTAX;
        int64_t v = 0;
        const char *after = sv_scan_int(row[i].text, row[i].min, row[i].max, &v, &fault);
        if ((after != NULL) != (row[i].fault < 0) || v != row[i].value ||
            (after == NULL && (int)fault != row[i].fault))
            fail_msg("'%s': got %lld, fault %d", row[i].text, (long long)v, (int)fault);
    }
    enum sv_scan_fault fault;
    uint64_t u = 0;
    assert_non_null(sv_scan_uint("18446744073709551615", UINT64_MAX, &u, &fault));
    assert_true(u == UINT64_MAX);
    assert_null(sv_scan_uint("18446744073709551616", UINT64_MAX, &u, &fault));
    assert_int_equal(fault, SV_SCAN_RANGE);
    assert_null(sv_scan_uint("-1", UINT64_MAX, &u, &fault));
    assert_int_equal(fault, SV_SCAN_RANGE);
    assert_null(sv_scan_uint("256", UINT8_MAX, &u, &fault));
    assert_non_null(sv_scan_uint("-0", UINT8_MAX, &u, &fault));
    assert_true(u == 0);
}

static void expect_float(float v, const char *wanted)
{
    char buf[SV_NUMBER_ROOM + 1];
    buf[sv_print_float(buf, v)] = '\0';
    assert_string_equal(buf, wanted);
}

static void expect_double(double v, const char *wanted)
{
    char buf[SV_NUMBER_ROOM + 1];
    buf[sv_print_double(buf, v)] = '\0';
    assert_string_equal(buf, wanted);
}

static void test_print_known(void **state)
{
    (void)state;
    expect_float(0.0f, "0.0");
    expect_float(-0.0f, "-0.0");
    expect_float(1.0f, "1.0");
    expect_float(-1.5f, "-1.5");
    expect_float(0.1f, "0.1");
    expect_float(0.3f, "0.3");
    expect_float(100.0f, "100.0");
    expect_float(16777216.0f, "16777216.0");
    expect_float(1e9f, "1000000000.0");
    expect_float(1e10f, "1e10");
    expect_float(0.00001f, "0.00001");
    expect_float(0.000001f, "1e-6");
    expect_float(1.234e-7f, "1.234e-7");
    expect_float(3.4028235e38f, "3.4028235e38");
    expect_float(-3.4028235e38f, "-3.4028235e38");
    expect_float(1.1754944e-38f, "1.1754944e-38");
    expect_float(1e-45f, "1e-45");
    expect_float(9.8765433e-10f, "9.876543e-10");
    expect_float(NAN, "NaN");
    expect_float(INFINITY, "Infinity");
    expect_float(-INFINITY, "-Infinity");
    expect_double(0.1, "0.1");
    expect_double(1.0 / 3, "0.3333333333333333");
    expect_double(-2.5e-300, "-2.5e-300");
    expect_double(123456789.0, "123456789.0");
    expect_double(1.7976931348623157e308, "1.7976931348623157e308");
    expect_double(5e-324, "5e-324");
    expect_double(0.0, "0.0");
    expect_double((double)NAN, "NaN");
}

/* Digits of the mantissa, without zeros at either end. */
static int count_digits(const char *text)
{
    int n = 0, zeros = 0;
    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text < '0' || *text > '9')
            continue;
        if (n == 0 && *text == '0')
            continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        n++;
    }
    return n - zeros;
}

/* What is printed reads back, and no shorter decimal does. */
static void check_print(float v)
{
    char buf[SV_NUMBER_ROOM + 1], shorter[40];
    buf[sv_print_float(buf, v)] = '\0';
    if (!same_float(strtof(buf, NULL), v))
        fail_msg("%a printed as %s reads back as %a", (double)v, buf, (double)strtof(buf, NULL));
    int n = count_digits(buf);
    if (n > 1) {
        snprintf(shorter, sizeof shorter, "%.*e", n - 2, (double)v);
        if (same_float(strtof(shorter, NULL), v))
            fail_msg("%a printed as %s, but %s would do", (double)v, buf, shorter);
    }
}

static void test_print_floats(void **state)
{
    (void)state;
    for (uint32_t biased = 0; biased < 255; biased++) {
        const uint32_t near[] = { 0, 1, 2, 3, 0x3fffff, 0x400000, 0x7ffffe, 0x7fffff };
        for (size_t i = 0; i < sizeof near / sizeof near[0]; i++)
            check_print(float_of(biased << 23 | near[i]));
    }
    for (int i = 0; i < 100000; i++) {
        float v = float_of((uint32_t)random_bits());
        if (isfinite(v))
            check_print(v);
        check_print((float)(random_bits() % 100000) / 1000);
    }
}

static void test_print_doubles(void **state)
{
    (void)state;
    char buf[SV_NUMBER_ROOM + 1];
    for (int i = 0; i < 50000; i++) {
        double v = double_of(random_bits());
        if (!isfinite(v))
            continue;
        size_t n = sv_print_double(buf, v);
        assert_true(n <= SV_NUMBER_ROOM);
        buf[n] = '\0';
        if (!same_double(strtod(buf, NULL), v))
            fail_msg("%a printed as %s", v, buf);
    }
}

static void test_print_integers(void **state)
{
    (void)state;
    static const int64_t value[] = { 0, 1, -1, 9, 10, -10, INT64_MAX, INT64_MIN, INT32_MIN };
    for (size_t i = 0; i < sizeof value / sizeof value[0]; i++) {
        char got[SV_NUMBER_ROOM + 1], wanted[40];
        got[sv_print_int(got, value[i])] = '\0';
        snprintf(wanted, sizeof wanted, "%lld", (long long)value[i]);
        assert_string_equal(got, wanted);
    }
    char got[SV_NUMBER_ROOM + 1];
    got[sv_print_uint(got, UINT64_MAX)] = '\0';
    assert_string_equal(got, "18446744073709551615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_known),     cmocka_unit_test(test_scan_random),
        cmocka_unit_test(test_scan_long),      cmocka_unit_test(test_scan_words),
        cmocka_unit_test(test_scan_integers),  cmocka_unit_test(test_print_known),
        cmocka_unit_test(test_print_floats),   cmocka_unit_test(test_print_doubles),
        cmocka_unit_test(test_print_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
