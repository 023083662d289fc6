/* The allocator: aligned blocks with their length in front, counted, and failing when told to.
 * They are cut out of malloc()'s, whose caches of small blocks aligned_alloc() would pass by. */
#include "runtime/mem.h"

#include "runtime/clock.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Directly in front of each block. */
struct header {
    size_t len;
    void *whole; /* what malloc() gave; NULL: the block is a mapping of its own */
};

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* A large page. Checkers of memory see nothing of mappings: with them everything is malloc()'s. */
#define PAGE ((size_t)2 << 20)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(RT_COMPACT)
#define MAPS false
#else
#define MAPS true
#endif

/* At the start of a mapping, in front of its block's header. */
struct mapping {
    atomic_size_t settled; /* bytes from here that rt_settle() has gone over */
    size_t made;           /* bytes from here whose pages were asked for before they were written */
};
static_assert(sizeof(struct mapping) + sizeof(struct header) <= RT_ALIGN, "room before a block");

static atomic_long fail_after = -1;
static atomic_long live;
static atomic_size_t bytes_live;
static atomic_size_t bytes_peak;

long rt_mem_fail(long after)
{
    return atomic_exchange(&fail_after, after);
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
    if (!zero)
        rt_mem_forget(block, len);
    return block;
}

#if RT_WATCHED
/* Libraries write what they allocate unseen; what is followed is our own memory. */
const char *__msan_default_options(void)
{
    return "poison_in_malloc=0:poison_in_free=0";
}
#endif

void *rt_alloc(size_t len)
{
    return alloc(len, false);
}

/* Large blocks come zeroed from the system, which makes their pages when they are first written. */
void *rt_zalloc(size_t len)
{
    return alloc(len, true);
}

/* Bytes of the mapping that a block of len lies in, its header's line included. */
static size_t mapping_len(size_t len)
{
    return (len + RT_ALIGN + PAGE - 1) / PAGE * PAGE;
}

static bool is_mapped(const void *block)
{
    return ((const struct header *)block - 1)->whole == NULL;
}

static struct mapping *mapping_of(void *block)
{
    return (void *)((char *)block - RT_ALIGN);
}

/* Whether the system can make a large page of small ones that are in use. */
static bool collapses(void)
{
    static atomic_int known; /* 0: not yet, -1: it cannot */
    int k = atomic_load_explicit(&known, memory_order_relaxed);
    if (k == 0) {
        k = madvise(NULL, 0, MADV_COLLAPSE) == 0 ? 1 : -1;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k > 0;
}

/* A large page is cleared in a fifth of this. Longer takes one that the system has to put together
 * first, or a virtual machine to ask its host for: that happens page after page then, and small
 * ones are at hand still. */
#define SLOW 1e-3 /* seconds */
/* Large pages are not asked for again before that many times as long as a slow one took. */
#define PATIENCE 10

/* Makes the pages of a mapping from `at`, where one begins, as far as `end`: large ones while those
 * come quickly, or always, if it is now or never. Small ones are left for who writes to them. How
 * far it came. Nobody may have looked at them before, which makes small ones, too. */
static size_t make_pages(char *mapping, size_t at, size_t end)
{
    static _Atomic double small_until;
    for (; at < end; at += PAGE) {
        const double start = rt_now();
        if (collapses() && start < atomic_load_explicit(&small_until, memory_order_relaxed))
            continue;
        madvise(mapping + at, PAGE, MADV_HUGEPAGE); /* without it they are small ones */
        ((volatile char *)mapping)[at] = 0;
        const double took = rt_now() - start;
        if (took > SLOW)
            atomic_store_explicit(&small_until, start + (1 + PATIENCE) * took,
                                  memory_order_relaxed);
    }
    return at;
}

void *rt_zalloc_lasting(size_t len)
{
    if (!MAPS || len < PAGE / 2 || len > SIZE_MAX / 2)
        return rt_zalloc(len);
    if (told_to_fail())
        return NULL;
    /* One page more than needed, so that the part that is kept begins where a page does. */
    const size_t room = mapping_len(len) + PAGE;
    char *all = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    const size_t before = (PAGE - (uintptr_t)all % PAGE) % PAGE, behind = PAGE - before;
    char *kept = all + before;
    if (before > 0)
        munmap(all, before);
    munmap(kept + mapping_len(len), behind);
    char *block = kept + RT_ALIGN;
    const size_t made = make_pages(kept, 0, PAGE); /* before the next line writes to it */
    mapping_of(block)->made = made;
    *((struct header *)(void *)block - 1) = (struct header){ len, NULL };
    count_in(len);
    return block;
}

void rt_make_pages(void *block, size_t used)
{
    if (!is_mapped(block))
        return;
    struct mapping *m = mapping_of(block);
    m->made = make_pages((char *)m, m->made, RT_ALIGN + used);
}

bool rt_settle(void *block, size_t used)
{
    if (!is_mapped(block) || !collapses())
        return false;
    struct mapping *m = mapping_of(block);
    /* A last page that is more than half empty is not worth the memory. */
    const size_t end = (RT_ALIGN + used + PAGE / 2) / PAGE * PAGE;
    if (atomic_load_explicit(&m->settled, memory_order_relaxed) >= end)
        return false;
    const size_t at = atomic_fetch_add_explicit(&m->settled, PAGE, memory_order_relaxed);
    if (at >= end)
        return false;
    if (at == 0) /* where there is no large page to be had now, the system looks for one later */
        madvise(m, mapping_len(((struct header *)block - 1)->len), MADV_HUGEPAGE);
    madvise((char *)m + at, PAGE, MADV_COLLAPSE);
    return true;
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
    const bool mapped = is_mapped(p);
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&bytes_live, h->len, memory_order_relaxed);
    if (mapped)
        munmap(mapping_of(p), mapping_len(h->len));
    else
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

/* Pieces are cut from chunks, which grow with what an arena holds: large ones, so that their pages
 * can be. What is not cut from one is never written, and takes no memory but for its last page. */
#define CHUNK ((size_t)64 * 1024)
#define LARGE_CHUNK ((size_t)32 << 20)

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
    size_t len = a->used / 2 < LARGE_CHUNK ? a->used / 2 : LARGE_CHUNK;
    len = len < CHUNK ? CHUNK : len;
    if (a->limit != 0 && len > a->limit - a->used)
        len = a->limit - a->used;
    len = room > len ? room : len;
    struct chunk *c = rt_zalloc_lasting(sizeof *c + len);
    if (c == NULL)
        return NULL;
    if (is_mapped(c)) /* the rest of its last page, too */
        len = mapping_len(sizeof *c + len) - RT_ALIGN - sizeof *c;
    c->len = len;
    if (a->chunk != NULL && a->chunk->len - a->chunk->used >
                                len - room) { /* keep cutting from the one that has room left */
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
    if (told_to_fail())
        return NULL;
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
    rt_make_pages(c, sizeof *c + c->used);
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

bool rt_arena_settle(struct rt_arena *a)
{
    for (struct chunk *c = a->chunk; c != NULL; c = c->next)
        if (rt_settle(c, sizeof *c + c->used))
            return true;
    return false;
}

size_t rt_arena_used(const struct rt_arena *a)
{
    return a->used;
}
