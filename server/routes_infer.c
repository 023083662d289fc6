/* POST .../infer and :predict: tensors in, tensors out. */
#include "server/routes.h"

#include "runtime/rt.h"
#include "server/clock.h"
#include "server/codec.h"

/* A request from its decoding to its answer. */
struct waiting {
    struct sv_request *req;
    struct sv_model *model;
    struct sv_infer infer;
};

static void finish(void *state, struct sv_request *req)
{
    struct waiting *w = state;
    struct sv_response *res = &req->response;
    sv_account_job(req, w->model, w->infer.job);
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

static void cancel(void *state)
{
    struct waiting *w = state;
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

static void job_done(struct sv_job *job)
{
    struct waiting *w = job->user;
    sv_request_wake(w->req);
}

/* The request in either protocol's words. */
static enum rt_status decode(enum sv_form form, const struct sv_model *m,
                             const struct sv_request *req, struct sv_infer *out,
                             struct rt_error *err)
{
    if (form != SV_FORM_V2)
        return sv_predict_decode(m, req->body, req->body_len, out, err);
    return sv_infer_decode(m, req->body, req->body_len,
                           sv_request_header(req, "Inference-Header-Content-Length"), out, err);
}

static void post(struct sv_app *app, struct sv_request *req, const struct sv_target *target,
                 enum sv_form form)
{
    struct rt_error err;
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    struct waiting *w = rt_zalloc(sizeof *w);
    uint64_t begun = sv_now_ns();
    enum rt_status s =
        w != NULL ? decode(form, m, req, &w->infer, &err) : rt_fail_nomem(&err, sizeof *w);
    if (s != RT_OK) {
        sv_reply_error(&req->response, &err);
        rt_free(w);
        sv_model_release(m);
        return;
    }
    struct sv_job *job = w->infer.job;
    w->req = req;
    w->model = m;
    job->arrival = req->arrival;
    job->decode_ns = sv_now_ns() - begun;
    job->done = job_done;
    job->user = w;
    sv_request_sleep(req, &work, w);
    if (w->infer.pictures != NULL) {
        sv_pictures_start(w->infer.pictures, app->pool, (size_t)app->limits.max_pixels);
    } else if (sv_batcher_submit(job, &err) != RT_OK) {
        job->error = err;
        sv_request_wake(req);
    }
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
