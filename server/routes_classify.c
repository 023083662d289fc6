/* POST .../classify: pictures in, the names of what they show out. Pictures are decoded on the
 * pool, each a task of its own, straight into the input of the job. */
#include "server/routes.h"

#include "runtime/rt.h"
#include "server/clock.h"
#include "server/image.h"
#include "server/multipart.h"
#include "server/pictures.h"
#include "server/scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX SV_PICTURES_MAX
#define TOP_DEFAULT 5
#define TOP_MAX 1000

struct classify;

/* One picture of the request. */
struct picture {
    struct sv_task task;
    struct classify *request;
    const void *bytes; /* in the body */
    size_t len;
    void *dst; /* its sample in a job's input */
    bool named;
    char name[128]; /* of the file */
};

/* A request from its arrival to its answer. It belongs to the tasks, then to the jobs, and after
 * the last of them to the request again. */
struct classify {
    struct sv_request *req;
    struct sv_model *model;
    struct sv_preprocess preprocess;
    int top;
    uint64_t begun;
    atomic_int left;    /* tasks, then jobs, that have not ended */
    atomic_bool failed; /* error is being written, or was */
    atomic_bool cancelled;
    struct rt_error error; /* read once left is 0 */
    int n;
    struct picture *picture; /* picture[0..n) */
    int n_jobs;              /* 1; or n, for a model without a batch axis */
    struct sv_job **job;
};

static void fail(struct classify *c, const struct rt_error *err)
{
    if (!atomic_exchange(&c->failed, true))
        c->error = *err;
}

static void job_ended(struct classify *c, int how_many)
{
    if (atomic_fetch_sub(&c->left, how_many) == how_many)
        sv_request_wake(c->req);
}

static void job_done(struct sv_job *job)
{
    struct classify *c = job->user;
    if (job->error.status != RT_OK)
        fail(c, &job->error);
    job_ended(c, 1);
}

static void submit_jobs(struct classify *c)
{
    const int n = c->n_jobs;
    uint64_t decode_ns = sv_now_ns() - c->begun;
    atomic_store(&c->left, n);
    for (int i = 0; i < n; i++) {
        struct rt_error err;
        c->job[i]->decode_ns = decode_ns;
        if (sv_batcher_submit(c->job[i], &err) != RT_OK) {
            fail(c, &err);
            job_ended(c, n - i); /* none of the rest is submitted; c may be gone */
            return;
        }
    }
}

static void picture_ended(struct classify *c, int how_many)
{
    if (atomic_fetch_sub(&c->left, how_many) != how_many)
        return;
    if (atomic_load(&c->failed))
        sv_request_wake(c->req);
    else
        submit_jobs(c);
}

/* Says which picture is meant, and that an unknown format is the client's fault. */
static void blame(const struct picture *p, struct rt_error *err)
{
    const struct classify *c = p->request;
    if (err->status == RT_E_UNSUPPORTED)
        err->status = RT_E_INVALID;
    if (p->named)
        rt_error_prefix(err, "image %d ('%s')", (int)(p - c->picture), p->name);
    else if (c->n > 1)
        rt_error_prefix(err, "image %d", (int)(p - c->picture));
}

static void decode(struct sv_task *task)
{
    struct picture *p = (struct picture *)(void *)task;
    struct classify *c = p->request;
    struct rt_error err;
    if (atomic_load(&c->cancelled)) {
        rt_fail(&err, RT_E_TIMEOUT, "The client went away before the request was run");
        fail(c, &err);
    } else if (!atomic_load(&c->failed) &&
               sv_preprocess_run(&c->preprocess, p->bytes, p->len, p->dst, NULL, &err) != RT_OK) {
        blame(p, &err);
        fail(c, &err);
    }
    picture_ended(c, 1);
}

static enum rt_status write_classes(const struct classify *c, int i, struct sv_text *t,
                                    struct sv_class *best, struct rt_error *err)
{
    const struct sv_model *m = c->model;
    const struct sv_job *job = c->job[c->n_jobs > 1 ? i : 0];
    const struct picture *p = &c->picture[i];
    int n;
    enum rt_status s =
        sv_scores_top(&job->out[0], c->n_jobs > 1 ? 0 : i, job->n, m->config.scores,
                      rt_model_output_is_probability(m->rt, 0), c->top, best, &n, err);
    if (s != RT_OK)
        return s;
    sv_text_printf(t, "%s{\"image\":%d,", i > 0 ? "," : "", i);
    if (p->named) {
        sv_text_add(t, "\"name\":");
        sv_text_json_str(t, p->name);
        sv_text_add(t, ",");
    }
    sv_text_add(t, "\"classes\":[");
    for (int k = 0; k < n; k++) {
        const char *label = sv_labels_get(&m->labels, best[k].index);
        sv_text_printf(t, "%s{\"index\":%lld,\"label\":", k > 0 ? "," : "",
                       (long long)best[k].index);
        if (label != NULL)
            sv_text_json_str(t, label);
        else
            sv_text_add(t, "null");
        sv_text_add(t, ",\"score\":");
        if (isfinite(best[k].score))
            sv_text_float(t, best[k].score);
        else
            sv_text_add(t, "null");
        sv_text_add(t, "}");
    }
    sv_text_add(t, "]}");
    return RT_OK;
}

static void finish(void *state, struct sv_request *req)
{
    struct classify *c = state;
    struct sv_text t = { 0 };
    struct rt_error err = { 0 };
    struct sv_class best[TOP_MAX];
    for (int i = 0; i < c->n_jobs; i++)
        sv_account_job(req, c->model, c->job[i]);
    if (atomic_load(&c->failed)) {
        sv_reply_error(&req->response, &c->error);
        return;
    }
    sv_text_add(&t, "{\"model_name\":");
    sv_text_json_str(&t, c->model->name);
    sv_text_printf(&t, ",\"model_version\":\"%s\",\"predictions\":[", c->model->version_text);
    enum rt_status s = RT_OK;
    for (int i = 0; s == RT_OK && i < c->n; i++)
        s = write_classes(c, i, &t, best, &err);
    sv_text_add(&t, "]}");
    if (s == RT_OK) {
        sv_response_text(&req->response, &t);
    } else {
        sv_text_reset(&t);
        sv_reply_error(&req->response, &err);
    }
}

static void cancel(void *state)
{
    struct classify *c = state;
    atomic_store(&c->cancelled, true);
    for (int i = 0; i < c->n_jobs; i++)
        sv_job_cancel(c->job[i]);
}

static void release(void *state)
{
    struct classify *c = state;
    for (int i = 0; c->job != NULL && i < c->n_jobs; i++)
        sv_job_destroy(c->job[i]);
    rt_free(c->job);
    rt_free(c->picture);
    sv_model_release(c->model);
    rt_free(c);
}

static const struct sv_work work = { .finish = finish, .cancel = cancel, .release = release };

static enum rt_status add_picture(struct classify *c, const struct sv_part *part,
                                  struct rt_error *err)
{
    if (c->n == FILES_MAX)
        return rt_fail(err, RT_E_LIMIT, "more than %d files in one request", FILES_MAX);
    struct picture *p = &c->picture[c->n++];
    *p = (struct picture){ .task.run = decode,
                           .request = c,
                           .bytes = part->bytes,
                           .len = part->len,
                           .named = part->has_file_name && part->file_name[0] != '\0' };
    memcpy(p->name, part->file_name, sizeof p->name);
    return RT_OK;
}

/* The body as one picture, or a form whose files are pictures. */
static enum rt_status find_pictures(struct classify *c, struct rt_error *err)
{
    const struct sv_request *req = c->req;
    const char *type = sv_request_header(req, "Content-Type");
    bool form = sv_is_multipart(type);
    c->picture = rt_alloc_array(form ? FILES_MAX : 1, sizeof *c->picture);
    if (c->picture == NULL)
        return rt_fail_nomem(err, FILES_MAX * sizeof *c->picture);
    if (req->body_len == 0)
        return rt_fail(err, RT_E_INVALID,
                       "the body is empty: send one JPEG, PNG or WebP file, or a "
                       "multipart/form-data body with several");
    if (!form) {
        struct sv_part whole = { .bytes = req->body, .len = req->body_len };
        return add_picture(c, &whole, err);
    }
    struct sv_parts parts;
    struct sv_part part;
    bool more = true;
    enum rt_status s = sv_parts_begin(&parts, type, req->body, req->body_len, err);
    while (s == RT_OK) {
        s = sv_parts_next(&parts, &part, &more, err);
        if (s != RT_OK || !more)
            break;
        /* Fields of the form that are no files are not ours. */
        if (part.has_file_name || sv_image_recognised(part.bytes, part.len))
            s = add_picture(c, &part, err);
    }
    if (s == RT_OK && c->n == 0)
        return rt_fail(err, RT_E_INVALID, "the form holds no file");
    return s;
}

static enum rt_status read_top(const struct sv_request *req, int *top, struct rt_error *err)
{
    const char *text = sv_request_query(req, "top");
    *top = TOP_DEFAULT;
    if (text == NULL)
        return RT_OK;
    char *end;
    long v = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || v < 1 || v > TOP_MAX)
        return rt_fail(err, RT_E_INVALID, "'top' must be a whole number from 1 to %d, got '%.32s'",
                       TOP_MAX, text);
    *top = (int)v;
    return RT_OK;
}

/* The jobs, and in them a place for each picture. */
static enum rt_status make_jobs(struct classify *c, struct rt_error *err)
{
    const struct sv_model *m = c->model;
    const struct rt_io *io = rt_model_input(m->rt, m->image_input);
    const bool batched = m->max_batch > 0;
    const int n_jobs = batched ? 1 : c->n, per_job = batched ? c->n : 1;
    const struct rt_shape shape = sv_pictures_shape(m, per_job);
    const size_t sample = sv_preprocess_bytes(&c->preprocess);
    c->job = rt_zalloc_array((size_t)n_jobs, sizeof *c->job);
    if (c->job == NULL)
        return rt_fail_nomem(err, (size_t)n_jobs * sizeof *c->job);
    for (; c->n_jobs < n_jobs; c->n_jobs++) {
        struct sv_job *job = sv_job_create(m->batcher);
        if (job == NULL)
            return rt_fail_nomem(err, sizeof *job);
        c->job[c->n_jobs] = job;
        job->n = per_job;
        job->arrival = c->req->arrival;
        job->done = job_done;
        job->user = c;
        enum rt_status s = sv_job_input(job, m->image_input, io->dtype, &shape, err);
        if (s != RT_OK) {
            c->n_jobs++;
            return s;
        }
        for (int i = 0; i < per_job; i++)
            c->picture[c->n_jobs * per_job + i].dst =
                (char *)job->in[m->image_input].data + (size_t)i * sample;
    }
    return RT_OK;
}

static enum rt_status check_model(const struct sv_model *m, struct rt_error *err)
{
    if (m->image_input < 0)
        return rt_fail(err, RT_E_INVALID, "model '%s' takes no pictures: %s", m->name,
                       m->image_note);
    if (m->n_in != 1)
        return rt_fail(err, RT_E_INVALID,
                       "model '%s' has %d inputs, pictures alone are not enough for it; use infer",
                       m->name, m->n_in);
    return RT_OK;
}

void sv_post_classify(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct rt_error err;
    if (!sv_accepts_work(app, &req->response))
        return;
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    struct classify *c = rt_zalloc(sizeof *c);
    if (c == NULL) {
        rt_fail_nomem(&err, sizeof *c);
        sv_reply_error(&req->response, &err);
        sv_model_release(m);
        return;
    }
    c->req = req;
    c->model = m;
    c->begun = sv_now_ns();
    c->preprocess = m->preprocess;
    if (app->limits.max_pixels > 0)
        c->preprocess.max_pixels = (size_t)app->limits.max_pixels;
    enum rt_status s = check_model(m, &err);
    if (s == RT_OK)
        s = read_top(req, &c->top, &err);
    if (s == RT_OK)
        s = find_pictures(c, &err);
    if (s == RT_OK)
        s = make_jobs(c, &err);
    if (s != RT_OK) {
        sv_reply_error(&req->response, &err);
        release(c);
        return;
    }
    const int n = c->n;
    atomic_store(&c->left, n);
    sv_request_sleep(req, &work, c);
    for (int i = 0; i < n; i++)
        if (sv_pool_submit(app->pool, &c->picture[i].task, &err) != RT_OK) {
            fail(c, &err);
            picture_ended(c, n - i); /* c may be gone from here on */
            return;
        }
}
