/* Files that are refused for what few files have: too much of something, or a part in a form that
 * nobody writes. */
#include "tests/importing.h"

#include "runtime/wire.h"

/* Without a limit on the graph's memory, so that another one is met. */
static void over(struct bytes m, const char *part)
{
    struct rt_graph *g = NULL;
    err = (struct rt_error){ .text = "" };
    enum rt_status s = rt_import(m.p, m.len, NULL, 0, &g, &err);
    free(m.p);
    if (s != RT_E_LIMIT || strstr(err.text, part) == NULL)
        fail_msg("status %s, text '%s'; wanted '%s'", rt_status_name(s), err.text, part);
    assert_int_equal(rt_mem_live(), 0);
}

static void bounds_attributes(void **state)
{
    (void)state;
    struct bytes n = relu();
    for (int i = 0; i < 1001; i++)
        n = with_attr(n, attr_int("a", i));
    refused(model_of(n), RT_E_LIMIT, "node 'r' (Relu) has 1001 attributes");
}

static void bounds_calls(void **state)
{
    (void)state;
    over(doubling_model(40), "too many nodes once functions are inlined");
    struct bytes m = model_of(call("f0", "f", "x", "y"));
    for (int i = 0; i < 110; i++) {
        char name[16], next[16];
        snprintf(name, sizeof name, "f%d", i);
        snprintf(next, sizeof next, "f%d", i + 1);
        struct bytes f = function(name, "a", "c");
        put_message(&f, 7, i < 109 ? call(next, "", "a", "c") : node("Relu", "", "a", "c"));
        put_message(&m, 25, f);
    }
    over(m, "calls and branches are nested too deep");
}

static void bounds_names(void **state)
{
    (void)state;
    char name[600] = "";
    memset(name, 'f', sizeof name - 1);
    struct bytes m = model_of(relu());
    put_message(&m, 25, function(name, "a", "a"));
    refused(m, RT_E_LIMIT, "the name of function 0 is too long");
    char *text = malloc(RT_WIRE_MAX_SKELETON + 1);
    memset(text, 'n', RT_WIRE_MAX_SKELETON);
    text[RT_WIRE_MAX_SKELETON] = '\0';
    over(model_of(node("Relu", text, "x", "y")), "take more than 64 MiB");
    free(text);
}

static void refuses_wrong_calls(void **state)
{
    (void)state;
    struct bytes f = function("F", "a", "a"),
                 m = model_of(
                     with_attr(call("F", "f", "x", "y"), attr_message("k", 6, 5, graph_xy())));
    put_text(&f, 6, "k");
    put_message(&m, 25, f);
    refused(m, RT_E_UNSUPPORTED, "attribute 'k' is a graph");
    m = model_of(call("F", "f", "x", "y,z"));
    put_message(&m, 25, function("F", "a", "a"));
    refused(m, RT_E_INVALID, "has 2 outputs, the function makes 1");
}

/* x + w, where w is that sparse tensor. */
static struct bytes sparse_model(struct bytes sparse)
{
    struct bytes g = graph_xy();
    put_message(&g, 15, sparse);
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    return model(g);
}

static struct bytes sparse(int64_t index, int64_t n_indices, int64_t size)
{
    static const float v[2] = { 5, 7 };
    struct bytes b = { 0 }, indices = tensor("", RT_INT64, 1, &n_indices);
    const int64_t at[] = { index, index, index };
    put_packed(&indices, 7, at, (size_t)n_indices);
    put_message(&b, 1, raw_tensor("w", 1, 2, v, sizeof v));
    put_message(&b, 2, indices);
    put_packed(&b, 3, (const int64_t[]){ size, size }, 2);
    return b;
}

static void refuses_wrong_sparse_tensors(void **state)
{
    (void)state;
    static const float v[2] = { 5, 7 };
    struct bytes b = { 0 };
    put_message(&b, 2, tensor("", RT_INT64, 1, (const int64_t[]){ 0 }));
    refused(sparse_model(b), RT_E_INVALID, "sparse initializer 0 has no name");
    b = (struct bytes){ 0 };
    put_message(&b, 1, raw_tensor("w", 1, 2, v, sizeof v));
    refused(sparse_model(b), RT_E_INVALID, "a sparse tensor without values or indices");
    refused(sparse_model(sparse(0, 3, 2)), RT_E_INVALID,
            "indices and values of the sparse tensor do not fit");
    refused(sparse_model(sparse(0, 2, INT64_C(1) << 31)), RT_E_LIMIT,
            "the product of its dimensions is too large");
    refused(sparse_model(sparse(4, 2, 2)), RT_E_INVALID, "index 0 of the sparse tensor is outside");
}

static void refuses_wrong_elements(void **state)
{
    (void)state;
    struct bytes g = graph_xy(), t = tensor("w", RT_INT32, 1, (const int64_t[]){ 2 });
    put_data(&t, 5, "\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 12); /* 77 bits */
    put_message(&g, 5, t);
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    refused(model(g), RT_E_INVALID, "element 1 is cut off or too long");
    g = graph_xy();
    t = tensor("w", RT_INT32, 1, (const int64_t[]){ 0 });
    put_int(&t, 14, 7);
    put_message(&g, 5, t);
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    refused(model(g), RT_E_INVALID, "7 is no data location");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_attributes),
        cmocka_unit_test(bounds_calls),
        cmocka_unit_test(bounds_names),
        cmocka_unit_test(refuses_wrong_calls),
        cmocka_unit_test(refuses_wrong_sparse_tensors),
        cmocka_unit_test(refuses_wrong_elements),
    };
    return cmocka_run_group_tests_name("import's bounds", tests, NULL, NULL);
}
