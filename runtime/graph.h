/* The model while it is being compiled: nodes, values and constants in one arena.
 *
 * Values and nodes are named by index; an index stays valid while others are added. Nodes are kept
 * in an order in which each one comes after those it reads. A pass may leave dead nodes (op NULL)
 * and append new ones anywhere; rt_graph_tidy() puts the order and the counts right again. */
#ifndef RUNTIME_GRAPH_H
#define RUNTIME_GRAPH_H

#include "runtime/kernels/kernels.h"
#include "runtime/mem.h"
#include "runtime/rt.h"
#include "runtime/status.h"
#include "runtime/tensor.h"

struct rt_op;

/* How many samples a run has is not known while compiling. A dimension that follows it is written
 * as a multiple of RT_BATCH: 3 * RT_BATCH reads "three times the batch". Any arithmetic that a
 * file does on shapes (Shape, Gather, Mul, Concat, Reshape ...) then works as it is on constants,
 * and what is not a multiple (batch + 1) or is one twice (batch * batch) can be told and refused.
 * No real dimension comes near: 2^40 floats are four tebibytes. */
#define RT_BATCH ((int64_t)1 << 40)

static inline bool rt_is_batched(int64_t dim)
{
    return dim >= RT_BATCH / 2 || dim <= -RT_BATCH / 2;
}

/* What dim is when a run has n samples. */
static inline int64_t rt_dim_at(int64_t dim, int64_t n)
{
    return rt_is_batched(dim) ? dim / RT_BATCH * n : dim;
}

struct rt_shape rt_shape_at(const struct rt_shape *s, int64_t n);
/* The axis whose dimension is a multiple of RT_BATCH; -1: none. */
int rt_shape_batch_axis(const struct rt_shape *s);

enum rt_layout {
    RT_PLAIN,   /* dense row-major, as ONNX has it */
    RT_BLOCKED, /* [N][ceil(C / b)][H][W][b], b = rt_kernels()->block; lanes past C hold anything */
    RT_PIXELS,  /* bytes, [N][H][W][C], C rounded up as in ops/pixels.h; the rest holds anything */
};

struct rt_value {
    const char *name; /* never NULL; "" when made by a pass */
    enum rt_dtype dtype;
    struct rt_shape shape; /* logical (NCHW) in either layout; valid once inferred */
    enum rt_layout layout;
    bool is_input; /* fed by the caller of a run */
    bool is_output;
    bool inferred;    /* dtype and shape are set */
    int producer;     /* node, or -1: input or constant */
    int uses;         /* how many times nodes read it, plus one if it is an output of the graph */
    const void *data; /* a constant's elements, else NULL. Lives in bulk memory or in the file's
                         bytes and never changes: other readers may share it */
    bool constant;    /* data counts; NULL data with constant set is an empty tensor */
    /* Weights that only Convs, Gemms and MatMuls read, which are made what they should be when they
     * are packed, so that no copy of the file's is: as ops/conv.h has it. Those are floats at any
     * address. Data is NULL then, else unscaled is. A Gemm's or MatMul's are the file's as they
     * are; so are those in front of a Transpose, for which rt_graph_fetch() copies them if it is
     * computed. */
    const void *unscaled;
    const float *gain, *in_gain;
    bool turned;
    bool streamed; /* its only reader, the next node, has it made piece by piece: nowhere whole */
    bool wide; /* the file has int32 here: it is int64 to hold multiples of RT_BATCH */
};

enum rt_attr_type {
    RT_ATTR_FLOAT = 1,
    RT_ATTR_INT = 2,
    RT_ATTR_STRING = 3,
    RT_ATTR_TENSOR = 4,
    RT_ATTR_GRAPH = 5,
    RT_ATTR_FLOATS = 6,
    RT_ATTR_INTS = 7,
    RT_ATTR_STRINGS = 8,
};

/* ONNX's numbers (AttributeProto.AttributeType). Which members count follows from type. */
struct rt_attr {
    const char *name;
    enum rt_attr_type type;
    int64_t i;
    float f;
    const char *s; /* NUL-terminated; bytes after a NUL inside are dropped */
    int n;         /* elements of ints, floats, strings */
    const int64_t *ints;
    const float *floats;
    const char *const *strings;
    struct rt_tensor t;
    const struct rt_graph *g; /* If's branches; NULL elsewhere */
};

/* Work that a node does on each element of its output before it is stored, in order. These are
 * what elementwise nodes become when they are fused. Only float tensors, along axis 1 = channel. */
enum rt_step_kind {
    RT_STEP_AFFINE,     /* x * scale[c] + shift[c] */
    RT_STEP_ADD,        /* x + in[arg], same shape and layout as the output (a residual) */
    RT_STEP_MUL,        /* x * in[arg], same shape and layout */
    RT_STEP_SCALE_NC,   /* x * in[arg], in[arg] is [N,C,1,1] (squeeze-excite) */
    RT_STEP_ACTIVATION, /* act(x) with a, b */
    RT_STEP_PRELU,      /* x < 0 ? x * scale[c] : x */
};

struct rt_step {
    enum rt_step_kind kind;
    enum rt_activation act;
    float a, b;
    int arg;            /* index into the node's in[], for the kinds that read a tensor */
    const float *scale; /* [C], arena memory */
    const float *shift; /* [C] */
    const char *label;  /* op_type of the node this was, for the report */
};

#define RT_MAX_STEPS 8
#define RT_MAX_CHOICES 4

struct rt_node {
    const struct rt_op *op; /* NULL: dead */
    const char *name;       /* the file's, or its first output's when the file has none */
    int opset;              /* version of the operator set that the file imports for its domain */
    int n_in, n_out;
    int *in;  /* values; -1 for an optional input that was left out */
    int *out; /* values; -1 for an optional output that nobody wants */
    int n_attr;
    const struct rt_attr *attr;
    int n_steps;
    struct rt_step step[RT_MAX_STEPS];
    int choice; /* of the ways in which its operator can compute it */
    int n_ways; /* how many there are, and their names; 0: one */
    const char *way[RT_MAX_CHOICES];
    int batchnorm;       /* index into the graph's report, -1: not a batch norm */
    void *state;         /* what the operator's prepare() made; see op.h */
    size_t scratch;      /* bytes of working memory its run() wants; the same */
    size_t scratch_each; /* of that, what each worker has to itself, one's after the other's; 0: the
                            team shares it in another way */
    size_t weight_bytes;
    double flops; /* a sample; filled by prepare() */
    const char *algorithm;
};

struct rt_graph {
    struct rt_arena *arena; /* names, nodes, attributes, shapes: lives as long as the program */
    struct rt_arena *bulk;  /* elements of constants: gone once weights are packed */
    size_t limit;           /* of each, in bytes; 0: none */
    bool batched;           /* dimensions may be multiples of RT_BATCH */
    bool batch_of_one;      /* the file has 1 where the batch is tried to be left open */
    bool random;            /* some result was drawn at random (a node with RT_OP_RANDOM) */
    int n_values, cap_values;
    struct rt_value *value;
    int n_nodes, cap_nodes;
    struct rt_node *node;
    int n_inputs, n_outputs;
    int *input, *output; /* values */
    int n_batchnorms, cap_batchnorms;
    struct rt_batchnorm *batchnorm;
    int opset; /* of the default domain */
    int ir_version;
    const char *producer;
    int64_t n_parameters;
    int n_file_nodes;
};

/* An empty graph in an arena of its own that holds at most limit bytes (0: any number). */
struct rt_graph *rt_graph_create(size_t limit);
void rt_graph_destroy(struct rt_graph *g); /* takes NULL */
/* The same nodes and values in arenas of its own with that limit. Names, attributes and constants
 * are shared, so src must outlive it. */
struct rt_graph *rt_graph_clone(const struct rt_graph *src, size_t limit);

/* Memory of the graph's arena, cleared; what rt_fail says when there is none is said by
 * rt_graph_nomem(). The second is for the elements of constants. */
void *rt_graph_alloc(struct rt_graph *g, size_t n, size_t size);
void *rt_graph_alloc_bulk(struct rt_graph *g, size_t n, size_t size);
/* Copies constant v, if it was left in the file, to where all can read it; false: no memory. */
bool rt_graph_fetch(struct rt_graph *g, int v);
enum rt_status rt_graph_nomem(const struct rt_graph *g, struct rt_error *err);
#ifdef __clang_analyzer__ /* as in status.h */
#define rt_graph_nomem(g, err) (rt_graph_nomem(g, err), RT_E_NOMEM)
#endif

/* Adds a value; its index, or -1 when there is no memory. name may be NULL. */
int rt_graph_add_value(struct rt_graph *g, const char *name);
/* Adds a value of that type and shape. */
int rt_graph_add_typed(struct rt_graph *g, enum rt_dtype dtype, const struct rt_shape *shape);
/* Adds a constant; data must live as long as the graph. */
int rt_graph_add_const(struct rt_graph *g, const char *name, const struct rt_tensor *t);
/* Adds a float constant, in bulk memory that the caller fills through *data. */
int rt_graph_add_floats(struct rt_graph *g, const struct rt_shape *shape, float **data);
/* Adds a node with room for n_in and n_out values (all -1); its index, or -1. Pointers into
 * g->node are invalid afterwards. */
int rt_graph_add_node(struct rt_graph *g, const struct rt_op *op, const char *name, int n_in,
                      int n_out);
/* Makes room for one more input of node n that is value v; its index in n->in, or -1. */
int rt_graph_add_input(struct rt_graph *g, struct rt_node *n, int v);

/* Everyone who reads old reads new instead, the graph's outputs too. An output keeps its name. */
void rt_graph_replace(struct rt_graph *g, int old, int new);
/* Node i is dead: it reads nothing any more. */
void rt_graph_kill(struct rt_graph *g, int i);
/* Drops nodes whose results nobody reads, sorts the rest so that producers come first (stable),
 * recounts producer and uses. RT_E_INVALID when the nodes form a cycle. */
enum rt_status rt_graph_tidy(struct rt_graph *g, struct rt_error *err);
/* Checks everything that tidy and inference promise; in debug builds run after each pass. */
enum rt_status rt_graph_verify(const struct rt_graph *g, struct rt_error *err);
/* One line a node, "name: Op(in, in) -> out [shape] {fused}" into memory of rt_alloc(); NULL when
 * there is none. For tests and for people. */
char *rt_graph_dump(const struct rt_graph *g);

/* A constant view of value v, RT_UNDEFINED type for v == -1. */
struct rt_tensor rt_graph_tensor(const struct rt_graph *g, int v);

#endif
