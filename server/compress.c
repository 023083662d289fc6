/* zlib between a request's body and its handler, and between a handler and its answer. */
#include "server/compress.h"

#include "runtime/rt.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>

/* Answers below this are sent as they are: they fit a packet. */
#define DEFLATE_FROM 1024
/* zlib's largest window; with 16 it writes gzip's container, with 32 it reads either. */
#define WINDOW 15
#define WRITE_GZIP 16
#define READ_ANY 32

static voidpf zlib_alloc(voidpf opaque, uInt n, uInt size)
{
    (void)opaque;
    return rt_alloc_array(n, size);
}

static void zlib_free(voidpf opaque, voidpf p)
{
    (void)opaque;
    rt_free(p);
}

static uInt piece(size_t len)
{
    return len < UINT32_MAX / 2 ? (uInt)len : UINT32_MAX / 2;
}

/* Makes *p, of *room bytes, larger, as left more compressed ones ask for. A request has the bytes
 * booked. */
static enum rt_status grow(struct sv_request *req, size_t left, size_t max, char **p, size_t *room,
                           struct rt_error *err)
{
    /* Text shrinks to a third or so. */
    size_t next = *room > 0 ? *room : left < max ? left * 2 : max;
    next = next < max / 2 ? next * 2 : max + 1;
    enum rt_status s = req != NULL && req->hold != NULL ? req->hold(req, next - *room, err) : RT_OK;
    if (s != RT_OK)
        return s;
    char *grown = rt_realloc_array(*p, next, 1);
    if (grown == NULL)
        return rt_fail_nomem(err, next);
    *p = grown;
    *room = next;
    return RT_OK;
}

/* Inflates all members of the stream to *p, *len bytes and a zero byte, where there is never room
 * for more than max bytes and that zero byte: one byte over max is enough to know. */
static enum rt_status inflate_all(z_stream *z, struct sv_request *req, const char *from,
                                  size_t left, size_t max, char **p, size_t *len,
                                  struct rt_error *err)
{
    size_t room = 0;
    bool ended = false;
    z->next_in = (Bytef *)(uintptr_t)from;
    *len = 0;
    for (;;) {
        if (*len == room) {
            enum rt_status s = grow(req, left, max, p, &room, err);
            if (s != RT_OK)
                return s;
        }
        if (ended)
            break;
        const uInt in = z->avail_in = piece(left), out = z->avail_out = piece(room - *len);
        z->next_out = (Bytef *)*p + *len;
        int r = inflate(z, Z_NO_FLUSH);
        left -= in - z->avail_in;
        rt_mem_written(*p + *len, out - z->avail_out);
        *len += out - z->avail_out;
        if (r == Z_MEM_ERROR)
            return rt_fail_nomem(err, (size_t)1 << WINDOW);
        if (r == Z_BUF_ERROR || (r == Z_OK && left == 0 && z->avail_out > 0))
            return rt_fail(err, RT_E_INVALID, "the compressed body ends too early");
        if (r != Z_OK && r != Z_STREAM_END)
            return rt_fail(err, RT_E_INVALID, "the compressed body is damaged: %s",
                           z->msg != NULL ? z->msg : "it asks for a dictionary");
        if (*len > max)
            return rt_fail(err, RT_E_LIMIT,
                           "the decompressed body is larger than the %zu bytes that are taken "
                           "(--max-body)",
                           max);
        ended = r == Z_STREAM_END && left == 0;
        if (r == Z_STREAM_END && left > 0)
            inflateReset(z); /* gzip files may be put one behind the other */
    }
    (*p)[*len] = '\0';
    return RT_OK;
}

/* from[0..from_len) inflated to a block of its own; req: the request that holds it, or NULL. */
static enum rt_status inflate_block(struct sv_request *req, const void *from, size_t from_len,
                                    size_t max, char **out, size_t *len, struct rt_error *err)
{
    z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free };
    *out = NULL;
    if (from_len == 0)
        return rt_fail(err, RT_E_INVALID, "nothing to be decompressed: the body is empty");
    if (inflateInit2(&z, WINDOW + READ_ANY) != Z_OK)
        return rt_fail_nomem(err, (size_t)1 << WINDOW);
    enum rt_status s = inflate_all(&z, req, from, from_len, max, out, len, err);
    inflateEnd(&z);
    if (s != RT_OK) {
        rt_free(*out);
        *out = NULL;
    }
    return s;
}

bool sv_request_coding(struct sv_request *req, bool *compressed)
{
    const char *coding = sv_request_header(req, "Content-Encoding");
    *compressed = false;
    if (coding == NULL || *coding == '\0' || strcasecmp(coding, "identity") == 0)
        return true;
    *compressed = true;
    if (strcasecmp(coding, "gzip") == 0 || strcasecmp(coding, "deflate") == 0 ||
        strcasecmp(coding, "x-gzip") == 0)
        return true;
    sv_response_header(&req->response, "Accept-Encoding", "gzip, deflate");
    sv_reply_status(&req->response, 415,
                    "Unsupported compression type '%.64s': a body may come as gzip or deflate",
                    coding);
    return false;
}

enum rt_status sv_request_inflate(struct sv_request *req, size_t max_body, struct rt_error *err)
{
    char *body;
    size_t len = 0;
    enum rt_status s = inflate_block(req, req->body, req->body_len, max_body, &body, &len, err);
    if (s != RT_OK)
        return s;
    req->inflated = body;
    req->body = body;
    req->body_len = len;
    return RT_OK;
}

/* The q of one item, whose parameters lie in p[0..len): 0 to 1000, 1000 without one, -1 when it
 * is malformed. */
static int quality(const char *p, size_t len)
{
    const char *end = p + len;
    while (p < end && (*p == ' ' || *p == '\t' || *p == ';'))
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (p == end)
        return 1000;
    if (end - p < 3 || (*p | 0x20) != 'q' || p[1] != '=' || (p[2] != '0' && p[2] != '1'))
        return -1;
    int q = (p[2] - '0') * 1000;
    p += 3;
    if (p == end)
        return q;
    if (*p++ != '.' || end - p > 3)
        return -1;
    for (int weight = 100; p < end; p++, weight /= 10) {
        if (*p < '0' || *p > '9')
            return -1;
        q += (*p - '0') * weight;
    }
    return q <= 1000 ? q : -1;
}

enum sv_coding sv_accepted_coding(const char *accept)
{
    static const char *const name[] = {
        [SV_CODING_IDENTITY] = "identity",
        [SV_CODING_GZIP] = "gzip",
        [SV_CODING_DEFLATE] = "deflate",
    };
    enum sv_coding best = SV_CODING_IDENTITY;
    int best_q = 0;
    for (const char *p = accept; p != NULL && *p != '\0';) {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, ","), word = strcspn(p, " \t;,");
        int q = quality(p + word, len - word);
        for (int c = 0; c < 3; c++)
            if (q > best_q && strlen(name[c]) == word && strncasecmp(p, name[c], word) == 0) {
                best = (enum sv_coding)c;
                best_q = q;
            }
        p += len;
    }
    return best;
}

/* The whole of from[0..len) to to[0..*room), of which *room bytes are then used; false when it
 * does not fit, which means that it is not worth it, or there is no memory. */
static bool deflate_all(enum sv_coding coding, const void *from, size_t len, char *to, size_t *room)
{
    z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free };
    if (deflateInit2(&z, 1, Z_DEFLATED, WINDOW + (coding == SV_CODING_GZIP ? WRITE_GZIP : 0), 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    z.next_in = (Bytef *)(uintptr_t)from;
    z.avail_in = (uInt)len;
    z.next_out = (Bytef *)to;
    z.avail_out = (uInt)*room;
    bool done = deflate(&z, Z_FINISH) == Z_STREAM_END;
    *room -= z.avail_out;
    rt_mem_written(to, *room);
    deflateEnd(&z);
    return done;
}

void sv_response_deflate_as(struct sv_response *res, enum sv_coding coding)
{
    static const char *const name[] = {
        [SV_CODING_GZIP] = "gzip", [SV_CODING_DEFLATE] = "deflate"
    };
    if (res->coded || res->body_len < DEFLATE_FROM || res->body_len > UINT32_MAX ||
        (res->content_type != NULL && strcmp(res->content_type, "application/octet-stream") == 0))
        return;
    sv_response_header(res, "Vary", "Accept-Encoding");
    size_t len = res->body_len - res->body_len / 8;
    struct sv_text t = { .p = NULL };
    if (coding != SV_CODING_IDENTITY) {
        t.p = rt_alloc(len);
        t.room = len;
    }
    if (t.p != NULL && deflate_all(coding, res->body, res->body_len, t.p, &len)) {
        t.len = len;
        sv_response_header(res, "Content-Encoding", "%s", name[coding]);
        sv_response_text(res, &t);
    }
    sv_text_reset(&t);
    res->coded = true; /* or is to stay as it is */
}

void sv_response_deflate(struct sv_request *req)
{
    if (!req->response.coded && req->response.body_len >= DEFLATE_FROM)
        sv_response_deflate_as(&req->response,
                               sv_accepted_coding(sv_request_header(req, "Accept-Encoding")));
}

/* More than any page has. */
#define STORED_MAX ((size_t)16 << 20)

void sv_response_gzip(struct sv_request *req, const void *gzip, size_t len)
{
    struct sv_response *res = &req->response;
    if (sv_accepted_coding(sv_request_header(req, "Accept-Encoding")) == SV_CODING_GZIP) {
        sv_response_header(res, "Vary", "Accept-Encoding");
        sv_response_header(res, "Content-Encoding", "gzip");
        res->coded = true;
        res->body = gzip;
        res->body_len = len;
        return;
    }
    struct sv_text t = { 0 };
    struct rt_error err;
    if (inflate_block(NULL, gzip, len, STORED_MAX, &t.p, &t.len, &err) == RT_OK)
        sv_response_text(res, &t);
    else
        sv_reply_error(res, &err);
}
