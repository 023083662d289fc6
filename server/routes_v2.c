/* GET /v2/...: the server, its models, whether they are ready. */
#include "server/routes.h"

#include <string.h>

static void reply_text(struct sv_request *req, struct sv_text *t)
{
    sv_response_text(&req->response, t);
}

void sv_get_hint(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)target;
    struct sv_text t = { 0 };
    struct sv_model *m = NULL;
    sv_text_add(&t, SV_NAME " " SV_VERSION "\n\n"
                            "GET  /v2/models                  the models\n"
                            "POST /v2/models/NAME/classify    a JPEG, PNG or WebP as the body\n"
                            "POST /v2/models/NAME/infer       tensors (Open Inference Protocol)\n");
    if (sv_registry_default(app->registry, &m, NULL) == RT_OK) {
        sv_text_printf(&t, "POST /classify                   the same with the model '%s'\n",
                       m->name);
        sv_model_release(m);
    }
    req->response.content_type = "text/plain; charset=utf-8";
    reply_text(req, &t);
}

void sv_get_live(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)app;
    (void)target;
    sv_response_static(&req->response, "{\"live\":true}");
}

void sv_get_ready(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)target;
    if (sv_accepts_work(app, &req->response))
        sv_response_static(&req->response, "{\"ready\":true}");
}

void sv_get_server(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)target;
    struct sv_text t = { 0 };
    sv_text_add(&t,
                "{\"name\":\"" SV_NAME "\",\"version\":\"" SV_VERSION "\",\"extensions\":["
                "\"classification\",\"model_repository\",\"model_repository(unload_dependents)\","
                "\"schedule_policy\",\"model_configuration\",\"binary_tensor_data\","
                "\"parameters\",\"statistics\",\"logging\"]");
    /* No member of the protocol's: whether loading and unloading are allowed. */
    sv_text_printf(&t, ",\"model_control\":%s}", app->model_control ? "true" : "false");
    reply_text(req, &t);
}

/* The entries of one model (NULL: of all); false with an error in the response. */
static bool list_models(struct sv_app *app, struct sv_request *req, const char *name,
                        struct sv_model_list *list)
{
    struct rt_error err;
    if (sv_registry_list(app->registry, name, list, &err) == RT_OK)
        return true;
    sv_reply_error(&req->response, &err);
    return false;
}

void sv_get_models(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)target;
    struct sv_model_list list;
    if (!list_models(app, req, NULL, &list))
        return;
    struct sv_text t = { 0 };
    const char *last = NULL;
    sv_text_add(&t, "{\"models\":[");
    for (int i = 0; i < list.n; i++) {
        const struct sv_entry *e = &list.entry[i];
        if (e->model == NULL || (last != NULL && strcmp(last, e->name) == 0))
            continue;
        if (last != NULL)
            sv_text_add(&t, ",");
        sv_text_json_str(&t, e->name);
        last = e->name;
    }
    sv_text_add(&t, "]}");
    sv_model_list_reset(&list);
    reply_text(req, &t);
}

static void write_io(struct sv_text *t, const struct rt_io *io)
{
    char shape[RT_SHAPE_TEXT];
    sv_text_add(t, "{\"name\":");
    sv_text_json_str(t, io->name);
    sv_text_printf(t, ",\"datatype\":\"%s\",\"shape\":%s}", rt_dtype_oip(io->dtype),
                   rt_shape_text(&io->shape, shape));
}

void sv_get_model(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_model_list list;
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    if (!list_models(app, req, m->name, &list)) {
        sv_model_release(m);
        return;
    }
    struct sv_text t = { 0 };
    sv_text_add(&t, "{\"name\":");
    sv_text_json_str(&t, m->name);
    sv_text_add(&t, ",\"versions\":[");
    bool first = true;
    for (int i = 0; i < list.n; i++) {
        const struct sv_entry *e = &list.entry[i];
        if (e->model == NULL || (target->version != 0 && e->version != target->version))
            continue;
        sv_text_printf(&t, "%s\"%s\"", first ? "" : ",", e->version_text);
        first = false;
    }
    sv_text_add(&t, "],\"platform\":\"convd_onnx\",\"inputs\":[");
    for (int i = 0; i < m->n_in; i++) {
        if (i > 0)
            sv_text_add(&t, ",");
        write_io(&t, rt_model_input(m->rt, i));
    }
    sv_text_add(&t, "],\"outputs\":[");
    for (int i = 0; i < m->n_out; i++) {
        if (i > 0)
            sv_text_add(&t, ",");
        write_io(&t, rt_model_output(m->rt, i));
    }
    sv_text_add(&t, "]}");
    sv_model_list_reset(&list);
    sv_model_release(m);
    reply_text(req, &t);
}

void sv_get_model_ready(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    if (sv_accepts_work(app, &req->response)) {
        struct sv_text t = { 0 };
        sv_text_add(&t, "{\"name\":");
        sv_text_json_str(&t, m->name);
        sv_text_add(&t, ",\"ready\":true}");
        reply_text(req, &t);
    }
    sv_model_release(m);
}
