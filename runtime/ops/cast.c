/* Cast and CastLike: elements of one type as those of another. */
#include "runtime/ops/element.h"
#include "runtime/ops/eval.h"
#include "runtime/ops/move.h"

#include <string.h>
#include <strings.h>

/* Up to opset 5 the type is written out. */
static enum rt_status target(const struct rt_node *n, enum rt_dtype *out, struct rt_error *err)
{
    int64_t t = rt_attr_int(n, "to", RT_UNDEFINED);
    const char *text = rt_attr_string(n, "to", NULL);
    for (int i = 1; text != NULL && i < RT_N_DTYPES; i++)
        if (strcasecmp(text, rt_dtype_name((enum rt_dtype)i)) == 0)
            t = i;
    if (t == RT_STRING || (text != NULL && t == RT_UNDEFINED))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "a cast to '%s' is not supported",
                            text != NULL ? text : "string");
    if (t < 1 || t >= RT_N_DTYPES || rt_dtype_size((enum rt_dtype)t) == 0)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "a cast to type %lld is not supported",
                            (long long)t);
    *out = (enum rt_dtype)t;
    return RT_OK;
}

static enum rt_status infer_to(struct rt_graph *g, struct rt_node *n, enum rt_dtype to,
                               struct rt_error *err)
{
    /* Only 64 bits hold "so many times the batch". */
    const bool wide = to == RT_INT32 && rt_holds_batch(g, n->in[0]);
    struct rt_value *y = rt_out(g, n, 0);
    if (y == NULL)
        return RT_OK;
    const bool taken_for_32 = y->inferred && !y->wide;
    if (to != RT_INT64 && rt_holds_batch(g, n->in[0]) && (!wide || taken_for_32))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "it computes with the number of samples");
    y->wide = wide;
    return rt_set_out(g, n, 0, wide ? RT_INT64 : to, &rt_in(g, n, 0)->shape, err);
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    enum rt_dtype to = RT_UNDEFINED;
    enum rt_status s = target(n, &to, err);
    return s == RT_OK ? infer_to(g, n, to, err) : s;
}

static enum rt_status infer_like(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    return infer_to(g, n, rt_in(g, n, 1)->dtype, err);
}

/* Through the kind that holds every value of the source, so that there is one rounding: to
 * nearest, ties to even, and infinity past the largest; towards zero from reals to integers. */
static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    enum rt_kind kind = rt_kind_of(x->dtype);
    int64_t begin, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), RT_ALIGN, &begin, &end);
    if (begin < end && x->dtype == y->dtype) {
        memmove(rt_out_at(y, begin), rt_at(x, begin), (size_t)(end - begin) * rt_size_of(x));
        return;
    }
    for (int64_t at = begin; at < end; at += RT_CHUNK) {
        union rt_chunk buf;
        int64_t n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        rt_load_elements(&buf, kind, x->dtype, rt_at(x, at), 1, n);
        rt_store_elements(y->dtype, rt_out_at(y, at), 1, &buf, kind, n);
    }
}

const struct rt_op rt_op_Cast = {
    .name = "Cast",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer,
    .run = run,
};

const struct rt_op rt_op_CastLike = {
    .name = "CastLike",
    .since = 15,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_like,
    .run = run,
};
