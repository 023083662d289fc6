/* The allocator: lasting memory, arenas. */
#include "runtime/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const size_t lengths[] = { 1, 4096, 1 << 20, (2 << 20) - 64, (2 << 20) - 63, 2 << 20,
                                  (5 << 20) + 1 };

static bool is_clear(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void lasting_memory_is_clear_and_counted(void **state)
{
    (void)state;
    char *block[sizeof lengths / sizeof lengths[0]];
    const long live = rt_mem_live();
    const size_t bytes = rt_mem_bytes();
    size_t sum = 0;
    for (int round = 0; round < 2; round++) { /* the second may get the first's memory */
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            block[i] = rt_zalloc_lasting(lengths[i]);
            assert_non_null(block[i]);
            assert_int_equal((uintptr_t)block[i] % RT_ALIGN, 0);
            assert_true(is_clear(block[i], lengths[i]));
            memset(block[i], 0x5a, lengths[i]);
            sum += round == 0 ? lengths[i] : 0;
        }
        assert_int_equal(rt_mem_bytes() - bytes, sum);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            rt_free(block[i]);
        assert_int_equal(rt_mem_live(), live);
        assert_int_equal(rt_mem_bytes(), bytes);
    }
    assert_null(rt_zalloc_lasting(SIZE_MAX));
    rt_mem_fail(0);
    assert_null(rt_zalloc_lasting(4 << 20));
    rt_mem_fail(-1);
}

/* Pieces of all sizes, in an arena that has to grow: none overlaps another, all are clear. */
static void arenas_grow(void **state)
{
    (void)state;
    struct rt_arena *a = rt_arena_create(0);
    char *piece[600];
    size_t len[600], sum = 0;
    for (int i = 0; i < 600; i++) {
        len[i] = (size_t)(i % 7 + 1) * (i % 50 == 0 ? 300000 : 1700);
        piece[i] = rt_arena_alloc(a, len[i]);
        assert_non_null(piece[i]);
        assert_true(is_clear(piece[i], len[i]));
        memset(piece[i], i % 127 + 1, len[i]);
        sum += len[i];
    }
    assert_int_equal(rt_arena_used(a), sum);
    for (int i = 0; i < 600; i++)
        for (size_t k = 0; k < len[i]; k++)
            if (piece[i][k] != i % 127 + 1)
                fail_msg("piece %d was written over at %zu", i, k);
    rt_arena_destroy(a);
    assert_int_equal(rt_mem_live(), 0);
}

/* How often there was something to settle: once for each of some large pages, or never, where the
 * system or this build has none. */
static void check_settled(int n, int pages)
{
    if (n != 0 && n != pages)
        fail_msg("%d steps, not %d", n, pages);
}

static void settling_leaves_what_is_written(void **state)
{
    (void)state;
    static const size_t used[] = { 4096, (2 << 20) - 64, (4 << 20) + 4096, 7 << 20 };
    static const int pages[] = { 0, 1, 2, 4 }; /* none that would be more than half empty */
    for (size_t i = 0; i < sizeof used / sizeof used[0]; i++)
        for (int made = 0; made < 2; made++) {
            unsigned *block = rt_zalloc_lasting(9 << 20);
            const unsigned n = (unsigned)(used[i] / sizeof *block);
            assert_non_null(block);
            if (made)
                rt_make_pages(block, used[i]);
            assert_true(is_clear((char *)block, used[i]));
            for (unsigned k = 0; k < n; k++)
                block[k] = k * 2654435761u;
            int steps = 0;
            while (rt_settle(block, used[i]))
                steps++;
            check_settled(steps, pages[i]);
            for (unsigned k = 0; k < n; k++)
                if (block[k] != k * 2654435761u)
                    fail_msg("number %u of %u changed", k, n);
            rt_free(block);
        }
}

/* A block in use: all its numbers go up, round after round, and are read. */
struct user {
    unsigned *number;
    size_t n;
    unsigned rounds;
    atomic_bool ends;
    bool wrong;
};

static void *use(void *arg)
{
    struct user *u = arg;
    while (!atomic_load(&u->ends) || u->rounds == 0) {
        for (size_t i = 0; i < u->n; i++)
            u->wrong |= u->number[i]++ != u->rounds;
        u->rounds++;
    }
    return NULL;
}

static void blocks_settle_while_they_are_used(void **state)
{
    (void)state;
    struct rt_arena *a = rt_arena_create(0);
    const size_t len = 16 << 20;
    struct user u = { .number = rt_arena_alloc(a, len), .n = len / sizeof *u.number };
    pthread_t thread;
    assert_non_null(u.number);
    assert_int_equal(pthread_create(&thread, NULL, use, &u), 0);
    int steps = 0;
    while (rt_arena_settle(a))
        steps++;
    atomic_store(&u.ends, true);
    pthread_join(thread, NULL);
    assert_false(u.wrong);
    for (size_t i = 0; i < u.n; i++)
        if (u.number[i] != u.rounds)
            fail_msg("number %zu is %u after %u rounds", i, u.number[i], u.rounds);
    check_settled(steps, (int)(len >> 21));
    rt_arena_destroy(a);
}

static void arenas_keep_their_limit(void **state)
{
    (void)state;
    struct rt_arena *a = rt_arena_create(3 << 20);
    for (int i = 0; i < 3; i++)
        assert_non_null(rt_arena_alloc(a, 1 << 20));
    assert_null(rt_arena_alloc(a, 1));
    assert_true(rt_arena_over(a));
    rt_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lasting_memory_is_clear_and_counted),
        cmocka_unit_test(arenas_grow),
        cmocka_unit_test(arenas_keep_their_limit),
        cmocka_unit_test(settling_leaves_what_is_written),
        cmocka_unit_test(blocks_settle_while_they_are_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
