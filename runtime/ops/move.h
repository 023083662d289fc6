/* What the operators that only move elements share: copying between a dense tensor and a strided
 * view of another, by element size alone. */
#ifndef RUNTIME_OPS_MOVE_H
#define RUNTIME_OPS_MOVE_H

#include "runtime/ops/op.h"

#define RT_MAX_WALK (2 * RT_MAX_RANK)

/* A view of a tensor's memory with any strides (0 and negative ones too), in elements; walked
 * row-major. */
struct rt_walk {
    int rank;
    int64_t dim[RT_MAX_WALK];
    int64_t stride[RT_MAX_WALK];
    int64_t offset; /* of the first element */
    size_t size;    /* bytes of an element: 1, 2, 4 or 8 */
};

/* Sets up a view; axes that can be walked as one are joined. rank is at most RT_MAX_WALK. */
void rt_walk_init(struct rt_walk *v, int rank, const int64_t *dim, const int64_t *stride,
                  int64_t offset, size_t size);
/* Copies this worker's share of the view of in to out, which is dense. */
void rt_walk_copy(const struct rt_walk *v, const void *in, void *out, const struct rt_worker *w);

/* Copies n elements in[0], in[stride] ... to out[0], out[1] ... */
void rt_copy_strided(void *out, const void *in, int64_t stride, int64_t n, size_t size);
/* Writes the element at value to out n times. */
void rt_fill(void *out, const void *value, int64_t n, size_t size);
/* Writes the element (NULL: zeros) to this worker's share of the tensor. */
void rt_fill_tensor(const struct rt_tensor *t, const void *value, const struct rt_worker *w);

/* A tensor's element size in bytes. */
size_t rt_size_of(const struct rt_tensor *t);
/* The address of element at of a tensor that is const or not as the caller says. */
static inline const char *rt_at(const struct rt_tensor *t, int64_t at)
{
    return (const char *)t->data + (size_t)at * rt_dtype_size(t->dtype);
}
static inline char *rt_out_at(const struct rt_tensor *t, int64_t at)
{
    return (char *)t->data + (size_t)at * rt_dtype_size(t->dtype);
}

/* Integers that a run needs again, from the attribute of that name or else from input i: how many
 * there are (at most max are written), -1 when there are none. infer has checked them. */
int rt_run_ints(const struct rt_call *c, const char *name, int i, int64_t *to, int max);

/* Refuses an operator that would pick or reorder samples along that axis of input i. */
enum rt_status rt_keep_samples(const struct rt_graph *g, const struct rt_node *n, int i, int axis,
                               struct rt_error *err);
/* Refuses input i unless it is of an integer type that counts positions (int32, int64). */
enum rt_status rt_check_index(const struct rt_graph *g, const struct rt_node *n, int i,
                              struct rt_error *err);

#endif
