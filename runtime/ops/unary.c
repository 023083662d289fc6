/* Operators on each element of one tensor by itself: activations, mathematics, rounding, tests. */
#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

typedef void formula(void *to, const void *from, size_t n, double a, double b);

#define JOIN2(x, y) x##_##y
#define JOIN(x, y) JOIN2(x, y)

/* x cut to 0 .. 1; NaN stays. */
static double unit(double x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

#define T float
#define P float
#define KIND float
#define FOR_REALS
#include "runtime/ops/unary.inc"
#define T double
#define P double
#define KIND double
#define WITH_KERNELS
#define FOR_REALS
#include "runtime/ops/unary.inc"
#define T int64_t
#define P double
#define KIND int
#define FOR_INTEGERS
#define FOR_SIGNED
#define FROM_REAL rt_real_to_int
#include "runtime/ops/unary.inc"
#define T uint64_t
#define P double
#define KIND uint
#define FOR_INTEGERS
#define FROM_REAL rt_real_to_uint
#include "runtime/ops/unary.inc"

struct parameter {
    const char *name; /* of the attribute */
    double otherwise;
};

struct unary {
    const char *name;
    unsigned types; /* of the input */
    int kernel;     /* enum rt_activation of the float kernel, or -1 */
    formula *of[RT_N_KINDS];
    struct parameter a, b;
    bool test; /* the result is a bool, else it is of the input's type */
};

#define KERNEL(x) .of = { NULL, x##_double, NULL, NULL }
#define KERNEL_AND_INT(x) .of = { NULL, x##_double, x##_int, x##_uint }
#define REAL(x) .of = { x##_float, x##_double, NULL, NULL }
#define NUMBER(x) .of = { x##_float, x##_double, x##_int, x##_uint }
#define INTEGER(x) .of = { NULL, NULL, x##_int, x##_uint }

static const struct unary unaries[] = {
    { "Abs", RT_T_NUMBER, RT_ACT_ABS, KERNEL_AND_INT(Abs) },
    { "Acos", RT_T_REAL, -1, REAL(Acos) },
    { "Acosh", RT_T_REAL, -1, REAL(Acosh) },
    { "Asin", RT_T_REAL, -1, REAL(Asin) },
    { "Asinh", RT_T_REAL, -1, REAL(Asinh) },
    { "Atan", RT_T_REAL, -1, REAL(Atan) },
    { "Atanh", RT_T_REAL, -1, REAL(Atanh) },
    { "BitwiseNot", RT_T_INT, -1, INTEGER(BitwiseNot) },
    { "Ceil", RT_T_REAL, -1, REAL(Ceil) },
    { "Celu", RT_T_REAL, -1, REAL(Celu), .a = { "alpha", 1 } },
    { "Cos", RT_T_REAL, -1, REAL(Cos) },
    { "Cosh", RT_T_REAL, -1, REAL(Cosh) },
    { "Elu", RT_T_REAL, RT_ACT_ELU, KERNEL(Elu), .a = { "alpha", 1 } },
    { "Erf", RT_T_REAL, -1, REAL(Erf) },
    { "Exp", RT_T_REAL, RT_ACT_EXP, KERNEL(Exp) },
    { "Floor", RT_T_REAL, -1, REAL(Floor) },
    { "Gelu", RT_T_REAL, RT_ACT_GELU, KERNEL(Gelu) },
    { "HardSigmoid", RT_T_REAL, RT_ACT_HARD_SIGMOID, KERNEL(HardSigmoid), .a = { "alpha", 0.2 },
      .b = { "beta", 0.5 } },
    { "HardSwish", RT_T_REAL, RT_ACT_HARD_SWISH, KERNEL(HardSwish) },
    { "IsInf", RT_T_REAL, -1, REAL(IsInf), .a = { "detect_negative", 1 },
      .b = { "detect_positive", 1 }, .test = true },
    { "IsNaN", RT_T_REAL, -1, REAL(IsNaN), .test = true },
    { "LeakyRelu", RT_T_REAL, RT_ACT_LEAKY_RELU, KERNEL(LeakyRelu), .a = { "alpha", 0.01 } },
    { "Log", RT_T_REAL, -1, REAL(Log) },
    { "Mish", RT_T_REAL, RT_ACT_MISH, KERNEL(Mish) },
    { "Neg", RT_T_NUMBER, RT_ACT_NEG, KERNEL_AND_INT(Neg) },
    { "Not", RT_T(RT_BOOL), -1, .of = { [RT_KIND_INT] = Not_int } },
    { "Reciprocal", RT_T_REAL, -1, REAL(Reciprocal) },
    { "Relu", RT_T_NUMBER, RT_ACT_RELU, KERNEL_AND_INT(Relu) },
    { "Round", RT_T_REAL, -1, REAL(Round) },
    { "Selu", RT_T_REAL, RT_ACT_SELU, KERNEL(Selu), .a = { "alpha", 1.67326319217681884765625 },
      .b = { "gamma", 1.05070102214813232421875 } },
    { "Shrink", RT_T_NUMBER, -1, NUMBER(Shrink), .a = { "lambd", 0.5 }, .b = { "bias", 0 } },
    { "Sigmoid", RT_T_REAL, RT_ACT_SIGMOID, KERNEL(Sigmoid) },
    { "Sign", RT_T_NUMBER, -1, NUMBER(Sign) },
    { "Sin", RT_T_REAL, -1, REAL(Sin) },
    { "Sinh", RT_T_REAL, -1, REAL(Sinh) },
    { "Softplus", RT_T_REAL, RT_ACT_SOFTPLUS, KERNEL(Softplus) },
    { "Softsign", RT_T_REAL, -1, REAL(Softsign) },
    { "Sqrt", RT_T_REAL, RT_ACT_SQRT, KERNEL(Sqrt) },
    { "Swish", RT_T_REAL, RT_ACT_SILU, KERNEL(Swish), .a = { "alpha", 1 } },
    { "Tan", RT_T_REAL, -1, REAL(Tan) },
    { "Tanh", RT_T_REAL, RT_ACT_TANH, KERNEL(Tanh) },
    { "ThresholdedRelu", RT_T_REAL, -1, REAL(ThresholdedRelu), .a = { "alpha", 1 } },
};
static const struct unary gelu_tanh = { "Gelu", RT_T_REAL, RT_ACT_GELU_TANH, KERNEL(GeluTanh) };

/* What a node does, with its parameters. */
struct state {
    const struct unary *u;
    double a, b;
};

static double parameter(const struct rt_node *n, const struct parameter *p)
{
    const struct rt_attr *attr = p->name != NULL ? rt_attr(n, p->name) : NULL;
    if (attr == NULL)
        return p->otherwise;
    return attr->type == RT_ATTR_INT ? (double)attr->i : (double)attr->f;
}

static struct state state_of(const struct rt_node *n)
{
    const struct unary *u = unaries;
    while (strcmp(u->name, n->op->name) != 0)
        u++;
    if (u->kernel == RT_ACT_GELU && strcmp(rt_attr_string(n, "approximate", "none"), "tanh") == 0)
        u = &gelu_tanh;
    struct state s = { u, parameter(n, &u->a), parameter(n, &u->b) };
    if (u->kernel == RT_ACT_SELU && n->opset < 6) { /* had shorter constants */
        s.a = rt_attr_float(n, "alpha", 1.6732f);
        s.b = rt_attr_float(n, "gamma", 1.0507f);
    }
    return s;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct unary *u = state_of(n).u;
    enum rt_status s = rt_check_type(g, n, 0, u->types, err);
    if (s != RT_OK)
        return s;
    if (u->kernel == RT_ACT_GELU && strcmp(rt_attr_string(n, "approximate", "none"), "none") != 0)
        return rt_node_fail(err, RT_E_INVALID, n, "approximate must be 'none' or 'tanh', is '%s'",
                            rt_attr_string(n, "approximate", ""));
    const struct rt_value *x = rt_in(g, n, 0);
    return rt_set_out(g, n, 0, u->test ? RT_BOOL : x->dtype, &x->shape, err);
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    *s = state_of(n);
    n->state = s;
    return RT_OK;
}

static void apply(const struct state *s, enum rt_kind kind, void *y, const void *x, int64_t n)
{
    if (kind == RT_KIND_FLOAT && s->u->kernel >= 0)
        rt_kernels()->activation[s->u->kernel](y, x, (size_t)n, (float)s->a, (float)s->b);
    else
        s->u->of[kind](y, x, (size_t)n, s->a, s->b);
}

static void run_on(const struct state *s, const struct rt_tensor *x, const struct rt_tensor *y,
                   const struct rt_worker *w)
{
    const enum rt_kind kind = rt_kind_of(x->dtype);
    union rt_chunk in, out;
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &at, &end);
    for (int64_t n; at < end; at += n) {
        n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        void *to = rt_target(y, at, kind, &out);
        apply(s, kind, to, rt_load(x, at, n, kind, &in), n);
        rt_store(y, at, n, kind, to);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    run_on(c->node->state, &c->in[0], &c->out[0], w);
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor x = rt_blocked_view(&c->in[0]);
    const struct rt_tensor y = rt_blocked_view(&c->out[0]);
    run_on(c->node->state, &x, &y, w);
}

static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *x = &g->value[n->in[0]];
    return x->dtype == RT_FLOAT && x->shape.rank == 4;
}

static bool as_step(const struct rt_graph *g, const struct rt_node *n, struct rt_step *step,
                    int *data)
{
    const struct state s = state_of(n);
    if (s.u->kernel < 0 || g->value[n->in[0]].dtype != RT_FLOAT)
        return false;
    *step = (struct rt_step){ .kind = RT_STEP_ACTIVATION,
                              .act = (enum rt_activation)s.u->kernel,
                              .a = (float)s.a,
                              .b = (float)s.b,
                              .label = n->op->name };
    *data = 0;
    return true;
}

#define COMMON(x, version, more)                                                                   \
    .name = #x, .since = version, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1,            \
    .traits = RT_OP_INPLACE | (more), .infer = infer, .prepare = prepare

/* A test has no blocked form, and neither has what only integers know. */
#define PLAIN_UNARY(x, version)                                                                    \
    const struct rt_op rt_op_##x = { COMMON(x, version, 0), .run = run };
#define UNARY_WITH(x, version, more)                                                               \
    static const struct rt_op x##_blocked = { COMMON(x, version, more), .run = run_blocked };      \
    const struct rt_op rt_op_##x = { COMMON(x, version, more), .run = run, .as_step = as_step,     \
                                     .can_block = can_block, .blocked = &x##_blocked };
#define UNARY(x, version) UNARY_WITH(x, version, 0)

UNARY(Abs, 1)
UNARY(Acos, 7)
UNARY(Acosh, 9)
UNARY(Asin, 7)
UNARY(Asinh, 9)
UNARY(Atan, 7)
UNARY(Atanh, 9)
PLAIN_UNARY(BitwiseNot, 18)
UNARY(Ceil, 1)
UNARY(Celu, 12)
UNARY(Cos, 7)
UNARY(Cosh, 9)
UNARY(Elu, 1)
UNARY(Erf, 9)
UNARY(Exp, 1)
UNARY(Floor, 1)
UNARY(Gelu, 20)
UNARY(HardSigmoid, 1)
UNARY(HardSwish, 14)
PLAIN_UNARY(IsInf, 10)
PLAIN_UNARY(IsNaN, 9)
UNARY(LeakyRelu, 1)
UNARY(Log, 1)
UNARY(Mish, 18)
UNARY_WITH(Neg, 1, RT_OP_DIMS)
PLAIN_UNARY(Not, 1)
UNARY(Reciprocal, 1)
UNARY(Relu, 1)
UNARY(Round, 11)
UNARY(Selu, 1)
UNARY(Shrink, 9)
UNARY_WITH(Sigmoid, 1, RT_OP_PROBABILITY)
UNARY(Sign, 9)
UNARY(Sin, 7)
UNARY(Sinh, 9)
UNARY(Softplus, 1)
UNARY(Softsign, 1)
UNARY(Sqrt, 1)
UNARY(Swish, 24)
UNARY(Tan, 7)
UNARY(Tanh, 1)
UNARY(ThresholdedRelu, 1)
