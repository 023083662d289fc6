/* Hands out cores in order of arrival: a counting semaphore with tickets. */
#include "server/cores.h"

#include <assert.h>
#include <pthread.h>

#include "runtime/rt.h"

struct sv_cores {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int total, free;
    unsigned next_ticket, serving;
};

enum rt_status sv_cores_create(int total, struct sv_cores **out, struct rt_error *err)
{
    assert(total >= 1);
    struct sv_cores *c = rt_zalloc(sizeof *c);
    if (c == NULL)
        return rt_fail_nomem(err, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->total = c->free = total;
    *out = c;
    return RT_OK;
}

void sv_cores_destroy(struct sv_cores *c)
{
    if (c == NULL)
        return;
    assert(c->free == c->total);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    rt_free(c);
}

int sv_cores_total(const struct sv_cores *c)
{
    return c->total;
}

void sv_cores_take(struct sv_cores *c, int n)
{
    if (c == NULL)
        return;
    if (n > c->total)
        n = c->total;
    pthread_mutex_lock(&c->lock);
    /* A wide team waits at the head until enough is free; narrow ones behind it may not overtake,
     * or it would wait for ever. */
    unsigned ticket = c->next_ticket++;
    while (ticket != c->serving || c->free < n)
        pthread_cond_wait(&c->changed, &c->lock);
    c->free -= n;
    c->serving++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

bool sv_cores_try_take(struct sv_cores *c, int n)
{
    if (c == NULL)
        return true;
    if (n > c->total)
        n = c->total;
    pthread_mutex_lock(&c->lock);
    bool taken = c->next_ticket == c->serving && c->free >= n;
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
    int n = c->next_ticket != c->serving ? 0 : c->free < most ? c->free : most;
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
    pthread_cond_broadcast(&c->changed);
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
