/* Counting kernels, and the workers' turns. */
#include "runtime/rehearsal.h"

#include "runtime/kernels/kernels.h"
#include "runtime/mem.h"

#include <pthread.h>
#include <string.h>

/* --- kernels that count --------------------------------------------------------------------- */

/* What this thread's kernels would have done since it was last looked at. */
static _Thread_local double counted;

/* Operations on vectors that go through memory once, in multiply-adds. */
#define COST_ELEMENT 1.0
#define COST_FUNCTION 12.0 /* of an activation that takes an exponential */
/* A transform of a block of a tile, as the choice of an algorithm has it. */
#define COST_TRANSFORM(m) ((m) == 2 ? 90.0 : 260.0)

static double vectors(size_t n)
{
    return (double)n / rt_kernels()->block;
}

static void count_activation(float *y, const float *x, size_t n, float a, float b)
{
    (void)y, (void)x, (void)a, (void)b;
    counted += vectors(n) * COST_FUNCTION;
}

static void count_clip(float *y, const float *x, size_t n, float a, float b)
{
    (void)y, (void)x, (void)a, (void)b;
    counted += vectors(n) * COST_ELEMENT;
}

static void count_binary(float *y, const float *a, const float *b, size_t n)
{
    (void)y, (void)a, (void)b;
    counted += vectors(n) * COST_ELEMENT;
}

static void count_affine(float *y, const float *x, size_t n, float scale, float shift)
{
    (void)y, (void)x, (void)scale, (void)shift;
    counted += vectors(n) * COST_ELEMENT;
}

static void count_axpy(float *y, const float *x, size_t n, float a)
{
    (void)y, (void)x, (void)a;
    counted += vectors(n) * COST_ELEMENT;
}

static void count_affine_block(float *y, const float *x, size_t pixels, const float *scale,
                               const float *shift)
{
    (void)y, (void)x, (void)scale, (void)shift;
    counted += (double)pixels * COST_ELEMENT;
}

static void count_prelu_block(float *y, const float *x, size_t pixels, const float *slope)
{
    (void)y, (void)x, (void)slope;
    counted += (double)pixels * COST_ELEMENT;
}

static void count_mean_block(float *y, const float *x, size_t pixels)
{
    (void)y, (void)x;
    counted += (double)pixels * COST_ELEMENT;
}

static void count_channel_norm(const struct rt_channel_norm *n)
{
    counted += 3 * COST_ELEMENT * (double)n->pixels * vectors(n->channels);
}

static void count_layout(float *y, const float *x, size_t pixels, size_t stride, int channels)
{
    (void)y, (void)x, (void)stride, (void)channels;
    counted += (double)pixels * COST_ELEMENT;
}

static void count_mac(const struct rt_mac *m)
{
    const size_t tile = (size_t)rt_kernels()->tile;
    const size_t pixels = (m->pixels + tile - 1) / tile * tile; /* a row's last tile is as slow */
    const size_t lanes = (m->outer - 1) * m->lanes + m->last_lanes;
    counted += (double)(pixels * m->rows * m->blocks) * (double)(lanes * m->kh * m->kw);
}

static void count_depthwise(const struct rt_depthwise *d)
{
    counted += (double)(d->pixels * d->rows) * (double)(d->kh * d->kw + 1);
}

static void count_grouped(const struct rt_grouped *g)
{
    counted += (double)(g->pixels * g->rows) * (double)(g->kh * g->kw * g->channels + 1);
}

static void count_select(const struct rt_select *s)
{
    counted += (double)(s->pixels * s->sources) * COST_ELEMENT;
}

static void count_window(const struct rt_window *t)
{
    counted += (double)t->pixels * (double)(t->kh * t->kw);
}

static void count_winograd_input(const struct rt_winograd_in *t)
{
    counted += (double)t->tiles * COST_TRANSFORM(t->m);
}

static void count_winograd_output(const struct rt_winograd_out *t)
{
    counted += (double)t->tiles * COST_TRANSFORM(t->m);
}

/* The chosen level's, with what counts in place of what computes. Slots that are not named here
 * compute as ever. */
static struct rt_kernels counting_kernels(void)
{
    struct rt_kernels k = *rt_kernels();
    for (int i = 0; i < RT_N_ACTIVATIONS; i++)
        k.activation[i] = count_activation;
    k.activation[RT_ACT_RELU] = k.activation[RT_ACT_CLIP] = k.activation[RT_ACT_LEAKY_RELU] =
        k.activation[RT_ACT_HARD_SIGMOID] = k.activation[RT_ACT_HARD_SWISH] =
            k.activation[RT_ACT_ABS] = k.activation[RT_ACT_NEG] = count_clip;
    k.add = k.sub = k.mul = k.div = count_binary;
    k.affine = count_affine;
    k.axpy = count_axpy;
    k.affine_block = count_affine_block;
    k.prelu_block = count_prelu_block;
    k.mean_block = count_mean_block;
    k.channel_norm = count_channel_norm;
    k.to_blocked = k.to_plain = count_layout;
    k.mac = count_mac;
    k.depthwise = count_depthwise;
    k.grouped = count_grouped;
    k.select = count_select;
    k.max_pool = k.mean_pool = count_window;
    k.winograd_input = count_winograd_input;
    k.winograd_output = count_winograd_output;
    return k;
}

/* --- turns ---------------------------------------------------------------------------------- */

struct place {
    double done;  /* its clock: what it has done and waited for */
    double own;   /* what it has done */
    int layer;    /* -1: none yet */
    int barriers; /* that it has come to */
    const struct rt_barrier *at; /* it waits there; NULL: it can go on */
    bool over;
    pthread_cond_t turn;
};

struct rt_rehearsal {
    pthread_mutex_t lock;
    int workers, running; /* running: whose turn it is; -1: nobody's yet */
    struct place *place;
    double *work; /* [layers][workers] */
    struct rt_barrier barrier;
    void (*fn)(void *ctx, const struct rt_worker *w);
    void *ctx;
};

/* Puts what the calling worker has done since then to its clock and layer. */
static void settle(struct rt_rehearsal *r, int worker)
{
    struct place *p = &r->place[worker];
    p->done += counted;
    p->own += counted;
    if (p->layer >= 0)
        r->work[(size_t)p->layer * (size_t)r->workers + (size_t)worker] += counted;
    counted = 0;
}

/* With the lock: the turn goes to whoever can go on and has done least. */
static void pass_turn(struct rt_rehearsal *r)
{
    int next = -1;
    for (int i = 0; i < r->workers; i++)
        if (!r->place[i].over && r->place[i].at == NULL &&
            (next < 0 || r->place[i].done < r->place[next].done))
            next = i;
    r->running = next;
    if (next >= 0)
        pthread_cond_signal(&r->place[next].turn);
}

static void wait_for_turn(struct rt_rehearsal *r, int worker)
{
    while (r->running != worker)
        pthread_cond_wait(&r->place[worker].turn, &r->lock);
}

void rt_rehearsal_turn(const struct rt_worker *w)
{
    struct rt_rehearsal *r = w->rehearsal;
    settle(r, w->number);
    pthread_mutex_lock(&r->lock);
    pass_turn(r);
    wait_for_turn(r, w->number);
    pthread_mutex_unlock(&r->lock);
}

/* All who wait at b go on, none before the last of them has come. */
static void open_barrier(struct rt_rehearsal *r, const struct rt_barrier *b)
{
    double last = 0;
    for (int i = 0; i < r->workers; i++)
        if (r->place[i].at == b && r->place[i].done > last)
            last = r->place[i].done;
    for (int i = 0; i < r->workers; i++)
        if (r->place[i].at == b) {
            r->place[i].done = last;
            r->place[i].at = NULL;
        }
}

void rt_rehearsal_barrier(const struct rt_worker *w)
{
    struct rt_rehearsal *r = w->rehearsal;
    settle(r, w->number);
    pthread_mutex_lock(&r->lock);
    r->place[w->number].at = w->barrier;
    r->place[w->number].barriers++;
    if (atomic_fetch_add(&w->barrier->arrived, 1) + 1 == w->count) {
        atomic_store(&w->barrier->arrived, 0);
        rt_claims_reset(w->barrier, w->count);
        open_barrier(r, w->barrier);
    }
    pass_turn(r);
    wait_for_turn(r, w->number);
    pthread_mutex_unlock(&r->lock);
}

void rt_rehearsal_layer(const struct rt_worker *w, int layer)
{
    settle(w->rehearsal, w->number);
    w->rehearsal->place[w->number].layer = layer;
}

/* --- the rehearsal -------------------------------------------------------------------------- */

struct start {
    struct rt_rehearsal *r;
    int number;
};

static void *work(void *arg)
{
    const struct start *s = arg;
    struct rt_rehearsal *r = s->r;
    const struct rt_worker w = { .id = s->number,
                                 .count = r->workers,
                                 .barrier = &r->barrier,
                                 .rehearsal = r,
                                 .number = s->number };
    pthread_mutex_lock(&r->lock);
    wait_for_turn(r, s->number);
    pthread_mutex_unlock(&r->lock);
    counted = 0;
    if (r->fn != NULL)
        r->fn(r->ctx, &w);
    settle(r, s->number);
    pthread_mutex_lock(&r->lock);
    r->place[s->number].over = true;
    pass_turn(r);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Workers that have begun; fewer than asked for when the system has no more threads, and then none
 * of them does anything. */
static int run_all(struct rt_rehearsal *r, struct start *start, pthread_t *thread)
{
    int n = 0;
    for (; n < r->workers; n++) {
        start[n] = (struct start){ r, n };
        if (pthread_create(&thread[n], NULL, work, &start[n]) != 0)
            break;
    }
    pthread_mutex_lock(&r->lock);
    for (int i = n; i < r->workers; i++)
        r->place[i].over = true;
    if (n < r->workers)
        r->fn = NULL;
    pass_turn(r);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    return n;
}

enum rt_status rt_rehearse(int workers, void (*fn)(void *ctx, const struct rt_worker *w), void *ctx,
                           double *work_of, struct rt_rehearsed *out, struct rt_error *err)
{
    struct rt_rehearsal r = { .workers = workers, .running = -1, .work = work_of, .fn = fn,
                              .ctx = ctx };
    pthread_t *thread = rt_zalloc_array((size_t)workers, sizeof *thread);
    struct start *start = rt_zalloc_array((size_t)workers, sizeof *start);
    r.place = rt_zalloc_array((size_t)workers, sizeof *r.place);
    enum rt_status s = RT_OK;
    if (thread == NULL || start == NULL || r.place == NULL) {
        s = rt_fail_nomem(err, (size_t)workers * sizeof *r.place);
        goto out;
    }
    pthread_mutex_init(&r.lock, NULL);
    for (int i = 0; i < workers; i++) {
        r.place[i].layer = -1;
        pthread_cond_init(&r.place[i].turn, NULL);
    }
    const struct rt_kernels *level = rt_kernels(), counting = counting_kernels();
    rt_kernels_use(&counting);
    const int n = run_all(&r, start, thread);
    rt_kernels_use(level);
    *out = (struct rt_rehearsed){ .work = 0 };
    for (int i = 0; i < workers; i++) {
        out->work += r.place[i].own;
        out->length = r.place[i].done > out->length ? r.place[i].done : out->length;
        out->barriers = r.place[i].barriers > out->barriers ? r.place[i].barriers : out->barriers;
        pthread_cond_destroy(&r.place[i].turn);
    }
    pthread_mutex_destroy(&r.lock);
    if (n < workers)
        s = rt_fail(err, RT_E_BUSY, "the system has no %d threads for a rehearsal", workers);
out:
    rt_free(thread);
    rt_free(start);
    rt_free(r.place);
    return s;
}
