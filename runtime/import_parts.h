/* What the files of import share. Only they include it, and with it the generated proto/. */
#ifndef RUNTIME_IMPORT_PARTS_H
#define RUNTIME_IMPORT_PARTS_H

#include "proto/onnx.pb-c.h"
#include "runtime/graph.h"
#include "runtime/names.h"

/* --- tensors (import_tensor.c) ------------------------------------------------------------- */

/* Where elements come from and go to. */
struct rt_tensor_reader {
    const uint8_t *file; /* what TensorProto.file_at counts from */
    size_t file_len;
    const char *folder; /* of external data; NULL: there is none */
    struct rt_graph *g; /* constants of this graph, which may point into file; NULL: always a
                           copy of its own, of rt_alloc() */
    bool anywhere;      /* floats may stay in file at an address that no float has */
};

/* Reads t. what names it in errors ("initializer 'w'"). */
enum rt_status rt_read_tensor(const struct rt_tensor_reader *r, const Onnx__TensorProto *t,
                              const char *what, struct rt_tensor *out, struct rt_error *err);
/* Reads t into a dense tensor. */
enum rt_status rt_read_sparse(const struct rt_tensor_reader *r, const Onnx__SparseTensorProto *t,
                              const char *what, struct rt_tensor *out, struct rt_error *err);
/* Checks a TensorProto.DataType. */
enum rt_status rt_check_dtype(int32_t number, const char *what, enum rt_dtype *out,
                              struct rt_error *err);
/* Lets protobuf-c allocate from an arena, which frees it all at once. */
ProtobufCAllocator rt_arena_allocator(struct rt_arena *a);

/* --- one file on its way in ---------------------------------------------------------------- */

struct rt_importer {
    struct rt_tensor_reader reader; /* reader.g is the model's graph; all others share its arenas */
    struct rt_arena *work;          /* the parsed file, tables of names: ends with the import */
    const Onnx__ModelProto *model;
    struct rt_names functions; /* the model's functions by domain, name and overload */
    struct rt_error *err;
    int64_t effort; /* nodes, operands and list elements made so far; see rt_spend() */
    int depth;      /* of calls and branches around the node that is being imported */
    int n_unsupported;
    int n_listed;
    char unsupported[1600]; /* "Loop 'a', Scan 'b'": as many as fit */
};

/* Says that im->work is full or could not grow. */
enum rt_status rt_work_nomem(const struct rt_importer *im);
#ifdef __clang_analyzer__ /* as in status.h */
#define rt_work_nomem(im) (rt_work_nomem(im), RT_E_NOMEM)
#endif

/* For "node 'x' (Op)" and its like in front of errors; longer ones are cut. */
#define RT_WHAT 200

/* "" for a string that is not there; proto3 does not tell the two apart either. */
static inline const char *rt_text(const char *s)
{
    return s != NULL ? s : "";
}

/* --- graphs (import_graph.c) --------------------------------------------------------------- */

/* The operator sets that a model or a function imports. */
struct rt_opsets {
    size_t n;
    Onnx__OperatorSetIdProto *const *set;
};

/* The attributes of a function's call, which its nodes may refer to. */
struct rt_bindings {
    int n;
    const struct rt_attr *attr;
};

/* A function that is being inlined. */
struct rt_call_site {
    const Onnx__FunctionProto *function;
    const struct rt_call_site *up;
};

/* What the names in a graph or in a function's body mean. */
struct rt_scope {
    struct rt_scope *outer; /* of a branch: the graph around it; else NULL */
    struct rt_graph *g;     /* where values and nodes go */
    struct rt_names names;  /* values by name; RT_ABSENT: an argument that was left out */
    struct rt_opsets opsets;
    const struct rt_bindings *bound; /* NULL outside of functions */
    const struct rt_call_site *call; /* NULL outside of functions */
    const char *prefix;              /* of node names: "call/" */
    int *captured;                   /* of a branch: outer's value for each input of g */
    int cap_captured;
};

enum {
    RT_ABSENT = -1,
    RT_UNKNOWN = -2, /* no such name */
    /* Values of rt_value.producer until the node is there: */
    RT_DECLARED = -2, /* an output of a node further on */
    RT_WANTED = -3    /* an output of a function, whose body has to declare it */
};

/* The value of that name in sc->g, RT_ABSENT, or RT_UNKNOWN. */
enum rt_status rt_resolve(struct rt_importer *im, struct rt_scope *sc, const char *name, int *v);
/* Imports a graph's initialisers, inputs, nodes and outputs. */
enum rt_status rt_import_graph(struct rt_importer *im, struct rt_scope *sc,
                               const Onnx__GraphProto *graph);
/* A new value of that name, which must be new. */
enum rt_status rt_add_value(struct rt_importer *im, struct rt_scope *sc, const char *name, int *v);
/* A constant of that name. A value that waits for its producer becomes it. */
enum rt_status rt_add_constant(struct rt_importer *im, struct rt_scope *sc, const char *name,
                               const struct rt_tensor *t);

/* --- nodes (import_node.c) ----------------------------------------------------------------- */

/* Counts what is made: functions that call functions can ask for exponentially much. */
enum rt_status rt_spend(struct rt_importer *im, int64_t nodes, int64_t elements);

/* Opset version of that domain; 0 when it is not imported. */
int64_t rt_opset_version(const struct rt_opsets *o, const char *domain);
/* Refuses versions that cannot be served. */
enum rt_status rt_check_opsets(const struct rt_opsets *o, const char *what, struct rt_error *err);

/* Imports nodes, in any order. */
enum rt_status rt_import_nodes(struct rt_importer *im, struct rt_scope *sc,
                               Onnx__NodeProto *const *node, size_t n);

/* --- calls and branches (import_call.c) ---------------------------------------------------- */

/* Adds the model's functions to im->functions. */
enum rt_status rt_register_functions(struct rt_importer *im);
/* The function that the node calls, NULL when it is an operator. */
const Onnx__FunctionProto *rt_called_function(const struct rt_importer *im,
                                              const Onnx__NodeProto *node);
/* Inlines the function in place of the node, whose attributes are attr[0..n). */
enum rt_status rt_import_call(struct rt_importer *im, struct rt_scope *sc,
                              const Onnx__NodeProto *node, const Onnx__FunctionProto *f,
                              const char *what, const struct rt_attr *attr, int n_attr);
/* Imports the branches of an If into its attributes; see inline.h. node is its index in sc->g. */
enum rt_status rt_import_branches(struct rt_importer *im, struct rt_scope *sc,
                                  const Onnx__NodeProto *proto, const char *what,
                                  struct rt_attr *attr, int n_attr, int node);

/* --- attributes (import_attr.c) ------------------------------------------------------------ */

/* Turns the attributes of a node into rt_attr. Graphs are left for the caller to fill in
 * (attr.g is NULL). bound is NULL outside of functions. */
enum rt_status rt_read_attrs(struct rt_importer *im, Onnx__AttributeProto *const *proto, size_t n,
                             const struct rt_bindings *bound, const char *what,
                             struct rt_attr **out, int *n_out);
/* The tensor that a Constant node with these attributes is. */
enum rt_status rt_constant_tensor(struct rt_importer *im, const struct rt_attr *attr, int n,
                                  const char *what, struct rt_tensor *out);

#endif
