/* Operators on the elements of two or more tensors with numpy's broadcasting: arithmetic, logic,
 * comparisons, bits, PRelu. */
#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "runtime/ops/binary.h"
#include "runtime/ops/element.h"

/* to[i] = x[i] op y[i]; to may be x. */
typedef void formula(void *to, const void *x, const void *y, size_t n);

#define JOIN2(x, y) x##_##y
#define JOIN(x, y) JOIN2(x, y)

static uint64_t integer_power(uint64_t x, uint64_t y)
{
    uint64_t p = 1;
    for (; y != 0; y >>= 1, x *= x)
        if (y & 1)
            p *= x;
    return p;
}

#define T float
#define KIND float
#define FOR_REALS
#include "runtime/ops/binary.inc"
#define T double
#define KIND double
#define FOR_REALS
#define WITH_KERNELS
#include "runtime/ops/binary.inc"
#define T int64_t
#define KIND int
#define FOR_INTEGERS
#define FOR_SIGNED
#include "runtime/ops/binary.inc"
#define T uint64_t
#define KIND uint
#define FOR_INTEGERS
#include "runtime/ops/binary.inc"

#define KERNEL(name, slot)                                                                         \
    static void name##_float(void *to, const void *x, const void *y, size_t n)                     \
    {                                                                                              \
        rt_kernels()->slot(to, x, y, n);                                                           \
    }
KERNEL(Add, add)
KERNEL(Sub, sub)
KERNEL(Mul, mul)
KERNEL(Div, div)

struct binary {
    const char *name;
    unsigned types; /* of the inputs */
    formula *of[RT_N_KINDS];
    enum rt_binary_role role;
    bool test; /* the result is a bool, else it is of the inputs' type */
    bool mean; /* the result is divided by the number of inputs */
};

#define NUMBER(x) .of = { x##_float, x##_double, x##_int, x##_uint }
#define INTEGER(x) .of = { NULL, NULL, x##_int, x##_uint }

static const struct binary binaries[] = {
    { "Add", RT_T_NUMBER, NUMBER(Add), .role = RT_BINARY_ADD },
    { "And", RT_T(RT_BOOL), INTEGER(BitwiseAnd) },
    { "BitwiseAnd", RT_T_INT, INTEGER(BitwiseAnd) },
    { "BitwiseOr", RT_T_INT, INTEGER(BitwiseOr) },
    { "BitwiseXor", RT_T_INT, INTEGER(BitwiseXor) },
    { "Div", RT_T_NUMBER, NUMBER(Div), .role = RT_BINARY_DIV },
    { "Equal", RT_T_ANY, NUMBER(Equal), .test = true },
    { "Greater", RT_T_NUMBER, NUMBER(Greater), .test = true },
    { "GreaterOrEqual", RT_T_NUMBER, NUMBER(GreaterOrEqual), .test = true },
    { "Less", RT_T_NUMBER, NUMBER(Less), .test = true },
    { "LessOrEqual", RT_T_NUMBER, NUMBER(LessOrEqual), .test = true },
    { "Max", RT_T_NUMBER, NUMBER(Max) },
    { "Mean", RT_T_REAL, NUMBER(Add), .mean = true },
    { "Min", RT_T_NUMBER, NUMBER(Min) },
    { "Mul", RT_T_NUMBER, NUMBER(Mul), .role = RT_BINARY_MUL },
    { "Or", RT_T(RT_BOOL), INTEGER(BitwiseOr) },
    { "PRelu", RT_T_NUMBER, .of = { PRelu_float, PRelu_double, PRelu_int, First_uint },
      .role = RT_BINARY_PRELU },
    { "Pow", RT_T_NUMBER, NUMBER(Pow) },
    { "Sub", RT_T_NUMBER, NUMBER(Sub), .role = RT_BINARY_SUB },
    { "Sum", RT_T_REAL, NUMBER(Add), .role = RT_BINARY_ADD },
    { "Xor", RT_T(RT_BOOL), INTEGER(BitwiseXor) },
};
static const struct binary mod = { "Mod", RT_T_INT, INTEGER(Mod) };
static const struct binary mod_c = { "Mod", RT_T_NUMBER,
                                     .of = { Fmod_float, Fmod_double, Fmod_int, Mod_uint } };
static const struct binary shift_left = { "BitShift", RT_T_INT, INTEGER(ShiftLeft) };
static const struct binary shift_right = { "BitShift", RT_T_INT, INTEGER(ShiftRight) };

/* With one input that is the result. */
static formula *const first_of[RT_N_KINDS] = { First_float, First_double, First_int, First_uint };
static formula *const quotient_of[RT_N_KINDS] = { Div_float, Div_double, Div_int, Div_uint };

struct state {
    const struct binary *binary;
    enum rt_kind kind;
    /* Blocked form: constant inputs as blocked tensors; data NULL where the input is none. */
    struct rt_tensor *packed;
};

static const struct binary *binary_of(const struct rt_node *n)
{
    if (strcmp(n->op->name, "Mod") == 0)
        return rt_attr_int(n, "fmod", 0) != 0 ? &mod_c : &mod;
    if (strcmp(n->op->name, "BitShift") == 0)
        return rt_attr_string(n, "direction", "")[0] == 'L' ? &shift_left : &shift_right;
    const struct binary *b = binaries;
    while (strcmp(b->name, n->op->name) != 0)
        b++;
    return b;
}

enum rt_binary_role rt_binary_role(const struct rt_node *n)
{
    return binary_of(n)->role;
}

struct rt_shape rt_binary_second_shape(const struct rt_node *n, const struct rt_shape *a,
                                       const struct rt_shape *b)
{
    const int64_t channel_axis = strcmp(n->op->name, "PRelu") == 0 && b->rank == 1 ? 1 : -1;
    const int64_t axis = rt_attr_int(n, "axis", channel_axis);
    struct rt_shape s = *b;
    if (n->opset >= 7 || axis < 0 || axis + b->rank > a->rank)
        return s;
    while (s.rank < a->rank - axis)
        s.dim[s.rank++] = 1;
    return s;
}

static enum rt_status check_types(const struct rt_graph *g, const struct rt_node *n,
                                  const struct binary *b, struct rt_error *err)
{
    /* Since version 12 the exponent may be of another type than the base. */
    const bool mixed = b->of[RT_KIND_FLOAT] == Pow_float;
    for (int i = 0; i < n->n_in; i++) {
        if (!rt_has_in(n, i))
            return rt_node_fail(err, RT_E_INVALID, n, "input %d is missing", i);
        enum rt_status s = rt_check_type(g, n, i, b->types, err);
        if (s == RT_OK && i > 0 && !mixed)
            s = rt_check_same_type(g, n, 0, i, err);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct binary *b = binary_of(n);
    enum rt_status s = check_types(g, n, b, err);
    if (s != RT_OK)
        return s;
    const char *direction = rt_attr_string(n, "direction", "");
    if ((b == &shift_left && strcmp(direction, "LEFT") != 0) ||
        (b == &shift_right && strcmp(direction, "RIGHT") != 0))
        return rt_node_fail(err, RT_E_INVALID, n, "direction must be LEFT or RIGHT, is '%s'",
                            direction);

    const struct rt_shape first = rt_in(g, n, 0)->shape;
    struct rt_shape out = first;
    for (int i = 1; i < n->n_in; i++) {
        struct rt_shape next = rt_in(g, n, i)->shape;
        if (i == 1)
            next = rt_binary_second_shape(n, &first, &next);
        struct rt_shape joined;
        s = rt_broadcast(n, &out, &next, &joined, err);
        if (s != RT_OK)
            return s;
        out = joined;
    }
    if (b->role == RT_BINARY_PRELU && !rt_shape_equal(&out, &first))
        return rt_node_fail(err, RT_E_INVALID, n, "the slope does not broadcast to the input");
    return rt_set_out(g, n, 0, b->test ? RT_BOOL : rt_in(g, n, 0)->dtype, &out, err);
}

/* Integers to a real power are computed in double, all else as the first input is. */
static enum rt_kind kind_of(const struct rt_graph *g, const struct rt_node *n)
{
    const enum rt_dtype first = g->value[n->in[0]].dtype;
    const enum rt_dtype last = g->value[n->in[n->n_in - 1]].dtype;
    if (!rt_dtype_is_float(first) && rt_dtype_is_float(last))
        return RT_KIND_DOUBLE;
    return rt_kind_of(first);
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    s->binary = binary_of(n);
    s->kind = kind_of(b->g, n);
    n->state = s;
    return RT_OK;
}

/* y = a op b on this worker's share; y may be a. */
static void combine(formula *f, enum rt_kind kind, const struct rt_tensor *y,
                    const struct rt_tensor *a, const struct rt_tensor *b, const struct rt_worker *w)
{
    union rt_chunk a_buf, b_buf, y_buf;
    struct rt_operand oa, ob;
    rt_operand_init(&oa, a, &y->shape);
    rt_operand_init(&ob, b, &y->shape);
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &at, &end);
    for (int64_t n; at < end; at += n) {
        n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        const void *from_a = rt_operand_load(&oa, at, n, kind, &a_buf);
        const void *from_b = rt_operand_load(&ob, at, n, kind, &b_buf);
        void *to = rt_target(y, at, kind, &y_buf);
        f(to, from_a, from_b, (size_t)n);
        rt_store(y, at, n, kind, to);
    }
}

typedef struct rt_tensor operand_of(const struct rt_call *c, int i);

/* With more than two inputs the output holds what came of the first ones, and each worker goes
 * over its own share of it again. */
static void run_on(const struct rt_call *c, const struct rt_tensor *y, operand_of *operand,
                   const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    const int n_in = c->node->n_in;
    const struct rt_tensor first = operand(c, 0);
    if (n_in == 1)
        combine(first_of[s->kind], s->kind, y, &first, &first, w);
    for (int i = 1; i < n_in; i++) {
        const struct rt_tensor next = operand(c, i);
        combine(s->binary->of[s->kind], s->kind, y, i == 1 ? &first : y, &next, w);
    }
    if (s->binary->mean) {
        float count = (float)n_in;
        const struct rt_tensor divisor = { .dtype = RT_FLOAT, .data = &count };
        combine(quotient_of[s->kind], s->kind, y, y, &divisor, w);
    }
}

static struct rt_tensor plain_operand(const struct rt_call *c, int i)
{
    struct rt_tensor t = c->in[i];
    if (i == 1)
        t.shape = rt_binary_second_shape(c->node, &c->in[0].shape, &t.shape);
    return t;
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    run_on(c, &c->out[0], plain_operand, w);
}

/* --- the blocked form ---------------------------------------------------------------------- */

/* An input's shape with ones in front up to rank 4. False: it has no place among [N,C,H,W]. */
static bool as_nchw(const struct rt_graph *g, const struct rt_node *n, int i, struct rt_shape *s)
{
    *s = g->value[n->in[i]].shape;
    if (i == 1)
        *s = rt_binary_second_shape(n, &g->value[n->in[0]].shape, s);
    if (s->rank > 4)
        return false;
    struct rt_shape four = { .rank = 4, .dim = { 1, 1, 1, 1 } };
    for (int k = 0; k < s->rank; k++)
        four.dim[4 - s->rank + k] = s->dim[k];
    *s = four;
    return true;
}

/* Tensors that are blocked already broadcast along any axis but the channels, whose lanes would
 * have to be repeated; constants are packed to fit. */
static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *y = &g->value[n->out[0]];
    if (y->dtype != RT_FLOAT || y->shape.rank != 4)
        return false;
    bool full = false;
    for (int i = 0; i < n->n_in; i++) {
        const struct rt_value *x = &g->value[n->in[i]];
        struct rt_shape s;
        if (x->dtype != RT_FLOAT || !as_nchw(g, n, i, &s))
            return false;
        if (!x->constant && (x->shape.rank != 4 || s.dim[1] != y->shape.dim[1]))
            return false;
        full = full || (!x->constant && rt_shape_equal(&s, &y->shape));
    }
    return full;
}

/* Constant input i as a blocked tensor; one channel for all is repeated over the lanes. */
static enum rt_status pack(struct rt_build *b, const struct rt_node *n, int i,
                           struct rt_tensor *packed, struct rt_error *err)
{
    struct rt_shape s;
    as_nchw(b->g, n, i, &s);
    const int64_t lanes = rt_kernels()->block;
    const int64_t channels = s.dim[1], pixels = s.dim[2] * s.dim[3];
    const int64_t blocks = (channels + lanes - 1) / lanes;
    const float *from = b->g->value[n->in[i]].data;
    float *to = rt_arena_array(b->arena, (size_t)(s.dim[0] * blocks * pixels * lanes), sizeof *to);
    if (to == NULL)
        return rt_graph_nomem(b->g, err);
    *packed =
        (struct rt_tensor){ RT_FLOAT, { 5, { s.dim[0], blocks, s.dim[2], s.dim[3], lanes } }, to };
    for (int64_t j = 0; j < s.dim[0] * blocks; j++) {
        const int64_t sample = j / blocks, block = j % blocks;
        for (int64_t p = 0; p < pixels; p++) {
            for (int64_t l = 0; l < lanes; l++) {
                const int64_t c = channels == 1 ? 0 : block * lanes + l;
                *to++ = c < channels ? from[(sample * channels + c) * pixels + p] : 0;
            }
        }
    }
    return RT_OK;
}

static enum rt_status prepare_blocked(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    enum rt_status status = prepare(b, n, err);
    if (status != RT_OK)
        return status;
    struct state *s = n->state;
    s->packed = rt_arena_array(b->arena, (size_t)n->n_in, sizeof *s->packed);
    if (s->packed == NULL)
        return rt_graph_nomem(b->g, err);
    for (int i = 0; i < n->n_in && status == RT_OK; i++)
        if (b->g->value[n->in[i]].constant)
            status = pack(b, n, i, &s->packed[i], err);
    for (int i = 0; i < n->n_in && status == RT_OK; i++)
        if (s->packed[i].data != NULL)
            n->in[i] = -1; /* but only now: where one lies may depend on the other's shape */
    return status;
}

static struct rt_tensor blocked_operand(const struct rt_call *c, int i)
{
    const struct state *s = c->node->state;
    return s->packed[i].data != NULL ? s->packed[i] : rt_blocked_view(&c->in[i]);
}

/* The input that the other scales by one number for each channel of each sample, as squeeze and
 * excitation does; -1: it is no such product. */
static int scaled_input(const struct rt_call *c)
{
    const struct state *s = c->node->state;
    const struct rt_shape *y = &c->out[0].shape;
    if (c->node->n_in != 2 || s->binary->role != RT_BINARY_MUL || s->packed[0].data != NULL ||
        s->packed[1].data != NULL)
        return -1;
    for (int i = 0; i < 2; i++) {
        const struct rt_shape *k = &c->in[1 - i].shape;
        if (rt_shape_equal(&c->in[i].shape, y) && k->dim[0] == y->dim[0] && k->dim[2] == 1 &&
            k->dim[3] == 1)
            return i;
    }
    return -1;
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor y = rt_blocked_view(&c->out[0]);
    const int x = scaled_input(c);
    if (x < 0) {
        run_on(c, &y, blocked_operand, w);
        return;
    }
    const int64_t block = rt_kernels()->block, pixels = y.shape.dim[2] * y.shape.dim[3];
    int64_t i, end;
    rt_worker_share(w, y.shape.dim[0] * y.shape.dim[1], 1, &i, &end);
    for (; i < end; i++)
        rt_kernels()->affine_block((float *)y.data + i * pixels * block,
                                   (const float *)c->in[x].data + i * pixels * block,
                                   (size_t)pixels, (const float *)c->in[1 - x].data + i * block,
                                   NULL);
}

#define COMMON(x, version, most, more)                                                             \
    .name = #x, .since = version, .min_in = (most) < 0 ? 1 : 2, .max_in = most, .min_out = 1,      \
    .max_out = 1, .traits = RT_OP_INPLACE | (more), .infer = infer
#define BINARY_WITH(x, version, more)                                                              \
    const struct rt_op rt_op_##x = { COMMON(x, version, 2, more), .prepare = prepare, .run = run };
#define BINARY(x, version) BINARY_WITH(x, version, 0)
/* Those that make floats of floats have a blocked form and take part in fusion. */
#define ARITHMETIC(x, version, most, more)                                                         \
    static const struct rt_op x##_blocked = { COMMON(x, version, most, more),                      \
                                              .prepare = prepare_blocked, .run = run_blocked };    \
    const struct rt_op rt_op_##x = {                                                               \
        COMMON(x, version, most, more),   .prepare = prepare,           .run = run,                \
        .as_affine = rt_binary_as_affine, .as_step = rt_binary_as_step, .can_block = can_block,    \
        .blocked = &x##_blocked                                                                    \
    };

ARITHMETIC(Add, 1, 2, RT_OP_DIMS)
ARITHMETIC(Div, 1, 2, RT_OP_DIMS_OVER)
ARITHMETIC(Max, 1, -1, RT_OP_DIMS_ORDER)
ARITHMETIC(Mean, 1, -1, 0)
ARITHMETIC(Min, 1, -1, RT_OP_DIMS_ORDER)
ARITHMETIC(Mul, 1, 2, RT_OP_DIMS_ONE)
ARITHMETIC(PRelu, 1, 2, 0)
ARITHMETIC(Pow, 1, 2, 0)
ARITHMETIC(Sub, 1, 2, RT_OP_DIMS)
ARITHMETIC(Sum, 1, -1, RT_OP_DIMS)
BINARY(And, 1)
BINARY(BitShift, 11)
BINARY(BitwiseAnd, 18)
BINARY(BitwiseOr, 18)
BINARY(BitwiseXor, 18)
BINARY_WITH(Equal, 1, RT_OP_DIMS_COMPARE)
BINARY_WITH(Greater, 1, RT_OP_DIMS_COMPARE)
BINARY_WITH(GreaterOrEqual, 12, RT_OP_DIMS_COMPARE)
BINARY_WITH(Less, 1, RT_OP_DIMS_COMPARE)
BINARY_WITH(LessOrEqual, 12, RT_OP_DIMS_COMPARE)
BINARY_WITH(Mod, 10, RT_OP_DIMS_OVER)
BINARY(Or, 1)
BINARY(Xor, 1)
