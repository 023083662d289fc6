/* Hands out cores in order of arrival. Whoever gives cores back hands them on to those that wait,
 * and wakes nobody else: a thread that wakes up in vain takes the core of one that computes. */
#include "server/cores.h"

#include <assert.h>
#include <pthread.h>

#include "runtime/rt.h"

/* One that sleeps in sv_cores_take(). */
struct waiter {
    int n;
    bool served; /* its cores have been taken for it */
    pthread_cond_t changed;
    struct waiter *next;
};

struct sv_cores {
    pthread_mutex_t lock;
    int total, free;
    struct waiter *first, *last; /* in order of arrival */
};

enum rt_status sv_cores_create(int total, struct sv_cores **out, struct rt_error *err)
{
    assert(total >= 1);
    struct sv_cores *c = rt_zalloc(sizeof *c);
    if (c == NULL)
        return rt_fail_nomem(err, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->total = c->free = total;
    *out = c;
    return RT_OK;
}

void sv_cores_destroy(struct sv_cores *c)
{
    if (c == NULL)
        return;
    assert(c->free == c->total);
    pthread_mutex_destroy(&c->lock);
    rt_free(c);
}

int sv_cores_total(const struct sv_cores *c)
{
    return c->total;
}

/* Under the lock. */
static void wait_in_line(struct sv_cores *c, int n)
{
    struct waiter w = { .n = n, .changed = PTHREAD_COND_INITIALIZER };
    *(c->last != NULL ? &c->last->next : &c->first) = &w;
    /* cppcheck-suppress autoVariables ; who is served has left the line */
    c->last = &w;
    while (!w.served)
        pthread_cond_wait(&w.changed, &c->lock);
    pthread_cond_destroy(&w.changed);
}

/* A wide team waits at the head until enough is free; narrow ones behind it may not overtake, or it
 * would wait for ever. Under the lock. */
static void serve(struct sv_cores *c)
{
    for (struct waiter *w = c->first; w != NULL && w->n <= c->free; w = c->first) {
        c->free -= w->n;
        c->first = w->next;
        if (c->first == NULL)
            c->last = NULL;
        w->served = true;
        pthread_cond_signal(&w->changed);
    }
}

void sv_cores_take(struct sv_cores *c, int n)
{
    if (c == NULL)
        return;
    if (n > c->total)
        n = c->total;
    pthread_mutex_lock(&c->lock);
    if (c->first == NULL && c->free >= n)
        c->free -= n;
    else
        wait_in_line(c, n);
    pthread_mutex_unlock(&c->lock);
}

bool sv_cores_try_take(struct sv_cores *c, int n)
{
    if (c == NULL)
        return true;
    if (n > c->total)
        n = c->total;
    pthread_mutex_lock(&c->lock);
    bool taken = c->first == NULL && c->free >= n;
    if (taken)
        c->free -= n;
    pthread_mutex_unlock(&c->lock);
    return taken;
}

int sv_cores_take_spare(struct sv_cores *c, int most)
{
    if (c == NULL)
        return most;
    pthread_mutex_lock(&c->lock);
    int n = c->first != NULL ? 0 : c->free < most ? c->free : most;
    c->free -= n;
    pthread_mutex_unlock(&c->lock);
    return n;
}

void sv_cores_give(struct sv_cores *c, int n)
{
    if (c == NULL)
        return;
    if (n > c->total)
        n = c->total;
    pthread_mutex_lock(&c->lock);
    c->free += n;
    serve(c);
    pthread_mutex_unlock(&c->lock);
}

struct sv_core_split sv_cores_split(int total, int instances)
{
    if (instances <= 0)
        return (struct sv_core_split){ .executors = total, .team = total, .elastic = total > 1 };
    int team = total / instances;
    return (struct sv_core_split){ .executors = instances, .team = team > 0 ? team : 1 };
}

int sv_cores_team(const struct sv_core_split *split, int i)
{
    int team = split->elastic ? split->team / (i + 1) : split->team;
    return team > 0 ? team : 1;
}
