/* A run that counts instead of computing: every step goes through the code that shares it out, with
 * kernels that add up how much they would do. So any number of workers can be looked at on any
 * machine, and what is found is the very split that a run makes.
 *
 * Workers take turns: the one that has done least goes on to its next claim, barrier or end, as if
 * all were equally fast and each had a core. */
#ifndef RUNTIME_REHEARSAL_H
#define RUNTIME_REHEARSAL_H

#include "runtime/parallel.h"
#include "runtime/status.h"

struct rt_rehearsal;

/* What a rehearsal found, in multiply-adds of vectors. */
struct rt_rehearsed {
    double work;   /* of all workers */
    double length; /* of the longest way through: what no number of cores can beat */
    int barriers;  /* that a worker comes to */
};

/* Calls fn(ctx, worker) for `workers` workers. work[layers][workers] (cleared by the caller) becomes
 * what each has done of each layer. One at a time, and no run at the same time: while it lasts the
 * kernels are those that count. RT_E_NOMEM, RT_E_BUSY when there is no thread. */
enum rt_status rt_rehearse(int workers, void (*fn)(void *ctx, const struct rt_worker *w), void *ctx,
                           double *work, struct rt_rehearsed *out, struct rt_error *err);

/* Called by a worker that has a rehearsal: before it claims, at a barrier, and as it comes to a
 * layer. */
void rt_rehearsal_turn(const struct rt_worker *w);
void rt_rehearsal_barrier(const struct rt_worker *w);
void rt_rehearsal_layer(const struct rt_worker *w, int layer);

#endif
