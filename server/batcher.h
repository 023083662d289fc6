/* Turns requests that wait for one model into batches: a bounded queue, and executor threads that
 * own the sessions. Knows rt.h, but neither HTTP nor JSON.
 *
 *   sv_job_create -> sv_job_input ... -> sv_batcher_submit -> (executor) -> job->done
 *
 * An idle executor takes what waits at once, up to the model's largest batch; under load batches
 * grow by themselves. Where the split is elastic, the samples that wait share the cores: one alone
 * has all that are free, and of more samples than cores each core has its part, as cores that need
 * not wait for each other get more done. What takes less time than waking an executor is run by who
 * submits it. Jobs whose types or shapes differ (but for dimension 0) do not share a batch. A job
 * with more samples than a batch may hold is split, and its answer put together. */
#ifndef SERVER_BATCHER_H
#define SERVER_BATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/rt.h"
#include "server/cores.h"
#include "server/metrics.h"

struct sv_batcher;
struct sv_job;

/* One request's inputs and its answer. Belongs to whoever made it, but for the time from
 * sv_batcher_submit() to done, when only sv_job_cancel() may touch it. */
struct sv_job {
    /* Set before submit. */
    struct sv_batcher *batcher; /* by sv_job_create() */
    int n_in;
    struct rt_tensor *in; /* in the model's order. Memory: sv_job_input()'s, or the caller's own,
                             which must then last until done */
    int n;             /* samples: dimension 0 of every input. 1 for a model without batch axis */
    uint64_t arrival;  /* when the request came, sv_now_ns(); by sv_job_create(), may be set back */
    uint64_t deadline; /* a job that still waits then fails with RT_E_TIMEOUT; 0: none. Where the
                          policy says so, submit sets it, or forgets it */
    int priority;      /* 1 is the highest; 0, and what the policy has no level for: its default */
    uint64_t decode_ns;               /* spent on decoding before submit; carried for the log */
    void (*done)(struct sv_job *job); /* called exactly once for an accepted job, on an executor
                                         thread or inside submit: be quick. The job is the
                                         caller's again in it, and may be destroyed; the batcher
                                         must not be */
    void *user;

    /* Valid in done and after. */
    struct rt_error error; /* status RT_OK: out is filled */
    int n_out;
    struct rt_tensor *out; /* in the model's order; memory of the job, n in dimension 0 */
    uint64_t queue_ns;     /* from submit until its first run began */
    uint64_t input_ns;     /* of all runs it took part in: putting the batch together, */
    uint64_t infer_ns;     /* ... running the model, */
    uint64_t output_ns;    /* ... and copying its answer */
    uint64_t finished;     /* sv_now_ns() just before done */
    int batch;             /* samples of the largest run it took part in */

    /* The batcher's own, under its lock. */
    struct {
        struct sv_job *next, *prev; /* in the queue */
        uint64_t submitted;
        int level;   /* the priority that counts */
        int taken;   /* samples handed to executors */
        int running; /* pieces being run now */
        bool queued;
        bool promised;    /* the queue keeps a place for it */
        void **in_memory; /* in_memory[0..n_in): what sv_job_input() made */
        void *out_memory;
    } own;
};

/* A job for this batcher's model, all inputs empty; NULL when out of memory. */
struct sv_job *sv_job_create(struct sv_batcher *b);
void sv_job_destroy(struct sv_job *job); /* takes NULL; not between submit and done */

/* Makes the memory of input i, whose bytes are then to be filled in through job->in[i].data (not
 * cleared). RT_E_INVALID for a shape that has no size, RT_E_NOMEM. A second call for the same
 * input replaces the first. */
enum rt_status sv_job_input(struct sv_job *job, int i, enum rt_dtype dtype,
                            const struct rt_shape *shape, struct rt_error *err);

/* Keeps a place in the queue for a job whose inputs are yet to be worked out, so that this is not
 * done in vain; RT_E_BUSY when there is none. Until submit, or else destroy, gives it up. */
enum rt_status sv_job_promise(struct sv_job *job, struct rt_error *err);

/* What runs a batch. Tests put their own here; others use sv_batcher_rt. */
struct sv_batcher_ops {
    /* As rt_session_create, rt_session_run and rt_session_destroy. open is called by
     * sv_batcher_create(), once for each executor; the others by one thread at a time. A run has
     * `team` threads, at most those that open was told. */
    enum rt_status (*open)(void *model, int team, void **session, struct rt_error *err);
    enum rt_status (*run)(void *session, int team, const struct rt_tensor *in,
                          struct rt_tensor *out, struct rt_error *err);
    void (*close)(void *session);
    /* Called after a run, when its jobs are done: a little of what makes later runs quicker. NULL:
     * there is no such thing. */
    void (*settle)(void *session);
};

extern const struct sv_batcher_ops sv_batcher_rt; /* its model is a struct rt_model * */

/* In which order and how long jobs may wait. All zero: in the order of arrival, as long as they
 * themselves allow. */
struct sv_queue_policy {
    int levels, default_level;   /* 0: no priorities; at most SV_PRIORITIES_MAX */
    uint64_t default_timeout_ns; /* of jobs without a deadline; 0: none */
    bool fixed_timeout;          /* the default counts for all jobs, whatever deadline they have */
    bool delay;           /* at its deadline a job is put behind all others, and does not fail */
    int n_preferred;      /* sizes of batches to be had where possible */
    const int *preferred; /* ascending; must outlive the batcher */
};

#define SV_PRIORITIES_MAX 32

struct sv_batcher_options {
    const struct sv_batcher_ops *ops;
    void *model; /* what ops->open gets; must outlive the batcher */
    int n_in, n_out;
    const struct rt_io *const *in; /* in[0..n_in), read during create only: where sizes are known,
                                      input memory for max_batch samples is made up front */
    int max_batch;     /* samples of a run, 0: the model has no batch axis, one job a run */
    int max_queue;     /* jobs that may wait, >= 1 */
    size_t max_answer; /* bytes that the outputs of one job may have; 0: no bound */
    int at_once;       /* a job of at most so many samples is run inside submit when nothing
                          waits, an executor is idle and its cores are free; 0: none is */
    uint64_t delay_ns; /* how long a job may wait for others to fill its batch; 0: not at all */
    struct sv_queue_policy policy;
    struct sv_core_split split;
    struct sv_cores *cores; /* taken from while a batch runs; NULL: no bound */
    struct sv_stats *stats; /* counted into; must outlive the batcher */
};

/* Opens the sessions and starts the executors. */
enum rt_status sv_batcher_create(const struct sv_batcher_options *options, struct sv_batcher **out,
                                 struct rt_error *err);

/* RT_OK: done will be called, or has been. Otherwise done will not, and the job is still the
 * caller's: RT_E_BUSY when max_queue jobs wait ("Exceeds maximum queue size") or the batcher is
 * stopping, RT_E_TIMEOUT when the deadline has passed. Types and shapes are the caller's to check
 * first. */
enum rt_status sv_batcher_submit(struct sv_job *job, struct rt_error *err);

/* The client went away: a job that still waits is done soon, with RT_E_TIMEOUT and without having
 * been run; of one that was split, what still waits is left out. One that runs, or is done, is not
 * touched. The job must not have been destroyed. Does not call done itself. */
void sv_job_cancel(struct sv_job *job);

/* From here on submit refuses; what was accepted is run. Does not wait. */
void sv_batcher_stop(struct sv_batcher *b);
/* The same, but what still waits fails with RT_E_BUSY instead of being run. */
void sv_batcher_abort(struct sv_batcher *b);
/* Stops, waits until all accepted jobs are done, frees. Takes NULL. Not from done. */
void sv_batcher_destroy(struct sv_batcher *b);

/* RT_E_BUSY when a job that came now would be refused, as it then is: it counts. */
enum rt_status sv_batcher_admit(struct sv_batcher *b, uint64_t arrival, struct rt_error *err);

/* Counts a request that failed before its job could be submitted: it was not understood. */
void sv_batcher_count_failed(struct sv_batcher *b, uint64_t arrival);

int sv_batcher_waiting(struct sv_batcher *b); /* jobs in the queue now */
struct sv_core_split sv_batcher_split(const struct sv_batcher *b);

#endif
