/* The graph: order, dead nodes, cycles, replacing, cloning, dumping. */
#include "tests/graphs.h"

static void chain(struct rt_graph *g, bool reversed)
{
    int x = add_input(g, "x", SHAPE(N, 4));
    if (!reversed) {
        int a = NODE(g, "Relu", "a", x);
        set_output(g, NODE(g, "Relu", "b", a));
        return;
    }
    int b = NODE(g, "Relu", "b", x);
    int a = NODE(g, "Relu", "a", x);
    g->node[g->value[b].producer].in[0] = a;
    set_output(g, b);
}

static void tidy_sorts(void **state)
{
    (void)state;
    for (int reversed = 0; reversed < 2; reversed++) {
        struct rt_graph *g = new_graph();
        chain(g, reversed);
        tidy(g);
        char *text = rt_graph_dump(g);
        assert_string_equal(text, "a: Relu(x) -> a\nb: Relu(a) -> b\n");
        rt_free(text);
        rt_graph_destroy(g);
    }
}

static void tidy_drops_what_nobody_reads(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4));
    int unread = NODE(g, "Relu", "unread", NODE(g, "Relu", "before it", x));
    (void)unread;
    set_output(g, NODE(g, "Relu", "y", x));
    tidy(g);
    assert_int_equal(g->n_nodes, 1);
    assert_string_equal(g->node[0].name, "y");
    rt_graph_destroy(g);
}

static void tidy_finds_cycles(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4));
    int a = NODE(g, "Add", "a", x, x);
    int b = NODE(g, "Add", "b", a, x);
    g->node[g->value[a].producer].in[1] = b;
    set_output(g, b);
    struct rt_error err = { .text = "" };
    assert_int_equal(rt_graph_tidy(g, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "cycle"));
    rt_graph_destroy(g);
}

static void replace_moves_readers_and_outputs(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4));
    int a = NODE(g, "Relu", "a", x), b = NODE(g, "Relu", "b", x);
    set_output(g, a);
    set_output(g, NODE(g, "Add", "c", a, b));
    tidy(g);
    rt_graph_replace(g, a, b);
    struct rt_error err = { .text = "" };
    assert_int_equal(rt_graph_tidy(g, &err), RT_OK);
    assert_int_equal(rt_graph_verify(g, &err), RT_OK);
    assert_int_equal(g->output[0], b);
    assert_int_equal(g->value[b].uses, 3);
    assert_int_equal(g->n_nodes, 2);
    rt_graph_destroy(g);
}

static void verify_refuses_two_batch_axes(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    set_output(g, NODE(g, "Relu", "y", add_input(g, "x", SHAPE(N, N))));
    tidy(g);
    struct rt_error err = { .text = "" };
    assert_int_equal(rt_graph_verify(g, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "twice"));
    rt_graph_destroy(g);
}

static void build_and_clone(void)
{
    struct rt_graph *g = rt_graph_create(0);
    if (g == NULL)
        return;
    struct rt_shape shape = SHAPE(64);
    float *data;
    struct rt_graph *copy = NULL;
    int node = rt_graph_add_node(g, rt_op_find("", "Relu"), "relu", 1, 1);
    if (node >= 0 && rt_graph_add_floats(g, &shape, &data) >= 0)
        copy = rt_graph_clone(g, 0);
    rt_graph_destroy(copy);
    rt_graph_destroy(g);
}

static void allocation_failures_leave_nothing(void **state)
{
    (void)state;
    long live = rt_mem_live();
    for (long after = 0; after < 16; after++) {
        rt_mem_fail(after);
        build_and_clone();
        rt_mem_fail(-1);
        assert_int_equal(rt_mem_live(), live);
    }
}

static void limits_are_kept(void **state)
{
    (void)state;
    struct rt_graph *g = rt_graph_create(1 << 20);
    struct rt_shape shape = SHAPE(1 << 20);
    float *data;
    assert_int_equal(rt_graph_add_floats(g, &shape, &data), -1);
    struct rt_error err = { .text = "" };
    assert_int_equal(rt_graph_nomem(g, &err), RT_E_LIMIT);
    rt_graph_destroy(g);
}

static void batch_dimensions(void **state)
{
    (void)state;
    struct rt_shape s = SHAPE(3 * N, 5);
    struct rt_shape at = rt_shape_at(&s, 7);
    assert_int_equal(at.dim[0], 21);
    assert_int_equal(at.dim[1], 5);
    assert_int_equal(rt_shape_batch_axis(&s), 0);
    assert_int_equal(rt_shape_batch_axis(&at), -1);
}

/* A graph that is right, then broken in each way that verify looks for. */
static void verify_finds_what_is_broken(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "has rank 9",
        "has shape",
        "has the batch twice",
        "is dead after tidying",
        "reads value 99 of",
        "before it is made",
        "which nothing makes",
        "is not the producer",
        "step 0 has no operand",
        "constant 'b' has a producer",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct rt_graph *g = new_graph();
        struct rt_error err = { .text = "" };
        chain(g, false);
        tidy(g);
        const int x = g->input[0], b = g->output[0], a = g->node[1].in[0];
        g->value[x].inferred = true;
        assert_int_equal(rt_graph_verify(g, &err), RT_OK);
        switch (i) {
        case 0:
            g->value[x].shape.rank = 9;
            break;
        case 1:
            g->value[x].shape.dim[1] = -4;
            break;
        case 2:
            g->value[x].shape.dim[1] = N;
            break;
        case 3:
            g->node[0].op = NULL;
            break;
        case 4:
            g->node[0].in[0] = 99;
            break;
        case 5:
            g->node[0].in[0] = b;
            break;
        case 6:
            g->value[x].is_input = false;
            break;
        case 7:
            g->value[a].producer = -1;
            g->value[a].is_input = true;
            break;
        case 8:
            g->node[1].step[0].arg = 7;
            g->node[1].n_steps = 1;
            break;
        default:
            g->value[b].constant = true;
            break;
        }
        assert_int_equal(rt_graph_verify(g, &err), RT_E_INVALID);
        if (strstr(err.text, parts[i]) == NULL)
            fail_msg("'%s', wanted '%s'", err.text, parts[i]);
        rt_graph_destroy(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tidy_sorts),
        cmocka_unit_test(tidy_drops_what_nobody_reads),
        cmocka_unit_test(tidy_finds_cycles),
        cmocka_unit_test(verify_finds_what_is_broken),
        cmocka_unit_test(replace_moves_readers_and_outputs),
        cmocka_unit_test(verify_refuses_two_batch_axes),
        cmocka_unit_test(allocation_failures_leave_nothing),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(batch_dimensions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
