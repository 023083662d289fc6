/* Writes ONNX files for tests, a field at a time, right or wrong. Messages are made inside out:
 * a message is finished before it is put into the one around it. */
#ifndef TESTS_ONNX_BYTES_H
#define TESTS_ONNX_BYTES_H

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A message that is being written; the caller frees p. All zero is an empty one. */
struct bytes {
    uint8_t *p;
    size_t len, cap;
};

static inline void put_raw(struct bytes *b, const void *p, size_t len)
{
    if (len > b->cap - b->len) {
        b->cap = 2 * b->cap + len + 64;
        b->p = realloc(b->p, b->cap);
        assert(b->p != NULL);
    }
    if (len > 0)
        memcpy(b->p + b->len, p, len);
    b->len += len;
}

static inline void put_varint(struct bytes *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put_raw(b, &(uint8_t){ (uint8_t)(v | 0x80) }, 1);
    put_raw(b, &(uint8_t){ (uint8_t)v }, 1);
}

static inline void put_int(struct bytes *b, int field, int64_t v)
{
    put_varint(b, (uint64_t)field << 3);
    put_varint(b, (uint64_t)v);
}

static inline void put_float(struct bytes *b, int field, float v)
{
    put_varint(b, (uint64_t)field << 3 | 5);
    put_raw(b, &v, sizeof v);
}

static inline void put_data(struct bytes *b, int field, const void *p, size_t len)
{
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, len);
    put_raw(b, p, len);
}

static inline void put_text(struct bytes *b, int field, const char *s)
{
    put_data(b, field, s, strlen(s));
}

/* Puts a finished message in and frees it. */
static inline void put_message(struct bytes *b, int field, struct bytes inner)
{
    put_data(b, field, inner.p, inner.len);
    free(inner.p);
}

static inline void put_packed(struct bytes *b, int field, const int64_t *v, size_t n)
{
    struct bytes list = { 0 };
    for (size_t i = 0; i < n; i++)
        put_varint(&list, (uint64_t)v[i]);
    put_message(b, field, list);
}

/* --- ONNX's messages ----------------------------------------------------------------------- */

/* "a,b,,c" as a repeated string; an empty text is none at all. */
static inline void put_names(struct bytes *b, int field, const char *names)
{
    while (*names != '\0') {
        size_t len = strcspn(names, ",");
        put_data(b, field, names, len);
        names += len + (names[len] == ',');
    }
}

static inline struct bytes node(const char *op, const char *name, const char *in, const char *out)
{
    struct bytes b = { 0 };
    put_names(&b, 1, in);
    put_names(&b, 2, out);
    put_text(&b, 3, name);
    put_text(&b, 4, op);
    return b;
}

static inline struct bytes attr_int(const char *name, int64_t v)
{
    struct bytes b = { 0 };
    put_text(&b, 1, name);
    put_int(&b, 3, v);
    put_int(&b, 20, 2);
    return b;
}

static inline struct bytes attr_float(const char *name, float v)
{
    struct bytes b = { 0 };
    put_text(&b, 1, name);
    put_float(&b, 2, v);
    put_int(&b, 20, 1);
    return b;
}

/* An attribute that holds a message: a tensor (5, type 4) or a graph (6, type 5). */
static inline struct bytes attr_message(const char *name, int field, int type, struct bytes m)
{
    struct bytes b = { 0 };
    put_text(&b, 1, name);
    put_message(&b, field, m);
    put_int(&b, 20, type);
    return b;
}

static inline struct bytes with_attr(struct bytes n, struct bytes attr)
{
    put_message(&n, 5, attr);
    return n;
}

static inline struct bytes with_ints(struct bytes n, const char *name, size_t count,
                                     const int64_t *v)
{
    struct bytes a = { 0 };
    put_text(&a, 1, name);
    put_packed(&a, 8, v, count);
    put_int(&a, 20, 7);
    return with_attr(n, a);
}

/* A tensor without elements. */
static inline struct bytes tensor(const char *name, int type, size_t rank, const int64_t *dims)
{
    struct bytes b = { 0 };
    put_packed(&b, 1, dims, rank);
    put_int(&b, 2, type);
    put_text(&b, 8, name);
    return b;
}

static inline struct bytes raw_tensor(const char *name, int type, int64_t n, const void *p,
                                      size_t len)
{
    struct bytes b = tensor(name, type, 1, &n);
    put_data(&b, 9, p, len);
    return b;
}

/* A ValueInfoProto; a dimension of -1 is left open. */
static inline struct bytes value(const char *name, int type, size_t rank, const int64_t *dims)
{
    struct bytes shape = { 0 }, t = { 0 }, tp = { 0 }, b = { 0 };
    for (size_t i = 0; i < rank; i++) {
        struct bytes d = { 0 };
        if (dims[i] == -1)
            put_text(&d, 2, "batch");
        else
            put_int(&d, 1, dims[i]);
        put_message(&shape, 1, d);
    }
    put_int(&t, 1, type);
    put_message(&t, 2, shape);
    put_message(&tp, 1, t);
    put_text(&b, 1, name);
    put_message(&b, 2, tp);
    return b;
}

static inline struct bytes named(const char *name)
{
    struct bytes b = { 0 };
    put_text(&b, 1, name);
    return b;
}

static inline struct bytes opset(const char *domain, int64_t version)
{
    struct bytes b = { 0 };
    put_text(&b, 1, domain);
    put_int(&b, 2, version);
    return b;
}

/* A model of IR version 8 and opset 17 around a finished graph. */
static inline struct bytes model(struct bytes graph)
{
    struct bytes b = { 0 };
    put_int(&b, 1, 8);
    put_text(&b, 2, "test");
    put_text(&b, 3, "1.0");
    put_message(&b, 7, graph);
    put_message(&b, 8, opset("", 17));
    return b;
}

/* A graph with input x, float [-1,2], and output y. */
static inline struct bytes graph_xy(void)
{
    struct bytes b = { 0 };
    put_message(&b, 11, value("x", 1, 2, (const int64_t[]){ -1, 2 }));
    put_message(&b, 12, named("y"));
    return b;
}

#endif
