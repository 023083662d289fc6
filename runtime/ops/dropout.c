/* Dropout: nothing at inference; in training mode elements are left out at random. */
#include <stdatomic.h>
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/move.h"

static const struct rt_op training;

/* From opset 12 on the mode is an input, up to 6 an attribute; in between there was none. */
static bool trains(const struct rt_graph *g, const struct rt_node *n)
{
    if (n->opset < 7)
        return rt_attr(n, "is_test") != NULL && rt_attr_int(n, "is_test", 1) == 0;
    const struct rt_value *mode = rt_in_const(g, n, 2);
    return mode != NULL && *(const uint8_t *)mode->data != 0;
}

static enum rt_status set_outputs(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value x = *rt_in(g, n, 0);
    enum rt_status s = rt_set_out(g, n, 0, x.dtype, &x.shape, err);
    return s == RT_OK ? rt_set_out(g, n, 1, n->opset < 10 ? x.dtype : RT_BOOL, &x.shape, err) : s;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *ratio = rt_in(g, n, 1), *mode = rt_in(g, n, 2);
    if (mode != NULL && !mode->constant)
        return rt_fail_dynamic(err, n, "training_mode");
    if (mode != NULL && (mode->dtype != RT_BOOL || rt_shape_numel(&mode->shape) != 1))
        return rt_node_fail(err, RT_E_INVALID, n, "training_mode must be one bool");
    if (ratio != NULL && (!rt_dtype_is_float(ratio->dtype) || rt_shape_numel(&ratio->shape) != 1))
        return rt_node_fail(err, RT_E_INVALID, n, "ratio must be one real number");
    float dropped = rt_attr_float(n, "ratio", 0.5f);
    const float *given;
    int64_t count = -1;
    enum rt_status s = RT_OK;
    if (ratio != NULL && ratio->constant)
        s = rt_const_floats(g, n, 1, "ratio", &given, &count, err);
    if (count == 1)
        dropped = given[0];
    /* Networks exported in training mode are often kept from dropping by a ratio of 0. */
    if (s == RT_OK && trains(g, n) && dropped != 0)
        n->op = &training;
    return s == RT_OK ? set_outputs(g, n, err) : s;
}

/* The output is a view; only the mask is to be made: everything is kept. */
static void run(const struct rt_call *c, const struct rt_worker *w)
{
    if (!rt_has_out(c->node, 1))
        return;
    uint64_t one = 0;
    rt_store_elements(c->out[1].dtype, &one, 1, &(int64_t){ 1 }, RT_KIND_INT, 1);
    rt_fill_tensor(&c->out[1], &one, w);
}

/* A bijection of 64 bits whose results look random (splitmix64). */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* With a seed each run is the same; without one each differs. */
static uint64_t seed_of(const struct rt_node *n)
{
    static atomic_ullong runs;
    const struct rt_attr *seed = rt_attr(n, "seed");
    if (seed != NULL)
        return mix((uint64_t)seed->i);
    return mix(mix(atomic_fetch_add(&runs, 1)) ^ (uint64_t)(uintptr_t)&runs);
}

static void run_training(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    double ratio =
        rt_has_in(c->node, 1) ? rt_element(&c->in[1], 0) : rt_attr_float(c->node, "ratio", 0.5f);
    uint64_t seed = seed_of(c->node);
    int64_t begin, end;
    if (!(ratio >= 0 && ratio <= 1)) {
        rt_fault(c, "ratio is %g, not between 0 and 1", ratio);
        return;
    }
    rt_worker_share(w, rt_shape_numel(&x->shape), RT_ALIGN, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        double chance = (double)(mix(seed + (uint64_t)i) >> 11) * 0x1p-53; /* 0 <= chance < 1 */
        int64_t kept = chance >= ratio;
        double y = kept ? rt_element(x, i) / (1 - ratio) : 0;
        rt_store_elements(x->dtype, rt_out_at(&c->out[0], i), 1, &y, RT_KIND_DOUBLE, 1);
        if (rt_has_out(c->node, 1))
            rt_store_elements(c->out[1].dtype, rt_out_at(&c->out[1], i), 1, &kept, RT_KIND_INT, 1);
    }
}

static const struct rt_op training = {
    .name = "Dropout",
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 2,
    .traits = RT_OP_RANDOM,
    .infer = set_outputs,
    .run = run_training,
};

const struct rt_op rt_op_Dropout = {
    .name = "Dropout",
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 2,
    .traits = RT_OP_VIEW,
    .infer = infer,
    .run = run,
};
