/* Hands out cores in order of arrival. Whoever gives cores back hands them on to those that wait,
 * and wakes nobody else: a thread that wakes up in vain takes the core of one that computes. */
#include "server/cores.h"

#include <assert.h>
#include <pthread.h>

#include "runtime/rt.h"

/* A thread that sleeps in sv_cores_take(). */
struct sleeper {
    struct sv_turn turn; /* first: a turn of a thread is a sleeper */
    bool served;
    pthread_cond_t changed;
};

struct sv_cores {
    pthread_mutex_t lock;
    int total, free;
    struct sv_turn *first, *last; /* in order of arrival */
    uint64_t next_number;
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
static void enqueue(struct sv_cores *c, struct sv_turn *turn, int n)
{
    turn->n = n;
    turn->number = c->next_number++;
    turn->next = NULL;
    *(c->last != NULL ? &c->last->next : &c->first) = turn;
    c->last = turn;
}

/* Under the lock. */
static struct sv_turn *dequeue(struct sv_cores *c)
{
    struct sv_turn *turn = c->first;
    c->first = turn->next;
    if (c->first == NULL)
        c->last = NULL;
    return turn;
}

static void wake_sleeper(struct sv_turn *turn)
{
    struct sleeper *s = (struct sleeper *)(void *)turn;
    s->served = true;
    pthread_cond_signal(&s->changed);
}

/* Under the lock. */
static void wait_in_line(struct sv_cores *c, int n)
{
    struct sleeper s = { .turn.come = wake_sleeper, .changed = PTHREAD_COND_INITIALIZER };
    enqueue(c, &s.turn, n);
    while (!s.served)
        pthread_cond_wait(&s.changed, &c->lock);
    pthread_cond_destroy(&s.changed);
}

/* A wide team waits at the head until enough is free; narrow ones behind it may not overtake, or it
 * would wait for ever. Under the lock. */
static void serve(struct sv_cores *c)
{
    while (c->first != NULL && c->first->n <= c->free) {
        struct sv_turn *turn = dequeue(c);
        c->free -= turn->n;
        turn->come(turn);
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

void sv_cores_line_up(struct sv_cores *c, struct sv_turn *turn)
{
    pthread_mutex_lock(&c->lock);
    enqueue(c, turn, 1);
    serve(c);
    pthread_mutex_unlock(&c->lock);
}

struct sv_turn *sv_cores_pass_on(struct sv_cores *c, uint64_t before, bool *kept)
{
    struct sv_turn *turn = NULL;
    *kept = false;
    if (c == NULL)
        return NULL;
    pthread_mutex_lock(&c->lock);
    if (before != SV_TURN_NEVER && (c->first == NULL || c->first->number >= before)) {
        *kept = true;
    } else if (c->first != NULL && c->first->run != NULL) {
        turn = dequeue(c);
    } else {
        c->free++;
        serve(c);
    }
    pthread_mutex_unlock(&c->lock);
    return turn;
}

uint64_t sv_cores_next_number(struct sv_cores *c)
{
    if (c == NULL)
        return 0;
    pthread_mutex_lock(&c->lock);
    uint64_t number = c->next_number;
    pthread_mutex_unlock(&c->lock);
    return number;
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
