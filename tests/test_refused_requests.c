/* Requests that few clients send, each refused for a reason of its own: the rows that the tests of
 * the parts leave out. */
#include "tests/serving.h"

#define M "/v2/models/"
#define V1 "/v1/models/"
#define R "/v2/repository/models/"

static struct serving serving;

static const struct chain one[] = { { "x", "Relu", RT_FLOAT, 2, { -1, 3 } } };
static const struct chain pair[] = { { "a", "Relu", RT_FLOAT, 2, { -1, 2 } },
                                     { "b", "Relu", RT_FLOAT, 2, { -1, 2 } } };
static const struct chain fixed_pair[] = { { "a", "Relu", RT_FLOAT, 2, { 3, 2 } },
                                           { "b", "Relu", RT_FLOAT, 2, { 3, 2 } } };
static const struct chain half[] = { { "x", "Identity", RT_FLOAT16, 2, { -1, 3 } } };
static const struct chain open_[] = { { "x", "Relu", RT_FLOAT, 3, { -1, -1, -1 } } };
static const struct chain unknown[] = { { "x", "NonZero", RT_FLOAT, 2, { 2, 3 } } };
static const struct chain picture[] = { { "image", "Flatten", RT_FLOAT, 4, { -1, 3, 4, 4 } } };
static const struct chain one_picture[] = { { "image", "Flatten", RT_FLOAT, 3, { 3, 4, 4 } } };
static const struct chain mixed[] = { { "image", "Flatten", RT_FLOAT, 4, { -1, 3, 4, 4 } },
                                      { "x", "Relu", RT_FLOAT, 2, { -1, 3 } } };

/* The one of two inputs that takes pictures has to be named. */
static int add_mixed(void)
{
    static const char config[] = "{\"input\": {\"name\": \"image\"}}";
    struct bytes model;
    struct rt_error err;
    char folder[80], path[2][96];
    make_model(&model, mixed, 2);
    snprintf(folder, sizeof folder, "%s/mixed", serving.folder);
    snprintf(path[0], sizeof path[0], "%s/model.onnx", folder);
    snprintf(path[1], sizeof path[1], "%s/config.json", folder);
    if (sv_folder_create(folder, &err) != RT_OK ||
        sv_file_write(path[0], model.p, model.len, &err) != RT_OK ||
        sv_file_write(path[1], config, sizeof config - 1, &err) != RT_OK ||
        sv_registry_add(serving.app.registry, folder, &err) != RT_OK)
        return -1;
    unlink(path[0]);
    unlink(path[1]);
    return rmdir(folder);
}

static int start(void **state)
{
    (void)state;
    serving_start(&serving);
    serving.app.model_control = true;
    serving_add(&serving, "one", one, 1);
    serving_add(&serving, "pair", pair, 2);
    serving_add(&serving, "fixed_pair", fixed_pair, 2);
    serving_add(&serving, "half", half, 1);
    serving_add(&serving, "open", open_, 1);
    serving_add(&serving, "unknown", unknown, 1);
    serving_add(&serving, "picture", picture, 1);
    serving_add(&serving, "one_picture", one_picture, 1);
    return add_mixed();
}

static int stop(void **state)
{
    (void)state;
    serving_stop(&serving);
    return 0;
}

static void refused(const char *path, const char *const *headers, const char *body, size_t len,
                    int status, const char *part)
{
    struct call c = { .headers = headers };
    call(&serving, &c, "POST", path, body, len);
    char got[1024];
    snprintf(got, sizeof got, "%.*s", (int)c.req.response.body_len,
             (const char *)c.req.response.body);
    const int answered = call_status(&c);
    call_end(&c); /* which a server that is ended waits for */
    if (answered != status || strstr(got, part) == NULL)
        fail_msg("%s %.200s: %d %s; wanted %d, '%s'", path, body, answered, got, status, part);
}

/* A request for one input. */
#define IN(name, shape, type, rest)                                                                \
    "{\"inputs\":[{\"name\":\"" name "\",\"shape\":" shape ",\"datatype\":\"" type "\"," rest "}]"
#define DATA "\"data\":[1,2,3]"
#define IN_ONE IN("x", "[1,3]", "FP32", DATA)
#define NINE_DEEP "[[[[[[[[[1]]]]]]]]]"

static const struct {
    const char *path, *body;
    int status;
    const char *says;
} row[] = {
    /* shapes */
    { M "open/infer", IN("x", "[1,4611686018427387904,4611686018427387904]", "FP32", DATA) "}", 400,
      "total element count to exceed" },
    { M "open/infer", IN("x", "[1,2147483648,2147483648]", "FP32", DATA) "}", 400,
      "byte size overflow" },
    { V1 "half:predict", "{\"instances\":[[1,2,3]]}", 400,
      "has type FP16, which JSON data cannot hold" },
    /* outputs */
    { M "one/infer", IN_ONE ",\"outputs\":[1]}", 400, "outputs[0] must be an object, not" },
    { M "one/infer",
      IN_ONE ",\"outputs\":[{\"name\":\"x_out\",\"parameters\":{\"shared_memory_region\":\"r\"}}]}",
      400, "shared memory is not available" },
    /* pictures */
    { M "picture/infer", IN("image", "[2]", "BYTES", "\"data\":[\"aGk=\"]") "}", 400,
      "has fewer than the 2 elements" },
    { M "picture/infer", IN("image", "[1]", "BYTES", "\"data\":[\"aGk=\",\"aGk=\"]") "}", 400,
      "has more than the 1 elements" },
    { M "picture/infer", IN("image", "[1]", "BYTES", "\"data\":[7]") "}", 400,
      "must be a string: a picture's bytes" },
    { M "picture/infer", IN("image", "[1,2]", "BYTES", "\"data\":[\"aGk=\"]") "}", 400,
      "Encoded pictures have [number of pictures]" },
    { M "one_picture/infer", IN("image", "[2]", "BYTES", "\"data\":[\"aGk=\",\"aGk=\"]") "}", 400,
      "takes one picture, got 2" },
    { M "mixed/classify", "GIF89a", 400, "has 2 inputs, pictures alone are not enough" },
    /* rows and columns */
    { V1 "one:predict", "[1]", 400, "must be a JSON object, not an array" },
    { V1 "one:predict", "{\"instances\":1}", 400, "'instances' must be an array" },
    { V1 "one:predict", "{\"instances\":[]}", 400, "'instances' is empty" },
    { V1 "one:predict", "{\"instances\":[{\"x\":[1,2,3]},[1,2,3]]}", 400,
      "mixes objects with other elements" },
    { V1 "one:predict", "{\"instances\":[[1,2,3]],\"instances\":[[1,2,3]]}", 400,
      "is there twice" },
    { V1 "one:predict", "{\"inputs\":" NINE_DEEP "}", 400, "has more than 8 dimensions" },
    { V1 "one:predict", "{\"instances\":[{\"x\":[[[[[[[[1]]]]]]]]}]}", 400,
      "has more than 8 dimensions" },
    { V1 "one:predict", "{\"instances\":[[1,2,3],[1,2]]}", 400, "not all of the same length" },
    { V1 "one:predict", "{\"instances\":[[\"1\"]]}", 400, "numbers are wanted, not strings" },
    { V1 "one:predict", "{\"instances\":[{\"x\":{}}]}", 400, "numbers are wanted, not objects" },
    { V1 "one:predict", "{\"instances\":[{\"b64\":\"aGk=\"}]}", 400, "takes no pictures" },
    { V1 "picture:predict", "{\"instances\":[{\"b64\":\"aGk=\"},{\"image\":[1]}]}", 400,
      "sample 1 is not" },
    { V1 "pair:predict", "{\"inputs\":{\"a\":[[1,2]],\"a\":[[1,2]],\"b\":[[1,2]]}}", 400,
      "already exists in request" },
    { V1 "pair:predict", "{\"inputs\":{\"a\":[[1,2]]}}", 400, "missing required input 'b'" },
    { V1 "pair:predict", "{\"inputs\":[[1,2]]}", 400, "must name them" },
    { V1 "pair:predict", "{\"inputs\":{\"a\":[[1,2]],\"b\":[[1,2],[3,4]]}}", 400,
      "batch size does not match" },
    { V1 "fixed_pair:predict",
      "{\"instances\":[{\"a\":[1,2],\"b\":[1,2]},{\"a\":[1,2],\"b\":[1,2]},{\"a\":[1,2],\"b\":[1,2]"
      "}]}",
      400, "no batch axis and several outputs" },
    { V1 "half:predict", "{\"instances\":[[1,2,3]]}", 400,
      "has type FP16, which JSON data cannot" },
    /* control */
    { R "one/load", "[]", 400, "must be a JSON object" },
    { R "one/load", "{\"parameters\":1}", 400, "'parameters' must be an object" },
    { R "one/load", "{\"parameters\":{\"config\":1}}", 400,
      "must be a string that holds the JSON" },
    { R "one/unload", "{\"parameters\":1}", 400, "'parameters' must be an object" },
    { R "one/unload", "{\"parameters\":{\"unload_dependents\":1}}", 400, "must be true or false" },
    { "/v2/repository/index", "{\"ready\":1}", 400, "expected a boolean" },
    { "/v2/logging", "{\"log_info\":1}", 400, "'log_info' must be true or false" },
    { "/v2/logging", "{\"log_verbose_level\":-1}", 400, "a whole number of 0 or more" },
    { "/v2/logging", "{\"log_file\":\"x\"}", 501, "the log is standard error" },
    { "/v2/logging", "{\"log_format\":\"x\"}", 400, "must be \\\"default\\\"" },
    /* profiles */
    { M "open/profile", "", 400, "are free: a profile needs them fixed" },
    { M "unknown/profile", "", 400, "only known once a run has shown its sizes" },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        refused(row[i].path, NULL, row[i].body, strlen(row[i].body), row[i].status, row[i].says);
}

/* Pictures as bytes behind their lengths. */
static void test_binary_pictures(void **state)
{
    (void)state;
    static const struct {
        const char *blob;
        size_t len;
        const char *says;
    } cases[] = {
        { "\1\0\0", 3, "element 0 of 1 does not fit the 3 bytes" },
        { "\5\0\0\0abc", 7, "element 0 of 1 does not fit the 7 bytes" },
        { "\2\0\0\0abc", 7, "1 bytes are left over behind 1 elements" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[512], length[16];
        const char *const headers[] = { "Inference-Header-Content-Length", length, NULL };
        int len =
            snprintf(body, sizeof body,
                     IN("image", "[1]", "BYTES", "\"parameters\":{\"binary_data_size\":%zu}") "}",
                     cases[i].len);
        snprintf(length, sizeof length, "%d", len);
        memcpy(body + len, cases[i].blob, cases[i].len);
        refused(M "picture/infer", headers, body, (size_t)len + cases[i].len, 400, cases[i].says);
    }
}

/* The element again and again between front and back. */
static char *repeat(const char *front, const char *element, int n, const char *back)
{
    char *text = malloc(strlen(front) + (size_t)n * (strlen(element) + 1) + strlen(back) + 1);
    assert_non_null(text);
    char *at = stpcpy(text, front);
    for (int i = 0; i < n; i++) {
        at = stpcpy(at, element);
        if (i < n - 1 && *back == ']')
            *at++ = ',';
    }
    strcpy(at, back);
    return text;
}

static void test_too_many(void **state)
{
    (void)state;
    static const struct {
        const char *path, *front, *element;
        int n;
        const char *back;
        int status;
        const char *says;
    } cases[] = {
        { M "one/infer", "{\"inputs\":[", "{}", 1025, "]}", 400, "at most 1024 are taken" },
        { M "one/infer", IN_ONE ",\"outputs\":[", "{}", 1025, "]}", 400, "at most 1024 are taken" },
        { V1 "picture:predict", "{\"instances\":[", "{\"b64\":\"aGk=\"}", 129, "]}", 413,
          "more than 128 pictures" },
        { V1 "one:predict", "{\"inputs\":", "[", 101, "", 400, "nesting depth exceeds" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *body = repeat(cases[i].front, cases[i].element, cases[i].n, cases[i].back);
        refused(cases[i].path, NULL, body, strlen(body), cases[i].status, cases[i].says);
        free(body);
    }
}

/* Two sizes that are free leave a raw body without a shape. */
static void test_raw_without_a_shape(void **state)
{
    (void)state;
    static const char *const raw[] = { "Inference-Header-Content-Length", "0", NULL };
    static const float x[2] = { 1, 2 };
    refused(M "open/infer", raw, (const char *)x, sizeof x, 400,
            "more than one variable-sized dimension");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_binary_pictures),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_raw_without_a_shape),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
