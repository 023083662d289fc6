/* TensorProto to tensor: every encoding of elements that ONNX has. */
#include "runtime/external.h"
#include "runtime/import_parts.h"
#include "runtime/rt.h"
#include "runtime/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is little-endian");

enum {
    FLOAT_DATA = 4,
    INT32_DATA = 5,
    STRING_DATA = 6,
    INT64_DATA = 7,
    RAW_DATA = 9,
    DOUBLE_DATA = 10,
    UINT64_DATA = 11,
    EXTERNAL = 1 /* TensorProto.DataLocation */
};

enum rt_status rt_check_dtype(int32_t number, const char *what, enum rt_dtype *out,
                              struct rt_error *err)
{
    static const char *const other[] = {
        [8] = "string",          [14] = "complex64",      [15] = "complex128",
        [17] = "float8e4m3fn",   [18] = "float8e4m3fnuz", [19] = "float8e5m2",
        [20] = "float8e5m2fnuz", [21] = "uint4",          [22] = "int4",
        [23] = "float4e2m1",     [24] = "float8e8m0",     [25] = "uint2",
        [26] = "int2",
    };
    if (number <= 0 || (number >= RT_N_DTYPES && (size_t)number >= sizeof other / sizeof other[0]))
        return rt_fail(err, RT_E_INVALID, "%s: %d is no element type", what, number);
    if (number < RT_N_DTYPES && rt_dtype_size((enum rt_dtype)number) > 0) {
        *out = (enum rt_dtype)number;
        return RT_OK;
    }
    return rt_fail(err, RT_E_UNSUPPORTED, "%s has elements of type %s, which is not supported",
                   what, other[number]);
}

static enum rt_status read_shape(size_t n, const int64_t *dims, const char *what,
                                 struct rt_shape *out, struct rt_error *err)
{
    if (n > RT_MAX_RANK)
        return rt_fail(err, RT_E_LIMIT, "%s has %zu dimensions, more than %d", what, n,
                       RT_MAX_RANK);
    struct rt_shape s = { .rank = (int)n };
    for (size_t i = 0; i < n; i++) {
        if (dims[i] < 0 || rt_is_batched(dims[i]))
            return rt_fail(err, RT_E_INVALID, "%s: dimension %zu is %lld", what, i,
                           (long long)dims[i]);
        s.dim[i] = dims[i];
    }
    *out = s;
    return RT_OK;
}

static void *alloc_elements(const struct rt_tensor_reader *r, size_t len)
{
    return r->g != NULL ? rt_graph_alloc_bulk(r->g, len, 1) : rt_alloc(len);
}

static enum rt_status no_memory(const struct rt_tensor_reader *r, size_t len, struct rt_error *err)
{
    return r->g != NULL ? rt_graph_nomem(r->g, err) : rt_fail_nomem(err, len);
}

/* --- typed fields: float_data and its like ------------------------------------------------- */

static uint32_t field_of(enum rt_dtype t)
{
    switch ((int)t) {
    case RT_FLOAT:
        return FLOAT_DATA;
    case RT_DOUBLE:
        return DOUBLE_DATA;
    case RT_INT64:
        return INT64_DATA;
    case RT_UINT32:
    case RT_UINT64:
        return UINT64_DATA;
    default:
        return INT32_DATA;
    }
}

static enum rt_wire_type wire_type_of(uint32_t field)
{
    return field == FLOAT_DATA    ? RT_WIRE_FIXED32
           : field == DOUBLE_DATA ? RT_WIRE_FIXED64
                                  : RT_WIRE_VARINT;
}

/* How many elements the field holds; -1 when its length fits no number of them. */
static int64_t count_elements(const struct rt_wire_field *f)
{
    enum rt_wire_type type = wire_type_of(f->number);
    if (f->type == type)
        return 1;
    if (f->type != RT_WIRE_BYTES)
        return -1;
    size_t size = type == RT_WIRE_FIXED32 ? 4 : 8;
    if (type != RT_WIRE_VARINT)
        return f->len % size == 0 ? (int64_t)(f->len / size) : -1;
    int64_t n = 0;
    for (size_t i = 0; i < f->len; i++)
        n += f->bytes[i] < 0x80;
    return n;
}

/* Writes one element; false when v is not a value of its type. */
static bool store(enum rt_dtype t, void *to, int64_t i, uint64_t v)
{
    int32_t i32 = (int32_t)(uint32_t)v;
    switch ((int)t) {
    case RT_FLOAT:
    case RT_INT32:
        ((uint32_t *)to)[i] = (uint32_t)v;
        return true;
    case RT_UINT32:
        ((uint32_t *)to)[i] = (uint32_t)v;
        return v <= UINT32_MAX;
    case RT_DOUBLE:
    case RT_INT64:
    case RT_UINT64:
        ((uint64_t *)to)[i] = v;
        return true;
    case RT_INT8:
        ((int8_t *)to)[i] = (int8_t)i32;
        return i32 >= INT8_MIN && i32 <= INT8_MAX;
    case RT_UINT8:
        ((uint8_t *)to)[i] = (uint8_t)i32;
        return i32 >= 0 && i32 <= UINT8_MAX;
    case RT_BOOL:
        ((uint8_t *)to)[i] = i32 != 0;
        return true;
    case RT_INT16:
        ((int16_t *)to)[i] = (int16_t)i32;
        return i32 >= INT16_MIN && i32 <= INT16_MAX;
    default: /* uint16 and the bits of float16 and bfloat16 */
        ((uint16_t *)to)[i] = (uint16_t)i32;
        return i32 >= 0 && i32 <= UINT16_MAX;
    }
}

/* Decodes the elements of one field to to[*at] and on. */
static enum rt_status decode(const struct rt_wire_field *f, enum rt_dtype t, void *to, int64_t *at,
                             const char *what, struct rt_error *err)
{
    enum rt_wire_type type = wire_type_of(f->number);
    bool ok = true;
    if (f->type != RT_WIRE_BYTES)
        ok = store(t, to, (*at)++, f->value);
    const uint8_t *p = f->bytes, *end = f->len > 0 ? p + f->len : p;
    if (type != RT_WIRE_VARINT && f->len > 0) { /* float_data, double_data: as they lie in memory */
        size_t size = type == RT_WIRE_FIXED32 ? 4 : 8;
        memcpy((uint8_t *)to + (size_t)*at * size, p, f->len);
        *at += (int64_t)(f->len / size);
        return RT_OK;
    }
    while (ok && p < end) {
        uint64_t v;
        if (!rt_wire_varint(&p, end, &v))
            return rt_fail(err, RT_E_INVALID, "%s: element %lld is cut off or too long", what,
                           (long long)*at);
        ok = store(t, to, (*at)++, v);
    }
    if (!ok)
        return rt_fail(err, RT_E_INVALID, "%s: element %lld is no %s", what, (long long)*at - 1,
                       rt_dtype_name(t));
    return RT_OK;
}

/* --- what fields there are ----------------------------------------------------------------- */

struct elements {
    uint32_t field;     /* 0: none */
    int64_t count;      /* of a typed field */
    const uint8_t *raw; /* of RAW_DATA */
    size_t raw_len;
};

static bool holds_elements(uint32_t number)
{
    return (number >= FLOAT_DATA && number <= INT64_DATA) ||
           (number >= RAW_DATA && number <= UINT64_DATA);
}

static const char *field_name(uint32_t number)
{
    static const char *const name[] = {
        [FLOAT_DATA] = "float_data",   [INT32_DATA] = "int32_data", [STRING_DATA] = "string_data",
        [INT64_DATA] = "int64_data",   [RAW_DATA] = "raw_data",     [DOUBLE_DATA] = "double_data",
        [UINT64_DATA] = "uint64_data",
    };
    return name[number];
}

static struct rt_wire body_of(const struct rt_tensor_reader *r, const Onnx__TensorProto *t)
{
    const uint8_t *at = r->file + t->file_at;
    return (struct rt_wire){ .at = at, .end = at + t->file_len };
}

static enum rt_status survey(const struct rt_tensor_reader *r, const Onnx__TensorProto *t,
                             const char *what, struct elements *out, struct rt_error *err)
{
    struct rt_wire body = body_of(r, t);
    struct rt_wire_field f;
    struct elements e = { 0 };
    while (rt_wire_next(&body, &f)) {
        bool empty = f.type == RT_WIRE_BYTES && f.len == 0 && f.number != STRING_DATA;
        if (!holds_elements(f.number) || (empty && f.number != RAW_DATA))
            continue;
        if (e.field != 0 && e.field != f.number)
            return rt_fail(err, RT_E_INVALID, "%s has its elements twice, in %s and %s", what,
                           field_name(e.field), field_name(f.number));
        if (!empty)
            e.field = f.number;
        if (f.number == RAW_DATA) {
            if (f.type != RT_WIRE_BYTES)
                return rt_fail(err, RT_E_INVALID, "%s: raw_data is encoded as another type", what);
            e.raw = f.bytes;
            e.raw_len = f.len;
        } else if (f.number != STRING_DATA) {
            int64_t n = count_elements(&f);
            if (n < 0)
                return rt_fail(err, RT_E_INVALID, "%s: %s has a length that fits no whole elements",
                               what, field_name(f.number));
            e.count += n;
        }
    }
    *out = e;
    return RT_OK;
}

/* True if elements can be read where they lie. A bool's byte may only be 0 or 1. */
static bool usable_in_place(const struct rt_tensor_reader *r, enum rt_dtype t, const uint8_t *raw)
{
    return r->g != NULL && t != RT_BOOL &&
           ((uintptr_t)raw % rt_dtype_size(t) == 0 || (r->anywhere && t == RT_FLOAT));
}

static void to_bools(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = p[i] != 0;
}

static enum rt_status read_raw(const struct rt_tensor_reader *r, const struct elements *e,
                               const char *what, struct rt_tensor *x, size_t len,
                               struct rt_error *err)
{
    if (e->raw_len != len)
        return rt_fail(err, RT_E_INVALID, "%s: raw_data has %zu bytes, its shape asks for %zu",
                       what, e->raw_len, len);
    if (usable_in_place(r, x->dtype, e->raw)) {
        x->data = (void *)e->raw;
        return RT_OK;
    }
    x->data = alloc_elements(r, len);
    if (x->data == NULL)
        return no_memory(r, len, err);
    memcpy(x->data, e->raw, len);
    if (x->dtype == RT_BOOL)
        to_bools(x->data, len);
    return RT_OK;
}

static enum rt_status read_typed(const struct rt_tensor_reader *r, const Onnx__TensorProto *t,
                                 const struct elements *e, const char *what, struct rt_tensor *x,
                                 size_t len, struct rt_error *err)
{
    if (e->field != field_of(x->dtype))
        return rt_fail(err, RT_E_INVALID, "%s has type %s but its elements are in %s", what,
                       rt_dtype_name(x->dtype), field_name(e->field));
    int64_t count = rt_shape_numel(&x->shape), at = 0;
    if (e->count != count)
        return rt_fail(err, RT_E_INVALID, "%s: %s has %lld elements, its shape asks for %lld", what,
                       field_name(e->field), (long long)e->count, (long long)count);
    void *to = alloc_elements(r, len);
    if (to == NULL)
        return no_memory(r, len, err);
    struct rt_wire body = body_of(r, t);
    struct rt_wire_field f;
    enum rt_status s = RT_OK;
    while (s == RT_OK && rt_wire_next(&body, &f))
        if (f.number == e->field)
            s = decode(&f, x->dtype, to, &at, what, err);
    if (s == RT_OK)
        x->data = to;
    else if (r->g == NULL)
        rt_free(to);
    return s;
}

/* --- external data ------------------------------------------------------------------------- */

static enum rt_status parse_size(const char *text, const char *what, const char *key, int64_t *out,
                                 struct rt_error *err)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < 0)
        return rt_fail(err, RT_E_INVALID, "%s: external data: %s is '%s'", what, key, text);
    *out = v;
    return RT_OK;
}

static enum rt_status read_external(const struct rt_tensor_reader *r, const Onnx__TensorProto *t,
                                    const char *what, struct rt_tensor *x, size_t len,
                                    struct rt_error *err)
{
    const char *path = NULL;
    int64_t offset = 0, length = (int64_t)len;
    enum rt_status s = RT_OK;
    for (size_t i = 0; i < t->n_external_data && s == RT_OK; i++) {
        const char *key = rt_text(t->external_data[i]->key);
        const char *value = rt_text(t->external_data[i]->value);
        if (strcmp(key, "location") == 0)
            path = value;
        else if (strcmp(key, "offset") == 0)
            s = parse_size(value, what, key, &offset, err);
        else if (strcmp(key, "length") == 0)
            s = parse_size(value, what, key, &length, err);
    }
    if (s != RT_OK)
        return s;
    if (path == NULL)
        return rt_fail(err, RT_E_INVALID, "%s: external data without a location", what);
    if (r->folder == NULL)
        return rt_fail(err, RT_E_INVALID,
                       "%s: its data is in another file, '%s', but the model came without a folder",
                       what, path);
    if (length != (int64_t)len)
        return rt_fail(err, RT_E_INVALID,
                       "%s: external data has %lld bytes, its shape asks for %zu", what,
                       (long long)length, len);
    int fd;
    void *to = NULL;
    s = rt_external_open(r->folder, path, offset, len, &fd, err);
    if (s == RT_OK) {
        to = alloc_elements(r, len);
        s = to != NULL ? rt_external_read(fd, path, offset, to, len, err) : no_memory(r, len, err);
        close(fd);
    }
    if (s != RT_OK) {
        rt_error_prefix(err, "%s: external data", what);
        if (r->g == NULL)
            rt_free(to);
        return s;
    }
    if (x->dtype == RT_BOOL)
        to_bools(to, len);
    x->data = to;
    return RT_OK;
}

/* --- together ------------------------------------------------------------------------------ */

enum rt_status rt_read_tensor(const struct rt_tensor_reader *r, const Onnx__TensorProto *t,
                              const char *what, struct rt_tensor *out, struct rt_error *err)
{
    struct rt_tensor x = { .dtype = RT_UNDEFINED };
    size_t len;
    struct elements e = { 0 };
    enum rt_status s = rt_check_dtype(t->data_type, what, &x.dtype, err);
    if (s == RT_OK)
        s = read_shape(t->n_dims, t->dims, what, &x.shape, err);
    if (s != RT_OK)
        return s;
    if (!rt_shape_bytes(&x.shape, x.dtype, &len))
        return rt_fail(err, RT_E_LIMIT, "%s: the product of its dimensions is too large", what);
    if (t->has_segment)
        return rt_fail(err, RT_E_UNSUPPORTED, "%s is stored in segments, which is not supported",
                       what);
    if (t->data_location != 0 && t->data_location != EXTERNAL)
        return rt_fail(err, RT_E_INVALID, "%s: %d is no data location", what, t->data_location);
    s = survey(r, t, what, &e, err);
    if (s != RT_OK)
        return s;
    if (t->data_location == EXTERNAL)
        s = e.field != 0 ? rt_fail(err, RT_E_INVALID, "%s has external data and %s at once", what,
                                   field_name(e.field))
                         : read_external(r, t, what, &x, len, err);
    else if (e.field == RAW_DATA)
        s = read_raw(r, &e, what, &x, len, err);
    else if (e.field != 0)
        s = read_typed(r, t, &e, what, &x, len, err);
    else if (len > 0)
        s = rt_fail(err, RT_E_INVALID, "%s has no data: its shape asks for %zu bytes", what, len);
    if (s == RT_OK)
        *out = x;
    return s;
}

/* Position in the dense tensor of the k-th value; -1 when its index is outside. */
static int64_t sparse_position(const struct rt_shape *s, const int64_t *index, bool linear,
                               int64_t k)
{
    if (linear)
        return index[k] >= 0 && index[k] < rt_shape_numel(s) ? index[k] : -1;
    int64_t at = 0;
    for (int d = 0; d < s->rank; d++) {
        int64_t i = index[k * s->rank + d];
        if (i < 0 || i >= s->dim[d])
            return -1;
        at = at * s->dim[d] + i;
    }
    return at;
}

enum rt_status rt_read_sparse(const struct rt_tensor_reader *r, const Onnx__SparseTensorProto *t,
                              const char *what, struct rt_tensor *out, struct rt_error *err)
{
    struct rt_tensor values, indices, x = { .dtype = RT_UNDEFINED };
    if (t->values == NULL || t->indices == NULL)
        return rt_fail(err, RT_E_INVALID, "%s: a sparse tensor without values or indices", what);
    enum rt_status s = rt_read_tensor(r, t->values, what, &values, err);
    if (s == RT_OK)
        s = rt_read_tensor(r, t->indices, what, &indices, err);
    if (s == RT_OK)
        s = read_shape(t->n_dims, t->dims, what, &x.shape, err);
    if (s != RT_OK)
        return s;
    int64_t n = rt_shape_numel(&values.shape);
    const struct rt_shape *is = &indices.shape;
    bool linear = is->rank == 1;
    bool fits = indices.dtype == RT_INT64 && values.shape.rank == 1 && is->rank >= 1 &&
                is->rank <= 2 && is->dim[0] == n && (linear || is->dim[1] == x.shape.rank);
    if (!fits)
        return rt_fail(err, RT_E_INVALID, "%s: indices and values of the sparse tensor do not fit",
                       what);
    size_t len, size = rt_dtype_size(values.dtype);
    if (!rt_shape_bytes(&x.shape, values.dtype, &len))
        return rt_fail(err, RT_E_LIMIT, "%s: the product of its dimensions is too large", what);
    uint8_t *to = rt_graph_alloc_bulk(r->g, len, 1);
    if (to == NULL)
        return rt_graph_nomem(r->g, err);
    for (int64_t k = 0; k < n; k++) {
        int64_t at = sparse_position(&x.shape, indices.data, linear, k);
        if (at < 0)
            return rt_fail(err, RT_E_INVALID, "%s: index %lld of the sparse tensor is outside",
                           what, (long long)k);
        memcpy(to + (size_t)at * size, (const uint8_t *)values.data + (size_t)k * size, size);
    }
    x.dtype = values.dtype;
    x.data = to;
    *out = x;
    return RT_OK;
}

enum rt_status rt_tensor_from_pb(const void *bytes, size_t len, struct rt_tensor *out, char *name,
                                 size_t name_len, struct rt_error *err)
{
    uint8_t *skeleton;
    size_t skeleton_len;
    enum rt_status s = rt_wire_skeleton(bytes, len, RT_WIRE_TENSOR, &skeleton, &skeleton_len, err);
    if (s != RT_OK)
        return s;
    struct rt_arena *work = rt_arena_create(0);
    ProtobufCAllocator in_work = rt_arena_allocator(work);
    Onnx__TensorProto *t =
        work != NULL ? onnx__tensor_proto__unpack(&in_work, skeleton_len, skeleton) : NULL;
    rt_free(skeleton);
    struct rt_tensor_reader r = { .file = bytes, .file_len = len };
    if (t != NULL)
        s = rt_read_tensor(&r, t, "the tensor", out, err);
    else
        s = rt_fail(err, RT_E_NOMEM, "out of memory while reading a tensor");
    if (s == RT_OK && name != NULL && name_len > 0)
        snprintf(name, name_len, "%s", rt_text(t->name));
    rt_arena_destroy(work);
    return s;
}
