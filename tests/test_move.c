/* Operators that move elements: shapes that follow the batch, and copies against a plain loop. */
#include "tests/graphs.h"

#include "runtime/ops/move.h"

#include <stdlib.h>

static struct rt_error err;

/* Infers all nodes in order; the status of the first that fails. */
static enum rt_status infer(struct rt_graph *g)
{
    err = (struct rt_error){ .text = "" };
    for (int i = 0; i < g->n_nodes; i++) {
        enum rt_status s = g->node[i].op->infer(g, &g->node[i], &err);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

/* op on x of that shape, and a constant list of integers where there is one (n >= 0): its output's
 * shape must be want or, where want is NULL, inference must fail with that status. */
static void shape_of(const char *op, struct rt_shape x, int n, const int64_t *ints,
                     enum rt_status status, const struct rt_shape *want)
{
    struct rt_graph *g = new_graph();
    int in = add_input(g, "x", x);
    int y = n >= 0 ? NODE(g, op, "y", in, add_ints(g, n, ints)) : NODE(g, op, "y", in);
    enum rt_status s = infer(g);
    char text[RT_SHAPE_TEXT];
    if (s != status)
        fail_msg("%s of %s: status %s, %s", op, rt_shape_text(&x, text), rt_status_name(s),
                 err.text);
    if (want != NULL && !rt_shape_equal(&g->value[y].shape, want))
        fail_msg("%s gives %s", op, rt_shape_text(&g->value[y].shape, text));
    rt_graph_destroy(g);
}

#define INTS(...)                                                                                  \
    (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[])                 \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define GIVES(...) RT_OK, &SHAPE_AT(__VA_ARGS__)
#define SHAPE_AT(...)                                                                              \
    (struct rt_shape)                                                                              \
    {                                                                                              \
        (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),                               \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static void reshape_follows_the_batch(void **state)
{
    (void)state;
    struct rt_shape x = SHAPE(N, 64, 224, 224); /* so large that N times it does not fit 64 bits */
    shape_of("Reshape", x, INTS(-1, 64, 224 * 224), GIVES(N, 64, 224 * 224));
    shape_of("Reshape", x, INTS(0, -1), GIVES(N, 64 * 224 * 224));
    shape_of("Reshape", x, INTS(N, 64, -1), GIVES(N, 64, 224 * 224));
    shape_of("Reshape", x, INTS(-1, 224), GIVES(64 * 224 * N, 224));
    shape_of("Reshape", SHAPE(49 * N, 8), INTS(-1, 49, 8), GIVES(N, 49, 8));
    shape_of("Reshape", SHAPE(4, N, 6), INTS(4, -1, 2, 3), GIVES(4, N, 2, 3));
    shape_of("Reshape", SHAPE(2, 3), INTS(0, 3), GIVES(2, 3));
    shape_of("Reshape", SHAPE(0, 3), INTS(7, 0), RT_E_INVALID, NULL);
    shape_of("Reshape", x, INTS(11, -1), RT_E_INVALID, NULL);
    shape_of("Reshape", x, INTS(-1, -1), RT_E_INVALID, NULL);
    shape_of("Reshape", x, INTS(N, N), RT_E_INVALID, NULL);
    shape_of("Reshape", SHAPE(N, 6), INTS(6, -1), RT_E_UNSUPPORTED, NULL);
    /* Which of the 4 * N rows are a sample's could not be told from the shape any more. */
    shape_of("Reshape", SHAPE(4, N, 6), INTS(-1, 6), RT_E_UNSUPPORTED, NULL);
}

static void other_views_follow_the_batch(void **state)
{
    (void)state;
    shape_of("Flatten", SHAPE(N, 512, 128, 128), -1, NULL, GIVES(N, 512 * 128 * 128));
    shape_of("Squeeze", SHAPE(N, 7, 1, 1), INTS(2, -1), GIVES(N, 7));
    shape_of("Squeeze", SHAPE(N, 7, 1, 1), INTS(0), RT_E_UNSUPPORTED, NULL);
    shape_of("Squeeze", SHAPE(N, 7, 1, 1), INTS(1), RT_E_INVALID, NULL);
    shape_of("Unsqueeze", SHAPE(N, 7), INTS(0, -1), GIVES(1, N, 7, 1));
    shape_of("Unsqueeze", SHAPE(N, 7), INTS(1, 1), RT_E_INVALID, NULL);
    shape_of("Expand", SHAPE(1, 7), INTS(N, 1), GIVES(N, 7));
    shape_of("Expand", SHAPE(N, 7), INTS(2, 7), RT_E_INVALID, NULL);
    shape_of("Tile", SHAPE(1, 7), INTS(N, 2), GIVES(N, 14));
    shape_of("Tile", SHAPE(N, 7), INTS(N, 1), RT_E_LIMIT, NULL);
}

static void samples_stay_whole(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 3, 8, 8));
    int all = add_ints(g, INTS(0)), one = add_ints(g, INTS(1)), end = add_ints(g, INTS(INT64_MAX));
    NODE(g, "Slice", "whole", x, all, end, all);
    assert_int_equal(infer(g), RT_OK);
    NODE(g, "Slice", "part", x, one, end, all);
    assert_int_equal(infer(g), RT_E_UNSUPPORTED);
    rt_graph_destroy(g);

    shape_of("Gather", SHAPE(N, 3), INTS(0), RT_E_UNSUPPORTED, NULL);
    shape_of("Pad", SHAPE(N, 3), INTS(-1, 0, 1, 0), RT_E_UNSUPPORTED, NULL);
    shape_of("Pad", SHAPE(N, 3), INTS(0, 1, 0, 2), GIVES(N, 6));
    shape_of("Pad", SHAPE(4, 3), INTS(0, 1, (int64_t)1 << 40, 2), RT_E_LIMIT, NULL);
    shape_of("Pad", SHAPE(4, 3), INTS(0, -2, 0, -2), RT_E_INVALID, NULL);
    shape_of("DepthToSpace", SHAPE(N, 3, 2, 2), -1, NULL, RT_E_INVALID, NULL);
}

static void shape_arithmetic_folds(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 3, 8, 8));
    int shape = NODE(g, "Shape", "shape", x);
    int first = NODE(g, "Gather", "first", shape, add_ints(g, INTS(0)));
    int cast = NODE(g, "Cast", "cast", first);
    attr_int(g, cast, "to", RT_INT64);
    int want = NODE(g, "Concat", "want", cast, add_ints(g, INTS(-1)));
    attr_int(g, want, "axis", 0);
    set_output(g, NODE(g, "Relu", "y", NODE(g, "Reshape", "flat", x, want)));
    char *text = after_passes(g);
    assert_non_null(strstr(text, "flat: Reshape"));
    assert_null(strstr(text, "Concat"));
    assert_true(g->value[g->output[0]].shape.dim[0] == N);
    assert_true(g->value[g->output[0]].shape.dim[1] == 192);
    rt_free(text);
    rt_graph_destroy(g);
}

/* --- copies -------------------------------------------------------------------------------- */

static uint32_t seed = 1;

static int64_t below(int64_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int64_t)(seed >> 8) % n;
}

struct copy {
    const struct rt_walk *v;
    const uint8_t *in;
    uint8_t *out;
};

static void copy_share(void *ctx, const struct rt_worker *w)
{
    struct copy *c = ctx;
    rt_walk_copy(c->v, c->in, c->out, w);
}

static void copy_slowly(int rank, const int64_t *dim, const int64_t *stride, const uint8_t *in,
                        uint8_t *out, int64_t count, size_t size)
{
    for (int64_t at = 0; at < count; at++) {
        int64_t rest = at, from = 0;
        for (int i = rank - 1; i >= 0; i--) {
            from += rest % dim[i] * stride[i];
            rest /= dim[i];
        }
        memcpy(out + (size_t)at * size, in + from * (int64_t)size, size);
    }
}

static void walks_copy_what_a_plain_loop_does(void **state)
{
    (void)state;
    static uint8_t memory[1 << 20], fast[1 << 20], slow[1 << 20];
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (uint8_t)below(256);
    for (int round = 0; round < 400; round++) {
        size_t size = (size_t)1 << below(4);
        int rank = (int)below(5);
        int64_t dim[4], stride[4], dense[4], step = 1, count = 1;
        for (int i = 0; i < rank; i++)
            dim[i] = below(8) == 0 ? below(2) : 1 + below(i == 0 ? 40 : 12);
        for (int i = rank - 1; i >= 0; i--) {
            dense[i] = step;
            step *= dim[i] > 0 ? dim[i] : 1;
            count *= dim[i];
        }
        int64_t first = 0;
        for (int i = 0; i < rank; i++) {
            /* Another axis's stride, so that axes swap; none; or backwards. */
            int64_t s = dense[below(rank)];
            stride[i] = below(6) == 0 ? 0 : below(6) == 0 ? -s : s;
            first += stride[i] < 0 && dim[i] > 0 ? (dim[i] - 1) * s : 0;
        }
        const uint8_t *in = memory + (size_t)first * size;
        struct rt_walk v;
        rt_walk_init(&v, rank, dim, stride, 0, size);
        memset(fast, 0, (size_t)count * size + 8);
        memset(slow, 0, (size_t)count * size + 8);
        copy_slowly(rank, dim, stride, in, slow, count, size);
        rt_parallel(1 + round % 3, copy_share, &(struct copy){ &v, in, fast });
        if (memcmp(fast, slow, (size_t)count * size + 8) != 0)
            fail_msg("round %d: rank %d, size %zu", round, rank, size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reshape_follows_the_batch),
        cmocka_unit_test(other_views_follow_the_batch),
        cmocka_unit_test(samples_stay_whole),
        cmocka_unit_test(shape_arithmetic_folds),
        cmocka_unit_test(walks_copy_what_a_plain_loop_does),
    };
    return cmocka_run_group_tests_name("move", tests, NULL, NULL);
}
