/* The codec: tensor text, the cutting of JSON, multipart bodies, and whole requests held against
 * models. */
#include "tests/serving.h"

#include "server/base64.h"
#include "server/codec_classes.h"
#include "server/json_cut.h"
#include "server/multipart.h"
#include "server/tensor_json.h"

#include <math.h>

/* Tensor text. */

static enum rt_status read_floats(const char *text, float *dst, int64_t count, char *why)
{
    struct rt_error err = { .text = "" };
    enum rt_status s = sv_tensor_json_read(text, strlen(text), 3, RT_FLOAT, dst, count, "x", &err);
    strcpy(why, err.text);
    return s;
}

static void test_read_good(void **state)
{
    (void)state;
    static const char *const text[] = {
        "[1,2,3,4,5,6]",
        "[[1,2,3],[4,5,6]]",
        "[[[1],[2]],[[3],[4]],[[5],[6]]]",
        " [ 1 ,\n2,\t3, [4 , 5 ],[ ], 6\r\n]",
        "[1.0,20e-1,0.3e1,4,5,6]",
        "[[[]],1,[2,3],[[4]],5,[6]]",
    };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        char why[2048], trimmed[128];
        float got[6];
        snprintf(trimmed, sizeof trimmed, "%s", text[i] + strspn(text[i], " "));
        if (read_floats(trimmed, got, 6, why) != RT_OK)
            fail_msg("%s: %s", text[i], why);
        for (int k = 0; k < 6; k++)
            assert_true(got[k] == (float)(k + 1));
    }
    char why[2048];
    float got[3];
    assert_int_equal(read_floats("[NaN,Infinity,-Infinity]", got, 3, why), RT_OK);
    assert_true(isnan(got[0]) && isinf(got[1]) && got[2] < 0);
    assert_int_equal(read_floats("[]", got, 0, why), RT_OK);
}

static void test_read_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } row[] = {
        { "[1,2,3", "expected" },
        { "[1,2,]", "element 2" },
        { "[,1,2,3]", "element 0" },
        { "[1,,2,3]", "element 1" },
        { "[1 2 3]", "after element 0" },
        { "[1,2,3,4]", "more than the 3" },
        { "[1,2]", "has 2 elements, its shape asks for 3" },
        { "[1,2,null]", "element 2 of 'data', 'null', is not a value of type FP32" },
        { "[1,2,\"3\"]", "element 2" },
        { "[1,2,{}]", "element 2" },
        { "[1,2,01]", "element 2" },
        { "[1,2,1e39]", "'1e39', does not fit type FP32" },
        { "[1,2,nan]", "element 2" },
        { "[1,2,3]]", "expected in 'data'" },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char why[2048];
        float got[4];
        enum rt_status s = read_floats(row[i].text, got, 3, why);
        if (s != RT_E_INVALID || strstr(why, row[i].says) == NULL)
            fail_msg("%s: status %d, %s", row[i].text, (int)s, why);
    }
}

static void test_read_depth(void **state)
{
    (void)state;
    char why[2048], text[512];
    float got[1];
    const int good = SV_JSON_DEPTH_MAX - 3;
    for (int depth = good; depth <= good + 1; depth++) {
        memset(text, '[', (size_t)depth);
        text[depth] = '7';
        memset(text + depth + 1, ']', (size_t)depth);
        text[2 * depth + 1] = '\0';
        enum rt_status s = read_floats(text, got, 1, why);
        assert_int_equal(s, depth == good ? RT_OK : RT_E_INVALID);
    }
    assert_non_null(strstr(why, "nesting depth"));
}

static void test_read_types(void **state)
{
    (void)state;
    static const struct {
        enum rt_dtype dtype;
        const char *good, *bad; /* two elements each */
    } row[] = {
        { RT_INT8, "[-128,127]", "[0,128]" },
        { RT_UINT8, "[0,255]", "[0,256]" },
        { RT_INT16, "[-32768,32767]", "[0,-32769]" },
        { RT_UINT16, "[0,65535]", "[0,-1]" },
        { RT_INT32, "[-2147483648,2147483647]", "[0,2147483648]" },
        { RT_UINT32, "[0,4294967295]", "[0,4294967296]" },
        { RT_INT64, "[-9223372036854775808,9223372036854775807]", "[0,1.5]" },
        { RT_UINT64, "[0,18446744073709551615]", "[0,18446744073709551616]" },
        { RT_DOUBLE, "[-1e300,0.1]", "[0,1e309]" },
        { RT_FLOAT, "[-1e30,0.1]", "[0,true]" },
        { RT_BOOL, "[true,false]", "[true,1]" },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        uint64_t memory[2] = { 0, 0 };
        struct rt_error err = { .text = "" };
        enum rt_status s = sv_tensor_json_read(row[i].good, strlen(row[i].good), 3, row[i].dtype,
                                               memory, 2, "x", &err);
        if (s != RT_OK)
            fail_msg("%s: %s", row[i].good, err.text);
        /* And back: the same text, but for how floats are written. */
        struct sv_text t = { 0 };
        const struct rt_tensor tensor = { row[i].dtype, { .rank = 1, .dim = { 2 } }, memory };
        sv_tensor_json_write(&t, &tensor);
        sv_text_bytes(&t, "", 1);
        if (!rt_dtype_is_float(row[i].dtype))
            assert_string_equal(t.p, row[i].good);
        sv_text_reset(&t);
        s = sv_tensor_json_read(row[i].bad, strlen(row[i].bad), 3, row[i].dtype, memory, 2, "x",
                                &err);
        if (s != RT_E_INVALID || strstr(err.text, "element 1") == NULL)
            fail_msg("%s: status %d, %s", row[i].bad, (int)s, err.text);
    }
    assert_false(sv_tensor_json_has(RT_FLOAT16));
    assert_false(sv_tensor_json_has(RT_BFLOAT16));
    assert_false(sv_tensor_json_has(RT_STRING));
}

/* Cutting. */

static void test_cut(void **state)
{
    (void)state;
    static const struct {
        const char *text, *rest;
        int n;
    } row[] = {
        { "{\"inputs\":[{\"data\":[1,2]}]}", "{\"inputs\":[{\"data\":[]}]}", 1 },
        { "{\"inputs\" : [ {\"name\":\"a\",\"data\" : [[1],[2]] , \"x\":1}, {\"data\":[3]}]}",
          "{\"inputs\" : [ {\"name\":\"a\",\"data\" : [] , \"x\":1}, {\"data\":[]}]}", 2 },
        { "{\"inputs\":[{\"data\":[\"]\",\"\\\"]\"]}]}", "{\"inputs\":[{\"data\":[]}]}", 1 },
        /* not where tensor data is */
        { "{\"data\":[1]}", "{\"data\":[1]}", 0 },
        { "{\"inputs\":{\"data\":[1]}}", "{\"inputs\":{\"data\":[1]}}", 0 },
        { "{\"inputs\":[[{\"data\":[1]}]]}", "{\"inputs\":[[{\"data\":[1]}]]}", 0 },
        { "{\"inputs\":[{\"x\":{\"data\":[1]}}]}", "{\"inputs\":[{\"x\":{\"data\":[1]}}]}", 0 },
        { "{\"a\":\"inputs\",\"b\":[{\"data\":[1]}]}", "{\"a\":\"inputs\",\"b\":[{\"data\":[1]}]}",
          0 },
        { "{\"inputs\":[{\"x\":\"data\",\"y\":[1]}]}", "{\"inputs\":[{\"x\":\"data\",\"y\":[1]}]}",
          0 },
        { "{\"outputs\":[{\"data\":[1]}]}", "{\"outputs\":[{\"data\":[1]}]}", 0 },
        { "[{\"data\":[1]}]", "[{\"data\":[1]}]", 0 },
        { "", "", 0 },
        { "1", "1", 0 },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sv_text rest = { 0 };
        struct sv_cuts cuts = { 0 };
        struct rt_error err = { .text = "" };
        enum rt_status s = sv_json_cut(row[i].text, strlen(row[i].text), &rest, &cuts, &err);
        sv_text_bytes(&rest, "", 1);
        if (s != RT_OK || cuts.n != row[i].n || strcmp(rest.p, row[i].rest) != 0)
            fail_msg("%s: status %d, %d cuts, %s", row[i].text, (int)s, cuts.n, rest.p);
        for (int k = 0; k < cuts.n; k++) {
            assert_int_equal(row[i].text[cuts.cut[k].from], '[');
            assert_int_equal(row[i].text[cuts.cut[k].to - 1], ']');
            assert_int_equal(cuts.cut[k].element, k);
            assert_true(sv_cuts_offset(&cuts, cuts.cut[k].at) == cuts.cut[k].from);
        }
        assert_true(sv_cuts_offset(&cuts, rest.len - 1) == strlen(row[i].text));
        sv_text_reset(&rest);
        sv_cuts_reset(&cuts);
    }
}

static void test_cut_bad(void **state)
{
    (void)state;
    char deep[400000];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"inputs\":[{\"data\":[", 20);
    deep[sizeof deep - 1] = '\0';
    char wide[400000];
    memset(wide, ' ', sizeof wide);
    wide[sizeof wide - 1] = '\0';
    const struct {
        const char *text, *says;
    } row[] = {
        { deep, "nesting depth exceeds maximum allowed limit (100)" },
        { deep + 300000, "nesting depth exceeds maximum allowed limit (100)" },
        { wide, "longer than" },
        { "{\"inputs\":[{\"data\":[1,2", "ends inside the array that begins at byte 19" },
        { "{\"inputs\":[{\"data\":[1,\"2", "ends inside the string that begins at byte 22" },
        { "{\"inp", "ends inside the string" },
        { "{\"inp\\", "ends inside the string" },
        { "]", "byte 0" },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sv_text rest = { 0 };
        struct sv_cuts cuts = { 0 };
        struct rt_error err = { .text = "" };
        enum rt_status s = sv_json_cut(row[i].text, strlen(row[i].text), &rest, &cuts, &err);
        if (s == RT_OK || strstr(err.text, row[i].says) == NULL)
            fail_msg("row %zu: status %d, %s", i, (int)s, err.text);
        sv_text_reset(&rest);
        sv_cuts_reset(&cuts);
    }
}

/* Strings. */

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *json;
    } row[] = {
        { "", "\"\"" },
        { "plain", "\"plain\"" },
        { "a\"b\\c/d", "\"a\\\"b\\\\c/d\"" },
        { "\n\t\x01\x1f", "\"\\n\\t\\u0001\\u001f\"" },
        { "h\xc3\xa9llo \xf0\x9f\x90\x88", "\"h\xc3\xa9llo \xf0\x9f\x90\x88\"" },
        { "\xff\xc3", "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "a\xed\xa0\x80z", "\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"" },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sv_text t = { 0 };
        sv_text_json_str(&t, row[i].text);
        sv_text_bytes(&t, "", 1);
        assert_string_equal(t.p, row[i].json);
        sv_text_reset(&t);
    }
}

/* Multipart. */

static int count_parts(const char *type, const char *body, struct sv_part *part, int room)
{
    struct sv_parts p;
    struct rt_error err;
    bool more = true;
    int n = 0;
    if (sv_parts_begin(&p, type, body, strlen(body), &err) != RT_OK)
        return -1;
    while (n < room) {
        if (sv_parts_next(&p, &part[n], &more, &err) != RT_OK)
            return -1;
        if (!more)
            break;
        n++;
    }
    return n;
}

#define FORM "multipart/form-data; boundary=xyz"

static void test_multipart(void **state)
{
    (void)state;
    struct sv_part part[4];
    static const char two[] =
        "preamble\r\n--xyz\r\n"
        "content-disposition: form-data; name=\"file\"; filename=\"a;\\\"b\\\".png\"\r\n"
        "Content-Type: image/png\r\n\r\nBYTES\r\n--xy\r\n"
        "\r\n--xyz\r\nContent-Disposition: form-data; name=field\r\n\r\n\r\n--xyz--\r\n";
    assert_int_equal(count_parts(FORM, two, part, 4), 2);
    assert_true(part[0].has_file_name);
    assert_string_equal(part[0].file_name, "a;\"b\".png");
    assert_int_equal(part[0].len, 13);
    assert_memory_equal(part[0].bytes, "BYTES\r\n--xy\r\n", 13);
    assert_false(part[1].has_file_name);
    assert_int_equal(part[1].len, 0);

    assert_int_equal(count_parts("multipart/form-data; boundary=\"xyz\"",
                                 "--xyz\r\n\r\nA\r\n--xyz  \r\n\r\n\r\n--xyz--", part, 4),
                     2);
    assert_int_equal(part[0].len, 1);
    assert_int_equal(part[1].len, 0);
    assert_int_equal(count_parts(FORM, "--xyz--", part, 4), 0);

    static const struct {
        const char *type, *body;
    } bad[] = {
        { "multipart/form-data", "--xyz--" },
        { "multipart/form-data; boundary=", "--xyz--" },
        { FORM, "" },
        { FORM, "no boundary here" },
        { FORM, "--xyz" },
        { FORM, "--xyz\r\n" },
        { FORM, "--xyz\r\nContent-Disposition: form-data; name=a\r\n" },
        { FORM, "--xyz\r\n\r\nbytes without an end" },
        { FORM, "--xyz\r\n\r\nbytes\r\n--xyz" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (count_parts(bad[i].type, bad[i].body, part, 4) != -1)
            fail_msg("row %zu was accepted", i);
    assert_true(sv_is_multipart("Multipart/Form-Data; boundary=x"));
    assert_false(sv_is_multipart("image/png"));
    assert_false(sv_is_multipart(NULL));
}

/* Requests against models. */

static struct serving serving;

static const struct chain one = { "x", "Relu", RT_FLOAT, 2, { -1, 3 } };
static const struct chain two[] = { { "a", "Relu", RT_FLOAT, 2, { -1, 2 } },
                                    { "b", "Relu", RT_FLOAT, 2, { -1, 1 } } };

static int start(void **state)
{
    (void)state;
    serving_start(&serving);
    serving_add(&serving, "one", &one, 1);
    serving_add(&serving, "two", two, 2);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    serving_stop(&serving);
    return 0;
}

static struct sv_model *find(const char *name)
{
    struct sv_model *m = NULL;
    assert_int_equal(sv_registry_find(serving.app.registry, name, 0, &m, NULL), RT_OK);
    return m;
}

/* Decodes a request for a model of this name; the sentence of a failure to why. */
static enum rt_status decode(const char *name, const char *body, size_t len, const char *header,
                             struct sv_infer *in, char *why)
{
    struct rt_error err = { .text = "" };
    struct sv_model *m = find(name);
    enum rt_status s = sv_infer_decode(m, body, len, header, in, &err);
    strcpy(why, err.text);
    sv_model_release(m);
    return s;
}

#define X(rest) "{\"inputs\":[{\"name\":\"x\"," rest "}]}"
#define A "{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[1,2,3,4]}"

static const struct {
    const char *model, *body, *says;
} bad_request[] = {
    { "one", "", "the body is empty" },
    { "one", "{", "not valid JSON: byte 1" },
    { "one", "[]", "must be a JSON object, not an array" },
    { "one", "{}", "has no 'inputs'" },
    { "one", "{\"inputs\":1}", "'inputs' of the request: it must be an array, not an integer" },
    { "one", "{\"inputs\":[]}",
      "expected 1 inputs but got 0 inputs for model 'one'. Got input(s) [], but missing required "
      "input(s) ['x']. Please provide all required input(s)." },
    { "one", "{\"inputs\":[1]}", "inputs[0] must be an object" },
    { "one", "{\"inputs\":[{}]}", "inputs[0] has no 'name'" },
    { "one", "{\"id\":7,\"inputs\":[]}", "'id'" },
    { "one", "{\"inputs\":[],\"inputs\":[]}", "duplicate" },
    { "one", "{\"parameters\":{\"a\":[]},\"inputs\":[]}",
      "parameter 'a' has invalid type. It should be either 'int', 'bool', or 'string'." },
    { "one", "{\"parameters\":{\"triton_x\":1},\"inputs\":[]}", "triton_x" },
    { "one", "{\"parameters\":{\"timeout\":-1},\"inputs\":[]}", "'timeout'" },
    { "one", X("\"datatype\":\"FP32\",\"data\":[1,2,3]"), "has no 'shape'" },
    { "one", X("\"shape\":[1,3],\"data\":[1,2,3]"), "has no 'datatype'" },
    { "one", X("\"shape\":[-1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]"), "dimension 0" },
    { "one", X("\"shape\":[1.0,3],\"datatype\":\"FP32\",\"data\":[1,2,3]"), "dimension 0" },
    { "one", X("\"shape\":[1,1,1,1,1,1,1,1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]"),
      "9 dimensions" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\""), "But no field is set" },
    { "one",
      X("\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[],\"parameters\":"
        "{\"binary_data_size\":12}"),
      "But set 'data' 'binary_data_size'" },
    { "one",
      X("\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{\"shared_memory_region\":\"r\"}"),
      "shared memory" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":3"), "'data'" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\",\"d\\u0061ta\":[1,2,3]"), "escapes" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"INT32\",\"data\":[1,2,3]"),
      "inference input 'x' data-type is 'INT32', but model 'one' expects 'FP32'" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"fp32\",\"data\":[1,2,3]"), "'fp32'" },
    { "one", X("\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]"),
      "unexpected shape for input 'x' for model 'one'. Expected [-1,3], got [1,4]. NOTE:" },
    { "one", X("\"shape\":[3],\"datatype\":\"FP32\",\"data\":[1,2,3]"), "got [3]" },
    { "one", X("\"shape\":[],\"datatype\":\"FP32\",\"data\":[1]"),
      "input 'x' has no shape but model requires batch dimension for 'one'" },
    { "one", X("\"shape\":[0,3],\"datatype\":\"FP32\",\"data\":[]"),
      "batch dimension must be >= 1" },
    { "one", X("\"shape\":[4611686018427387904,3],\"datatype\":\"FP32\",\"data\":[]"), "batch" },
    { "one", X("\"shape\":[2000000000,3],\"datatype\":\"FP32\",\"data\":[1]"), "fewer than" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1.5,2.5]"), "has 2 elements" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3,4]"), "more than the 3" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,x]"), "element 2" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":12}"),
      "unexpected size for input 'x', expecting 12 additional bytes for model 'one'" },
    { "one", X("\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":-1}"),
      "binary_data_size" },
    { "one",
      "{\"inputs\":[{\"name\":\"y\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}]}",
      "unexpected inference input 'y' for model 'one'" },
    { "one",
      "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}],"
      "\"outputs\":[{\"name\":\"no\"}]}",
      "unexpected inference output 'no' for model 'one'" },
    { "one",
      "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}],"
      "\"outputs\":[{\"name\":\"x_out\"},{\"name\":\"x_out\"}]}",
      "output 'x_out' already exists in request" },
    { "one",
      "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}],"
      "\"outputs\":[{\"name\":\"x_out\",\"parameters\":{\"classification\":-1}}]}",
      "'classification' of output 'x_out' must not be negative" },
    { "two", "{\"inputs\":[" A "]}", "missing required input(s) ['b']" },
    { "two", "{\"inputs\":[" A "," A "]}", "input 'a' already exists in request" },
    { "two",
      "{\"inputs\":[" A ",{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[1,1],\"data\":[1]}]}",
      "input 'b' batch size does not match other inputs for 'two'" },
};

static void test_decode_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_request / sizeof bad_request[0]; i++) {
        char why[2048];
        struct sv_infer in = { 0 };
        enum rt_status s = decode(bad_request[i].model, bad_request[i].body,
                                  strlen(bad_request[i].body), NULL, &in, why);
        if (s != RT_E_INVALID || strstr(why, bad_request[i].says) == NULL)
            fail_msg("%s: status %d, %s", bad_request[i].body, (int)s, why);
    }
}

/* Every allocation of a request fails in turn; nothing is leaked. */
static void test_decode_without_memory(void **state)
{
    (void)state;
    static const char body[] =
        "{\"id\":\"7\",\"inputs\":[" A
        ",{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[2,1],\"data\":[5,6]}],"
        "\"outputs\":[{\"name\":\"b_out\"}]}";
    struct sv_model *m = find("two");
    enum rt_status s;
    long before = rt_mem_live();
    long after = 0;
    do {
        struct sv_infer in = { 0 };
        struct rt_error err = { .text = "" };
        rt_mem_fail(after++);
        s = sv_infer_decode(m, body, sizeof body - 1, NULL, &in, &err);
        rt_mem_fail(-1);
        if (s != RT_OK && s != RT_E_NOMEM)
            fail_msg("allocation %ld: status %d, %s", after - 1, (int)s, err.text);
        sv_infer_reset(&in);
        assert_int_equal(rt_mem_live(), before);
    } while (s != RT_OK && after < 1000);
    assert_int_equal(s, RT_OK);
    sv_model_release(m);
}

static void test_decode_good(void **state)
{
    (void)state;
    static const char body[] =
        "{\"id\":\"7\",\"unknown\":{\"x\":[1]},\"parameters\":{\"binary_data_output\":true},"
        "\"inputs\":[{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[2,1],\"data\":[[5],[6]]}," A
        "],\"outputs\":[{\"name\":\"b_out\"},{\"name\":\"a_out\","
        "\"parameters\":{\"binary_data\":true,\"classification\":0}}]}";
    char why[2048];
    struct sv_infer in = { 0 };
    if (decode("two", body, sizeof body - 1, NULL, &in, why) != RT_OK)
        fail_msg("%s", why);
    assert_string_equal(in.id, "7");
    assert_int_equal(in.job->n, 2);
    assert_int_equal(in.n_wanted, 2);
    assert_int_equal(in.wanted[0].index, 1);
    assert_false(in.wanted[0].binary);
    assert_int_equal(in.wanted[1].index, 0);
    assert_true(in.wanted[1].binary);
    assert_true(((const float *)in.job->in[0].data)[3] == 4);
    assert_true(((const float *)in.job->in[1].data)[1] == 6);
    sv_infer_reset(&in);
}

/* Blobs at every alignment, whatever the length of the JSON in front of them. */
static void test_decode_binary(void **state)
{
    (void)state;
    static const char json[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\","
                               "\"parameters\":{\"binary_data_size\":24}}]}";
    const float value[6] = { 1, -2, 3.5f, NAN, 1e-40f, INFINITY };
    for (size_t pad = 0; pad < 8; pad++) {
        char body[256], header[16], why[2048];
        struct sv_infer in = { 0 };
        size_t json_len = sizeof json - 1 + pad;
        memset(body, ' ', sizeof body);
        memcpy(body, json, sizeof json - 1);
        memcpy(body + json_len, value, sizeof value);
        body[json_len + sizeof value] = '\0';
        snprintf(header, sizeof header, "%zu", json_len);
        if (decode("one", body, json_len + sizeof value, header, &in, why) != RT_OK)
            fail_msg("%s", why);
        assert_int_equal(in.job->n, 2);
        assert_memory_equal(in.job->in[0].data, value, sizeof value);
        sv_infer_reset(&in);
        assert_int_equal(decode("one", body, json_len + 25, header, &in, why), RT_E_INVALID);
        assert_non_null(strstr(why, "unexpected additional input data for model 'one'"));
        assert_int_equal(decode("one", body, json_len + 20, header, &in, why), RT_E_INVALID);
        assert_non_null(strstr(why, "expecting 4 additional bytes"));
    }
}

#define BINARY(n)                                                                                  \
    X("\"shape\":[" n ",3],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":" n "2}")

/* Requests with the same JSON, as clients send them, and with another in between; with as much
 * memory as there is, and with every allocation failing in turn. */
static void test_decode_again(void **state)
{
    (void)state;
    static const char *const json[] = { BINARY("1"), BINARY("1"), BINARY("1") " ", BINARY("1") };
    struct sv_model *m = find("one");
    long live = -1;
    for (long fails = -1; fails < 40; fails++)
        for (size_t i = 0; i < sizeof json / sizeof json[0]; i++) {
            _Alignas(16) char body[256];
            char header[24];
            struct rt_error err;
            struct sv_infer in = { 0 };
            const float value[3] = { (float)i, (float)fails, 2 };
            size_t json_len = strlen(json[i]);
            memcpy(body, json[i], json_len);
            memcpy(body + json_len, value, sizeof value);
            snprintf(header, sizeof header, "%zu", json_len);
            rt_mem_fail(fails);
            enum rt_status s = sv_infer_decode(m, body, json_len + sizeof value, header, &in, &err);
            rt_mem_fail(-1);
            if (s == RT_OK)
                assert_memory_equal(in.job->in[0].data, value, sizeof value);
            else if (s != RT_E_NOMEM || fails < 0)
                fail_msg("allocation %ld: %s", fails, err.text);
            sv_infer_reset(&in);
            if (live < 0)
                live = rt_mem_live();
            assert_int_equal(rt_mem_live(), live);
        }
    sv_model_release(m);
}

static void test_decode_raw(void **state)
{
    (void)state;
    _Alignas(16) const float value[4] = { 1, 2, 3, 4 };
    char why[2048];
    struct sv_infer in = { 0 };
    if (decode("one", (const char *)value, 12, "0", &in, why) != RT_OK)
        fail_msg("%s", why);
    assert_int_equal(in.job->n, 1);
    assert_memory_equal(in.job->in[0].data, value, 12);
    assert_true(in.wanted[0].binary);
    sv_infer_reset(&in);
    assert_int_equal(decode("one", (const char *)value, 16, "0", &in, why), RT_E_INVALID);
    assert_string_equal(why, "input byte size mismatch for input 'x' for model 'one'. Expected 12, "
                             "got 16");
    assert_int_equal(decode("two", (const char *)value, 12, "0", &in, why), RT_E_INVALID);
    assert_non_null(strstr(why, "Raw request must only have 1 input (found 1) to be deduced but "
                                "got 2 inputs in 'two' model configuration"));
}

static void test_header_length(void **state)
{
    (void)state;
    static const struct {
        const char *header, *says;
    } row[] = {
        { "abc", "Unable to parse Inference-Header-Content-Length, got: abc" },
        { "", "Unable to parse" },
        { "12x", "Unable to parse" },
        { "99999999999", "Unable to parse" },
        { "99999999999999999999999", "Unable to parse" },
        { "-1", "inference header size should be in range (0, 2), got: -1" },
        { "3", "inference header size should be in range (0, 2), got: 3" },
        { "1", "not valid JSON" },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char why[2048];
        struct sv_infer in = { 0 };
        enum rt_status s = decode("one", "{}", 2, row[i].header, &in, why);
        if (s != RT_E_INVALID || strstr(why, row[i].says) == NULL)
            fail_msg("'%s': status %d, %s", row[i].header, (int)s, why);
    }
}

static void test_encode(void **state)
{
    (void)state;
    static const char body[] =
        "{\"id\":\"a\\\"b\",\"inputs\":[" A
        ",{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[2,1],\"data\":[5,6]}],"
        "\"outputs\":[{\"name\":\"b_out\",\"parameters\":{\"binary_data\":true}},"
        "{\"name\":\"a_out\"}]}";
    char why[2048];
    struct sv_infer in = { 0 };
    if (decode("two", body, sizeof body - 1, NULL, &in, why) != RT_OK)
        fail_msg("%s", why);
    float a[4] = { 0.1f, -0.0f, NAN, 1e10f }, b[2] = { 5, 6 };
    struct rt_tensor out[2] = { { RT_FLOAT, { .rank = 2, .dim = { 2, 2 } }, a },
                                { RT_FLOAT, { .rank = 2, .dim = { 2, 1 } }, b } };
    struct rt_tensor *own = in.job->out;
    in.job->out = out;
    struct sv_text t = { 0 };
    size_t json_len;
    struct rt_error err = { .text = "" };
    assert_int_equal(sv_infer_encode(&in, &t, &json_len, &err), RT_OK);
    in.job->out = own;
    static const char wanted[] =
        "{\"id\":\"a\\\"b\",\"model_name\":\"two\",\"model_version\":\"1\",\"outputs\":["
        "{\"name\":\"b_out\",\"datatype\":\"FP32\",\"shape\":[2,1],\"parameters\":"
        "{\"binary_data_size\":8}},{\"name\":\"a_out\",\"datatype\":\"FP32\",\"shape\":[2,2],"
        "\"data\":[0.1,-0.0,NaN,1e10]}]}";
    assert_false(t.failed);
    assert_int_equal(json_len, sizeof wanted - 1);
    assert_memory_equal(t.p, wanted, json_len);
    assert_int_equal(t.len, json_len + sizeof b);
    assert_memory_equal(t.p + json_len, b, sizeof b);
    sv_text_reset(&t);
    sv_infer_reset(&in);
}

/* The same for a :predict request, in each of its forms. */
static void test_predict_without_memory(void **state)
{
    (void)state;
    static const char *const body[] = {
        "{\"instances\":[{\"a\":[1,2],\"b\":[3]},{\"b\":[4],\"a\":[5,6]}]}",
        "{\"inputs\":{\"a\":[[1,2],[5,6]],\"b\":[[3],[4]]}}",
    };
    struct sv_model *m = find("two");
    for (size_t i = 0; i < sizeof body / sizeof body[0]; i++) {
        long before = rt_mem_live(), after = 0;
        enum rt_status s;
        do {
            struct sv_infer in = { 0 };
            struct rt_error err = { .text = "" };
            rt_mem_fail(after++);
            s = sv_predict_decode(m, body[i], strlen(body[i]), &in, &err);
            rt_mem_fail(-1);
            if (s != RT_OK && s != RT_E_NOMEM)
                fail_msg("allocation %ld: status %d, %s", after - 1, (int)s, err.text);
            if (s == RT_OK) {
                assert_int_equal(in.job->n, 2);
                assert_true(((const float *)in.job->in[0].data)[2] == 5);
                assert_true(((const float *)in.job->in[1].data)[1] == 4);
            }
            sv_infer_reset(&in);
            assert_int_equal(rt_mem_live(), before);
        } while (s != RT_OK && after < 1000);
        assert_int_equal(s, RT_OK);
    }
    sv_model_release(m);
}

/* However a body is cut off or garbled: an error or a request, and nothing read behind its end. */
static void test_predict_garbled(void **state)
{
    (void)state;
    static const char body[] = "{\"instances\":[{\"a\":[1,2],\"b\":[3]},{\"b\":[4],\"a\":[5,6]}],"
                               "\"signature_name\":\"s\\\"\"}";
    static const char junk[] = "{}[]\",:\\1 x";
    const size_t len = sizeof body - 1;
    struct sv_model *m = find("two");
    for (size_t at = 0; at <= len; at++)
        for (size_t j = 0; j < sizeof junk; j++) {
            struct sv_infer in = { 0 };
            struct rt_error err;
            const size_t n = j == sizeof junk - 1 ? at : len;
            char *copy = malloc(n + 1);
            assert_non_null(copy);
            memcpy(copy, body, n);
            copy[n] = '\0';
            if (at < n)
                copy[at] = junk[j];
            enum rt_status s = sv_predict_decode(m, copy, n, &in, &err);
            if (s == RT_OK)
                sv_infer_reset(&in);
            else
                assert_int_equal(s, RT_E_INVALID);
            free(copy);
        }
    sv_model_release(m);
}

static void test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted; /* wanted NULL: refused */
    } text[] = {
        { "", "" },           { "Zg==", "f" },      { "Zm8=", "fo" },
        { "Zm9v", "foo" },    { "Zg", "f" },        { "Zm8", "fo" },
        { "Pz8/", "\?\?\?" }, { "Pz8_", "\?\?\?" }, { "Pz8\\/", "\?\?\?" },
        { "Z", NULL },        { "Zg=", NULL },      { "Zm9v=", NULL },
        { "Zg===", NULL },    { "Zg==Zg", NULL },   { "Zm 9", NULL },
        { "====", NULL },     { "Zm\\n", NULL },
    };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        unsigned char out[16];
        size_t n = 0;
        bool good = sv_base64_decode(text[i].text, strlen(text[i].text), out, &n);
        if (good != (text[i].wanted != NULL) ||
            (good && (n != strlen(text[i].wanted) || memcmp(out, text[i].wanted, n) != 0)))
            fail_msg("'%s': %d, %zu bytes", text[i].text, good, n);
    }
}

/* The k best of n values of a type, as one JSON array; batched in rows of two. */
static void check_classes(enum rt_dtype dtype, const void *data, int64_t n, bool batched, int64_t k,
                          const struct sv_labels *labels, const char *wanted)
{
    struct rt_shape shape = rt_shape_of(batched ? 2 : 1, (int64_t[]){ batched ? n / 2 : n, 2 });
    struct rt_tensor t = { dtype, shape, (void *)(uintptr_t)data };
    struct sv_text strings = { 0 }, json = { 0 };
    struct rt_error err = { .text = "" };
    if (sv_classes_write(&t, batched, k, labels, "y", &strings, &shape, &err) != RT_OK)
        fail_msg("%s", err.text);
    sv_classes_json(strings.p, strings.len, &json);
    if (json.len != strlen(wanted) || memcmp(json.p, wanted, json.len) != 0)
        fail_msg("%.*s, not %s", (int)json.len, json.p, wanted);
    const int64_t each = batched ? 2 : n;
    assert_int_equal(shape.rank, batched ? 2 : 1);
    assert_int_equal(shape.dim[shape.rank - 1], k < each ? k : each);
    sv_text_reset(&strings);
    sv_text_reset(&json);
}

static void test_classes(void **state)
{
    (void)state;
    static const float f[] = { 0.5f, NAN, 2, -INFINITY, 2, INFINITY };
    static const uint64_t u[] = { UINT64_MAX - 1, 0, UINT64_MAX };
    static const int64_t i[] = { INT64_MIN, INT64_MAX - 1, INT64_MAX, -1 };
    static const uint8_t b[] = { 1, 3, 2, 2 };
    static const double d[] = { 1e300 };
    char quoted[] = "a\"b", none[] = "", plain[] = "c";
    char *names[] = { quoted, none, plain };
    const struct sv_labels labels = { .n = 3, .label = names };
    check_classes(RT_FLOAT, f, 6, false, 3, NULL, "[\"inf:5\",\"2.000000:2\",\"2.000000:4\"]");
    check_classes(RT_FLOAT, f, 6, false, 99, NULL,
                  "[\"inf:5\",\"2.000000:2\",\"2.000000:4\",\"0.500000:0\",\"-inf:3\",\"nan:1\"]");
    check_classes(RT_UINT64, u, 3, false, 2, NULL,
                  "[\"18446744073709551615:2\",\"18446744073709551614:0\"]");
    check_classes(RT_INT64, i, 4, true, 1, NULL,
                  "[\"9223372036854775806:1\",\"9223372036854775807:0\"]");
    check_classes(RT_UINT8, b, 4, true, 2, NULL, "[\"3:1\",\"1:0\",\"2:0\",\"2:1\"]");
    check_classes(RT_UINT8, b, 3, false, 3, &labels, "[\"3:1\",\"2:2:c\",\"1:0:a\\\"b\"]");
    check_classes(RT_FLOAT, f, 0, false, 3, NULL, "[]");
    struct sv_text strings = { 0 };
    struct rt_shape shape;
    struct rt_error err;
    struct rt_tensor t = { RT_DOUBLE, rt_shape_of(1, (int64_t[]){ 1 }), (void *)(uintptr_t)d };
    assert_int_equal(sv_classes_write(&t, false, 1, NULL, "y", &strings, &shape, &err), RT_OK);
    assert_int_equal(strings.len, 4 + strings.p[0] + (strings.p[1] << 8));
    sv_text_reset(&strings);
    t.shape.dim[0] = SV_CLASSES_FROM + 1;
    assert_int_equal(sv_classes_write(&t, false, 1, NULL, "y", &strings, &shape, &err),
                     RT_E_INVALID);
    assert_non_null(strstr(err.text, "classification output tensor too large"));
    assert_false(sv_classes_has(RT_FLOAT16));
    assert_false(sv_classes_has(RT_BOOL));
}

/* The order is that of a stable sort, whatever the values. */
static void test_classes_order(void **state)
{
    (void)state;
    int32_t x[200];
    uint32_t seed = 1;
    for (int round = 0; round < 200; round++) {
        int n = 1 + round % 200;
        for (int k = 0; k < n; k++) {
            seed = seed * 1664525u + 1013904223u;
            x[k] = (int32_t)(seed >> 24) % (1 + round % 17);
        }
        struct rt_tensor t = { RT_INT32, rt_shape_of(1, (int64_t[]){ n }), x };
        struct rt_shape shape;
        struct rt_error err;
        struct sv_text strings = { 0 };
        const int k = 1 + (int)(seed >> 20) % n;
        assert_int_equal(sv_classes_write(&t, false, k, NULL, "y", &strings, &shape, &err), RT_OK);
        int last = -1, seen = 0;
        sv_text_bytes(&strings, "", 1); /* for sscanf */
        for (size_t at = 0; at + 1 < strings.len; at += 4 + (size_t)strings.p[at], seen++) {
            int value, index, larger = 0;
            assert_int_equal(sscanf(strings.p + at + 4, "%d:%d", &value, &index), 2);
            assert_int_equal(x[index], value);
            assert_true(last < 0 || x[last] > value || (x[last] == value && last < index));
            last = index;
            for (int j = 0; j < n; j++)
                larger += x[j] > value || (x[j] == value && j < index);
            assert_int_equal(larger, seen);
        }
        assert_int_equal(seen, k);
        sv_text_reset(&strings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_good),
        cmocka_unit_test(test_read_bad),
        cmocka_unit_test(test_read_depth),
        cmocka_unit_test(test_read_types),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_cut_bad),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_multipart),
        cmocka_unit_test(test_decode_bad),
        cmocka_unit_test(test_decode_without_memory),
        cmocka_unit_test(test_decode_good),
        cmocka_unit_test(test_decode_binary),
        cmocka_unit_test(test_decode_again),
        cmocka_unit_test(test_decode_raw),
        cmocka_unit_test(test_header_length),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_classes_order),
        cmocka_unit_test(test_predict_without_memory),
        cmocka_unit_test(test_predict_garbled),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
