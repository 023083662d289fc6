/* QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear. */
#include <math.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

#define T_QUANTIZED (RT_T(RT_UINT8) | RT_T(RT_INT8) | RT_T(RT_UINT16) | RT_T(RT_INT16))

/* How scale and zero point lie along the input: one for all, one for each index of an axis, or one
 * for each block of an axis (then the input is cut in slices before that axis). */
struct spread {
    int axis;
    int64_t block; /* 0: none */
    int64_t slices, len;
};

static enum rt_status find_spread(struct spread *s, const struct rt_node *n,
                                  const struct rt_shape *x, const struct rt_shape *scale,
                                  struct rt_error *err)
{
    const int64_t block = n->opset < 21 ? 0 : rt_attr_int(n, "block_size", 0);
    const bool one = scale->rank == 0 || (scale->rank == 1 && scale->dim[0] == 1 && block == 0);
    *s = (struct spread){ .axis = -1, .slices = 1, .len = rt_shape_numel(x) };
    if (one)
        return RT_OK;
    int axis;
    enum rt_status status = rt_fix_axis(n, rt_attr_int(n, "axis", 1), x->rank, false, &axis, err);
    if (status != RT_OK)
        return status;
    bool fits = scale->rank == 1 && scale->dim[0] == x->dim[axis];
    s->axis = axis;
    if (block > 0) {
        fits = scale->rank == x->rank;
        for (int i = 0; fits && i < x->rank; i++)
            fits = scale->dim[i] == (i == axis ? (x->dim[i] + block - 1) / block : x->dim[i]);
        s->block = block;
        s->slices = rt_shape_range(x, 0, axis);
        s->len = rt_shape_range(x, axis, x->rank);
    }
    if (!fits || block < 0) {
        char text[RT_SHAPE_TEXT];
        return rt_node_fail(err, RT_E_INVALID, n, "a scale of shape %s does not fit the input",
                            rt_shape_text(scale, text));
    }
    return RT_OK;
}

/* Scale or zero point, read as if it had the shape of slice number i. */
static void init_operand(struct rt_operand *o, const struct spread *s, const struct rt_tensor *p,
                         const struct rt_shape *x, int64_t i)
{
    struct rt_tensor t = *p;
    if (s->block == 0) {
        t.shape.rank = s->axis < 0 ? 0 : x->rank - s->axis;
        for (int k = 1; k < t.shape.rank; k++)
            t.shape.dim[k] = 1;
        rt_operand_init(o, &t, x);
        return;
    }
    const int64_t inner = rt_shape_range(x, s->axis + 1, x->rank);
    const int64_t blocks = p->shape.dim[s->axis];
    t.data = rt_element_at(p, i * blocks * inner);
    *o = (struct rt_operand){
        .t = t, .rank = 3, .dim = { blocks, s->block, inner }, .stride = { inner, 0, 1 }
    };
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const bool quantize = n->op->name[0] == 'Q';
    const struct rt_value *scale = rt_in(g, n, 1), *zero = rt_in(g, n, 2);
    const struct rt_shape x = rt_in(g, n, 0)->shape;
    enum rt_dtype dtype = quantize ? RT_UINT8 : scale->dtype;
    struct spread spread;
    enum rt_status s = rt_check_type(
        g, n, 0, quantize ? RT_T_REAL | RT_T(RT_INT32) : T_QUANTIZED | RT_T(RT_INT32), err);
    if (s == RT_OK)
        s = rt_check_type(g, n, 1, RT_T_REAL, err);
    if (s == RT_OK)
        s = find_spread(&spread, n, &x, &scale->shape, err);
    if (s == RT_OK && zero != NULL && !quantize)
        s = rt_check_same_type(g, n, 0, 2, err);
    if (s != RT_OK)
        return s;
    if (zero != NULL && rt_shape_numel(&zero->shape) != rt_shape_numel(&scale->shape))
        return rt_node_fail(err, RT_E_INVALID, n, "scale and zero point differ in shape");
    const int64_t named = rt_attr_int(n, "output_dtype", 0);
    if (named != 0)
        dtype = (enum rt_dtype)named;
    if (quantize && zero != NULL)
        dtype = zero->dtype;
    if ((named != 0 && named != (int64_t)dtype) || dtype >= RT_N_DTYPES ||
        !((quantize ? T_QUANTIZED | RT_T(RT_INT32) : RT_T_REAL) & RT_T(dtype)))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "makes elements of type %s",
                            rt_dtype_name((enum rt_dtype)named));
    return rt_set_out(g, n, 0, dtype, &x, err);
}

/* Dividing in float and rounding to even, then clamping: a NaN becomes the lowest number. */
static void quantize_chunk(float *y, const float *x, const float *scale, const float *zero,
                           int64_t n, float low, float high)
{
    for (int64_t i = 0; i < n; i++) {
        const float q = rintf(x[i] / scale[i]) + (zero != NULL ? zero[i] : 0);
        y[i] = !(q > low) ? low : q > high ? high : q;
    }
}

static void dequantize_chunk(float *y, const float *x, const float *scale, const float *zero,
                             int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - (zero != NULL ? zero[i] : 0)) * scale[i];
}

static void find_limits(enum rt_dtype t, float *low, float *high)
{
    const bool is_signed = t == RT_INT8 || t == RT_INT16 || t == RT_INT32;
    const float steps = ldexpf(1, 8 * (int)rt_dtype_size(t));
    *low = is_signed ? -steps / 2 : 0;
    *high = *low + (steps - 1);
}

static void run_slice(const struct rt_call *c, const struct spread *s, int64_t slice, int64_t begin,
                      int64_t end)
{
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    const bool has_zero = rt_has_in(c->node, 2), quantize = c->node->op->name[0] == 'Q';
    struct rt_operand scale, zero;
    init_operand(&scale, s, &c->in[1], &x->shape, slice);
    if (has_zero)
        init_operand(&zero, s, &c->in[2], &x->shape, slice);
    float low, high;
    find_limits(y->dtype, &low, &high);
    union rt_chunk x_buf, scale_buf, zero_buf, y_buf;
    for (int64_t at = begin, n; at < end; at += n) {
        n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        const int64_t from = slice * s->len + at;
        const float *xs = rt_load(x, from, n, RT_KIND_FLOAT, &x_buf);
        const float *scales = rt_operand_load(&scale, at, n, RT_KIND_FLOAT, &scale_buf);
        const float *zeros =
            has_zero ? rt_operand_load(&zero, at, n, RT_KIND_FLOAT, &zero_buf) : NULL;
        float *ys = rt_target(y, from, RT_KIND_FLOAT, &y_buf);
        if (quantize)
            quantize_chunk(ys, xs, scales, zeros, n, low, high);
        else
            dequantize_chunk(ys, xs, scales, zeros, n);
        rt_store(y, from, n, RT_KIND_FLOAT, ys);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    struct spread s;
    if (find_spread(&s, c->node, &c->in[0].shape, &c->in[1].shape, NULL) != RT_OK || s.len == 0)
        return;
    int64_t at, end;
    rt_worker_share(w, s.slices * s.len, 64, &at, &end);
    while (at < end) {
        const int64_t slice = at / s.len, last = (slice + 1) * s.len;
        run_slice(c, &s, slice, at - slice * s.len, (last < end ? last : end) - slice * s.len);
        at = last;
    }
}

/* --- DynamicQuantizeLinear -------------------------------------------------------------------- */

static enum rt_status infer_dynamic(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape x = rt_in(g, n, 0)->shape, scalar = { .rank = 0 };
    enum rt_status s = rt_check_type(g, n, 0, RT_T(RT_FLOAT), err);
    if (s == RT_OK && rt_shape_batch_axis(&x) >= 0)
        s = rt_node_fail(err, RT_E_UNSUPPORTED, n, "takes its range from the whole batch");
    if (s == RT_OK)
        s = rt_set_out(g, n, 0, RT_UINT8, &x, err);
    if (s == RT_OK)
        s = rt_set_out(g, n, 1, RT_FLOAT, &scalar, err);
    return s == RT_OK ? rt_set_out(g, n, 2, RT_UINT8, &scalar, err) : s;
}

static enum rt_status prepare_dynamic(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    (void)err;
    n->scratch = 2 * (size_t)b->threads * sizeof(float);
    return RT_OK;
}

static void run_dynamic(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *y = &c->out[0];
    const float *x = c->in[0].data;
    float *ranges = c->scratch;
    float low = 0, high = 0; /* 0 is always in the range */
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &at, &end);
    for (int64_t i = at; i < end; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    ranges[2 * w->id] = low;
    ranges[2 * w->id + 1] = high;
    rt_worker_barrier(w);
    for (int i = 0; i < w->count; i++) {
        low = ranges[2 * i] < low ? ranges[2 * i] : low;
        high = ranges[2 * i + 1] > high ? ranges[2 * i + 1] : high;
    }
    float scale = (high - low) / 255;
    if (scale == 0)
        scale = 1;
    float zero = rintf(-low / scale);
    zero = !(zero > 0) ? 0 : zero > 255 ? 255 : zero; /* an infinite range has none */
    if (w->id == 0) {
        if (rt_has_out(c->node, 1))
            *(float *)c->out[1].data = scale;
        if (rt_has_out(c->node, 2))
            *(uint8_t *)c->out[2].data = (uint8_t)zero;
    }
    uint8_t *to = y->data;
    if (to == NULL)
        return;
    for (; at < end; at++) {
        const float q = rintf(x[at] / scale) + zero;
        to[at] = (uint8_t)(!(q > 0) ? 0 : q > 255 ? 255 : q);
    }
}

#define OPERATOR(x, version)                                                                       \
    const struct rt_op rt_op_##x = { .name = #x,                                                   \
                                     .since = version,                                             \
                                     .min_in = 2,                                                  \
                                     .max_in = 3,                                                  \
                                     .min_out = 1,                                                 \
                                     .max_out = 1,                                                 \
                                     .traits = RT_OP_ROUNDS,                                       \
                                     .infer = infer,                                               \
                                     .run = run };

OPERATOR(DequantizeLinear, 10)
OPERATOR(QuantizeLinear, 10)

const struct rt_op rt_op_DynamicQuantizeLinear = {
    .name = "DynamicQuantizeLinear",
    .since = 11,
    .min_in = 1,
    .max_in = 1,
    .min_out = 3,
    .max_out = 3,
    .infer = infer_dynamic,
    .prepare = prepare_dynamic,
    .run = run_dynamic,
};
