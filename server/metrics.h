/* Counters of a model: added to by whoever did the work, read at any time without stopping it. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "runtime/rt.h"

/* How often, and how long in all. Both only grow. */
struct sv_counter {
    _Atomic uint64_t count;
    _Atomic uint64_t ns;
};

/* How many durations were at most so long, bucket by bucket, and all of them together. */
#define SV_BUCKETS 15
extern const uint64_t sv_bucket_ns[SV_BUCKETS]; /* upper bounds, ascending */
struct sv_histogram {
    _Atomic uint64_t bucket[SV_BUCKETS + 1]; /* each one's own; the last is for what is above all */
    _Atomic uint64_t ns;
};
void sv_observe(struct sv_histogram *h, uint64_t ns);

/* Executions of one batch size. */
struct sv_batch_stats {
    struct sv_counter compute_input, compute_infer, compute_output;
};

/* Since the model was loaded. The members up to batch are those of the statistics extension; the
 * sums of success, queue and compute_* are over requests, so that their counts are equal. */
struct sv_stats {
    _Atomic uint64_t last_inference_ms; /* Unix time; 0: never */
    _Atomic uint64_t inference_count;   /* samples */
    _Atomic uint64_t execution_count;   /* runs of the model */
    struct sv_counter success;          /* from arrival to answer */
    struct sv_counter fail;             /* likewise; refused requests are among them */
    struct sv_counter queue, compute_input, compute_infer, compute_output;
    int max_batch;                /* batch[0..max_batch) */
    struct sv_batch_stats *batch; /* batch[n - 1]: runs of n samples */
    /* Of requests that were answered: from arrival to answer, waiting, running the model, and
     * decoding (of the requests that had something to decode). */
    struct sv_histogram request_time, queue_time, compute_time, decode_time;
    _Atomic uint64_t rejected;    /* requests refused because the queue was full */
    _Atomic uint64_t timed_out;   /* requests whose deadline passed while they waited */
    _Atomic uint64_t cancelled;   /* requests whose client went away while they waited */
};

/* Of the server as a whole. */
#define SV_STATUS_MAX 600
struct sv_server_stats {
    _Atomic uint64_t answers[SV_STATUS_MAX]; /* by HTTP status; 499: the client did not wait */
    _Atomic uint64_t received, sent;         /* bytes of bodies */
};

/* For batches of 1..max_batch samples, max_batch >= 1. */
enum rt_status sv_stats_init(struct sv_stats *s, int max_batch, struct rt_error *err);
/* Everything back to zero. Nobody else may use it meanwhile. */
void sv_stats_clear(struct sv_stats *s);
void sv_stats_reset(struct sv_stats *s); /* frees; takes one that is all zero */

static inline uint64_t sv_read(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static inline void sv_add(_Atomic uint64_t *value, uint64_t n)
{
    atomic_fetch_add_explicit(value, n, memory_order_relaxed);
}

static inline void sv_count(struct sv_counter *c, uint64_t ns)
{
    sv_add(&c->count, 1);
    sv_add(&c->ns, ns);
}

#endif
