/* POST .../classify: pictures in, the names of what they show out. */
#include "server/routes.h"

#include "runtime/rt.h"
#include "server/image.h"
#include "server/multipart.h"
#include "server/pictures.h"
#include "server/scores.h"
#include "server/utf8.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FILES_MAX SV_PICTURES_MAX
#define PARTS_MAX 1024 /* of a form, with fields that are no files */
#define TOP_DEFAULT 5
#define TOP_MAX 1000

/* One picture of the request. */
struct picture {
    const char *bytes; /* in the body */
    size_t len;
    bool named;
    char name[128]; /* of the file */
    char field[64]; /* of the form */
    char what[160]; /* what errors call it */
};

/* A request from its arrival to its answer. It belongs to the jobs, and after the last of them to
 * the request again. */
struct classify {
    struct sv_request *req;
    struct sv_model *model;
    int top;
    atomic_int left; /* jobs that have not ended */
    int n;
    struct picture *picture; /* picture[0..n) */
    int n_jobs;              /* 1; or n, for a model without a batch axis */
    struct sv_job **job;
    struct sv_pictures **pictures; /* of each job */
};

static void job_done(struct sv_job *job)
{
    struct classify *c = job->user;
    if (atomic_fetch_sub(&c->left, 1) == 1)
        sv_request_wake(c->req);
}

static enum rt_status write_classes(const struct classify *c, int i, struct sv_text *t,
                                    struct sv_class *best, struct rt_error *err)
{
    const struct sv_model *m = c->model;
    const struct sv_job *job = c->job[c->n_jobs > 1 ? i : 0];
    const struct picture *p = &c->picture[i];
    int n;
    enum rt_status s =
        sv_scores_top(&job->out[0], c->n_jobs > 1 ? 0 : i, job->n, m->config.scores,
                      rt_model_output_is_probability(m->rt, 0), c->top, best, &n, err);
    if (s != RT_OK)
        return s;
    sv_text_printf(t, "%s{\"image\":%d,", i > 0 ? "," : "", i);
    if (p->named) {
        sv_text_add(t, "\"name\":");
        sv_text_json_str(t, p->name);
        sv_text_add(t, ",");
    }
    sv_text_add(t, "\"classes\":[");
    for (int k = 0; k < n; k++) {
        const char *label = sv_labels_get(&m->labels, best[k].index);
        sv_text_printf(t, "%s{\"index\":%lld,\"label\":", k > 0 ? "," : "",
                       (long long)best[k].index);
        if (label != NULL)
            sv_text_json_str(t, label);
        else
            sv_text_add(t, "null");
        sv_text_add(t, ",\"score\":");
        if (isfinite(best[k].score))
            sv_text_float(t, best[k].score);
        else
            sv_text_add(t, "null");
        sv_text_add(t, "}");
    }
    sv_text_add(t, "]}");
    return RT_OK;
}

/* What curl says of a body that it was not told the type of; its -d also leaves out line ends,
 * which a picture does not survive. */
static void reply_failed(struct sv_request *req, const struct rt_error *failed)
{
    const char *type = sv_request_header(req, "Content-Type");
    struct rt_error err = *failed;
    if (failed->status == RT_E_INVALID && type != NULL &&
        strcasecmp(type, "application/x-www-form-urlencoded") == 0)
        rt_fail(&err, failed->status,
                "%s; if this came from curl -d: --data-binary sends a file as it is", failed->text);
    sv_reply_error(&req->response, &err);
}

static void finish(void *state, struct sv_request *req)
{
    struct classify *c = state;
    struct sv_text t = { 0 };
    struct rt_error err = { 0 };
    struct sv_class best[TOP_MAX];
    const struct rt_error *failed = NULL;
    for (int i = 0; i < c->n_jobs; i++) {
        sv_account_job(req, c->model, c->job[i]);
        if (failed == NULL && c->job[i]->error.status != RT_OK)
            failed = &c->job[i]->error;
    }
    if (failed != NULL) {
        reply_failed(req, failed);
        return;
    }
    sv_text_add(&t, "{\"model_name\":");
    sv_text_json_str(&t, c->model->name);
    sv_text_printf(&t, ",\"model_version\":\"%s\",\"predictions\":[", c->model->version_text);
    enum rt_status s = RT_OK;
    for (int i = 0; s == RT_OK && i < c->n; i++)
        s = write_classes(c, i, &t, best, &err);
    sv_text_add(&t, "]}");
    if (s == RT_OK) {
        sv_response_text(&req->response, &t);
    } else {
        sv_text_reset(&t);
        sv_reply_error(&req->response, &err);
    }
}

static void cancel(void *state)
{
    struct classify *c = state;
    for (int i = 0; i < c->n_jobs; i++) {
        sv_pictures_cancel(c->pictures[i]);
        sv_job_cancel(c->job[i]);
    }
}

static void release(void *state)
{
    struct classify *c = state;
    for (int i = 0; i < c->n_jobs; i++) {
        sv_pictures_destroy(c->pictures[i]);
        sv_job_destroy(c->job[i]);
    }
    rt_free(c->pictures);
    rt_free(c->job);
    rt_free(c->picture);
    sv_model_release(c->model);
    rt_free(c);
}

static const struct sv_work work = { .finish = finish, .cancel = cancel, .release = release };

static enum rt_status add_picture(struct classify *c, const struct sv_part *part,
                                  struct rt_error *err)
{
    if (c->n == FILES_MAX)
        return rt_fail(err, RT_E_LIMIT, "more than %d files in one request", FILES_MAX);
    struct picture *p = &c->picture[c->n];
    *p = (struct picture){ .bytes = part->bytes,
                           .len = part->len,
                           .named = part->has_file_name && part->file_name[0] != '\0' };
    memcpy(p->name, part->file_name, sizeof p->name);
    memcpy(p->field, part->field, sizeof p->field);
    c->n++;
    return RT_OK;
}

/* The only picture, unless it has a name, needs none. */
static void name_pictures(struct classify *c)
{
    for (int i = 0; i < c->n; i++) {
        struct picture *p = &c->picture[i];
        if (p->named)
            snprintf(p->what, sizeof p->what, "image %d ('%s')", i, p->name);
        else if (p->field[0] != '\0')
            snprintf(p->what, sizeof p->what, "image %d (field '%s')", i, p->field);
        else if (c->n > 1)
            snprintf(p->what, sizeof p->what, "image %d", i);
    }
}

/* Whether a part is text shows in its first bytes; a form of many megabytes is looked at on the
 * thread of its socket. */
#define TEXT_SHOWS ((size_t)1 << 10)

static bool is_text(const char *p, size_t len)
{
    const char *const shown = p + (len < TEXT_SHOWS ? len : TEXT_SHOWS);
    for (size_t n; p < shown; p += n, len -= n) {
        n = sv_utf8_character(p, len);
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a zero byte is no text */
        if (n == 0 || ((unsigned char)*p < ' ' && memchr("\t\r\n", *p, 3) == NULL))
            return false;
    }
    return true;
}

static enum rt_status no_picture(const struct sv_part *part, int number, struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID,
                   "part %d of the form, counted from 0, field '%s', is no JPEG, PNG or WebP "
                   "picture",
                   number, part->field);
}

typedef enum rt_status visit_part(struct classify *c, const struct sv_part *part, int number,
                                  struct rt_error *err);

static enum rt_status each_part(struct classify *c, const char *type, visit_part *visit,
                                struct rt_error *err)
{
    const struct sv_request *req = c->req;
    struct sv_parts parts;
    struct sv_part part;
    bool more = true;
    enum rt_status s = sv_parts_begin(&parts, type, req->body, req->body_len, err);
    for (int number = 0; s == RT_OK; number++) {
        s = sv_parts_next(&parts, &part, &more, err);
        if (s != RT_OK || !more)
            break;
        if (number == PARTS_MAX)
            return rt_fail(err, RT_E_LIMIT, "the form has more than %d parts", PARTS_MAX);
        s = visit(c, &part, number, err);
    }
    return s;
}

/* A picture, or a field of text that is not ours. What is neither may be a picture that was damaged
 * on its way. */
static enum rt_status add_part(struct classify *c, const struct sv_part *part, int number,
                               struct rt_error *err)
{
    if (part->has_file_name || sv_image_recognised(part->bytes, part->len))
        return add_picture(c, part, err);
    if (part->len > 0 && (part->is_image || !is_text(part->bytes, part->len)))
        return no_picture(part, number, err);
    return RT_OK;
}

/* Text in a field that holds pictures elsewhere is no other field's. */
static enum rt_status check_field(struct classify *c, const struct sv_part *part, int number,
                                  struct rt_error *err)
{
    if (part->has_file_name || part->len == 0 || sv_image_recognised(part->bytes, part->len))
        return RT_OK;
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->picture[i].field, part->field) == 0)
            return no_picture(part, number, err);
    return RT_OK;
}

/* The body as one picture, or a form whose files are pictures. */
static enum rt_status find_pictures(struct classify *c, struct rt_error *err)
{
    const struct sv_request *req = c->req;
    const char *type = sv_request_header(req, "Content-Type");
    bool form = sv_is_multipart(type);
    c->picture = rt_alloc_array(form ? FILES_MAX : 1, sizeof *c->picture);
    if (c->picture == NULL)
        return rt_fail_nomem(err, FILES_MAX * sizeof *c->picture);
    if (req->body_len == 0)
        return rt_fail(err, RT_E_INVALID,
                       "the body is empty: send one JPEG, PNG or WebP file, or a "
                       "multipart/form-data body with several");
    if (!form) {
        struct sv_part whole = { .bytes = req->body, .len = req->body_len };
        return add_picture(c, &whole, err);
    }
    enum rt_status s = each_part(c, type, add_part, err);
    if (s == RT_OK)
        s = each_part(c, type, check_field, err);
    if (s == RT_OK && c->n == 0)
        return rt_fail(err, RT_E_INVALID, "the form holds no file");
    return s;
}

/* A job for picture[first..first + n). */
static enum rt_status make_job(struct classify *c, int first, int n, struct sv_job **job,
                               struct sv_pictures **pictures, struct rt_error *err)
{
    *job = sv_job_create(c->model->batcher);
    if (*job == NULL)
        return rt_fail_nomem(err, sizeof **job);
    (*job)->n = n;
    (*job)->arrival = c->req->arrival;
    (*job)->done = job_done;
    (*job)->user = c;
    enum rt_status s = sv_pictures_create(c->model, *job, n, pictures, err);
    for (int i = 0; i < n && s == RT_OK; i++) {
        const struct picture *p = &c->picture[first + i];
        sv_pictures_set(*pictures, i, p->bytes, p->len, false);
        sv_pictures_call(*pictures, i, p->what);
    }
    return s;
}

static enum rt_status make_jobs(struct classify *c, struct rt_error *err)
{
    const bool batched = c->model->max_batch > 0;
    const int n_jobs = batched ? 1 : c->n, per_job = batched ? c->n : 1;
    name_pictures(c);
    c->job = rt_zalloc_array((size_t)n_jobs, sizeof *c->job);
    c->pictures = rt_zalloc_array((size_t)n_jobs, sizeof *c->pictures);
    if (c->job == NULL || c->pictures == NULL)
        return rt_fail_nomem(err, (size_t)n_jobs * sizeof *c->job);
    c->n_jobs = n_jobs;
    enum rt_status s = RT_OK;
    for (int i = 0; i < n_jobs && s == RT_OK; i++)
        s = make_job(c, i * per_job, per_job, &c->job[i], &c->pictures[i], err);
    return s;
}

static enum rt_status check_model(const struct sv_model *m, struct rt_error *err)
{
    if (m->image_input < 0)
        return rt_fail(err, RT_E_INVALID, "model '%s' takes no pictures: %s", m->name,
                       m->image_note);
    if (m->n_in != 1)
        return rt_fail(err, RT_E_INVALID,
                       "model '%s' has %d inputs, pictures alone are not enough for it; use infer",
                       m->name, m->n_in);
    return RT_OK;
}

void sv_post_classify(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    struct rt_error err;
    struct sv_model *m = sv_find_model(app, target, &req->response);
    if (m == NULL)
        return;
    struct classify *c = rt_zalloc(sizeof *c);
    if (c == NULL) {
        rt_fail_nomem(&err, sizeof *c);
        sv_reply_error(&req->response, &err);
        sv_model_release(m);
        return;
    }
    c->req = req;
    c->model = m;
    c->top = TOP_DEFAULT;
    enum rt_status s = check_model(m, &err);
    if (s == RT_OK)
        s = sv_request_query_int(req, "top", 1, TOP_MAX, &c->top, &err);
    if (s == RT_OK)
        s = find_pictures(c, &err);
    if (s == RT_OK)
        s = make_jobs(c, &err);
    if (s != RT_OK) {
        sv_batcher_count_failed(m->batcher, req->arrival);
        sv_reply_error(&req->response, &err);
        release(c);
        return;
    }
    const int n = c->n_jobs;
    atomic_store(&c->left, n);
    sv_request_sleep(req, &work, c);
    for (int i = 0; i < n; i++) /* c is gone with the last one */
        sv_pictures_start(c->pictures[i], app->pool, (size_t)app->limits.max_pixels);
}
