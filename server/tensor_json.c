/* Brackets, commas and the scanner of each type. */
#include "server/tensor_json.h"

#include "server/numbers.h"

#include <string.h>

/* Scans the element at p into dst[i]; as in numbers.h. */
typedef const char *scan_element(const char *p, void *dst, int64_t i, enum sv_scan_fault *fault);

static const char *scan_float(const char *p, void *dst, int64_t i, enum sv_scan_fault *fault)
{
    return sv_scan_float(p, (float *)dst + i, fault);
}

static const char *scan_double(const char *p, void *dst, int64_t i, enum sv_scan_fault *fault)
{
    return sv_scan_double(p, (double *)dst + i, fault);
}

#define SCAN_INT(type, min, max)                                                                   \
    static const char *scan_##type(const char *p, void *dst, int64_t i, enum sv_scan_fault *fault) \
    {                                                                                              \
        int64_t v;                                                                                 \
        const char *after = sv_scan_int(p, min, max, &v, fault);                                   \
        if (after != NULL)                                                                         \
            ((type *)dst)[i] = (type)v;                                                            \
        return after;                                                                              \
    }

SCAN_INT(int8_t, INT8_MIN, INT8_MAX)
SCAN_INT(int16_t, INT16_MIN, INT16_MAX)
SCAN_INT(int32_t, INT32_MIN, INT32_MAX)
SCAN_INT(int64_t, INT64_MIN, INT64_MAX)

#define SCAN_UINT(type, max)                                                                       \
    static const char *scan_##type(const char *p, void *dst, int64_t i, enum sv_scan_fault *fault) \
    {                                                                                              \
        uint64_t v;                                                                                \
        const char *after = sv_scan_uint(p, max, &v, fault);                                       \
        if (after != NULL)                                                                         \
            ((type *)dst)[i] = (type)v;                                                            \
        return after;                                                                              \
    }

SCAN_UINT(uint8_t, UINT8_MAX)
SCAN_UINT(uint16_t, UINT16_MAX)
SCAN_UINT(uint32_t, UINT32_MAX)
SCAN_UINT(uint64_t, UINT64_MAX)

static const char *scan_bool(const char *p, void *dst, int64_t i, enum sv_scan_fault *fault)
{
    bool yes = strncmp(p, "true", 4) == 0;
    if (!yes && strncmp(p, "false", 5) != 0) {
        *fault = SV_SCAN_SYNTAX;
        return NULL;
    }
    ((uint8_t *)dst)[i] = yes;
    return p + (yes ? 4 : 5);
}

static scan_element *const scanner[RT_N_DTYPES] = {
    [RT_FLOAT] = scan_float,     [RT_DOUBLE] = scan_double,   [RT_BOOL] = scan_bool,
    [RT_INT8] = scan_int8_t,     [RT_INT16] = scan_int16_t,   [RT_INT32] = scan_int32_t,
    [RT_INT64] = scan_int64_t,   [RT_UINT8] = scan_uint8_t,   [RT_UINT16] = scan_uint16_t,
    [RT_UINT32] = scan_uint32_t, [RT_UINT64] = scan_uint64_t,
};

bool sv_tensor_json_has(enum rt_dtype t)
{
    return (unsigned)t < RT_N_DTYPES && scanner[t] != NULL;
}

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')
        p++;
    return p;
}

/* The sentence about what stands at p in the place of element i. */
static enum rt_status bad_element(const char *p, const char *end, enum rt_dtype dtype, int64_t i,
                                  enum sv_scan_fault fault, const char *name, struct rt_error *err)
{
    static const char *const what[] = {
        [SV_SCAN_RANGE] = "does not fit",
        [SV_SCAN_FRACTION] = "is not an integer, as is wanted for",
        [SV_SCAN_SYNTAX] = "is not a value of",
    };
    char shown[32];
    size_t n = 0;
    while (n < sizeof shown - 1 && p + n < end && strchr(", \t\r\n[]", p[n]) == NULL)
        n++;
    memcpy(shown, p, n);
    shown[n] = '\0';
    return rt_fail(err, RT_E_INVALID, "input '%s': element %lld of 'data', '%s', %s type %s", name,
                   (long long)i, shown, what[fault], rt_dtype_oip(dtype));
}

enum rt_status sv_tensor_json_read(const char *text, size_t len, int depth, enum rt_dtype dtype,
                                   void *dst, int64_t count, const char *name, struct rt_error *err)
{
    scan_element *scan = scanner[dtype];
    const char *p = text, *end = text + len;
    const int outside = depth;
    int64_t i = 0;
    bool opened = false; /* a bracket has just been: it may close at once */
    for (;;) {
        p = skip_space(p);
        if (*p == '[') {
            if (++depth > SV_JSON_DEPTH_MAX)
                return rt_fail(err, RT_E_INVALID,
                               "input '%s': JSON nesting depth exceeds maximum allowed limit (%d)",
                               name, SV_JSON_DEPTH_MAX);
            opened = true;
            p++;
            continue;
        }
        if (!(opened && *p == ']')) {
            enum sv_scan_fault fault;
            if (i == count)
                return rt_fail(err, RT_E_INVALID,
                               "input '%s': 'data' has more than the %lld elements of its shape",
                               name, (long long)count);
            const char *after = scan(p, dst, i, &fault);
            if (after == NULL)
                return bad_element(p, end, dtype, i, fault, name, err);
            p = skip_space(after);
            i++;
        }
        opened = false;
        while (*p == ']') {
            p++;
            if (--depth == outside)
                goto closed;
            p = skip_space(p);
        }
        if (*p != ',')
            return rt_fail(err, RT_E_INVALID,
                           "input '%s': ',' or ']' expected after element %lld of 'data'", name,
                           (long long)(i - 1));
        p++;
    }
closed:
    if (p != end)
        return rt_fail(err, RT_E_INVALID, "input '%s': ',' expected in 'data' after element %lld",
                       name, (long long)(i - 1));
    if (i != count)
        return rt_fail(err, RT_E_INVALID,
                       "input '%s': 'data' has %lld elements, its shape asks for %lld", name,
                       (long long)i, (long long)count);
    return RT_OK;
}

static enum rt_status ragged(const char *name, struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID,
                   "input '%s': the arrays are not all of the same length at the same depth", name);
}

enum rt_status sv_tensor_json_shape(const char *text, size_t len, const char *name,
                                    struct rt_shape *out, struct rt_error *err)
{
    const char *p = text, *end = text + len;
    int64_t count[RT_MAX_RANK],
        dim[RT_MAX_RANK];    /* of the arrays that are open; dim -1: not known */
    int depth = 0, rank = 0; /* rank 0: not known */
    for (;;) {
        p += strspn(p, " \t\r\n,");
        if (p >= end || *p == '\0')
            return rt_fail(err, RT_E_INVALID, "input '%s': the array has no end", name);
        if (*p == '[') {
            if (rank != 0 && depth == rank)
                return ragged(name, err);
            if (depth == RT_MAX_RANK)
                return rt_fail(err, RT_E_INVALID, "input '%s' has more than %d dimensions", name,
                               RT_MAX_RANK);
            if (rank == 0)
                dim[depth] = -1;
            count[depth++] = 0;
            p++;
            continue;
        }
        if (*p == ']') {
            depth--;
            if (rank == 0)
                rank = depth + 1; /* an empty array is as deep as it gets */
            /* NOLINTNEXTLINE(clang-analyzer-core.*): brackets are whole, an open one was counted */
            if (dim[depth] >= 0 && dim[depth] != count[depth])
                return ragged(name, err);
            dim[depth] = count[depth];
            p++;
            if (depth == 0)
                break;
        } else {
            if (*p == '"' || *p == '{')
                return rt_fail(err, RT_E_INVALID, "input '%s': numbers are wanted, not %s", name,
                               *p == '"' ? "strings" : "objects");
            if (rank == 0)
                rank = depth;
            if (depth != rank)
                return ragged(name, err);
            p += strcspn(p, " \t\r\n,[]{}\"");
        }
        count[depth - 1]++; /* NOLINT(clang-analyzer-core.*): within an array, as above */
    }
    *out = rt_shape_of(rank, dim);
    return RT_OK;
}

static size_t print_element(char *to, const struct rt_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case RT_FLOAT:
        return sv_print_float(to, ((const float *)t->data)[i]);
    case RT_DOUBLE:
        return sv_print_double(to, ((const double *)t->data)[i]);
    case RT_INT8:
        return sv_print_int(to, ((const int8_t *)t->data)[i]);
    case RT_INT16:
        return sv_print_int(to, ((const int16_t *)t->data)[i]);
    case RT_INT32:
        return sv_print_int(to, ((const int32_t *)t->data)[i]);
    case RT_INT64:
        return sv_print_int(to, ((const int64_t *)t->data)[i]);
    case RT_UINT8:
        return sv_print_uint(to, ((const uint8_t *)t->data)[i]);
    case RT_UINT16:
        return sv_print_uint(to, ((const uint16_t *)t->data)[i]);
    case RT_UINT32:
        return sv_print_uint(to, ((const uint32_t *)t->data)[i]);
    case RT_UINT64:
        return sv_print_uint(to, ((const uint64_t *)t->data)[i]);
    default: {
        bool yes = ((const uint8_t *)t->data)[i] != 0;
        size_t n = yes ? 4 : 5;
        memcpy(to, yes ? "true" : "false", n);
        return n;
    }
    }
}

void sv_tensor_json_write(struct sv_text *out, const struct rt_tensor *t)
{
    int64_t n = rt_shape_numel(&t->shape);
    sv_text_bytes(out, "[", 1);
    for (int64_t i = 0; i < n; i++) {
        char *to = sv_text_reserve(out, SV_NUMBER_ROOM + 1);
        if (to == NULL)
            return;
        if (i > 0)
            *to++ = ',';
        out->len += (size_t)(i > 0) + print_element(to, t, i);
    }
    sv_text_bytes(out, "]", 1);
}

/* The part of t below dimension d whose first element is number *i; moves *i behind it. */
static void write_nested(struct sv_text *out, const struct rt_tensor *t, int d, int64_t *i)
{
    if (d == t->shape.rank) {
        char *to = sv_text_reserve(out, SV_NUMBER_ROOM);
        if (to != NULL)
            out->len += print_element(to, t, *i);
        ++*i;
        return;
    }
    sv_text_bytes(out, "[", 1);
    for (int64_t k = 0; k < t->shape.dim[d]; k++) {
        if (k > 0)
            sv_text_bytes(out, ",", 1);
        write_nested(out, t, d + 1, i);
    }
    sv_text_bytes(out, "]", 1);
}

void sv_tensor_json_write_nested(struct sv_text *out, const struct rt_tensor *t, int64_t row)
{
    int64_t i = 0;
    if (row >= 0)
        i = rt_shape_numel(&t->shape) / t->shape.dim[0] * row;
    write_nested(out, t, row >= 0 ? 1 : 0, &i);
}
