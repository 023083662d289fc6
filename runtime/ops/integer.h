/* What the products of quantised tensors share: zero points taken off, sums brought back. */
#ifndef RUNTIME_OPS_INTEGER_H
#define RUNTIME_OPS_INTEGER_H

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

#define RT_T_QUANTIZED (RT_T(RT_UINT8) | RT_T(RT_INT8))

/* A scale or zero point: one number, or one for each index along axis of a tensor of that rank, or
 * of as many axes as the tensor. NULL or absent: no operand. */
void rt_integer_view(struct rt_operand *o, const struct rt_tensor *p, int axis,
                     const struct rt_shape *of);
/* Whether a scale or zero point of that shape fits so. */
bool rt_integer_fits(const struct rt_shape *p, int axis, const struct rt_shape *of);

/* to[i] = x[i] - zero[i] for this worker's share of x. zero absent: 0. */
void rt_integer_center(int32_t *to, const struct rt_tensor *x, const struct rt_tensor *zero,
                       int axis, const struct rt_worker *w);

/* n elements of y from at on, quantised: sums * factors / y's scale, rounded to even, plus y's zero
 * point, cut to y's type. n is at most RT_CHUNK. */
void rt_integer_rescale(const struct rt_tensor *y, int64_t at, int64_t n, const int32_t *sums,
                        const float *factors, const float *zeros);

#endif
