/* What an operator is. The rest of the runtime knows operators only through this struct: passes
 * and the planner ask for traits and functions, never for a name.
 *
 * Life of a node: check (on import, the file's attributes and counts) -> infer (types and shapes)
 * -> passes -> prepare (pack weights, ask for scratch) -> run, any number of times. Folding a
 * constant node and running a model whose shapes depend on its data are the same four steps with
 * every input known (see eval.h).
 *
 * One rt_op serves every version of its operator: functions read node->opset where versions
 * differ. Types and ranks that are not served are refused by infer with the node's name. */
#ifndef RUNTIME_OPS_OP_H
#define RUNTIME_OPS_OP_H

#include "runtime/graph.h"
#include "runtime/kernels/kernels.h"
#include "runtime/packing.h"
#include "runtime/parallel.h"

enum {
    RT_OP_EPILOGUE = 1 << 0, /* run() applies node->step to its (first) output, float only */
    RT_OP_VIEW = 1 << 1,     /* out[0] is in[0]'s bytes under another shape: there is no run() */
    RT_OP_INPLACE = 1 << 2,  /* out[0] may be the same memory as in[0], if types are of one size */
    RT_OP_RANDOM = 1 << 3,   /* never folded: gives another result each time */
    RT_OP_JOINS = 1 << 4,    /* a sample of out[0] is that of each input, one after the other; run()
                                leaves alone what is there already */
    RT_OP_READS_SHAPE = 1 << 5, /* its integer inputs may be multiples of RT_BATCH: infer reads them
                                   as dimensions, run() goes by the tensors' shapes, not by them */
    RT_OP_OF_SHAPE = 1 << 6, /* its result depends on its inputs' shapes alone: run() may find their
                                data NULL */
    RT_OP_DIMS = 1 << 7,     /* linear on integers: with multiples of RT_BATCH among them the result
                                is right for every batch, so it may be folded (Add, Gather ...) */
    RT_OP_DIMS_ONE = 1 << 8, /* the same, if they are in one input only and, where the operator has
                                but one, in one element (Mul, ReduceProd) */
    RT_OP_PROBABILITY = 1 << 9, /* its outputs are probabilities (Softmax, Sigmoid) */
    RT_OP_ROUNDS = 1 << 10, /* rounds reals to integers (QuantizeLinear): an input that lies between
                               two of them may go either way in another implementation */
    RT_OP_DIMS_OVER = 1 << 11,  /* the same as RT_OP_DIMS, if they are in in[0] only and in[1]
                                   divides  them (Div, Mod) */
    RT_OP_DIMS_ORDER = 1 << 12, /* the same, if which input is the larger one does not depend on the
                                   batch; they may be equal at 1 (Max, Clip) */
    RT_OP_DIMS_COMPARE = 1 << 13, /* the same, if they are not equal at 1 either (Equal, Less) */
    RT_OP_SAMPLES = 1 << 14, /* a sample of its output depends on that sample of its inputs alone,
                                and not on its place in the batch; all operators on blocked tensors
                                do so without saying */
    RT_OP_FLUSHES = 1 << 15, /* sums of products and means: run() and what is fused into it take
                                denormals for zeros, and make none (float_mode.h) */
};

/* What run() gets: tensors with the sizes of this run. */
struct rt_call {
    const struct rt_node *node;
    const struct rt_tensor *in; /* node->n_in; data NULL and RT_UNDEFINED where absent */
    struct rt_tensor *out;      /* node->n_out; the same */
    const struct rt_call *feeder; /* of the node that makes a streamed in[0]; NULL: none */
    void *scratch; /* node->scratch bytes, shared by the team, not cleared; never NULL */
    struct rt_fault *fault;
};

/* Where passes, prepare and eval put what outlives them. */
struct rt_build {
    struct rt_graph *g;
    struct rt_arena *arena; /* packed weights and states; ends with the compiled program */
    int max_batch;          /* samples a run may have; 1 when the model has no batch axis */
    int threads;            /* largest team a run may have: scratch is for that many */
    bool exact;
    struct rt_packings *packings; /* weights that are packed later; NULL: each is at once */
};

/* A way to compute a node, where there are several. */
struct rt_choice {
    const char *name; /* two words at most: "winograd F(4x4)" */
    double cost;      /* of a sample, in multiply-adds of vectors, beside reading the weights; to be
                         compared within a model */
    size_t weight_bytes;
};

struct rt_op {
    const char *name;   /* ONNX op_type, or the runtime's own for what passes put in */
    const char *domain; /* NULL: ai.onnx; "ai.convd": only passes make it, files cannot */
    int since;          /* first opset version that has it; 0: 1 */
    int min_in, max_in; /* max -1: any number */
    int min_out, max_out;
    unsigned traits;

    /* Sets dtype, shape and inferred of each output's value from the inputs'. RT_E_DYNAMIC (through
     * rt_fail_dynamic) when that takes data that is not constant. All that a file can get wrong
     * with this node is found here: run() may rely on it. */
    enum rt_status (*infer)(struct rt_graph *g, struct rt_node *n, struct rt_error *err);

    /* May allocate n->state from b->arena, set n->scratch (rt_set_scratch), n->flops,
     * n->weight_bytes and n->algorithm. A constant input that it has packed and that run() will not
     * look at is given back by n->in[i] = -1; those that stay are handed to run() in c->in. The
     * elements of constants move after this and what rt_build_pack() was given: state must not
     * point at them any more. NULL: nothing to do. */
    enum rt_status (*prepare)(struct rt_build *b, struct rt_node *n, struct rt_error *err);

    /* The ways to compute the node, of which node->choice is an index in prepare: the first is the
     * one that adds as the standard does. How many there are does not depend on activations' sizes.
     * NULL: there is one. Called on nodes whose layouts are set. */
    int (*choices)(const struct rt_graph *g, const struct rt_node *n,
                   struct rt_choice out[RT_MAX_CHOICES]);

    /* Called on every worker of the team at once; together they write all of out[]. A worker may
     * read what another wrote only after rt_worker_barrier(). Each output element is computed by
     * the same operations in the same order whatever the batch, the team or the position, so that
     * results are bit-identical. Faults that data can cause (an index out of range) are reported
     * with rt_fault(); the barriers must be reached all the same. */
    void (*run)(const struct rt_call *c, const struct rt_worker *w);

    /* Gives the node constants of its own so that out[ch] becomes out[ch] * scale[ch] + shift[ch]
     * along axis 1. RT_E_UNSUPPORTED: it cannot, nothing was changed. NULL: never can. */
    enum rt_status (*absorb_affine)(struct rt_graph *g, struct rt_node *n, const float *scale,
                                    const float *shift, struct rt_error *err);
    /* The same for its input: in[0][ch] * scale[ch] + shift[ch] is what it gets from now on.
     * Padding of zeros, among others, makes it RT_E_UNSUPPORTED. */
    enum rt_status (*absorb_input_affine)(struct rt_graph *g, struct rt_node *n, const float *scale,
                                          const float *shift, struct rt_error *err);
    /* If the node is, along axis 1 of in[0], a multiply-add by constants, writes them to
     * scale[channels] and shift[channels] and returns true. in[*data] is the tensor. */
    bool (*as_affine)(const struct rt_graph *g, const struct rt_node *n, int64_t channels,
                      float *scale, float *shift, int *data);
    /* If the node can be done as a step on the elements of in[*data] as they are made, fills
     * *step (an operand that is a tensor: step->arg = its index in n->in) and returns true. */
    bool (*as_step)(const struct rt_graph *g, const struct rt_node *n, struct rt_step *step,
                    int *data);
    /* The same operator on the channel-blocked layout: whether this node can run there, and what
     * it is then. Both set or both NULL. The blocked form reads every input that is not constant
     * as RT_BLOCKED, but for those that reads_plain (may be NULL) says it takes as they are, and
     * writes RT_BLOCKED. prefers_blocked: worth converting the inputs for. */
    bool (*can_block)(const struct rt_graph *g, const struct rt_node *n);
    bool (*reads_plain)(const struct rt_graph *g, const struct rt_node *n, int i);
    bool prefers_blocked;
    const struct rt_op *blocked;
};

/* For counts: not negative, and b not 0. */
static inline int64_t rt_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t rt_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Sets the node's scratch to so many bytes for each worker, which starts at worker's id times that.
 */
static inline void rt_set_scratch(const struct rt_build *b, struct rt_node *n, size_t each)
{
    n->scratch = (size_t)b->threads * each;
    n->scratch_each = each;
}

/* False: a view, or a node that makes a streamed value, which is run by its reader. */
bool rt_node_runs(const struct rt_graph *g, const struct rt_node *n);

/* Has pieces 0..n-1 of weights packed before the first run. ctx and what it shows have to last
 * until all nodes are prepared. */
enum rt_status rt_build_pack(const struct rt_build *b, rt_pack *pack, void *ctx, int64_t n,
                             struct rt_error *err);

/* The operator of that op_type and domain, NULL if there is none. */
const struct rt_op *rt_op_find(const char *domain, const char *name);
/* The i-th operator that files may use, in alphabetical order, NULL past the last. */
const struct rt_op *rt_op_at(int i);

/* Declares every operator of ops.def, as rt_op_<Name>. */
#define RT_OP(name) extern const struct rt_op rt_op_##name;
#include "runtime/ops/ops.def"
#undef RT_OP

/* --- helpers for infer and prepare ------------------------------------------------------- */

/* rt_fail() with "node 'name' (Op): " in front. */
enum rt_status rt_node_fail(struct rt_error *err, enum rt_status status, const struct rt_node *n,
                            const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* RT_E_DYNAMIC: what (an input's name in the standard: "shape") would have to be constant. */
enum rt_status rt_fail_dynamic(struct rt_error *err, const struct rt_node *n, const char *what);
#ifdef __clang_analyzer__ /* as in status.h */
#define rt_node_fail(err, status, n, ...) (rt_node_fail(err, status, n, __VA_ARGS__), (status))
#define rt_fail_dynamic(err, n, what) (rt_fail_dynamic(err, n, what), RT_E_DYNAMIC)
#endif

/* Attributes by name; the default when the node has none of that name and type. */
const struct rt_attr *rt_attr(const struct rt_node *n, const char *name);
int64_t rt_attr_int(const struct rt_node *n, const char *name, int64_t otherwise);
float rt_attr_float(const struct rt_node *n, const char *name, float otherwise);
const char *rt_attr_string(const struct rt_node *n, const char *name, const char *otherwise);
/* *ints and the count (0 and NULL when there is no such attribute). */
int rt_attr_ints(const struct rt_node *n, const char *name, const int64_t **ints);

bool rt_has_in(const struct rt_node *n, int i);                             /* input i is there */
bool rt_has_out(const struct rt_node *n, int i);                            /* output i is wanted */
struct rt_value *rt_in(struct rt_graph *g, const struct rt_node *n, int i); /* NULL: absent */
struct rt_value *rt_out(struct rt_graph *g, const struct rt_node *n, int i);
const struct rt_value *rt_in_const(const struct rt_graph *g, const struct rt_node *n, int i);

/* Sets output i (a no-op when it is not wanted) after checking the shape: no negative dimension, a
 * count that fits, at most one axis that follows the batch, and an exact multiple of it. */
enum rt_status rt_set_out(struct rt_graph *g, struct rt_node *n, int i, enum rt_dtype dtype,
                          const struct rt_shape *shape, struct rt_error *err);
/* Output 0 is like input 0. Fits as infer of unary operators. */
enum rt_status rt_infer_same(struct rt_graph *g, struct rt_node *n, struct rt_error *err);

/* Refuses input i unless its type is one of the mask's, made by RT_T(RT_FLOAT) | ... */
#define RT_T(t) (1u << (t))
#define RT_T_REAL (RT_T(RT_FLOAT) | RT_T(RT_DOUBLE) | RT_T(RT_FLOAT16) | RT_T(RT_BFLOAT16))
#define RT_T_INT                                                                                   \
    (RT_T(RT_INT8) | RT_T(RT_INT16) | RT_T(RT_INT32) | RT_T(RT_INT64) | RT_T(RT_UINT8) |           \
     RT_T(RT_UINT16) | RT_T(RT_UINT32) | RT_T(RT_UINT64))
#define RT_T_NUMBER (RT_T_REAL | RT_T_INT)
#define RT_T_ANY (RT_T_NUMBER | RT_T(RT_BOOL))
enum rt_status rt_check_type(const struct rt_graph *g, const struct rt_node *n, int i,
                             unsigned mask, struct rt_error *err);
enum rt_status rt_check_same_type(const struct rt_graph *g, const struct rt_node *n, int i, int j,
                                  struct rt_error *err);

/* A constant integer input (int32 or int64) as int64 in arena memory. *count is -1 and RT_OK is
 * returned when the input is absent; RT_E_DYNAMIC when it is not constant. */
enum rt_status rt_const_ints(struct rt_graph *g, const struct rt_node *n, int i, const char *what,
                             const int64_t **ints, int64_t *count, struct rt_error *err);
/* A constant float (or reduced, or double) input as floats in arena memory; the same rules. */
enum rt_status rt_const_floats(struct rt_graph *g, const struct rt_node *n, int i, const char *what,
                               const float **floats, int64_t *count, struct rt_error *err);
/* Ints from the attribute of that name or, where the node has none, from constant input i (axes
 * moved from one to the other over the versions). *count -1 when neither is there. */
enum rt_status rt_attr_or_const(struct rt_graph *g, const struct rt_node *n, const char *name,
                                int i, const int64_t **ints, int64_t *count, struct rt_error *err);
/* axis, counted from the end when negative, checked against 0..rank-1 (or rank, if inclusive). */
enum rt_status rt_fix_axis(const struct rt_node *n, int64_t axis, int rank, bool inclusive,
                           int *out, struct rt_error *err);
/* Numpy's broadcast of two shapes. */
enum rt_status rt_broadcast(const struct rt_node *n, const struct rt_shape *a,
                            const struct rt_shape *b, struct rt_shape *out, struct rt_error *err);

/* --- helpers for run --------------------------------------------------------------------- */

/* The first fault of a run wins; the run then ends with it. Any thread. */
void rt_fault(const struct rt_call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Strides in elements of a dense tensor; of one broadcast to out's shape (0 where it repeats). */
void rt_strides(const struct rt_shape *s, int64_t stride[RT_MAX_RANK]);
void rt_broadcast_strides(const struct rt_shape *s, const struct rt_shape *out,
                          int64_t stride[RT_MAX_RANK]);

/* Applies the node's steps in place to len floats at y that belong to one sample and channel c of
 * a plain output and start at element offset of that output tensor (needed for RT_STEP_ADD). */
void rt_steps_plain(const struct rt_call *c, float *y, int64_t sample, int64_t channel,
                    int64_t offset, int64_t len);
/* The same for pixels * block floats of one channel block of a blocked output. */
void rt_steps_blocked(const struct rt_call *c, float *y, int64_t sample, int64_t channel_block,
                      int64_t offset, int64_t pixels);

#endif
