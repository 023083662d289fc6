/* The batcher: every accepted job is answered exactly once, with its own rows, whatever else
 * happens. The model is one of this file, y = x + 1, that can be held, made to fail and counted. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/batcher.h"
#include "server/clock.h"
#include "server/pool.h"

/* The model: y[n][w] = x[n][w] + 1 and z[n] = w. Its gate can be closed. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;
    int inside, most_inside; /* runs going on now, and at once so far */
    int runs;
    int settled;       /* how often settle was called */
    int largest;       /* samples of the largest run */
    int team[64];      /* of each run */
    int open_failures; /* how many of the next opens fail */
} model = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

#define POISON (-1000.0f) /* a run with this value in it fails */

struct session {
    float y[64 * 16], z[64];
};

static enum rt_status fake_open(void *m, int team, void **out, struct rt_error *err)
{
    (void)m;
    (void)team;
    if (model.open_failures > 0) {
        model.open_failures--;
        return rt_fail(err, RT_E_LIMIT, "no session");
    }
    *out = rt_alloc(sizeof(struct session));
    return *out != NULL ? RT_OK : rt_fail_nomem(err, sizeof(struct session));
}

static void fake_close(void *session)
{
    rt_free(session);
}

static enum rt_status fake_run(void *session, int team, const struct rt_tensor *in,
                               struct rt_tensor *out, struct rt_error *err)
{
    struct session *s = session;
    int64_t n = in[0].shape.dim[0], w = in[0].shape.dim[1];
    pthread_mutex_lock(&model.lock);
    model.team[model.runs++ % 64] = team;
    if (n > model.largest)
        model.largest = (int)n;
    if (++model.inside > model.most_inside)
        model.most_inside = model.inside;
    pthread_cond_broadcast(&model.changed);
    while (model.closed)
        pthread_cond_wait(&model.changed, &model.lock);
    model.inside--;
    pthread_mutex_unlock(&model.lock);
    const float *x = in[0].data;
    for (int64_t i = 0; i < n * w; i++) {
        if (x[i] == POISON)
            return rt_fail(err, RT_E_INVALID, "poisoned");
        s->y[i] = x[i] + 1;
    }
    for (int64_t i = 0; i < n; i++)
        s->z[i] = (float)w;
    out[0] = (struct rt_tensor){ RT_FLOAT, { 2, { n, w } }, s->y };
    out[1] = (struct rt_tensor){ RT_FLOAT, { 1, { n } }, s->z };
    return RT_OK;
}

static void fake_settle(void *session)
{
    assert_non_null(session);
    pthread_mutex_lock(&model.lock);
    model.settled++;
    pthread_mutex_unlock(&model.lock);
}

static const struct sv_batcher_ops fake = { fake_open, fake_run, fake_close, fake_settle };

static void set_gate(bool closed)
{
    pthread_mutex_lock(&model.lock);
    model.closed = closed;
    pthread_cond_broadcast(&model.changed);
    pthread_mutex_unlock(&model.lock);
}

/* Returns once n runs are held at the gate. */
static void wait_inside(int n)
{
    pthread_mutex_lock(&model.lock);
    while (model.inside < n)
        pthread_cond_wait(&model.changed, &model.lock);
    pthread_mutex_unlock(&model.lock);
}

struct setup {
    struct sv_batcher *b;
    struct sv_stats stats;
    struct sv_cores *cores;
};

/* at_once: see struct sv_batcher_options. */
static enum rt_status setup_light(struct setup *t, int max_batch, int max_queue, int executors,
                                  int at_once, struct rt_error *err)
{
    static const struct rt_io io = { "x", RT_FLOAT, { 2, { -1, 3 } } };
    static const struct rt_io *const in[] = { &io };
    memset(t, 0, sizeof *t);
    model.runs = model.largest = model.most_inside = model.settled = 0;
    enum rt_status s = sv_stats_init(&t->stats, max_batch > 0 ? max_batch : 1, err);
    if (s == RT_OK)
        s = sv_cores_create(executors, &t->cores, err);
    const struct sv_batcher_options o = {
        .ops = &fake,
        .n_in = 1,
        .n_out = 2,
        .in = in,
        .max_batch = max_batch,
        .max_queue = max_queue,
        .at_once = at_once,
        .split = { .executors = executors, .team = 1 },
        .cores = t->cores,
        .stats = &t->stats,
    };
    return s == RT_OK ? sv_batcher_create(&o, &t->b, err) : s;
}

static enum rt_status setup(struct setup *t, int max_batch, int max_queue, int executors,
                            struct rt_error *err)
{
    return setup_light(t, max_batch, max_queue, executors, 0, err);
}

static void teardown(struct setup *t)
{
    sv_batcher_destroy(t->b);
    sv_cores_destroy(t->cores);
    sv_stats_reset(&t->stats);
}

/* How often done was called, and with what; under its own lock. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int done;
    struct sv_job *order[4096];
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void note_done(struct sv_job *job)
{
    pthread_mutex_lock(&seen.lock);
    seen.order[seen.done++] = job;
    pthread_cond_broadcast(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
}

static void wait_done(int n)
{
    pthread_mutex_lock(&seen.lock);
    while (seen.done < n)
        pthread_cond_wait(&seen.changed, &seen.lock);
    pthread_mutex_unlock(&seen.lock);
}

/* A job of n samples of width w with values from `first` on; NULL when out of memory. */
static struct sv_job *make(struct sv_batcher *b, int n, int w, float first)
{
    struct sv_job *job = sv_job_create(b);
    const struct rt_shape shape = { .rank = 2, .dim = { n, w } };
    if (job == NULL || sv_job_input(job, 0, RT_FLOAT, &shape, NULL) != RT_OK) {
        sv_job_destroy(job);
        return NULL;
    }
    for (int i = 0; i < n * w; i++)
        ((float *)job->in[0].data)[i] = first + (float)i;
    job->n = n;
    job->done = note_done;
    return job;
}

static struct sv_job *submit(struct setup *t, int n, int w, float first)
{
    struct sv_job *job = make(t->b, n, w, first);
    assert_non_null(job);
    assert_int_equal(sv_batcher_submit(job, NULL), RT_OK);
    return job;
}

/* Checks the answer to make(.., n, w, first), and ends the job. */
static void check_answer(struct sv_job *job, int n, int w, float first)
{
    assert_string_equal(job->error.text, "");
    assert_int_equal(job->error.status, RT_OK);
    assert_int_equal(job->out[0].shape.rank, 2);
    assert_int_equal(job->out[0].shape.dim[0], n);
    assert_int_equal(job->out[0].shape.dim[1], w);
    assert_int_equal(job->out[1].shape.dim[0], n);
    for (int i = 0; i < n * w; i++)
        assert_true(((float *)job->out[0].data)[i] == first + (float)i + 1);
    for (int i = 0; i < n; i++)
        assert_true(((float *)job->out[1].data)[i] == (float)w);
    assert_true(job->finished >= job->arrival);
    sv_job_destroy(job);
}

static int reset_seen(void **state)
{
    (void)state;
    seen.done = 0;
    rt_mem_fail(-1);
    set_gate(false);
    return 0;
}

static void one_job(void **state)
{
    (void)state;
    struct setup t;
    assert_int_equal(setup(&t, 8, 4, 1, NULL), RT_OK);
    struct sv_job *job = submit(&t, 2, 3, 10);
    wait_done(1);
    assert_int_equal(job->batch, 2);
    check_answer(job, 2, 3, 10);
    assert_int_equal(sv_read(&t.stats.inference_count), 2);
    assert_int_equal(sv_read(&t.stats.execution_count), 1);
    assert_int_equal(sv_read(&t.stats.success.count), 1);
    assert_int_equal(sv_read(&t.stats.queue.count), 1);
    assert_int_equal(sv_read(&t.stats.compute_infer.count), 1);
    assert_int_equal(sv_read(&t.stats.batch[1].compute_infer.count), 1);
    assert_int_equal(sv_read(&t.stats.batch[0].compute_infer.count), 0);
    assert_true(sv_read(&t.stats.success.ns) >= sv_read(&t.stats.compute_infer.ns));
    assert_true(sv_read(&t.stats.last_inference_ms) > 0);
    teardown(&t);
    assert_int_equal(model.settled, 1); /* when the job was done, perhaps only now */
}

static void *submit_light(void *arg)
{
    submit(arg, 1, 3, 50);
    return NULL;
}

static void light_jobs_are_run_inside_submit(void **state)
{
    (void)state;
    struct setup t;
    assert_int_equal(setup_light(&t, 8, 4, 1, 2, NULL), RT_OK);
    struct sv_job *light = submit(&t, 2, 3, 10);
    assert_int_equal(seen.done, 1); /* without waiting */
    assert_int_equal(light->batch, 2);
    check_answer(light, 2, 3, 10);
    assert_int_equal(sv_read(&t.stats.inference_count), 2);
    assert_int_equal(sv_read(&t.stats.batch[1].compute_infer.count), 1);

    struct sv_job *heavy = submit(&t, 3, 3, 20);
    wait_done(2);
    check_answer(heavy, 3, 3, 20);

    struct sv_job *poisoned = submit(&t, 1, 3, POISON);
    wait_done(3); /* it queues if the executor is not quite back from the heavy one */
    assert_int_equal(poisoned->error.status, RT_E_INVALID);
    sv_job_destroy(poisoned);

    /* Where the only session is lent, jobs queue, and are run once it is back. */
    pthread_t lender;
    set_gate(true);
    assert_int_equal(pthread_create(&lender, NULL, submit_light, &t), 0);
    wait_inside(1);
    struct sv_job *second = submit(&t, 1, 3, 60);
    assert_int_equal(sv_batcher_waiting(t.b), 1);
    set_gate(false);
    pthread_join(lender, NULL);
    wait_done(5);
    check_answer(second, 1, 3, 60);
    for (int i = 3; i < 5; i++)
        if (seen.order[i] != second)
            check_answer(seen.order[i], 1, 3, 50);
    teardown(&t);
}

static void waiting_jobs_share_a_batch(void **state)
{
    (void)state;
    struct setup t;
    struct sv_job *job[6];
    assert_int_equal(setup(&t, 8, 8, 1, NULL), RT_OK);
    set_gate(true);
    job[0] = submit(&t, 1, 3, 0);
    wait_inside(1);
    for (int i = 1; i < 6; i++)
        job[i] = submit(&t, i == 3 ? 2 : 1, i == 4 ? 5 : 3, 100 * (float)i);
    assert_int_equal(sv_batcher_waiting(t.b), 5);
    set_gate(false);
    wait_done(6);
    /* 0 alone; 1, 2, 3 and 5 together; 4 is of another shape. */
    assert_int_equal(model.runs, 3);
    assert_int_equal(model.largest, 5);
    assert_int_equal(job[1]->batch, 5);
    assert_ptr_equal(seen.order[0], job[0]);
    assert_ptr_equal(seen.order[1], job[1]);
    assert_ptr_equal(seen.order[5], job[4]);
    assert_int_equal(sv_read(&t.stats.inference_count), 7);
    assert_int_equal(sv_read(&t.stats.execution_count), 3);
    assert_int_equal(sv_read(&t.stats.queue.count), 6);
    for (int i = 0; i < 6; i++)
        check_answer(job[i], i == 3 ? 2 : 1, i == 4 ? 5 : 3, 100 * (float)i);
    teardown(&t);
}

static void large_job_is_put_together(void **state)
{
    (void)state;
    for (int executors = 1; executors <= 3; executors++) {
        struct setup t;
        reset_seen(NULL);
        assert_int_equal(setup(&t, 4, 8, executors, NULL), RT_OK);
        struct sv_job *large = submit(&t, 30, 3, 7);
        struct sv_job *small = submit(&t, 2, 3, 500);
        wait_done(2);
        assert_true(large->batch == 4);
        check_answer(large, 30, 3, 7);
        check_answer(small, 2, 3, 500);
        assert_true(model.largest <= 4);
        assert_int_equal(sv_read(&t.stats.inference_count), 32);
        assert_int_equal(sv_read(&t.stats.success.count), 2);
        teardown(&t);
    }
}

static void without_batch_axis(void **state)
{
    (void)state;
    struct setup t;
    assert_int_equal(setup(&t, 0, 8, 1, NULL), RT_OK);
    struct sv_job *a = make(t.b, 5, 3, 1), *b = make(t.b, 6, 2, 9);
    a->n = b->n = 1; /* the rows are not samples */
    assert_int_equal(sv_batcher_submit(a, NULL), RT_OK);
    assert_int_equal(sv_batcher_submit(b, NULL), RT_OK);
    wait_done(2);
    assert_int_equal(sv_read(&t.stats.inference_count), 2);
    assert_int_equal(model.runs, 2);
    check_answer(a, 5, 3, 1);
    check_answer(b, 6, 2, 9);
    teardown(&t);
}

/* Until the job comes or is given up, nobody else has its place. */
static void a_place_is_kept(void **state)
{
    (void)state;
    struct setup t;
    assert_int_equal(setup(&t, 1, 1, 1, NULL), RT_OK);
    struct sv_job *first = make(t.b, 1, 3, 0), *second = make(t.b, 1, 3, 1);
    assert_int_equal(sv_job_promise(first, NULL), RT_OK);
    assert_int_equal(sv_batcher_admit(t.b, 0, NULL), RT_E_BUSY);
    assert_int_equal(sv_batcher_submit(second, NULL), RT_E_BUSY);
    sv_job_destroy(first);
    assert_int_equal(sv_batcher_admit(t.b, 0, NULL), RT_OK);
    assert_int_equal(sv_job_promise(second, NULL), RT_OK);
    assert_int_equal(sv_batcher_submit(second, NULL), RT_OK);
    wait_done(1);
    assert_int_equal(sv_batcher_admit(t.b, 0, NULL), RT_OK);
    check_answer(second, 1, 3, 1);
    teardown(&t);
}

static void full_queue_refuses(void **state)
{
    (void)state;
    struct setup t;
    struct rt_error err = { 0 };
    assert_int_equal(setup(&t, 1, 2, 1, NULL), RT_OK);
    set_gate(true);
    struct sv_job *a = submit(&t, 1, 3, 0);
    wait_inside(1);
    struct sv_job *b = submit(&t, 1, 3, 1), *c = submit(&t, 1, 3, 2);
    struct sv_job *refused = make(t.b, 1, 3, 3);
    assert_int_equal(sv_batcher_submit(refused, &err), RT_E_BUSY);
    assert_string_equal(err.text, "Exceeds maximum queue size");
    assert_int_equal(sv_read(&t.stats.rejected), 1);
    assert_int_equal(sv_read(&t.stats.fail.count), 1);
    assert_int_equal(sv_job_promise(refused, &err), RT_E_BUSY);
    assert_int_equal(sv_batcher_admit(t.b, refused->arrival, &err), RT_E_BUSY);
    assert_string_equal(err.text, "Exceeds maximum queue size");
    assert_int_equal(sv_read(&t.stats.rejected), 3);
    assert_int_equal(sv_read(&t.stats.fail.count), 3);
    sv_job_destroy(refused);
    set_gate(false);
    wait_done(3);
    check_answer(a, 1, 3, 0);
    check_answer(b, 1, 3, 1);
    check_answer(c, 1, 3, 2);
    teardown(&t);
}

static void cancelled_jobs_are_not_run(void **state)
{
    (void)state;
    struct setup t;
    assert_int_equal(setup(&t, 1, 8, 1, NULL), RT_OK);
    set_gate(true);
    struct sv_job *running = submit(&t, 1, 3, 0);
    wait_inside(1);
    struct sv_job *gone = submit(&t, 1, 3, 1), *kept = submit(&t, 1, 3, 2);
    sv_job_cancel(gone);
    sv_job_cancel(gone);
    sv_job_cancel(running);
    assert_int_equal(sv_batcher_waiting(t.b), 1);
    set_gate(false);
    wait_done(3);
    sv_job_cancel(kept); /* done: nothing happens */
    assert_int_equal(model.runs, 2);
    assert_int_equal(gone->error.status, RT_E_TIMEOUT);
    assert_int_equal(sv_read(&t.stats.cancelled), 1);
    sv_job_destroy(gone);
    check_answer(running, 1, 3, 0);
    check_answer(kept, 1, 3, 2);
    /* Also when nobody else wakes the executor. */
    teardown(&t);
    assert_int_equal(seen.done, 3);
}

static void cancelled_part_of_a_split_job(void **state)
{
    (void)state;
    struct setup t;
    assert_int_equal(setup(&t, 2, 8, 1, NULL), RT_OK);
    set_gate(true);
    struct sv_job *job = submit(&t, 7, 3, 0);
    wait_inside(1);
    sv_job_cancel(job);
    set_gate(false);
    wait_done(1);
    assert_int_equal(model.runs, 1);
    assert_int_equal(job->error.status, RT_E_TIMEOUT);
    teardown(&t);
    assert_int_equal(seen.done, 1);
    sv_job_destroy(job);
}

static void deadlines(void **state)
{
    (void)state;
    struct setup t;
    struct rt_error err = { 0 };
    assert_int_equal(setup(&t, 1, 8, 1, NULL), RT_OK);
    struct sv_job *late = make(t.b, 1, 3, 0);
    late->deadline = 1;
    assert_int_equal(sv_batcher_submit(late, &err), RT_E_TIMEOUT);
    sv_job_destroy(late);
    set_gate(true);
    struct sv_job *a = submit(&t, 1, 3, 0);
    wait_inside(1);
    struct sv_job *b = make(t.b, 1, 3, 1);
    b->deadline = sv_now_ns() + 1000000;
    assert_int_equal(sv_batcher_submit(b, &err), RT_OK);
    while (sv_now_ns() < b->deadline)
        ;
    set_gate(false);
    wait_done(2);
    assert_int_equal(model.runs, 1);
    assert_int_equal(b->error.status, RT_E_TIMEOUT);
    assert_string_equal(b->error.text, "Request timeout expired");
    assert_int_equal(sv_read(&t.stats.timed_out), 2);
    check_answer(a, 1, 3, 0);
    sv_job_destroy(b);
    teardown(&t);
}

static void stop_runs_what_was_accepted(void **state)
{
    (void)state;
    struct setup t;
    struct sv_job *job[5];
    struct rt_error err = { 0 };
    assert_int_equal(setup(&t, 1, 8, 1, NULL), RT_OK);
    set_gate(true);
    for (int i = 0; i < 5; i++)
        job[i] = submit(&t, 1, 3, (float)i);
    sv_batcher_stop(t.b);
    struct sv_job *refused = make(t.b, 1, 3, 3);
    assert_int_equal(sv_batcher_submit(refused, &err), RT_E_BUSY);
    assert_non_null(strstr(err.text, "Server is stopping"));
    sv_job_destroy(refused);
    set_gate(false);
    sv_batcher_destroy(t.b);
    t.b = NULL;
    assert_int_equal(seen.done, 5);
    for (int i = 0; i < 5; i++)
        check_answer(job[i], 1, 3, (float)i);
    teardown(&t);
}

static void abort_fails_what_waits(void **state)
{
    (void)state;
    struct setup t;
    struct sv_job *job[4];
    assert_int_equal(setup(&t, 1, 8, 1, NULL), RT_OK);
    set_gate(true);
    job[0] = submit(&t, 1, 3, 0);
    wait_inside(1);
    for (int i = 1; i < 4; i++)
        job[i] = submit(&t, i == 3 ? 5 : 1, 3, (float)i);
    sv_batcher_abort(t.b);
    set_gate(false);
    teardown(&t);
    assert_int_equal(seen.done, 4);
    assert_int_equal(model.runs, 1);
    check_answer(job[0], 1, 3, 0);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(job[i]->error.status, RT_E_BUSY);
        sv_job_destroy(job[i]);
    }
}

static void an_error_stays_with_its_job(void **state)
{
    (void)state;
    struct setup t;
    struct sv_job *job[4];
    assert_int_equal(setup(&t, 8, 8, 1, NULL), RT_OK);
    set_gate(true);
    struct sv_job *first = submit(&t, 1, 3, 0);
    wait_inside(1);
    for (int i = 0; i < 4; i++)
        job[i] = submit(&t, 1, 3, i == 2 ? POISON : (float)i);
    set_gate(false);
    wait_done(5);
    assert_int_equal(model.runs, 1 + 1 + 4);
    assert_int_equal(job[2]->error.status, RT_E_INVALID);
    assert_string_equal(job[2]->error.text, "poisoned");
    assert_int_equal(sv_read(&t.stats.fail.count), 1);
    assert_int_equal(sv_read(&t.stats.success.count), 4);
    check_answer(first, 1, 3, 0);
    for (int i = 0; i < 4; i++)
        if (i != 2)
            check_answer(job[i], 1, 3, (float)i);
    sv_job_destroy(job[2]);
    teardown(&t);
}

static void a_failed_piece_ends_its_job(void **state)
{
    (void)state;
    struct setup t;
    assert_int_equal(setup(&t, 2, 8, 1, NULL), RT_OK);
    struct sv_job *job = make(t.b, 9, 3, 0);
    ((float *)job->in[0].data)[7] = POISON;
    assert_int_equal(sv_batcher_submit(job, NULL), RT_OK);
    wait_done(1);
    assert_int_equal(job->error.status, RT_E_INVALID);
    assert_true(model.runs <= 2);
    sv_job_destroy(job);
    teardown(&t);
}

static void setup_elastic(struct setup *t, int cores)
{
    static const struct rt_io io = { "x", RT_FLOAT, { 2, { -1, 3 } } };
    static const struct rt_io *const in[] = { &io };
    memset(t, 0, sizeof *t);
    assert_int_equal(sv_stats_init(&t->stats, 8, NULL), RT_OK);
    assert_int_equal(sv_cores_create(cores, &t->cores, NULL), RT_OK);
    const struct sv_batcher_options o = {
        .ops = &fake,
        .n_in = 1,
        .n_out = 2,
        .in = in,
        .max_batch = 8,
        .max_queue = 8,
        .split = sv_cores_split(cores, 0),
        .cores = t->cores,
        .stats = &t->stats,
    };
    assert_int_equal(sv_batcher_create(&o, &t->b, NULL), RT_OK);
    model.runs = model.largest = 0;
    set_gate(true);
}

/* Who is alone has all cores; of several, each core has its part. */
static void cores_follow_the_load(void **state)
{
    (void)state;
    struct setup t;
    struct sv_job *job[8];
    setup_elastic(&t, 4);
    job[0] = submit(&t, 1, 3, 0);
    wait_inside(1);
    assert_int_equal(model.team[0], 4);
    for (int i = 1; i < 7; i++)
        job[i] = submit(&t, 1, 3, (float)i);
    set_gate(false);
    wait_done(7);
    assert_true(model.runs <= 7);
    assert_true(model.largest <= 2); /* of six samples, four cores have two at most */
    for (int i = 0; i < 7; i++)
        check_answer(job[i], 1, 3, (float)i);
    const int runs = model.runs;
    job[7] = submit(&t, 8, 3, 0); /* a request is not torn for the sake of shares */
    wait_done(8);
    assert_int_equal(model.runs, runs + 1);
    check_answer(job[7], 8, 3, 0);
    teardown(&t);
}

/* Makes and submits a job, as decoding does. */
struct decoding {
    struct sv_task task;
    struct sv_batcher *b;
    struct sv_job *job;
    float first;
    atomic_int *begun, *by_executors; /* how many were, and on an executor's thread */
};

static void decode(struct sv_task *task)
{
    struct decoding *d = (struct decoding *)(void *)task;
    char thread[16] = "";
    pthread_getname_np(pthread_self(), thread, sizeof thread);
    if (strcmp(thread, "convd-run") == 0)
        atomic_fetch_add(d->by_executors, 1);
    atomic_fetch_add(d->begun, 1);
    /* The pool's first thread leaves some for whoever comes next. */
    while (task->is_long ? atomic_load(d->begun) < 2 : atomic_load(d->by_executors) == 0)
        sched_yield();
    d->job = make(d->b, 1, 3, d->first);
    sv_batcher_submit(d->job, NULL);
}

/* Tasks that wait when a run ends are run by its executor, whose thread needs no waking, and so are
 * the jobs that they make. */
static int tasks_of_executors(bool is_long)
{
    struct setup t;
    struct sv_pool *pool;
    struct decoding d[6];
    atomic_int begun = 0, by_executors = 0;
    setup_elastic(&t, 2);
    assert_int_equal(sv_pool_create(2, 8, t.cores, &pool, NULL), RT_OK);
    struct sv_job *all_cores = submit(&t, 1, 3, 100);
    wait_inside(1);
    assert_int_equal(model.team[0], 2);
    for (int i = 0; i < 6; i++) {
        d[i] = (struct decoding){
            .task = { .run = decode, .is_long = is_long },
            .b = t.b,
            .first = (float)i,
            .begun = &begun,
            .by_executors = &by_executors,
        };
        assert_int_equal(sv_pool_submit(pool, &d[i].task, NULL), RT_OK);
    }
    set_gate(false);
    wait_done(7);
    sv_pool_destroy(pool);
    check_answer(all_cores, 1, 3, 100);
    for (int i = 0; i < 6; i++)
        check_answer(d[i].job, 1, 3, (float)i);
    sv_cores_take(t.cores, 2); /* what was passed on comes back */
    sv_cores_give(t.cores, 2);
    teardown(&t);
    return atomic_load(&by_executors);
}

static void executors_run_what_waits_for_cores(void **state)
{
    (void)state;
    assert_true(tasks_of_executors(false) >= 1);
}

static void executors_run_no_long_tasks(void **state)
{
    (void)state;
    assert_int_equal(tasks_of_executors(true), 0);
}

static void create_may_fail(void **state)
{
    (void)state;
    struct setup t;
    struct rt_error err = { 0 };
    long before = rt_mem_live();
    model.open_failures = 1;
    assert_int_equal(setup(&t, 4, 4, 2, &err), RT_E_LIMIT);
    assert_string_equal(err.text, "no session");
    teardown(&t);
    assert_int_equal(rt_mem_live(), before);
}

static void delay_gathers(void **state)
{
    (void)state;
    static const struct rt_io io = { "x", RT_FLOAT, { 2, { -1, 3 } } };
    static const struct rt_io *const in[] = { &io };
    struct setup t = { 0 };
    assert_int_equal(sv_stats_init(&t.stats, 2, NULL), RT_OK);
    const struct sv_batcher_options o = {
        .ops = &fake,
        .n_in = 1,
        .n_out = 2,
        .in = in,
        .max_batch = 2,
        .max_queue = 4,
        .delay_ns = 60 * SV_NS_PER_SECOND,
        .split = { 1, 1 },
        .stats = &t.stats,
    };
    model.runs = 0;
    assert_int_equal(sv_batcher_create(&o, &t.b, NULL), RT_OK);
    struct sv_job *a = submit(&t, 1, 3, 0), *b = submit(&t, 1, 3, 50);
    wait_done(2); /* full: long before the minute is over */
    assert_int_equal(model.runs, 1);
    struct sv_job *c = submit(&t, 1, 3, 70);
    sv_batcher_stop(t.b); /* nothing more will come: it does not wait either */
    wait_done(3);
    check_answer(a, 1, 3, 0);
    check_answer(b, 1, 3, 50);
    check_answer(c, 1, 3, 70);
    teardown(&t);
}

/* Everything with each allocation failing in turn: what is accepted is answered, nothing leaks. */
static void allocations_fail_in_turn(void **state)
{
    (void)state;
    long before = rt_mem_live();
    bool failed = true;
    for (long after = 0; failed; after++) {
        struct setup t;
        struct sv_job *job[4] = { NULL };
        const int n[4] = { 1, 2, 9, 1 }, w[4] = { 3, 3, 3, 5 };
        int accepted = 0;
        reset_seen(NULL);
        rt_mem_fail(after);
        failed = setup(&t, 4, 8, 2, NULL) != RT_OK;
        for (int i = 0; i < 4 && !failed; i++) {
            job[i] = make(t.b, n[i], w[i], (float)i);
            failed |= job[i] == NULL;
            if (job[i] != NULL) {
                assert_int_equal(sv_batcher_submit(job[i], NULL), RT_OK);
                accepted++;
            }
        }
        teardown(&t);
        assert_int_equal(seen.done, accepted);
        for (int i = 0; i < 4; i++) {
            if (job[i] == NULL)
                continue;
            if (job[i]->error.status == RT_OK) {
                check_answer(job[i], n[i], w[i], (float)i);
                continue;
            }
            assert_int_equal(job[i]->error.status, RT_E_NOMEM);
            failed = true;
            sv_job_destroy(job[i]);
        }
        rt_mem_fail(-1);
        assert_int_equal(rt_mem_live(), before);
    }
}

struct client {
    struct setup *t;
    unsigned seed;
    int answered;
};

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void wake(struct sv_job *job)
{
    struct waiting *w = job->user;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void *client(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < 200; i++) {
        struct waiting w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false };
        int n = 1 + rand_r(&c->seed) % 9, width = 2 + rand_r(&c->seed) % 3;
        float first = (float)(rand_r(&c->seed) % 1000);
        struct sv_job *job = make(c->t->b, n, width, first);
        job->done = wake;
        job->user = &w;
        if (sv_batcher_submit(job, NULL) != RT_OK) {
            sv_job_destroy(job); /* the queue was full */
            continue;
        }
        bool cancel = rand_r(&c->seed) % 8 == 0;
        if (cancel)
            sv_job_cancel(job);
        pthread_mutex_lock(&w.lock);
        while (!w.done)
            pthread_cond_wait(&w.changed, &w.lock);
        pthread_mutex_unlock(&w.lock);
        bool ok = job->error.status == RT_OK || (cancel && job->error.status == RT_E_TIMEOUT);
        for (int k = 0; k < n * width && job->error.status == RT_OK; k++)
            ok = ok && ((float *)job->out[0].data)[k] == first + (float)k + 1;
        c->answered += ok;
        if (!ok)
            return "a wrong answer";
        sv_job_destroy(job);
    }
    return NULL;
}

static void storm(void **state)
{
    (void)state;
    struct setup t;
    pthread_t thread[6];
    struct client c[6];
    assert_int_equal(setup(&t, 4, 5, 2, NULL), RT_OK);
    for (unsigned i = 0; i < 6; i++) {
        c[i] = (struct client){ .t = &t, .seed = i + 1 };
        assert_int_equal(pthread_create(&thread[i], NULL, client, &c[i]), 0);
    }
    uint64_t answered = 0;
    for (int i = 0; i < 6; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        assert_null(wrong);
        answered += (uint64_t)c[i].answered;
    }
    assert_int_equal(sv_read(&t.stats.success.count) + sv_read(&t.stats.cancelled), answered);
    assert_true(model.most_inside <= 2);
    teardown(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_job, reset_seen),
        cmocka_unit_test_setup(light_jobs_are_run_inside_submit, reset_seen),
        cmocka_unit_test_setup(waiting_jobs_share_a_batch, reset_seen),
        cmocka_unit_test_setup(large_job_is_put_together, reset_seen),
        cmocka_unit_test_setup(without_batch_axis, reset_seen),
        cmocka_unit_test_setup(a_place_is_kept, reset_seen),
        cmocka_unit_test_setup(full_queue_refuses, reset_seen),
        cmocka_unit_test_setup(cancelled_jobs_are_not_run, reset_seen),
        cmocka_unit_test_setup(cancelled_part_of_a_split_job, reset_seen),
        cmocka_unit_test_setup(deadlines, reset_seen),
        cmocka_unit_test_setup(stop_runs_what_was_accepted, reset_seen),
        cmocka_unit_test_setup(abort_fails_what_waits, reset_seen),
        cmocka_unit_test_setup(an_error_stays_with_its_job, reset_seen),
        cmocka_unit_test_setup(a_failed_piece_ends_its_job, reset_seen),
        cmocka_unit_test_setup(cores_follow_the_load, reset_seen),
        cmocka_unit_test_setup(executors_run_what_waits_for_cores, reset_seen),
        cmocka_unit_test_setup(executors_run_no_long_tasks, reset_seen),
        cmocka_unit_test_setup(create_may_fail, reset_seen),
        cmocka_unit_test_setup(delay_gathers, reset_seen),
        cmocka_unit_test_setup(allocations_fail_in_turn, reset_seen),
        cmocka_unit_test_setup(storm, reset_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
