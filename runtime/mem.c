/* The allocator: aligned blocks with their length in front, counted, and failing when told to.
 * They are cut out of malloc()'s, whose caches of small blocks aligned_alloc() would pass by. */
#include "runtime/mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Directly in front of each block. */
struct header {
    size_t len;
    void *whole; /* what malloc() gave */
};

static atomic_long fail_after = -1;
static atomic_long live;
static atomic_size_t bytes_live;
static atomic_size_t bytes_peak;

void rt_mem_fail(long after)
{
    atomic_store(&fail_after, after);
}

long rt_mem_live(void)
{
    return atomic_load(&live);
}

size_t rt_mem_bytes(void)
{
    return atomic_load(&bytes_live);
}

size_t rt_mem_peak(void)
{
    return atomic_load(&bytes_peak);
}

void rt_mem_peak_reset(void)
{
    atomic_store(&bytes_peak, atomic_load(&bytes_live));
}

static bool told_to_fail(void)
{
    if (atomic_load_explicit(&fail_after, memory_order_relaxed) < 0)
        return false;
    return atomic_fetch_sub(&fail_after, 1) == 0;
}

static void count_in(size_t len)
{
    atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    size_t now = atomic_fetch_add_explicit(&bytes_live, len, memory_order_relaxed) + len;
    size_t peak = atomic_load_explicit(&bytes_peak, memory_order_relaxed);
    while (now > peak && !atomic_compare_exchange_weak(&bytes_peak, &peak, now))
        ;
}

static void *alloc(size_t len, bool zero)
{
    if (len > SIZE_MAX / 2 || told_to_fail())
        return NULL;
    /* At least a byte behind the header: what has none lies inside its block, too, as leak checkers
     * want it. */
    const size_t room = RT_ALIGN + rt_align_up(len > 0 ? len : 1);
    char *whole = zero ? calloc(1, room) : malloc(room);
    if (whole == NULL)
        return NULL;
    /* At least a header further on, and at most RT_ALIGN, as malloc() aligns to that much. */
    static_assert(sizeof(struct header) <= _Alignof(max_align_t), "room in front of a block");
    char *block = whole + (RT_ALIGN - (uintptr_t)whole % RT_ALIGN);
    struct header *h = (struct header *)(void *)block - 1;
    h->len = len;
    h->whole = whole;
    count_in(len);
    return block;
}

void *rt_alloc(size_t len)
{
    return alloc(len, false);
}

/* Large blocks come zeroed from the system, which makes their pages when they are first written. */
void *rt_zalloc(size_t len)
{
    return alloc(len, true);
}

void *rt_alloc_array(size_t n, size_t size)
{
    size_t len;
    return rt_mul_size(n, size, &len) ? rt_alloc(len) : NULL;
}

void *rt_zalloc_array(size_t n, size_t size)
{
    size_t len;
    return rt_mul_size(n, size, &len) ? rt_zalloc(len) : NULL;
}

void *rt_realloc_array(void *p, size_t n, size_t size)
{
    void *grown = rt_alloc_array(n, size);
    if (grown == NULL || p == NULL)
        return grown;
    size_t old = ((struct header *)p - 1)->len;
    memcpy(grown, p, old < n * size ? old : n * size);
    rt_free(p);
    return grown;
}

char *rt_strdup(const char *s)
{
    size_t len = strlen(s) + 1;
    char *copy = rt_alloc(len);
    return copy != NULL ? memcpy(copy, s, len) : NULL;
}

void rt_free(void *p)
{
    if (p == NULL)
        return;
    struct header *h = (struct header *)p - 1;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&bytes_live, h->len, memory_order_relaxed);
    free(h->whole);
}

bool rt_mul_size(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

bool rt_add_size(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

bool rt_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    int64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

bool rt_add_i64(int64_t a, int64_t b, int64_t *out)
{
    int64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

size_t rt_align_up(size_t len)
{
    assert(len <= SIZE_MAX / 2);
    return (len + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN;
}

/* Pieces are cut from chunks; a piece larger than a chunk gets a chunk of its own. */
#define CHUNK ((size_t)64 * 1024)

struct chunk {
    struct chunk *next;
    size_t used;
    size_t len;
    char pad[RT_ALIGN - sizeof(void *) - 2 * sizeof(size_t)];
};

struct rt_arena {
    struct chunk *chunk;
    size_t limit;
    size_t used;
    bool over;
};

struct rt_arena *rt_arena_create(size_t limit)
{
    struct rt_arena *a = rt_zalloc(sizeof *a);
    if (a != NULL)
        a->limit = limit;
    return a;
}

void rt_arena_destroy(struct rt_arena *a)
{
    if (a == NULL)
        return;
    for (struct chunk *c = a->chunk, *next; c != NULL; c = next) {
        next = c->next;
        rt_free(c);
    }
    rt_free(a);
}

static struct chunk *chunk_create(struct rt_arena *a, size_t room)
{
    size_t len = room > CHUNK ? room : CHUNK;
    struct chunk *c = rt_zalloc(sizeof *c + len);
    if (c == NULL)
        return NULL;
    c->len = len;
    if (room > CHUNK && a->chunk != NULL) { /* keep cutting from the one that has room left */
        c->next = a->chunk->next;
        a->chunk->next = c;
    } else {
        c->next = a->chunk;
        a->chunk = c;
    }
    return c;
}

void *rt_arena_alloc(struct rt_arena *a, size_t len)
{
    if (len > SIZE_MAX / 4 || (a->limit != 0 && len > a->limit - a->used)) {
        a->over = true;
        return NULL;
    }
    size_t align = len >= RT_ALIGN ? RT_ALIGN : 16;
    struct chunk *c = a->chunk;
    size_t at = c != NULL ? (c->used + align - 1) / align * align : 0;
    if (c == NULL || at > c->len || len > c->len - at) {
        c = chunk_create(a, len);
        if (c == NULL)
            return NULL;
        at = 0;
    }
    c->used = at + len;
    a->used += len;
    return (char *)(c + 1) + at; /* zero, since nothing is cut twice */
}

void *rt_arena_array(struct rt_arena *a, size_t n, size_t size)
{
    size_t len;
    if (!rt_mul_size(n, size, &len)) {
        a->over = true;
        return NULL;
    }
    return rt_arena_alloc(a, len);
}

char *rt_arena_strdup(struct rt_arena *a, const char *s, size_t len)
{
    char *copy = rt_arena_alloc(a, len + 1);
    return copy != NULL ? memcpy(copy, s, len) : NULL;
}

bool rt_arena_over(const struct rt_arena *a)
{
    return a->over;
}

size_t rt_arena_used(const struct rt_arena *a)
{
    return a->used;
}
