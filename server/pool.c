/* Runs tasks on a few threads. */
#include "server/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/rt.h"

struct sv_pool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sv_task *head, *tail;
    int waiting, max_waiting;
    bool stopping;
    struct sv_cores *cores;
    int n_threads;
    pthread_t thread[];
};

static void *work(void *arg)
{
    struct sv_pool *p = arg;
    pthread_setname_np(pthread_self(), "convd-pool");
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->head == NULL && !p->stopping)
            pthread_cond_wait(&p->changed, &p->lock);
        struct sv_task *task = p->head;
        if (task == NULL)
            break;
        p->head = task->next;
        if (p->head == NULL)
            p->tail = NULL;
        p->waiting--;
        pthread_mutex_unlock(&p->lock);
        sv_cores_take(p->cores, 1);
        task->run(task);
        sv_cores_give(p->cores, 1);
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
    if (p->stopping) {
        s = rt_fail(err, RT_E_BUSY, "Server is stopping");
    } else if (p->waiting >= p->max_waiting) {
        s = rt_fail(err, RT_E_BUSY, "Exceeds maximum queue size of bodies to decode");
    } else {
        task->next = NULL;
        *(p->tail != NULL ? &p->tail->next : &p->head) = task;
        p->tail = task;
        p->waiting++;
        pthread_cond_signal(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return s;
}
