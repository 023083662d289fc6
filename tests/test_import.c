/* Import: every encoding, every refusal, functions, branches, failing allocations, broken bytes. */
#include "tests/importing.h"

#include "runtime/inline.h"
#include "runtime/ops/op.h"
#include "runtime/wire.h"

#include <unistd.h>

static void imports_as(struct bytes m, const char *dump)
{
    struct rt_graph *g = NULL;
    if (import(m, &g) != RT_OK)
        fail_msg("%s", err.text);
    char *text = rt_graph_dump(g);
    assert_string_equal(text, dump);
    rt_free(text);
    rt_graph_destroy(g);
    assert_int_equal(rt_mem_live(), 0);
}

/* --- a whole model ------------------------------------------------------------------------- */

static void says_what_the_file_says(void **state)
{
    (void)state;
    struct rt_graph *g;
    assert_int_equal(import(model_of(relu()), &g), RT_OK);
    assert_int_equal(g->n_inputs, 1);
    assert_int_equal(g->n_outputs, 1);
    assert_int_equal(g->opset, 17);
    assert_int_equal(g->ir_version, 8);
    assert_string_equal(g->producer, "test 1.0");
    const struct rt_value *x = &g->value[g->input[0]];
    assert_string_equal(x->name, "x");
    assert_true(x->is_input && x->inferred && x->dtype == RT_FLOAT);
    assert_true(x->shape.rank == 2 && x->shape.dim[0] == -1 && x->shape.dim[1] == 2);
    assert_string_equal(g->value[g->output[0]].name, "y");
    assert_true(g->value[g->output[0]].is_output);
    rt_graph_destroy(g);
}

static void sorts_nodes(void **state)
{
    (void)state;
    struct bytes g = graph_xy();
    put_message(&g, 1, node("Relu", "second", "a", "y"));
    put_message(&g, 1, node("Relu", "first", "x", "a"));
    imports_as(model(g), "first: Relu(x) -> a\nsecond: Relu(a) -> y\n");
}

static void takes_an_initializer_for_its_input(void **state)
{
    (void)state;
    struct bytes g = graph_xy();
    static const float two[2] = { 1, 2 };
    put_message(&g, 11, value("w", 1, 1, (const int64_t[]){ 2 }));
    put_message(&g, 5, raw_tensor("w", 1, 2, two, sizeof two));
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    struct rt_graph *out;
    assert_int_equal(import(model(g), &out), RT_OK);
    assert_int_equal(out->n_inputs, 1);
    assert_int_equal(out->n_parameters, 2);
    rt_graph_destroy(out);
}

static void refuses_wrong_versions(void **state)
{
    (void)state;
    struct bytes m = { 0 };
    put_message(&m, 7, graph_xy());
    refused(m, RT_E_INVALID, "ir_version");
    m = model_of(relu());
    put_int(&m, 1, 14);
    refused(m, RT_E_UNSUPPORTED, "ir_version 14");
    m = (struct bytes){ 0 };
    put_int(&m, 1, 8);
    put_message(&m, 7, graph_xy());
    refused(m, RT_E_INVALID, "does not say which opset");
    m = (struct bytes){ 0 };
    put_int(&m, 1, 8);
    put_message(&m, 7, graph_xy());
    put_message(&m, 8, opset("ai.onnx", 28));
    refused(m, RT_E_UNSUPPORTED, "opset 28");
    m = (struct bytes){ 0 };
    put_int(&m, 1, 8);
    refused(m, RT_E_INVALID, "no graph");
}

static void files_before_opsets_have_the_first(void **state)
{
    (void)state;
    struct bytes g = graph_xy(), m = { 0 };
    struct rt_graph *out;
    put_message(&g, 1, relu());
    put_int(&m, 1, 2);
    put_message(&m, 7, g);
    assert_int_equal(import(m, &out), RT_OK);
    assert_int_equal(out->opset, 1);
    rt_graph_destroy(out);
}

/* --- names and operands -------------------------------------------------------------------- */

static void refuses_wrong_names(void **state)
{
    (void)state;
    refused(model_of(node("Relu", "r", "nowhere", "y")), RT_E_INVALID,
            "node 'r' (Relu) reads 'nowhere'");
    refused(model_of(node("Relu", "r", "x", "z")), RT_E_INVALID, "nothing makes output 'y'");
    refused(model_of(node("Relu", "r", "y", "y")), RT_E_INVALID, "cycle");
    refused(model_of(node("Relu", "r", "x", "x")), RT_E_INVALID, "makes 'x'");
    struct bytes g = graph_xy();
    put_message(&g, 1, relu());
    put_message(&g, 1, relu());
    refused(model(g), RT_E_INVALID, "makes 'y', which something else makes too");
    g = graph_xy();
    put_message(&g, 11, value("x", 1, 0, NULL));
    refused(model(g), RT_E_INVALID, "two inputs 'x'");
    g = graph_xy();
    put_message(&g, 12, named("y"));
    put_message(&g, 1, relu());
    refused(model(g), RT_E_INVALID, "two outputs 'y'");
    g = graph_xy();
    put_message(&g, 1, node("", "r", "x", "y"));
    refused(model(g), RT_E_INVALID, "no operator");
    refused(model_of(node("Relu",
                          "a\xff"
                          "b",
                          "x", "y")),
            RT_E_INVALID, "UTF-8");
    struct bytes n = node("Relu", "", "x", "y");
    put_data(&n, 3, "a\0b", 3);
    refused(model_of(n), RT_E_INVALID, "NUL");
}

static void refuses_wrong_counts(void **state)
{
    (void)state;
    refused(model_of(node("Relu", "r", "x,x", "y")), RT_E_INVALID, "must have 1 inputs, not 2");
    refused(model_of(node("Add", "a", "x", "y")), RT_E_INVALID, "must have 2 inputs, not 1");
    refused(model_of(node("Relu", "r", "x", "y,z")), RT_E_INVALID, "must have 1 outputs, not 2");
    refused(model_of(node("Add", "a", ",x", "y")), RT_E_INVALID, "no input 0");
    imports_as(model_of(node("Clip", "c", "x,,", "y")), "c: Clip(x) -> y\n");
}

static void lists_all_that_is_not_supported(void **state)
{
    (void)state;
    struct bytes g = graph_xy(), foreign = node("Foo", "f", "a", "b");
    put_text(&foreign, 7, "com.example");
    put_message(&g, 1, node("Loop", "l", "x", "a"));
    put_message(&g, 1, foreign);
    put_message(&g, 1, node("Bar", "", "b", "y"));
    refused(model(g), RT_E_UNSUPPORTED,
            "3 nodes are not supported: Loop 'l', com.example.Foo 'f', Bar 'y'");
    g = graph_xy();
    for (int i = 0; i < 500; i++) {
        char name[32];
        snprintf(name, sizeof name, "node_%d", i);
        put_message(&g, 1, node("Bar", name, "x", i == 0 ? "y" : name));
    }
    refused(model(g), RT_E_UNSUPPORTED, "more");
    refused(model_of(node("ToPlain", "t", "x", "y")), RT_E_UNSUPPORTED, "ToPlain");
}

static void checks_attributes(void **state)
{
    (void)state;
    refused(model_of(with_attr(relu(), attr_int("slope", 1))), RT_E_UNSUPPORTED,
            "1 node is not supported: Relu 'r' (attribute 'slope' is not known)");
    refused(model_of(with_attr(relu(), attr_int("consumed_inputs", 1))), RT_E_INVALID,
            "no attribute 'consumed_inputs' in opset 17");
    struct bytes n = node("LeakyRelu", "l", "x", "y");
    refused(model_of(with_attr(n, attr_int("alpha", 1))), RT_E_INVALID,
            "'alpha' must be a float, not an integer");
    n = with_attr(node("LeakyRelu", "l", "x", "y"), attr_float("alpha", 1));
    refused(model_of(with_attr(n, attr_float("alpha", 2))), RT_E_INVALID, "'alpha' twice");
    refused(model_of(node("MaxPool", "m", "x", "y")), RT_E_INVALID, "'kernel_shape' is missing");
    refused(model_of(with_attr(relu(), attr_message("t", 5, 9, (struct bytes){ 0 }))),
            RT_E_UNSUPPORTED, "a list of tensors");
}

/* --- inputs -------------------------------------------------------------------------------- */

static struct bytes model_with_type(struct bytes type)
{
    struct bytes g = { 0 }, info = named("x");
    put_message(&info, 2, type);
    put_message(&g, 11, info);
    put_message(&g, 12, named("y"));
    put_message(&g, 1, relu());
    return model(g);
}

static void refuses_wrong_inputs(void **state)
{
    (void)state;
    struct bytes none = { 0 }, sequence = { 0 }, shapeless = { 0 }, t = { 0 };
    refused(model_with_type(none), RT_E_INVALID, "input 'x' has no type");
    put_message(&sequence, 4, none);
    refused(model_with_type(sequence), RT_E_UNSUPPORTED, "input 'x' is a sequence");
    put_int(&t, 1, 1);
    put_message(&shapeless, 1, t);
    refused(model_with_type(shapeless), RT_E_UNSUPPORTED, "input 'x' has no shape");
    static const struct {
        int type;
        int64_t dim;
        enum rt_status status;
        const char *text;
    } cases[] = {
        { 8, 1, RT_E_UNSUPPORTED, "type string" },
        { 17, 1, RT_E_UNSUPPORTED, "type float8e4m3fn" },
        { 99, 1, RT_E_INVALID, "99 is no element type" },
        { 1, -3, RT_E_INVALID, "dimension 0 is -3" },
        { 1, (int64_t)1 << 62, RT_E_LIMIT, "dimension 0 is" },
        { 1, (int64_t)1 << 38, RT_E_LIMIT, "too many elements" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes g = { 0 };
        const int64_t dims[] = { cases[i].dim, 64 };
        put_message(&g, 11, value("x", cases[i].type, 2, dims));
        put_message(&g, 12, named("y"));
        put_message(&g, 1, relu());
        refused(model(g), cases[i].status, cases[i].text);
    }
    struct bytes g = { 0 };
    put_message(&g, 11, value("x", 1, 9, (const int64_t[]){ 1, 1, 1, 1, 1, 1, 1, 1, 1 }));
    refused(model(g), RT_E_LIMIT, "9 dimensions");
}

/* --- tensors ------------------------------------------------------------------------------- */

static void reads(struct bytes t, enum rt_dtype dtype, int64_t n, const void *want)
{
    struct rt_tensor x;
    char name[8];
    enum rt_status s = rt_tensor_from_pb(t.p, t.len, &x, name, sizeof name, &err);
    if (s != RT_OK)
        fail_msg("%s", err.text);
    assert_int_equal(x.dtype, dtype);
    assert_int_equal(rt_shape_numel(&x.shape), n);
    assert_memory_equal(x.data, want, (size_t)n * rt_dtype_size(dtype));
    assert_string_equal(name, "tensor ");
    rt_free(x.data);
    free(t.p);
    assert_int_equal(rt_mem_live(), 0);
}

static void unreadable(struct bytes t, enum rt_status want, const char *part)
{
    struct rt_tensor x;
    enum rt_status s = rt_tensor_from_pb(t.p, t.len, &x, NULL, 0, &err);
    if (s != want || strstr(err.text, part) == NULL)
        fail_msg("status %s, text '%s'; wanted '%s'", rt_status_name(s), err.text, part);
    free(t.p);
    assert_int_equal(rt_mem_live(), 0);
}

/* A tensor of three elements, its name longer than the room that reads() has for it. */
static struct bytes three(enum rt_dtype type)
{
    return tensor("tensor three", (int)type, 1, (const int64_t[]){ 3 });
}

static void reads_every_encoding(void **state)
{
    (void)state;
    static const float f[3] = { 1, -2.5f, 3 };
    static const double d[3] = { 1, -2.5, 3 };
    struct bytes t = three(RT_FLOAT);
    put_data(&t, 9, f, sizeof f);
    reads(t, RT_FLOAT, 3, f);
    t = three(RT_FLOAT);
    put_data(&t, 4, f, sizeof f);
    reads(t, RT_FLOAT, 3, f);
    t = three(RT_FLOAT); /* one packed piece and one element that is not */
    put_data(&t, 4, f, 8);
    put_float(&t, 4, f[2]);
    reads(t, RT_FLOAT, 3, f);
    t = three(RT_DOUBLE);
    put_data(&t, 10, d, sizeof d);
    reads(t, RT_DOUBLE, 3, d);

    static const int64_t small[3] = { 1, -2, 127 }, large[3] = { 1, 2, 65535 };
    t = three(RT_INT8);
    put_packed(&t, 5, small, 3);
    reads(t, RT_INT8, 3, (const int8_t[]){ 1, -2, 127 });
    t = three(RT_INT16);
    for (int i = 0; i < 3; i++)
        put_int(&t, 5, small[i]);
    reads(t, RT_INT16, 3, (const int16_t[]){ 1, -2, 127 });
    t = three(RT_INT32);
    put_packed(&t, 5, small, 3);
    reads(t, RT_INT32, 3, (const int32_t[]){ 1, -2, 127 });
    t = three(RT_INT64);
    put_packed(&t, 7, small, 3);
    reads(t, RT_INT64, 3, small);
    t = three(RT_FLOAT16);
    put_packed(&t, 5, large, 3);
    reads(t, RT_FLOAT16, 3, (const uint16_t[]){ 1, 2, 65535 });
    t = three(RT_UINT32);
    put_packed(&t, 11, large, 3);
    reads(t, RT_UINT32, 3, (const uint32_t[]){ 1, 2, 65535 });
    t = three(RT_UINT64);
    put_packed(&t, 11, large, 3);
    reads(t, RT_UINT64, 3, (const uint64_t[]){ 1, 2, 65535 });
    t = three(RT_BOOL);
    put_packed(&t, 5, (const int64_t[]){ 0, 7, 1 }, 3);
    reads(t, RT_BOOL, 3, (const uint8_t[]){ 0, 1, 1 });
    t = three(RT_BOOL);
    put_data(&t, 9, "\0\x7f\1", 3);
    reads(t, RT_BOOL, 3, (const uint8_t[]){ 0, 1, 1 });
    reads(tensor("tensor none", RT_FLOAT, 2, (const int64_t[]){ 0, 5 }), RT_FLOAT, 0, NULL);
}

static void refuses_wrong_tensors(void **state)
{
    (void)state;
    static const float f[3] = { 1, 2, 3 };
    struct bytes t = three(RT_FLOAT);
    put_data(&t, 9, f, 8);
    unreadable(t, RT_E_INVALID, "raw_data has 8 bytes, its shape asks for 12");
    t = three(RT_FLOAT);
    put_data(&t, 4, f, 8);
    unreadable(t, RT_E_INVALID, "float_data has 2 elements, its shape asks for 3");
    t = three(RT_FLOAT);
    put_data(&t, 4, f, 7);
    unreadable(t, RT_E_INVALID, "whole elements");
    t = three(RT_FLOAT);
    put_data(&t, 4, f, sizeof f);
    put_data(&t, 9, f, sizeof f);
    unreadable(t, RT_E_INVALID, "twice, in float_data and raw_data");
    t = three(RT_INT64);
    put_data(&t, 4, f, sizeof f);
    unreadable(t, RT_E_INVALID, "its elements are in float_data");
    t = three(RT_UINT8);
    put_packed(&t, 5, (const int64_t[]){ 1, 300, 2 }, 3);
    unreadable(t, RT_E_INVALID, "element 1 is no uint8");
    t = three(RT_INT64);
    put_data(&t, 7, "\x01\x02\xff", 3);
    unreadable(t, RT_E_INVALID, "int64_data has 2 elements");
    unreadable(three(RT_FLOAT), RT_E_INVALID, "has no data");
    unreadable(tensor("t", RT_FLOAT, 1, (const int64_t[]){ -1 }), RT_E_INVALID,
               "dimension 0 is -1");
    unreadable(tensor("t", RT_FLOAT, 2, (const int64_t[]){ 1 << 30, (int64_t)1 << 36 }), RT_E_LIMIT,
               "too large");
    unreadable(tensor("t", RT_STRING, 0, NULL), RT_E_UNSUPPORTED, "type string");
    unreadable(tensor("t", 0, 0, NULL), RT_E_INVALID, "0 is no element type");
    t = three(RT_FLOAT);
    put_data(&t, 3, "", 0);
    unreadable(t, RT_E_UNSUPPORTED, "segments");
    t = three(RT_FLOAT);
    put_int(&t, 14, 1);
    unreadable(t, RT_E_INVALID, "without a location");
    t = three(RT_FLOAT);
    put_int(&t, 9, 1);
    unreadable(t, RT_E_INVALID, "raw_data is encoded as another type");
}

static void does_not_copy_large_weights(void **state)
{
    (void)state;
    enum { COUNT = 1 << 20 };
    struct bytes g = graph_xy();
    float *w = calloc(COUNT, sizeof *w);
    put_message(&g, 5, raw_tensor("w", 1, COUNT, w, COUNT * sizeof *w));
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    struct bytes m = model(g);
    free(w);
    /* Elements lie somewhere in the file: try all places relative to their own alignment. */
    int in_place = 0;
    uint8_t *file = aligned_alloc(64, (m.len + 127) / 64 * 64);
    for (size_t shift = 0; shift < 4; shift++) {
        struct rt_graph *out;
        memcpy(file + shift, m.p, m.len);
        rt_mem_peak_reset();
        assert_int_equal(rt_import(file + shift, m.len, NULL, 0, &out, &err), RT_OK);
        in_place += rt_mem_peak() < COUNT * sizeof *w;
        assert_true(rt_mem_peak() < COUNT * sizeof *w + (1 << 20));
        rt_graph_destroy(out);
    }
    assert_int_equal(in_place, 1);
    free(file);
    free(m.p);
}

static void makes_sparse_tensors_dense(void **state)
{
    (void)state;
    static const float v[2] = { 5, 7 };
    struct bytes g = graph_xy(), sparse = { 0 };
    struct bytes indices = tensor("", RT_INT64, 2, (const int64_t[]){ 2, 2 });
    put_packed(&indices, 7, (const int64_t[]){ 0, 1, 1, 0 }, 4);
    put_message(&sparse, 1, raw_tensor("w", 1, 2, v, sizeof v));
    put_message(&sparse, 2, indices);
    put_packed(&sparse, 3, (const int64_t[]){ 2, 2 }, 2);
    put_message(&g, 15, sparse);
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    struct rt_graph *out;
    assert_int_equal(import(model(g), &out), RT_OK);
    const struct rt_value *w = &out->value[out->node[0].in[1]];
    assert_memory_equal(w->data, ((const float[]){ 0, 5, 7, 0 }), 16);
    rt_graph_destroy(out);
}

static void makes_constants_of_constants(void **state)
{
    (void)state;
    struct bytes g = graph_xy();
    put_message(&g, 1, node("Add", "a", "x,c", "y"));
    put_message(&g, 1, with_attr(node("Constant", "c", "", "c"), attr_float("value_float", 4)));
    struct rt_graph *out;
    assert_int_equal(import(model(g), &out), RT_OK);
    const struct rt_value *c = &out->value[out->node[0].in[1]];
    assert_true(c->constant && c->dtype == RT_FLOAT && c->shape.rank == 0);
    assert_true(*(const float *)c->data == 4);
    rt_graph_destroy(out);
    refused(model_of(node("Constant", "c", "", "y")), RT_E_INVALID, "must have one value, not 0");
}

/* --- external data ------------------------------------------------------------------------- */

static struct bytes external_tensor(struct bytes t, const char *location, const char *offset,
                                    const char *length)
{
    struct bytes g = graph_xy();
    const char *pairs[][2] = { { "location", location },
                               { "offset", offset },
                               { "length", length } };
    for (int i = 0; i < 3; i++) {
        struct bytes e = { 0 };
        put_text(&e, 1, pairs[i][0]);
        put_text(&e, 2, pairs[i][1]);
        if (pairs[i][1][0] != '\0')
            put_message(&t, 13, e);
        else
            free(e.p);
    }
    put_int(&t, 14, 1);
    put_message(&g, 5, t);
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    return model(g);
}

static struct bytes external_model(const char *location, const char *offset, const char *length)
{
    return external_tensor(tensor("w", 1, 1, (const int64_t[]){ 2 }), location, offset, length);
}

static void reads_external_data_from_its_folder_only(void **state)
{
    (void)state;
    static const struct {
        const char *location, *offset, *length, *text; /* text NULL: is read */
    } cases[] = {
        { "data.bin", "4", "8", NULL },
        { "./data.bin", "4", "", NULL },
        { "data.bin", "5", "8", "has 12 bytes, 13 are needed" },
        { "data.bin", "4", "4", "has 4 bytes, its shape asks for 8" },
        { "data.bin", "-1", "8", "offset is '-1'" },
        { "data.bin", "9223372036854775807", "8", "too large" },
        { "../data.bin", "", "", "not inside" },
        { "a/../../data.bin", "", "", "not inside" },
        { "/etc/passwd", "", "", "not inside" },
        { "link.bin", "4", "", "symbolic link" },
        { "none.bin", "", "", "cannot be opened" },
        { ".", "", "", "not a regular file" },
    };
    char folder[] = "/tmp/test_import_XXXXXX", path[64], link_path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/data.bin", folder);
    snprintf(link_path, sizeof link_path, "%s/link.bin", folder);
    static const float data[3] = { 1, 2, 3 };
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(data, sizeof data, 1, f), 1);
    fclose(f);
    assert_int_equal(symlink("data.bin", link_path), 0);
    const struct rt_options o = { .folder = folder };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes m = external_model(cases[i].location, cases[i].offset, cases[i].length);
        struct rt_graph *g = NULL;
        enum rt_status s = rt_import(m.p, m.len, &o, 0, &g, &err);
        if (cases[i].text == NULL) {
            assert_int_equal(s, RT_OK);
            assert_memory_equal(g->value[g->node[0].in[1]].data, data + 1, 8);
            rt_graph_destroy(g);
        } else if (s == RT_OK || strstr(err.text, cases[i].text) == NULL) {
            fail_msg("%s: status %d, '%s'", cases[i].location, s, err.text);
        }
        free(m.p);
    }
    unlink(path);
    unlink(link_path);
    rmdir(folder);
    refused(external_model("data.bin", "", ""), RT_E_INVALID, "came without a folder");
    struct bytes t = tensor("w", 1, 1, (const int64_t[]){ 2 });
    put_data(&t, 9, data, 8);
    refused(external_tensor(t, "data.bin", "", ""), RT_E_INVALID,
            "has external data and raw_data at once");
}

/* --- functions ----------------------------------------------------------------------------- */

static struct bytes reference(const char *name, const char *to, int type)
{
    struct bytes a = named(name);
    put_text(&a, 21, to);
    put_int(&a, 20, type);
    return a;
}

static void inlines_functions(void **state)
{
    (void)state;
    struct bytes f = function("F", "a,b", "c,a"), g = graph_xy();
    put_message(&f, 7, with_attr(node("LeakyRelu", "l", "a", "t"), reference("alpha", "slope", 1)));
    put_message(&f, 7, node("Relu", "r", "t", "c"));
    put_message(&f, 11, attr_float("slope", 0.5f));
    put_message(&g, 1, call("F", "one", "x", "p,q"));
    put_message(&g, 1, with_attr(call("F", "two", "p,q", "s"), attr_float("slope", 0.25f)));
    put_message(&g, 1, node("Add", "sum", "s,q", "y"));
    struct bytes m = model(g);
    put_message(&m, 25, f);
    struct rt_graph *out;
    if (import(m, &out) != RT_OK)
        fail_msg("%s", err.text);
    char *text = rt_graph_dump(out);
    assert_string_equal(text,
                        "one/l: LeakyRelu(x) -> t\none/r: Relu(t) -> p\nq: Identity(x) -> q\n"
                        "two/l: LeakyRelu(p) -> t\ntwo/r: Relu(t) -> s\nsum: Add(s, q) -> y\n");
    assert_true(rt_attr_float(&out->node[0], "alpha", 0) == 0.5f);
    assert_true(rt_attr_float(&out->node[3], "alpha", 0) == 0.25f);
    rt_free(text);
    rt_graph_destroy(out);
}

static void refuses_wrong_functions(void **state)
{
    (void)state;
    struct bytes m = model_of(call("F", "f", "x", "y")), f = function("F", "a", "c");
    put_message(&f, 7, call("F", "again", "a", "c"));
    put_message(&m, 25, f);
    refused(m, RT_E_INVALID, "calls itself");
    refused(doubling_model(40), RT_E_LIMIT, "the model");
    struct rt_graph *g;
    assert_int_equal(import(doubling_model(8), &g), RT_OK);
    assert_int_equal(g->n_nodes, 256);
    rt_graph_destroy(g);
    m = model_of(call("F", "f", "x,x", "y"));
    put_message(&m, 25, function("F", "a", "c"));
    refused(m, RT_E_INVALID, "has 2 inputs, the function takes 1");
    m = model_of(call("F", "f", "x", "y"));
    put_message(&m, 25, function("F", "a", "c"));
    refused(m, RT_E_INVALID, "nothing in the function makes 'c'");
    m = model_of(with_attr(call("F", "f", "x", "y"), attr_int("k", 1)));
    put_message(&m, 25, function("F", "a", "a"));
    refused(m, RT_E_INVALID, "the function has no attribute 'k'");
    m = model_of(relu());
    put_message(&m, 25, function("F", "a", "a"));
    put_message(&m, 25, function("F", "a", "a"));
    refused(m, RT_E_INVALID, "two functions 'F'");
    refused(model_of(with_attr(relu(), reference("a", "b", 1))), RT_E_INVALID,
            "not inside a function");
}

/* --- If ------------------------------------------------------------------------------------ */

static struct bytes branch(const char *op, const char *in)
{
    struct bytes g = { 0 };
    put_message(&g, 1, node(op, op, in, "result"));
    put_message(&g, 12, named("result"));
    return g;
}

/* if (cond) y = relu(x) else y = a + x, where a = neg(x) */
static struct bytes if_model(bool condition)
{
    struct bytes g = graph_xy(), cond = tensor("cond", RT_BOOL, 0, NULL);
    struct bytes n = node("If", "if", "cond", "y");
    put_data(&cond, 9, condition ? "\1" : "", 1);
    put_message(&g, 5, cond);
    n = with_attr(n, attr_message("then_branch", 6, 5, branch("Relu", "x")));
    n = with_attr(n, attr_message("else_branch", 6, 5, branch("Add", "a,x")));
    put_message(&g, 1, node("Neg", "neg", "x", "a"));
    put_message(&g, 1, n);
    return model(g);
}

static void inlines_the_branch_that_is_taken(void **state)
{
    (void)state;
    for (int taken = 0; taken < 2; taken++) {
        struct rt_graph *g;
        if (import(if_model(taken != 0), &g) != RT_OK)
            fail_msg("%s", err.text);
        int i = 0;
        while (!rt_can_inline_if(g, i))
            i++;
        assert_int_equal(g->node[i].n_in, 4); /* the condition, x; a, x */
        assert_int_equal(rt_inline_if(g, i, &err), RT_OK);
        assert_int_equal(rt_graph_tidy(g, &err), RT_OK);
        char *text = rt_graph_dump(g);
        assert_string_equal(text, taken ? "Relu: Relu(x) -> result\n"
                                        : "neg: Neg(x) -> a\nAdd: Add(a, x) -> result\n");
        rt_free(text);
        rt_graph_destroy(g);
    }
    struct bytes n = node("If", "if", "x", "y");
    refused(model_of(with_attr(n, attr_message("then_branch", 6, 5, branch("Relu", "x")))),
            RT_E_INVALID, "'else_branch' is missing");
}

/* --- the wire ------------------------------------------------------------------------------ */

static void bounds_depth_and_counts(void **state)
{
    (void)state;
    struct bytes g = graph_xy();
    for (int i = 0; i < 200; i++) {
        struct bytes outer = graph_xy();
        put_message(&outer, 1, with_attr(node("If", "", "x", "y"), attr_message("g", 6, 5, g)));
        g = outer;
    }
    refused(model(g), RT_E_LIMIT, "nested too deep");
    g = graph_xy();
    for (int i = 0; i < RT_WIRE_MAX_MESSAGES + 1; i++)
        put_message(&g, 1, (struct bytes){ 0 });
    refused(model(g), RT_E_LIMIT, "too many nodes");
}

static void knows_other_files(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        { "", "an empty file" },
        { "\xff\xd8\xff\xe0....", "a JPEG image" },
        { "\x89PNG\r\n\x1a\n", "a PNG image" },
        { "PK\x03\x04....", "a zip archive" },
        { "<html><body>404</body></html>", "an HTML or XML page" },
        { "version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer" },
        { "hello world, this is text\n", "a text file" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes m = { 0 };
        put_raw(&m, cases[i].bytes, strlen(cases[i].bytes));
        refused(m, RT_E_INVALID, cases[i].text);
    }
}

/* A model with something of everything, for breaking it. */
static struct bytes rich_model(void)
{
    static const float w[2] = { 1, 2 };
    struct bytes m = if_model(true), f = function("F", "a", "c"), g = graph_xy();
    put_message(&f, 7, with_attr(node("LeakyRelu", "l", "a", "c"), reference("alpha", "k", 1)));
    put_message(&f, 11, attr_float("k", 0.5f));
    put_message(&m, 25, f);
    /* A second graph is merged into the first. */
    struct bytes t = tensor("half", RT_FLOAT16, 1, (const int64_t[]){ 2 });
    put_packed(&t, 5, (const int64_t[]){ 15360, 16384 }, 2);
    free(g.p);
    g = (struct bytes){ 0 };
    put_message(&g, 5, t);
    put_message(&g, 5, raw_tensor("w", 1, 2, w, sizeof w));
    put_message(&g, 1, call("F", "f", "y", "z"));
    put_message(&g, 1, node("Add", "add", "z,w", "sum"));
    put_message(&g, 1, with_attr(node("Constant", "c", "", "c"), attr_int("value_int", 3)));
    put_message(&g, 1, node("Cast", "cast", "half", "h"));
    put_message(&g, 12, named("sum"));
    put_message(&m, 7, g);
    return m;
}

static void survives_broken_bytes(void **state)
{
    (void)state;
    struct bytes m = rich_model();
    struct rt_graph *g;
    uint8_t *copy = malloc(m.len);
    uint64_t random = 1;
    for (size_t len = 0; len < m.len; len++) {
        /* An exact copy, so that reading past the end is seen. */
        uint8_t *cut = malloc(len + 1);
        memcpy(cut, m.p, len);
        if (rt_import(cut, len, NULL, 0, &g, &err) == RT_OK)
            rt_graph_destroy(g);
        free(cut);
    }
    for (int i = 0; i < 5000; i++) {
        memcpy(copy, m.p, m.len);
        for (int k = 0; k <= i % 4; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            copy[(random >> 33) % m.len] ^= (uint8_t)(1u << (random >> 29 & 7));
        }
        enum rt_status s = rt_import(copy, m.len, NULL, (size_t)16 << 20, &g, &err);
        if (s == RT_OK)
            rt_graph_destroy(g);
        else
            assert_true(err.text[0] != '\0');
        assert_int_equal(rt_mem_live(), 0);
    }
    free(copy);
    free(m.p);
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    struct bytes m = if_model(true), f = function("F", "a", "c"), g = { 0 };
    put_message(&f, 7, node("Relu", "r", "a", "c"));
    put_message(&m, 25, f);
    put_message(&g, 1, call("F", "f", "y", "z"));
    put_message(&g, 12, named("z"));
    put_message(&m, 7, g);
    enum rt_status s;
    long after = 0;
    do {
        struct rt_graph *out = NULL;
        rt_mem_fail(after);
        s = rt_import(m.p, m.len, NULL, 0, &out, &err);
        rt_mem_fail(-1);
        if (s == RT_OK)
            rt_graph_destroy(out);
        else if (s != RT_E_NOMEM)
            fail_msg("allocation %ld: %s, %s", after, rt_status_name(s), err.text);
        assert_int_equal(rt_mem_live(), 0);
        after++;
    } while (s != RT_OK);
    assert_true(after > 4);
    free(m.p);
}

static void keeps_the_memory_limit(void **state)
{
    (void)state;
    struct bytes g = graph_xy(), t = tensor("w", RT_INT64, 1, (const int64_t[]){ 1 << 16 });
    uint8_t *ones = malloc(1 << 16);
    memset(ones, 1, 1 << 16);
    put_data(&t, 7, ones, 1 << 16); /* a byte in the file, eight in memory */
    free(ones);
    put_message(&g, 5, t);
    struct bytes m = model(g);
    struct rt_graph *out = NULL;
    rt_mem_peak_reset();
    assert_int_equal(rt_import(m.p, m.len, NULL, 1 << 18, &out, &err), RT_E_LIMIT);
    assert_true(rt_mem_peak() < 1 << 19);
    free(m.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_the_file_says),
        cmocka_unit_test(sorts_nodes),
        cmocka_unit_test(takes_an_initializer_for_its_input),
        cmocka_unit_test(refuses_wrong_versions),
        cmocka_unit_test(files_before_opsets_have_the_first),
        cmocka_unit_test(refuses_wrong_names),
        cmocka_unit_test(refuses_wrong_counts),
        cmocka_unit_test(lists_all_that_is_not_supported),
        cmocka_unit_test(checks_attributes),
        cmocka_unit_test(refuses_wrong_inputs),
        cmocka_unit_test(reads_every_encoding),
        cmocka_unit_test(refuses_wrong_tensors),
        cmocka_unit_test(does_not_copy_large_weights),
        cmocka_unit_test(makes_sparse_tensors_dense),
        cmocka_unit_test(makes_constants_of_constants),
        cmocka_unit_test(reads_external_data_from_its_folder_only),
        cmocka_unit_test(inlines_functions),
        cmocka_unit_test(refuses_wrong_functions),
        cmocka_unit_test(inlines_the_branch_that_is_taken),
        cmocka_unit_test(bounds_depth_and_counts),
        cmocka_unit_test(knows_other_files),
        cmocka_unit_test(survives_broken_bytes),
        cmocka_unit_test(survives_failing_allocations),
        cmocka_unit_test(keeps_the_memory_limit),
    };
    return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
