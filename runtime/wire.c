/* Checks a file's wire format before protobuf-c sees it, and cuts away all that import does not
 * read. */
#include "runtime/wire.h"

#include "runtime/mem.h"
#include "runtime/rt.h"

#include <assert.h>
#include <string.h>

bool rt_wire_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    uint64_t v = 0;
    const uint8_t *p = *at;
    for (int shift = 0; shift < 70 && p < end; shift += 7) {
        uint8_t b = *p++;
        v |= shift < 64 ? (uint64_t)(b & 0x7f) << shift : 0;
        if (b < 0x80) {
            *at = p;
            *value = v;
            return true;
        }
    }
    return false;
}

static uint64_t little_endian(const uint8_t *p, int len)
{
    uint64_t v = 0;
    for (int i = 0; i < len; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static const char too_long[] = "a field is longer than what is left of the message around it";

static bool stop(struct rt_wire *w, const char *wrong)
{
    w->wrong = wrong;
    return false;
}

bool rt_wire_next(struct rt_wire *w, struct rt_wire_field *f)
{
    w->wrong = NULL;
    if (w->at == w->end)
        return false;
    const uint8_t *p = w->at;
    uint64_t tag;
    if (!rt_wire_varint(&p, w->end, &tag))
        return stop(w, "a field's tag is cut off");
    if (tag >> 3 == 0 || tag > UINT32_MAX)
        return stop(w, "a field has an impossible number");
    *f = (struct rt_wire_field){ .number = (uint32_t)tag >> 3 };
    size_t left = (size_t)(w->end - p);
    switch (tag & 7) {
    case RT_WIRE_VARINT:
        f->type = RT_WIRE_VARINT;
        if (!rt_wire_varint(&p, w->end, &f->value))
            return stop(w, "a number is cut off or too long");
        break;
    case RT_WIRE_FIXED64:
    case RT_WIRE_FIXED32: {
        f->type = (tag & 7) == RT_WIRE_FIXED64 ? RT_WIRE_FIXED64 : RT_WIRE_FIXED32;
        int size = f->type == RT_WIRE_FIXED64 ? 8 : 4;
        if (left < (size_t)size)
            return stop(w, "a number is cut off");
        f->value = little_endian(p, size);
        p += size;
        break;
    }
    case RT_WIRE_BYTES: {
        f->type = RT_WIRE_BYTES;
        uint64_t len;
        if (!rt_wire_varint(&p, w->end, &len))
            return stop(w, "a field's length is cut off or too long");
        if (len > (uint64_t)(w->end - p))
            return stop(w, too_long);
        f->bytes = p;
        f->len = (size_t)len;
        p += len;
        break;
    }
    default:
        return stop(w, "a field has a wire type that ONNX does not use");
    }
    w->at = p;
    return true;
}

/* --- the schema ---------------------------------------------------------------------------- */

enum message {
    MODEL,
    OPSET,
    GRAPH,
    NODE,
    ATTRIBUTE,
    TENSOR,
    SPARSE,
    ENTRY,
    VALUE,
    TYPE,
    TENSOR_TYPE,
    SHAPE,
    DIMENSION,
    FUNCTION,
};

enum kind {
    END = 0,
    INT,    /* varint */
    FLOAT,  /* fixed32 */
    STRING, /* bytes that are UTF-8 */
    BYTES,
    INTS,   /* repeated varint, packed or not */
    FLOATS, /* repeated fixed32, packed or not */
    MESSAGE,
    MARK,    /* bytes of which only the presence counts: passed on empty */
    ELEMENTS /* a tensor's data: read from the file later */
};

struct field {
    uint8_t number;
    uint8_t kind;    /* enum kind */
    uint8_t message; /* enum message, where kind is MESSAGE */
    const char *name;
};

/* proto/onnx.proto once more, for those who come before it is parsed. */
static const struct field schema[][16] = {
    [MODEL] = { { 1, INT, 0, "ModelProto.ir_version" },
                { 2, STRING, 0, "ModelProto.producer_name" },
                { 3, STRING, 0, "ModelProto.producer_version" },
                { 7, MESSAGE, GRAPH, "ModelProto.graph" },
                { 8, MESSAGE, OPSET, "ModelProto.opset_import" },
                { 25, MESSAGE, FUNCTION, "ModelProto.functions" } },
    [OPSET] = { { 1, STRING, 0, "OperatorSetIdProto.domain" },
                { 2, INT, 0, "OperatorSetIdProto.version" } },
    [GRAPH] = { { 1, MESSAGE, NODE, "GraphProto.node" },
                { 2, STRING, 0, "GraphProto.name" },
                { 5, MESSAGE, TENSOR, "GraphProto.initializer" },
                { 11, MESSAGE, VALUE, "GraphProto.input" },
                { 12, MESSAGE, VALUE, "GraphProto.output" },
                { 15, MESSAGE, SPARSE, "GraphProto.sparse_initializer" } },
    [NODE] = { { 1, STRING, 0, "NodeProto.input" },
               { 2, STRING, 0, "NodeProto.output" },
               { 3, STRING, 0, "NodeProto.name" },
               { 4, STRING, 0, "NodeProto.op_type" },
               { 5, MESSAGE, ATTRIBUTE, "NodeProto.attribute" },
               { 7, STRING, 0, "NodeProto.domain" },
               { 8, STRING, 0, "NodeProto.overload" } },
    [ATTRIBUTE] = { { 1, STRING, 0, "AttributeProto.name" },
                    { 2, FLOAT, 0, "AttributeProto.f" },
                    { 3, INT, 0, "AttributeProto.i" },
                    { 4, BYTES, 0, "AttributeProto.s" },
                    { 5, MESSAGE, TENSOR, "AttributeProto.t" },
                    { 6, MESSAGE, GRAPH, "AttributeProto.g" },
                    { 7, FLOATS, 0, "AttributeProto.floats" },
                    { 8, INTS, 0, "AttributeProto.ints" },
                    { 9, BYTES, 0, "AttributeProto.strings" },
                    { 20, INT, 0, "AttributeProto.type" },
                    { 21, STRING, 0, "AttributeProto.ref_attr_name" },
                    { 22, MESSAGE, SPARSE, "AttributeProto.sparse_tensor" } },
    [TENSOR] = { { 1, INTS, 0, "TensorProto.dims" },
                 { 2, INT, 0, "TensorProto.data_type" },
                 { 3, MARK, 0, "TensorProto.segment" },
                 { 4, ELEMENTS, 0, "TensorProto.float_data" },
                 { 5, ELEMENTS, 0, "TensorProto.int32_data" },
                 { 6, ELEMENTS, 0, "TensorProto.string_data" },
                 { 7, ELEMENTS, 0, "TensorProto.int64_data" },
                 { 8, STRING, 0, "TensorProto.name" },
                 { 9, ELEMENTS, 0, "TensorProto.raw_data" },
                 { 10, ELEMENTS, 0, "TensorProto.double_data" },
                 { 11, ELEMENTS, 0, "TensorProto.uint64_data" },
                 { 13, MESSAGE, ENTRY, "TensorProto.external_data" },
                 { 14, INT, 0, "TensorProto.data_location" } },
    [SPARSE] = { { 1, MESSAGE, TENSOR, "SparseTensorProto.values" },
                 { 2, MESSAGE, TENSOR, "SparseTensorProto.indices" },
                 { 3, INTS, 0, "SparseTensorProto.dims" } },
    [ENTRY] = { { 1, STRING, 0, "StringStringEntryProto.key" },
                { 2, STRING, 0, "StringStringEntryProto.value" } },
    [VALUE] = { { 1, STRING, 0, "ValueInfoProto.name" },
                { 2, MESSAGE, TYPE, "ValueInfoProto.type" } },
    [TYPE] = { { 1, MESSAGE, TENSOR_TYPE, "TypeProto.tensor_type" },
               { 4, MARK, 0, "TypeProto.sequence_type" },
               { 5, MARK, 0, "TypeProto.map_type" },
               { 7, MARK, 0, "TypeProto.opaque_type" },
               { 8, MARK, 0, "TypeProto.sparse_tensor_type" },
               { 9, MARK, 0, "TypeProto.optional_type" } },
    [TENSOR_TYPE] = { { 1, INT, 0, "TypeProto.Tensor.elem_type" },
                      { 2, MESSAGE, SHAPE, "TypeProto.Tensor.shape" } },
    [SHAPE] = { { 1, MESSAGE, DIMENSION, "TensorShapeProto.dim" } },
    [DIMENSION] = { { 1, INT, 0, "TensorShapeProto.Dimension.dim_value" },
                    { 2, STRING, 0, "TensorShapeProto.Dimension.dim_param" } },
    [FUNCTION] = { { 1, STRING, 0, "FunctionProto.name" },
                   { 4, STRING, 0, "FunctionProto.input" },
                   { 5, STRING, 0, "FunctionProto.output" },
                   { 6, STRING, 0, "FunctionProto.attribute" },
                   { 7, MESSAGE, NODE, "FunctionProto.node" },
                   { 9, MESSAGE, OPSET, "FunctionProto.opset_import" },
                   { 10, STRING, 0, "FunctionProto.domain" },
                   { 11, MESSAGE, ATTRIBUTE, "FunctionProto.attribute_proto" },
                   { 13, STRING, 0, "FunctionProto.overload" } },
};

static const struct field *find(enum message m, uint32_t number)
{
    for (const struct field *f = schema[m]; f->kind != END; f++)
        if (f->number == number)
            return f;
    return NULL;
}

/* TensorProto.file_at and file_len of proto/onnx.proto. */
enum { FILE_AT = 1001, FILE_LEN = 1002 };

/* --- the skeleton -------------------------------------------------------------------------- */

/* Lengths of messages are not known before their end, so each has room for this many bytes: a
 * varint may be padded with zero groups. */
enum { LENGTH_ROOM = 5 };

struct frame {
    enum message message;
    struct rt_wire wire;
    size_t length_at; /* where the length goes in the skeleton */
};

struct writer {
    const uint8_t *file;
    uint8_t *out;
    size_t len, cap;
    struct rt_error *err;
};

static enum rt_status fail_at(const struct writer *w, const uint8_t *at, enum rt_status s,
                              const char *what, const char *field)
{
    return rt_fail(w->err, s, "byte %zu of the file: %s%s%s", (size_t)(at - w->file), field,
                   field[0] != '\0' ? ": " : "", what);
}

static enum rt_status put(struct writer *w, const void *bytes, size_t len)
{
    if (len > RT_WIRE_MAX_SKELETON - w->len)
        return rt_fail(w->err, RT_E_LIMIT,
                       "names, attributes and shapes of the file take more than %zu MiB",
                       RT_WIRE_MAX_SKELETON >> 20);
    if (len > w->cap - w->len) {
        size_t cap = w->cap * 2 > w->len + len ? w->cap * 2 : w->len + len + 4096;
        uint8_t *out = rt_realloc_array(w->out, cap, 1);
        if (out == NULL)
            return rt_fail_nomem(w->err, cap);
        w->out = out;
        w->cap = cap;
    }
    if (len > 0)
        memcpy(w->out + w->len, bytes, len);
    w->len += len;
    return RT_OK;
}

static size_t varint_to(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

static enum rt_status put_tag(struct writer *w, uint32_t number, enum rt_wire_type type)
{
    uint8_t tag[LENGTH_ROOM];
    return put(w, tag, varint_to(tag, (uint64_t)number << 3 | type));
}

static enum rt_status put_bytes(struct writer *w, uint32_t number, const uint8_t *bytes, size_t len)
{
    uint8_t length[10];
    enum rt_status s = put_tag(w, number, RT_WIRE_BYTES);
    if (s == RT_OK)
        s = put(w, length, varint_to(length, len));
    return s == RT_OK ? put(w, bytes, len) : s;
}

static enum rt_status put_fixed64(struct writer *w, uint32_t number, uint64_t v)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    enum rt_status s = put_tag(w, number, RT_WIRE_FIXED64);
    return s == RT_OK ? put(w, bytes, sizeof bytes) : s;
}

static void end_message(struct writer *w, size_t length_at)
{
    size_t len = w->len - length_at - LENGTH_ROOM;
    for (int i = 0; i < LENGTH_ROOM; i++) {
        w->out[length_at + (size_t)i] = (uint8_t)((len & 0x7f) | (i + 1 < LENGTH_ROOM ? 0x80 : 0));
        len >>= 7;
    }
}

/* Length of the valid UTF-8 sequence at p, 0 if there is none. NUL counts as invalid: names are
 * C strings from here on. */
static size_t utf8_len(const uint8_t *p, size_t left)
{
    uint8_t b = p[0];
    if (b < 0x80)
        return b != 0;
    size_t len = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
    if (b < 0xc2 || b > 0xf4 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (b == 0xe0 && p[1] < 0xa0) || (b == 0xf0 && p[1] < 0x90);
    bool surrogate = b == 0xed && p[1] > 0x9f;
    bool too_high = b == 0xf4 && p[1] > 0x8f;
    return overlong || surrogate || too_high ? 0 : len;
}

static const uint8_t *first_bad_utf8(const uint8_t *p, size_t len)
{
    const uint8_t *end = p + len;
    while (p < end) {
        size_t n = utf8_len(p, (size_t)(end - p));
        if (n == 0)
            return p;
        p += n;
    }
    return NULL;
}

static bool right_type(enum kind kind, enum rt_wire_type type)
{
    switch (kind) {
    case INT:
        return type == RT_WIRE_VARINT;
    case FLOAT:
        return type == RT_WIRE_FIXED32;
    case INTS:
        return type == RT_WIRE_VARINT || type == RT_WIRE_BYTES;
    case FLOATS:
        return type == RT_WIRE_FIXED32 || type == RT_WIRE_BYTES;
    case ELEMENTS:
        return true; /* by the tensor's reader */
    default:
        return type == RT_WIRE_BYTES;
    }
}

static enum rt_status check_packed(const struct writer *w, const struct field *schema_field,
                                   const struct rt_wire_field *f)
{
    if (schema_field->kind == FLOATS && f->len % 4 != 0)
        return fail_at(w, f->bytes, RT_E_INVALID, "the last number is cut off", schema_field->name);
    const uint8_t *p = f->bytes, *end = p + f->len;
    uint64_t v;
    while (schema_field->kind == INTS && p < end)
        if (!rt_wire_varint(&p, end, &v))
            return fail_at(w, p, RT_E_INVALID, "a number is cut off or too long",
                           schema_field->name);
    return RT_OK;
}

/* Writes the field in its shortest form: protobuf-c takes fewer of the long ones than allowed. */
static enum rt_status put_field(struct writer *w, const struct rt_wire_field *f)
{
    uint8_t number[10];
    if (f->type == RT_WIRE_FIXED64)
        return put_fixed64(w, f->number, f->value);
    if (f->type == RT_WIRE_BYTES)
        return put_bytes(w, f->number, f->bytes, f->len);
    enum rt_status s = put_tag(w, f->number, f->type);
    if (s != RT_OK)
        return s;
    if (f->type == RT_WIRE_VARINT)
        return put(w, number, varint_to(number, f->value));
    for (int i = 0; i < 4; i++)
        number[i] = (uint8_t)(f->value >> 8 * i);
    return put(w, number, 4);
}

static enum rt_status copy_field(struct writer *w, const struct field *schema_field,
                                 const struct rt_wire_field *f)
{
    if (schema_field->kind == ELEMENTS)
        return RT_OK;
    if (schema_field->kind == MARK)
        return put_bytes(w, f->number, NULL, 0);
    if (schema_field->kind == STRING) {
        const uint8_t *bad = first_bad_utf8(f->bytes, f->len);
        if (bad != NULL)
            return fail_at(w, bad, RT_E_INVALID,
                           *bad == 0 ? "the text has a NUL character inside"
                                     : "the text is not valid UTF-8",
                           schema_field->name);
    }
    if (f->type == RT_WIRE_BYTES) {
        enum rt_status s = check_packed(w, schema_field, f);
        if (s != RT_OK)
            return s;
    }
    return put_field(w, f);
}

static enum rt_status begin_message(struct writer *w, struct frame *frame, const struct field *f,
                                    const struct rt_wire_field *field)
{
    static const uint8_t room[LENGTH_ROOM];
    *frame = (struct frame){ .message = (enum message)f->message,
                             .wire = { .at = field->bytes, .end = field->bytes + field->len } };
    enum rt_status s = put_tag(w, field->number, RT_WIRE_BYTES);
    frame->length_at = w->len;
    return s == RT_OK ? put(w, room, sizeof room) : s;
}

static enum rt_status put_file_position(struct writer *w, const struct frame *frame)
{
    if (frame->message != TENSOR)
        return RT_OK;
    enum rt_status s = put_fixed64(w, FILE_AT, (uint64_t)(frame->wire.at - w->file));
    if (s != RT_OK)
        return s;
    return put_fixed64(w, FILE_LEN, (uint64_t)(frame->wire.end - frame->wire.at));
}

static enum rt_status scan(struct writer *w, struct frame *stack)
{
    enum rt_status s = put_file_position(w, &stack[0]);
    int depth = 0, messages = 0;
    while (s == RT_OK) {
        struct frame *top = &stack[depth];
        struct rt_wire_field field;
        const uint8_t *start = top->wire.at;
        if (!rt_wire_next(&top->wire, &field)) {
            if (top->wire.wrong == too_long && depth == 0)
                return fail_at(w, start, RT_E_INVALID,
                               "the file ends inside of this field; was it cut off?", "");
            if (top->wire.wrong != NULL)
                return fail_at(w, start, RT_E_INVALID, top->wire.wrong, "");
            if (depth == 0)
                return RT_OK;
            end_message(w, top->length_at);
            depth--;
            continue;
        }
        const struct field *f = find(top->message, field.number);
        if (f == NULL)
            continue;
        if (!right_type((enum kind)f->kind, field.type))
            return fail_at(w, start, RT_E_INVALID, "the field is encoded as another type", f->name);
        if (f->kind != MESSAGE) {
            s = copy_field(w, f, &field);
            continue;
        }
        if (++depth == RT_WIRE_MAX_DEPTH)
            return fail_at(w, start, RT_E_LIMIT, "messages are nested too deep", f->name);
        if (++messages > RT_WIRE_MAX_MESSAGES)
            return fail_at(w, start, RT_E_LIMIT,
                           "the file has too many nodes, attributes and tensors", f->name);
        s = begin_message(w, &stack[depth], f, &field);
        if (s == RT_OK)
            s = put_file_position(w, &stack[depth]);
    }
    return s;
}

enum rt_status rt_wire_skeleton(const void *bytes, size_t len, enum rt_wire_root root,
                                uint8_t **out, size_t *out_len, struct rt_error *err)
{
    struct writer w = { .file = bytes, .err = err };
    struct frame stack[RT_WIRE_MAX_DEPTH];
    stack[0] = (struct frame){
        .message = root == RT_WIRE_MODEL ? MODEL : TENSOR,
        .wire = { .at = w.file, .end = w.file + len },
    };
    enum rt_status s = scan(&w, stack);
    if (s != RT_OK) {
        rt_free(w.out);
        return s;
    }
    *out = w.out;
    *out_len = w.len;
    return RT_OK;
}

/* --- what else it may be ------------------------------------------------------------------- */

static bool is_text(const uint8_t *p, size_t len)
{
    size_t n = len < 512 ? len : 512;
    for (size_t i = 0; i < n; i++)
        if ((p[i] < 0x20 && p[i] != '\n' && p[i] != '\r' && p[i] != '\t') || p[i] == 0x7f)
            return false;
    return true;
}

const char *rt_sniff(const void *bytes, size_t len)
{
    static const struct {
        uint8_t at, len;
        const char *magic;
        const char *what;
    } known[] = {
        { 0, 3, "\xff\xd8\xff", "a JPEG image" },
        { 0, 4, "\x89PNG", "a PNG image" },
        { 0, 4, "GIF8", "a GIF image" },
        { 8, 4, "WEBP", "a WebP image" },
        { 0, 5, "%PDF-", "a PDF document" },
        { 0, 2, "\x1f\x8b", "a gzip archive: unpack it first" },
        { 0, 4, "PK\x03\x04", "a zip archive, as PyTorch and Keras save them: export it to ONNX" },
        { 0, 6,
          "\xfd"
          "7zXZ",
          "an xz archive: unpack it first" },
        { 0, 4, "\x28\xb5\x2f\xfd", "a zstd archive: unpack it first" },
        { 0, 4, "\x89HDF", "an HDF5 file, as Keras saves them: export it to ONNX" },
        { 4, 4, "TFL3", "a TensorFlow Lite model" },
        { 4, 4, "ORTM", "an ONNX Runtime model (.ort): use the .onnx file it was made from" },
        { 0, 4, "GGUF", "a GGUF model" },
        { 0, 4,
          "\x7f"
          "ELF",
          "a program" },
        { 0, 6, "\x93NUMPY", "a NumPy array" },
        { 0, 2, "\x80\x02", "a Python pickle, as PyTorch saves them: export it to ONNX" },
        { 0, 43, "version https://git-lfs.github.com/spec/v1\n",
          "a Git LFS pointer, not the file itself: run 'git lfs pull'" },
        { 0, 1, "<", "an HTML or XML page: the download went wrong" },
        { 0, 1, "{", "JSON text" },
    };
    if (len == 0)
        return "an empty file";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (len >= (size_t)known[i].at + known[i].len &&
            memcmp((const uint8_t *)bytes + known[i].at, known[i].magic, known[i].len) == 0)
            return known[i].what;
    return is_text(bytes, len) ? "a text file" : NULL;
}
