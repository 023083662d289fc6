/* .../report and .../profile: what a model was compiled to, and what each of its layers takes. A
 * profile is measured on the thread that loads models, with cores taken like an executor's. */
#include "server/routes.h"

#include <string.h>

#include "server/layer_times.h"
#include "server/model.h"
#include "server/report.h"

#define SECONDS 1.0 /* of a profile */

void sv_get_model_report(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    const char *slash = strrchr(m->path, '/');
    struct sv_text t = { 0 };
    struct sv_json j;
    char text[SV_PREPROCESS_TEXT];
    sv_json_init_text(&j, &t);
    sv_report_json(&j, slash != NULL ? slash + 1 : m->path, m->rt,
                   m->image_input >= 0 ? sv_preprocess_describe(&m->preprocess, text) : NULL, NULL);
    sv_model_release(m);
    sv_response_text(&req->response, &t);
}

/* A profile that is being measured for a request. */
struct profile {
    struct sv_task task; /* first: a task is a profile */
    struct sv_app *app;
    struct sv_request *req;
    struct sv_model *model;
    int batch, team, runs;
    struct rt_tensor *in, *out; /* in[i].data are blocks of zeros */
    double *seconds;            /* of each layer */
    struct rt_error err;
};

static enum rt_status make_tensors(struct profile *p, struct rt_error *err)
{
    const struct sv_model *m = p->model;
    p->in = rt_zalloc_array((size_t)m->n_in + 1, sizeof *p->in);
    p->out = rt_zalloc_array((size_t)m->n_out + 1, sizeof *p->out);
    p->seconds = rt_zalloc_array((size_t)rt_model_n_layers(m->rt) + 1, sizeof *p->seconds);
    if (p->in == NULL || p->out == NULL || p->seconds == NULL)
        return rt_fail_nomem(err, sizeof *p->in * (size_t)(m->n_in + m->n_out));
    for (int i = 0; i < m->n_in; i++) {
        const struct rt_io *io = rt_model_input(m->rt, i);
        size_t len;
        p->in[i].dtype = io->dtype;
        if (!sv_model_sample_shape(m, i, p->batch, &p->in[i].shape) ||
            !rt_shape_bytes(&p->in[i].shape, io->dtype, &len))
            return rt_fail(err, RT_E_INVALID,
                           "the sizes of input '%s' are free: a profile needs them fixed",
                           io->name);
        p->in[i].data = rt_zalloc(len);
        if (p->in[i].data == NULL)
            return rt_fail_nomem(err, len);
    }
    return RT_OK;
}

static enum rt_status measure(struct profile *p, struct rt_error *err)
{
    struct rt_session *session = NULL;
    enum rt_status s = make_tensors(p, err);
    if (s == RT_OK)
        s = rt_session_create(p->model->rt, p->team, &session, err);
    if (s == RT_OK) {
        sv_cores_take(p->app->cores, p->team);
        s = sv_layer_times(p->model->rt, session, p->in, p->out, SECONDS, p->seconds, &p->runs,
                           err);
        sv_cores_give(p->app->cores, p->team);
    }
    rt_session_destroy(session);
    return s;
}

static void run_profile(struct sv_task *task)
{
    struct profile *p = (struct profile *)(void *)task;
    p->err.status = measure(p, &p->err);
    atomic_store(&p->app->profiling, false);
    sv_request_wake(p->req);
}

static void finish_profile(void *state, struct sv_request *req)
{
    const struct profile *p = state;
    const struct sv_model *m = p->model;
    if (p->err.status != RT_OK) {
        sv_reply_error(&req->response, &p->err);
        return;
    }
    struct sv_text t = { 0 };
    struct sv_json j;
    sv_json_init_text(&j, &t);
    sv_json_object(&j, NULL);
    sv_json_string(&j, "model_name", m->name);
    sv_json_string(&j, "model_version", m->version_text);
    sv_json_int(&j, "batch", p->batch);
    sv_json_int(&j, "threads", p->team);
    sv_json_string(&j, "batchnorm",
                   m->config.batchnorm == RT_BATCHNORM_FOLDED ? "folded" : "separate");
    sv_json_int(&j, "runs", p->runs);
    sv_json_double(&j, "seconds", sv_layer_times_sum(m->rt, p->seconds));
    sv_report_layer_times(&j, m->rt, p->batch, p->seconds);
    sv_json_end(&j);
    sv_response_text(&req->response, &t);
}

static void release_profile(void *state)
{
    struct profile *p = state;
    for (int i = 0; p->in != NULL && i < p->model->n_in; i++)
        rt_free(p->in[i].data);
    rt_free(p->in);
    rt_free(p->out);
    rt_free(p->seconds);
    sv_model_release(p->model);
    rt_free(p);
}

static const struct sv_work profile_work = { .finish = finish_profile, .release = release_profile };

void sv_post_model_profile(struct sv_app *app, struct sv_request *req,
                           const struct sv_target *target)
{
    struct rt_error err = { .status = RT_OK };
    struct profile *p = NULL;
    int batch = 1;
    if (!sv_accepts_work(app, &req->response))
        return;
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    enum rt_status s =
        sv_request_query_int(req, "batch", 1, m->max_batch > 0 ? m->max_batch : 1, &batch, &err);
    if (s == RT_OK && rt_model_n_layers(m->rt) == 0)
        s = rt_fail(&err, RT_E_INVALID,
                    "the layers of model '%s' are only known once a run has shown its sizes",
                    m->name);
    if (s == RT_OK) {
        p = rt_zalloc(sizeof *p);
        if (p == NULL)
            s = rt_fail_nomem(&err, sizeof *p);
    }
    if (s == RT_OK && atomic_exchange(&app->profiling, true))
        s = rt_fail(&err, RT_E_BUSY, "another profile is being measured: try again in a moment");
    if (s != RT_OK) {
        rt_free(p);
        sv_model_release(m);
        sv_reply_error(&req->response, &err);
        return;
    }
    *p = (struct profile){ .task.run = run_profile,
                           .app = app,
                           .req = req,
                           .model = m,
                           .batch = batch,
                           .team = sv_batcher_split(m->batcher).team };
    sv_request_sleep(req, &profile_work, p);
    if (sv_pool_submit(app->control, &p->task, &err) != RT_OK) {
        p->err = err;
        atomic_store(&app->profiling, false);
        sv_request_wake(req);
    }
}
