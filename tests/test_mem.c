/* The allocator: lasting memory, arenas. */
#include "runtime/mem.h"

#include <setjmp.h>
#include <stdarg.h>
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
