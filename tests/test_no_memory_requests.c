/* Memory that runs out at every single place of a request: each of this file is sent again and
 * again, and its first allocation fails, then the second, ... until one comes that finds all it
 * wants. Each is answered, in whole or with a refusal, and leaves nothing behind. */
#include "tests/serving.h"

#include "tests/pictures.h"

#define MOST 20000 /* allocations of a request: far above what any of these makes */
#define M "/v2/models/"
#define R "/v2/repository/models/"

static struct serving serving;
static char loaded[128]; /* the path of a model whose file stays */

static const struct chain one = { "x", "Relu", RT_FLOAT, 2, { -1, 3 } };
static const struct chain open_ = { "x", "Relu", RT_FLOAT, 2, { -1, -1 } };
static const struct chain picture = { "image", "Flatten", RT_FLOAT, 4, { -1, 3, 4, 4 } };

static int start(void **state)
{
    (void)state;
    struct bytes model;
    struct rt_error err;
    serving_start(&serving);
    serving.app.model_control = true;
    serving_add(&serving, "picture", &picture, 1);
    serving_add(&serving, "one", &one, 1);
    serving_add(&serving, "open", &open_, 1);
    make_model(&model, &one, 1);
    snprintf(loaded, sizeof loaded, "%s/loaded.onnx", serving.folder);
    return sv_file_write(loaded, model.p, model.len, &err) != RT_OK ||
           sv_registry_add(serving.app.registry, loaded, &err) != RT_OK;
}

static int stop(void **state)
{
    (void)state;
    unlink(loaded);
    serving_stop(&serving);
    return rt_mem_live() != 0;
}

struct request {
    const char *method, *path, *body;
    size_t len; /* 0: of the text that the body is */
    const char *headers[5], *query[3];
    bool lasting; /* something is another afterwards, so that blocks are counted at the end only */
};

static void starve(const struct request *r)
{
    const size_t len = r->len > 0 || r->body == NULL ? r->len : strlen(r->body);
    const char *body = r->body != NULL ? r->body : "";
    struct call c = { .headers = r->headers, .query = r->query };
    call(&serving, &c, r->method, r->path, body, len); /* what is made once is there from now on */
    const int usual = call_status(&c);
    call_end(&c);
    if (usual != 200)
        fail_msg("%s: %d", r->path, usual);
    long after = 0, left;
    do {
        const long before = rt_mem_live();
        c = (struct call){ .headers = r->headers, .query = r->query };
        rt_mem_fail(after++);
        call(&serving, &c, r->method, r->path, body, len);
        left = rt_mem_fail(-1);
        const int status = call_status(&c);
        call_end(&c);
        if (status != 200 && status != 503)
            fail_msg("%s, allocation %ld: status %d", r->path, after - 1, status);
        if (!r->lasting &&
            rt_mem_live() > before) /* a model that was unloaded goes a little later */
            fail_msg("%s, allocation %ld: %ld blocks are left over", r->path, after - 1,
                     rt_mem_live() - before);
    } while (left < 0 && after < MOST);
    assert_true(left >= 0);
    print_message("%s: %ld allocations\n", r->path, after - 1);
}

#define GET(p) .method = "GET", .path = (p)
#define POST(p, b) .method = "POST", .path = (p), .body = (b)

#define INPUT(more)                                                                                \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":[1,-2,0.5,3,4,5]" \
    "}]" more "}"

/* A PNG of one pixel. */
#define PIXEL                                                                                      \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="

static void test_requests(void **state)
{
    (void)state;
    static const float row[3] = { 1, 2, 3 };
    static const struct request requests[] = {
        { POST(M "one/infer", INPUT("")) },
        { POST(
            M "one/infer",
            INPUT(",\"outputs\":[{\"name\":\"x_out\",\"parameters\":{\"classification\":2}}]")) },
        { POST(M "one/infer", INPUT(",\"parameters\":{\"binary_data_output\":true}")) },
        { POST(M "one/infer", (const char *)row), .len = sizeof row,
          .headers = { "Inference-Header-Content-Length", "0" } },
        { POST("/v1/models/one:predict", "{\"instances\":[{\"x\":[1,2,3]}]}") },
        { POST("/v1/models/one:predict", "{\"inputs\":{\"x\":[[1,2,3],[4,5,6]]}}") },
        { POST(M "one/profile", NULL), .query = { "batch", "2" } },
        { POST("/v1/models/picture:predict", "{\"instances\":[{\"b64\":\"" PIXEL "\"}]}") },
        { POST(M "open/infer", INPUT("")) },
        { GET(M "one") },
        { GET(M "one/config") },
        { GET(M "one/report") },
        { GET(M "one/stats") },
        { GET(M "stats") },
        { GET("/v2/models") },
        { GET("/metrics") },
        { GET("/openapi.json"), .headers = { "Accept-Encoding", "gzip" } },
        { GET("/") },
        { GET("/v2/logging") },
        { POST("/v2/logging", "{\"log_info\":false}") },
        { POST("/v2/repository/index", "{\"ready\":true}") },
        { POST(R "loaded/load", "{\"parameters\":{\"config\":\"{\\\"max_batch_size\\\":2}\"}}"),
          .lasting = true },
        { POST(R "loaded/load", NULL), .lasting = true },
        { POST(R "loaded/unload", "{\"parameters\":{\"unload_dependents\":false}}"),
          .lasting = true },
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        starve(&requests[i]);
}

static void test_pictures(void **state)
{
    (void)state;
    static const uint8_t pixel[5 * 5 * 3] = { 200, 100, 50 };
    struct picture p[] = {
        picture_png_rgb(5, 5, pixel),
        picture_webp(5, 5, pixel),
        picture_jpeg(&(struct picture_jpeg){ 5, 5, .channels = 3, .pixel = pixel }),
    };
    char form[8192];
    size_t len = 0;
    for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
        starve(&(struct request){ POST("/classify", (const char *)p[i].bytes), .len = p[i].len });
        len += (size_t)snprintf(form + len, sizeof form - len,
                                "--BB\r\nContent-Disposition: form-data; name=\"f\"; "
                                "filename=\"%zu\"\r\n\r\n",
                                i);
        assert_in_range(len + p[i].len, 0, sizeof form - 100);
        memcpy(form + len, p[i].bytes, p[i].len);
        len += p[i].len;
        len += (size_t)snprintf(form + len, sizeof form - len, "\r\n");
        picture_free(&p[i]);
    }
    len += (size_t)snprintf(form + len, sizeof form - len, "--BB--\r\n");
    starve(&(struct request){ POST("/classify", form), .len = len,
                              .headers = { "Content-Type", "multipart/form-data; boundary=BB" },
                              .query = { "top", "3" } });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_pictures),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
