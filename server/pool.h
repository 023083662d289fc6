/* A bounded queue of tasks: decoding, mostly, so that the threads which serve sockets never
 * compute. Each task waits in line for a core. One that becomes free wakes a thread of the pool;
 * who is through with a core of its own (cores.h) runs the task that is first in line itself,
 * unless that is a long one. */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/rt.h"
#include "server/cores.h"

struct sv_pool;

/* So many bytes to be read or written make a task a long one. */
#define SV_TASK_LONG ((size_t)1 << 20)

/* Lies inside the caller's own struct. It is the pool's from submit until run is called, which
 * happens exactly once, on a thread of the pool or of an executor; run may free it, but must not
 * end a model. */
struct sv_task {
    void (*run)(struct sv_task *task);
    bool is_long; /* only the pool's own threads run it: what waits for an executor need not wait
                   * for that, when another core is free meanwhile */
    /* The pool's. */
    struct sv_pool *pool;
    struct sv_task *next;
    struct sv_turn turn;
};

/* max_waiting: tasks that may wait while all threads are busy. Both are at least 1. cores: of which
 * each task takes one while it runs, so that it has its turn among the executors; as many threads
 * as there are cores, then, or more. NULL: of none. Must outlive the pool. */
enum rt_status sv_pool_create(int threads, int max_waiting, struct sv_cores *cores,
                              struct sv_pool **out, struct rt_error *err);
/* Runs what was accepted, then ends the threads. Takes NULL. Not from a task. */
void sv_pool_destroy(struct sv_pool *p);

/* First come, first served. RT_E_BUSY when max_waiting tasks wait already, or the pool is being
 * destroyed; the task is then still the caller's. */
enum rt_status sv_pool_submit(struct sv_pool *p, struct sv_task *task, struct rt_error *err);

#endif
