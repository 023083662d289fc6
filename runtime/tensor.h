/* What a tensor is: element type, shape and a view of memory. Owns nothing. */
#ifndef RUNTIME_TENSOR_H
#define RUNTIME_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

#define RT_MAX_RANK 8

/* ONNX's numbers (TensorProto.DataType), so that import has nothing to translate. */
enum rt_dtype {
    RT_UNDEFINED = 0,
    RT_FLOAT = 1,
    RT_UINT8 = 2,
    RT_INT8 = 3,
    RT_UINT16 = 4,
    RT_INT16 = 5,
    RT_INT32 = 6,
    RT_INT64 = 7,
    RT_STRING = 8, /* named in errors only: no tensor of strings is ever made */
    RT_BOOL = 9,
    RT_FLOAT16 = 10,
    RT_DOUBLE = 11,
    RT_UINT32 = 12,
    RT_UINT64 = 13,
    RT_BFLOAT16 = 16,
    RT_N_DTYPES = 17
};

/* rank 0 is a scalar. A dimension of 0 makes an empty tensor. */
struct rt_shape {
    int rank;
    int64_t dim[RT_MAX_RANK];
};

/* Elements lie row-major and dense. Passed by value; the memory belongs to somebody else. */
struct rt_tensor {
    enum rt_dtype dtype;
    struct rt_shape shape;
    void *data; /* NULL: absent (an optional input that was left out), or empty */
};

/* Bytes of one element; 0 for a type that has no tensors here. */
size_t rt_dtype_size(enum rt_dtype t);
/* ONNX's name in lower case: "float", "uint8", ... ; "undefined" for a number outside the enum. */
const char *rt_dtype_name(enum rt_dtype t);
/* The wire's name (Open Inference Protocol): "FP32", "UINT8", ... ; NULL if it has none. */
const char *rt_dtype_oip(enum rt_dtype t);
/* The type of that wire name, RT_UNDEFINED for an unknown one. */
enum rt_dtype rt_dtype_from_oip(const char *name);
bool rt_dtype_is_float(enum rt_dtype t); /* float, double, float16, bfloat16 */

/* The product of the dimensions (1 for a scalar) to *n; false if one is negative or it passes
 * INT64_MAX. */
bool rt_shape_count(const struct rt_shape *s, int64_t *n);
/* The same times the element size, in bytes; false also past SIZE_MAX / 2. */
bool rt_shape_bytes(const struct rt_shape *s, enum rt_dtype t, size_t *bytes);
/* The count of a shape that is known to be valid. */
int64_t rt_shape_numel(const struct rt_shape *s);
/* The product of dim[from] .. dim[to-1] of a shape that is known to be valid. */
int64_t rt_shape_range(const struct rt_shape *s, int from, int to);
bool rt_shape_equal(const struct rt_shape *a, const struct rt_shape *b);
struct rt_shape rt_shape_of(int rank, const int64_t *dim);

/* "[1,3,224,224]"; a negative dimension is written as it is. Returns buf. */
#define RT_SHAPE_TEXT 192
const char *rt_shape_text(const struct rt_shape *s, char buf[RT_SHAPE_TEXT]);

/* Reduced floats, exact both ways but for rounding to nearest, ties to even, on the way down. */
float rt_half_to_float(uint16_t h);
uint16_t rt_float_to_half(float f);
uint16_t rt_double_to_half(double d);
float rt_bfloat16_to_float(uint16_t h);
uint16_t rt_float_to_bfloat16(float f);

#pragma GCC visibility pop

#endif
