/* Running a backend test: load, feed, run, compare, data set by data set. */
#include "server/model_test.h"

#include "server/feed.h"
#include "server/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of a quantised model: a step of its last integers, seen through a Softmax. */
#define ROUNDING_RANGE 1e-2

/* Models of more nodes than that are judged by range as well: their recorded answers came from
 * another implementation, not from the definition. */
#define SINGLE_OPERATOR 3

/* Tensors of one data set. */
struct data_set {
    struct sv_feed in, out;
};

struct run {
    const char *file; /* the model's */
    const struct sv_model_test_options *options;
    struct rt_model *model;
    struct rt_session *session;
    struct data_set *data;
};

/* Adds prefix0.pb, prefix1.pb, ... in that order. */
static enum rt_status read_tensors(struct sv_feed *feed, const char *folder,
                                   const struct sv_names *names, const char *prefix,
                                   struct rt_error *err)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strncmp(names->name[i], prefix, strlen(prefix)) != 0 ||
            !sv_path_has_suffix(names->name[i], ".pb"))
            continue;
        char *path = sv_path_join(folder, names->name[i]);
        if (path == NULL)
            return rt_fail_nomem(err, strlen(folder));
        enum rt_status s = sv_feed_add(feed, path, NULL, err);
        rt_free(path);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

static enum rt_status read_set(struct data_set *d, const char *folder, struct rt_error *err)
{
    struct sv_names names;
    enum rt_status s = sv_folder_list(folder, &names, err);
    if (s == RT_OK)
        s = read_tensors(&d->in, folder, &names, "input_", err);
    if (s == RT_OK)
        s = read_tensors(&d->out, folder, &names, "output_", err);
    sv_names_reset(&names);
    return s;
}

/* Makes model and session, anew when a data set is a larger batch than the last one. */
static enum rt_status load(struct run *r, int batch, bool any_shape, struct rt_error *err)
{
    if (r->session != NULL && !any_shape &&
        (rt_model_max_batch(r->model) == 0 || rt_model_max_batch(r->model) >= batch))
        return RT_OK;
    rt_session_destroy(r->session);
    r->session = NULL;
    rt_model_release(r->model);
    r->model = NULL;
    const struct rt_options o = {
        .max_batch = batch,
        .any_shape = any_shape,
        .memory_limit = r->options->memory_limit,
        .exact = r->options->exact,
        .allow_batch_statistics = true,
        .threads = r->options->threads,
    };
    enum rt_status s = rt_model_load_file(r->file, &o, &r->model, err);
    if (s != RT_OK) {
        /* Which file is plain from the test's name. */
        const size_t len = strlen(r->file);
        if (strncmp(err->text, r->file, len) == 0 && strncmp(err->text + len, ": ", 2) == 0)
            memmove(err->text, err->text + len + 2, strlen(err->text + len + 2) + 1);
        return s;
    }
    return rt_session_create(r->model, r->options->threads, &r->session, err);
}

/* Recorded data for bfloat16 may say uint16, which is how ONNX's own tools once wrote it. */
static void read_as_bfloat16(struct rt_tensor *t, enum rt_dtype wanted)
{
    if (t->dtype == RT_UINT16 && wanted == RT_BFLOAT16)
        t->dtype = RT_BFLOAT16;
}

/* Whether in[] have the shapes that the model declares. */
static bool is_declared(const struct rt_model *m, const struct rt_tensor *in)
{
    for (int i = 0; i < rt_model_n_inputs(m); i++) {
        const struct rt_shape *want = &rt_model_input(m, i)->shape, *got = &in[i].shape;
        /* NOLINTNEXTLINE(clang-analyzer-core.*): the feed has each of them */
        if (got->rank != want->rank)
            return false;
        for (int k = 0; k < got->rank; k++)
            if (want->dim[k] >= 0 && want->dim[k] != got->dim[k])
                return false;
    }
    return true;
}

/* Says where got is furthest from wanted. */
static enum rt_status fail_compare(const char *output, const struct rt_tensor *got,
                                   const struct rt_tensor *want, const struct sv_comparison *c,
                                   const struct sv_tolerance *t, struct rt_error *err)
{
    char at[RT_SHAPE_TEXT], a[SV_ELEMENT_TEXT], b[SV_ELEMENT_TEXT];
    return rt_fail(err, RT_E_INVALID,
                   "output %s%s is %s, wanted %s: off by %.3g absolute, %.3g relative; %lld of "
                   "%lld elements are outside rtol %g, atol %g; largest error %.3g of the range",
                   output, sv_index_text(&want->shape, c->worst, at),
                   sv_element_text(got, c->worst, a), sv_element_text(want, c->worst, b),
                   c->absolute, c->relative, (long long)c->n_outside, (long long)c->n, t->rtol,
                   t->atol, c->range > 0 ? c->max_absolute / c->range : c->max_absolute);
}

static enum rt_status judge(const struct run *r, const struct rt_tensor *got,
                            const struct rt_tensor *want, const char *output,
                            struct sv_model_test *out, struct rt_error *err)
{
    struct sv_comparison c;
    struct rt_model_info info;
    enum rt_status s = sv_compare(got, want, &r->options->tolerance, &c, err);
    if (s != RT_OK) {
        rt_error_prefix(err, "output %s", output);
        return s;
    }
    rt_model_info(r->model, &info);
    out->n_outputs++;
    out->max_absolute = fmax(out->max_absolute, c.max_absolute);
    if (c.max_absolute > 0)
        out->range_error = fmax(out->range_error, c.max_absolute / c.range);
    if (c.elementwise_ok)
        return RT_OK;
    /* Between two integers the rounding of a quantised model may go either way. */
    bool rounding_ok = info.rounds && c.n_special == 0 &&
                       c.max_absolute <= ROUNDING_RANGE * c.range;
    if ((c.range_ok || rounding_ok) && info.n_nodes > SINGLE_OPERATOR) {
        out->by_range = true;
        return RT_OK;
    }
    return fail_compare(output, got, want, &c, &r->options->tolerance, err);
}

static enum rt_status run_set(struct run *r, const char *folder, struct sv_model_test *out,
                              struct rt_error *err)
{
    struct rt_tensor in[SV_FEED_MAX], got[SV_FEED_MAX];
    int slot[SV_FEED_MAX];
    struct data_set *d = r->data;
    enum rt_status s = read_set(d, folder, err);
    if (s == RT_OK)
        s = load(r, sv_feed_batch(&d->in), false, err);
    if (s == RT_E_UNSUPPORTED)
        out->outcome = SV_TEST_SKIPPED;
    if (s != RT_OK)
        return s;
    s = sv_feed_inputs(&d->in, r->model, slot, err);
    for (int k = 0; k < d->in.n && s == RT_OK; k++) {
        in[slot[k]] = d->in.tensor[k];
        read_as_bfloat16(&in[slot[k]], rt_model_input(r->model, slot[k])->dtype);
    }
    /* ONNX 1.12's CastLike tests declare one shape and feed another. */
    if (s == RT_OK && !is_declared(r->model, in))
        s = load(r, 1, true, err);
    if (s == RT_OK)
        s = sv_feed_outputs(&d->out, r->model, slot, err);
    if (s == RT_OK)
        s = rt_session_run(r->session, in, got, err);
    if (s == RT_OK && rt_session_is_random(r->session)) {
        out->outcome = SV_TEST_SKIPPED;
        return rt_fail(err, RT_E_UNSUPPORTED, "its results are drawn at random");
    }
    for (int k = 0; k < d->out.n && s == RT_OK; k++) {
        read_as_bfloat16(&d->out.tensor[k], got[slot[k]].dtype);
        s = judge(r, &got[slot[k]], &d->out.tensor[k], rt_model_output(r->model, slot[k])->name,
                  out, err);
    }
    return s;
}

static enum rt_status run_sets(struct run *r, const char *folder, struct sv_model_test *out,
                               struct rt_error *err)
{
    struct sv_names names;
    int n_sets = 0;
    /* The model first: what it is refused for says more than an input file of a kind that only
     * such a model has. */
    enum rt_status s = load(r, 1, false, err);
    if (s != RT_OK) {
        if (s == RT_E_UNSUPPORTED)
            out->outcome = SV_TEST_SKIPPED;
        return s;
    }
    s = sv_folder_list(folder, &names, err);
    for (size_t i = 0; i < names.n && s == RT_OK; i++) {
        if (strncmp(names.name[i], "test_data_set_", 14) != 0)
            continue;
        char *path = sv_path_join(folder, names.name[i]);
        if (path == NULL) {
            s = rt_fail_nomem(err, strlen(folder));
        } else if (sv_is_folder(path)) {
            n_sets++;
            s = run_set(r, path, out, err);
            sv_feed_reset(&r->data->in);
            sv_feed_reset(&r->data->out);
            if (s != RT_OK && n_sets > 1)
                rt_error_prefix(err, "%s", names.name[i]);
        }
        rt_free(path);
    }
    sv_names_reset(&names);
    if (s == RT_OK && out->n_outputs == 0) {
        out->outcome = SV_TEST_SKIPPED;
        s = rt_fail(err, RT_E_NOT_FOUND, "no recorded output (test_data_set_*/output_*.pb)");
    }
    return s;
}

void sv_model_test_run(const char *folder, const struct sv_model_test_options *o,
                       struct sv_model_test *out)
{
    struct run r = { .options = o };
    char *file = sv_path_join(folder, "model.onnx");
    r.file = file;
    r.data = rt_zalloc(sizeof *r.data);
    enum rt_status s = file == NULL || r.data == NULL ? rt_fail_nomem(&out->reason, sizeof *r.data)
                                                      : run_sets(&r, folder, out, &out->reason);
    if (s != RT_OK && out->outcome == SV_TEST_PASSED)
        out->outcome = SV_TEST_FAILED;
    rt_session_destroy(r.session);
    rt_model_release(r.model);
    rt_free(r.data);
    rt_free(file);
}
