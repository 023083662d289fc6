/* Reads the table of attributes. */
#include "runtime/ops/schema.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *op;
    const char *attrs;
} table[] = {
#define RT_SCHEMA(op, attrs) { #op, attrs },
#include "runtime/ops/schema.def"
#undef RT_SCHEMA
};

struct entry {
    const char *name;
    size_t len;
    enum rt_attr_type type;
    bool required;
    int first, last;
};

static enum rt_attr_type type_of(char letter)
{
    switch (letter) {
    case 'f':
        return RT_ATTR_FLOAT;
    case 'i':
        return RT_ATTR_INT;
    case 's':
        return RT_ATTR_STRING;
    case 't':
        return RT_ATTR_TENSOR;
    case 'g':
        return RT_ATTR_GRAPH;
    case 'F':
        return RT_ATTR_FLOATS;
    case 'I':
        return RT_ATTR_INTS;
    default:
        return RT_ATTR_STRINGS;
    }
}

static const char *type_name(enum rt_attr_type t)
{
    static const char *const name[] = {
        [RT_ATTR_FLOAT] = "a float",           [RT_ATTR_INT] = "an integer",
        [RT_ATTR_STRING] = "a string",         [RT_ATTR_TENSOR] = "a tensor",
        [RT_ATTR_GRAPH] = "a graph",           [RT_ATTR_FLOATS] = "a list of floats",
        [RT_ATTR_INTS] = "a list of integers", [RT_ATTR_STRINGS] = "a list of strings",
    };
    return name[t];
}

/* Reads the entry at p; where the next one begins, NULL when there was none. */
static const char *read_entry(const char *p, struct entry *e)
{
    if (*p == '\0')
        return NULL;
    *e = (struct entry){ .name = p, .first = 1, .last = INT_MAX };
    e->len = strcspn(p, ":");
    p += e->len + 1;
    e->type = type_of(*p++);
    e->required = *p == '!';
    p += e->required;
    char *end;
    if (*p >= '0' && *p <= '9') {
        e->first = (int)strtol(p, &end, 10);
        p = end;
    }
    p += *p == '-';
    if (*p >= '0' && *p <= '9') {
        e->last = (int)strtol(p, &end, 10);
        p = end;
    }
    return p + (*p == ' ');
}

static enum rt_status check_one(const char *schema, int opset, const struct rt_attr *a,
                                struct rt_error *err)
{
    struct entry e;
    bool known = false;
    while ((schema = read_entry(schema, &e)) != NULL) {
        if (e.len != strlen(a->name) || memcmp(e.name, a->name, e.len) != 0)
            continue;
        known = true;
        if (opset < e.first || opset > e.last)
            continue;
        if (e.type == a->type)
            return RT_OK;
        return rt_fail(err, RT_E_INVALID, "attribute '%s' must be %s, not %s", a->name,
                       type_name(e.type), type_name(a->type));
    }
    if (known)
        return rt_fail(err, RT_E_INVALID, "there is no attribute '%s' in opset %d", a->name, opset);
    return rt_fail(err, RT_E_UNSUPPORTED, "attribute '%s' is not known", a->name);
}

static enum rt_status check_required(const char *schema, int opset, const struct rt_attr *attr,
                                     int n, struct rt_error *err)
{
    struct entry e;
    while ((schema = read_entry(schema, &e)) != NULL) {
        bool found = !e.required || opset < e.first || opset > e.last;
        for (int i = 0; i < n && !found; i++)
            found = strlen(attr[i].name) == e.len && memcmp(attr[i].name, e.name, e.len) == 0;
        if (!found)
            return rt_fail(err, RT_E_INVALID, "attribute '%.*s' is missing", (int)e.len, e.name);
    }
    return RT_OK;
}

enum rt_status rt_schema_check(const char *op, int opset, const struct rt_attr *attr, int n,
                               struct rt_error *err)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(table[i].op, op) != 0)
            continue;
        enum rt_status s = RT_OK;
        for (int k = 0; k < n && s == RT_OK; k++)
            s = check_one(table[i].attrs, opset, &attr[k], err);
        return s == RT_OK ? check_required(table[i].attrs, opset, attr, n, err) : s;
    }
    return RT_OK;
}
