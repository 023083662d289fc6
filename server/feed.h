/* Tensors from files (.npy, ONNX .pb) and their way to a model's inputs or outputs. */
#ifndef SERVER_FEED_H
#define SERVER_FEED_H

#include "runtime/rt.h"

#define SV_FEED_MAX 256  /* tensors */
#define SV_FEED_NAME 256 /* bytes of a name that are kept, its end included */

/* Tensors in the order in which they were given; all zero: none. */
struct sv_feed {
    int n;
    struct rt_tensor tensor[SV_FEED_MAX]; /* data: owned */
    char name[SV_FEED_MAX][SV_FEED_NAME]; /* "": the file does not say */
};

/* Reads one more tensor from a file; its suffix says which form. name (may be NULL) overrules the
 * name that a .pb holds. Errors say the path. RT_E_UNSUPPORTED: an element type that no tensor
 * here has. */
enum rt_status sv_feed_add(struct sv_feed *f, const char *path, const char *name,
                           struct rt_error *err);
void sv_feed_reset(struct sv_feed *f);

/* For each tensor the index of the model input it is meant for to slot[]: the one of its name, and
 * for the others, in order, those that are left. Fails when there are too few or too many. */
enum rt_status sv_feed_inputs(const struct sv_feed *f, const struct rt_model *m, int *slot,
                              struct rt_error *err);
/* The same for outputs, of which some may stay without a tensor. */
enum rt_status sv_feed_outputs(const struct sv_feed *f, const struct rt_model *m, int *slot,
                               struct rt_error *err);

/* The largest first dimension, at least 1: what max_batch must be if it counts samples. */
int sv_feed_batch(const struct sv_feed *f);

#endif
