/* Activations, residual adds and scales become steps of the node that makes their input, done on
 * its results before they are stored. */
#include "runtime/passes/pass.h"

#include <string.h>

/* The operand of a step is read while the output is made: it must be of the output's size, or one
 * number a channel. */
static bool operand_fits(const struct rt_graph *g, const struct rt_step *step, int operand,
                         const struct rt_shape *out)
{
    const struct rt_value *v = &g->value[operand];
    if (v->dtype != RT_FLOAT)
        return false;
    if (step->kind != RT_STEP_SCALE_NC)
        return rt_shape_equal(&v->shape, out);
    return v->shape.rank == out->rank && v->shape.dim[0] == out->dim[0] &&
           v->shape.dim[1] == out->dim[1] && rt_shape_range(&v->shape, 2, v->shape.rank) == 1;
}

static bool reads_tensor(const struct rt_step *s)
{
    return s->kind == RT_STEP_ADD || s->kind == RT_STEP_MUL || s->kind == RT_STEP_SCALE_NC;
}

/* Steps outlive the constants they were made from. */
static enum rt_status keep_constants(struct rt_graph *g, struct rt_step *step, int64_t channels,
                                     struct rt_error *err)
{
    const float **array[2] = { &step->scale, &step->shift };
    for (int k = 0; k < 2; k++) {
        if (*array[k] == NULL)
            continue;
        float *copy = rt_graph_alloc(g, (size_t)channels, sizeof *copy);
        if (copy == NULL)
            return rt_graph_nomem(g, err);
        memcpy(copy, *array[k], (size_t)channels * sizeof *copy);
        *array[k] = copy;
    }
    return RT_OK;
}

/* Fuses node, seen as step on its input data, into the producer of that input. */
static enum rt_status fuse(struct rt_pass_run *r, int node, struct rt_step step, int data,
                           struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_node *n = &g->node[node];
    const struct rt_value *x = &g->value[n->in[data]], *y = &g->value[n->out[0]];
    if (x->producer < 0 || x->uses != 1 || x->dtype != RT_FLOAT || y->dtype != RT_FLOAT)
        return RT_OK;
    struct rt_node *before = &g->node[x->producer];
    if (before->op == NULL || (before->op->traits & RT_OP_EPILOGUE) == 0 ||
        before->n_steps == RT_MAX_STEPS || before->out[0] != n->in[data])
        return RT_OK;
    if (!rt_shape_equal(&x->shape, &y->shape))
        return RT_OK; /* the operand makes the output larger */
    bool tensor = reads_tensor(&step);
    int operand = tensor ? n->in[step.arg] : -1;
    if (tensor && !operand_fits(g, &step, operand, &y->shape))
        return RT_OK;
    enum rt_status s = keep_constants(g, &step, y->shape.rank > 1 ? y->shape.dim[1] : 1, err);
    if (s != RT_OK)
        return s;
    if (tensor) {
        step.arg = rt_graph_add_input(g, before, operand);
        if (step.arg < 0)
            return rt_graph_nomem(g, err);
    }
    step.label = n->batchnorm >= 0 ? "BatchNormalization" : n->op->name;
    before->step[before->n_steps++] = step;
    rt_batchnorm_became(g, n, RT_BN_FUSED, before->name, NULL);
    before->out[0] = n->out[0];
    n->op = NULL;
    r->changes++;
    return rt_graph_tidy(g, err);
}

static enum rt_status fuse_one(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    struct rt_node *n = &g->node[node];
    if (n->op->as_step == NULL || n->n_steps > 0 || n->n_out != 1)
        return RT_OK;
    struct rt_step step = { .arg = 0 };
    int data = 0;
    if (!n->op->as_step(g, n, &step, &data))
        return RT_OK;
    int before = r->changes;
    enum rt_status s = fuse(r, node, step, data, err);
    bool symmetric = step.kind == RT_STEP_ADD || step.kind == RT_STEP_MUL;
    if (s != RT_OK || r->changes != before || !symmetric)
        return s;
    /* The other operand's producer may do it as well. */
    int other = step.arg;
    step.arg = data;
    return fuse(r, node, step, other, err);
}

/* A fused node is gone and the next one has its place. It is looked at next: were it left for another
 * round, a third could become its step in this one, and a node with steps of its own is none. */
enum rt_status rt_pass_fuse_steps(struct rt_pass_run *r, int node, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    for (int before = -1; s == RT_OK && r->changes != before && node < r->g->n_nodes;) {
        before = r->changes;
        s = fuse_one(r, node, err);
    }
    return s;
}
