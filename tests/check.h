/* The harness of the check_* programs: counting, arrays that end where reading faults, and a word
 * on which call was running when one does. A program includes this once. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include "runtime/kernels/kernels.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static long passed, failed;
static char running[256]; /* what the fault handler names */

/* Names the calls that follow, in a form that can be repeated. */
__attribute__((format(printf, 1, 2))) static void begin(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(running, sizeof running, fmt, ap);
    va_end(ap);
}

__attribute__((format(printf, 2, 3))) static void check(int ok, const char *fmt, ...)
{
    if (ok) {
        passed++;
        return;
    }
    if (failed++ >= 40)
        return;
    va_list ap;
    va_start(ap, fmt);
    printf("FAILED %s: ", running);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    if (getenv("CHECK_STOP") != NULL) /* one failure is all that tests/mutants.py asks for */
        exit(1);
}

#define CHECK(cond, ...) check(cond, __VA_ARGS__)

static void on_fault(int sig)
{
    static const char text[] = "a fault (signal) in: ";
    ssize_t unused = write(1, text, sizeof text - 1);
    unused = write(1, running, strlen(running));
    unused = write(1, "\n", 1);
    (void)unused;
    _exit(128 + sig);
}

static inline void check_start(void)
{
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    signal(SIGILL, on_fault);
    signal(SIGFPE, on_fault);
}

static inline int check_end(void)
{
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed > 0;
}

/* n floats whose end is the end of what may be touched. */
struct guarded {
    float *at;
    void *map;
    size_t len;
};

static struct guarded guarded_floats(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = n * sizeof(float);
    size_t whole = (bytes + page - 1) / page * page;
    struct guarded g = { .len = whole + page };
    g.map = mmap(NULL, g.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED || mprotect((char *)g.map + whole, page, PROT_NONE) != 0) {
        perror("mmap");
        exit(2);
    }
    g.at = (float *)(void *)((char *)g.map + whole - bytes);
    return g;
}

static void guarded_free(struct guarded *g)
{
    munmap(g->map, g->len);
}

/* The same numbers on every run: -1 .. 1. */
static uint32_t seed = 1;

static inline float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
}

static inline void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = noise();
}

static inline struct guarded guarded_noise(size_t n)
{
    struct guarded g = guarded_floats(n);
    fill(g.at, n);
    return g;
}

/* Processor time of this thread: a busy machine disturbs it least. */
static inline double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
