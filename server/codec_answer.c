/* A job's outputs as the bytes of an answer. */
#include "server/codec.h"

#include "runtime/rt.h"
#include "server/codec_classes.h"
#include "server/tensor_json.h"

/* Text that a float takes on the average, to begin with enough room. */
#define ELEMENT_TEXT 12

static size_t tensor_bytes(const struct rt_tensor *t)
{
    return (size_t)rt_shape_numel(&t->shape) * rt_dtype_size(t->dtype);
}

/* What is sent of one output: the tensor, or strings in its place. */
struct sent {
    const struct rt_tensor *tensor;
    bool ranked;
    struct sv_text strings; /* their encoding as BYTES */
    struct rt_shape shape;
};

static size_t sent_bytes(const struct sent *x)
{
    return x->ranked ? x->strings.len : tensor_bytes(x->tensor);
}

static enum rt_status rank_outputs(const struct sv_infer *in, struct sent *list,
                                   struct rt_error *err)
{
    const struct sv_model *m = in->model;
    enum rt_status s = RT_OK;
    for (int i = 0; s == RT_OK && i < in->n_wanted; i++) {
        const struct sv_wanted *w = &in->wanted[i];
        struct sent *x = &list[i];
        x->tensor = &in->job->out[w->index];
        x->shape = x->tensor->shape;
        x->ranked = w->classes > 0;
        /* The labels that come with a model are those of its first output. */
        if (x->ranked)
            s = sv_classes_write(
                x->tensor, m->max_batch > 0, w->classes, w->index == 0 ? &m->labels : NULL,
                rt_model_output(m->rt, w->index)->name, &x->strings, &x->shape, err);
    }
    return s;
}

static void add_shape(struct sv_text *to, const struct rt_shape *shape)
{
    for (int i = 0; i < shape->rank; i++) {
        sv_text_add(to, i > 0 ? "," : "[");
        sv_text_int(to, shape->dim[i]);
    }
    sv_text_add(to, shape->rank > 0 ? "]" : "[]");
}

static void encode_output(const struct rt_io *io, const struct sent *x, bool binary,
                          struct sv_text *to)
{
    sv_text_add(to, "{\"name\":");
    sv_text_json_str(to, io->name);
    sv_text_add(to, ",\"datatype\":\"");
    sv_text_add(to, x->ranked ? "BYTES" : rt_dtype_oip(x->tensor->dtype));
    sv_text_add(to, "\",\"shape\":");
    add_shape(to, &x->shape);
    if (binary) {
        sv_text_add(to, ",\"parameters\":{\"binary_data_size\":");
        sv_text_uint(to, sent_bytes(x));
        sv_text_add(to, "}}");
        return;
    }
    sv_text_add(to, ",\"data\":");
    if (x->ranked)
        sv_classes_json(x->strings.p, x->strings.len, to);
    else
        sv_tensor_json_write(to, x->tensor);
    sv_text_add(to, "}");
}

static void encode(const struct sv_infer *in, const struct sent *list, struct sv_text *to,
                   size_t *json_len)
{
    size_t expected = 512;
    for (int i = 0; i < in->n_wanted; i++)
        expected += in->wanted[i].binary || list[i].ranked
                        ? sent_bytes(&list[i])
                        : (size_t)rt_shape_numel(&list[i].shape) * ELEMENT_TEXT;
    sv_text_reserve(to, expected);
    sv_text_add(to, "{");
    if (in->id != NULL) {
        sv_text_add(to, "\"id\":");
        sv_text_json_str(to, in->id);
        sv_text_add(to, ",");
    }
    sv_text_add(to, "\"model_name\":");
    sv_text_json_str(to, in->model->name);
    sv_text_add(to, ",\"model_version\":\"");
    sv_text_add(to, in->model->version_text);
    sv_text_add(to, "\",\"outputs\":[");
    for (int i = 0; i < in->n_wanted; i++) {
        if (i > 0)
            sv_text_add(to, ",");
        encode_output(rt_model_output(in->model->rt, in->wanted[i].index), &list[i],
                      in->wanted[i].binary, to);
    }
    sv_text_add(to, "]}");
    *json_len = to->len;
    for (int i = 0; i < in->n_wanted; i++)
        if (in->wanted[i].binary)
            sv_text_bytes(to, list[i].ranked ? list[i].strings.p : list[i].tensor->data,
                          sent_bytes(&list[i]));
}

/* Each output by its name, or the only one alone; of one sample, or whole with row -1. */
static void encode_tensors(const struct sv_infer *in, int64_t row, struct sv_text *to)
{
    const struct rt_tensor *out = in->job->out;
    if (in->n_wanted == 1) {
        sv_tensor_json_write_nested(to, &out[in->wanted[0].index], row);
        return;
    }
    for (int i = 0; i < in->n_wanted; i++) {
        sv_text_add(to, i > 0 ? "," : "{");
        sv_text_json_str(to, rt_model_output(in->model->rt, in->wanted[i].index)->name);
        sv_text_add(to, ":");
        sv_tensor_json_write_nested(to, &out[in->wanted[i].index], row);
    }
    sv_text_add(to, "}");
}

static void encode_predict(const struct sv_infer *in, struct sv_text *to)
{
    if (in->form == SV_FORM_COLUMNS || in->model->max_batch == 0) {
        sv_text_add(to, in->form == SV_FORM_COLUMNS ? "{\"outputs\":" : "{\"predictions\":");
        encode_tensors(in, -1, to);
        sv_text_add(to, "}");
        return;
    }
    sv_text_add(to, "{\"predictions\":[");
    for (int row = 0; row < in->job->n; row++) {
        if (row > 0)
            sv_text_add(to, ",");
        encode_tensors(in, row, to);
    }
    sv_text_add(to, "]}");
}

enum rt_status sv_infer_encode(const struct sv_infer *in, struct sv_text *to, size_t *json_len,
                               struct rt_error *err)
{
    if (in->form != SV_FORM_V2) {
        encode_predict(in, to);
        *json_len = to->len;
        return to->failed ? rt_fail_nomem(err, to->len) : RT_OK;
    }
    struct sent *list = rt_zalloc_array((size_t)in->n_wanted, sizeof *list);
    if (list == NULL)
        return rt_fail_nomem(err, (size_t)in->n_wanted * sizeof *list);
    enum rt_status s = rank_outputs(in, list, err);
    if (s == RT_OK) {
        encode(in, list, to, json_len);
        if (to->failed)
            s = rt_fail_nomem(err, to->len);
    }
    for (int i = 0; i < in->n_wanted; i++)
        sv_text_reset(&list[i].strings);
    rt_free(list);
    return s;
}
