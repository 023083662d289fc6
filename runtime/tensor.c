/* Element types, shapes and the conversions of reduced floats. */
#include "runtime/tensor.h"

#include "runtime/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct {
    size_t size;
    const char *name;
    const char *oip;
} type[RT_N_DTYPES] = {
    [RT_UNDEFINED] = { 0, "undefined", NULL }, [RT_FLOAT] = { 4, "float", "FP32" },
    [RT_UINT8] = { 1, "uint8", "UINT8" },      [RT_INT8] = { 1, "int8", "INT8" },
    [RT_UINT16] = { 2, "uint16", "UINT16" },   [RT_INT16] = { 2, "int16", "INT16" },
    [RT_INT32] = { 4, "int32", "INT32" },      [RT_INT64] = { 8, "int64", "INT64" },
    [RT_STRING] = { 0, "string", "BYTES" },    [RT_BOOL] = { 1, "bool", "BOOL" },
    [RT_FLOAT16] = { 2, "float16", "FP16" },   [RT_DOUBLE] = { 8, "double", "FP64" },
    [RT_UINT32] = { 4, "uint32", "UINT32" },   [RT_UINT64] = { 8, "uint64", "UINT64" },
    [RT_BFLOAT16] = { 2, "bfloat16", "BF16" },
};

size_t rt_dtype_size(enum rt_dtype t)
{
    return (unsigned)t < RT_N_DTYPES ? type[t].size : 0;
}

const char *rt_dtype_name(enum rt_dtype t)
{
    return (unsigned)t < RT_N_DTYPES && type[t].name != NULL ? type[t].name : "undefined";
}

const char *rt_dtype_oip(enum rt_dtype t)
{
    return (unsigned)t < RT_N_DTYPES ? type[t].oip : NULL;
}

enum rt_dtype rt_dtype_from_oip(const char *name)
{
    for (unsigned t = 0; t < RT_N_DTYPES; t++)
        if (type[t].oip != NULL && strcmp(type[t].oip, name) == 0)
            return (enum rt_dtype)t;
    return RT_UNDEFINED;
}

bool rt_dtype_is_float(enum rt_dtype t)
{
    return t == RT_FLOAT || t == RT_DOUBLE || t == RT_FLOAT16 || t == RT_BFLOAT16;
}

bool rt_shape_count(const struct rt_shape *s, int64_t *n)
{
    int64_t count = 1;
    bool zero = false;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0)
            return false;
        zero |= s->dim[i] == 0;
        if (s->dim[i] != 0 && !rt_mul_i64(count, s->dim[i], &count))
            return false;
    }
    *n = zero ? 0 : count;
    return true;
}

bool rt_shape_bytes(const struct rt_shape *s, enum rt_dtype t, size_t *bytes)
{
    int64_t n;
    size_t len;
    if (!rt_shape_count(s, &n) || !rt_mul_size((size_t)n, rt_dtype_size(t), &len) ||
        len > SIZE_MAX / 2)
        return false;
    *bytes = len;
    return true;
}

int64_t rt_shape_numel(const struct rt_shape *s)
{
    return rt_shape_range(s, 0, s->rank);
}

int64_t rt_shape_range(const struct rt_shape *s, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= s->dim[i];
    return n;
}

bool rt_shape_equal(const struct rt_shape *a, const struct rt_shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

struct rt_shape rt_shape_of(int rank, const int64_t *dim)
{
    assert(rank >= 0 && rank <= RT_MAX_RANK);
    struct rt_shape s = { .rank = rank };
    for (int i = 0; i < rank; i++)
        s.dim[i] = dim[i];
    return s;
}

const char *rt_shape_text(const struct rt_shape *s, char buf[RT_SHAPE_TEXT])
{
    int at = snprintf(buf, RT_SHAPE_TEXT, "[");
    for (int i = 0; i < s->rank; i++)
        at += snprintf(buf + at, (size_t)(RT_SHAPE_TEXT - at), i > 0 ? ",%lld" : "%lld",
                       (long long)s->dim[i]);
    snprintf(buf + at, (size_t)(RT_SHAPE_TEXT - at), "]");
    return buf;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float rt_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 31)
        return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent != 0)
        return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float tiny = (float)fraction * 0x1p-24f; /* subnormal: exact in a float */
    return sign != 0 ? -tiny : tiny;
}

uint16_t rt_double_to_half(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    bits &= INT64_MAX;
    if (bits > 0x7ff0000000000000)
        return sign | 0x7e00;
    if (bits >= 0x40effe0000000000) /* 65520: half way to the first value that is too large */
        return sign | 0x7c00;
    int exponent = (int)(bits >> 52) - 1023;
    if (exponent < -25)
        return sign;
    uint64_t fraction = (bits & 0xfffffffffffff) | 1ull << 52;
    int shift = exponent < -14 ? 42 + (-14 - exponent) : 42;
    uint64_t kept = fraction >> shift, rest = fraction & ((1ull << shift) - 1);
    uint64_t half = 1ull << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1) != 0);
    /* For a normal number kept includes the implicit bit; adding (a carry too) gives the code. */
    uint64_t code = exponent < -14 ? kept : ((uint64_t)(exponent + 14) << 10) + kept;
    return (uint16_t)(sign | code);
}

uint16_t rt_float_to_half(float f)
{
    return rt_double_to_half(f); /* exact on the way up, so rounded once */
}

float rt_bfloat16_to_float(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t rt_float_to_bfloat16(float f)
{
    uint32_t bits = bits_of(f);
    if ((bits & INT32_MAX) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
