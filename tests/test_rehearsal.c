/* Rehearsals: who does how much is what shares and claims give, and kernels only count. */
#include "runtime/kernels/kernels.h"
#include "runtime/mem.h"
#include "runtime/rehearsal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define WORKERS 5

/* Counts n vectors, and would write over numbers if it computed. */
static void do_vectors(int64_t n, float *y)
{
    rt_kernels()->add(y, y, y, (size_t)n * (size_t)rt_kernels()->block);
}

struct job {
    float *y;
    int64_t shared, claimed;
    int taken[WORKERS];
};

/* Two layers: one by shares, one by claims of single items, the first worker late by ten of them. */
static void two_layers(void *ctx, const struct rt_worker *w)
{
    struct job *j = ctx;
    int64_t begin, end;
    rt_rehearsal_layer(w, 0);
    rt_worker_share(w, j->shared, 1, &begin, &end);
    do_vectors(end - begin, j->y);
    rt_worker_barrier(w);
    rt_rehearsal_layer(w, 1);
    if (w->id == 0)
        do_vectors(10, j->y);
    for (begin = end = 0; rt_worker_claim(w, j->claimed, 1, &begin, &end);)
        for (int64_t i = begin; i < end; i++, j->taken[w->id]++)
            do_vectors(1, j->y);
    rt_worker_barrier(w);
}

static void counts_what_each_does(void **state)
{
    (void)state;
    float y[64 * 16];
    for (int i = 0; i < 64 * 16; i++)
        y[i] = 1;
    double work[2][WORKERS] = { { 0 } };
    struct job j = { .y = y, .shared = 12, .claimed = 40 };
    struct rt_rehearsed found;
    const struct rt_kernels *level = rt_kernels();
    assert_int_equal(rt_rehearse(WORKERS, two_layers, &j, &work[0][0], &found, NULL), RT_OK);
    assert_ptr_equal(rt_kernels(), level);
    const double shares[WORKERS] = { 3, 3, 2, 2, 2 };
    int items = 0;
    for (int i = 0; i < WORKERS; i++) {
        assert_true(work[0][i] == shares[i]);
        assert_true(work[1][i] == j.taken[i] + (i == 0 ? 10 : 0));
        assert_in_range(work[1][i], 9, 11); /* who is late takes less: 50 / 5 each */
        items += j.taken[i];
    }
    assert_int_equal(items, 40);
    assert_true(found.work == 12 + 10 + 40);
    assert_true(found.length >= 3 + 10 && found.length <= 3 + 11);
    assert_int_equal(found.barriers, 2);
    for (int i = 0; i < 64 * 16; i++)
        assert_true(y[i] == 1.0f);
}

/* The same every time. */
static void repeats(void **state)
{
    (void)state;
    float y[64 * 16] = { 0 };
    double first[2][WORKERS] = { { 0 } };
    for (int round = 0; round < 20; round++) {
        double work[2][WORKERS] = { { 0 } };
        struct job j = { .y = y, .shared = 12, .claimed = 57 };
        struct rt_rehearsed found;
        assert_int_equal(rt_rehearse(WORKERS, two_layers, &j, &work[0][0], &found, NULL), RT_OK);
        if (round == 0)
            memcpy(first, work, sizeof first);
        assert_memory_equal(first, work, sizeof first);
    }
}

static void groups(void *ctx, const struct rt_worker *w)
{
    struct rt_barrier *barrier = ctx;
    struct rt_worker in_group;
    rt_rehearsal_layer(w, 0);
    const int group = rt_worker_group(w, 2, barrier, &in_group);
    float y[16] = { 0 };
    if (group >= 0) {
        do_vectors(in_group.id == 0 ? group + 1 : 0, y);
        rt_worker_barrier(&in_group);
        do_vectors(1, y);
    }
    rt_worker_barrier(w);
}

/* Two groups of two, a worker left over: each group waits for its own first only. */
static void groups_wait_for_their_own(void **state)
{
    (void)state;
    struct rt_barrier barrier[2];
    memset(barrier, 0, sizeof barrier);
    double work[WORKERS] = { 0 };
    struct rt_rehearsed found;
    assert_int_equal(rt_rehearse(WORKERS, groups, barrier, work, &found, NULL), RT_OK);
    const double want[WORKERS] = { 2, 1, 3, 1, 0 };
    for (int i = 0; i < WORKERS; i++)
        assert_true(work[i] == want[i]);
    assert_true(found.length == 3);
    assert_int_equal(found.barriers, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_what_each_does),
        cmocka_unit_test(repeats),
        cmocka_unit_test(groups_wait_for_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
