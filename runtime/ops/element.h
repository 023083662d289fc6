/* Elements of any type: operators compute in one of four kinds and the elements of every other type
 * are converted on their way in and out, so that no operator is written once a type. */
#ifndef RUNTIME_OPS_ELEMENT_H
#define RUNTIME_OPS_ELEMENT_H

#include "runtime/tensor.h"

enum rt_kind {
    RT_KIND_FLOAT,  /* float; float16 and bfloat16 are computed so and rounded */
    RT_KIND_DOUBLE, /* double */
    RT_KIND_INT,    /* int64_t: every integer but uint64; bool as 0 and 1 */
    RT_KIND_UINT,   /* uint64_t */
    RT_N_KINDS
};

/* The kind that elements of that type are computed in. */
enum rt_kind rt_kind_of(enum rt_dtype t);

/* Whether memory of that type is already an array of that kind. */
bool rt_is_stored_as(enum rt_dtype dtype, enum rt_kind kind);

/* Work goes through buffers of this many elements, which stay in the first cache. */
#define RT_CHUNK 1024
union rt_chunk {
    float f[RT_CHUNK];
    double d[RT_CHUNK];
    int64_t i[RT_CHUNK];
    uint64_t u[RT_CHUNK];
};

/* A real cut towards zero; at the type's ends it saturates, and NaN is 0. */
int64_t rt_real_to_int(double x);
uint64_t rt_real_to_uint(double x);

/* n elements of t of type dtype at data[0], data[stride], ... converted to kind, in buf. Integers
 * wrap when they are narrowed. A real that becomes an integer is cut towards zero to 64 bits, where
 * it saturates and NaN is 0, and then wraps like one. */
void rt_load_elements(void *buf, enum rt_kind kind, enum rt_dtype dtype, const void *data,
                      int64_t stride, int64_t n);
/* The way back; a bool is whether the element is not 0. */
void rt_store_elements(enum rt_dtype dtype, void *data, int64_t stride, const void *buf,
                       enum rt_kind kind, int64_t n);

/* The address of an element. */
void *rt_element_at(const struct rt_tensor *t, int64_t at);

/* Elements at .. at+n-1 of a dense tensor in that kind: the tensor's own memory where it holds
 * them so, else buf, filled. */
const void *rt_load(const struct rt_tensor *t, int64_t at, int64_t n, enum rt_kind kind, void *buf);
/* Where to compute elements that rt_store() then takes: the tensor's own memory, or buf. */
void *rt_target(const struct rt_tensor *t, int64_t at, enum rt_kind kind, void *buf);
/* Puts what was computed at rt_target() into the tensor, if it is not there. */
void rt_store(const struct rt_tensor *t, int64_t at, int64_t n, enum rt_kind kind, const void *buf);

/* One element as a double (exact but for 64-bit integers) or as an integer. */
double rt_element(const struct rt_tensor *t, int64_t at);
int64_t rt_element_int(const struct rt_tensor *t, int64_t at);

/* A tensor read as if it had another shape, by numpy's broadcasting. */
struct rt_operand {
    struct rt_tensor t;
    int rank; /* after axes that are walked as one have been joined; 1 and stride 1: as it is */
    int64_t dim[RT_MAX_RANK];
    int64_t stride[RT_MAX_RANK];
};

void rt_operand_init(struct rt_operand *o, const struct rt_tensor *t, const struct rt_shape *out);
/* As rt_load(), of elements at .. at+n-1 of the shape it was broadcast to. */
const void *rt_operand_load(const struct rt_operand *o, int64_t at, int64_t n, enum rt_kind kind,
                            void *buf);

/* A blocked tensor [N,C,H,W] as the dense one that it is in memory: [N, ceil(C/b), H, W, b]. */
struct rt_tensor rt_blocked_view(const struct rt_tensor *t);

#endif
