/* A request as text through routing, codecs, batcher and back, without sockets:
 *
 *     POST /v2/models/float/infer?top=2
 *     Content-Type: application/json
 *
 *     the body, any bytes
 *
 * With a header "Deflate-Here" the body is compressed first, which random bytes never are: gzip, or
 * zlib's own container when its value is "deflate". Answers have to be well formed. */
#include "tests/fuzz/fuzz.h"
#include "tests/serving.h"

#include "server/compress.h"

#include <jansson.h>
#include <zlib.h>

#define MAX_PAIRS 16

static struct serving serving;

static const struct {
    const char *name;
    struct chain chain;
} models[] = {
    { "float", { "x", "Relu", RT_FLOAT, 2, { -1, 3 } } },
    { "half", { "x", "Relu", RT_FLOAT16, 2, { -1, 2 } } },
    { "double", { "x", "Abs", RT_DOUBLE, 2, { -1, 2 } } },
    { "int8", { "x", "Abs", RT_INT8, 2, { -1, 2 } } },
    { "uint64", { "x", "Abs", RT_UINT64, 2, { -1, 2 } } },
    { "bool", { "x", "Not", RT_BOOL, 2, { -1, 2 } } },
    { "any", { "x", "Relu", RT_FLOAT, 2, { -1, -1 } } },
    { "fixed", { "x", "Relu", RT_FLOAT, 1, { 3 } } },
    { "picture", { "x", "Flatten", RT_FLOAT, 4, { -1, 3, 4, 4 } } },
};
static const struct chain two[] = {
    { "a", "Relu", RT_FLOAT, 2, { -1, 2 } },
    { "b", "Abs", RT_INT32, 2, { -1, 1 } },
};

static void start(void)
{
    serving_start(&serving);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        serving_add(&serving, models[i].name, &models[i].chain, 1);
    serving_add(&serving, "two", two, 2);
    serving.app.limits.max_body = 1 << 16;
    serving.app.limits.max_pixels = 1 << 16;
}

/* The text up to the separator, which becomes a zero byte; the rest of it goes to *rest. */
static char *cut(char *text, char separator, char **rest)
{
    char *at = strchr(text, separator);
    *rest = at != NULL ? at + 1 : text + strlen(text);
    if (at != NULL)
        *at = '\0';
    return text;
}

/* "a=b&c=d" as a list of pairs. */
static void read_query(char *text, const char **pair)
{
    int n = 0;
    while (*text != '\0' && n + 2 < 2 * MAX_PAIRS) {
        char *value, *name = cut(cut(text, '&', &text), '=', &value);
        pair[n++] = name;
        pair[n++] = value;
    }
    pair[n] = NULL;
}

/* Lines of "name: value" up to an empty one; what is behind it, the body. */
static char *read_headers(char *text, const char **pair)
{
    int n = 0;
    while (*text != '\0' && *text != '\n') {
        char *value, *name = cut(cut(text, '\n', &text), ':', &value);
        if (n + 2 < 2 * MAX_PAIRS) {
            pair[n++] = name;
            pair[n++] = value + strspn(value, " ");
        }
    }
    pair[n] = NULL;
    return *text == '\n' ? text + 1 : text;
}

/* The body as it would be on the wire; the caller frees it. */
static char *encode(const char *how, const char *body, size_t *len)
{
    uLong room = compressBound(*len) + 64;
    char *out = malloc(room);
    z_stream z = { .next_in = (z_const Bytef *)(uintptr_t)body,
                   .avail_in = (uInt)*len,
                   .next_out = (Bytef *)out,
                   .avail_out = (uInt)room };
    int bits = strcmp(how, "deflate") == 0 ? 15 : 31;
    HOLDS(out != NULL && deflateInit2(&z, 1, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY) == Z_OK &&
              deflate(&z, Z_FINISH) == Z_STREAM_END,
          "zlib");
    *len = z.total_out;
    deflateEnd(&z);
    return out;
}

/* Makes numbers of the NaN and Infinity that an answer may hold, as others' do, and that no parser
 * of JSON has to know. */
static void number_tokens(char *text, size_t len)
{
    static const char *const tokens[] = { "NaN", "Infinity" };
    bool string = false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            string = !string;
        else if (string && text[i] == '\\')
            i++;
        for (size_t t = 0; t < sizeof tokens / sizeof tokens[0] && !string; t++) {
            size_t n = strlen(tokens[t]);
            if (n <= len - i && memcmp(text + i, tokens[t], n) == 0)
                memset(text + i, '1', n);
        }
    }
}

static void check_json(const char *body, size_t len)
{
    json_error_t at;
    char *text = malloc(len);
    HOLDS(text != NULL, "memory");
    memcpy(text, body, len);
    number_tokens(text, len);
    json_t *j = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &at);
    HOLDS(j != NULL, "the answer is no JSON: %s in %.*s", at.text, (int)len, body);
    json_decref(j);
    free(text);
}

static void check_answer(const struct call *c)
{
    const struct sv_response *r = &c->req.response;
    int status = call_status(c);
    HOLDS(status >= 200 && status < 600, "status %d", status);
    HOLDS(status != 500, "an internal error: %.*s", (int)r->body_len, (const char *)r->body);
    for (int i = 0; i < r->n_headers; i++)
        HOLDS(strpbrk(r->header[i].value, "\r\n") == NULL, "a line break in %s", r->header[i].name);
    if (call_answer_header(c, "Content-Encoding") != NULL || r->body_len == 0)
        return;
    if (r->content_type == NULL || strcmp(r->content_type, "application/json") == 0)
        check_json(r->body, r->body_len);
    HOLDS(status < 400 || memcmp(r->body, "{\"error\":", 9) == 0, "status %d and no reason",
          status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static bool started;
    if (!started)
        start();
    started = true;
    const char *query[2 * MAX_PAIRS + 1], *header[2 * MAX_PAIRS + 1];
    char *text = malloc(len + 1), *rest, *arguments;
    HOLDS(text != NULL, "no memory");
    memcpy(text, data, len);
    text[len] = '\0';
    char *method = cut(cut(text, '\n', &rest), ' ', &arguments);
    char *path = cut(arguments, '?', &arguments);
    read_query(arguments, query);
    const char *body = read_headers(rest, header);
    size_t body_len = len - (size_t)(body - text);
    /* As from the socket: a block of its own with a zero byte behind it. */
    const char *how = call_find(header, "deflate-here");
    char *sent = how != NULL ? encode(how, body, &body_len) : NULL;
    char *block = malloc(body_len + 1);
    HOLDS(block != NULL, "no memory");
    memcpy(block, sent != NULL ? sent : body, body_len);
    block[body_len] = '\0';
    struct call c = { .headers = header, .query = query };
    call(&serving, &c, method, path, block, body_len);
    sv_response_deflate(&c.req);
    check_answer(&c);
    call_end(&c);
    free(block);
    free(sent);
    free(text);
    return 0;
}
