/* The bodies of :predict: rows ("instances") or columns ("inputs"), whose nesting is their shape.
 */
#include "server/codec.h"

#include "runtime/rt.h"
#include "server/clock.h"
#include "server/codec_request.h"
#include "server/json_span.h"
#include "server/tensor_json.h"

#include <limits.h>
#include <string.h>

/* What was sent for one of the model's inputs. */
struct given {
    int n, room;
    struct sv_span *item; /* item[0..n): one for each sample; or the whole batch as one */
    bool whole;
};

struct predict {
    const struct sv_model *model;
    const char *text; /* the body, for messages */
    bool rows;
    struct given *given; /* for each input of the model */
};

static enum rt_status add_item(struct given *g, struct sv_span v, struct rt_error *err)
{
    if (g->n == g->room) {
        int room = g->room > 0 ? g->room * 2 : 4;
        struct sv_span *grown =
            g->n < INT_MAX / 2 ? rt_realloc_array(g->item, (size_t)room, sizeof *grown) : NULL;
        if (grown == NULL)
            return rt_fail_nomem(err, (size_t)room * sizeof *grown);
        g->item = grown;
        g->room = room;
    }
    g->item[g->n++] = v;
    return RT_OK;
}

/* Whether v is {"b64":"..."}, and then its text. */
static bool is_b64(const struct predict *p, struct sv_span v, struct sv_span *text)
{
    struct sv_spans walk;
    struct sv_span key, value;
    bool more;
    if (*v.p != '{' || !sv_spans_begin(&walk, p->text, v) ||
        sv_spans_next(&walk, &key, &value, &more, NULL) != RT_OK || !more ||
        !sv_span_is(key, "b64") || *value.p != '"')
        return false;
    *text = (struct sv_span){ value.p + 1, value.len - 2 };
    return sv_spans_next(&walk, &key, &value, &more, NULL) == RT_OK && !more;
}

/* The first element of an array, if there is one. */
static bool first_of(const struct predict *p, struct sv_span v, struct sv_span *first)
{
    struct sv_spans walk;
    struct sv_span key;
    bool more;
    return *v.p == '[' && sv_spans_begin(&walk, p->text, v) &&
           sv_spans_next(&walk, &key, first, &more, NULL) == RT_OK && more;
}

/* A value of one input: a whole batch, which an array of encoded pictures is as well. */
static enum rt_status add_column(struct predict *p, struct given *g, struct sv_span v,
                                 struct rt_error *err)
{
    struct sv_span first, text;
    if (!first_of(p, v, &first) || !is_b64(p, first, &text)) {
        g->whole = !is_b64(p, v, &text);
        return add_item(g, v, err);
    }
    struct sv_spans walk;
    struct sv_span key, value;
    bool more;
    sv_spans_begin(&walk, p->text, v);
    for (;;) {
        enum rt_status s = sv_spans_next(&walk, &key, &value, &more, err);
        if (s != RT_OK || !more)
            return s;
        if (g->n == SV_PICTURES_MAX)
            return rt_fail(err, RT_E_LIMIT, "more than %d pictures in one request",
                           SV_PICTURES_MAX);
        s = add_item(g, value, err);
        if (s != RT_OK)
            return s;
    }
}

/* An object with a member for each input: of one sample in rows, of the batch in columns. */
static enum rt_status add_named(struct predict *p, struct sv_span object, int sample,
                                struct rt_error *err)
{
    const struct sv_model *m = p->model;
    struct sv_spans walk;
    struct sv_span key, value;
    bool more;
    sv_spans_begin(&walk, p->text, object);
    for (;;) {
        enum rt_status s = sv_spans_next(&walk, &key, &value, &more, err);
        if (s != RT_OK)
            return s;
        if (!more)
            break;
        int i = 0;
        while (i < m->n_in && !sv_span_is(key, rt_model_input(m->rt, i)->name))
            i++;
        if (i == m->n_in)
            return rt_fail(err, RT_E_INVALID, "unexpected inference input %.*s for model '%s'",
                           (int)(key.len < SV_SHOWN ? key.len : SV_SHOWN), key.p, m->name);
        if (p->given[i].n > sample)
            return rt_fail(err, RT_E_INVALID, "input '%s' already exists in request",
                           rt_model_input(m->rt, i)->name);
        s = p->rows ? add_item(&p->given[i], value, err) : add_column(p, &p->given[i], value, err);
        if (s != RT_OK)
            return s;
    }
    for (int i = 0; i < m->n_in; i++)
        if (p->given[i].n <= sample)
            return rt_fail(err, RT_E_INVALID, "missing required input '%s' of model '%s'",
                           rt_model_input(m->rt, i)->name, m->name);
    return RT_OK;
}

static enum rt_status needs_names(const struct predict *p, const char *what, struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID,
                   "model '%s' has %d inputs: %s must name them, as {\"%s\":...}", p->model->name,
                   p->model->n_in, what, rt_model_input(p->model->rt, 0)->name);
}

static enum rt_status add_rows(struct predict *p, struct sv_span list, struct rt_error *err)
{
    struct sv_spans walk;
    struct sv_span key, value, text;
    bool more;
    if (*list.p != '[')
        return rt_fail(err, RT_E_INVALID, "'instances' must be an array, with an element a sample");
    if (!first_of(p, list, &value))
        return rt_fail(err, RT_E_INVALID, "'instances' is empty: there must be a sample");
    if (*value.p != '{') {
        if (p->model->n_in != 1)
            return needs_names(p, "each element of 'instances'", err);
        p->given[0].whole = true;
        return add_item(&p->given[0], list, err);
    }
    sv_spans_begin(&walk, p->text, list);
    for (int sample = 0;; sample++) {
        enum rt_status s = sv_spans_next(&walk, &key, &value, &more, err);
        if (s != RT_OK || !more)
            return s;
        if (*value.p != '{')
            return rt_fail(err, RT_E_INVALID, "'instances' mixes objects with other elements");
        s = p->model->n_in == 1 && is_b64(p, value, &text) ? add_item(&p->given[0], value, err)
                                                           : add_named(p, value, sample, err);
        if (s != RT_OK)
            return s;
    }
}

static enum rt_status add_columns(struct predict *p, struct sv_span v, struct rt_error *err)
{
    struct sv_span text;
    if (*v.p == '{' && !(p->model->n_in == 1 && is_b64(p, v, &text)))
        return add_named(p, v, 0, err);
    if (p->model->n_in != 1)
        return needs_names(p, "'inputs'", err);
    return add_column(p, &p->given[0], v, err);
}

/* Finds the one member that holds the samples. */
static enum rt_status find_given(struct predict *p, const char *body, size_t len,
                                 struct rt_error *err)
{
    struct sv_span document, key, value, rows = { 0 }, columns = { 0 };
    struct sv_spans walk;
    bool more;
    enum rt_status s = sv_span_document(body, len, &document, err);
    if (s != RT_OK)
        return s;
    if (*document.p != '{')
        return rt_fail(err, RT_E_INVALID, "the body must be a JSON object, not an array");
    for (sv_spans_begin(&walk, body, document);;) {
        s = sv_spans_next(&walk, &key, &value, &more, err);
        if (s != RT_OK)
            return s;
        if (!more)
            break;
        struct sv_span *to = sv_span_is(key, "instances") ? &rows
                             : sv_span_is(key, "inputs")  ? &columns
                                                          : NULL;
        if (to != NULL && to->p != NULL)
            return rt_fail(err, RT_E_INVALID, "%.*s is there twice", (int)key.len, key.p);
        if (to != NULL)
            *to = value;
        if (sv_span_is(key, "signature_name") && *value.p != '"')
            return rt_fail(err, RT_E_INVALID, "'signature_name' must be a string");
    }
    if ((rows.p != NULL) == (columns.p != NULL))
        return rt_fail(err, RT_E_INVALID,
                       "the body must have one of 'instances' (an element a sample) and 'inputs' "
                       "(whole tensors), it has %s",
                       rows.p != NULL ? "both" : "none");
    p->rows = rows.p != NULL;
    return p->rows ? add_rows(p, rows, err) : add_columns(p, columns, err);
}

static enum rt_status shape_of(struct sv_span v, const char *name, struct rt_shape *out,
                               struct rt_error *err)
{
    if (*v.p == '[')
        return sv_tensor_json_shape(v.p, v.len, name, out, err);
    if (*v.p == '{')
        return rt_fail(err, RT_E_INVALID, "input '%s': numbers are wanted, not objects", name);
    *out = rt_shape_of(0, NULL);
    return RT_OK;
}

/* One item's numbers to dst; one that is no array is read as if it were in one. */
static enum rt_status read_item(struct sv_span v, const struct rt_io *io, void *dst, int64_t count,
                                struct rt_error *err)
{
    if (*v.p == '[')
        return sv_tensor_json_read(v.p, v.len, 3, io->dtype, dst, count, io->name, err);
    const size_t len = v.len + 2;
    char few[64], *text = len < sizeof few ? few : rt_alloc(len + 1);
    if (text == NULL)
        return rt_fail_nomem(err, len + 1);
    text[0] = '[';
    memcpy(text + 1, v.p, v.len);
    text[len - 1] = ']';
    text[len] = '\0';
    enum rt_status s = sv_tensor_json_read(text, len, 3, io->dtype, dst, count, io->name, err);
    if (text != few)
        rt_free(text);
    return s;
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

static enum rt_status take_tensor(const struct predict *p, int i, struct sv_job *job,
                                  struct rt_error *err)
{
    const struct sv_model *m = p->model;
    const struct given *g = &p->given[i];
    const struct rt_io *io = rt_model_input(m->rt, i);
    struct rt_shape item, shape, other;
    char got[RT_SHAPE_TEXT], wanted[RT_SHAPE_TEXT];
    if (!sv_tensor_json_has(io->dtype))
        return rt_fail(err, RT_E_INVALID,
                       "input '%s' has type %s, which JSON data cannot hold; use POST "
                       "/v2/models/%s/infer",
                       io->name, rt_dtype_oip(io->dtype), m->name);
    enum rt_status s = shape_of(g->item[0], io->name, &item, err);
    if (s != RT_OK)
        return s;
    shape = item;
    if (!g->whole) {
        if (item.rank == RT_MAX_RANK)
            return rt_fail(err, RT_E_INVALID, "input '%s' has more than %d dimensions", io->name,
                           RT_MAX_RANK);
        shape.rank = item.rank + 1;
        shape.dim[0] = g->n;
        for (int d = 0; d < item.rank; d++)
            shape.dim[d + 1] = item.dim[d];
    }
    if (!fits(&shape, &io->shape))
        return rt_fail(err, RT_E_INVALID,
                       "unexpected shape for input '%s' for model '%s'. Expected %s, got %s.%s",
                       io->name, m->name, rt_shape_text(&io->shape, wanted),
                       rt_shape_text(&shape, got),
                       m->max_batch > 0 ? " NOTE: the first dimension is the batch: the number of "
                                          "samples that the request holds"
                                        : "");
    for (int k = 1; s == RT_OK && k < g->n; k++) {
        s = shape_of(g->item[k], io->name, &other, err);
        if (s == RT_OK && !rt_shape_equal(&item, &other))
            s = rt_fail(err, RT_E_INVALID, "input '%s': sample %d has another shape than the first",
                        io->name, k);
    }
    if (s == RT_OK)
        s = sv_job_input(job, i, io->dtype, &shape, err);
    const int64_t count = rt_shape_numel(&item);
    const size_t bytes = (size_t)count * rt_dtype_size(io->dtype);
    for (int k = 0; s == RT_OK && k < g->n; k++)
        s = read_item(g->item[k], io, (char *)job->in[i].data + (size_t)k * bytes, count, err);
    return s;
}

static enum rt_status take_pictures(const struct predict *p, int i, struct sv_infer *out,
                                    struct rt_error *err)
{
    const struct sv_model *m = p->model;
    const struct given *g = &p->given[i];
    if (i != m->image_input)
        return rt_fail(err, RT_E_INVALID, "input '%s' of model '%s' takes no pictures%s%s",
                       rt_model_input(m->rt, i)->name, m->name, m->image_note != NULL ? ": " : "",
                       m->image_note != NULL ? m->image_note : "");
    enum rt_status s = sv_pictures_create(m, out->job, g->n, &out->pictures, err);
    for (int k = 0; s == RT_OK && k < g->n; k++) {
        struct sv_span text;
        if (!is_b64(p, g->item[k], &text))
            return rt_fail(err, RT_E_INVALID, "sample %d is not {\"b64\":\"...\"} as the first is",
                           k);
        sv_pictures_set(out->pictures, k, text.p, text.len, true);
    }
    return s;
}

/* All inputs must hold the same number of samples, which is the job's. */
static enum rt_status check_batch(const struct sv_model *m, struct sv_job *job,
                                  struct rt_error *err)
{
    job->n = 1;
    if (m->max_batch == 0)
        return RT_OK;
    for (int i = 0; i < m->n_in; i++) {
        int64_t n = job->in[i].shape.dim[0];
        if (n < 1 || n > INT_MAX)
            return rt_fail(err, RT_E_INVALID, "input '%s': batch dimension must be >= 1",
                           rt_model_input(m->rt, i)->name);
        if (i > 0 && n != job->n)
            return rt_fail(err, RT_E_INVALID,
                           "input '%s' batch size does not match other inputs for '%s'",
                           rt_model_input(m->rt, i)->name, m->name);
        job->n = (int)n;
    }
    return RT_OK;
}

static enum rt_status want_all(const struct predict *p, struct sv_infer *out, struct rt_error *err)
{
    const struct sv_model *m = p->model;
    out->form = p->rows ? SV_FORM_ROWS : SV_FORM_COLUMNS;
    if (p->rows && m->max_batch == 0 && m->n_out > 1)
        return rt_fail(err, RT_E_INVALID,
                       "model '%s' has no batch axis and several outputs, which are no rows: send "
                       "'inputs' instead of 'instances'",
                       m->name);
    out->wanted = rt_zalloc_array((size_t)m->n_out, sizeof *out->wanted);
    if (out->wanted == NULL)
        return rt_fail_nomem(err, (size_t)m->n_out * sizeof *out->wanted);
    out->n_wanted = m->n_out;
    for (int i = 0; i < m->n_out; i++) {
        const struct rt_io *io = rt_model_output(m->rt, i);
        out->wanted[i].index = i;
        if (!sv_tensor_json_has(io->dtype))
            return rt_fail(err, RT_E_INVALID,
                           "output '%s' has type %s, which JSON data cannot hold; use POST "
                           "/v2/models/%s/infer",
                           io->name, rt_dtype_oip(io->dtype), m->name);
    }
    return RT_OK;
}

enum rt_status sv_predict_decode(const struct sv_model *model, const char *body, size_t len,
                                 struct sv_infer *out, struct rt_error *err)
{
    struct sv_infer in = { .model = model };
    struct predict p = { .model = model, .text = body };
    enum rt_status s = RT_OK;
    p.given = rt_zalloc_array((size_t)model->n_in, sizeof *p.given);
    in.job = sv_job_create(model->batcher);
    if (p.given == NULL || in.job == NULL)
        s = rt_fail_nomem(err, (size_t)model->n_in * sizeof *p.given);
    if (s == RT_OK)
        s = find_given(&p, body, len, err);
    if (s == RT_OK)
        s = want_all(&p, &in, err);
    for (int i = 0; s == RT_OK && i < model->n_in; i++) {
        struct sv_span text;
        s = is_b64(&p, p.given[i].item[0], &text) ? take_pictures(&p, i, &in, err)
                                                  : take_tensor(&p, i, in.job, err);
    }
    if (s == RT_OK)
        s = check_batch(model, in.job, err);
    for (int i = 0; p.given != NULL && i < model->n_in; i++)
        rt_free(p.given[i].item);
    rt_free(p.given);
    if (s == RT_OK)
        *out = in;
    else
        sv_infer_reset(&in);
    return s;
}
