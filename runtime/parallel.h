/* Threads: one team runs a whole plan together, each step on all workers at once, with a barrier
 * between steps. The only file with OpenMP in it is parallel.c. */
#ifndef RUNTIME_PARALLEL_H
#define RUNTIME_PARALLEL_H

#include <stdbool.h>
#include <stdint.h>

/* One thread's place in the team. A team of one needs no barriers and has none. */
struct rt_worker {
    int id; /* 0 .. count - 1 */
    int count;
    struct rt_barrier *barrier; /* NULL when count is 1 */
};

/* Calls fn(ctx, worker) on threads workers at once and returns when all have returned. fn must
 * reach the same barriers on every worker. */
void rt_parallel(int threads, void (*fn)(void *ctx, const struct rt_worker *w), void *ctx);

/* Waits until every worker of the team has come here; what they wrote before can be read after.
 * Spins for a bounded, short time, then sleeps. */
void rt_worker_barrier(const struct rt_worker *w);

/* This worker's share of items 0..n-1, as *begin..*end-1: contiguous, in order, sizes that differ
 * by at most one times grain. Items within a run of grain stay together. */
void rt_worker_share(const struct rt_worker *w, int64_t n, int64_t grain, int64_t *begin,
                     int64_t *end);

/* Takes some of items 0..n-1 that no worker has taken since the team's last barrier, as
 * *begin..*end-1: in order, in runs of a multiple of grain that grow shorter towards the end, so
 * that a worker that was held up is not waited for long. *begin and *end are 0 before a worker's
 * first call. False: there are none left. One loop of claims at a time between two barriers. */
bool rt_worker_claim(const struct rt_worker *w, int64_t n, int64_t grain, int64_t *begin,
                     int64_t *end);

#endif
