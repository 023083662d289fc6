/* The table of operators, and the helpers that operators share. */
#include "runtime/ops/op.h"

#include "runtime/ops/fault.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#undef rt_node_fail
#undef rt_fail_dynamic

static const struct rt_op *const table[] = {
#define RT_OP(name) &rt_op_##name,
#include "runtime/ops/ops.def"
#undef RT_OP
};

#define N_OPS ((int)(sizeof table / sizeof table[0]))

static const char *domain_of(const struct rt_op *op)
{
    return op->domain != NULL ? op->domain : "";
}

enum rt_status rt_build_pack(const struct rt_build *b, rt_pack *pack, void *ctx, int64_t n,
                             struct rt_error *err)
{
    if (b->packings == NULL)
        for (int64_t i = 0; i < n; i++)
            pack(ctx, i);
    else if (!rt_packings_add(b->packings, b->arena, pack, ctx, n))
        return rt_fail_nomem(err, sizeof(struct rt_packing));
    return RT_OK;
}

const struct rt_op *rt_op_find(const char *domain, const char *name)
{
    if (strcmp(domain, "ai.onnx") == 0)
        domain = "";
    for (int i = 0; i < N_OPS; i++)
        if (strcmp(table[i]->name, name) == 0 && strcmp(domain_of(table[i]), domain) == 0)
            return table[i];
    return NULL;
}

const struct rt_op *rt_op_at(int i)
{
    for (int k = 0; k < N_OPS; k++)
        if (strcmp(domain_of(table[k]), "ai.convd") != 0 && i-- == 0)
            return table[k];
    return NULL;
}

static enum rt_status node_vfail(struct rt_error *err, enum rt_status status,
                                 const struct rt_node *n, const char *fmt, va_list ap)
{
    char text[1024];
    vsnprintf(text, sizeof text, fmt, ap);
    return rt_fail(err, status, "node '%s' (%s): %s", n->name, n->op->name, text);
}

enum rt_status rt_node_fail(struct rt_error *err, enum rt_status status, const struct rt_node *n,
                            const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    node_vfail(err, status, n, fmt, ap);
    va_end(ap);
    return status;
}

enum rt_status rt_fail_dynamic(struct rt_error *err, const struct rt_node *n, const char *what)
{
    return rt_node_fail(err, RT_E_DYNAMIC, n, "%s is not constant", what);
}

const struct rt_attr *rt_attr(const struct rt_node *n, const char *name)
{
    for (int i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0)
            return &n->attr[i];
    return NULL;
}

static const struct rt_attr *typed(const struct rt_node *n, const char *name, enum rt_attr_type t)
{
    const struct rt_attr *a = rt_attr(n, name);
    return a != NULL && a->type == t ? a : NULL;
}

int64_t rt_attr_int(const struct rt_node *n, const char *name, int64_t otherwise)
{
    const struct rt_attr *a = typed(n, name, RT_ATTR_INT);
    return a != NULL ? a->i : otherwise;
}

float rt_attr_float(const struct rt_node *n, const char *name, float otherwise)
{
    const struct rt_attr *a = typed(n, name, RT_ATTR_FLOAT);
    return a != NULL ? a->f : otherwise;
}

const char *rt_attr_string(const struct rt_node *n, const char *name, const char *otherwise)
{
    const struct rt_attr *a = typed(n, name, RT_ATTR_STRING);
    return a != NULL ? a->s : otherwise;
}

int rt_attr_ints(const struct rt_node *n, const char *name, const int64_t **ints)
{
    const struct rt_attr *a = typed(n, name, RT_ATTR_INTS);
    *ints = a != NULL ? a->ints : NULL;
    return a != NULL ? a->n : 0;
}

bool rt_has_in(const struct rt_node *n, int i)
{
    return i < n->n_in && n->in[i] >= 0;
}

bool rt_has_out(const struct rt_node *n, int i)
{
    return i < n->n_out && n->out[i] >= 0;
}

struct rt_value *rt_in(struct rt_graph *g, const struct rt_node *n, int i)
{
    return rt_has_in(n, i) ? &g->value[n->in[i]] : NULL;
}

const struct rt_value *rt_in_const(const struct rt_graph *g, const struct rt_node *n, int i)
{
    return rt_has_in(n, i) ? &g->value[n->in[i]] : NULL;
}

struct rt_value *rt_out(struct rt_graph *g, const struct rt_node *n, int i)
{
    return rt_has_out(n, i) ? &g->value[n->out[i]] : NULL;
}

enum rt_status rt_set_out(struct rt_graph *g, struct rt_node *n, int i, enum rt_dtype dtype,
                          const struct rt_shape *shape, struct rt_error *err)
{
    struct rt_value *v = rt_out(g, n, i);
    if (v == NULL)
        return RT_OK;
    char text[RT_SHAPE_TEXT];
    int batched = 0;
    struct rt_shape one = rt_shape_at(shape, 1);
    for (int k = 0; k < shape->rank; k++) {
        int64_t d = shape->dim[k];
        if (!rt_is_batched(d)) {
            if (d < 0)
                return rt_node_fail(err, RT_E_INVALID, n, "output shape %s is negative",
                                    rt_shape_text(&one, text));
            continue;
        }
        if (!g->batched)
            return rt_node_fail(err, RT_E_LIMIT, n, "an output dimension of %lld is too large",
                                (long long)d);
        if (d < 0 || d % RT_BATCH != 0)
            return rt_node_fail(err, RT_E_UNSUPPORTED, n,
                                "dimension %d of the output is no multiple of the batch", k);
        batched++;
    }
    if (batched > 1)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n,
                            "two dimensions of the output follow the batch");
    size_t bytes;
    if (!rt_shape_bytes(&one, dtype, &bytes))
        return rt_node_fail(err, RT_E_LIMIT, n, "an output of shape %s is too large",
                            rt_shape_text(&one, text));
    v->dtype = dtype;
    v->shape = *shape;
    v->inferred = true;
    return RT_OK;
}

bool rt_node_runs(const struct rt_graph *g, const struct rt_node *n)
{
    return n->op->run != NULL && (n->out[0] < 0 || !g->value[n->out[0]].streamed);
}

enum rt_status rt_infer_same(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    return rt_set_out(g, n, 0, x->dtype, &x->shape, err);
}

enum rt_status rt_check_type(const struct rt_graph *g, const struct rt_node *n, int i,
                             unsigned mask, struct rt_error *err)
{
    const struct rt_value *v = rt_in_const(g, n, i);
    if (v == NULL || (mask & RT_T(v->dtype)) != 0)
        return RT_OK;
    return rt_node_fail(err, RT_E_UNSUPPORTED, n, "input %d has type %s, which is not supported",
                        i, rt_dtype_name(v->dtype));
}

enum rt_status rt_check_same_type(const struct rt_graph *g, const struct rt_node *n, int i, int j,
                                  struct rt_error *err)
{
    const struct rt_value *a = rt_in_const(g, n, i), *b = rt_in_const(g, n, j);
    if (a == NULL || b == NULL || a->dtype == b->dtype)
        return RT_OK;
    return rt_node_fail(err, RT_E_INVALID, n, "inputs %d and %d have types %s and %s", i, j,
                        rt_dtype_name(a->dtype), rt_dtype_name(b->dtype));
}

enum rt_status rt_const_ints(struct rt_graph *g, const struct rt_node *n, int i, const char *what,
                             const int64_t **ints, int64_t *count, struct rt_error *err)
{
    const struct rt_value *v = rt_in_const(g, n, i);
    *ints = NULL;
    *count = -1;
    if (v == NULL)
        return RT_OK;
    if (!v->constant)
        return rt_fail_dynamic(err, n, what);
    int64_t len = rt_shape_numel(&v->shape);
    if (v->dtype != RT_INT64 && v->dtype != RT_INT32)
        return rt_node_fail(err, RT_E_INVALID, n, "%s has type %s, not int64", what,
                            rt_dtype_name(v->dtype));
    int64_t *copy = rt_graph_alloc(g, (size_t)len, sizeof *copy);
    if (copy == NULL)
        return rt_graph_nomem(g, err);
    for (int64_t k = 0; k < len; k++)
        copy[k] = v->dtype == RT_INT64 ? ((const int64_t *)v->data)[k]
                                       : ((const int32_t *)v->data)[k];
    *ints = copy;
    *count = len;
    return RT_OK;
}

static float float_at(const struct rt_value *v, int64_t k)
{
    switch ((int)v->dtype) {
    case RT_FLOAT:
        return ((const float *)v->data)[k];
    case RT_DOUBLE:
        return (float)((const double *)v->data)[k];
    case RT_FLOAT16:
        return rt_half_to_float(((const uint16_t *)v->data)[k]);
    default:
        return rt_bfloat16_to_float(((const uint16_t *)v->data)[k]);
    }
}

enum rt_status rt_const_floats(struct rt_graph *g, const struct rt_node *n, int i,
                               const char *what, const float **floats, int64_t *count,
                               struct rt_error *err)
{
    const struct rt_value *v = rt_in_const(g, n, i);
    *floats = NULL;
    *count = -1;
    if (v == NULL)
        return RT_OK;
    if (!v->constant)
        return rt_fail_dynamic(err, n, what);
    int64_t len = rt_shape_numel(&v->shape);
    if (!rt_dtype_is_float(v->dtype))
        return rt_node_fail(err, RT_E_INVALID, n, "%s has type %s, not a float", what,
                            rt_dtype_name(v->dtype));
    float *copy = rt_graph_alloc(g, (size_t)len, sizeof *copy);
    if (copy == NULL)
        return rt_graph_nomem(g, err);
    for (int64_t k = 0; k < len; k++)
        copy[k] = float_at(v, k);
    *floats = copy;
    *count = len;
    return RT_OK;
}

enum rt_status rt_attr_or_const(struct rt_graph *g, const struct rt_node *n, const char *name, int i,
                                const int64_t **ints, int64_t *count, struct rt_error *err)
{
    if (typed(n, name, RT_ATTR_INTS) != NULL) {
        *count = rt_attr_ints(n, name, ints);
        return RT_OK;
    }
    return rt_const_ints(g, n, i, name, ints, count, err);
}

enum rt_status rt_fix_axis(const struct rt_node *n, int64_t axis, int rank, bool inclusive, int *out,
                           struct rt_error *err)
{
    int64_t fixed = axis < 0 ? axis + rank : axis;
    if (fixed < 0 || fixed >= rank + inclusive)
        return rt_node_fail(err, RT_E_INVALID, n, "axis %lld is outside a rank of %d",
                            (long long)axis, rank);
    *out = (int)fixed;
    return RT_OK;
}

enum rt_status rt_broadcast(const struct rt_node *n, const struct rt_shape *a,
                            const struct rt_shape *b, struct rt_shape *out, struct rt_error *err)
{
    int rank = a->rank > b->rank ? a->rank : b->rank;
    struct rt_shape s = { .rank = rank };
    for (int i = 0; i < rank; i++) {
        int64_t da = i < rank - a->rank ? 1 : a->dim[i - (rank - a->rank)];
        int64_t db = i < rank - b->rank ? 1 : b->dim[i - (rank - b->rank)];
        if (da != db && da != 1 && db != 1) {
            char ta[RT_SHAPE_TEXT], tb[RT_SHAPE_TEXT];
            struct rt_shape a1 = rt_shape_at(a, 1), b1 = rt_shape_at(b, 1);
            return rt_node_fail(err, RT_E_INVALID, n, "shapes %s and %s do not broadcast",
                                rt_shape_text(&a1, ta), rt_shape_text(&b1, tb));
        }
        s.dim[i] = da == 1 ? db : da;
    }
    *out = s;
    return RT_OK;
}

void rt_strides(const struct rt_shape *s, int64_t stride[RT_MAX_RANK])
{
    int64_t step = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= s->dim[i];
    }
}

void rt_broadcast_strides(const struct rt_shape *s, const struct rt_shape *out,
                          int64_t stride[RT_MAX_RANK])
{
    int64_t own[RT_MAX_RANK] = { 0 };
    rt_strides(s, own);
    int lead = out->rank - s->rank;
    for (int i = 0; i < out->rank; i++)
        stride[i] = i < lead || s->dim[i - lead] == 1 ? 0 : own[i - lead];
}

void rt_fault(const struct rt_call *c, const char *fmt, ...)
{
    if (atomic_flag_test_and_set(&c->fault->taken))
        return;
    va_list ap;
    va_start(ap, fmt);
    node_vfail(&c->fault->err, RT_E_INVALID, c->node, fmt, ap);
    va_end(ap);
    atomic_store(&c->fault->set, true);
}
