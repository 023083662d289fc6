/* What the batcher stands on: the queue, with made-up times (which samples make the next batch, and
 * when), the pool, and the core budget. */
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/cores.h"
#include "server/pool.h"
#include "server/queue.h"

#define QUEUE_JOBS 8

struct fixture {
    struct sv_queue q;
    struct sv_job job[QUEUE_JOBS];
    struct rt_tensor in[QUEUE_JOBS];
    struct sv_piece piece[64];
};

static float some_data;

static void fixture_init(struct fixture *f, int max_batch, uint64_t delay)
{
    memset(f, 0, sizeof *f);
    f->q = (struct sv_queue){ .max_jobs = QUEUE_JOBS, .max_batch = max_batch, .delay_ns = delay };
}

/* Pushes job i: n samples of `width` elements. */
static bool push(struct fixture *f, int i, int n, int64_t width, uint64_t now)
{
    f->in[i] = (struct rt_tensor){
        .dtype = RT_FLOAT,
        .shape = { .rank = 2, .dim = { n, width } },
        .data = &some_data,
    };
    f->job[i].n_in = 1;
    f->job[i].in = &f->in[i];
    f->job[i].n = n;
    return sv_queue_push(&f->q, &f->job[i], now);
}

/* Checks that the next batch is as in text: "0:0+2 3:0+1" is two samples of job 0 and one of 3. */
static void expect_share(struct fixture *f, uint64_t now, int share, const char *text)
{
    char got[256] = "";
    int n = sv_queue_take(&f->q, now, share, f->piece);
    for (int i = 0; i < n; i++) {
        size_t len = strlen(got);
        snprintf(got + len, sizeof got - len, "%s%d:%d+%d", i > 0 ? " " : "",
                 (int)(f->piece[i].job - f->job), f->piece[i].from, f->piece[i].n);
    }
    assert_string_equal(got, text);
}

static void expect_take(struct fixture *f, uint64_t now, const char *text)
{
    expect_share(f, now, INT_MAX, text);
}

static void queue_keeps_order(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 4, 0);
    expect_take(&f, 1, "");
    for (int i = 0; i < 6; i++)
        assert_true(push(&f, i, 1, 3, 100 + (uint64_t)i));
    expect_take(&f, 1000, "0:0+1 1:0+1 2:0+1 3:0+1");
    assert_int_equal(f.job[0].queue_ns, 900);
    assert_int_equal(f.job[3].queue_ns, 897);
    expect_take(&f, 1000, "4:0+1 5:0+1");
    expect_take(&f, 1000, "");
    assert_int_equal(f.q.n_jobs, 0);
}

static void queue_fills_whole_jobs_only(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 8, 0);
    push(&f, 0, 5, 3, 1);
    push(&f, 1, 6, 3, 1);
    push(&f, 2, 1, 3, 1);
    push(&f, 3, 1, 3, 1);
    expect_take(&f, 2, "0:0+5");
    expect_take(&f, 2, "1:0+6 2:0+1 3:0+1");
}

static void queue_gives_a_share(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 8, 0);
    for (int i = 0; i < 4; i++)
        push(&f, i, 1, 3, 1);
    push(&f, 4, 5, 3, 1);
    push(&f, 5, 20, 3, 1);
    assert_int_equal(sv_queue_samples(&f.q, 6), 6);
    assert_int_equal(sv_queue_samples(&f.q, INT_MAX), 29);
    expect_share(&f, 2, 2, "0:0+1 1:0+1");
    expect_share(&f, 2, 3, "2:0+1 3:0+1"); /* the next one is whole, and too much */
    expect_share(&f, 2, 1, "4:0+5");
    expect_share(&f, 2, 1, "5:0+8"); /* larger than a batch may be */
}

static void queue_separates_shapes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 8, 0);
    push(&f, 0, 1, 3, 1);
    push(&f, 1, 1, 5, 1);
    push(&f, 2, 1, 3, 1);
    push(&f, 3, 1, 5, 1);
    push(&f, 4, 1, 3, 1);
    f.in[4].dtype = RT_INT32;
    expect_take(&f, 2, "0:0+1 2:0+1");
    expect_take(&f, 2, "1:0+1 3:0+1");
    expect_take(&f, 2, "4:0+1");
}

static void queue_splits_large_jobs(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 4, 0);
    push(&f, 0, 10, 3, 1);
    push(&f, 1, 1, 3, 1);
    push(&f, 2, 2, 3, 1);
    expect_take(&f, 2, "0:0+4");
    expect_take(&f, 2, "0:4+4");
    assert_int_equal(f.q.n_jobs, 3);
    expect_take(&f, 2, "0:8+2 1:0+1");
    expect_take(&f, 2, "2:0+2");
    assert_int_equal(f.job[0].own.running, 3);
}

/* The number of the job that the next batch begins with. */
static int next_job(struct fixture *f)
{
    assert_true(sv_queue_take(&f->q, 0, INT_MAX, f->piece) > 0);
    return (int)(f->piece[0].job - f->job);
}

static void queue_lets_others_pass_a_huge_job(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 4, 0);
    assert_true(push(&f, 0, 3000, 3, 0) && push(&f, 1, 4, 3, 0) && push(&f, 2, 3000, 3, 0));
    f.job[3].own.level = 1;
    assert_true(push(&f, 3, 4, 3, 0));
    int order[6], n = 0, batches = 0, last = -1;
    for (; batches < 3000; batches++) {
        int job = next_job(&f);
        if (job != last && n < 6)
            order[n++] = job;
        last = job;
        if (job == 3)
            break; /* of a lower level: when the others are done */
    }
    assert_int_equal(batches, 750 + 1 + 750);
    const int wanted[] = { 0, 1, 2, 0, 2, 0 };
    assert_memory_equal(order, wanted, sizeof wanted);
    assert_true(f.q.head == NULL);
}

static void queue_without_batch_axis(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 0, 0);
    push(&f, 0, 1, 3, 1);
    push(&f, 1, 1, 3, 1);
    expect_take(&f, 2, "0:0+1");
    expect_take(&f, 2, "1:0+1");
}

static void queue_is_bounded(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 2, 0);
    f.q.max_jobs = 2;
    assert_true(push(&f, 0, 1, 3, 1));
    assert_true(push(&f, 1, 1, 3, 1));
    assert_false(push(&f, 2, 1, 3, 1));
    sv_queue_remove(&f.q, &f.job[0]);
    assert_true(push(&f, 2, 1, 3, 1));
    expect_take(&f, 2, "1:0+1 2:0+1");
}

static void queue_keeps_places(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 2, 0);
    f.q.max_jobs = 2;
    assert_true(sv_queue_promise(&f.q, &f.job[0]));
    assert_true(push(&f, 1, 1, 3, 1));
    assert_true(sv_queue_is_full(&f.q));
    assert_false(push(&f, 2, 1, 3, 1));
    assert_false(sv_queue_promise(&f.q, &f.job[2]));
    assert_true(push(&f, 0, 1, 3, 1)); /* takes the place that was kept, and no other */
    assert_true(sv_queue_is_full(&f.q));
    expect_take(&f, 2, "1:0+1 0:0+1");
    assert_true(sv_queue_promise(&f.q, &f.job[2]));
    assert_true(push(&f, 3, 1, 3, 1));
    sv_queue_take_back(&f.q, &f.job[2]);
    assert_false(sv_queue_is_full(&f.q));
    assert_true(push(&f, 2, 1, 3, 1));
}

static void queue_waits_only_if_asked(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t wake;
    fixture_init(&f, 3, 500);
    assert_false(sv_queue_due(&f.q, 1, true, &wake));
    assert_int_equal(wake, 0);
    push(&f, 0, 1, 3, 1000);
    assert_false(sv_queue_due(&f.q, 1100, false, &wake));
    assert_int_equal(wake, 1500);
    assert_true(sv_queue_due(&f.q, 1100, true, &wake));
    assert_true(sv_queue_due(&f.q, 1500, false, &wake));
    push(&f, 1, 2, 3, 1200);
    assert_true(sv_queue_due(&f.q, 1200, false, &wake)); /* full */
    f.q.delay_ns = 0;
    sv_queue_remove(&f.q, &f.job[1]);
    assert_true(sv_queue_due(&f.q, 1000, false, &wake));
}

static void queue_expires(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t wake;
    fixture_init(&f, 4, 1000);
    f.job[1].deadline = 300;
    push(&f, 0, 1, 3, 100);
    push(&f, 1, 1, 3, 100);
    assert_false(sv_queue_due(&f.q, 200, false, &wake));
    assert_int_equal(wake, 300);
    assert_null(sv_queue_expired(&f.q, 299));
    assert_ptr_equal(sv_queue_expired(&f.q, 300), &f.job[1]);
    sv_queue_remove(&f.q, &f.job[1]);
    assert_null(sv_queue_expired(&f.q, 300));
    expect_take(&f, 300, "0:0+1");
}

static void queue_keeps_levels(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 3, 0);
    static const int level[] = { 2, 1, 3, 1, 2, 3 };
    for (int i = 0; i < 6; i++) {
        f.job[i].own.level = level[i];
        assert_true(push(&f, i, 1, 3, 1));
    }
    sv_queue_remove(&f.q, &f.job[4]); /* the last of its level */
    assert_true(push(&f, 4, 1, 3, 1));
    expect_take(&f, 2, "1:0+1 3:0+1 0:0+1");
    sv_queue_postpone(&f.q, &f.job[4]);
    expect_take(&f, 2, "2:0+1 5:0+1 4:0+1");
    assert_null(f.q.head);
    for (int i = 0; i < SV_QUEUE_LEVELS; i++)
        assert_null(f.q.last[i]);
}

static void queue_prefers_sizes(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t wake;
    static const int sizes[] = { 2, 4 };
    fixture_init(&f, 6, 1000);
    f.q.preferred = sizes;
    f.q.n_preferred = 2;
    push(&f, 0, 1, 3, 100);
    assert_false(sv_queue_due(&f.q, 200, false, &wake));
    push(&f, 1, 1, 3, 100);
    assert_true(sv_queue_due(&f.q, 200, false, &wake));
    for (int i = 2; i < 7; i++)
        push(&f, i, 1, 3, 100);
    expect_take(&f, 200, "0:0+1 1:0+1 2:0+1 3:0+1");
    expect_take(&f, 200, "4:0+1 5:0+1");
    assert_false(sv_queue_due(&f.q, 200, false, &wake));
    expect_take(&f, 2000, "6:0+1");
}

struct task {
    struct sv_task task;
    atomic_int *ran;
    atomic_bool *hold;
};

static void run_task(struct sv_task *task)
{
    struct task *t = (struct task *)task;
    while (t->hold != NULL && atomic_load(t->hold))
        sched_yield();
    atomic_fetch_add(t->ran, 1);
    rt_free(t);
}

static struct task *new_task(atomic_int *ran, atomic_bool *hold)
{
    struct task *t = rt_alloc(sizeof *t);
    assert_non_null(t);
    *t = (struct task){ .task = { .run = run_task }, .ran = ran, .hold = hold };
    return t;
}

static void pool_runs_what_it_takes(void **state)
{
    (void)state;
    struct sv_pool *p;
    struct rt_error err = { 0 };
    atomic_int ran = 0;
    atomic_bool hold = true;
    int accepted = 0;
    assert_int_equal(sv_pool_create(2, 3, NULL, &p, NULL), RT_OK);
    /* Two at work and three waiting, once both threads have begun. */
    for (;;) {
        struct task *t = new_task(&ran, &hold);
        if (sv_pool_submit(p, &t->task, &err) == RT_OK) {
            accepted++;
            continue;
        }
        rt_free(t);
        assert_int_equal(err.status, RT_E_BUSY);
        if (accepted == 5)
            break;
        sched_yield();
    }
    assert_int_equal(atomic_load(&ran), 0);
    atomic_store(&hold, false);
    sv_pool_destroy(p);
    assert_int_equal(atomic_load(&ran), 5);
    rt_mem_fail(0);
    assert_int_equal(sv_pool_create(2, 3, NULL, &p, &err), RT_E_NOMEM);
    rt_mem_fail(-1);
}

struct worker {
    struct sv_cores *cores;
    atomic_int *busy;
    int team;
    bool crowded;
};

static void *take_and_give(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < 300; i++) {
        sv_cores_take(w->cores, w->team);
        if (atomic_fetch_add(w->busy, w->team) + w->team > sv_cores_total(w->cores))
            w->crowded = true;
        sched_yield();
        atomic_fetch_sub(w->busy, w->team);
        sv_cores_give(w->cores, w->team);
    }
    return NULL;
}

static void cores_are_never_crowded(void **state)
{
    (void)state;
    struct sv_cores *c;
    atomic_int busy = 0;
    pthread_t thread[4];
    struct worker w[4];
    assert_int_equal(sv_cores_create(3, &c, NULL), RT_OK);
    for (int i = 0; i < 4; i++) {
        w[i] = (struct worker){ .cores = c, .busy = &busy, .team = 1 + i % 3 };
        assert_int_equal(pthread_create(&thread[i], NULL, take_and_give, &w[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_false(w[i].crowded);
    }
    sv_cores_destroy(c);
}

static void cores_are_shared_out(void **state)
{
    (void)state;
    struct sv_core_split s = sv_cores_split(4, 0);
    assert_true(s.elastic);
    assert_int_equal(s.executors, 4);
    assert_int_equal(sv_cores_team(&s, 0), 4);
    assert_int_equal(sv_cores_team(&s, 1), 2);
    assert_int_equal(sv_cores_team(&s, 3), 1);
    assert_false(sv_cores_split(1, 0).elastic);
    s = sv_cores_split(4, 3);
    assert_int_equal(s.executors, 3);
    assert_int_equal(s.team, 1);
    assert_false(s.elastic);
    assert_int_equal(sv_cores_team(&s, 2), 1);
    s = sv_cores_split(2, 5);
    assert_int_equal(s.executors * s.team, 5);
    struct sv_cores *c;
    assert_int_equal(sv_cores_create(2, &c, NULL), RT_OK);
    sv_cores_take(c, 1);
    sv_cores_take(c, 1);
    sv_cores_give(c, 1);
    sv_cores_give(c, 1);
    sv_cores_take(c, 9); /* all there are */
    assert_int_equal(sv_cores_take_spare(c, 1), 0);
    sv_cores_give(c, 9);
    assert_int_equal(sv_cores_take_spare(c, 1), 1);
    assert_int_equal(sv_cores_take_spare(c, 9), 1);
    sv_cores_give(c, 9);
    sv_cores_destroy(c);
}

struct turn {
    struct sv_turn turn;
    int came, ran;
};

static void come(struct sv_turn *turn)
{
    ((struct turn *)(void *)turn)->came++;
}

static void run_turn(struct sv_turn *turn)
{
    ((struct turn *)(void *)turn)->ran++;
}

/* Who is through with a core gets the work that is first in line, as long as it came before its
 * own. */
static void cores_are_passed_on(void **state)
{
    (void)state;
    struct sv_cores *c;
    bool kept;
    struct turn task[3], thread = { { .come = come }, 0, 0 };
    assert_int_equal(sv_cores_create(1, &c, NULL), RT_OK);
    for (int i = 0; i < 3; i++)
        task[i] = (struct turn){ { .come = come, .run = run_turn }, 0, 0 };
    sv_cores_line_up(c, &task[0].turn);
    assert_int_equal(task[0].came, 1); /* a core was free */
    sv_cores_line_up(c, &task[1].turn);
    const uint64_t own = sv_cores_next_number(c);
    sv_cores_line_up(c, &task[2].turn);
    sv_cores_line_up(c, &thread.turn);
    assert_int_equal(task[1].came + task[2].came + thread.came, 0);
    assert_ptr_equal(sv_cores_pass_on(c, own, &kept), &task[1].turn);
    assert_null(sv_cores_pass_on(c, own, &kept)); /* the next came later */
    assert_true(kept);
    assert_ptr_equal(sv_cores_pass_on(c, SV_TURN_NEVER, &kept), &task[2].turn);
    assert_null(sv_cores_pass_on(c, SV_TURN_NEVER, &kept)); /* the thread has it now */
    assert_false(kept);
    assert_int_equal(thread.came, 1);
    assert_null(sv_cores_pass_on(c, sv_cores_next_number(c), &kept)); /* nobody is before */
    assert_true(kept);
    assert_null(sv_cores_pass_on(c, SV_TURN_NEVER, &kept));
    assert_true(sv_cores_try_take(c, 1)); /* it was given back */
    sv_cores_give(c, 1);
    assert_int_equal(task[0].ran + task[1].ran + task[2].ran, 0); /* that is for who gets it */
    sv_cores_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue_keeps_order),
        cmocka_unit_test(queue_fills_whole_jobs_only),
        cmocka_unit_test(queue_gives_a_share),
        cmocka_unit_test(queue_separates_shapes),
        cmocka_unit_test(queue_splits_large_jobs),
        cmocka_unit_test(queue_without_batch_axis),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(queue_waits_only_if_asked),
        cmocka_unit_test(queue_keeps_places),
        cmocka_unit_test(queue_expires),
        cmocka_unit_test(queue_keeps_levels),
        cmocka_unit_test(queue_prefers_sizes),
        cmocka_unit_test(pool_runs_what_it_takes),
        cmocka_unit_test(cores_are_shared_out),
        cmocka_unit_test(cores_are_never_crowded),
        cmocka_unit_test(cores_are_passed_on),
        cmocka_unit_test(queue_lets_others_pass_a_huge_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
