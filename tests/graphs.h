/* Small graphs for tests, made in a few lines. A test program includes this once. */
#ifndef TESTS_GRAPHS_H
#define TESTS_GRAPHS_H

#include "runtime/graph.h"
#include "runtime/ops/op.h"
#include "runtime/passes/pass.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define SHAPE(...)                                                                                \
    rt_shape_of((int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),                      \
                (int64_t[]){ __VA_ARGS__ })
#define N RT_BATCH

static inline struct rt_graph *new_graph(void)
{
    struct rt_graph *g = rt_graph_create(0);
    assert_non_null(g);
    g->opset = 17;
    g->batched = true;
    g->input = rt_graph_alloc(g, 8, sizeof *g->input);
    g->output = rt_graph_alloc(g, 8, sizeof *g->output);
    return g;
}

static inline int add_input(struct rt_graph *g, const char *name, struct rt_shape shape)
{
    int v = rt_graph_add_typed(g, RT_FLOAT, &shape);
    g->value[v].name = name;
    g->value[v].is_input = true;
    g->input[g->n_inputs++] = v;
    return v;
}

/* Not tidy yet: what later nodes read must not be dropped. */
static inline void set_output(struct rt_graph *g, int v)
{
    g->output[g->n_outputs++] = v;
}

static inline void tidy(struct rt_graph *g)
{
    struct rt_error err = { .text = "" };
    if (rt_graph_tidy(g, &err) != RT_OK)
        fail_msg("%s", err.text);
}

/* A float constant whose elements run from first in steps of step. */
static inline int add_floats(struct rt_graph *g, struct rt_shape shape, float first, float step)
{
    float *data;
    int v = rt_graph_add_floats(g, &shape, &data);
    assert_true(v >= 0);
    for (int64_t i = 0; i < rt_shape_numel(&shape); i++)
        data[i] = first + step * (float)i;
    return v;
}

static inline int add_ints(struct rt_graph *g, int n, const int64_t *ints)
{
    int64_t *data = rt_graph_alloc_bulk(g, (size_t)n, sizeof *data);
    memcpy(data, ints, (size_t)n * sizeof *data);
    struct rt_tensor t = { RT_INT64, SHAPE(n), data };
    return rt_graph_add_const(g, NULL, &t);
}

/* Node name: op on in[0..n_in) with one output of that name, which is returned. */
static inline int add_node(struct rt_graph *g, const char *op, const char *name, int n_in,
                           const int *in)
{
    const struct rt_op *o = rt_op_find("", op);
    if (o == NULL)
        o = rt_op_find("ai.convd", op);
    if (o == NULL)
        fail_msg("there is no operator %s", op);
    int node = rt_graph_add_node(g, o, name, n_in, 1);
    int out = rt_graph_add_value(g, name);
    assert_true(node >= 0 && out >= 0);
    for (int k = 0; k < n_in; k++)
        g->node[node].in[k] = in[k];
    g->node[node].out[0] = out;
    g->value[out].producer = node;
    return out;
}
#define NODE(g, op, name, ...)                                                                    \
    add_node(g, op, name, (int)(sizeof((int[]){ __VA_ARGS__ }) / sizeof(int)),                    \
             (int[]){ __VA_ARGS__ })

static inline struct rt_attr *add_attr(struct rt_graph *g, int value, const char *name)
{
    struct rt_node *n = &g->node[g->value[value].producer];
    struct rt_attr *a = rt_graph_alloc(g, (size_t)n->n_attr + 1, sizeof *a);
    if (n->n_attr > 0)
        memcpy(a, n->attr, (size_t)n->n_attr * sizeof *a);
    n->attr = a;
    a[n->n_attr].name = name;
    return &a[n->n_attr++];
}

static inline void attr_ints(struct rt_graph *g, int value, const char *name, int n,
                             const int64_t *ints)
{
    struct rt_attr *a = add_attr(g, value, name);
    int64_t *copy = rt_graph_alloc(g, (size_t)n, sizeof *copy);
    memcpy(copy, ints, (size_t)n * sizeof *copy);
    a->type = RT_ATTR_INTS;
    a->n = n;
    a->ints = copy;
}

static inline void attr_int(struct rt_graph *g, int value, const char *name, int64_t i)
{
    struct rt_attr *a = add_attr(g, value, name);
    a->type = RT_ATTR_INT;
    a->i = i;
}

/* A batch norm of c channels on x with statistics that no two channels share. */
static inline int add_batchnorm(struct rt_graph *g, const char *name, int x, int64_t c)
{
    return NODE(g, "BatchNormalization", name, x, add_floats(g, SHAPE(c), 1.0f, 0.125f),
                add_floats(g, SHAPE(c), -0.5f, 0.25f), add_floats(g, SHAPE(c), 0.1f, 0.3f),
                add_floats(g, SHAPE(c), 0.5f, 0.5f));
}

/* A 3x3 (or 1x1) convolution from c to m channels with bias. */
static inline int add_conv(struct rt_graph *g, const char *name, int x, int64_t c, int64_t m,
                           int64_t k, int64_t pad)
{
    int v = NODE(g, "Conv", name, x, add_floats(g, SHAPE(m, c, k, k), -0.2f, 0.01f),
                 add_floats(g, SHAPE(m), 0.1f, 0.2f));
    attr_ints(g, v, "pads", 4, (int64_t[]){ pad, pad, pad, pad });
    return v;
}

/* What the passes make of g, as text; ended by rt_free(). */
static inline char *after_passes(struct rt_graph *g)
{
    static const struct rt_options options;
    struct rt_error err = { .text = "" };
    tidy(g);
    if (rt_passes_run(g, &options, 1, &err) != RT_OK)
        fail_msg("%s", err.text);
    char *text = rt_graph_dump(g);
    assert_non_null(text);
    return text;
}

static inline void expect_dump(struct rt_graph *g, const char *expected)
{
    char *text = after_passes(g);
    assert_string_equal(text, expected);
    rt_free(text);
}

#endif
