/* A counter of pictures that are left; whoever takes it to zero submits the job. */
#include "server/pictures.h"

#include "runtime/rt.h"
#include "server/base64.h"
#include "server/clock.h"

struct picture {
    struct sv_task task;
    struct sv_pictures *all;
    const char *bytes;
    size_t len;
    bool base64;
    const char *what; /* what errors call it; NULL: nothing was said */
    void *dst;        /* its sample in the job's input */
};

struct sv_pictures {
    struct sv_job *job;
    struct sv_preprocess preprocess;
    const char *input; /* its name */
    uint64_t begun;
    atomic_int left;    /* pictures that have not ended */
    atomic_bool failed; /* job->error is being written, or was */
    atomic_bool cancelled;
    int n;
    struct picture picture[];
};

struct rt_shape sv_pictures_shape(const struct sv_model *m, int n)
{
    const struct sv_preprocess *p = &m->preprocess;
    const int64_t chw[] = { p->channels, p->height, p->width };
    const int64_t hwc[] = { p->height, p->width, p->channels };
    struct rt_shape shape = rt_model_input(m->rt, m->image_input)->shape;
    int first = shape.rank - 3;
    for (int d = 0; d < 3; d++)
        shape.dim[first + d] = p->nhwc ? hwc[d] : chw[d];
    if (first > 0)
        shape.dim[0] = n;
    return shape;
}

/* The first failure is the job's. Whether this is it. */
static bool fail(struct sv_pictures *p, const struct rt_error *err)
{
    const bool first = !atomic_exchange(&p->failed, true);
    if (first)
        p->job->error = *err;
    return first;
}

/* After it p may be gone. */
static void ended(struct sv_pictures *p, int how_many)
{
    if (atomic_fetch_sub(&p->left, how_many) != how_many)
        return;
    struct sv_job *job = p->job;
    struct rt_error err;
    if (!atomic_load(&p->failed)) {
        job->decode_ns += sv_now_ns() - p->begun;
        if (sv_batcher_submit(job, &err) == RT_OK)
            return;
        job->error = err;
    }
    job->done(job);
}

static enum rt_status decode(const struct picture *x, struct rt_error *err)
{
    const struct sv_preprocess *how = &x->all->preprocess;
    if (!x->base64)
        return sv_preprocess_run(how, x->bytes, x->len, x->dst, NULL, err);
    unsigned char *bytes = rt_alloc(x->len / 4 * 3 + 3);
    size_t len;
    if (bytes == NULL)
        return rt_fail_nomem(err, x->len);
    enum rt_status s = sv_base64_decode(x->bytes, x->len, bytes, &len)
                           ? sv_preprocess_run(how, bytes, len, x->dst, NULL, err)
                           : rt_fail(err, RT_E_INVALID, "the text is not base64");
    rt_free(bytes);
    return s;
}

/* Says which picture is meant, and that an unknown format is the client's fault. */
static void blame(const struct picture *x, struct rt_error *err)
{
    if (err->status == RT_E_UNSUPPORTED)
        err->status = RT_E_INVALID;
    if (x->what == NULL)
        rt_error_prefix(err, "input '%s', picture %d", x->all->input, (int)(x - x->all->picture));
    else if (x->what[0] != '\0')
        rt_error_prefix(err, "%s", x->what);
}

static void run(struct sv_task *task)
{
    struct picture *x = (struct picture *)(void *)task;
    struct sv_pictures *p = x->all;
    struct rt_error err;
    if (atomic_load(&p->cancelled)) {
        rt_fail(&err, RT_E_TIMEOUT, "The client went away before the request was run");
        fail(p, &err);
    } else if (!atomic_load(&p->failed) && decode(x, &err) != RT_OK) {
        blame(x, &err);
        if (fail(p, &err))
            sv_batcher_count_failed(p->job->batcher, p->job->arrival);
    }
    ended(p, 1);
}

enum rt_status sv_pictures_create(const struct sv_model *m, struct sv_job *job, int n,
                                  struct sv_pictures **out, struct rt_error *err)
{
    const struct rt_io *io = rt_model_input(m->rt, m->image_input);
    const struct rt_shape shape = sv_pictures_shape(m, n);
    if (n < 1 || (n > 1 && m->max_batch == 0))
        return rt_fail(err, RT_E_INVALID, "input '%s' takes one picture, got %d", io->name, n);
    if (n > SV_PICTURES_MAX)
        return rt_fail(err, RT_E_LIMIT, "more than %d pictures in one request", SV_PICTURES_MAX);
    enum rt_status s = sv_job_input(job, m->image_input, io->dtype, &shape, err);
    if (s != RT_OK)
        return s;
    struct sv_pictures *p = rt_zalloc(sizeof *p + (size_t)n * sizeof p->picture[0]);
    if (p == NULL)
        return rt_fail_nomem(err, sizeof *p + (size_t)n * sizeof p->picture[0]);
    p->job = job;
    p->preprocess = m->preprocess;
    p->input = io->name;
    p->n = n;
    for (int i = 0; i < n; i++)
        p->picture[i] = (struct picture){
            .task.run = run,
            .all = p,
            .dst = (char *)job->in[m->image_input].data +
                   (size_t)i * sv_preprocess_bytes(&m->preprocess),
        };
    *out = p;
    return RT_OK;
}

void sv_pictures_set(struct sv_pictures *p, int i, const char *bytes, size_t len, bool base64)
{
    p->picture[i].bytes = bytes;
    p->picture[i].len = len;
    p->picture[i].task.is_long = len > SV_TASK_LONG;
    p->picture[i].base64 = base64;
}

void sv_pictures_call(struct sv_pictures *p, int i, const char *what)
{
    p->picture[i].what = what;
}

void sv_pictures_start(struct sv_pictures *p, struct sv_pool *pool, size_t max_pixels)
{
    const int n = p->n;
    if (max_pixels > 0)
        p->preprocess.max_pixels = max_pixels;
    p->begun = sv_now_ns();
    atomic_store(&p->left, n);
    struct rt_error err;
    if (sv_job_promise(p->job, &err) != RT_OK) {
        fail(p, &err);
        ended(p, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (sv_pool_submit(pool, &p->picture[i].task, &err) != RT_OK) {
            if (fail(p, &err))
                sv_batcher_count_failed(p->job->batcher, p->job->arrival);
            ended(p, n - i); /* p may be gone from here on */
            return;
        }
    }
}

void sv_pictures_cancel(struct sv_pictures *p)
{
    atomic_store(&p->cancelled, true);
}

void sv_pictures_destroy(struct sv_pictures *p)
{
    rt_free(p);
}
