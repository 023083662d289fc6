/* From pieces of jobs to a batch and back. */
#include "server/runner.h"

#include <assert.h>
#include <string.h>

#include "server/clock.h"

/* Gets block i to hold at least len bytes. */
static enum rt_status grow(struct sv_runner *r, int i, size_t len, struct rt_error *err)
{
    if (r->block_len[i] >= len && r->block[i] != NULL)
        return RT_OK;
    void *block = rt_alloc(len);
    if (block == NULL)
        return rt_fail_nomem(err, len);
    rt_free(r->block[i]);
    r->block[i] = block;
    r->block_len[i] = len;
    return RT_OK;
}

/* Memory for max_batch samples of each input whose sizes are known. */
static enum rt_status make_blocks(struct sv_runner *r, const struct rt_io *const *io,
                                  struct rt_error *err)
{
    if (r->max_batch < 2)
        return RT_OK; /* batches of one piece are run in place */
    for (int i = 0; i < r->n_in; i++) {
        struct rt_shape shape = io[i]->shape;
        shape.dim[0] = r->max_batch;
        size_t len;
        if (!rt_shape_bytes(&shape, io[i]->dtype, &len))
            continue; /* a free dimension: made when its size is seen */
        enum rt_status s = grow(r, i, len, err);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

enum rt_status sv_runner_init(struct sv_runner *r, const struct sv_batcher_options *o, int team,
                              pthread_mutex_t *lock, struct rt_error *err)
{
    size_t n_in = (size_t)o->n_in, n_out = (size_t)o->n_out;
    size_t len = (n_in + n_out) * sizeof(struct rt_tensor) + n_in * (sizeof(void *) + sizeof len);
    *r = (struct sv_runner){
        .ops = o->ops,
        .team = team,
        .n_in = o->n_in,
        .n_out = o->n_out,
        .max_batch = o->max_batch,
        .max_answer = o->max_answer,
        .lock = lock,
        .memory = rt_zalloc(len),
    };
    if (r->memory == NULL)
        return rt_fail_nomem(err, len);
    r->in = r->memory;
    r->out = r->in + n_in;
    r->block = (void **)(r->out + n_out);
    r->block_len = (size_t *)(r->block + n_in);
    enum rt_status s = make_blocks(r, o->in, err);
    if (s == RT_OK)
        s = o->ops->open(o->model, team, &r->session, err);
    if (s != RT_OK)
        sv_runner_reset(r);
    return s;
}

void sv_runner_reset(struct sv_runner *r)
{
    if (r->session != NULL)
        r->ops->close(r->session);
    for (int i = 0; i < r->n_in && r->memory != NULL; i++)
        rt_free(r->block[i]);
    rt_free(r->memory);
    memset(r, 0, sizeof *r);
}

/* The bytes of one sample of t, whose dimension 0 counts samples. */
static size_t sample_bytes(const struct rt_tensor *t)
{
    return (size_t)rt_shape_range(&t->shape, 1, t->shape.rank) * rt_dtype_size(t->dtype);
}

static enum rt_status assemble(struct sv_runner *r, const struct sv_piece *piece, int n,
                               int samples, struct rt_error *err)
{
    const struct sv_job *first = piece[0].job;
    memcpy(r->in, first->in, (size_t)r->n_in * sizeof *r->in);
    if (r->max_batch == 0)
        return RT_OK;
    for (int i = 0; i < r->n_in; i++) {
        struct rt_tensor *t = &r->in[i];
        if (t->data == NULL)
            continue; /* absent, or without elements, in every piece */
        size_t sample = sample_bytes(t);
        t->shape.dim[0] = samples;
        if (n == 1) {
            t->data = (char *)t->data + (size_t)piece[0].from * sample;
            continue;
        }
        size_t len;
        if (!rt_mul_size((size_t)r->max_batch, sample, &len))
            return rt_fail(err, RT_E_LIMIT, "a batch of input %d has too many bytes", i);
        enum rt_status s = grow(r, i, len, err);
        if (s != RT_OK)
            return s;
        t->data = r->block[i];
        char *at = r->block[i];
        for (int k = 0; k < n; k++) {
            size_t part = (size_t)piece[k].n * sample;
            memcpy(at, (const char *)piece[k].job->in[i].data + (size_t)piece[k].from * sample,
                   part);
            at += part;
        }
    }
    return RT_OK;
}

/* Makes job->out for all of the job's samples, shaped as what the session gave. */
static enum rt_status make_outputs(const struct sv_runner *r, struct sv_job *job,
                                   struct rt_error *err)
{
    size_t total = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t at = 0;
        for (int i = 0; i < r->n_out; i++) {
            struct rt_shape shape = r->out[i].shape;
            if (r->max_batch > 0)
                shape.dim[0] = job->n;
            size_t len;
            if (!rt_shape_bytes(&shape, r->out[i].dtype, &len) || len > SIZE_MAX / 4 - at)
                return rt_fail(err, RT_E_LIMIT, "output %d of the request has too many bytes", i);
            if (pass == 1)
                job->out[i] = (struct rt_tensor){
                    .dtype = r->out[i].dtype,
                    .shape = shape,
                    .data = (char *)job->own.out_memory + at,
                };
            at += rt_align_up(len);
        }
        total = at;
        if (r->max_answer > 0 && total > r->max_answer)
            return rt_fail(err, RT_E_LIMIT,
                           "the answer would have %zu bytes, more than the %zu that are given "
                           "(--max-answer): send fewer samples at a time",
                           total, r->max_answer);
        if (pass == 0) {
            job->own.out_memory = rt_alloc(total);
            if (job->own.out_memory == NULL)
                return rt_fail_nomem(err, total);
        }
    }
    return RT_OK;
}

/* Whether what the session gave is as it was when the job's memory was made. */
static bool fits(const struct sv_runner *r, const struct sv_job *job)
{
    for (int i = 0; i < r->n_out; i++) {
        struct rt_shape shape = r->out[i].shape;
        if (r->max_batch > 0)
            shape.dim[0] = job->n;
        if (r->out[i].dtype != job->out[i].dtype || !rt_shape_equal(&shape, &job->out[i].shape))
            return false;
    }
    return true;
}

static enum rt_status copy_out(struct sv_runner *r, const struct sv_piece *piece, int at,
                               struct rt_error *err)
{
    struct sv_job *job = piece->job;
    bool shared = piece->n < job->n;
    enum rt_status s = RT_OK;
    if (shared) {
        pthread_mutex_lock(r->lock);
    } else {
        rt_free(job->own.out_memory); /* of a batch that failed, after which each job runs alone */
        job->own.out_memory = NULL;
    }
    if (job->own.out_memory == NULL)
        s = make_outputs(r, job, err);
    else if (!fits(r, job))
        s = rt_fail(err, RT_E_UNSUPPORTED,
                    "the request has more samples than a batch may hold, and its parts have "
                    "answers of different shapes");
    if (shared)
        pthread_mutex_unlock(r->lock);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < r->n_out; i++) {
        const struct rt_tensor *from = &r->out[i];
        size_t skip = 0, offset = 0, len = (size_t)rt_shape_numel(&from->shape);
        len *= rt_dtype_size(from->dtype);
        if (r->max_batch > 0) {
            size_t sample = sample_bytes(from);
            skip = (size_t)at * sample;
            offset = (size_t)piece->from * sample;
            len = (size_t)piece->n * sample;
        }
        if (len > 0)
            memcpy((char *)job->out[i].data + offset, (const char *)from->data + skip, len);
    }
    return RT_OK;
}

static enum rt_status scatter(struct sv_runner *r, const struct sv_piece *piece, int n, int samples,
                              struct rt_error *err)
{
    for (int i = 0; i < r->n_out && r->max_batch > 0; i++)
        if (r->out[i].shape.rank < 1 || r->out[i].shape.dim[0] != samples)
            return rt_fail(err, RT_E_INVALID,
                           "output %d of the model does not have one row for each sample", i);
    int at = 0;
    for (int k = 0; k < n; k++) {
        enum rt_status s = copy_out(r, &piece[k], at, err);
        if (s != RT_OK)
            return s;
        at += piece[k].n;
    }
    return RT_OK;
}

enum rt_status sv_runner_run(struct sv_runner *r, const struct sv_piece *piece, int n, int samples,
                             struct sv_run_times *times, struct rt_error *err)
{
    assert(n >= 1);
    *times = (struct sv_run_times){ 0 };
    uint64_t start = sv_now_ns();
    enum rt_status s = assemble(r, piece, n, samples, err);
    uint64_t assembled = sv_now_ns();
    times->input_ns = assembled - start;
    if (s != RT_OK)
        return s;
    s = r->ops->run(r->session, r->team, r->in, r->out, err);
    uint64_t ran = sv_now_ns();
    times->infer_ns = ran - assembled;
    if (s == RT_OK)
        s = scatter(r, piece, n, samples, err);
    times->output_ns = sv_now_ns() - ran;
    return s;
}
