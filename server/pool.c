/* Runs tasks on a few threads, and on those of others that hold a core when a task's turn comes. */
#include "server/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "runtime/rt.h"

struct sv_pool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sv_task *head, *tail; /* whose core has come, for the pool's own threads */
    int waiting, max_waiting;    /* tasks that nobody has begun */
    int lent;                    /* tasks that others run */
    bool stopping;
    struct sv_cores *cores;
    int n_threads;
    pthread_t thread[];
};

static struct sv_task *task_of(struct sv_turn *turn)
{
    return (struct sv_task *)(void *)((char *)turn - offsetof(struct sv_task, turn));
}

static void hand_to_thread(struct sv_turn *turn)
{
    struct sv_task *task = task_of(turn);
    struct sv_pool *p = task->pool;
    pthread_mutex_lock(&p->lock);
    task->next = NULL;
    *(p->tail != NULL ? &p->tail->next : &p->head) = task;
    p->tail = task;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* On a thread of whoever holds a core; after the last one the pool may be gone. */
static void run_for_pool(struct sv_turn *turn)
{
    struct sv_task *task = task_of(turn);
    struct sv_pool *p = task->pool;
    pthread_mutex_lock(&p->lock);
    p->waiting--;
    p->lent++;
    pthread_mutex_unlock(&p->lock);
    task->run(task);
    pthread_mutex_lock(&p->lock);
    p->lent--;
    if (p->stopping)
        pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* Under the lock. */
static struct sv_task *next_task(struct sv_pool *p)
{
    while (p->head == NULL && !(p->stopping && p->waiting == 0 && p->lent == 0))
        pthread_cond_wait(&p->changed, &p->lock);
    struct sv_task *task = p->head;
    if (task == NULL)
        return NULL;
    p->head = task->next;
    if (p->head == NULL)
        p->tail = NULL;
    p->waiting--;
    if (p->stopping)
        pthread_cond_broadcast(&p->changed);
    return task;
}

static void *work(void *arg)
{
    struct sv_pool *p = arg;
    struct sv_task *task;
    pthread_setname_np(pthread_self(), "convd-pool");
    pthread_mutex_lock(&p->lock);
    while ((task = next_task(p)) != NULL) {
        pthread_mutex_unlock(&p->lock);
        task->run(task);
        struct sv_turn *turn;
        bool kept;
        while ((turn = sv_cores_pass_on(p->cores, SV_TURN_NEVER, &kept)) != NULL)
            turn->run(turn);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

enum rt_status sv_pool_create(int threads, int max_waiting, struct sv_cores *cores,
                              struct sv_pool **out, struct rt_error *err)
{
    assert(threads >= 1 && max_waiting >= 1);
    size_t len = sizeof(struct sv_pool) + (size_t)threads * sizeof(pthread_t);
    struct sv_pool *p = rt_zalloc(len);
    if (p == NULL)
        return rt_fail_nomem(err, len);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    p->max_waiting = max_waiting;
    p->cores = cores;
    for (; p->n_threads < threads; p->n_threads++) {
        int e = pthread_create(&p->thread[p->n_threads], NULL, work, p);
        if (e != 0) {
            sv_pool_destroy(p);
            return rt_fail(err, RT_E_IO, "cannot start a thread: %s", strerror(e));
        }
    }
    *out = p;
    return RT_OK;
}

void sv_pool_destroy(struct sv_pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_threads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    rt_free(p);
}

enum rt_status sv_pool_submit(struct sv_pool *p, struct sv_task *task, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    pthread_mutex_lock(&p->lock);
    if (p->stopping)
        s = rt_fail(err, RT_E_BUSY, "Server is stopping");
    else if (p->waiting >= p->max_waiting)
        s = rt_fail(err, RT_E_BUSY, "Exceeds maximum queue size of bodies to decode");
    else
        p->waiting++;
    pthread_mutex_unlock(&p->lock);
    if (s != RT_OK)
        return s;
    /* Not under the lock, which is taken below that of the cores. */
    task->pool = p;
    task->turn =
        (struct sv_turn){ .come = hand_to_thread, .run = task->is_long ? NULL : run_for_pool };
    if (p->cores != NULL)
        sv_cores_line_up(p->cores, &task->turn);
    else
        hand_to_thread(&task->turn);
    return RT_OK;
}
