/* Holds a request against its model, in the protocol's order of checks, and makes the job. What
 * the answer looks like is codec_answer.c's. */
#include "server/codec.h"

#include "runtime/rt.h"
#include "server/clock.h"
#include "server/codec_classes.h"
#include "server/codec_request.h"
#include "server/json_span.h"
#include "server/tensor_json.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int find_input(const struct sv_model *m, const char *name)
{
    for (int i = 0; i < m->n_in; i++)
        if (strcmp(rt_model_input(m->rt, i)->name, name) == 0)
            return i;
    return -1;
}

static int find_output(const struct sv_model *m, const char *name)
{
    for (int i = 0; i < m->n_out; i++)
        if (strcmp(rt_model_output(m->rt, i)->name, name) == 0)
            return i;
    return -1;
}

static bool sent(const struct sv_wire_request *w, const char *name)
{
    for (int i = 0; i < w->n_in; i++)
        if (strcmp(w->in[i].name, name) == 0)
            return true;
    return false;
}

/* "['a','b']" of as many names as fit. */
struct name_list {
    char text[512];
    size_t len;
};

static void list_name(struct name_list *l, const char *name)
{
    int n = snprintf(l->text + l->len, sizeof l->text - l->len, "%s'%.*s'", l->len > 0 ? "," : "",
                     SV_SHOWN, name);
    if (n > 0 && (size_t)n < sizeof l->text - l->len)
        l->len += (size_t)n;
    l->text[l->len] = '\0';
}

static enum rt_status check_count(const struct sv_model *m, const struct sv_wire_request *w,
                                  struct rt_error *err)
{
    if (w->n_in == m->n_in)
        return RT_OK;
    struct name_list got = { .len = 0 }, missing = { .len = 0 };
    for (int i = 0; i < w->n_in; i++)
        list_name(&got, w->in[i].name);
    for (int i = 0; i < m->n_in; i++)
        if (!sent(w, rt_model_input(m->rt, i)->name))
            list_name(&missing, rt_model_input(m->rt, i)->name);
    return rt_fail(err, RT_E_INVALID,
                   "expected %d inputs but got %d inputs for model '%s'. Got input(s) [%s], but "
                   "missing required input(s) [%s]. Please provide all required input(s).",
                   m->n_in, w->n_in, m->name, got.text, missing.text);
}

static enum rt_status check_known(const struct sv_model *m, const struct sv_wire_request *w,
                                  struct rt_error *err)
{
    for (int i = 0; i < w->n_in; i++)
        if (find_input(m, w->in[i].name) < 0)
            return rt_fail(err, RT_E_INVALID, "unexpected inference input '%.*s' for model '%s'",
                           SV_SHOWN, w->in[i].name, m->name);
    return RT_OK;
}

/* *n gets the number of samples. Requests larger than the model's largest batch are split by the
 * batcher, so there is no bound on it but its type. */
static enum rt_status check_batch(const struct sv_model *m, const struct sv_wire_request *w, int *n,
                                  struct rt_error *err)
{
    *n = 1;
    if (m->max_batch == 0)
        return RT_OK;
    for (int i = 0; i < w->n_in; i++) {
        const struct sv_wire_input *in = &w->in[i];
        if (in->shape.rank == 0)
            return rt_fail(err, RT_E_INVALID,
                           "input '%s' has no shape but model requires batch dimension for '%s'",
                           in->name, m->name);
        if (i > 0 && in->shape.dim[0] != w->in[0].shape.dim[0])
            return rt_fail(err, RT_E_INVALID,
                           "input '%s' batch size does not match other inputs for '%s'", in->name,
                           m->name);
    }
    int64_t batch = w->in[0].shape.dim[0];
    if (batch < 1)
        return rt_fail(err, RT_E_INVALID, "input '%s': batch dimension must be >= 1",
                       w->in[0].name);
    if (batch > INT_MAX)
        return rt_fail(err, RT_E_INVALID, "inference request batch-size must be <= %d for '%s'",
                       INT_MAX, m->name);
    *n = (int)batch;
    return RT_OK;
}

/* Whether the input takes pictures and is sent encoded ones. */
static bool is_pictures(const struct sv_model *m, const struct sv_wire_input *in)
{
    return m->image_input >= 0 && find_input(m, in->name) == m->image_input &&
           strcmp(in->datatype, "BYTES") == 0;
}

static enum rt_status check_type(const struct sv_model *m, const struct sv_wire_input *in,
                                 const struct rt_io *io, struct rt_error *err)
{
    const char *wanted = rt_dtype_oip(io->dtype);
    if (is_pictures(m, in))
        return RT_OK;
    if (wanted == NULL || strcmp(in->datatype, wanted) != 0)
        return rt_fail(err, RT_E_INVALID,
                       "inference input '%s' data-type is '%.*s', but model '%s' expects '%s'",
                       in->name, SV_SHOWN, in->datatype, m->name, wanted != NULL ? wanted : "?");
    if (in->json != NULL && !sv_tensor_json_has(io->dtype))
        return rt_fail(err, RT_E_INVALID,
                       "input '%s' has type %s, which JSON data cannot hold; send it as binary",
                       in->name, wanted);
    return RT_OK;
}

static bool fits(const struct rt_shape *given, const struct rt_shape *wanted)
{
    if (given->rank != wanted->rank)
        return false;
    for (int i = 0; i < given->rank; i++)
        if (wanted->dim[i] >= 0 ? given->dim[i] != wanted->dim[i] : given->dim[i] < 1)
            return false;
    return true;
}

static enum rt_status check_shape(const struct sv_model *m, const struct sv_wire_input *in,
                                  const struct rt_io *io, size_t *bytes, struct rt_error *err)
{
    char got[RT_SHAPE_TEXT], wanted[RT_SHAPE_TEXT];
    rt_shape_text(&in->shape, got);
    int64_t count;
    if (!rt_shape_count(&in->shape, &count))
        return rt_fail(err, RT_E_INVALID,
                       "invalid shape for input '%s': shape %s causes total element count to "
                       "exceed maximum size of %lld",
                       in->name, got, (long long)INT64_MAX);
    if (!fits(&in->shape, &io->shape))
        return rt_fail(err, RT_E_INVALID,
                       "unexpected shape for input '%s' for model '%s'. Expected %s, got %s.%s",
                       in->name, m->name, rt_shape_text(&io->shape, wanted), got,
                       m->max_batch > 0 ? " NOTE: the first dimension is the batch: the number of "
                                          "samples that the request holds"
                                        : "");
    if (!rt_shape_bytes(&in->shape, io->dtype, bytes))
        return rt_fail(err, RT_E_INVALID, "byte size overflow for input '%s': shape %s of %s",
                       in->name, got, rt_dtype_oip(io->dtype));
    return RT_OK;
}

/* The bytes of a tensor, used where they lie if they are aligned. Booleans are made 0 or 1. */
static enum rt_status take_bytes(struct sv_job *job, int i, const struct sv_wire_input *in,
                                 enum rt_dtype dtype, struct rt_error *err)
{
    if (dtype != RT_BOOL && (uintptr_t)in->blob % rt_dtype_size(dtype) == 0) {
        job->in[i] = (struct rt_tensor){ .dtype = dtype,
                                         .shape = in->shape,
                                         .data = (void *)(uintptr_t)in->blob };
        return RT_OK;
    }
    enum rt_status s = sv_job_input(job, i, dtype, &in->shape, err);
    if (s != RT_OK)
        return s;
    if (dtype == RT_BOOL)
        for (size_t k = 0; k < in->blob_len; k++)
            ((uint8_t *)job->in[i].data)[k] = in->blob[k] != 0;
    else
        memcpy(job->in[i].data, in->blob, in->blob_len);
    return RT_OK;
}

/* Pictures as BYTES are: each behind its length in 4 bytes, least significant first. */
static enum rt_status blob_pictures(struct sv_pictures *p, const struct sv_wire_input *in, int n,
                                    struct rt_error *err)
{
    const unsigned char *at = (const unsigned char *)in->blob;
    size_t left = in->blob_len;
    for (int i = 0; i < n; i++) {
        size_t len =
            left < 4 ? 0 : at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
        if (left < 4 || len > left - 4)
            return rt_fail(err, RT_E_INVALID,
                           "input '%s': element %d of %d does not fit the %zu bytes of "
                           "'binary_data_size'; each is to be preceded by its length in 4 bytes",
                           in->name, i, n, in->blob_len);
        sv_pictures_set(p, i, (const char *)at + 4, len, false);
        at += 4 + len;
        left -= 4 + len;
    }
    if (left > 0)
        return rt_fail(err, RT_E_INVALID, "input '%s': %zu bytes are left over behind %d elements",
                       in->name, left, n);
    return RT_OK;
}

/* In JSON, where strings are text, they are base64. */
static enum rt_status json_pictures(struct sv_pictures *p, const struct sv_wire_input *in, int n,
                                    struct rt_error *err)
{
    struct sv_span all, value, key;
    struct sv_spans walk;
    bool more;
    enum rt_status s = sv_span_document(in->json, in->json_len, &all, err);
    if (s != RT_OK)
        return s;
    sv_spans_begin(&walk, all.p, all);
    for (int i = 0;; i++) {
        s = sv_spans_next(&walk, &key, &value, &more, err);
        if (s != RT_OK)
            return s;
        if (more != (i < n))
            return rt_fail(err, RT_E_INVALID,
                           "input '%s': 'data' has %s than the %d elements of its shape", in->name,
                           more ? "more" : "fewer", n);
        if (!more)
            return RT_OK;
        if (*value.p != '"')
            return rt_fail(err, RT_E_INVALID,
                           "input '%s': element %d of 'data' must be a string: a picture's bytes "
                           "in base64",
                           in->name, i);
        sv_pictures_set(p, i, value.p + 1, value.len - 2, true);
    }
}

static enum rt_status take_pictures(const struct sv_model *m, const struct sv_wire_input *in,
                                    struct sv_infer *out, struct rt_error *err)
{
    const struct rt_shape *shape = &in->shape;
    char got[RT_SHAPE_TEXT];
    if (shape->rank < 1 || shape->rank > 2 || (shape->rank == 2 && shape->dim[1] != 1) ||
        shape->dim[0] > SV_PICTURES_MAX)
        return rt_fail(err, RT_E_INVALID,
                       "unexpected shape for input '%s' for model '%s'. Encoded pictures have "
                       "[number of pictures], at most [%d], got %s",
                       in->name, m->name, SV_PICTURES_MAX, rt_shape_text(shape, got));
    const int n = (int)shape->dim[0];
    enum rt_status s = sv_pictures_create(m, out->job, n, &out->pictures, err);
    if (s != RT_OK)
        return s;
    return in->blob != NULL ? blob_pictures(out->pictures, in, n, err)
                            : json_pictures(out->pictures, in, n, err);
}

static enum rt_status take_input(const struct sv_model *m, struct sv_infer *out,
                                 const struct sv_wire_input *in, struct rt_error *err)
{
    struct sv_job *job = out->job;
    int i = find_input(m, in->name);
    const struct rt_io *io = rt_model_input(m->rt, i);
    size_t bytes;
    if (is_pictures(m, in))
        return take_pictures(m, in, out, err);
    enum rt_status s = check_shape(m, in, io, &bytes, err);
    if (s != RT_OK)
        return s;
    if (in->blob != NULL) {
        if (in->blob_len != bytes)
            return rt_fail(err, RT_E_INVALID,
                           "input byte size mismatch for input '%s' for model '%s'. Expected %zu, "
                           "got %zu",
                           in->name, m->name, bytes, in->blob_len);
        return take_bytes(job, i, in, io->dtype, err);
    }
    /* An element takes two bytes of text at least: nothing is allocated for a shape alone. */
    int64_t count = rt_shape_numel(&in->shape);
    if ((uint64_t)count > in->json_len / 2)
        return rt_fail(err, RT_E_INVALID,
                       "input '%s': 'data' has fewer than the %lld elements of its shape", in->name,
                       (long long)count);
    s = sv_job_input(job, i, io->dtype, &in->shape, err);
    if (s != RT_OK)
        return s;
    return sv_tensor_json_read(in->json, in->json_len, 3, io->dtype, job->in[i].data, count,
                               in->name, err);
}

/* Which outputs the answer holds, and how. */
static enum rt_status choose_outputs(const struct sv_model *m, const struct sv_wire_request *w,
                                     struct sv_infer *out, struct rt_error *err)
{
    int n = w->n_out > 0 ? w->n_out : m->n_out;
    out->wanted = rt_zalloc_array((size_t)n, sizeof *out->wanted);
    if (out->wanted == NULL)
        return rt_fail_nomem(err, (size_t)n * sizeof *out->wanted);
    out->n_wanted = n;
    for (int i = 0; i < n; i++) {
        struct sv_wanted *x = &out->wanted[i];
        x->index = w->n_out > 0 ? find_output(m, w->out[i].name) : i;
        x->binary = w->n_out > 0 ? w->out[i].binary : w->binary_output;
        if (x->index < 0)
            return rt_fail(err, RT_E_INVALID, "unexpected inference output '%.*s' for model '%s'",
                           SV_SHOWN, w->out[i].name, m->name);
        const struct rt_io *io = rt_model_output(m->rt, x->index);
        if (w->n_out > 0 && w->out[i].classes > 0) {
            if (!sv_classes_has(io->dtype))
                return rt_fail(err, RT_E_INVALID,
                               "class result not available for output '%s' due to unsupported "
                               "type '%s'",
                               io->name, rt_dtype_oip(io->dtype));
            x->classes =
                w->out[i].classes < SV_CLASSES_FROM ? (int64_t)w->out[i].classes : SV_CLASSES_FROM;
            continue;
        }
        if (!x->binary && !sv_tensor_json_has(io->dtype))
            return rt_fail(err, RT_E_INVALID,
                           "output '%s' has type %s, which JSON data cannot hold; ask for it with "
                           "'binary_data'",
                           io->name, rt_dtype_oip(io->dtype));
    }
    return RT_OK;
}

static enum rt_status make_job(const struct sv_model *m, int n, struct sv_infer *out,
                               struct rt_error *err)
{
    out->job = sv_job_create(m->batcher);
    if (out->job == NULL)
        return rt_fail_nomem(err, sizeof *out->job);
    out->job->n = n;
    return RT_OK;
}

static enum rt_status decode(const struct sv_model *m, const char *body, size_t json_len,
                             size_t len, struct sv_infer *out, struct rt_error *err)
{
    struct sv_wire_request w = { 0 };
    int n = 0;
    enum rt_status s = sv_wire_parse(body, json_len, len, m->name, m->memo, &w, err);
    if (s == RT_OK)
        s = check_count(m, &w, err);
    if (s == RT_OK)
        s = check_known(m, &w, err);
    if (s == RT_OK)
        s = check_batch(m, &w, &n, err);
    for (int i = 0; s == RT_OK && i < w.n_in; i++)
        s = check_type(m, &w.in[i], rt_model_input(m->rt, find_input(m, w.in[i].name)), err);
    if (s == RT_OK)
        s = choose_outputs(m, &w, out, err);
    if (s == RT_OK)
        s = make_job(m, n, out, err);
    for (int i = 0; s == RT_OK && i < w.n_in; i++)
        s = take_input(m, out, &w.in[i], err);
    if (s == RT_OK && w.id != NULL) {
        out->id = rt_strdup(w.id);
        if (out->id == NULL)
            s = rt_fail_nomem(err, strlen(w.id));
    }
    if (s == RT_OK && w.timeout_us > 0 && w.timeout_us < UINT64_MAX / 2000)
        out->job->deadline = out->job->arrival + w.timeout_us * 1000;
    if (s == RT_OK && w.priority <= INT_MAX)
        out->job->priority = (int)w.priority;
    sv_wire_reset(&w);
    return s;
}

/* The shape of the only input's bytes: one sample, with a free dimension solved from their number.
 */
static enum rt_status deduce_shape(const struct sv_model *m, const struct rt_io *io, size_t len,
                                   struct rt_shape *out, struct rt_error *err)
{
    *out = io->shape;
    if (m->max_batch > 0)
        out->dim[0] = 1;
    int free_dim = -1;
    for (int i = 0; i < out->rank; i++) {
        if (out->dim[i] >= 0)
            continue;
        if (free_dim >= 0)
            return rt_fail(err, RT_E_INVALID,
                           "The shape of the raw input '%s' can not be deduced because there are "
                           "more than one variable-sized dimension",
                           io->name);
        free_dim = i;
        out->dim[i] = 1;
    }
    size_t bytes;
    if (free_dim >= 0 && rt_shape_bytes(out, io->dtype, &bytes) && bytes > 0)
        out->dim[free_dim] = (int64_t)(len / bytes);
    return RT_OK;
}

static enum rt_status decode_raw(const struct sv_model *m, const char *body, size_t len,
                                 struct sv_infer *out, struct rt_error *err)
{
    if (m->n_in != 1)
        return rt_fail(err, RT_E_INVALID,
                       "Raw request must only have 1 input (found 1) to be deduced but got %d "
                       "inputs in '%s' model configuration",
                       m->n_in, m->name);
    const struct rt_io *io = rt_model_input(m->rt, 0);
    struct sv_wire_input in = { .name = io->name, .datatype = "", .blob = body, .blob_len = len };
    struct sv_wire_request all = { .binary_output = true };
    enum rt_status s = deduce_shape(m, io, len, &in.shape, err);
    if (s == RT_OK)
        s = choose_outputs(m, &all, out, err);
    if (s == RT_OK)
        s = make_job(m, 1, out, err);
    if (s == RT_OK)
        s = take_input(m, out, &in, err);
    return s;
}

static enum rt_status header_size(const char *text, size_t len, size_t *out, struct rt_error *err)
{
    const size_t digits = strspn(text + (*text == '-'), "0123456789");
    char *end = NULL;
    errno = 0;
    long long v = digits > 0 ? strtoll(text, &end, 10) : 0;
    if (digits == 0 || *end != '\0' || errno != 0 || v > INT32_MAX || v < INT32_MIN)
        return rt_fail(err, RT_E_INVALID,
                       "Unable to parse Inference-Header-Content-Length, got: %.*s", SV_SHOWN,
                       text);
    if (v < 0 || (unsigned long long)v > len)
        return rt_fail(err, RT_E_INVALID,
                       "inference header size should be in range (0, %zu), got: %lld", len, v);
    *out = (size_t)v;
    return RT_OK;
}

enum rt_status sv_infer_decode(const struct sv_model *model, const char *body, size_t len,
                               const char *header_length, struct sv_infer *out,
                               struct rt_error *err)
{
    struct sv_infer in = { .model = model };
    size_t json_len = len;
    enum rt_status s = RT_OK;
    if (header_length != NULL)
        s = header_size(header_length, len, &json_len, err);
    if (s == RT_OK)
        s = json_len == 0 && header_length != NULL ? decode_raw(model, body, len, &in, err)
                                                   : decode(model, body, json_len, len, &in, err);
    if (s == RT_OK)
        *out = in;
    else
        sv_infer_reset(&in);
    return s;
}

void sv_infer_reset(struct sv_infer *in)
{
    sv_pictures_destroy(in->pictures);
    sv_job_destroy(in->job);
    rt_free(in->id);
    rt_free(in->wanted);
    *in = (struct sv_infer){ 0 };
}
