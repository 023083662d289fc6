/* A list of packings, and the team that goes over it. */
#include "runtime/packing.h"

#include "runtime/parallel.h"

#include <stdatomic.h>

bool rt_packings_add(struct rt_packings *p, struct rt_arena *arena, rt_pack *pack, void *ctx,
                     int64_t n)
{
    struct rt_packing *one = rt_arena_alloc(arena, sizeof *one);
    if (one == NULL)
        return false;
    *one = (struct rt_packing){ .pack = pack, .ctx = ctx, .first = p->n, .n = n };
    *(p->tail != NULL ? &p->tail->next : &p->head) = one;
    p->tail = one;
    p->n += n;
    return true;
}

struct run {
    const struct rt_packings *p;
    atomic_llong done;
    void (*progress)(void *user, size_t done, size_t total);
    void *user;
};

static void run(void *ctx, const struct rt_worker *w)
{
    struct run *r = ctx;
    const struct rt_packing *one = r->p->head;
    int64_t begin = 0, end = 0;
    while (rt_worker_claim(w, r->p->n, 1, &begin, &end)) {
        if (w->id == 0)
            r->progress(r->user, (size_t)atomic_load(&r->done), (size_t)r->p->n);
        if (begin < one->first)
            one = r->p->head; /* a claim of what another worker left may lie further back */
        for (int64_t i = begin; i < end; i++) {
            while (i >= one->first + one->n)
                one = one->next;
            one->pack(one->ctx, i - one->first);
        }
        atomic_fetch_add(&r->done, end - begin);
    }
}

void rt_packings_run(const struct rt_packings *p, int threads,
                     void (*progress)(void *user, size_t done, size_t total), void *user)
{
    if (p->n > 0)
        rt_parallel(threads, run, &(struct run){ .p = p, .progress = progress, .user = user });
}
