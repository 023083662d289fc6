/* What the passes make of small graphs: where batch norms go, what fuses, what is left alone. */
#include "tests/graphs.h"

static void after_conv(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 3, 8, 8));
    int conv = add_conv(g, "conv", x, 3, 4, 3, 1);
    set_output(g, NODE(g, "Relu", "y", add_batchnorm(g, "bn", conv, 4)));
    expect_dump(g, "conv: Conv(x, %10, %11) -> y[N,4,8,8] {Relu}\n");
    assert_int_equal(g->n_batchnorms, 1);
    assert_int_equal(g->batchnorm[0].fate, RT_BN_FOLDED_BACK);
    assert_string_equal(g->batchnorm[0].into, "conv");
    assert_string_equal(g->batchnorm[0].placement, "Conv -> BatchNormalization -> Relu");
    rt_graph_destroy(g);
}

static void two_in_a_row(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int conv = add_conv(g, "conv", add_input(g, "x", SHAPE(N, 3, 8, 8)), 3, 4, 3, 1);
    int bn = add_batchnorm(g, "first", conv, 4);
    set_output(g, add_batchnorm(g, "second", bn, 4));
    char *text = after_passes(g);
    assert_int_equal(g->n_nodes, 1);
    assert_int_equal(g->batchnorm[0].fate, RT_BN_FOLDED_BACK);
    assert_int_equal(g->batchnorm[1].fate, RT_BN_FOLDED_BACK);
    rt_free(text);
    rt_graph_destroy(g);
}

static void before_conv(int64_t pad, int nodes, enum rt_batchnorm_fate fate)
{
    struct rt_graph *g = new_graph();
    int bn = add_batchnorm(g, "bn", add_input(g, "x", SHAPE(N, 3, 8, 8)), 3);
    set_output(g, add_conv(g, "conv", bn, 3, 4, 3, pad));
    char *text = after_passes(g);
    assert_int_equal(g->n_nodes, nodes);
    assert_int_equal(g->batchnorm[0].fate, fate);
    rt_free(text);
    rt_graph_destroy(g);
}

/* Zeros that are padded after the batch norm are not what it makes of zeros. */
static void forward_only_without_padding(void **state)
{
    (void)state;
    before_conv(0, 1, RT_BN_FOLDED_FORWARD);
    before_conv(1, 2, RT_BN_STANDALONE);
}

static void producer_with_other_readers(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int conv = add_conv(g, "conv", add_input(g, "x", SHAPE(N, 3, 8, 8)), 3, 4, 3, 1);
    int bn = add_batchnorm(g, "bn", conv, 4);
    set_output(g, conv);
    set_output(g, NODE(g, "Relu", "y", bn));
    char *text = after_passes(g);
    assert_string_equal(text, "conv: Conv(x, %1, %2) -> conv[N,4,8,8]\n"
                              "bn: ChannelAffine(conv, %10, %11) -> y[N,4,8,8] {Relu}\n");
    assert_int_equal(g->batchnorm[0].fate, RT_BN_STANDALONE);
    assert_non_null(strstr(g->batchnorm[0].why, "other readers"));
    rt_free(text);
    rt_graph_destroy(g);
}

static void dropout(float ratio, const char *left)
{
    struct rt_graph *g = new_graph();
    struct rt_tensor training = { .dtype = RT_BOOL, .shape = SHAPE(1), .data = &(bool){ true } };
    int x = add_input(g, "x", SHAPE(N, 4));
    int drop = NODE(g, "Dropout", "drop", NODE(g, "Relu", "relu", x),
                    add_floats(g, SHAPE(1), ratio, 0), rt_graph_add_const(g, NULL, &training));
    set_output(g, NODE(g, "Neg", "y", drop));
    expect_dump(g, left);
    rt_graph_destroy(g);
}

/* In training mode too, if nothing is to be dropped. */
static void dropout_of_nothing(void **state)
{
    (void)state;
    dropout(0, "relu: Relu(x) -> relu[N,4]\ny: Neg(relu) -> y[N,4]\n");
    dropout(0.5f, "relu: Relu(x) -> relu[N,4]\n"
                  "drop: Dropout(relu, %2, %3) -> drop[N,4]\ny: Neg(drop) -> y[N,4]\n");
}

/* conv -> relu -> bn: behind the activation it can only be a step. */
static void after_activation(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int conv = add_conv(g, "conv", add_input(g, "x", SHAPE(N, 3, 8, 8)), 3, 4, 3, 1);
    set_output(g, add_batchnorm(g, "bn", NODE(g, "Relu", "relu", conv), 4));
    expect_dump(g, "conv: Conv(x, %1, %2) -> bn[N,4,8,8] {Relu, BatchNormalization}\n");
    assert_int_equal(g->batchnorm[0].fate, RT_BN_FUSED);
    assert_string_equal(g->batchnorm[0].into, "conv");
    rt_graph_destroy(g);
}

/* As in densely connected networks: no weights to fold into on either side. */
static void after_concat(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 16, 8, 8)), cat = NODE(g, "Concat", "cat", x, x);
    attr_int(g, cat, "axis", 1);
    int bn = add_batchnorm(g, "bn", cat, 32);
    set_output(g, add_conv(g, "conv", NODE(g, "Relu", "relu", bn), 32, 4, 3, 1));
    expect_dump(g, "cat: Concat(x, x) -> relu[N,32,8,8] {BatchNormalization, Relu}\n"
                   "conv: Conv(relu, %8, %9) -> conv[N,4,8,8]\n");
    assert_int_equal(g->batchnorm[0].fate, RT_BN_FUSED);
    rt_graph_destroy(g);
}

/* A concatenation of less than blocks, the shuffle of its channels in two groups and the half that
 * is taken of them are one move. */
static void moves_of_channels_are_one(void **state)
{
    (void)state;
    static const int64_t from[] = { 2, 5 }; /* of a0 a1 a2 b0 b1 b2: a0 b0 a1 b1 (a2 b2) */
    struct rt_graph *g = new_graph();
    int a = add_input(g, "a", SHAPE(N, 3, 8, 8)), b = add_input(g, "b", SHAPE(N, 3, 8, 8));
    int cat = NODE(g, "Concat", "cat", a, b);
    attr_int(g, cat, "axis", 1);
    int split = NODE(g, "Reshape", "split", cat, add_ints(g, 5, (int64_t[]){ 0, 2, 3, 8, 8 }));
    int turn = NODE(g, "Transpose", "turn", split);
    attr_ints(g, turn, "perm", 5, (int64_t[]){ 0, 2, 1, 3, 4 });
    int join = NODE(g, "Reshape", "join", turn, add_ints(g, 4, (int64_t[]){ 0, 6, 8, 8 }));
    int half = NODE(g, "Slice", "half", join, add_ints(g, 1, (int64_t[]){ 4 }),
                    add_ints(g, 1, (int64_t[]){ 6 }), add_ints(g, 1, (int64_t[]){ 1 }));
    set_output(g, half);
    expect_dump(g, "half: ChannelSelect(a, b) -> half[N,2,8,8]\n");
    const int64_t *channels;
    assert_int_equal(rt_attr_ints(&g->node[0], "channels", &channels), 2);
    assert_memory_equal(channels, from, sizeof from);
    rt_graph_destroy(g);
}

static void mean_goes_before_a_pointwise_conv(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4, 8, 8));
    set_output(g, NODE(g, "GlobalAveragePool", "mean", add_conv(g, "conv", x, 4, 6, 1, 0)));
    expect_dump(g, "mean: GlobalAveragePool(x) -> %5[N,4,1,1]\n"
                   "conv: Conv(%5, %1, %2) -> mean[N,6,1,1]\n");
    rt_graph_destroy(g);
}

/* Where an activation stands between them the two are not linear. */
static void mean_stays_behind_an_activation(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4, 8, 8));
    int relu = NODE(g, "Relu", "relu", add_conv(g, "conv", x, 4, 6, 1, 0));
    set_output(g, NODE(g, "GlobalAveragePool", "mean", relu));
    expect_dump(g, "conv: Conv(x, %1, %2) -> relu[N,6,8,8] {Relu}\n"
                   "mean: GlobalAveragePool(relu) -> mean[N,6,1,1]\n");
    rt_graph_destroy(g);
}

static void not_finite_is_left_alone(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int conv = add_conv(g, "conv", add_input(g, "x", SHAPE(N, 3, 8, 8)), 3, 4, 3, 1);
    int bn = add_batchnorm(g, "bn", conv, 4);
    int scale = g->node[g->value[bn].producer].in[1];
    float *bad = rt_graph_alloc_bulk(g, 4, sizeof *bad);
    bad[2] = __builtin_nanf("");
    g->value[scale].data = bad;
    set_output(g, bn);
    char *text = after_passes(g);
    assert_int_equal(g->n_nodes, 2);
    assert_int_equal(g->batchnorm[0].fate, RT_BN_STANDALONE);
    assert_int_equal(g->batchnorm[0].non_finite, 1);
    rt_free(text);
    rt_graph_destroy(g);
}

static void residual_add_fuses_into_the_second_conv(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4, 8, 8));
    int a = add_batchnorm(g, "bn", add_conv(g, "conv", x, 4, 4, 3, 1), 4);
    set_output(g, NODE(g, "Relu", "y", NODE(g, "Add", "sum", x, a)));
    char *text = after_passes(g);
    assert_int_equal(g->n_nodes, 1);
    assert_int_equal(g->node[0].n_steps, 2);
    assert_int_equal(g->node[0].step[0].kind, RT_STEP_ADD);
    assert_int_equal(g->node[0].in[g->node[0].step[0].arg], x);
    rt_free(text);
    rt_graph_destroy(g);
}

static void an_add_that_broadcasts_does_not_fuse(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4, 8, 8)), one = add_input(g, "one", SHAPE(N, 1, 8, 8));
    set_output(g, NODE(g, "Add", "sum", one, add_conv(g, "conv", x, 4, 4, 3, 1)));
    char *text = after_passes(g);
    assert_int_equal(g->n_nodes, 2);
    rt_free(text);
    rt_graph_destroy(g);
}

/* Reshape(x, Concat(Gather(Shape(x), 0), -1)): what exporters write for flatten. */
static void shape_chain_folds_for_any_batch(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 4, 2, 2));
    int first =
        NODE(g, "Gather", "first", NODE(g, "Shape", "shape", x), add_ints(g, 1, (int64_t[]){ 0 }));
    int target = NODE(g, "Concat", "target", first, add_ints(g, 1, (int64_t[]){ -1 }));
    attr_int(g, target, "axis", 0);
    set_output(g, NODE(g, "Reshape", "y", x, target));
    char *text = after_passes(g);
    assert_int_equal(g->n_nodes, 1);
    assert_non_null(strstr(text, "-> y[N,16]"));
    rt_free(text);
    rt_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_conv),
        cmocka_unit_test(two_in_a_row),
        cmocka_unit_test(forward_only_without_padding),
        cmocka_unit_test(producer_with_other_readers),
        cmocka_unit_test(dropout_of_nothing),
        cmocka_unit_test(after_activation),
        cmocka_unit_test(after_concat),
        cmocka_unit_test(moves_of_channels_are_one),
        cmocka_unit_test(mean_goes_before_a_pointwise_conv),
        cmocka_unit_test(mean_stays_behind_an_activation),
        cmocka_unit_test(not_finite_is_left_alone),
        cmocka_unit_test(residual_add_fuses_into_the_second_conv),
        cmocka_unit_test(an_add_that_broadcasts_does_not_fuse),
        cmocka_unit_test(shape_chain_folds_for_any_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
