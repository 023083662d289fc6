/* References of models, and the thread that frees them. */
#include "server/fleet.h"

#include <pthread.h>
#include <string.h>

#include "server/model.h"

struct sv_fleet {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sv_model *alive;   /* by next, prev */
    struct sv_model *retired; /* by next: nobody holds them */
    bool stopping;
    pthread_t thread;
};

static void *bury(void *arg)
{
    struct sv_fleet *f = arg;
    pthread_setname_np(pthread_self(), "convd-models");
    pthread_mutex_lock(&f->lock);
    for (;;) {
        struct sv_model *m = f->retired;
        if (m != NULL) {
            f->retired = m->next;
            pthread_mutex_unlock(&f->lock);
            sv_model_destroy(m);
            pthread_mutex_lock(&f->lock);
        } else if (f->stopping && f->alive == NULL) {
            break;
        } else {
            pthread_cond_wait(&f->changed, &f->lock);
        }
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

enum rt_status sv_fleet_create(struct sv_fleet **out, struct rt_error *err)
{
    struct sv_fleet *f = rt_zalloc(sizeof *f);
    if (f == NULL)
        return rt_fail_nomem(err, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    int e = pthread_create(&f->thread, NULL, bury, f);
    if (e != 0) {
        pthread_cond_destroy(&f->changed);
        pthread_mutex_destroy(&f->lock);
        rt_free(f);
        return rt_fail(err, RT_E_IO, "cannot start a thread: %s", strerror(e));
    }
    *out = f;
    return RT_OK;
}

void sv_fleet_destroy(struct sv_fleet *f)
{
    if (f == NULL)
        return;
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    rt_free(f);
}

void sv_fleet_join(struct sv_fleet *f, struct sv_model *m)
{
    pthread_mutex_lock(&f->lock);
    m->fleet = f;
    m->prev = NULL;
    m->next = f->alive;
    if (f->alive != NULL)
        f->alive->prev = m;
    f->alive = m;
    pthread_mutex_unlock(&f->lock);
}

static void retire(struct sv_fleet *f, struct sv_model *m)
{
    pthread_mutex_lock(&f->lock);
    *(m->prev != NULL ? &m->prev->next : &f->alive) = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    m->next = f->retired;
    f->retired = m;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void sv_fleet_stop(struct sv_fleet *f, bool abort)
{
    pthread_mutex_lock(&f->lock);
    for (struct sv_model *m = f->alive; m != NULL; m = m->next) {
        if (abort)
            sv_batcher_abort(m->batcher);
        else
            sv_batcher_stop(m->batcher);
    }
    pthread_mutex_unlock(&f->lock);
}

struct sv_model *sv_model_retain(struct sv_model *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void sv_model_release(struct sv_model *m)
{
    if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (m->fleet != NULL)
        retire(m->fleet, m);
    else
        sv_model_destroy(m);
}
