/* The order in which jobs leave a batcher: which samples make the next batch, and when. Has no
 * lock, no thread and no clock of its own, so that it can be tested by itself. */
#ifndef SERVER_QUEUE_H
#define SERVER_QUEUE_H

#include "server/batcher.h"

#include <stdatomic.h>

/* The levels of jobs, and one behind them for those that came too late. */
#define SV_QUEUE_LEVELS (SV_PRIORITIES_MAX + 2)

/* max_batch 0: one job a batch, however many samples it holds. Jobs wait in the order of their
 * levels (own.level, the lowest first), and in a level in the order of arrival; one that is split
 * into many batches lets the others pass after every few. */
struct sv_queue {
    int max_jobs, max_batch;
    uint64_t delay_ns;
    int n_preferred; /* sizes of batches to be had where possible, ascending; 0: none */
    const int *preferred;
    struct sv_job *head;                  /* by own.next */
    struct sv_job *last[SV_QUEUE_LEVELS]; /* of each level; NULL: none is there */
    int n_deadlines;
    /* Written like the rest by one thread at a time; sv_queue_is_full() may read them meanwhile. */
    atomic_int n_jobs;
    atomic_int n_promised; /* places kept for jobs that are yet to come */
};

/* samples job->in[..][from .. from + n) */
struct sv_piece {
    struct sv_job *job;
    int from, n;
};

/* Whether all places are taken or promised. By any thread, at any time. */
bool sv_queue_is_full(const struct sv_queue *q);
/* Puts job behind the others of its level; false when the queue is full and the job has not been
 * promised a place (own.promised, which is taken back). */
bool sv_queue_push(struct sv_queue *q, struct sv_job *job, uint64_t now);
bool sv_queue_promise(struct sv_queue *q, struct sv_job *job);   /* false: it is full */
void sv_queue_take_back(struct sv_queue *q, struct sv_job *job); /* a promise, if there is one */
void sv_queue_remove(struct sv_queue *q, struct sv_job *job);

/* Takes away the job's deadline and puts it behind all others: it is run when nothing else is. */
void sv_queue_postpone(struct sv_queue *q, struct sv_job *job);

/* The first job whose deadline has passed and that has not been begun; NULL: none. It stays. */
struct sv_job *sv_queue_expired(struct sv_queue *q, uint64_t now);

/* Whether a batch should be taken now. If not, *wake is when to ask again, or 0: when there is
 * something new. hurry: nothing new will come, so there is nothing to wait for. */
bool sv_queue_due(const struct sv_queue *q, uint64_t now, bool hurry, uint64_t *wake);

/* Samples of the first job's kind that wait, counted up to `enough`. */
int sv_queue_samples(const struct sv_queue *q, int enough);

/* Takes the next batch into piece[0..max(max_batch, 1)), and returns the number of pieces, 0 when
 * the queue is empty. The first job is always in it; jobs of its kind follow in their order until
 * one does not fit, or the batch has `share` samples. A batch that cannot be full has the largest
 * preferred size there are samples for. Counts up own.running of each piece's job; jobs taken whole
 * leave the queue. */
int sv_queue_take(struct sv_queue *q, uint64_t now, int share, struct sv_piece *piece);

#endif
