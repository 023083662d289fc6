/* GET .../stats and .../config: a model's counters and its configuration, in the words that the
 * protocol's clients read. */
#include "server/routes.h"

#include <stdio.h>
#include <string.h>

static void counter(struct sv_text *t, const char *name, const struct sv_counter *c)
{
    sv_text_printf(t, "\"%s\":{\"count\":%llu,\"ns\":%llu}", name,
                   (unsigned long long)sv_read(&c->count), (unsigned long long)sv_read(&c->ns));
}

static void write_batches(struct sv_text *t, const struct sv_stats *s)
{
    bool first = true;
    for (int i = 0; i < s->max_batch; i++) {
        const struct sv_batch_stats *b = &s->batch[i];
        if (sv_read(&b->compute_infer.count) == 0)
            continue;
        sv_text_printf(t, "%s{\"batch_size\":%d,", first ? "" : ",", i + 1);
        counter(t, "compute_input", &b->compute_input);
        sv_text_add(t, ",");
        counter(t, "compute_infer", &b->compute_infer);
        sv_text_add(t, ",");
        counter(t, "compute_output", &b->compute_output);
        sv_text_add(t, "}");
        first = false;
    }
}

static void write_stats(struct sv_text *t, const struct sv_model *m)
{
    static const struct sv_counter never;
    const struct sv_stats *s = &m->stats;
    struct rt_model_info info;
    rt_model_info(m->rt, &info);
    sv_text_add(t, "{\"name\":");
    sv_text_json_str(t, m->name);
    sv_text_printf(t,
                   ",\"version\":\"%s\",\"last_inference\":%llu,\"inference_count\":%llu,"
                   "\"execution_count\":%llu,\"inference_stats\":{",
                   m->version_text, (unsigned long long)sv_read(&s->last_inference_ms),
                   (unsigned long long)sv_read(&s->inference_count),
                   (unsigned long long)sv_read(&s->execution_count));
    const struct {
        const char *name;
        const struct sv_counter *counter;
    } list[] = {
        { "success", &s->success },
        { "fail", &s->fail },
        { "queue", &s->queue },
        { "compute_input", &s->compute_input },
        { "compute_infer", &s->compute_infer },
        { "compute_output", &s->compute_output },
        { "cache_hit", &never },
        { "cache_miss", &never },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        if (i > 0)
            sv_text_add(t, ",");
        counter(t, list[i].name, list[i].counter);
    }
    sv_text_add(t, "},\"response_stats\":{},\"batch_stats\":[");
    write_batches(t, s);
    sv_text_printf(t, "],\"memory_usage\":[{\"type\":\"CPU\",\"id\":0,\"byte_size\":%zu}]}",
                   info.weight_bytes + info.activation_bytes);
}

/* The model of this name and version, all its versions, or everything. */
static void reply_stats(struct sv_app *app, struct sv_request *req, const char *name,
                        int64_t version)
{
    struct sv_model_list list;
    struct rt_error err;
    if (sv_registry_list(app->registry, name, &list, &err) != RT_OK) {
        sv_reply_error(&req->response, &err);
        return;
    }
    struct sv_text t = { 0 };
    bool first = true;
    sv_text_add(&t, "{\"model_stats\":[");
    for (int i = 0; i < list.n; i++) {
        const struct sv_entry *e = &list.entry[i];
        if (e->model == NULL || (version != 0 && e->version != version))
            continue;
        if (!first)
            sv_text_add(&t, ",");
        write_stats(&t, e->model);
        first = false;
    }
    sv_text_add(&t, "]}");
    sv_model_list_reset(&list);
    sv_response_text(&req->response, &t);
}

void sv_get_all_stats(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)target;
    reply_stats(app, req, NULL, 0);
}

void sv_get_model_stats(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    reply_stats(app, req, m->name, target->version);
    sv_model_release(m);
}

/* FORMAT_NCHW or FORMAT_NHWC where the input is known to be a picture. */
static const char *format_of(const struct sv_model *m, int i)
{
    if (i != m->image_input)
        return "FORMAT_NONE";
    return m->preprocess.nhwc ? "FORMAT_NHWC" : "FORMAT_NCHW";
}

/* "TYPE_FP32", ... */
static void write_type(struct sv_text *t, enum rt_dtype dtype)
{
    sv_text_printf(t, "\"data_type\":\"TYPE_%s\"",
                   dtype == RT_STRING ? "STRING" : rt_dtype_oip(dtype));
}

/* A model with a batch axis says so by max_batch_size; its dims do not count it. */
static void write_dims(struct sv_text *t, const struct sv_model *m, const struct rt_shape *full)
{
    int skip = m->max_batch > 0 && full->rank > 0 ? 1 : 0;
    struct rt_shape shape = rt_shape_of(full->rank - skip, full->dim + skip);
    char text[RT_SHAPE_TEXT];
    sv_text_printf(t, "\"dims\":%s", rt_shape_text(&shape, text));
}

static void write_inputs(struct sv_text *t, const struct sv_model *m)
{
    for (int i = 0; i < m->n_in; i++) {
        const struct rt_io *io = rt_model_input(m->rt, i);
        sv_text_add(t, i > 0 ? ",{\"name\":" : "{\"name\":");
        sv_text_json_str(t, io->name);
        sv_text_add(t, ",");
        write_type(t, io->dtype);
        sv_text_printf(t, ",\"format\":\"%s\",", format_of(m, i));
        write_dims(t, m, &io->shape);
        sv_text_add(t, ",\"is_shape_tensor\":false,\"allow_ragged_batch\":false,"
                       "\"optional\":false}");
    }
}

static void write_outputs(struct sv_text *t, const struct sv_model *m)
{
    for (int i = 0; i < m->n_out; i++) {
        const struct rt_io *io = rt_model_output(m->rt, i);
        sv_text_add(t, i > 0 ? ",{\"name\":" : "{\"name\":");
        sv_text_json_str(t, io->name);
        sv_text_add(t, ",");
        write_type(t, io->dtype);
        sv_text_add(t, ",");
        write_dims(t, m, &io->shape);
        sv_text_printf(t, ",\"label_filename\":\"%s\",\"is_shape_tensor\":false}",
                       i == 0 && m->labels.n > 0 ? "labels.txt" : "");
    }
}

static void write_version_policy(struct sv_text *t, const struct sv_model_config *c)
{
    sv_text_add(t, "\"version_policy\":");
    switch (c->version_policy) {
    case SV_VERSIONS_ALL:
        sv_text_add(t, "{\"all\":{}}");
        return;
    case SV_VERSIONS_LATEST:
        sv_text_printf(t, "{\"latest\":{\"num_versions\":%d}}", c->n_versions);
        return;
    case SV_VERSIONS_SPECIFIC:
        sv_text_add(t, "{\"specific\":{\"versions\":[");
        for (int i = 0; i < c->n_versions; i++)
            sv_text_printf(t, "%s%lld", i > 0 ? "," : "", (long long)c->version[i]);
        sv_text_add(t, "]}}");
        return;
    }
}

static void write_batching(struct sv_text *t, const struct sv_model *m)
{
    const struct sv_model_config *c = &m->config;
    if (m->max_batch == 0)
        return;
    sv_text_add(t, "\"dynamic_batching\":{\"preferred_batch_size\":[");
    for (int i = 0; i < c->n_preferred; i++)
        sv_text_printf(t, "%s%d", i > 0 ? "," : "", c->preferred_batch_size[i]);
    if (c->n_preferred == 0)
        sv_text_int(t, m->max_batch);
    sv_text_printf(t,
                   "],\"max_queue_delay_microseconds\":%d,\"preserve_ordering\":false,"
                   "\"priority_levels\":%d,\"default_priority_level\":%d,"
                   "\"priority_queue_policy\":{},\"default_queue_policy\":{"
                   "\"timeout_action\":\"%s\",\"default_timeout_microseconds\":%d,"
                   "\"allow_timeout_override\":%s,\"max_queue_size\":%d}},",
                   c->max_queue_delay_us, c->priority_levels, c->default_priority_level,
                   c->timeout_action == SV_TIMEOUT_DELAY ? "DELAY" : "REJECT",
                   c->default_timeout_us, c->fixed_timeout ? "false" : "true", c->max_queue_size);
}

void sv_get_model_config(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    struct sv_text t = { 0 };
    const char *slash = strrchr(m->path, '/');
    sv_text_add(&t, "{\"name\":");
    sv_text_json_str(&t, m->name);
    sv_text_add(&t, ",\"platform\":\"convd_onnx\",\"backend\":\"convd\",");
    write_version_policy(&t, &m->config);
    sv_text_printf(&t, ",\"max_batch_size\":%d,\"input\":[", m->max_batch);
    write_inputs(&t, m);
    sv_text_add(&t, "],\"output\":[");
    write_outputs(&t, m);
    sv_text_add(&t, "],\"batch_input\":[],\"batch_output\":[],\"optimization\":{\"priority\":"
                    "\"PRIORITY_DEFAULT\",\"input_pinned_memory\":{\"enable\":false},"
                    "\"output_pinned_memory\":{\"enable\":false},"
                    "\"gather_kernel_buffer_threshold\":0,\"eager_batching\":true},");
    write_batching(&t, m);
    char instances[256 + 2];
    snprintf(instances, sizeof instances, "%s_0", m->name);
    sv_text_add(&t, "\"instance_group\":[{\"name\":");
    sv_text_json_str(&t, instances);
    sv_text_printf(&t,
                   ",\"kind\":\"KIND_CPU\",\"count\":%d,\"gpus\":[],\"secondary_devices\":[],"
                   "\"profile\":[],\"passive\":false,\"host_policy\":\"\"}],"
                   "\"default_model_filename\":",
                   sv_batcher_split(m->batcher).executors);
    sv_text_json_str(&t, slash != NULL ? slash + 1 : m->path);
    sv_text_add(&t, ",\"cc_model_filenames\":{},\"metric_tags\":{},\"parameters\":{},"
                    "\"model_warmup\":[],\"model_transaction_policy\":{\"decoupled\":false},"
                    "\"response_cache\":{\"enable\":false}}");
    sv_model_release(m);
    sv_response_text(&req->response, &t);
}
