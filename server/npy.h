/* NumPy's .npy files: one array with its type and shape, as numpy.save() writes them. */
#ifndef SERVER_NPY_H
#define SERVER_NPY_H

#include "runtime/rt.h"

/* Reads the file image bytes[0..len): format versions 1 to 3, little-endian element types that
 * tensors have here (a two-byte void, "V2", is bfloat16: that is how ml_dtypes saves it). An array
 * in Fortran order is turned into C order. out->data is the caller's, for rt_free().
 * RT_E_INVALID says what is wrong with the file, RT_E_UNSUPPORTED which type it holds. */
enum rt_status sv_npy_read(const void *bytes, size_t len, struct rt_tensor *out,
                           struct rt_error *err);

/* The file image of t, format version 1. *bytes is the caller's, for rt_free(). */
enum rt_status sv_npy_write(const struct rt_tensor *t, void **bytes, size_t *len,
                            struct rt_error *err);

#endif
