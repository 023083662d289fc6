/* /v2/repository/..., /v2/logging and /metrics: what operators and their tools ask for. Models are
 * loaded on a thread of their own while the connection sleeps. */
#include <string.h>

#include "server/codec_control.h"
#include "server/log.h"
#include "server/prometheus.h"
#include "server/routes.h"

void sv_get_metrics(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)target;
    struct sv_text t = { 0 };
    struct rt_error err;
    if (sv_prometheus_write(app, &t, &err) != RT_OK) {
        sv_text_reset(&t);
        sv_reply_error(&req->response, &err);
        return;
    }
    req->response.content_type = SV_PROMETHEUS_TYPE;
    sv_response_text(&req->response, &t);
}

void sv_post_index(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)target;
    struct sv_model_list list;
    struct rt_error err;
    bool ready;
    if (sv_control_index(req->body, req->body_len, &ready, &err) != RT_OK ||
        sv_registry_list(app->registry, NULL, &list, &err) != RT_OK) {
        sv_reply_error(&req->response, &err);
        return;
    }
    struct sv_text t = { 0 };
    bool first = true;
    sv_text_add(&t, "[");
    for (int i = 0; i < list.n; i++) {
        const struct sv_entry *e = &list.entry[i];
        if (ready && e->state != SV_MODEL_READY)
            continue;
        sv_text_add(&t, first ? "{\"name\":" : ",{\"name\":");
        sv_text_json_str(&t, e->name);
        sv_text_printf(&t, ",\"version\":\"%s\",\"state\":\"%s\",\"reason\":", e->version_text,
                       sv_model_state_name(e->state));
        sv_text_json_str(&t, e->reason);
        sv_text_add(&t, "}");
        first = false;
    }
    sv_text_add(&t, "]");
    sv_model_list_reset(&list);
    sv_response_text(&req->response, &t);
}

/* A model that is being loaded or unloaded for a request. */
struct change {
    struct sv_task task; /* first: a task is a change */
    struct sv_registry *registry;
    struct sv_request *req;
    bool load;
    char name[256];
    char *config; /* in place of its config.json; NULL: the file */
    enum rt_status status;
    struct rt_error err;
};

static void run_change(struct sv_task *task)
{
    struct change *c = (struct change *)task;
    c->status = c->load ? sv_registry_load(c->registry, c->name, c->config, &c->err)
                        : sv_registry_unload(c->registry, c->name, &c->err);
    sv_request_wake(c->req);
}

static void finish_change(void *state, struct sv_request *req)
{
    const struct change *c = state;
    if (c->status != RT_OK)
        sv_reply_error(&req->response, &c->err);
}

static void release_change(void *state)
{
    struct change *c = state;
    rt_free(c->config);
    rt_free(c);
}

static const struct sv_work change_work = { .finish = finish_change, .release = release_change };

static void start_change(struct sv_app *app, struct sv_request *req, const struct sv_target *target,
                         bool load)
{
    struct rt_error err = { .status = RT_OK };
    if (!app->model_control) {
        sv_reply_status(&req->response, 503,
                        "explicit model load / unload is not allowed: the server was started "
                        "without --model-control");
        return;
    }
    if (!sv_accepts_work(app, &req->response))
        return;
    char *config = NULL;
    enum rt_status s = load ? sv_control_load(req->body, req->body_len, &config, &err)
                            : sv_control_unload(req->body, req->body_len, &err);
    if (s == RT_OK && !sv_model_name_valid(target->model))
        s = rt_fail(&err, RT_E_INVALID, "'%.100s' is not a model's name", target->model);
    struct change *c = s == RT_OK ? rt_zalloc(sizeof *c) : NULL;
    if (s == RT_OK && c == NULL)
        s = rt_fail_nomem(&err, sizeof *c);
    if (s != RT_OK) {
        rt_free(config);
        sv_reply_error(&req->response, &err);
        return;
    }
    c->task.run = run_change;
    c->registry = app->registry;
    c->req = req;
    c->load = load;
    strcpy(c->name, target->model);
    c->config = config;
    sv_request_sleep(req, &change_work, c);
    if (sv_pool_submit(app->control, &c->task, &err) != RT_OK) {
        c->status = err.status;
        c->err = err;
        sv_request_wake(req);
    }
}

void sv_post_load(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    start_change(app, req, target, true);
}

void sv_post_unload(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    start_change(app, req, target, false);
}

void sv_post_named_repository(struct sv_app *app, struct sv_request *req,
                              const struct sv_target *target)
{
    (void)app;
    (void)target;
    sv_reply_status(&req->response, 501, "'repository_name' specification is not supported");
}

void sv_get_logging(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)app;
    (void)target;
    static const char *const word[] = { "false", "true" };
    struct sv_text t = { 0 };
    sv_text_printf(&t,
                   "{\"log_file\":\"\",\"log_info\":%s,\"log_warning\":%s,\"log_error\":%s,"
                   "\"log_verbose_level\":%d,\"log_format\":\"ISO8601\"}",
                   word[sv_log_enabled(SV_LOG_INFO)], word[sv_log_enabled(SV_LOG_WARN)],
                   word[sv_log_enabled(SV_LOG_ERROR)], sv_log_enabled(SV_LOG_DEBUG) ? 1 : 0);
    sv_response_text(&req->response, &t);
}

void sv_post_logging(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_log_request wanted;
    struct rt_error err;
    if (sv_control_logging(req->body, req->body_len, &wanted, &err) != RT_OK) {
        sv_reply_error(&req->response, &err);
        return;
    }
    /* The protocol has a switch for each level, we have one least level: the lowest that is
     * wanted. */
    const struct {
        enum sv_log_level level;
        int wanted;
    } levels[] = {
        { SV_LOG_DEBUG, wanted.verbose },
        { SV_LOG_INFO, wanted.info },
        { SV_LOG_WARN, wanted.warning },
        { SV_LOG_ERROR, wanted.error },
    };
    for (int i = 0; i < 4; i++)
        if (levels[i].wanted < 0 ? sv_log_enabled(levels[i].level) : levels[i].wanted == 1) {
            sv_log_set_level(levels[i].level);
            sv_get_logging(app, req, target);
            return;
        }
    sv_log_set_level(SV_LOG_OFF);
    sv_get_logging(app, req, target);
}
