/* The route table: from a path and a method to a handler. */
#include "server/routes.h"

#include "server/log.h"

#include <stdio.h>
#include <string.h>

/* In a pattern M stands for a model's name and V for "versions/<number>", which may be left out. */
static const struct route {
    const char *method, *pattern;
    sv_handler *handler;
} table[] = {
    { "GET", "", sv_get_hint },
    { "GET", "v2", sv_get_server },
    { "GET", "v2/health/live", sv_get_live },
    { "GET", "v2/health/ready", sv_get_ready },
    { "GET", "v2/models", sv_get_models },
    { "GET", "v2/models/stats", sv_get_all_stats },
    { "GET", "v2/models/M/V", sv_get_model },
    { "GET", "v2/models/M/V/ready", sv_get_model_ready },
    { "GET", "v2/models/M/V/stats", sv_get_model_stats },
    { "GET", "v2/models/M/V/config", sv_get_model_config },
    { "POST", "v2/models/M/V/infer", sv_post_infer },
    { "POST", "v2/models/M/V/classify", sv_post_classify },
    { "POST", "classify", sv_post_classify },
};

#define N_ROUTES (sizeof table / sizeof table[0])
#define SEGMENTS_MAX 8

/* A path cut at its slashes, each piece decoded. */
struct path {
    int n;
    char segment[SEGMENTS_MAX][256];
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes p[0..len); false when that is wrong, gives a zero byte, or does not fit. */
static bool decode_segment(const char *p, size_t len, char out[256])
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = p[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(p[i + 1]) : -1;
            int low = i + 2 < len ? hex_digit(p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0' || n == 255)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

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
        if (out->n == SEGMENTS_MAX || !decode_segment(p, len, out->segment[out->n]))
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

static bool match(const char *pattern, const struct path *path, struct sv_target *target)
{
    int i = 0;
    *target = (struct sv_target){ .version = 0 };
    while (*pattern != '\0') {
        size_t len = strcspn(pattern, "/");
        if (len == 1 && *pattern == 'V') {
            if (i + 1 < path->n && strcmp(path->segment[i], "versions") == 0) {
                target->version = version_of(path->segment[i + 1]);
                if (target->version == 0)
                    return false;
                i += 2;
            }
        } else {
            if (i == path->n)
                return false;
            const char *segment = path->segment[i++];
            if (len == 1 && *pattern == 'M')
                strcpy(target->model, segment);
            else if (strlen(segment) != len || memcmp(segment, pattern, len) != 0)
                return false;
        }
        pattern += len;
        pattern += *pattern == '/';
    }
    return i == path->n;
}

/* Takes over the client's own number for the request, if it is one that can be repeated. */
static void echo_request_id(struct sv_request *req)
{
    const char *id = sv_request_header(req, "X-Request-Id");
    if (id == NULL || *id == '\0' || strlen(id) >= SV_HEADER_VALUE)
        return;
    for (const char *p = id; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            return;
    sv_response_header(&req->response, "X-Request-Id", "%s", id);
}

void sv_route(struct sv_app *app, struct sv_request *req)
{
    struct path path;
    struct sv_target target;
    char allow[64] = "";
    const char *method = strcmp(req->method, "HEAD") == 0 ? "GET" : req->method;
    echo_request_id(req);
    bool good = cut_path(req->path, &path);
    for (size_t i = 0; good && i < N_ROUTES; i++) {
        const struct route *r = &table[i];
        if (!match(r->pattern, &path, &target))
            continue;
        if (strcmp(r->method, method) == 0) {
            r->handler(app, req, &target);
            return;
        }
        snprintf(allow, sizeof allow, "%s", strcmp(r->method, "GET") == 0 ? "GET, HEAD" : "POST");
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

struct sv_model *sv_find_model(struct sv_app *app, const struct sv_target *target,
                               struct sv_response *res)
{
    struct rt_error err;
    struct sv_model *m;
    enum rt_status s = target->model[0] != '\0'
                           ? sv_registry_find(app->registry, target->model, target->version, &m, &err)
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
