/* Threads: one team runs a whole plan together, each step on all workers at once, with a barrier
 * between steps. The only file with OpenMP in it is parallel.c. */
#ifndef RUNTIME_PARALLEL_H
#define RUNTIME_PARALLEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Items that are claimed lie in at most so many ranges. */
#define RT_CLAIM_RANGES 16

/* Where workers wait for each other. Cleared, it is ready; only parallel.c looks inside. On a cache
 * line of its own, since many threads watch it. */
struct rt_barrier {
    _Alignas(64) atomic_int arrived;
    atomic_uint round; /* the futex: moves on when all have arrived */
    atomic_int asleep;
    _Alignas(64) atomic_llong claimed[RT_CLAIM_RANGES]; /* items of a range, since the last round */
};

/* One thread's place in the team. A team of one needs no barriers and has none. */
struct rt_worker {
    int id; /* 0 .. count - 1 */
    int count;
    struct rt_barrier *barrier;     /* NULL when count is 1 */
    struct rt_rehearsal *rehearsal; /* NULL: this is a run; see rehearsal.h */
    int number;                     /* in the rehearsal, whatever team this is a place in */
};

/* Calls fn(ctx, worker) on threads workers at once and returns when all have returned. fn must
 * reach the same barriers on every worker. */
void rt_parallel(int threads, void (*fn)(void *ctx, const struct rt_worker *w), void *ctx);

/* Writes to each page of len bytes at p, which are zeros, by threads workers: the first run then
 * finds its memory made, near the cores that use it, and its team awake. */
void rt_parallel_touch(int threads, void *p, size_t len);

/* Waits until every worker of the team has come here; what they wrote before can be read after.
 * Spins for a bounded, short time, then sleeps. */
void rt_worker_barrier(const struct rt_worker *w);

/* This worker's share of items 0..n-1, as *begin..*end-1: contiguous, in order, sizes that differ
 * by at most one times grain. Items within a run of grain stay together. */
void rt_worker_share(const struct rt_worker *w, int64_t n, int64_t grain, int64_t *begin,
                     int64_t *end);

/* Takes some of items 0..n-1 that no worker has taken since the team's last barrier, as
 * *begin..*end-1, in runs of a multiple of grain that grow shorter towards the end, so that a
 * worker that was held up is not waited for long. A worker begins with what rt_worker_share() would
 * give it, which is likely to need what it made in the step before, and goes on with what others
 * have left. *begin and *end are 0 before a worker's first call. False: there are none left. One
 * loop of claims at a time between two barriers. */
bool rt_worker_claim(const struct rt_worker *w, int64_t n, int64_t grain, int64_t *begin,
                     int64_t *end);

/* Nothing is claimed any more: what the last worker to come to a barrier does. */
void rt_claims_reset(struct rt_barrier *b, int workers);

/* Into how many groups a team of so many workers is best cut for n pieces of equal work that a
 * group does one at a time: 1..most. Groups wait for their slowest, teams for each other's shares.
 */
int rt_parallel_groups(int workers, int64_t n, int most);

/* This worker's place in its group when the team is cut into groups (1..count) of equal size, which
 * may leave some workers over; each group is a team to rt_worker_ functions. barrier[groups] have
 * to be cleared before the team starts. Returns the group, or -1 for a worker that is left over. */
int rt_worker_group(const struct rt_worker *w, int groups, struct rt_barrier *barrier,
                    struct rt_worker *out);

#endif
