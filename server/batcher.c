/* Jobs, the executor threads, and what becomes of a job between submit and done. */
#include "server/batcher.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "server/clock.h"
#include "server/give_way.h"
#include "server/queue.h"
#include "server/runner.h"

struct executor {
    struct sv_batcher *batcher;
    struct sv_runner runner;
    struct sv_piece *piece; /* the batch at hand: room for the largest */
    int team;               /* the largest of its runs */
    bool busy;              /* the runner is at work, or lent to a submit; under the lock */
    bool asleep;            /* until it is roused; under the lock */
    bool has_core;          /* one core is its own between two runs; its thread's */
    _Atomic uint64_t until; /* while it runs others' tasks: whoever has a higher number in the line
                             * for cores came after what waits here; SV_TURN_NEVER: nothing does */
    pthread_cond_t wake;    /* on CLOCK_MONOTONIC */
    pthread_t thread;
};

/* The executor whose thread runs a task of others; NULL on all other threads. */
static _Thread_local struct executor *helping;

struct sv_batcher {
    int n_in, n_out, max_batch, at_once;
    struct sv_core_split split;
    struct sv_cores *cores;
    struct sv_stats *stats;

    pthread_mutex_t lock;
    struct sv_queue queue;
    struct sv_queue_policy policy;
    struct sv_job *dropped; /* by own.next: failed without having been run, done not yet called */
    bool stopping;
    int coming; /* executors that wait for a core to take a batch with; under the lock */

    int n_executors; /* with a runner */
    int n_threads;   /* with a thread */
    struct executor executor[];
};

static enum rt_status rt_open(void *model, int team, void **session, struct rt_error *err)
{
    struct rt_session *opened;
    enum rt_status s = rt_session_create(model, team, &opened, err);
    if (s == RT_OK)
        *session = opened;
    return s;
}

static enum rt_status rt_run(void *session, int team, const struct rt_tensor *in,
                             struct rt_tensor *out, struct rt_error *err)
{
    rt_session_set_team(session, team);
    return rt_session_run(session, in, out, err);
}

static void rt_close(void *session)
{
    rt_session_destroy(session);
}

static void rt_settle_some(void *session)
{
    rt_session_settle(session);
}

const struct sv_batcher_ops sv_batcher_rt = {
    .open = rt_open,
    .run = rt_run,
    .close = rt_close,
    .settle = rt_settle_some,
};

struct sv_job *sv_job_create(struct sv_batcher *b)
{
    size_t n_in = (size_t)b->n_in, n_out = (size_t)b->n_out;
    struct sv_job *job =
        rt_zalloc(sizeof *job + (n_in + n_out) * sizeof(struct rt_tensor) + n_in * sizeof(void *));
    if (job == NULL)
        return NULL;
    job->batcher = b;
    job->n_in = b->n_in;
    job->n_out = b->n_out;
    job->in = (struct rt_tensor *)(job + 1);
    job->out = job->in + n_in;
    job->own.in_memory = (void **)(job->out + n_out);
    job->n = 1;
    job->arrival = sv_now_ns();
    return job;
}

void sv_job_destroy(struct sv_job *job)
{
    if (job == NULL)
        return;
    assert(!job->own.queued && job->own.running == 0);
    if (job->own.promised) {
        pthread_mutex_lock(&job->batcher->lock);
        sv_queue_take_back(&job->batcher->queue, job);
        pthread_mutex_unlock(&job->batcher->lock);
    }
    for (int i = 0; i < job->n_in; i++)
        rt_free(job->own.in_memory[i]);
    rt_free(job->own.out_memory);
    rt_free(job);
}

enum rt_status sv_job_input(struct sv_job *job, int i, enum rt_dtype dtype,
                            const struct rt_shape *shape, struct rt_error *err)
{
    assert(i >= 0 && i < job->n_in);
    size_t len;
    if (!rt_shape_bytes(shape, dtype, &len)) {
        char text[RT_SHAPE_TEXT];
        return rt_fail(err, RT_E_INVALID, "an input of shape %s has no size in bytes",
                       rt_shape_text(shape, text));
    }
    void *memory = rt_alloc(len);
    if (memory == NULL)
        return rt_fail_nomem(err, len);
    rt_free(job->own.in_memory[i]);
    job->own.in_memory[i] = memory;
    job->in[i] = (struct rt_tensor){ .dtype = dtype, .shape = *shape, .data = memory };
    return RT_OK;
}

static uint64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void count_finished(struct sv_stats *stats, const struct sv_job *job)
{
    if (job->error.status != RT_OK) {
        sv_count(&stats->fail, job->finished - job->arrival);
        return;
    }
    atomic_store_explicit(&stats->last_inference_ms, unix_ms(), memory_order_relaxed);
    sv_count(&stats->success, job->finished - job->arrival);
    sv_count(&stats->queue, job->queue_ns);
    sv_count(&stats->compute_input, job->input_ns);
    sv_count(&stats->compute_infer, job->infer_ns);
    sv_count(&stats->compute_output, job->output_ns);
    sv_observe(&stats->request_time, job->finished - job->arrival);
    sv_observe(&stats->queue_time, job->queue_ns);
    sv_observe(&stats->compute_time, job->infer_ns);
    if (job->decode_ns > 0)
        sv_observe(&stats->decode_time, job->decode_ns);
}

/* Without the lock: done may do anything but destroy the batcher. */
static void finish(struct sv_batcher *b, struct sv_job *job)
{
    job->finished = sv_now_ns();
    count_finished(b->stats, job);
    job->done(job);
}

/* Executors that run others' tasks come back when those are done that are in line by now. Under the
 * lock. */
static void call_back(struct sv_batcher *b)
{
    const uint64_t now = sv_cores_next_number(b->cores);
    for (int i = 0; i < b->n_threads; i++) {
        uint64_t never = SV_TURN_NEVER;
        atomic_compare_exchange_strong(&b->executor[i].until, &never, now);
    }
}

/* Wakes an executor, if there is an idle one: the first, which has the largest team. Under the
 * lock. */
static void rouse(struct sv_batcher *b)
{
    for (int i = 0; i < b->n_threads; i++) {
        struct executor *ex = &b->executor[i];
        if (!ex->asleep || ex->busy)
            continue;
        ex->asleep = false;
        pthread_cond_signal(&ex->wake);
        return;
    }
    call_back(b);
}

static void rouse_all(struct sv_batcher *b)
{
    for (int i = 0; i < b->n_threads; i++) {
        b->executor[i].asleep = false;
        pthread_cond_signal(&b->executor[i].wake);
    }
    call_back(b);
}

/* A job has come. One that this thread's own executor has just decoded waits for nobody else. Under
 * the lock. */
static void announce(struct sv_batcher *b)
{
    if (helping != NULL && helping->batcher == b)
        call_back(b);
    else
        rouse(b);
}

/* While it is asleep, but not once sv_now_ns() has reached `until`, unless that is 0. Under the
 * lock. */
static void sleep_until(struct executor *ex, uint64_t until)
{
    const struct timespec t = sv_clock_timespec(until);
    int e = 0;
    while (ex->asleep && e == 0)
        e = until == 0 ? pthread_cond_wait(&ex->wake, &ex->batcher->lock)
                       : pthread_cond_timedwait(&ex->wake, &ex->batcher->lock, &t);
    ex->asleep = false;
}

/* Takes a job that still waits, at least in part, out of the queue for good. Under the lock. */
static void drop(struct sv_batcher *b, struct sv_job *job, enum rt_status status, const char *why)
{
    if (job->own.queued)
        sv_queue_remove(&b->queue, job);
    rt_fail(&job->error, status, "%s", why);
    if (job->own.running > 0)
        return; /* whoever runs its last piece finishes it */
    job->own.next = b->dropped;
    b->dropped = job;
    rouse(b);
}

/* Under the lock. */
static void drop_expired(struct sv_batcher *b)
{
    struct sv_job *job;
    uint64_t now = sv_now_ns();
    while ((job = sv_queue_expired(&b->queue, now)) != NULL) {
        sv_add(&b->stats->timed_out, 1);
        if (b->policy.delay) {
            sv_queue_postpone(&b->queue, job);
            continue;
        }
        drop(b, job, RT_E_TIMEOUT, "Request timeout expired");
    }
}

/* Calls done for the jobs that failed without having been run. Under the lock, which is given up
 * meanwhile. */
static void finish_dropped(struct sv_batcher *b)
{
    struct sv_job *job;
    while ((job = b->dropped) != NULL) {
        b->dropped = job->own.next;
        pthread_mutex_unlock(&b->lock);
        finish(b, job);
        pthread_mutex_lock(&b->lock);
    }
}

static void count_run(struct sv_batcher *b, int samples, const struct sv_run_times *t)
{
    struct sv_batch_stats *batch = &b->stats->batch[b->max_batch > 0 ? samples - 1 : 0];
    sv_count(&batch->compute_input, t->input_ns);
    sv_count(&batch->compute_infer, t->infer_ns);
    sv_count(&batch->compute_output, t->output_ns);
    sv_add(&b->stats->execution_count, 1);
    sv_add(&b->stats->inference_count, (uint64_t)(b->max_batch > 0 ? samples : 1));
}

/* Books a run of piece[0..n), and finishes the jobs that were waiting for nothing else. */
static void complete(struct sv_batcher *b, struct sv_piece *piece, int n, int samples,
                     const struct sv_run_times *t, const struct rt_error *err)
{
    int n_finished = 0;
    pthread_mutex_lock(&b->lock);
    for (int i = 0; i < n; i++) {
        struct sv_job *job = piece[i].job;
        job->own.running--;
        job->input_ns += t->input_ns;
        job->infer_ns += t->infer_ns;
        job->output_ns += t->output_ns;
        if (samples > job->batch)
            job->batch = samples;
        if (err->status != RT_OK && job->error.status == RT_OK)
            job->error = *err;
        if (err->status != RT_OK && job->own.queued)
            sv_queue_remove(&b->queue, job);
        if (job->own.running == 0 && !job->own.queued)
            piece[n_finished++].job = job;
    }
    pthread_mutex_unlock(&b->lock);
    if (err->status == RT_OK)
        count_run(b, samples, t);
    for (int i = 0; i < n_finished; i++)
        finish(b, piece[i].job);
}

static void run_pieces(struct executor *ex, struct sv_piece *piece, int n)
{
    int samples = 0;
    for (int i = 0; i < n; i++)
        samples += piece[i].n;
    struct rt_error err = { .status = RT_OK };
    struct sv_run_times t;
    enum rt_status s = sv_runner_run(&ex->runner, piece, n, samples, &t, &err);
    if (s != RT_OK && n > 1) {
        /* One job's values must not fail another's request, and a batch needs memory that a single
         * job does not. */
        for (int i = 0; i < n; i++)
            run_pieces(ex, &piece[i], 1);
        return;
    }
    complete(ex->batcher, piece, n, samples, &t, &err);
}

/* Takes the next batch into ex->piece: a core's part of the samples that wait, and for its team the
 * cores that are free, if no other sample waits for them. *cores, 1 before, is their number. Under
 * the lock. */
static int take_share(struct executor *ex, int *cores)
{
    struct sv_batcher *b = ex->batcher;
    const int all = b->split.team, free = *cores + sv_cores_take_spare(b->cores, all - *cores);
    /* All cores together have one batch at most: what is taken waits for nobody else's time. */
    const int waiting = sv_queue_samples(&b->queue, b->max_batch > all ? b->max_batch : all);
    const int share = waiting / all + (waiting % all > 0);
    const int n = sv_queue_take(&b->queue, sv_now_ns(), share, ex->piece);
    int samples = 0;
    for (int i = 0; i < n; i++)
        samples += ex->piece[i].n;
    int team = n > 0 ? (int)((int64_t)free * samples / waiting) : 1;
    team = team < 1 ? 1 : team < ex->team ? team : ex->team;
    if (free > team)
        sv_cores_give(b->cores, free - team);
    *cores = team;
    return n;
}

/* Gives back a run's cores, but for one with which the executor first runs others' tasks: those
 * that are in line before what waits here. When that is due, the core is kept for it. */
static void pass_on(struct executor *ex, int cores)
{
    struct sv_batcher *b = ex->batcher;
    struct sv_turn *turn;
    if (!b->split.elastic) {
        sv_cores_give(b->cores, cores);
        return;
    }
    if (cores > 1)
        sv_cores_give(b->cores, cores - 1);
    pthread_mutex_lock(&b->lock);
    atomic_store(&ex->until, SV_TURN_NEVER);
    if (b->queue.head != NULL || b->dropped != NULL || b->stopping)
        call_back(b);
    pthread_mutex_unlock(&b->lock);
    helping = ex;
    while ((turn = sv_cores_pass_on(b->cores, atomic_load(&ex->until), &ex->has_core)) != NULL)
        turn->run(turn);
    helping = NULL;
}

/* Takes and runs the next batch. Under the lock, which is given up meanwhile. */
static void run_next(struct executor *ex)
{
    struct sv_batcher *b = ex->batcher;
    int cores = b->split.elastic ? 1 : b->split.team;
    ex->busy = true;
    if (!ex->has_core) {
        b->coming++;
        /* The batch is taken once its cores are there: what arrives until then can join it. */
        pthread_mutex_unlock(&b->lock);
        sv_cores_take(b->cores, cores);
        pthread_mutex_lock(&b->lock);
        b->coming--;
    }
    ex->has_core = false;
    drop_expired(b);
    int n = b->split.elastic ? take_share(ex, &cores)
                             : sv_queue_take(&b->queue, sv_now_ns(), INT_MAX, ex->piece);
    ex->runner.team = cores;
    if (b->queue.head != NULL)
        rouse(b); /* another executor may be idle */
    pthread_mutex_unlock(&b->lock);
    if (n > 0)
        run_pieces(ex, ex->piece, n);
    if (n > 0 && ex->runner.ops->settle != NULL)
        ex->runner.ops->settle(ex->runner.session);
    pass_on(ex, cores);
    pthread_mutex_lock(&b->lock);
    ex->busy = false;
}

/* An idle executor whose runner, and its cores, are the caller's until give_back(); NULL: the job
 * has to queue. Under the lock. */
static struct executor *borrow(struct sv_batcher *b, const struct sv_job *job)
{
    if (job->n > b->at_once || b->queue.head != NULL)
        return NULL;
    for (int i = 0; i < b->n_threads; i++) {
        struct executor *ex = &b->executor[i];
        if (ex->busy)
            continue;
        ex->busy = sv_cores_try_take(b->cores, b->split.team);
        return ex->busy ? ex : NULL;
    }
    return NULL;
}

static void give_back(struct executor *ex)
{
    struct sv_batcher *b = ex->batcher;
    sv_cores_give(b->cores, b->split.team);
    pthread_mutex_lock(&b->lock);
    ex->busy = false;
    if (b->queue.head != NULL || b->dropped != NULL || b->stopping)
        rouse_all(b); /* the executor may have been woken in vain */
    pthread_mutex_unlock(&b->lock);
}

static void run_at_once(struct executor *ex, struct sv_job *job)
{
    struct sv_batcher *b = ex->batcher;
    struct sv_piece all = { .job = job, .from = 0, .n = job->n };
    struct rt_error err = { .status = RT_OK };
    struct sv_run_times t;
    enum rt_status s = sv_runner_run(&ex->runner, &all, 1, job->n, &t, &err);
    job->input_ns = t.input_ns;
    job->infer_ns = t.infer_ns;
    job->output_ns = t.output_ns;
    job->batch = job->n;
    if (s == RT_OK)
        count_run(b, job->n, &t);
    else
        job->error = err;
    give_back(ex); /* first: after done the batcher may be gone */
    finish(b, job);
}

/* Whether one more executor has a sample to come for: with a core that it finds nothing for, it
 * would narrow the team of another. Under the lock. */
static bool is_wanted(const struct sv_batcher *b)
{
    return b->stopping || sv_queue_samples(&b->queue, b->coming + 1) > b->coming;
}

static void *execute(void *arg)
{
    struct executor *ex = arg;
    struct sv_batcher *b = ex->batcher;
    sv_give_way(); /* and its teams' threads with it */
    pthread_setname_np(pthread_self(), "convd-run");
    pthread_mutex_lock(&b->lock);
    /* It was born asleep: the first job wakes the executor with the largest team, whatever the
     * order in which the threads got here. */
    uint64_t wake = 0;
    for (;;) {
        sleep_until(ex, wake);
        wake = 0;
        drop_expired(b);
        finish_dropped(b);
        const bool due = !ex->busy && sv_queue_due(&b->queue, sv_now_ns(), b->stopping, &wake);
        if (due && (ex->has_core || is_wanted(b))) {
            run_next(ex);
            wake = 0;
            continue;
        }
        if (ex->has_core) {
            ex->has_core = false;
            pthread_mutex_unlock(&b->lock);
            sv_cores_give(b->cores, 1);
            pthread_mutex_lock(&b->lock);
            wake = 0;
            continue; /* what came meanwhile has roused nobody */
        }
        if (!ex->busy && !due && b->stopping)
            break;
        if (due)
            wake = 0; /* who comes first wakes another when something is left */
        ex->asleep = true;
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static enum rt_status start(struct sv_batcher *b, const struct sv_batcher_options *o,
                            struct rt_error *err)
{
    for (; b->n_executors < o->split.executors; b->n_executors++) {
        struct executor *ex = &b->executor[b->n_executors];
        ex->batcher = b;
        ex->team = sv_cores_team(&o->split, b->n_executors);
        size_t n_pieces = (size_t)(o->max_batch > 0 ? o->max_batch : 1);
        ex->piece = rt_alloc_array(n_pieces, sizeof *ex->piece);
        if (ex->piece == NULL)
            return rt_fail_nomem(err, n_pieces * sizeof *ex->piece);
        enum rt_status s = sv_runner_init(&ex->runner, o, ex->team, &b->lock, err);
        if (s != RT_OK) {
            rt_free(ex->piece);
            return s;
        }
        sv_clock_condition(&ex->wake);
    }
    for (; b->n_threads < b->n_executors; b->n_threads++) {
        struct executor *ex = &b->executor[b->n_threads];
        ex->asleep = true;
        int e = pthread_create(&ex->thread, NULL, execute, ex);
        if (e != 0)
            return rt_fail(err, RT_E_IO, "cannot start a thread: %s", strerror(e));
    }
    return RT_OK;
}

enum rt_status sv_batcher_create(const struct sv_batcher_options *o, struct sv_batcher **out,
                                 struct rt_error *err)
{
    assert(o->max_queue >= 1 && o->split.executors >= 1 && o->split.team >= 1);
    assert(o->stats->max_batch >= (o->max_batch > 0 ? o->max_batch : 1));
    assert(o->policy.levels <= SV_PRIORITIES_MAX);
    size_t len = sizeof(struct sv_batcher) + (size_t)o->split.executors * sizeof(struct executor);
    struct sv_batcher *b = rt_zalloc(len);
    if (b == NULL)
        return rt_fail_nomem(err, len);
    b->n_in = o->n_in;
    b->n_out = o->n_out;
    b->max_batch = o->max_batch;
    b->at_once = o->at_once;
    b->split = o->split;
    b->cores = o->cores;
    b->stats = o->stats;
    b->queue = (struct sv_queue){
        .max_jobs = o->max_queue,
        .max_batch = o->max_batch,
        .delay_ns = o->delay_ns,
        .n_preferred = o->policy.n_preferred,
        .preferred = o->policy.preferred,
    };
    b->policy = o->policy;
    pthread_mutex_init(&b->lock, NULL);
    enum rt_status s = start(b, o, err);
    if (s != RT_OK) {
        sv_batcher_destroy(b);
        return s;
    }
    *out = b;
    return RT_OK;
}

/* What the policy makes of the job's own wishes. */
static void apply_policy(const struct sv_queue_policy *p, struct sv_job *job, uint64_t now)
{
    bool known = job->priority >= 1 && job->priority <= p->levels;
    job->own.level = known ? job->priority : p->default_level;
    if (p->fixed_timeout)
        job->deadline = 0;
    if (job->deadline == 0 && p->default_timeout_ns != 0)
        job->deadline = now + p->default_timeout_ns;
}

void sv_batcher_count_failed(struct sv_batcher *b, uint64_t arrival)
{
    const uint64_t now = sv_now_ns();
    sv_count(&b->stats->fail, now > arrival ? now - arrival : 0);
}

static enum rt_status refuse(struct sv_batcher *b, uint64_t arrival, const char *why,
                             struct rt_error *err)
{
    sv_add(&b->stats->rejected, 1);
    sv_batcher_count_failed(b, arrival);
    return rt_fail(err, RT_E_BUSY, "%s", why);
}

static const char is_full[] = "Exceeds maximum queue size";

enum rt_status sv_batcher_admit(struct sv_batcher *b, uint64_t arrival, struct rt_error *err)
{
    return sv_queue_is_full(&b->queue) ? refuse(b, arrival, is_full, err) : RT_OK;
}

enum rt_status sv_job_promise(struct sv_job *job, struct rt_error *err)
{
    struct sv_batcher *b = job->batcher;
    pthread_mutex_lock(&b->lock);
    bool promised = sv_queue_promise(&b->queue, job);
    pthread_mutex_unlock(&b->lock);
    return promised ? RT_OK : refuse(b, job->arrival, is_full, err);
}

enum rt_status sv_batcher_submit(struct sv_job *job, struct rt_error *err)
{
    struct sv_batcher *b = job->batcher;
    assert(job->n >= 1 && job->done != NULL && job->own.taken == 0 && !job->own.queued);
    uint64_t now = sv_now_ns();
    apply_policy(&b->policy, job, now);
    if (job->deadline != 0 && job->deadline <= now && !b->policy.delay) {
        sv_add(&b->stats->timed_out, 1);
        sv_count(&b->stats->fail, now > job->arrival ? now - job->arrival : 0);
        return rt_fail(err, RT_E_TIMEOUT, "Request timeout expired");
    }
    pthread_mutex_lock(&b->lock);
    const bool stopping = b->stopping;
    struct executor *lent = stopping ? NULL : borrow(b, job);
    const bool pushed = !stopping && lent == NULL && sv_queue_push(&b->queue, job, now);
    if (pushed)
        announce(b);
    else
        sv_queue_take_back(&b->queue, job);
    pthread_mutex_unlock(&b->lock);
    if (lent != NULL)
        run_at_once(lent, job);
    else if (!pushed)
        return refuse(b, job->arrival,
                      stopping ? "Server is stopping, scheduler for model has stopped accepting "
                                 "new inference requests"
                               : is_full,
                      err);
    return RT_OK;
}

void sv_job_cancel(struct sv_job *job)
{
    struct sv_batcher *b = job->batcher;
    pthread_mutex_lock(&b->lock);
    if (job->own.queued) {
        sv_add(&b->stats->cancelled, 1);
        drop(b, job, RT_E_TIMEOUT, "The client went away before the request was run");
    }
    pthread_mutex_unlock(&b->lock);
}

void sv_batcher_stop(struct sv_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    rouse_all(b);
    pthread_mutex_unlock(&b->lock);
}

void sv_batcher_abort(struct sv_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    while (b->queue.head != NULL)
        drop(b, b->queue.head, RT_E_BUSY, "Server is stopping, the request was not run");
    rouse_all(b);
    pthread_mutex_unlock(&b->lock);
}

void sv_batcher_destroy(struct sv_batcher *b)
{
    if (b == NULL)
        return;
    sv_batcher_stop(b);
    for (int i = 0; i < b->n_threads; i++)
        pthread_join(b->executor[i].thread, NULL);
    for (int i = 0; i < b->n_executors; i++) {
        sv_runner_reset(&b->executor[i].runner);
        rt_free(b->executor[i].piece);
        pthread_cond_destroy(&b->executor[i].wake);
    }
    pthread_mutex_destroy(&b->lock);
    rt_free(b);
}

int sv_batcher_waiting(struct sv_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    int n = b->queue.n_jobs;
    pthread_mutex_unlock(&b->lock);
    return n;
}

struct sv_core_split sv_batcher_split(const struct sv_batcher *b)
{
    return b->split;
}
