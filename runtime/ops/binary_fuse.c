/* What fusion asks of arithmetic: whether it is a multiply-add by constants, or a step on the
 * elements of one operand. */
#include <math.h>

#include "runtime/ops/binary.h"

/* With two inputs, one of them a float constant that is a scalar or one number a channel of the
 * other: the constant's elements, their count, and which input the other is. NULL: it is not so. */
static const float *channel_constant(const struct rt_graph *g, const struct rt_node *n,
                                     int64_t *count, int *data)
{
    if (n->n_in != 2 || g->value[n->out[0]].dtype != RT_FLOAT)
        return NULL;
    *data = g->value[n->in[0]].constant ? 1 : 0;
    const struct rt_value *x = &g->value[n->in[*data]];
    const struct rt_value *k = &g->value[n->in[1 - *data]];
    if (!k->constant || k->dtype != RT_FLOAT || x->constant || x->shape.rank < 2 ||
        !rt_shape_equal(&x->shape, &g->value[n->out[0]].shape))
        return NULL;
    struct rt_shape s = k->shape;
    if (*data == 0)
        s = rt_binary_second_shape(n, &x->shape, &s);
    *count = rt_shape_numel(&s);
    const int axis = s.rank - (x->shape.rank - 1); /* where channels lie in the constant */
    if (*count != 1 && (axis < 0 || s.dim[axis] != *count || *count != x->shape.dim[1]))
        return NULL;
    return k->data;
}

bool rt_binary_as_affine(const struct rt_graph *g, const struct rt_node *n, int64_t channels,
                         float *scale, float *shift, int *data)
{
    int64_t count;
    const enum rt_binary_role role = rt_binary_role(n);
    if (role == RT_BINARY_OTHER || role == RT_BINARY_PRELU)
        return false;
    const float *k = channel_constant(g, n, &count, data);
    if (k == NULL || (role == RT_BINARY_DIV && *data != 0))
        return false;
    for (int64_t c = 0; c < channels; c++) {
        const float v = k[count == 1 ? 0 : c];
        scale[c] = 1;
        shift[c] = 0;
        if (role == RT_BINARY_MUL) {
            scale[c] = v;
        } else if (role == RT_BINARY_DIV) {
            scale[c] = 1 / v;
            if (!isfinite(scale[c]))
                return false;
        } else if (role == RT_BINARY_ADD) {
            shift[c] = v;
        } else if (*data == 0) {
            shift[c] = -v;
        } else {
            scale[c] = -1;
            shift[c] = v;
        }
    }
    return true;
}

static bool prelu_step(const struct rt_graph *g, const struct rt_node *n, struct rt_step *step,
                       int *data)
{
    int64_t count;
    const float *slope = channel_constant(g, n, &count, data);
    if (slope == NULL || *data != 0)
        return false;
    const int64_t channels = g->value[n->in[0]].shape.dim[1];
    float *scale = rt_arena_array(g->arena, (size_t)channels, sizeof *scale);
    if (scale == NULL)
        return false;
    for (int64_t c = 0; c < channels; c++)
        scale[c] = slope[count == 1 ? 0 : c];
    *step = (struct rt_step){ .kind = RT_STEP_PRELU, .scale = scale, .label = n->op->name };
    return true;
}

/* Of two tensors that could take the step, the one that is made last by a node that takes any:
 * what the other holds is then there already. */
static int later_operand(const struct rt_graph *g, const struct rt_node *n)
{
    int best = 0, best_producer = -1;
    for (int i = 0; i < 2; i++) {
        const struct rt_value *x = &g->value[n->in[i]];
        if (x->producer > best_producer && x->uses == 1 &&
            g->node[x->producer].op->traits & RT_OP_EPILOGUE) {
            best = i;
            best_producer = x->producer;
        }
    }
    return best;
}

bool rt_binary_as_step(const struct rt_graph *g, const struct rt_node *n, struct rt_step *step,
                       int *data)
{
    const enum rt_binary_role role = rt_binary_role(n);
    if (role == RT_BINARY_PRELU)
        return prelu_step(g, n, step, data);
    if (n->n_in != 2 || (role != RT_BINARY_ADD && role != RT_BINARY_MUL))
        return false;
    const struct rt_value *a = &g->value[n->in[0]], *b = &g->value[n->in[1]];
    if (a->constant || b->constant || a->dtype != RT_FLOAT || a->shape.rank < 2)
        return false;
    if (rt_shape_equal(&a->shape, &b->shape)) {
        *data = later_operand(g, n);
        *step = (struct rt_step){ .kind = role == RT_BINARY_ADD ? RT_STEP_ADD : RT_STEP_MUL,
                                  .arg = 1 - *data,
                                  .label = n->op->name };
        return true;
    }
    *data = rt_shape_equal(&a->shape, &g->value[n->out[0]].shape) ? 0 : 1;
    const struct rt_shape x = g->value[n->in[*data]].shape;
    const struct rt_shape k = { .rank = 4, .dim = { x.dim[0], x.dim[1], 1, 1 } };
    if (role != RT_BINARY_MUL || x.rank != 4 ||
        !rt_shape_equal(&k, &g->value[n->in[1 - *data]].shape) ||
        !rt_shape_equal(&x, &g->value[n->out[0]].shape))
        return false;
    *step = (struct rt_step){ .kind = RT_STEP_SCALE_NC, .arg = 1 - *data, .label = n->op->name };
    return true;
}
