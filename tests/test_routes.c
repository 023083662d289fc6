/* The routes, without sockets: every path and method, and the answers' status, headers and body. */
#include "tests/serving.h"

#include <strings.h>

static struct serving serving;

static const struct chain one = { "x", "Relu", RT_FLOAT, 2, { -1, 3 } };
/* A picture's input, 4x4 RGB: classify is about the routes here, the answer is its 48 values. */
static const struct chain picture = { "image", "Flatten", RT_FLOAT, 4, { -1, 3, 4, 4 } };
/* The same without a batch axis, and one whose answer is a picture. */
static const struct chain fixed = { "image", "Flatten", RT_FLOAT, 3, { 3, 4, 4 } };

static const struct chain filter = { "image", "Relu", RT_FLOAT, 4, { -1, 3, 4, 4 } };

static int start(void **state)
{
    (void)state;
    serving_start(&serving);
    serving_add(&serving, "picture", &picture, 1);
    serving_add(&serving, "one", &one, 1);
    serving_add(&serving, "fixed", &fixed, 1);
    serving_add(&serving, "a b%", &one, 1);
    serving_add(&serving, "filter", &filter, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    serving_stop(&serving);
    return 0;
}

/* The body of the answer as a string, which the caller frees. */
static char *body_of(const struct call *c)
{
    char *s = malloc(c->req.response.body_len + 1);
    assert_non_null(s);
    if (c->req.response.body_len > 0)
        memcpy(s, c->req.response.body, c->req.response.body_len);
    s[c->req.response.body_len] = '\0';
    return s;
}

#define INFER                                                                                      \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,-2,0.5]}]}"
#define M "/v2/models/"
#define HINT "GET /v2/models lists the models"

/* path, and what the answer must be; body NULL: a GET or POST without one. */
static const struct {
    const char *method, *path, *body;
    int status;
    const char *says; /* begins with '=': the whole body; else a part of it */
} row[] = {
    { "GET", "/v2/health/live", NULL, 200, "={\"live\":true}" },
    { "GET", "/v2/health/live/", NULL, 200, "={\"live\":true}" },
    { "HEAD", "/v2/health/live", NULL, 200, "={\"live\":true}" },
    { "GET", "http://example.org/v2/health/live", NULL, 200, "={\"live\":true}" },
    { "GET", "/v2/health/ready", NULL, 200, "={\"ready\":true}" },
    { "GET", "/v2", NULL, 200, "\"extensions\":[" },
    { "GET", "/v2/", NULL, 200, "{\"name\":\"convd\",\"version\":\"" },
    { "GET", "/", NULL, 200, "<!doctype html>" },
    { "GET", "/docs", NULL, 200, "<!doctype html>" },
    { "GET", "/openapi.json", NULL, 200, "\"openapi\": \"3.1.0\"" },
    { "GET", "/page/main.js", NULL, 200, "import" },
    { "GET", "/page/none.js", NULL, 404, "'none.js'" },
    { "GET", "/page/..%2Findex.html", NULL, 404, "no file" },
    { "GET", "/v2/models", NULL, 200,
      "={\"models\":[\"picture\",\"one\",\"fixed\",\"a b%\",\"filter\"]}" },
    { "GET", M "one", NULL, 200,
      "={\"name\":\"one\",\"versions\":[\"1\"],\"platform\":\"convd_onnx\",\"inputs\":[{\"name\":"
      "\"x\",\"datatype\":\"FP32\",\"shape\":[-1,3]}],\"outputs\":[{\"name\":\"x_out\","
      "\"datatype\":\"FP32\",\"shape\":[-1,3]}]}" },
    { "GET", M "one/versions/1", NULL, 200, "\"versions\":[\"1\"]" },
    { "GET", M "one/ready", NULL, 200, "={\"name\":\"one\",\"ready\":true}" },
    { "GET", M "one/versions/1/ready", NULL, 200, "={\"name\":\"one\",\"ready\":true}" },
    { "GET", M "a%20b%25", NULL, 200, "\"name\":\"a b%\"" },
    { "GET", M "one/config", NULL, 200, "\"dims\":[3]" },
    { "GET", M "one/config", NULL, 200, "\"max_batch_size\":4" },
    { "GET", M "picture/config", NULL, 200, "\"format\":\"FORMAT_NCHW\",\"dims\":[3,4,4]" },
    { "GET", M "fixed/config", NULL, 200, "\"max_batch_size\":0" },
    { "GET", M "one/report", NULL, 200, "\"op\": \"Relu\"" },
    { "GET", M "one/versions/1/report", NULL, 200, "\"batchnorms\": []" },
    { "POST", M "one/profile", NULL, 200, "\"share\": " },
    { "POST", M "fixed/profile", NULL, 200, "\"batch\": 1," },
    { "POST", M "one/versions/1/profile", NULL, 200, "\"model_name\": \"one\"" },
    { "GET", M "one/stats", NULL, 200, "\"cache_miss\":{\"count\":0,\"ns\":0}" },
    { "GET", M "stats", NULL, 200, "{\"model_stats\":[{\"name\":\"picture\"" },
    { "POST", M "one/infer", INFER, 200,
      "={\"model_name\":\"one\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"x_out\","
      "\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":[1.0,0.0,0.5]}]}" },
    { "POST", M "one/versions/1/infer", INFER, 200, "\"data\":[1.0,0.0,0.5]" },
    { "POST", M "one/infer/", INFER, 200, "\"data\":[1.0,0.0,0.5]" },
    { "GET", "/v1/models", NULL, 200,
      "={\"models\":[\"picture\",\"one\",\"fixed\",\"a b%\",\"filter\"]}" },
    { "GET", "/v1/models/one", NULL, 200,
      "={\"name\":\"one\",\"ready\":true,\"model_version_status\":[{\"version\":\"1\",\"state\":"
      "\"AVAILABLE\",\"status\":{\"error_code\":\"OK\",\"error_message\":\"\"}}]}" },
    { "GET", "/v1/models/one/versions/1/metadata", NULL, 200, "\"serving_default\"" },
    { "POST", "/v1/models/one:predict", "{\"instances\":[[1,-2,3]]}", 200,
      "={\"predictions\":[[1.0,0.0,3.0]]}" },
    { "POST", "/v1/models/a%20b%25:predict", "{\"inputs\":[[1,-2,3]]}", 200,
      "={\"outputs\":[[1.0,0.0,3.0]]}" },
    { "POST", "/v1/models/one/versions/1:predict", "{\"instances\":[[1,-2,3]]}", 200, "1.0,0.0" },
    { "POST", "/v1/models/one:classify", "{}", 501, ":predict" },
    /* the client's faults */
    { "POST", "/v1/models/one/versions/9:predict", "{\"instances\":[[1,-2,3]]}", 404, "version 9" },
    { "POST", "/v1/models/one/versions/x:predict", "{}", 404, HINT },
    { "GET", "/v1/models/none", NULL, 404, "'none' is not found" },
    { "GET", "/v1/models/one/versions/9", NULL, 404, "version 9" },
    { "POST", M "one/infer", "{", 400, "not valid JSON" },
    { "POST", M "one/infer", NULL, 400, "the body is empty" },
    { "GET", M "none", NULL, 404,
      "={\"error\":\"Request for unknown model: 'none' is not found; there are 'picture', 'one', "
      "'fixed', 'a b%', 'filter'\"}" },
    { "GET", M "one/versions/9", NULL, 404, "'one' version 9 is not found" },
    { "GET", M "none/ready", NULL, 404, "'none' is not found" },
    { "GET", M "none/stats", NULL, 404, "'none'" },
    { "GET", M "none/config", NULL, 404, "'none'" },
    { "GET", M "none/report", NULL, 404, "'none'" },
    { "POST", M "none/profile", NULL, 404, "'none'" },
    { "POST", M "one/report", "", 405, "GET, HEAD" },
    { "GET", M "one/profile", NULL, 405, "POST" },
    { "POST", M "none/infer", INFER, 404, "'none' is not found" },
    { "POST", M "none/classify", "x", 404, "'none' is not found" },
    { "POST", M "one/versions/9/infer", INFER, 404, "version 9" },
    { "POST", M "one/classify", "x", 400, "model 'one' takes no pictures" },
    { "POST", M "picture/classify", "not a picture", 400, "error" },
    { "POST", M "picture/classify", NULL, 400, "the body is empty" },
    { "POST", "/classify", NULL, 400, "the body is empty" },
    /* no such place */
    { "GET", "/nothing", NULL, 404, HINT },
    { "GET", "//", NULL, 404, HINT },
    { "GET", "/v2//models", NULL, 404, HINT },
    { "GET", "/v2/models/one/", NULL, 200, "\"name\":\"one\"" },
    { "GET", "/v2/models/one//", NULL, 404, HINT },
    { "GET", "/v2/models/one/versions", NULL, 404, HINT },
    { "GET", "/v2/models/one/versions/x", NULL, 404, HINT },
    { "GET", "/v2/models/one/versions/0", NULL, 404, HINT },
    { "GET", "/v2/models/one/versions/99999999999999999999", NULL, 404, HINT },
    { "GET", "/v2/models/a%2Fb", NULL, 404, "'a/b' is not found" },
    { "GET", "/v2/models/a%00b", NULL, 404, HINT },
    { "GET", "/v2/models/a%zz", NULL, 404, HINT },
    { "GET", "/v2/models/a%2", NULL, 404, HINT },
    { "GET", "/a/b/c/d/e/f/g/h/i/j", NULL, 404, HINT },
    { "GET", "v2", NULL, 404, HINT },
    { "GET", "*", NULL, 404, HINT },
    { "GET", "http://example.org", NULL, 404, HINT },
    { "GET", "/V2", NULL, 404, HINT },
    { "GET", "/\"\xff\n", NULL, 404, "/\\\"\xef\xbf\xbd\\n" },
    { "PUT", "/nothing", NULL, 404, HINT },
    /* the wrong method */
    { "POST", "/v2/health/live", "", 405, "Method Not Allowed" },
    { "POST", "/v2", "", 405, "GET" },
    { "DELETE", M "one", NULL, 405, "GET, HEAD" },
    { "GET", M "one/infer", NULL, 405, "POST" },
    { "HEAD", M "one/infer", NULL, 405, "POST" },
    { "GET", "/classify", NULL, 405, "POST" },
    { "OPTIONS", M "one/infer", NULL, 405, "POST" },
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct call c = { .headers = NULL };
        const char *body = row[i].body != NULL ? row[i].body : "";
        call(&serving, &c, row[i].method, row[i].path, body, strlen(body));
        char *got = body_of(&c);
        const char *says = row[i].says;
        bool good = *says == '=' ? strcmp(got, says + 1) == 0 : strstr(got, says) != NULL;
        if (call_status(&c) != row[i].status || !good)
            fail_msg("%s %s: %d %s", row[i].method, row[i].path, call_status(&c), got);
        if (row[i].status >= 400 && strncmp(got, "{\"error\":\"", 10) != 0)
            fail_msg("%s %s: the error is %s", row[i].method, row[i].path, got);
        if (row[i].status == 405) {
            const char *allow = call_answer_header(&c, "Allow");
            assert_non_null(allow);
            assert_non_null(strstr(got, allow));
        }
        free(got);
        call_end(&c);
    }
}

/* The page: its tag, what a client that has it gets, and its two forms. */
static void test_page(void **state)
{
    (void)state;
    char tag[SV_HEADER_VALUE];
    struct call c = { .headers = NULL };
    call(&serving, &c, "GET", "/", "", 0);
    assert_string_equal(c.req.response.content_type, "text/html; charset=utf-8");
    assert_null(call_answer_header(&c, "Content-Encoding"));
    strcpy(tag, call_answer_header(&c, "ETag"));
    call_end(&c);
    const char *const known[] = { "If-None-Match", tag, NULL };
    c = (struct call){ .headers = known };
    call(&serving, &c, "GET", "/", "", 0);
    assert_int_equal(call_status(&c), 304);
    assert_int_equal(c.req.response.body_len, 0);
    call_end(&c);
    static const char *const gzip[] = { "Accept-Encoding", "gzip", NULL };
    c = (struct call){ .headers = gzip };
    call(&serving, &c, "GET", "/docs", "", 0);
    assert_string_equal(call_answer_header(&c, "Content-Encoding"), "gzip");
    assert_memory_equal(c.req.response.body, "\x1f\x8b", 2);
    call_end(&c);
    static const char *const plain[] = { "Accept", "text/plain", NULL };
    c = (struct call){ .headers = plain };
    call(&serving, &c, "GET", "/", "", 0);
    assert_string_equal(c.req.response.content_type, "text/plain; charset=utf-8");
    call_end(&c);
}

static void test_profile_batch(void **state)
{
    (void)state;
    static const char *const text[] = { "0", "5", "x", "1x", "", "-1", "99999999999999999999" };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        const char *const query[] = { "batch", text[i], NULL };
        struct call c = { .query = query };
        call(&serving, &c, "POST", M "one/profile", "", 0);
        if (call_status(&c) != 400)
            fail_msg("batch=%s: %d", text[i], call_status(&c));
        call_end(&c);
    }
    /* What is misspelt is not measured as if nothing had been said. */
    static const char *const misspelt[] = { "bacth", "2", NULL };
    struct call c = { .query = misspelt };
    call(&serving, &c, "POST", M "one/profile", "", 0);
    assert_int_equal(call_status(&c), 400);
    assert_non_null(strstr(c.req.response.body, "'bacth', but 'batch'"));
    call_end(&c);
    /* Of several at a time, one is measured. */
    c = (struct call){ .headers = NULL };
    atomic_store(&serving.app.profiling, true);
    call(&serving, &c, "POST", M "one/profile", "", 0);
    assert_int_equal(call_status(&c), 503);
    assert_string_equal(call_answer_header(&c, "Retry-After"), "1");
    call_end(&c);
    atomic_store(&serving.app.profiling, false);
}

static void test_long_names(void **state)
{
    (void)state;
    for (size_t len = 254; len <= 257; len++) {
        char path[400] = M;
        memset(path + strlen(M), 'n', len);
        path[strlen(M) + len] = '\0';
        struct call c = { .headers = NULL };
        call(&serving, &c, "GET", path, "", 0);
        assert_int_equal(call_status(&c), 404);
        call_end(&c);
    }
}

static void test_request_id(void **state)
{
    (void)state;
    static const char *const good[] = { "x-request-id", "abc-1", NULL };
    static const char *const forged[] = { "X-Request-Id", "a\r\nSet-Cookie: b", NULL };
    struct call c = { .headers = good };
    call(&serving, &c, "GET", "/v2", "", 0);
    assert_string_equal(call_answer_header(&c, "X-Request-Id"), "abc-1");
    call_end(&c);
    c = (struct call){ .headers = good };
    call(&serving, &c, "GET", "/nothing", "", 0);
    assert_string_equal(call_answer_header(&c, "X-Request-Id"), "abc-1");
    call_end(&c);
    c = (struct call){ .headers = forged };
    call(&serving, &c, "GET", "/v2", "", 0);
    assert_null(strchr(call_answer_header(&c, "X-Request-Id"), '\n')); /* one of our own */
    call_end(&c);
}

static void test_binary(void **state)
{
    (void)state;
    const float in[3] = { 1, -1, 7 }, wanted[3] = { 1, 0, 7 };
    static const char *const raw[] = { "Inference-Header-Content-Length", "0", NULL };
    struct call c = { .headers = raw };
    call(&serving, &c, "POST", M "one/infer", in, sizeof in);
    assert_int_equal(call_status(&c), 200);
    assert_string_equal(c.req.response.content_type, "application/octet-stream");
    const char *text = call_answer_header(&c, "Inference-Header-Content-Length");
    assert_non_null(text);
    size_t json_len = strtoul(text, NULL, 10);
    assert_int_equal(c.req.response.body_len, json_len + sizeof wanted);
    assert_memory_equal((const char *)c.req.response.body + json_len, wanted, sizeof wanted);
    call_end(&c);
}

/* A 1x1 PNG, red. */
static const unsigned char red_png[] = {
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48,
    0x44, 0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00,
    0x00, 0x90, 0x77, 0x53, 0xde, 0x00, 0x00, 0x00, 0x0c, 0x49, 0x44, 0x41, 0x54, 0x78,
    0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0x00, 0x00, 0x03, 0x01, 0x01, 0x00, 0xc9, 0xfe, 0x92,
    0xef, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
};

static void test_classify(void **state)
{
    (void)state;
    static const char *const query[] = { "top", "2", NULL };
    static const char *const model[] = { "picture", "fixed" };
    struct call refused = { .query = query };
    call(&serving, &refused, "POST", M "filter/classify", red_png, sizeof red_png);
    char *why = body_of(&refused);
    assert_int_equal(call_status(&refused), 400);
    assert_non_null(strstr(why, "no classifier: its output of [1,3,4,4]"));
    free(why);
    call_end(&refused);
    for (int i = 0; i < 2; i++) {
        char path[64], wanted[128];
        snprintf(path, sizeof path, M "%s/classify", model[i]);
        struct call c = { .query = query };
        call(&serving, &c, "POST", path, red_png, sizeof red_png);
        char *got = body_of(&c);
        snprintf(wanted, sizeof wanted,
                 "{\"model_name\":\"%s\",\"model_version\":\"1\",\"predictions\":[{\"image\":0,"
                 "\"classes\":[{\"index\":0,\"label\":null,\"score\":0.",
                 model[i]);
        if (call_status(&c) != 200 || strncmp(got, wanted, strlen(wanted)) != 0)
            fail_msg("%d %s", call_status(&c), got);
        assert_non_null(strstr(got, "},{\"index\":1,\"label\":null,"));
        assert_null(strstr(got, "\"index\":2,"));
        free(got);
        call_end(&c);
    }
}

static size_t add(char *body, size_t at, const void *bytes, size_t len)
{
    memcpy(body + at, bytes, len);
    return at + len;
}

static void test_classify_form(void **state)
{
    (void)state;
    static const char *const type[] = { "Content-Type", "multipart/form-data; boundary=BB", NULL };
    static const char front[] = "--BB\r\nContent-Disposition: form-data; name=\"f\"; "
                                "filename=\"%c.png\"\r\n\r\n";
    static const char *const model[] = { "picture", "fixed" };
    for (int i = 0; i < 2; i++) {
        char body[4096], path[64];
        size_t len = 0;
        for (char name = 'a'; name <= 'f'; name++) {
            char header[128];
            int n = snprintf(header, sizeof header, front, name);
            len = add(body, len, header, (size_t)n);
            len = add(body, len, red_png, sizeof red_png);
            len = add(body, len, "\r\n", 2);
        }
        size_t open_len = len;
        len = add(body, len, "--BB--\r\n", 8);
        body[len] = '\0';
        snprintf(path, sizeof path, M "%s/classify", model[i]);
        struct call c = { .headers = type };
        call(&serving, &c, "POST", path, body, len);
        char *got = body_of(&c);
        if (call_status(&c) != 200 ||
            strstr(got, "{\"image\":5,\"name\":\"f.png\",\"classes\":[") == NULL)
            fail_msg("%d %s", call_status(&c), got);
        free(got);
        call_end(&c);
        /* One that is no picture: all are refused, and it is named. */
        len = add(body, open_len, "--BB\r\nContent-Disposition: form-data; filename=x.gif\r\n\r\n",
                  56);
        len = add(body, len, "GIF89a\r\n--BB--", 14);
        c = (struct call){ .headers = type };
        call(&serving, &c, "POST", path, body, len);
        got = body_of(&c);
        if (call_status(&c) != 400 || strstr(got, "image 6 ('x.gif'): ") == NULL)
            fail_msg("%d %s", call_status(&c), got);
        free(got);
        call_end(&c);
    }
}

static void test_top(void **state)
{
    (void)state;
    static const char *const text[] = { "0",  "-1", "x", "1x", "", "1001", "99999999999999999999",
                                        " 1", "1.5" };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        const char *const query[] = { "top", text[i], NULL };
        struct call c = { .query = query };
        call(&serving, &c, "POST", "/classify", red_png, sizeof red_png);
        if (call_status(&c) != 400)
            fail_msg("top=%s: %d", text[i], call_status(&c));
        call_end(&c);
    }
}

static void test_stopping(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        int status;
    } stopping[] = {
        { "GET", "/v2/health/live", 200 }, { "GET", "/v2/health/ready", 503 },
        { "GET", M "one/ready", 503 },     { "GET", M "one", 200 },
        { "POST", M "one/infer", 503 },    { "POST", "/classify", 503 },
    };
    atomic_store(&serving.app.ready, false);
    for (size_t i = 0; i < sizeof stopping / sizeof stopping[0]; i++) {
        struct call c = { .headers = NULL };
        call(&serving, &c, stopping[i].method, stopping[i].path, INFER, sizeof INFER - 1);
        if (call_status(&c) != stopping[i].status)
            fail_msg("%s: %d", stopping[i].path, call_status(&c));
        if (stopping[i].status == 503)
            assert_non_null(call_answer_header(&c, "Retry-After"));
        call_end(&c);
    }
    atomic_store(&serving.app.ready, true);
}

static void test_statuses(void **state)
{
    (void)state;
    assert_int_equal(sv_http_status(RT_E_INVALID), 400);
    assert_int_equal(sv_http_status(RT_E_NOT_FOUND), 404);
    assert_int_equal(sv_http_status(RT_E_LIMIT), 413);
    assert_int_equal(sv_http_status(RT_E_IO), 500);
    assert_int_equal(sv_http_status(RT_E_UNSUPPORTED), 501);
    assert_int_equal(sv_http_status(RT_E_BUSY), 503);
    assert_int_equal(sv_http_status(RT_E_NOMEM), 503);
    assert_int_equal(sv_http_status(RT_E_TIMEOUT), 504);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),         cmocka_unit_test(test_page),
        cmocka_unit_test(test_profile_batch), cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_request_id),    cmocka_unit_test(test_binary),
        cmocka_unit_test(test_classify),      cmocka_unit_test(test_classify_form),
        cmocka_unit_test(test_top),           cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_statuses),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
