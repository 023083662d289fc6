/* The load generator's parts that need no server: the histogram against exact percentiles, arrivals
 * against what their process promises, the search for the knee. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "runtime/mem.h"
#include "tests/load/arrivals.h"
#include "tests/load/histogram.h"
#include "tests/load/knee.h"
#include "tests/load/run.h"

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static const double shares[] = { 0, 0.001, 0.1, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1 };

/* Every percentile against that of the sorted values: never below, at most a 1024th part above. */
static void compare(uint64_t *value, size_t n)
{
    struct ld_histogram h = { 0 };
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ld_histogram_add(&h, value[i], NULL), RT_OK);
    qsort(value, n, sizeof *value, ascending);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        const double rank = ceil(shares[i] * (double)n);
        const uint64_t exact = value[rank < 1 ? 0 : (size_t)rank - 1];
        const uint64_t got = ld_histogram_percentile(&h, shares[i]);
        if (got < exact || got - exact > exact / 1024)
            fail_msg("%zu values: p%g is %llu, not %llu", n, shares[i] * 100,
                     (unsigned long long)got, (unsigned long long)exact);
    }
    assert_int_equal(h.n, n);
    assert_int_equal(h.max, value[n - 1]);
    assert_int_equal(ld_histogram_between(&h, 0, UINT64_C(1) << 42), n);
    ld_histogram_reset(&h);
}

static void test_percentiles(void **state)
{
    (void)state;
    static uint64_t value[20000];
    uint64_t seed = 7;
    for (size_t n = 1; n <= 20000; n = n * 7 + 1) {
        for (size_t i = 0; i < n; i++) /* spread over all powers of two up to 17 minutes */
            value[i] = (uint64_t)exp(ld_random_unit(&seed) * log(1e12));
        compare(value, n);
        for (size_t i = 0; i < n; i++) /* small ones, of which many are alike */
            value[i] = ld_random(&seed) % 3000;
        compare(value, n);
    }
}

static void test_edges(void **state)
{
    (void)state;
    for (int power = 0; power <= 41; power++)
        for (int64_t off = -1; off <= 1; off++) {
            uint64_t one = (UINT64_C(1) << power) + (uint64_t)off;
            compare(&one, 1);
        }
    struct ld_histogram h = { 0 };
    assert_int_equal(ld_histogram_percentile(&h, 0.5), 0);
    assert_int_equal(ld_histogram_between(&h, 0, 10), 0);
    assert_int_equal(ld_histogram_add(&h, UINT64_MAX, NULL), RT_OK); /* more than it can tell */
    assert_true(ld_histogram_percentile(&h, 0.5) == UINT64_MAX);
    ld_histogram_reset(&h);
}

static void test_merge(void **state)
{
    (void)state;
    struct ld_histogram a = { 0 }, b = { 0 }, all = { 0 };
    uint64_t seed = 3;
    for (int i = 0; i < 1000; i++) {
        const uint64_t v = ld_random(&seed) >> 30;
        assert_int_equal(ld_histogram_add(i % 3 == 0 ? &a : &b, v, NULL), RT_OK);
        assert_int_equal(ld_histogram_add(&all, v, NULL), RT_OK);
    }
    assert_int_equal(ld_histogram_merge(&a, &b, NULL), RT_OK);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        assert_int_equal(ld_histogram_percentile(&a, shares[i]),
                         ld_histogram_percentile(&all, shares[i]));
    assert_int_equal(a.n, 1000);
    assert_true(fabs(ld_histogram_mean(&a) - ld_histogram_mean(&all)) <
                1e-9 * ld_histogram_mean(&all));
    ld_histogram_reset(&a);
    ld_histogram_reset(&b);
    ld_histogram_reset(&all);
    rt_mem_fail(0);
    assert_int_equal(ld_histogram_add(&a, 1, NULL), RT_E_NOMEM);
    rt_mem_fail(-1);
    assert_int_equal(rt_mem_live(), 0);
}

static void test_constant(void **state)
{
    (void)state;
    struct ld_arrivals a;
    ld_arrivals_init(&a, LD_CONSTANT, 400, 1);
    for (int i = 0; i < 1000; i++, ld_arrivals_advance(&a))
        assert_true(fabs(a.next - i * 2.5e6) < 1);
}

/* Gaps of a Poisson process: their mean and their standard deviation are both 1/rate, and a share
 * 1/e of them is longer than that. */
static void test_poisson(void **state)
{
    (void)state;
    const int n = 100000;
    struct ld_arrivals a, same;
    double last = 0, sum = 0, squares = 0;
    int longer = 0;
    ld_arrivals_init(&a, LD_POISSON, 1000, 5);
    ld_arrivals_init(&same, LD_POISSON, 1000, 5);
    for (int i = 0; i < n; i++) {
        const double gap = (a.next - last) / 1e6;
        assert_true(gap >= 0 && a.next == same.next);
        last = a.next;
        sum += gap;
        squares += gap * gap;
        longer += gap > 1;
        ld_arrivals_advance(&a);
        ld_arrivals_advance(&same);
    }
    assert_true(fabs(sum / n - 1) < 0.02);
    assert_true(fabs(sqrt(squares / n - sum / n * sum / n) - 1) < 0.02);
    assert_true(fabs((double)longer / n - exp(-1)) < 0.01);
}

/* Servers that carry so much, whatever was thought of them before. */
static void test_knee(void **state)
{
    (void)state;
    static const double thought[] = { 10, 100, 1000 };
    for (size_t i = 0; i < 3; i++)
        for (double carries = thought[i] / 50; carries < thought[i] * 5; carries *= 1.37) {
            struct ld_knee k;
            int tries = 1;
            ld_knee_init(&k, thought[i]);
            while (ld_knee_next(&k, k.rate <= carries))
                tries++;
            assert_true(k.carried <= carries && k.carried >= carries / 1.06);
            assert_true(tries <= 20);
        }
    struct ld_knee k;
    ld_knee_init(&k, 100);
    while (ld_knee_next(&k, false))
        continue;
    assert_true(k.carried == 0);
}

static void test_run(void **state)
{
    (void)state;
    struct ld_run a = { .seconds = 1, .cpu = 0.5, .requests = 3, .answered_in_time = 2 };
    struct ld_run b = {
        .seconds = 3, .cpu = 0.1, .requests = 7, .answered_in_time = 6, .wrong = 1
    };
    struct ld_histogram good = { 0 };
    for (int i = 0; i < 8; i++)
        assert_int_equal(ld_histogram_add(&ld_run_times(&b, i < 6 ? 200 : 503)->ns, 5, NULL),
                         RT_OK);
    b.requests = 9; /* one without an answer */
    assert_int_equal(ld_run_merge(&a, &b, NULL), RT_OK);
    a.requests -= 3;
    assert_int_equal(ld_run_failed(&a), 4); /* two refused, one broken, one wrong */
    assert_true(fabs(ld_run_throughput(&a) - 2) < 1e-9);
    assert_true(fabs(a.cpu - 0.2) < 1e-9);
    assert_int_equal(ld_run_good(&a, &good, NULL), RT_OK);
    assert_int_equal(good.n, 6);
    /* More statuses than there is room for count as the last. */
    for (int i = 0; i < 2 * LD_STATUSES_MAX; i++)
        assert_non_null(ld_run_times(&a, 400 + i));
    assert_int_equal(a.n_statuses, LD_STATUSES_MAX);
    ld_histogram_reset(&good);
    ld_run_reset(&a);
    ld_run_reset(&b);
    assert_int_equal(rt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_merge),       cmocka_unit_test(test_constant),
        cmocka_unit_test(test_poisson),     cmocka_unit_test(test_knee),
        cmocka_unit_test(test_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
