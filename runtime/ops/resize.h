/* Resizing as one-dimensional steps: where each output position of an axis looks, and how much of
 * what it finds there it takes. */
#ifndef RUNTIME_OPS_RESIZE_H
#define RUNTIME_OPS_RESIZE_H

#include "runtime/ops/op.h"

enum rt_resize_mode { RT_RESIZE_NEAREST, RT_RESIZE_LINEAR, RT_RESIZE_CUBIC };
enum rt_resize_coordinates {
    RT_RESIZE_HALF_PIXEL,
    RT_RESIZE_HALF_PIXEL_SYMMETRIC,
    RT_RESIZE_PYTORCH_HALF_PIXEL,
    RT_RESIZE_ALIGN_CORNERS,
    RT_RESIZE_ASYMMETRIC,
    RT_RESIZE_TF_HALF_PIXEL_FOR_NN,
    RT_RESIZE_TF_CROP,
};
enum rt_resize_rounding {
    RT_RESIZE_PREFER_FLOOR,
    RT_RESIZE_PREFER_CEIL,
    RT_RESIZE_FLOOR,
    RT_RESIZE_CEIL
};

/* What a node's attributes say. */
struct rt_resize {
    enum rt_resize_mode mode;
    enum rt_resize_coordinates coordinates;
    enum rt_resize_rounding rounding;
    bool antialias, exclude_outside;
    double cubic_a;
    float extrapolation;
};

/* One axis: its sizes, the factor between them, and the part of the input that is looked at. */
struct rt_resize_axis {
    int64_t in, out;
    double scale, roi_begin, roi_end;
};

/* For each output position, taps elements of the input and their weights, which sum to 1. */
struct rt_resize_table {
    int64_t taps;
    int32_t *index; /* [out][taps], each one inside the input */
    double *weight; /* [out][taps] */
    bool *outside;  /* [out] holds the extrapolation value; NULL: none does */
};

/* Fills *t from memory of the arena. axis->in is at least 1. False: no memory. */
bool rt_resize_make_table(struct rt_resize_table *t, const struct rt_resize *r,
                          const struct rt_resize_axis *axis, struct rt_arena *arena);

#endif
