/* Answers and the sleep of a request. */
#include "server/request.h"

#include "runtime/rt.h"
#include "server/clock.h"
#include "server/percent.h"

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void sv_response_header(struct sv_response *res, const char *name, const char *fmt, ...)
{
    assert(res->n_headers < SV_RESPONSE_HEADERS);
    struct sv_header *h = &res->header[res->n_headers++];
    h->name = name;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(h->value, sizeof h->value, fmt, ap);
    va_end(ap);
}

void sv_response_header_text(struct sv_response *res, const char *name, const char *value)
{
    assert(res->n_headers < SV_RESPONSE_HEADERS);
    struct sv_header *h = &res->header[res->n_headers++];
    size_t len = strnlen(value, sizeof h->value - 1);
    h->name = name;
    memcpy(h->value, value, len);
    h->value[len] = '\0';
}

static void drop_body(struct sv_response *res)
{
    if (res->body_owned)
        rt_free((void *)(uintptr_t)res->body);
    res->body = NULL;
    res->body_len = 0;
    res->body_owned = false;
    res->coded = false;
}

void sv_response_static(struct sv_response *res, const char *text)
{
    drop_body(res);
    res->body = text;
    res->body_len = strlen(text);
}

void sv_response_text(struct sv_response *res, struct sv_text *text)
{
    if (text->failed) {
        sv_text_reset(text);
        struct rt_error err;
        rt_fail(&err, RT_E_NOMEM, "out of memory for the answer");
        sv_reply_error(res, &err);
        return;
    }
    drop_body(res);
    res->body = text->p;
    res->body_len = text->len;
    res->body_owned = true;
    *text = (struct sv_text){ 0 };
}

void sv_response_reset(struct sv_response *res)
{
    drop_body(res);
    res->status = 0;
    res->content_type = NULL;
    res->n_headers = 0;
}

static void reply(struct sv_response *res, int status, const char *sentence)
{
    struct sv_text t = { 0 };
    sv_text_add(&t, "{\"error\":");
    sv_text_json_str(&t, sentence);
    sv_text_add(&t, "}");
    res->status = status;
    res->content_type = NULL;
    if (t.failed) {
        sv_text_reset(&t);
        sv_response_static(res, "{\"error\":\"out of memory\"}");
    } else {
        sv_response_text(res, &t);
    }
}

void sv_reply_status(struct sv_response *res, int status, const char *fmt, ...)
{
    char sentence[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, ap);
    va_end(ap);
    reply(res, status, sentence);
}

int sv_http_status(enum rt_status status)
{
    static const int table[] = {
        [RT_OK] = 200,          [RT_E_NOMEM] = 503,
        [RT_E_INVALID] = 400,   [RT_E_UNSUPPORTED] = 501,
        [RT_E_LIMIT] = 413,     [RT_E_IO] = 500,
        [RT_E_NOT_FOUND] = 404, [RT_E_BUSY] = 503,
        [RT_E_TIMEOUT] = 504,   [RT_E_DYNAMIC] = 500,
    };
    return table[status];
}

void sv_reply_error(struct sv_response *res, const struct rt_error *err)
{
    int status = sv_http_status(err->status);
    if (status == 503)
        sv_response_header(res, "Retry-After", "1");
    reply(res, status, err->text);
}

const char *sv_request_header(const struct sv_request *req, const char *name)
{
    return req->find_header != NULL ? req->find_header(req, name) : NULL;
}

enum rt_status sv_request_query_int(const struct sv_request *req, const char *name, int min,
                                    int max, int *out, struct rt_error *err)
{
    const char *other, *text = req->find_query != NULL ? req->find_query(req, name, 0) : NULL;
    for (int i = 0; req->query_name != NULL && (other = req->query_name(req, i)) != NULL; i++)
        if (strcmp(other, name) != 0)
            return rt_fail(err, RT_E_INVALID, "the query has '%.64s', but '%s' is all it may have",
                           other, name);
    if (text == NULL)
        return RT_OK;
    if (req->find_query(req, name, 1) != NULL)
        return rt_fail(err, RT_E_INVALID, "the query has '%s' more than once", name);
    char number[16];
    char *end = number;
    long v = 0;
    bool good = sv_percent_decode(text, strlen(text), number, sizeof number);
    if (good && number[0] >= '0' && number[0] <= '9')
        v = strtol(number, &end, 10);
    if (!good || end == number || *end != '\0' || v < min || v > max)
        return rt_fail(err, RT_E_INVALID, "'%s' must be a whole number from %d to %d, got '%.32s'",
                       name, min, max, text);
    *out = (int)v;
    return RT_OK;
}

static bool is_hex(const char *s, size_t n)
{
    return strspn(s, "0123456789abcdef") >= n;
}

/* "00-<32 hex>-<16 hex>-<2 hex>"; later versions may have more behind it. An id of zeros is none.
 */
static void take_trace(struct sv_request *req)
{
    const char *p = sv_request_header(req, "traceparent");
    if (p == NULL || strlen(p) < 55 || !is_hex(p, 2) || strncmp(p, "ff", 2) == 0 || p[2] != '-' ||
        !is_hex(p + 3, 32) || strspn(p + 3, "0") >= 32 || p[35] != '-' || !is_hex(p + 36, 16) ||
        p[52] != '-' || !is_hex(p + 53, 2))
        return;
    memcpy(req->trace, p + 3, 32);
    req->trace[32] = '\0';
}

/* A number that no other request of this process has, and hardly one of another. */
static uint64_t make_id(void)
{
    static _Atomic uint64_t next;
    uint64_t expected = 0, x;
    if (atomic_load_explicit(&next, memory_order_relaxed) == 0) {
        if (getrandom(&x, sizeof x, GRND_NONBLOCK) != (ssize_t)sizeof x)
            x = sv_now_ns();
        atomic_compare_exchange_strong(&next, &expected, x | 1);
    }
    /* splitmix64: successive numbers do not look alike. */
    x = atomic_fetch_add_explicit(&next, UINT64_C(0x9e3779b97f4a7c15), memory_order_relaxed);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Sixteen digits and a zero byte. */
static void print_hex(uint64_t x, char *to)
{
    for (int i = 0; i < 16; i++)
        to[i] = "0123456789abcdef"[x >> (60 - 4 * i) & 15];
    to[16] = '\0';
}

void sv_request_identify(struct sv_request *req)
{
    const char *id = sv_request_header(req, "X-Request-Id");
    bool good = id != NULL && *id != '\0' && strlen(id) < sizeof req->id;
    for (const char *p = id; good && *p != '\0'; p++)
        good = *p >= ' ' && *p <= '~';
    if (good)
        strcpy(req->id, id);
    else
        print_hex(make_id(), req->id);
    sv_response_header_text(&req->response, "X-Request-Id", req->id);
    take_trace(req);
}

int sv_request_status(const struct sv_request *req)
{
    if (!req->sent)
        return 499;
    return req->response.status != 0 ? req->response.status : 200;
}

void sv_request_sleep(struct sv_request *req, const struct sv_work *work, void *state)
{
    req->work = work;
    req->state = state;
    req->asleep = true;
}

void sv_request_wake(struct sv_request *req)
{
    req->woken(req);
}

void sv_request_finish(struct sv_request *req)
{
    req->asleep = false;
    req->work->finish(req->state, req);
}

void sv_request_reset(struct sv_request *req)
{
    if (req->work != NULL)
        req->work->release(req->state);
    req->work = NULL;
    req->state = NULL;
    rt_free(req->inflated);
    req->inflated = NULL;
    sv_response_reset(&req->response);
}
