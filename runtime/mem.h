/* Memory: one allocator for the whole program, checked sizes, the arena that compiling uses, and
 * the hook through which tests make the n-th allocation fail. Thread-safe, but for an arena. */
#ifndef RUNTIME_MEM_H
#define RUNTIME_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether this is built for MemorySanitizer (make MODE=msan): reading what nobody has written ends
 * the process. */
#define RT_WATCHED 0
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#undef RT_WATCHED
#define RT_WATCHED 1
#endif
#endif

#pragma GCC visibility push(default)

/* Vectors of every level, a cache line. */
#define RT_ALIGN 64

/* len bytes aligned to RT_ALIGN, not cleared (rt_zalloc: cleared); NULL when there are none.
 * A length of 0 gives a valid pointer. Ended by rt_free(), which takes NULL. */
void *rt_alloc(size_t len) __attribute__((malloc, warn_unused_result));
void *rt_zalloc(size_t len) __attribute__((malloc, warn_unused_result));
/* Cleared memory that is large and stays: whole pages from the system, which are made when they are
 * first written and go back to it when freed. */
void *rt_zalloc_lasting(size_t len) __attribute__((malloc, warn_unused_result));
/* Has large pages made for such a block's first `used` bytes, which are quicker to read, as long as
 * the system has them at hand: before they are written, by one thread at a time. */
void rt_make_pages(void *block, size_t used);
/* Moves the next 2 MiB of the first `used` bytes to a large page, if they lie in small ones; false:
 * there is nothing left to do, or the system cannot. On any thread, while others use the block.
 * Takes about half a millisecond, or as long as such a page takes to be had. */
bool rt_settle(void *block, size_t used);
/* n elements of size each; NULL also when the product overflows. */
void *rt_alloc_array(size_t n, size_t size) __attribute__((malloc, warn_unused_result));
void *rt_zalloc_array(size_t n, size_t size) __attribute__((malloc, warn_unused_result));
/* Grows (or shrinks) a block made here; p may be NULL. On failure p is left as it was. */
void *rt_realloc_array(void *p, size_t n, size_t size) __attribute__((warn_unused_result));
char *rt_strdup(const char *s) __attribute__((malloc, warn_unused_result));
void rt_free(void *p);

/* For MemorySanitizer, which sees only what it was compiled into, and nothing in other builds: len
 * bytes at p were written, by a library. */
static inline void rt_mem_written(const void *p, size_t len)
{
#if RT_WATCHED
    __msan_unpoison(p, len);
#else
    (void)p;
    (void)len;
#endif
}

/* The same: what lies there means nothing any more and has to be written before it is read. */
static inline void rt_mem_forget(void *p, size_t len)
{
#if RT_WATCHED
    __msan_poison(p, len);
#else
    (void)p;
    (void)len;
#endif
}

/* *out = a * b or a + b; false on overflow, with *out untouched. */
bool rt_mul_size(size_t a, size_t b, size_t *out);
bool rt_add_size(size_t a, size_t b, size_t *out);
bool rt_mul_i64(int64_t a, int64_t b, int64_t *out);
bool rt_add_i64(int64_t a, int64_t b, int64_t *out);
/* len rounded up to a multiple of RT_ALIGN. len is at most SIZE_MAX / 2. */
size_t rt_align_up(size_t len);

/* Blocks that live and die together: pieces are never freed one by one. One thread at a time. */
struct rt_arena;
/* limit: bytes that may be handed out in all, 0 for no limit. NULL when out of memory. */
struct rt_arena *rt_arena_create(size_t limit);
void rt_arena_destroy(struct rt_arena *a); /* takes NULL */
/* len bytes, cleared, aligned to RT_ALIGN when len >= RT_ALIGN, else to 16. NULL: out of memory or
 * over the limit (rt_arena_over() then says which). */
void *rt_arena_alloc(struct rt_arena *a, size_t len) __attribute__((warn_unused_result));
void *rt_arena_array(struct rt_arena *a, size_t n, size_t size) __attribute__((warn_unused_result));
char *rt_arena_strdup(struct rt_arena *a, const char *s, size_t len)
    __attribute__((warn_unused_result));
/* As rt_settle(), for all that lies in the arena, from which nothing may be cut meanwhile. */
bool rt_arena_settle(struct rt_arena *a);
bool rt_arena_over(const struct rt_arena *a);
size_t rt_arena_used(const struct rt_arena *a);

/* For tests. rt_mem_fail(n) lets n allocations through, pieces of arenas among them, and fails the
 * next one, once; -1 (the start) never fails. It returns how many the call before would still have
 * let through, -1 when its one has failed. rt_mem_live() counts blocks that are allocated and not yet
 * freed. */
long rt_mem_fail(long after);
long rt_mem_live(void);
/* Bytes held by the blocks alive now, and the most there have been since the last reset. */
size_t rt_mem_bytes(void);
size_t rt_mem_peak(void);
void rt_mem_peak_reset(void);

#pragma GCC visibility pop

#endif
