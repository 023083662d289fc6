/* Memory that runs out at every single place of compiling and running a model: networks that have
 * each algorithm there is for reals, the ways to run what has no fixed sizes, and a refusal. Those
 * on bytes are in test_integers.c. */
#include "tests/starving.h"

#include <fcntl.h>
#include <unistd.h>

#define SIDE 12
#define CHANNELS 32 /* two blocks at the widest level */

enum { FLOAT = 1 };

/* A network being written; value v0 is its input, v1 what the first node made, ... */
struct net {
    struct bytes graph;
    int made, constants;
};

struct name {
    char text[32];
};

static struct name value_of(int i)
{
    struct name s;
    snprintf(s.text, sizeof s.text, "v%d", i);
    return s;
}

static struct name reals(struct net *n, size_t rank, const int64_t *dims)
{
    struct name s;
    size_t len = 1;
    snprintf(s.text, sizeof s.text, "c%d", n->constants++);
    for (size_t i = 0; i < rank; i++)
        len *= (size_t)dims[i];
    float *f = malloc(len * sizeof *f);
    assert_non_null(f);
    for (size_t i = 0; i < len; i++)
        f[i] = 0.01f * (float)(1 + i % 7);
    struct bytes t = tensor(s.text, FLOAT, rank, dims);
    put_data(&t, 9, f, len * sizeof *f);
    free(f);
    put_message(&n->graph, 5, t);
    return s;
}

#define REALS(n, ...)                                                                              \
    reals(n, sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t), (int64_t[]){ __VA_ARGS__ })

/* Node op of inputs separated by commas; attributes are added by the caller. */
static struct bytes op(const char *type, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static struct bytes op(const char *type, const char *fmt, ...)
{
    char in[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(in, sizeof in, fmt, ap);
    va_end(ap);
    return node(type, "", in, "");
}

static struct name put_node(struct net *n, struct bytes node)
{
    const struct name y = value_of(++n->made);
    put_text(&node, 2, y.text);
    put_message(&n->graph, 1, node);
    return y;
}

static struct name conv(struct net *n, struct name x, int64_t kernel, int64_t groups)
{
    const struct name w = REALS(n, CHANNELS, CHANNELS / groups, kernel, kernel);
    const int64_t p = kernel / 2;
    struct bytes c = op("Conv", "%s,%s", x.text, w.text);
    c = with_attr(c, attr_int("group", groups));
    return put_node(n, with_ints(c, "pads", 4, (const int64_t[]){ p, p, p, p }));
}

static struct name norm(struct net *n, struct name x)
{
    return put_node(n,
                    op("BatchNormalization", "%s,%s,%s,%s,%s", x.text, REALS(n, CHANNELS).text,
                       REALS(n, CHANNELS).text, REALS(n, CHANNELS).text, REALS(n, CHANNELS).text));
}

static struct name pool(struct net *n, const char *type, struct name x)
{
    return put_node(
        n, with_ints(op(type, "%s", x.text), "kernel_shape", 2, (const int64_t[]){ 2, 2 }));
}

static struct bytes ended(struct net *n, struct name y)
{
    put_message(&n->graph, 12, named(y.text));
    return model(n->graph);
}

static void test_convolutions(void **state)
{
    (void)state;
    struct net n = { .made = 0 };
    put_message(&n.graph, 11, value("v0", FLOAT, 4, (const int64_t[]){ -1, CHANNELS, SIDE, SIDE }));
    struct name x = conv(&n, value_of(0), 3, 1);
    x = put_node(&n, op("Relu", "%s", x.text));
    struct name y = conv(&n, conv(&n, conv(&n, x, 3, 8), 3, CHANNELS), 1, 1);
    y = norm(&n, put_node(&n, op("Add", "%s,%s", x.text, y.text)));
    y = conv(&n, put_node(&n, op("Relu", "%s", y.text)), 3, 1);
    y = pool(&n, "AveragePool", pool(&n, "MaxPool", norm(&n, y)));
    y = put_node(&n,
                 op("ConvTranspose", "%s,%s", y.text, REALS(&n, CHANNELS, CHANNELS, 2, 2).text));
    y = put_node(&n, op("GlobalAveragePool", "%s", y.text));
    y = put_node(&n, op("Flatten", "%s", y.text));
    y = put_node(&n, op("MatMul", "%s,%s", y.text, REALS(&n, CHANNELS, 11).text));
    y = put_node(&n, op("Softmax", "%s", y.text));
    struct bytes file = ended(&n, y);
    float *feed = calloc(CHANNELS * SIDE * SIDE, sizeof *feed);
    assert_non_null(feed);
    const struct rt_tensor in = { RT_FLOAT, { 4, { 1, CHANNELS, SIDE, SIDE } }, feed };
    static const struct rt_options exact = { .exact = true }, node_by_node = { .any_shape = true };
    starve(&(struct starving){ .what = "convolutions", .file = &file, .in = &in });
    starve(&(struct starving){
        .what = "convolutions, exact", .file = &file, .in = &in, .options = &exact });
    starve(&(struct starving){
        .what = "convolutions, node by node", .file = &file, .in = &in, .options = &node_by_node });
    free(feed);
    free(file.p);
}

static void test_products(void **state)
{
    (void)state;
    struct net n = { .made = 0 };
    put_message(&n.graph, 11, value("v0", FLOAT, 3, (const int64_t[]){ -1, 4, 6 }));
    struct name turned =
        put_node(&n, with_ints(op("Transpose", "v0"), "perm", 3, (const int64_t[]){ 0, 2, 1 }));
    struct name y = put_node(&n, op("MatMul", "v0,%s", turned.text));
    y = put_node(&n, op("MatMul", "%s,%s", y.text, REALS(&n, 4, 5).text));
    struct bytes file = ended(&n, y);
    float feed[4 * 6] = { 1 };
    const struct rt_tensor in = { RT_FLOAT, { 3, { 1, 4, 6 } }, feed };
    starve(&(struct starving){ .what = "products", .file = &file, .in = &in });
    free(file.p);
}

/* Sides that are free: a program is made for those that come, from bytes that were kept. */
static void test_free_sizes(void **state)
{
    (void)state;
    struct net n = { .made = 0 };
    put_message(&n.graph, 11, value("v0", FLOAT, 4, (const int64_t[]){ -1, CHANNELS, -1, -1 }));
    struct bytes file = ended(&n, norm(&n, conv(&n, value_of(0), 3, 1)));
    float *feed = calloc(CHANNELS * 5 * 7, sizeof *feed);
    assert_non_null(feed);
    const struct rt_tensor in = { RT_FLOAT, { 4, { 1, CHANNELS, 5, 7 } }, feed };
    starve(&(struct starving){ .what = "free sizes", .file = &file, .in = &in });
    free(feed);
    free(file.p);
}

/* All nodes that are refused are named, which takes a graph of its own. */
static void test_refusal(void **state)
{
    (void)state;
    struct net n = { .made = 0 };
    put_message(&n.graph, 11, value("v0", FLOAT, 2, (const int64_t[]){ -1, 4 }));
    struct name y = put_node(&n, op("Relu", "v0"));
    y = put_node(&n, op("RandomNormalLike", "%s", y.text));
    y = put_node(&n, op("Add", "%s,%s", y.text, REALS(&n, 4).text));
    y = put_node(&n, op("RandomUniformLike", "%s", y.text));
    struct bytes file = ended(&n, y);
    starve(&(struct starving){ .what = "refusal", .file = &file, .wanted = RT_E_UNSUPPORTED });
    free(file.p);
}

/* What convd tune measured comes from a file, or as a text. */
static void test_tuned(void **state)
{
    (void)state;
    static const char text[] = "convd tuning 1\nisa none\nmodel 0123456789abcdef\n";
    char path[] = "/tmp/convd-test-XXXXXX", tune[sizeof path + 5];
    struct net n = { .made = 0 };
    put_message(&n.graph, 11, value("v0", FLOAT, 4, (const int64_t[]){ -1, CHANNELS, SIDE, SIDE }));
    struct bytes file = ended(&n, conv(&n, value_of(0), 3, 1));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, file.p, file.len), file.len);
    close(fd);
    snprintf(tune, sizeof tune, "%s.tune", path);
    fd = open(tune, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    starve(&(struct starving){ .what = "a tuned file", .path = path });
    starve(&(struct starving){
        .what = "a tuned text", .file = &file, .options = &(struct rt_options){ .tuning = text } });
    unlink(tune);
    unlink(path);
    free(file.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions), cmocka_unit_test(test_products),
        cmocka_unit_test(test_free_sizes),   cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_tuned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
