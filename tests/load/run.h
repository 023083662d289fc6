/* What one measured load came to: counts and latencies, added up over rounds. */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#include "runtime/rt.h"
#include "tests/load/histogram.h"

#define LD_STATUSES_MAX                                                                            \
    8 /* different ones that one run may see; further ones count as the last                       \
       */

/* The answers of one status. */
struct ld_times {
    int status;
    struct ld_histogram ns;    /* from when the request was meant to begin to its answer's end */
    struct ld_histogram first; /* from when its connection was there to its answer's first byte */
};

/* What came of it. But for answered_in_time all counts are of requests that were meant to begin
 * within the measured time, however late their answers came. */
struct ld_run {
    uint64_t requests;
    uint64_t answered_in_time;    /* with 2xx, within the measured time, whenever they began */
    uint64_t broken;              /* no whole answer: connection or time was lost */
    uint64_t unsent;              /* given up while still waiting for a connection */
    uint64_t wrong;               /* status 200, but not one of the body's answers */
    uint64_t held_up;             /* had to wait for a free connection */
    uint64_t without_retry_after; /* answers of 429 and 503 that do not say when to come again */
    struct ld_histogram late;     /* how much later than meant each request was begun */
    double seconds;               /* the measured time */
    double cpu;                   /* cores that this program itself used meanwhile */
    char why[128];                /* of the first broken one */
    int n_statuses;
    struct ld_times status[LD_STATUSES_MAX];
};

void ld_run_reset(struct ld_run *r);

/* The answers of a status, added when it is new. */
struct ld_times *ld_run_times(struct ld_run *r, int status);

/* Adds what from has counted; times add up, cpu is averaged by time. */
enum rt_status ld_run_merge(struct ld_run *r, const struct ld_run *from, struct rt_error *err);

/* All answers with 2xx. *out begins all zero. */
enum rt_status ld_run_good(const struct ld_run *r, struct ld_histogram *out, struct rt_error *err);
/* Requests that got no answer with 2xx, or a wrong one. */
uint64_t ld_run_failed(const struct ld_run *r);
/* Requests answered with 2xx a second. */
double ld_run_throughput(const struct ld_run *r);

#endif
