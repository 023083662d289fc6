/* POST .../infer and :predict: tensors in, tensors out. */
#include "server/routes.h"

#include "runtime/rt.h"
#include "server/clock.h"
#include "server/codec.h"
#include "server/compress.h"

#include <stdlib.h>

/* So much JSON, or so many values to print as such, take less time than asking the pool. */
#define SHORT_JSON ((size_t)64 << 10)
#define FEW_VALUES ((size_t)8 << 10)
#define BYTES_OF_A_VALUE 8 /* or so, as text */

/* A request from its decoding to its answer. */
struct waiting {
    struct sv_task task; /* its decoding, or its encoding, if that is long */
    struct sv_pool *pool;
    size_t max_pixels;
    struct sv_request *req;
    struct sv_model *model;
    enum sv_form form;
    const char *json_len;  /* the header's; NULL: it is absent */
    enum sv_coding coding; /* that the answer may have */
    struct rt_error error; /* of its decoding */
    struct sv_infer infer;
    atomic_bool decoded, cancelled; /* from decoded on there is a job to cancel */
    bool answered;                  /* the response is filled */
};

static void fill(struct waiting *w)
{
    struct sv_response *res = &w->req->response;
    if (w->error.status != RT_OK) {
        sv_reply_error(res, &w->error);
        return;
    }
    sv_account_job(w->req, w->model, w->infer.job);
    if (w->infer.job->error.status != RT_OK) {
        sv_reply_error(res, &w->infer.job->error);
        return;
    }
    struct sv_text text = { 0 };
    struct rt_error err;
    size_t json_len;
    if (sv_infer_encode(&w->infer, &text, &json_len, &err) != RT_OK) {
        sv_text_reset(&text);
        sv_reply_error(res, &err);
        return;
    }
    if (json_len < text.len) {
        res->content_type = "application/octet-stream";
        sv_response_header(res, "Inference-Header-Content-Length", "%zu", json_len);
    }
    sv_response_text(res, &text);
}

static void finish(void *state, struct sv_request *req)
{
    struct waiting *w = state;
    (void)req;
    if (!w->answered)
        fill(w);
    sv_infer_reset(&w->infer); /* the tensors need not wait until the peer has taken the answer */
}

static void cancel(void *state)
{
    struct waiting *w = state;
    atomic_store(&w->cancelled, true);
    if (!atomic_load(&w->decoded))
        return;
    if (w->infer.pictures != NULL)
        sv_pictures_cancel(w->infer.pictures);
    sv_job_cancel(w->infer.job);
}

static void release(void *state)
{
    struct waiting *w = state;
    sv_infer_reset(&w->infer);
    sv_model_release(w->model);
    rt_free(w);
}

static const struct sv_work work = { .finish = finish, .cancel = cancel, .release = release };

static void run_answer(struct sv_task *task)
{
    struct waiting *w = (struct waiting *)(void *)task;
    fill(w);
    sv_response_deflate_as(&w->req->response, w->coding);
    w->answered = true;
    sv_request_wake(w->req);
}

static size_t values_to_print(const struct waiting *w)
{
    size_t values = 0;
    for (int i = 0; i < w->infer.n_wanted; i++)
        if (!w->infer.wanted[i].binary)
            values += (size_t)rt_shape_numel(&w->infer.job->out[w->infer.wanted[i].index].shape);
    return values;
}

/* Where the pool is full, the thread of the socket prints the answer. */
static void job_done(struct sv_job *job)
{
    struct waiting *w = job->user;
    const size_t values = job->error.status == RT_OK ? values_to_print(w) : 0;
    w->task.run = run_answer;
    w->task.is_long = values > SV_TASK_LONG / BYTES_OF_A_VALUE;
    if (values <= FEW_VALUES || sv_pool_submit(w->pool, &w->task, NULL) != RT_OK)
        sv_request_wake(w->req);
}

/* Decodes the request, in either protocol's words, and submits its job. w may be gone on RT_OK. */
static enum rt_status start(struct waiting *w, struct rt_error *err)
{
    const struct sv_request *req = w->req;
    const uint64_t begun = sv_now_ns();
    enum rt_status s =
        w->form != SV_FORM_V2
            ? sv_predict_decode(w->model, req->body, req->body_len, &w->infer, err)
            : sv_infer_decode(w->model, req->body, req->body_len, w->json_len, &w->infer, err);
    if (s != RT_OK) {
        sv_batcher_count_failed(w->model->batcher, req->arrival);
        return s;
    }
    struct sv_job *job = w->infer.job;
    job->arrival = req->arrival;
    job->decode_ns = sv_now_ns() - begun;
    job->done = job_done;
    job->user = w;
    atomic_store(&w->decoded, true);
    if (w->infer.pictures == NULL)
        return sv_batcher_submit(job, err);
    sv_pictures_start(w->infer.pictures, w->pool, w->max_pixels);
    return RT_OK;
}

static void run_start(struct sv_task *task)
{
    struct waiting *w = (struct waiting *)(void *)task;
    struct rt_error err;
    enum rt_status s =
        atomic_load(&w->cancelled)
            ? rt_fail(&err, RT_E_TIMEOUT, "The client went away before the request was run")
            : start(w, &err);
    if (s == RT_OK)
        return;
    w->error = err;
    sv_request_wake(w->req);
}

/* The bytes of JSON in the body. */
static size_t json_bytes(const struct waiting *w)
{
    const size_t len = w->req->body_len;
    const unsigned long long said =
        w->json_len != NULL && w->form == SV_FORM_V2 ? strtoull(w->json_len, NULL, 10) : len;
    return said < len ? (size_t)said : len;
}

static void post(struct sv_app *app, struct sv_request *req, const struct sv_target *target,
                 enum sv_form form)
{
    struct rt_error err;
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    struct waiting *w = rt_zalloc(sizeof *w);
    if (w == NULL) {
        rt_fail_nomem(&err, sizeof *w);
        sv_reply_error(&req->response, &err);
        sv_model_release(m);
        return;
    }
    w->pool = app->pool;
    w->max_pixels = (size_t)app->limits.max_pixels;
    w->req = req;
    w->model = m;
    w->form = form;
    w->json_len = sv_request_header(req, "Inference-Header-Content-Length");
    w->coding = sv_accepted_coding(sv_request_header(req, "Accept-Encoding"));
    sv_request_sleep(req, &work, w);
    enum rt_status s;
    if (json_bytes(w) > SHORT_JSON) {
        w->task.run = run_start;
        w->task.is_long = json_bytes(w) > SV_TASK_LONG;
        s = sv_pool_submit(app->pool, &w->task, &err);
        if (s != RT_OK)
            sv_batcher_count_failed(m->batcher, req->arrival);
    } else {
        s = start(w, &err);
    }
    if (s == RT_OK)
        return;
    w->error = err;
    sv_request_wake(req);
}

static void release_model(void *state)
{
    sv_model_release(state);
}

/* Keeps the model that a refused request names until its line has been logged. */
static const struct sv_work refused = { .release = release_model };

bool sv_admits_job(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct rt_error err;
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return false;
    if (sv_batcher_admit(m->batcher, req->arrival, &err) == RT_OK) {
        sv_model_release(m);
        return true;
    }
    req->account.model = m->name;
    req->account.version = m->version_text;
    req->work = &refused;
    req->state = m;
    sv_reply_error(&req->response, &err);
    return false;
}

void sv_post_infer(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    post(app, req, target, SV_FORM_V2);
}

void sv_post_predict(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    post(app, req, target, SV_FORM_ROWS);
}
