/* The team of threads, on OpenMP; without it (the thread sanitizer does not know libgomp) a team
 * has one worker. */
#include "runtime/parallel.h"

#include "runtime/rehearsal.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* About 20 microseconds: longer than the spread within a step, far shorter than a time slice. */
#define SPINS 2000

static void futex(atomic_uint *word, int op, unsigned value)
{
    syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void rt_worker_barrier(const struct rt_worker *w)
{
    if (w->count == 1)
        return;
    if (w->rehearsal != NULL) {
        rt_rehearsal_barrier(w);
        return;
    }
    struct rt_barrier *b = w->barrier;
    unsigned round = atomic_load(&b->round);
    if (atomic_fetch_add(&b->arrived, 1) + 1 == w->count) {
        atomic_store(&b->arrived, 0);
        rt_claims_reset(b, w->count);
        atomic_fetch_add(&b->round, 1);
        if (atomic_load(&b->asleep) > 0)
            futex(&b->round, FUTEX_WAKE, INT_MAX);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&b->round, memory_order_acquire) != round)
            return;
        pause_cpu();
    }
    atomic_fetch_add(&b->asleep, 1);
    while (atomic_load(&b->round) == round)
        futex(&b->round, FUTEX_WAIT, round);
    atomic_fetch_sub(&b->asleep, 1);
}

void rt_worker_share(const struct rt_worker *w, int64_t n, int64_t grain, int64_t *begin,
                     int64_t *end)
{
    int64_t grains = (n + grain - 1) / grain;
    int64_t each = grains / w->count, more = grains % w->count;
    int64_t first = w->id * each + (w->id < more ? w->id : more);
    int64_t last = first + each + (w->id < more ? 1 : 0);
    *begin = first * grain < n ? first * grain : n;
    *end = last * grain < n ? last * grain : n;
}

static int claim_ranges(int workers)
{
    return workers < RT_CLAIM_RANGES ? workers : RT_CLAIM_RANGES;
}

void rt_claims_reset(struct rt_barrier *b, int workers)
{
    for (int i = 0; i < claim_ranges(workers); i++)
        atomic_store_explicit(&b->claimed[i], 0, memory_order_relaxed);
}

/* Some of a range's n grains, of which *claimed are taken: half of what is left, shared by the
 * workers that may come for it. */
static bool claim_from(atomic_llong *claimed, int64_t n, int workers, int64_t *from, int64_t *to)
{
    long long at = atomic_load_explicit(claimed, memory_order_relaxed), next;
    do {
        if (at >= n)
            return false;
        const int64_t some = (n - at) / (2 * workers);
        next = at + (some > 1 ? some : 1);
    } while (!atomic_compare_exchange_weak(claimed, &at, next));
    *from = at;
    *to = next;
    return true;
}

bool rt_worker_claim(const struct rt_worker *w, int64_t n, int64_t grain, int64_t *begin,
                     int64_t *end)
{
    if (w->count == 1) {
        *begin = *end;
        *end = n;
        return *begin < n;
    }
    if (w->rehearsal != NULL)
        rt_rehearsal_turn(w);
    const int64_t grains = (n + grain - 1) / grain;
    const int ranges = claim_ranges(w->count), home = w->id * ranges / w->count;
    for (int i = 0; i < ranges; i++) {
        const int range = (home + i) % ranges;
        const int64_t first = grains * range / ranges, past = grains * (range + 1) / ranges;
        int64_t from, to;
        const int workers = i == 0 ? w->count / ranges : w->count;
        if (claim_from(&w->barrier->claimed[range], past - first, workers, &from, &to)) {
            *begin = (first + from) * grain;
            *end = (first + to) * grain < n ? (first + to) * grain : n;
            return true;
        }
    }
    return false;
}

/* What a further worker adds to the time that each of them takes for its part of a piece. */
#define COST_OF_SHARING 0.06

int rt_parallel_groups(int workers, int64_t n, int most)
{
    int best = 1;
    double least = 0;
    for (int groups = 1; groups <= workers && groups <= most && groups <= n; groups++) {
        const int size = workers / groups;
        const int64_t rounds = (n + groups - 1) / groups;
        const double cost = (double)rounds / size * (1 + COST_OF_SHARING * (size - 1));
        if (groups == 1 || cost < least) {
            least = cost;
            best = groups;
        }
    }
    return best;
}

int rt_worker_group(const struct rt_worker *w, int groups, struct rt_barrier *barrier,
                    struct rt_worker *out)
{
    const int size = w->count / groups, group = w->id / size;
    if (group >= groups)
        return -1;
    *out = *w;
    out->id = w->id % size;
    out->count = size;
    out->barrier = &barrier[group];
    return group;
}

void rt_parallel(int threads, void (*fn)(void *ctx, const struct rt_worker *w), void *ctx)
{
    if (threads <= 1) {
        fn(ctx, &(struct rt_worker){ .id = 0, .count = 1 });
        return;
    }
#ifdef _OPENMP
    struct rt_barrier barrier = { 0 };
#pragma omp parallel num_threads(threads)
    {
        struct rt_worker w = { .id = omp_get_thread_num(),
                               .count = omp_get_num_threads(),
                               .barrier = &barrier };
        fn(ctx, &w);
    }
#else
    fn(ctx, &(struct rt_worker){ .id = 0, .count = 1 });
#endif
}

struct memory {
    char *p;
    size_t len;
};

static void touch(void *ctx, const struct rt_worker *w)
{
    const struct memory *m = ctx;
    const int64_t page = sysconf(_SC_PAGESIZE);
    int64_t begin, end;
    rt_worker_share(w, (int64_t)m->len, page, &begin, &end);
    for (; begin < end; begin += page)
        ((volatile char *)m->p)[begin] = 0;
}

void rt_parallel_touch(int threads, void *p, size_t len)
{
    rt_parallel(threads, touch, &(struct memory){ p, len });
}
