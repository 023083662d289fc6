/* Ranks the elements of a tensor and writes the best of them. */
#include "server/codec_classes.h"

#include "runtime/rt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool sv_classes_has(enum rt_dtype t)
{
    switch (t) {
    case RT_FLOAT:
    case RT_DOUBLE:
    case RT_INT8:
    case RT_INT16:
    case RT_INT32:
    case RT_INT64:
    case RT_UINT8:
    case RT_UINT16:
    case RT_UINT32:
    case RT_UINT64:
        return true;
    default:
        return false;
    }
}

/* A value of any type, in the widest one of its kind. */
union value {
    double f;
    int64_t i;
    uint64_t u;
};

enum kind { FLOATING, SIGNED, UNSIGNED };

struct ranked {
    union value value;
    int64_t index;
};

static enum kind kind_of(enum rt_dtype t)
{
    if (t == RT_FLOAT || t == RT_DOUBLE)
        return FLOATING;
    return t == RT_UINT8 || t == RT_UINT16 || t == RT_UINT32 || t == RT_UINT64 ? UNSIGNED : SIGNED;
}

static union value value_at(const struct rt_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case RT_FLOAT:
        return (union value){ .f = (double)((const float *)t->data)[i] };
    case RT_DOUBLE:
        return (union value){ .f = ((const double *)t->data)[i] };
    case RT_INT8:
        return (union value){ .i = ((const int8_t *)t->data)[i] };
    case RT_INT16:
        return (union value){ .i = ((const int16_t *)t->data)[i] };
    case RT_INT32:
        return (union value){ .i = ((const int32_t *)t->data)[i] };
    case RT_INT64:
        return (union value){ .i = ((const int64_t *)t->data)[i] };
    case RT_UINT8:
        return (union value){ .u = ((const uint8_t *)t->data)[i] };
    case RT_UINT16:
        return (union value){ .u = ((const uint16_t *)t->data)[i] };
    case RT_UINT32:
        return (union value){ .u = ((const uint32_t *)t->data)[i] };
    default:
        return (union value){ .u = ((const uint64_t *)t->data)[i] };
    }
}

/* Whether a stands before b. */
static bool before(enum kind kind, const struct ranked *a, const struct ranked *b)
{
    if (kind == FLOATING) {
        if (isnan(a->value.f) != isnan(b->value.f))
            return isnan(b->value.f);
        if (a->value.f > b->value.f || a->value.f < b->value.f)
            return a->value.f > b->value.f;
    } else if (kind == SIGNED && a->value.i != b->value.i) {
        return a->value.i > b->value.i;
    } else if (kind == UNSIGNED && a->value.u != b->value.u) {
        return a->value.u > b->value.u;
    }
    return a->index < b->index;
}

/* Lets x sink from the top of the heap, which has the one that stands last at its top. */
static void sink(enum kind kind, struct ranked *heap, int64_t n, struct ranked x)
{
    int64_t at = 0;
    for (int64_t child = 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && before(kind, &heap[child], &heap[child + 1]))
            child++;
        if (!before(kind, &x, &heap[child]))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = x;
}

/* The k first of t's elements from[0..n) to best[0..k), in order. */
static void select_best(const struct rt_tensor *t, int64_t from, int64_t n, int64_t k,
                        struct ranked *best)
{
    const enum kind kind = kind_of(t->dtype);
    int64_t have = 0;
    for (int64_t i = 0; i < n; i++) {
        struct ranked x = { value_at(t, from + i), i };
        if (have < k) {
            int64_t at = have++;
            for (; at > 0 && before(kind, &best[(at - 1) / 2], &x); at = (at - 1) / 2)
                best[at] = best[(at - 1) / 2];
            best[at] = x;
        } else if (before(kind, &x, &best[0])) {
            sink(kind, best, k, x);
        }
    }
    for (int64_t left = have - 1; left > 0; left--) {
        struct ranked last = best[0];
        sink(kind, best, left, best[left]);
        best[left] = last;
    }
}

/* Room for the digits of the largest double, and an index. */
#define FRONT_TEXT 400

static void write_one(struct sv_text *out, enum kind kind, const struct ranked *x,
                      const char *label)
{
    char front[FRONT_TEXT];
    const long long index = (long long)x->index;
    int n;
    if (kind == FLOATING)
        n = snprintf(front, sizeof front, "%f:%lld", x->value.f, index);
    else if (kind == SIGNED)
        n = snprintf(front, sizeof front, "%lld:%lld", (long long)x->value.i, index);
    else
        n = snprintf(front, sizeof front, "%llu:%lld", (unsigned long long)x->value.u, index);
    const size_t label_len = label != NULL ? strlen(label) + 1 : 0, len = (size_t)n + label_len;
    const unsigned char length[4] = { (unsigned char)len, (unsigned char)(len >> 8),
                                      (unsigned char)(len >> 16), (unsigned char)(len >> 24) };
    sv_text_bytes(out, length, sizeof length);
    sv_text_bytes(out, front, (size_t)n);
    if (label != NULL) {
        sv_text_add(out, ":");
        sv_text_add(out, label);
    }
}

enum rt_status sv_classes_write(const struct rt_tensor *t, bool batched, int64_t k,
                                const struct sv_labels *labels, const char *name,
                                struct sv_text *out, struct rt_shape *shape, struct rt_error *err)
{
    const bool rows = batched && t->shape.rank > 0;
    const int64_t n = rows ? t->shape.dim[0] : 1;
    const int64_t each = n > 0 ? rt_shape_numel(&t->shape) / n : 0;
    if (each > SV_CLASSES_FROM)
        return rt_fail(err, RT_E_INVALID,
                       "classification output tensor too large: '%s' has %lld elements for each "
                       "sample, at most %d are ranked",
                       name, (long long)each, SV_CLASSES_FROM);
    if (k > each)
        k = each;
    struct ranked *best = rt_alloc_array((size_t)k, sizeof *best);
    if (best == NULL)
        return rt_fail_nomem(err, (size_t)k * sizeof *best);
    for (int64_t row = 0; row < n && k > 0; row++) {
        select_best(t, row * each, each, k, best);
        for (int64_t i = 0; i < k; i++)
            write_one(out, kind_of(t->dtype), &best[i],
                      labels != NULL ? sv_labels_get(labels, best[i].index) : NULL);
    }
    rt_free(best);
    if (out->failed)
        return rt_fail_nomem(err, (size_t)(n * k));
    const int64_t dim[2] = { n, k };
    *shape = rt_shape_of(rows ? 2 : 1, rows ? dim : dim + 1);
    return RT_OK;
}

void sv_classes_json(const char *strings, size_t len, struct sv_text *to)
{
    sv_text_add(to, "[");
    for (size_t at = 0; at < len;) {
        const unsigned char *p = (const unsigned char *)strings + at;
        size_t n = p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
        if (at > 0)
            sv_text_add(to, ",");
        sv_text_json(to, strings + at + 4, n);
        at += 4 + n;
    }
    sv_text_add(to, "]");
}
