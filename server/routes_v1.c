/* GET /v1/models/...: status and signature of a model, in one answer that both TensorFlow Serving's
 * and KServe's clients read. */
#include "server/routes.h"

#include <string.h>

static const char *state_of(const struct sv_entry *e)
{
    if (e->model != NULL)
        return "AVAILABLE";
    return e->state == SV_MODEL_LOADING ? "LOADING" : "END";
}

static void write_version(struct sv_text *t, const struct sv_entry *e)
{
    const bool bad = e->model == NULL && e->state == SV_MODEL_FAILED;
    sv_text_printf(t,
                   "{\"version\":\"%s\",\"state\":\"%s\",\"status\":{\"error_code\":\"%s\","
                   "\"error_message\":",
                   e->version_text, state_of(e), bad ? "UNAVAILABLE" : "OK");
    sv_text_json_str(t, bad ? e->reason : "");
    sv_text_add(t, "}}");
}

void sv_get_v1_model(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_model_list list;
    struct rt_error err;
    if (sv_registry_list(app->registry, target->model, &list, &err) != RT_OK) {
        sv_reply_error(&req->response, &err);
        return;
    }
    struct sv_text t = { 0 };
    bool ready = false;
    int n = 0;
    for (int i = 0; i < list.n; i++) {
        const struct sv_entry *e = &list.entry[i];
        if (target->version != 0 && e->version != target->version)
            continue;
        sv_text_add(&t, n++ > 0 ? "," : "");
        write_version(&t, e);
        ready |= e->model != NULL;
    }
    struct sv_text all = { 0 };
    sv_text_add(&all, "{\"name\":");
    sv_text_json_str(&all, target->model);
    sv_text_printf(&all, ",\"ready\":%s,\"model_version_status\":[", ready ? "true" : "false");
    sv_text_bytes(&all, t.p, t.len);
    sv_text_add(&all, ready ? "]}" : "],\"error\":\"no version of the model is available\"}");
    all.failed |= t.failed;
    sv_text_reset(&t);
    sv_model_list_reset(&list);
    if (n > 0) {
        req->response.status = ready ? 200 : 503;
        sv_response_text(&req->response, &all);
        return;
    }
    sv_text_reset(&all);
    struct sv_model *m = sv_find_model(app, target, &req->response); /* says what is missing */
    sv_model_release(m);
}

/* TensorFlow's name for a type. */
static const char *type_name(enum rt_dtype t)
{
    static const char *const name[RT_N_DTYPES] = {
        [RT_FLOAT] = "DT_FLOAT",   [RT_DOUBLE] = "DT_DOUBLE",     [RT_FLOAT16] = "DT_HALF",
        [RT_INT8] = "DT_INT8",     [RT_INT16] = "DT_INT16",       [RT_INT32] = "DT_INT32",
        [RT_INT64] = "DT_INT64",   [RT_UINT8] = "DT_UINT8",       [RT_UINT16] = "DT_UINT16",
        [RT_UINT32] = "DT_UINT32", [RT_UINT64] = "DT_UINT64",     [RT_BOOL] = "DT_BOOL",
        [RT_STRING] = "DT_STRING", [RT_BFLOAT16] = "DT_BFLOAT16",
    };
    return (unsigned)t < RT_N_DTYPES && name[t] != NULL ? name[t] : "DT_INVALID";
}

static void write_tensor(struct sv_text *t, const struct rt_io *io)
{
    sv_text_json_str(t, io->name);
    sv_text_printf(t, ":{\"dtype\":\"%s\",\"tensor_shape\":{\"dim\":[", type_name(io->dtype));
    for (int d = 0; d < io->shape.rank; d++)
        sv_text_printf(t, "%s{\"size\":\"%lld\",\"name\":\"\"}", d > 0 ? "," : "",
                       (long long)io->shape.dim[d]);
    sv_text_add(t, "],\"unknown_rank\":false},\"name\":");
    sv_text_json_str(t, io->name);
    sv_text_add(t, "}");
}

void sv_get_v1_metadata(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    struct sv_text t = { 0 };
    sv_text_add(&t, "{\"model_spec\":{\"name\":");
    sv_text_json_str(&t, m->name);
    sv_text_printf(&t,
                   ",\"signature_name\":\"\",\"version\":\"%s\"},\"metadata\":{\"signature_def\":{"
                   "\"signature_def\":{\"serving_default\":{\"inputs\":{",
                   m->version_text);
    for (int i = 0; i < m->n_in; i++) {
        sv_text_add(&t, i > 0 ? "," : "");
        write_tensor(&t, rt_model_input(m->rt, i));
    }
    sv_text_add(&t, "},\"outputs\":{");
    for (int i = 0; i < m->n_out; i++) {
        sv_text_add(&t, i > 0 ? "," : "");
        write_tensor(&t, rt_model_output(m->rt, i));
    }
    sv_text_add(&t, "},\"method_name\":\"tensorflow/serving/predict\"}}}}}");
    sv_model_release(m);
    sv_response_text(&req->response, &t);
}

void sv_post_v1_other(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)app;
    sv_reply_status(&req->response, 501,
                    "of what TensorFlow Serving and KServe offer for a model, only :predict is "
                    "available: POST /v1/models/%s:predict",
                    target->model);
}
