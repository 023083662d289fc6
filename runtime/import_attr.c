/* AttributeProto to rt_attr, and what a Constant node's attributes say. */
#include "runtime/import_parts.h"

#include <limits.h>
#include <string.h>

/* AttributeProto.AttributeType past those that rt_attr has. */
static const char *other_type(int32_t type)
{
    static const char *const name[] = {
        [9] = "a list of tensors",         [10] = "a list of graphs", [11] = "a sparse tensor",
        [12] = "a list of sparse tensors", [13] = "a type",           [14] = "a list of types",
    };
    return type > RT_ATTR_STRINGS && type < (int32_t)(sizeof name / sizeof name[0]) ? name[type]
                                                                                    : NULL;
}

/* Files of IR version 1 do not say the type: it is that of the field that is there. */
static int32_t type_of(const Onnx__AttributeProto *a)
{
    if (a->has_type && a->type != 0)
        return a->type;
    return a->has_f       ? RT_ATTR_FLOAT
           : a->has_i     ? RT_ATTR_INT
           : a->has_s     ? RT_ATTR_STRING
           : a->t != NULL ? RT_ATTR_TENSOR
           : a->g != NULL ? RT_ATTR_GRAPH
           : a->n_floats  ? RT_ATTR_FLOATS
           : a->n_ints    ? RT_ATTR_INTS
           : a->n_strings ? RT_ATTR_STRINGS
                          : 0;
}

static const char *copy_string(struct rt_graph *g, const ProtobufCBinaryData *s)
{
    return rt_arena_strdup(g->arena, s->len > 0 ? (const char *)s->data : "", s->len);
}

/* Copies n elements, which the parse tree holds, to the graph. */
static const void *copy_list(struct rt_graph *g, const void *from, size_t n, size_t size)
{
    void *to = rt_graph_alloc(g, n, size);
    if (to != NULL && n > 0)
        memcpy(to, from, n * size);
    return to;
}

static const char *const *copy_strings(struct rt_graph *g, const Onnx__AttributeProto *a)
{
    const char **to = rt_graph_alloc(g, a->n_strings, sizeof *to);
    for (size_t i = 0; to != NULL && i < a->n_strings; i++)
        if ((to[i] = copy_string(g, &a->strings[i])) == NULL)
            return NULL;
    return to;
}

static enum rt_status read_value(struct rt_importer *im, const Onnx__AttributeProto *a,
                                 const char *what, struct rt_attr *out)
{
    struct rt_graph *g = im->reader.g;
    const void *copied = g; /* anything but NULL */
    size_t n = 0;
    switch ((int)out->type) {
    case RT_ATTR_FLOAT:
        out->f = a->f;
        break;
    case RT_ATTR_INT:
        out->i = a->i;
        break;
    case RT_ATTR_STRING:
        copied = out->s = copy_string(g, &a->s);
        break;
    case RT_ATTR_FLOATS:
        n = a->n_floats;
        copied = out->floats = copy_list(g, a->floats, n, sizeof *a->floats);
        break;
    case RT_ATTR_INTS:
        n = a->n_ints;
        copied = out->ints = copy_list(g, a->ints, n, sizeof *a->ints);
        break;
    case RT_ATTR_STRINGS:
        n = a->n_strings;
        copied = out->strings = copy_strings(g, a);
        break;
    case RT_ATTR_TENSOR:
        if (a->t == NULL)
            return rt_fail(im->err, RT_E_INVALID, "%s: attribute '%s' has no tensor", what,
                           out->name);
        return rt_read_tensor(&im->reader, a->t, what, &out->t, im->err);
    case RT_ATTR_GRAPH:
        if (a->g == NULL)
            return rt_fail(im->err, RT_E_INVALID, "%s: attribute '%s' has no graph", what,
                           out->name);
        break;
    }
    if (copied == NULL)
        return rt_graph_nomem(g, im->err);
    out->n = n < INT_MAX ? (int)n : INT_MAX;
    im->effort += out->n;
    return RT_OK;
}

static const struct rt_attr *find_bound(const struct rt_bindings *bound, const char *name)
{
    for (int i = 0; i < bound->n; i++)
        if (strcmp(bound->attr[i].name, name) == 0)
            return &bound->attr[i];
    return NULL;
}

/* Writes *out and sets *there, unless a reference to an argument that was not given leaves the
 * attribute out. */
static enum rt_status read_attr(struct rt_importer *im, const Onnx__AttributeProto *a,
                                const struct rt_bindings *bound, const char *what,
                                struct rt_attr *out, bool *there)
{
    const char *ref = rt_text(a->ref_attr_name);
    struct rt_attr attr = { .name = rt_text(a->name) };
    int32_t type = type_of(a);
    *there = true;
    if (attr.name[0] == '\0')
        return rt_fail(im->err, RT_E_INVALID, "%s has an attribute without a name", what);
    if (ref[0] != '\0' && bound == NULL)
        return rt_fail(im->err, RT_E_INVALID,
                       "%s: attribute '%s' refers to '%s', but it is not inside a function", what,
                       attr.name, ref);
    if (ref[0] != '\0') {
        const struct rt_attr *given = find_bound(bound, ref);
        *there = given != NULL;
        if (given == NULL)
            return RT_OK;
        if (type != 0 && type != (int32_t)given->type)
            return rt_fail(im->err, RT_E_INVALID,
                           "%s: attribute '%s' refers to '%s', which has another type", what,
                           attr.name, ref);
        attr = *given;
        attr.name = rt_text(a->name);
    } else {
        if (other_type(type) != NULL)
            return rt_fail(im->err, RT_E_UNSUPPORTED,
                           "%s: attribute '%s' is %s, which is not supported", what, attr.name,
                           other_type(type));
        if (type < RT_ATTR_FLOAT || type > RT_ATTR_STRINGS)
            return rt_fail(im->err, RT_E_INVALID, "%s: attribute '%s' has no known type (%d)", what,
                           attr.name, type);
        attr.type = (enum rt_attr_type)type;
        enum rt_status s = read_value(im, a, what, &attr);
        if (s != RT_OK)
            return s;
    }
    attr.name = rt_arena_strdup(im->reader.g->arena, attr.name, strlen(attr.name));
    if (attr.name == NULL)
        return rt_graph_nomem(im->reader.g, im->err);
    *out = attr;
    return RT_OK;
}

enum rt_status rt_read_attrs(struct rt_importer *im, Onnx__AttributeProto *const *proto, size_t n,
                             const struct rt_bindings *bound, const char *what,
                             struct rt_attr **out, int *n_out)
{
    static const size_t most = 1000; /* no operator has a tenth of that */
    if (n > most)
        return rt_fail(im->err, RT_E_LIMIT, "%s has %zu attributes", what, n);
    struct rt_attr *attr = rt_graph_alloc(im->reader.g, n, sizeof *attr);
    if (attr == NULL)
        return rt_graph_nomem(im->reader.g, im->err);
    int count = 0;
    for (size_t i = 0; i < n; i++) {
        bool there;
        enum rt_status s = read_attr(im, proto[i], bound, what, &attr[count], &there);
        if (s != RT_OK)
            return s;
        for (int k = 0; there && k < count; k++)
            if (strcmp(attr[k].name, attr[count].name) == 0)
                return rt_fail(im->err, RT_E_INVALID, "%s has attribute '%s' twice", what,
                               attr[k].name);
        count += there;
    }
    im->effort += count;
    *out = attr;
    *n_out = count;
    return RT_OK;
}

enum rt_status rt_constant_tensor(struct rt_importer *im, const struct rt_attr *attr, int n,
                                  const char *what, struct rt_tensor *out)
{
    if (n != 1)
        return rt_fail(im->err, RT_E_INVALID, "%s must have one value, not %d", what, n);
    struct rt_graph *g = im->reader.g;
    struct rt_tensor t = { .dtype = RT_INT64 };
    const void *from = NULL;
    int64_t count = 1;
    if (strcmp(attr->name, "value") == 0 && attr->type == RT_ATTR_TENSOR) {
        *out = attr->t;
        return RT_OK;
    }
    if (strcmp(attr->name, "value_int") == 0 && attr->type == RT_ATTR_INT) {
        from = &attr->i;
    } else if (strcmp(attr->name, "value_ints") == 0 && attr->type == RT_ATTR_INTS) {
        from = attr->ints;
        count = attr->n;
    } else if (strcmp(attr->name, "value_float") == 0 && attr->type == RT_ATTR_FLOAT) {
        t.dtype = RT_FLOAT;
        from = &attr->f;
    } else if (strcmp(attr->name, "value_floats") == 0 && attr->type == RT_ATTR_FLOATS) {
        t.dtype = RT_FLOAT;
        from = attr->floats;
        count = attr->n;
    } else {
        return rt_fail(im->err, RT_E_UNSUPPORTED, "%s: a constant by its '%s' is not supported",
                       what, attr->name);
    }
    if (attr->type == RT_ATTR_INTS || attr->type == RT_ATTR_FLOATS)
        t.shape = rt_shape_of(1, &count);
    size_t len = (size_t)count * rt_dtype_size(t.dtype);
    t.data = rt_graph_alloc_bulk(g, len, 1);
    if (t.data == NULL)
        return rt_graph_nomem(g, im->err);
    if (len > 0)
        memcpy(t.data, from, len);
    *out = t;
    return RT_OK;
}
