/* Model files that are imported, or refused for a reason. A test program includes this once. */
#ifndef TESTS_IMPORTING_H
#define TESTS_IMPORTING_H

#include "tests/onnx_bytes.h"

#include "runtime/import.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct rt_error err;

/* Imports the model and frees its bytes; for graphs whose constants are not looked at. */
static inline enum rt_status import(struct bytes m, struct rt_graph **g)
{
    err = (struct rt_error){ .text = "" };
    enum rt_status s = rt_import(m.p, m.len, NULL, (size_t)64 << 20, g, &err);
    free(m.p);
    return s;
}

static inline void refused(struct bytes m, enum rt_status want, const char *part)
{
    struct rt_graph *g = NULL;
    enum rt_status s = import(m, &g);
    if (s != want || strstr(err.text, part) == NULL)
        fail_msg("status %s, text '%s'; wanted %s, '%s'", rt_status_name(s), err.text,
                 rt_status_name(want), part);
    assert_null(g);
    assert_int_equal(rt_mem_live(), 0);
}

/* x -> the node -> y */
static inline struct bytes model_of(struct bytes n)
{
    struct bytes g = graph_xy();
    put_message(&g, 1, n);
    return model(g);
}

static inline struct bytes relu(void)
{
    return node("Relu", "r", "x", "y");
}

/* A function of the domain "my", and a call of it. */
static inline struct bytes function(const char *name, const char *in, const char *out)
{
    struct bytes f = { 0 };
    put_text(&f, 1, name);
    put_names(&f, 4, in);
    put_names(&f, 5, out);
    put_text(&f, 10, "my");
    put_message(&f, 9, opset("", 17));
    put_message(&f, 9, opset("my", 1));
    return f;
}

static inline struct bytes call(const char *op, const char *name, const char *in, const char *out)
{
    struct bytes n = node(op, name, in, out);
    put_text(&n, 7, "my");
    return n;
}

/* f0 calls f1 twice, f1 calls f2 twice ... */
static inline struct bytes doubling_model(int levels)
{
    struct bytes g = graph_xy();
    put_message(&g, 1, call("f0", "f", "x", "y"));
    struct bytes m = model(g);
    for (int i = 0; i < levels; i++) {
        char name[16], next[16];
        snprintf(name, sizeof name, "f%d", i);
        snprintf(next, sizeof next, "f%d", i + 1);
        struct bytes f = function(name, "a", "c");
        bool leaf = i == levels - 1;
        put_message(&f, 7, leaf ? node("Relu", "", "a", "b") : call(next, "", "a", "b"));
        put_message(&f, 7, leaf ? node("Relu", "", "b", "c") : call(next, "", "b", "c"));
        put_message(&m, 25, f);
    }
    return m;
}

#endif
