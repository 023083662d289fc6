/* Runs one batch: puts the pieces' inputs together, runs the session, copies each job's part of
 * the answer into it. An executor thread owns one; it knows nothing of queues. */
#ifndef SERVER_RUNNER_H
#define SERVER_RUNNER_H

#include <pthread.h>

#include "server/queue.h"

struct sv_runner {
    const struct sv_batcher_ops *ops;
    void *session;
    int team; /* threads of a run, at most what the session was opened for */
    int n_in, n_out, max_batch;
    size_t max_answer;     /* bytes that a job's outputs may have; 0: no bound */
    pthread_mutex_t *lock; /* held while a job that several runners work on gets its memory */
    struct rt_tensor *in, *out;
    void **block;      /* block[0..n_in): max_batch samples of each input, side by side */
    size_t *block_len; /* bytes; 0: none yet */
    void *memory;
};

struct sv_run_times {
    uint64_t input_ns, infer_ns, output_ns;
};

/* Opens a session for a team of so many and makes the memory of batches whose sizes are known. Uses
 * of o: all but queue and stats. On failure *r needs no reset. */
enum rt_status sv_runner_init(struct sv_runner *r, const struct sv_batcher_options *o, int team,
                              pthread_mutex_t *lock, struct rt_error *err);
void sv_runner_reset(struct sv_runner *r);

/* Runs piece[0..n) as one batch of `samples` samples. On RT_OK the pieces' rows of their jobs' out
 * are filled; else nothing of use is. A single piece is run where it lies, without a copy. */
enum rt_status sv_runner_run(struct sv_runner *r, const struct sv_piece *piece, int n, int samples,
                             struct sv_run_times *times, struct rt_error *err);

#endif
