/* Stretches of a network between Transpose [N,C,H,W] -> [N,H,W,C] and back, which work on the last
 * axis, are moved to axis 1, and the transposes go:
 *
 *     Transpose ─ LayerNormalization ─ MatMul ─ Add ─ Gelu ─ MatMul ─ Add ─ Transpose
 *                 ChannelNorm, affine ─ Conv 1x1 ─ Add ─ Gelu ─ Conv 1x1 ─ Add
 *
 * A stretch is moved whole or not at all. */
#include "runtime/ops/conv.h"
#include "runtime/ops/gemm.h"
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

#include <string.h>

static bool is_transpose(const struct rt_graph *g, const struct rt_node *n, const int64_t perm[4])
{
    const int64_t *p;
    return n->op == &rt_op_Transpose && g->value[n->in[0]].dtype == RT_FLOAT &&
           rt_attr_ints(n, "perm", &p) == 4 && memcmp(p, perm, 4 * sizeof *p) == 0;
}

static const int64_t to_last[] = { 0, 2, 3, 1 }, to_first[] = { 0, 3, 1, 2 };

/* Value v is a float constant with one element, or one for each element of a last axis of size c,
 * which then is *count. */
static bool is_vector(const struct rt_graph *g, int v, int64_t c, int64_t *count)
{
    const struct rt_value *k = v >= 0 ? &g->value[v] : NULL;
    if (k == NULL || !k->constant || k->dtype != RT_FLOAT || k->shape.rank > 4)
        return false;
    *count = rt_shape_numel(&k->shape);
    return *count == 1 || (*count == c && k->shape.dim[k->shape.rank - 1] == c);
}

struct stretch {
    struct rt_graph *g;
    int n_values;
    bool *inside; /* values with the channels behind */
    int *first;   /* the same with the channels in front, -1 where there is none */
};

static bool is_inside(const struct stretch *s, int v)
{
    return v >= 0 && v < s->n_values && s->inside[v];
}

static bool reads(const struct stretch *s, const struct rt_node *n)
{
    for (int k = 0; n->op != NULL && k < n->n_in; k++)
        if (is_inside(s, n->in[k]))
            return true;
    return false;
}

/* --- which nodes can move ------------------------------------------------------------------ */

enum kind { FIXED, UNARY, BINARY, NORM, PRODUCT };

static enum kind kind_of_binary(const struct stretch *s, const struct rt_node *n)
{
    const struct rt_graph *g = s->g;
    const int64_t c = g->value[n->out[0]].shape.dim[3];
    int64_t count;
    if (n->n_in != 2 || n->n_attr > 0)
        return FIXED;
    for (int i = 0; i < 2; i++) {
        const bool moves = is_inside(s, n->in[i]);
        if (moves && !rt_shape_equal(&g->value[n->in[i]].shape, &g->value[n->out[0]].shape))
            return FIXED;
        if (!moves && !is_vector(g, n->in[i], c, &count))
            return FIXED;
    }
    return BINARY;
}

static enum kind kind_of(const struct stretch *s, const struct rt_node *n)
{
    const struct rt_graph *g = s->g;
    const struct rt_value *y = &g->value[n->out[0]];
    struct rt_step step;
    int data;
    int64_t count;
    if (n->n_steps > 0 || n->n_out != 1 || n->in[0] < 0 || y->is_output || y->dtype != RT_FLOAT ||
        y->shape.rank != 4)
        return FIXED;
    if (n->op == &rt_op_Add || n->op == &rt_op_Sub || n->op == &rt_op_Mul || n->op == &rt_op_Div)
        return kind_of_binary(s, n);
    if (!is_inside(s, n->in[0]))
        return FIXED;
    const int64_t c = g->value[n->in[0]].shape.dim[3];
    if (n->op == &rt_op_LayerNormalization) {
        const int64_t axis = rt_attr_int(n, "axis", -1);
        const bool scale = is_vector(g, n->in[1], c, &count) && count == c;
        const bool bias = !rt_has_in(n, 2) || (is_vector(g, n->in[2], c, &count) && count == c);
        return (axis == -1 || axis == 3) && scale && bias ? NORM : FIXED;
    }
    if (n->op == &rt_op_MatMul) {
        const struct rt_value *w = &g->value[n->in[1]];
        return w->constant && w->dtype == RT_FLOAT && w->shape.rank == 2 ? PRODUCT : FIXED;
    }
    if (n->op->as_step != NULL && n->op->as_step(g, n, &step, &data) &&
        step.kind == RT_STEP_ACTIVATION && data == 0)
        return UNARY;
    return FIXED;
}

/* Marks what node's output reaches before a transpose brings it back. False: something among it
 * cannot move, or it never comes back. */
static bool find_stretch(struct stretch *s, int node)
{
    const struct rt_graph *g = s->g;
    bool ends = false;
    s->inside[g->node[node].out[0]] = true;
    for (int i = node + 1; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if (!reads(s, n))
            continue;
        if (is_transpose(g, n, to_first) && !g->value[n->out[0]].is_output)
            ends = true;
        else if (kind_of(s, n) != FIXED)
            s->inside[n->out[0]] = true;
        else
            return false;
    }
    return ends;
}

/* --- moving them --------------------------------------------------------------------------- */

/* A constant that is broadcast along the last axis, for axis 1; -1: no memory. */
static int move_vector(struct rt_graph *g, int v)
{
    struct rt_tensor t = { RT_FLOAT,
                           { 3, { rt_shape_numel(&g->value[v].shape), 1, 1 } },
                           (void *)(uintptr_t)g->value[v].data };
    return rt_graph_add_const(g, NULL, &t);
}

/* A MatMul's weights, [C,M] or turned, as a convolution's [M,C,1,1]; -1: no memory. */
static int move_weights(struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *v = &g->value[n->in[1]];
    const bool as_conv = rt_attr_int(n, "transB", 0) != 0;
    const struct rt_shape shape = {
        4, { v->shape.dim[as_conv ? 0 : 1], v->shape.dim[as_conv ? 1 : 0], 1, 1 }
    };
    const struct rt_conv_weights w = { .w = rt_gemm_elements(v), .turned = !as_conv };
    return rt_conv_put_off(g, &shape, &w);
}

/* A value like v with the channels in front; -1: no memory. */
static int move_value(struct rt_graph *g, int v)
{
    const int64_t *d = g->value[v].shape.dim;
    const struct rt_shape shape = { 4, { d[0], d[3], d[1], d[2] } };
    const int made = rt_graph_add_typed(g, RT_FLOAT, &shape);
    if (made >= 0)
        g->value[made].name = g->value[v].name;
    return made;
}

/* Adds op with inputs a and b of name that makes value out. */
static bool add_node(struct rt_graph *g, const struct rt_op *op, const char *name, int a, int b,
                     int out)
{
    const int i = rt_graph_add_node(g, op, name, b >= 0 ? 2 : 1, 1);
    if (i < 0)
        return false;
    g->node[i].in[0] = a;
    if (b >= 0)
        g->node[i].in[1] = b;
    g->node[i].out[0] = out;
    return true;
}

/* LayerNormalization as ChannelNorm, Mul and Add. */
static bool move_norm(struct rt_graph *g, int node, int x, int y)
{
    const char *name = g->node[node].name;
    const int scale = move_vector(g, g->node[node].in[1]);
    const int bias = rt_has_in(&g->node[node], 2) ? move_vector(g, g->node[node].in[2]) : -1;
    const int normed = rt_graph_add_typed(g, RT_FLOAT, &g->value[y].shape);
    const int scaled = bias < 0 ? y : rt_graph_add_typed(g, RT_FLOAT, &g->value[y].shape);
    if (scale < 0 || normed < 0 || scaled < 0 || (rt_has_in(&g->node[node], 2) && bias < 0))
        return false;
    struct rt_attr epsilon = { .name = "epsilon",
                               .type = RT_ATTR_FLOAT,
                               .f = rt_attr_float(&g->node[node], "epsilon", 1e-5f) };
    return add_node(g, &rt_op_ChannelNorm, name, x, -1, normed) &&
           rt_match_set_attr(g, &g->node[g->n_nodes - 1], epsilon) &&
           add_node(g, &rt_op_Mul, name, normed, scale, scaled) &&
           (bias < 0 || add_node(g, &rt_op_Add, name, scaled, bias, y));
}

/* False: no memory. */
static bool move_node(struct stretch *s, int node)
{
    struct rt_graph *g = s->g;
    const enum kind kind = kind_of(s, &g->node[node]);
    const int x = s->first[g->node[node].in[0]], v = g->node[node].out[0];
    const int y = move_value(g, v);
    if (y < 0)
        return false;
    s->first[v] = y;
    if (kind == NORM || kind == PRODUCT) {
        const int w = kind == PRODUCT ? move_weights(g, &g->node[node]) : -1;
        rt_graph_kill(g, node);
        if (kind == NORM)
            return move_norm(g, node, x, y);
        return w >= 0 && add_node(g, &rt_op_Conv, g->node[node].name, x, w, y);
    }
    for (int i = 0; i < (kind == BINARY ? 2 : 1); i++) {
        const int in = g->node[node].in[i];
        const int moved = is_inside(s, in) ? s->first[in] : move_vector(g, in);
        if (moved < 0)
            return false;
        g->node[node].in[i] = moved;
    }
    g->node[node].out[0] = y;
    return true;
}

static bool move_stretch(struct stretch *s, int node)
{
    struct rt_graph *g = s->g;
    const int n_nodes = g->n_nodes;
    s->first[g->node[node].out[0]] = g->node[node].in[0];
    for (int i = node + 1; i < n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if (!reads(s, n))
            continue;
        if (is_transpose(g, n, to_first)) {
            rt_graph_replace(g, n->out[0], s->first[n->in[0]]);
            rt_graph_kill(g, i);
        } else if (!move_node(s, i)) {
            return false;
        }
    }
    rt_graph_kill(g, node);
    return true;
}

enum rt_status rt_pass_channels_first(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const struct rt_node *n = &g->node[node];
    if (!is_transpose(g, n, to_last) || g->value[n->out[0]].is_output ||
        rt_shape_batch_axis(&g->value[n->in[0]].shape) > 0)
        return RT_OK;
    struct stretch s = { .g = g, .n_values = g->n_values };
    const size_t count = (size_t)g->n_values;
    enum rt_status status = RT_OK;
    s.inside = rt_zalloc_array(count, sizeof *s.inside);
    s.first = rt_alloc_array(count, sizeof *s.first);
    if (s.inside == NULL || s.first == NULL) {
        status = rt_graph_nomem(g, err);
    } else if (find_stretch(&s, node)) {
        memset(s.first, -1, count * sizeof *s.first);
        status = move_stretch(&s, node) ? rt_graph_tidy(g, err) : rt_graph_nomem(g, err);
        r->changes++;
    }
    rt_free(s.inside);
    rt_free(s.first);
    return status;
}
