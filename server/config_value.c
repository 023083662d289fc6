/* Checks types and ranges of JSON values. */
#include "server/config_value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *sv_json_type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

struct sv_place sv_place_element(const struct sv_place *array, size_t i)
{
    struct sv_place element = *array;
    snprintf(element.field, sizeof element.field, "%.80s[%zu]", array->field, i);
    return element;
}

enum rt_status sv_wrong_type(const struct sv_place *at, const char *expected, const json_t *v)
{
    return rt_fail(at->err, RT_E_INVALID, "%s: %s: expected %s, got %s", at->file, at->field,
                   expected, sv_json_type_name(v));
}

enum rt_status sv_place_no_memory(const struct sv_place *at)
{
    return rt_fail(at->err, RT_E_NOMEM, "%s: out of memory", at->file);
}

enum rt_status sv_read_int(const struct sv_place *at, json_t *v, int min, int max, int *out)
{
    if (!json_is_integer(v))
        return sv_wrong_type(at, "a whole number", v);
    json_int_t i = json_integer_value(v);
    if (i < min || i > max)
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: must be between %d and %d, got %lld",
                       at->file, at->field, min, max, (long long)i);
    *out = (int)i;
    return RT_OK;
}

enum rt_status sv_read_float(const struct sv_place *at, json_t *v, float *out)
{
    if (!json_is_number(v))
        return sv_wrong_type(at, "a number", v);
    float f = (float)json_number_value(v);
    if (!isfinite(f))
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: %g is more than a 32-bit float holds",
                       at->file, at->field, json_number_value(v));
    *out = f;
    return RT_OK;
}

enum rt_status sv_read_bool(const struct sv_place *at, json_t *v, bool *out)
{
    if (!json_is_boolean(v))
        return sv_wrong_type(at, "true or false", v);
    *out = json_is_true(v);
    return RT_OK;
}

enum rt_status sv_read_string(const struct sv_place *at, json_t *v, char **out)
{
    if (!json_is_string(v))
        return sv_wrong_type(at, "a string", v);
    char *copy = rt_strdup(json_string_value(v));
    if (copy == NULL)
        return sv_place_no_memory(at);
    rt_free(*out);
    *out = copy;
    return RT_OK;
}

enum rt_status sv_read_word(const struct sv_place *at, json_t *v, const char *const *words,
                            int *out)
{
    char all[128] = "";
    for (int i = 0; words[i] != NULL; i++) {
        if (json_is_string(v) && strcasecmp(json_string_value(v), words[i]) == 0) {
            *out = i;
            return RT_OK;
        }
        size_t len = strlen(all);
        const char *joint = i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ";
        snprintf(all + len, sizeof all - len, "%s\"%s\"", joint, words[i]);
    }
    if (!json_is_string(v))
        return sv_wrong_type(at, all, v);
    return rt_fail(at->err, RT_E_INVALID, "%s: %s: expected %s, got \"%.60s\"", at->file, at->field,
                   all, json_string_value(v));
}
