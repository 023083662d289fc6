/* The route table: from a path and a method to a handler. */
#include "server/routes.h"

#include "server/clock.h"
#include "server/keys.h"
#include "server/numbers.h"
#include "server/percent.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Who may use a route. */
enum access {
    OPEN,    /* everybody: probes have no keys */
    CLIENTS, /* who shows an API key, if there are any */
    CONTROL, /* who shows a key for model control, or an API key if there are none of these */
};

/* In a pattern M stands for a model's name, V for "versions/<number>", which may be left out, and N
 * for the number alone. What follows M or N in the same segment must follow there. */
static const struct route {
    const char *method, *pattern;
    sv_handler *handler;
    enum access access;
} table[] = {
    /* what is asked for most often */
    { "POST", "v2/models/M/V/infer", sv_post_infer, CLIENTS },
    { "POST", "v2/models/M/V/classify", sv_post_classify, CLIENTS },
    /* the rest */
    { "GET", "", sv_get_page, OPEN },
    { "GET", "docs", sv_get_docs, OPEN },
    { "GET", "openapi.json", sv_get_openapi, OPEN },
    { "GET", "page/M", sv_get_page_file, OPEN },
    { "GET", "v2", sv_get_server, CLIENTS },
    { "GET", "v2/health/live", sv_get_live, OPEN },
    { "GET", "v2/health/ready", sv_get_ready, OPEN },
    { "GET", "v2/models", sv_get_models, CLIENTS },
    { "GET", "v2/models/stats", sv_get_all_stats, CLIENTS },
    { "GET", "v2/models/M/V", sv_get_model, CLIENTS },
    { "GET", "v2/models/M/V/ready", sv_get_model_ready, CLIENTS },
    { "GET", "v2/models/M/V/stats", sv_get_model_stats, CLIENTS },
    { "GET", "v2/models/M/V/config", sv_get_model_config, CLIENTS },
    { "GET", "v2/models/M/V/report", sv_get_model_report, CLIENTS },
    { "POST", "v2/models/M/V/profile", sv_post_model_profile, CLIENTS },
    { "GET", "v1/models", sv_get_models, CLIENTS },
    { "GET", "v1/models/M/V", sv_get_v1_model, CLIENTS },
    { "GET", "v1/models/M/V/metadata", sv_get_v1_metadata, CLIENTS },
    { "POST", "v1/models/M:predict", sv_post_predict, CLIENTS },
    { "POST", "v1/models/M/versions/N:predict", sv_post_predict, CLIENTS },
    { "POST", "v1/models/M:classify", sv_post_v1_other, CLIENTS },
    { "POST", "v1/models/M:regress", sv_post_v1_other, CLIENTS },
    { "POST", "v1/models/M:explain", sv_post_v1_other, CLIENTS },
    { "POST", "classify", sv_post_classify, CLIENTS },
    { "POST", "v2/repository/index", sv_post_index, CLIENTS },
    { "POST", "v2/repository/models/M/load", sv_post_load, CONTROL },
    { "POST", "v2/repository/models/M/unload", sv_post_unload, CONTROL },
    { "POST", "v2/repository/M/index", sv_post_named_repository, CLIENTS },
    { "POST", "v2/repository/M/models/M/load", sv_post_named_repository, CONTROL },
    { "POST", "v2/repository/M/models/M/unload", sv_post_named_repository, CONTROL },
    { "GET", "v2/logging", sv_get_logging, CLIENTS },
    { "POST", "v2/logging", sv_post_logging, CONTROL },
    { "GET", "metrics", sv_get_metrics, CLIENTS },
};

#define N_ROUTES (sizeof table / sizeof table[0])
#define SEGMENTS_MAX 8

/* A path cut at its slashes, each piece decoded. */
struct path {
    int n;
    char segment[SEGMENTS_MAX][256];
};

/* One slash at the end does not count. */
static bool cut_path(const char *p, struct path *out)
{
    out->n = 0;
    if (strncmp(p, "http://", 7) == 0 || strncmp(p, "https://", 8) == 0) /* sent to a proxy */
        p = strchr(strchr(p, ':') + 3, '/');
    if (p == NULL || *p++ != '/')
        return false;
    while (*p != '\0') {
        size_t len = strcspn(p, "/");
        if (out->n == SEGMENTS_MAX ||
            !sv_percent_decode(p, len, out->segment[out->n], sizeof out->segment[0]))
            return false;
        out->n++;
        p += len;
        p += *p == '/';
    }
    return true;
}

/* Versions are whole numbers from 1; 0 when text is none. */
static int64_t version_of(const char *text)
{
    int64_t v = 0;
    if (*text == '\0' || strlen(text) > 18)
        return 0;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        v = v * 10 + (*text - '0');
    }
    return v;
}

/* Matches one segment of a path. */
static bool match_segment(const char *pattern, size_t len, const char *segment,
                          struct sv_target *target)
{
    const size_t n = strlen(segment);
    if (*pattern != 'M' && *pattern != 'N')
        return n == len && memcmp(segment, pattern, len) == 0;
    if (n < len || memcmp(segment + n - (len - 1), pattern + 1, len - 1) != 0)
        return false;
    char head[256];
    memcpy(head, segment, n - (len - 1));
    head[n - (len - 1)] = '\0';
    if (*pattern == 'M')
        strcpy(target->model, head);
    else
        target->version = version_of(head);
    return *pattern == 'M' || target->version != 0;
}

static bool match(const char *pattern, const struct path *path, struct sv_target *target)
{
    int i = 0;
    /* Most patterns differ from the path in their first letters. */
    if (path->n > 0 && *pattern != path->segment[0][0])
        return false;
    target->model[0] = '\0';
    target->version = 0;
    while (*pattern != '\0') {
        size_t len = strcspn(pattern, "/");
        if (len == 1 && *pattern == 'V') {
            if (i + 1 < path->n && strcmp(path->segment[i], "versions") == 0) {
                target->version = version_of(path->segment[i + 1]);
                if (target->version == 0)
                    return false;
                i += 2;
            }
        } else if (i == path->n || !match_segment(pattern, len, path->segment[i++], target)) {
            return false;
        }
        pattern += len;
        pattern += *pattern == '/';
    }
    return i == path->n;
}

/* The key that the client shows: "Authorization: Bearer KEY", or "X-API-Key: KEY". */
static const char *shown_key(const struct sv_request *req)
{
    const char *value = sv_request_header(req, "Authorization");
    if (value != NULL && strncasecmp(value, "Bearer ", 7) == 0)
        return value + 7 + strspn(value + 7, " ");
    value = sv_request_header(req, "X-API-Key");
    return value != NULL ? value : "";
}

/* Whether the request may use this route; when not, the refusal is its response. A key for control
 * opens everything. */
static bool may_use(struct sv_app *app, struct sv_request *req, enum access access)
{
    struct sv_keys *control = app->control_keys != NULL ? app->control_keys : app->api_keys;
    if (access == OPEN || (access == CLIENTS ? app->api_keys : control) == NULL)
        return true;
    const char *key = shown_key(req);
    bool client = app->api_keys != NULL && sv_keys_match(app->api_keys, key);
    bool controller = control != NULL && sv_keys_match(control, key);
    if (controller || (access == CLIENTS && client))
        return true;
    if (client) {
        sv_reply_status(&req->response, 403, "this key is not one for model control");
        return false;
    }
    sv_response_header(&req->response, "WWW-Authenticate", "Bearer");
    sv_reply_status(&req->response, 401,
                    "a key is needed: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'");
    return false;
}

/* The origin of the page that sent the request, if such pages may; else NULL. */
static const char *allowed_origin(const struct sv_app *app, const struct sv_request *req)
{
    const char *origin = app->n_origins > 0 ? sv_request_header(req, "Origin") : NULL;
    for (int i = 0; i < app->n_origins && origin != NULL; i++) {
        if (strcmp(app->origin[i], "*") == 0)
            return "*";
        if (strcmp(app->origin[i], origin) == 0)
            return app->origin[i];
    }
    return NULL;
}

/* The question a browser asks before it sends a page's request. */
static void answer_preflight(struct sv_response *res)
{
    sv_response_header(res, "Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
    sv_response_header(res, "Access-Control-Allow-Headers",
                       "Authorization, Content-Type, Content-Encoding, "
                       "Inference-Header-Content-Length, X-API-Key, X-Request-Id, traceparent");
    sv_response_header(res, "Access-Control-Max-Age", "86400");
    res->status = 204;
}

#define ALLOW_ROOM 64

/* The route that the request asks for; NULL: there is none, and allow lists the methods that the
 * path would take. */
static const struct route *find_route(const struct sv_request *req, struct sv_target *target,
                                      char allow[ALLOW_ROOM])
{
    struct path path;
    const char *method = strcmp(req->method, "HEAD") == 0 ? "GET" : req->method;
    bool good = cut_path(req->path, &path);
    *allow = '\0';
    for (size_t i = 0; good && i < N_ROUTES; i++) {
        const struct route *r = &table[i];
        if (!match(r->pattern, &path, target))
            continue;
        if (strcmp(r->method, method) == 0)
            return r;
        const char *methods = strcmp(r->method, "GET") == 0 ? "GET, HEAD" : "POST";
        size_t len = strlen(allow);
        if (strstr(allow, methods) == NULL)
            snprintf(allow + len, ALLOW_ROOM - len, "%s%s", len > 0 ? ", " : "", methods);
    }
    return NULL;
}

/* A request that has no place in its model's queue need not be read. */
static bool queues(const struct route *r)
{
    return r->handler == sv_post_infer || r->handler == sv_post_predict ||
           r->handler == sv_post_classify;
}

bool sv_route_admits(struct sv_app *app, struct sv_request *req)
{
    struct sv_target target;
    char allow[ALLOW_ROOM];
    const struct route *r = find_route(req, &target, allow);
    if (r == NULL || !queues(r))
        return true;
    return may_use(app, req, r->access) && sv_accepts_work(app, &req->response) &&
           sv_admits_job(app, req, &target);
}

/* Work that was taken on before the server began to stop is done. */
static void run_route(struct sv_app *app, struct sv_request *req, const struct route *r,
                      const struct sv_target *target)
{
    if (!may_use(app, req, r->access) || (queues(r) && !sv_accepts_work(app, &req->response)))
        return;
    if (strcmp(r->method, "GET") == 0)
        r->handler(app, req, target);
    else
        sv_with_body(app, req, target, r->handler);
}

void sv_route(struct sv_app *app, struct sv_request *req)
{
    struct sv_target target;
    char allow[ALLOW_ROOM];
    sv_request_identify(req);
    if (strcmp(req->method, "OPTIONS") == 0 && allowed_origin(app, req) != NULL) {
        answer_preflight(&req->response);
        return;
    }
    const struct route *r = find_route(req, &target, allow);
    if (r != NULL) {
        run_route(app, req, r, &target);
        return;
    }
    if (allow[0] != '\0') {
        sv_response_header(&req->response, "Allow", "%s", allow);
        sv_reply_status(&req->response, 405, "Method Not Allowed: %.32s %.256s takes %s",
                        req->method, req->path, allow);
        return;
    }
    sv_reply_status(&req->response, 404,
                    "Not Found: there is nothing at %.256s; GET /v2/models lists the models, POST "
                    "/v2/models/<name>/classify and /v2/models/<name>/infer use them",
                    req->path);
}

/* "name;dur=" and milliseconds with three decimals. Every answer has four of these, which printf
 * would spend more time on than on the rest of the headers. */
static char *add_timing(char *to, const char *name, uint64_t ns)
{
    uint64_t us = ns / 1000;
    to = stpcpy(stpcpy(to, name), ";dur=");
    to += sv_print_uint(to, us / 1000);
    *to++ = '.';
    *to++ = (char)('0' + us / 100 % 10);
    *to++ = (char)('0' + us / 10 % 10);
    *to++ = (char)('0' + us % 10);
    *to = '\0';
    return to;
}

static void add_timings(struct sv_response *res, const struct sv_account *a, uint64_t total_ns)
{
    char value[4 * (sizeof "compute;dur=" + SV_NUMBER_ROOM)];
    char *to = add_timing(value, "decode", a->decode_ns);
    to = add_timing(stpcpy(to, ", "), "queue", a->queue_ns);
    to = add_timing(stpcpy(to, ", "), "compute", a->compute_ns);
    add_timing(stpcpy(to, ", "), "total", total_ns);
    sv_response_header_text(res, "Server-Timing", value);
}

void sv_route_answering(struct sv_app *app, struct sv_request *req)
{
    struct sv_response *res = &req->response;
    const struct sv_account *a = &req->account;
    const char *origin = allowed_origin(app, req);
    if (req->id[0] == '\0')
        sv_request_identify(req);
    if (a->model != NULL)
        add_timings(res, a, sv_now_ns() - req->arrival);
    if (origin != NULL) {
        sv_response_header(res, "Access-Control-Allow-Origin", "%s", origin);
        sv_response_header(res, "Access-Control-Expose-Headers",
                           "Inference-Header-Content-Length, Server-Timing, X-Request-Id, "
                           "Retry-After");
    }
    if (app->n_origins > 0 && (origin == NULL || strcmp(origin, "*") != 0))
        sv_response_header(res, "Vary", "Origin");
    if (res->content_type != NULL && strncmp(res->content_type, "text/html", 9) == 0) {
        sv_response_header(res, "Content-Security-Policy",
                           "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
                           "base-uri 'none'; frame-ancestors 'none'");
        sv_response_header(res, "X-Content-Type-Options", "nosniff");
        sv_response_header(res, "Referrer-Policy", "no-referrer");
    }
}

void sv_route_completed(struct sv_app *app, struct sv_request *req)
{
    int status = sv_request_status(req);
    if (status < SV_STATUS_MAX)
        sv_add(&app->stats.answers[status], 1);
    sv_add(&app->stats.received, req->body_len);
    if (req->sent)
        sv_add(&app->stats.sent, req->response.body_len);
    if (app->access_log != NULL)
        sv_access_log_write(app->access_log, req);
}

static void keep_longest(uint64_t *longest, uint64_t ns)
{
    if (ns > *longest)
        *longest = ns;
}

void sv_account_job(struct sv_request *req, const struct sv_model *m, const struct sv_job *job)
{
    struct sv_account *a = &req->account;
    a->model = m->name;
    a->version = m->version_text;
    if (job->batch > a->batch)
        a->batch = job->batch;
    keep_longest(&a->decode_ns, job->decode_ns);
    keep_longest(&a->queue_ns, job->queue_ns);
    keep_longest(&a->compute_ns, job->input_ns + job->infer_ns + job->output_ns);
}

struct sv_model *sv_find_model(struct sv_app *app, const struct sv_target *target,
                               struct sv_response *res)
{
    struct rt_error err;
    struct sv_model *m;
    enum rt_status s = target->model[0] != '\0' ? sv_registry_find(app->registry, target->model,
                                                                   target->version, &m, &err)
                                                : sv_registry_default(app->registry, &m, &err);
    if (s == RT_OK)
        return m;
    sv_reply_error(res, &err);
    return NULL;
}

bool sv_accepts_work(struct sv_app *app, struct sv_response *res)
{
    if (atomic_load(&app->ready))
        return true;
    struct rt_error err;
    rt_fail(&err, RT_E_BUSY, "Server not ready: it is starting or stopping");
    sv_reply_error(res, &err);
    return false;
}
