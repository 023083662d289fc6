/* Protobuf's wire format, as far as ONNX files use it: a reader of single fields, and the check
 * that comes before protobuf-c. Nothing here recurses, whatever the file. */
#ifndef RUNTIME_WIRE_H
#define RUNTIME_WIRE_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Messages inside messages; a graph in an attribute of a node of a graph is three levels. */
#define RT_WIRE_MAX_DEPTH 96
/* Messages in a file: nodes, attributes, tensors, dimensions ... */
#define RT_WIRE_MAX_MESSAGES (512 * 1024)
/* Bytes of a skeleton: all names, attributes and shapes of a file. */
#define RT_WIRE_MAX_SKELETON ((size_t)64 << 20)

enum rt_wire_type {
    RT_WIRE_VARINT = 0,
    RT_WIRE_FIXED64 = 1,
    RT_WIRE_BYTES = 2,
    RT_WIRE_FIXED32 = 5,
};

/* A cursor over the fields of one message. */
struct rt_wire {
    const uint8_t *at;
    const uint8_t *end;
    const char *wrong; /* what stopped rt_wire_next(), NULL at the end of the message */
};

struct rt_wire_field {
    uint32_t number;
    enum rt_wire_type type;
    uint64_t value;       /* varint, fixed32, fixed64 */
    const uint8_t *bytes; /* RT_WIRE_BYTES: the contents */
    size_t len;
};

/* Reads the next field and moves on; false at the end and where the bytes make no sense. */
bool rt_wire_next(struct rt_wire *w, struct rt_wire_field *f);
/* Reads one varint from *at, at most to end, and moves *at; false if it does not end in time. */
bool rt_wire_varint(const uint8_t **at, const uint8_t *end, uint64_t *value);

enum rt_wire_root { RT_WIRE_MODEL, RT_WIRE_TENSOR };

/* Makes the skeleton of an ONNX model or of a single tensor: the same message with only the fields
 * that proto/onnx.proto declares, and with file_at and file_len (offsets into bytes) in place of a
 * tensor's elements. Refuses broken encodings, fields of the wrong wire type, strings that are not
 * UTF-8 or have a NUL inside, and anything past the bounds above, naming the byte. *out is freed
 * with rt_free(); written on RT_OK only. */
enum rt_status rt_wire_skeleton(const void *bytes, size_t len, enum rt_wire_root root,
                                uint8_t **out, size_t *out_len, struct rt_error *err);

#endif
