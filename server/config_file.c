/* JSON to options and back. Every value goes through the text that a command line would have. */
#include "server/config_file.h"

#include <jansson.h>
#include <string.h>

#include "server/file.h"
#include "server/json_fault.h"
#include "server/json_memory.h"
#include "server/json_out.h"

#define FILE_MAX ((size_t)1 << 20)

/* Where the strings go: as long as the file itself, which holds them all. */
struct strings {
    char *at;
};

static const char *keep(struct strings *to, const char *text)
{
    char *kept = to->at;
    size_t len = strlen(text) + 1;
    memcpy(kept, text, len);
    to->at += len;
    return kept;
}

static void to_key(const char *name, char key[64])
{
    snprintf(key, 64, "%s", name);
    for (char *p = key; *p != '\0'; p++)
        if (*p == '-')
            *p = '_';
}

static const struct sv_option *find(const struct sv_command *c, const char *key)
{
    char text[64];
    for (const struct sv_option *o = c->options; o->name != NULL; o++) {
        to_key(o->name, text);
        if (strcmp(text, key) == 0)
            return o;
    }
    return NULL;
}

static enum rt_status unknown(const struct sv_command *c, const char *path, const char *key,
                              struct rt_error *err)
{
    char text[128][64];
    const char *names[128];
    int n = 0;
    for (const struct sv_option *o = c->options; o->name != NULL && n < 128; o++, n++) {
        to_key(o->name, text[n]);
        names[n] = text[n];
    }
    const char *near = sv_nearest(key, names, n);
    if (near != NULL)
        return rt_fail(err, RT_E_INVALID, "%s: unknown key \"%.60s\"; did you mean \"%s\"?", path,
                       key, near);
    return rt_fail(err, RT_E_INVALID, "%s: unknown key \"%.60s\"", path, key);
}

static enum rt_status set_one(const struct sv_option *o, const char *where, const json_t *v,
                              struct strings *strings, void *settings, struct rt_error *err)
{
    const struct sv_origin origin = { SV_FROM_FILE, where };
    char number[64];
    bool flag = o->type == SV_OPTION_FLAG;
    if (flag != json_is_boolean(v))
        return rt_fail(err, RT_E_INVALID, "%s: %s", where,
                       flag ? "expected true or false" : "true and false are for switches");
    if (json_is_boolean(v))
        return sv_option_set(o, settings, &origin, json_is_true(v) ? "1" : "0", err);
    if (json_is_string(v))
        return sv_option_set(o, settings, &origin, keep(strings, json_string_value(v)), err);
    if (!json_is_number(v) || o->type == SV_OPTION_STRING || o->type == SV_OPTION_LIST ||
        o->type == SV_OPTION_CHOICE)
        return rt_fail(err, RT_E_INVALID, "%s: expected a %s", where,
                       o->type == SV_OPTION_LIST ? "string or an array of them"
                       : json_is_number(v)       ? "string"
                                                 : "number or a string");
    snprintf(number, sizeof number, "%.15g", json_number_value(v));
    return sv_option_set(o, settings, &origin, number, err);
}

static enum rt_status set_key(const struct sv_command *c, const char *path, const char *key,
                              json_t *v, struct strings *strings, void *settings,
                              struct rt_error *err)
{
    const struct sv_option *o = find(c, key);
    char where[SV_ORIGIN_LEN];
    if (o == NULL)
        return unknown(c, path, key, err);
    snprintf(where, sizeof where, "%.60s: %.60s", path, key);
    if (o->no_file)
        return rt_fail(err, RT_E_INVALID, "%s: cannot be set in a file", where);
    if (json_is_null(v))
        return RT_OK;
    if (o->type != SV_OPTION_LIST || !json_is_array(v))
        return set_one(o, where, v, strings, settings, err);
    enum rt_status s = RT_OK;
    for (size_t i = 0; i < json_array_size(v) && s == RT_OK; i++)
        s = json_is_string(json_array_get(v, i))
                ? set_one(o, where, json_array_get(v, i), strings, settings, err)
                : rt_fail(err, RT_E_INVALID, "%s: element %zu is not a string", where, i);
    return s;
}

enum rt_status sv_config_file_read(const struct sv_command *c, const char *path, void *settings,
                                   void **memory, struct rt_error *err)
{
    void *text;
    size_t len;
    json_error_t fault;
    enum rt_status s = sv_file_read(path, FILE_MAX, &text, &len, err);
    if (s != RT_OK)
        return s;
    json_t *root;
    s = sv_json_load(text, len, JSON_REJECT_DUPLICATES, &root, &fault);
    rt_free(text);
    if (s != RT_OK)
        return s == RT_E_NOMEM ? rt_fail_nomem(err, len)
                               : rt_fail(err, RT_E_INVALID, "%s: line %d, column %d: %s", path,
                                         fault.line, fault.column, sv_json_fault(&fault));
    char *kept = rt_alloc(len + 1);
    struct strings strings = { kept };
    const char *key;
    json_t *value;
    if (kept == NULL)
        s = rt_fail_nomem(err, len);
    else if (!json_is_object(root))
        s = rt_fail(err, RT_E_INVALID, "%s: expected an object", path);
    json_object_foreach(root, key, value)
    {
        if (s == RT_OK)
            s = set_key(c, path, key, value, &strings, settings, err);
    }
    json_decref(root);
    if (s != RT_OK) {
        rt_free(kept);
        return s;
    }
    *memory = kept;
    return RT_OK;
}

static void print_choice(struct sv_json *j, const char *key, const char *choices, int chosen)
{
    char word[64];
    for (; chosen > 0; chosen--)
        choices += strcspn(choices, "|") + 1;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(choices, "|"), choices);
    sv_json_string(j, key, word);
}

void sv_config_file_print(const struct sv_command *c, const void *settings, FILE *to)
{
    struct sv_json j;
    sv_json_init(&j, to);
    sv_json_object(&j, NULL);
    for (const struct sv_option *o = c->options; o->name != NULL; o++) {
        const char *at = (const char *)settings + o->offset;
        const struct sv_option_list *list = (const void *)at;
        char key[64];
        if (o->no_file)
            continue;
        to_key(o->name, key);
        switch (o->type) {
        case SV_OPTION_FLAG:
            sv_json_bool(&j, key, *(const bool *)(const void *)at);
            break;
        case SV_OPTION_STRING:
            sv_json_string(&j, key, *(const char *const *)(const void *)at);
            break;
        case SV_OPTION_INT:
            sv_json_int(&j, key, *(const int *)(const void *)at);
            break;
        case SV_OPTION_SIZE:
            sv_json_int(&j, key, (int64_t) * (const size_t *)(const void *)at);
            break;
        case SV_OPTION_SECONDS:
            sv_json_double(&j, key, *(const double *)(const void *)at);
            break;
        case SV_OPTION_CHOICE:
            print_choice(&j, key, o->choices, *(const int *)(const void *)at);
            break;
        case SV_OPTION_LIST:
            sv_json_array(&j, key);
            for (int i = 0; i < list->n; i++)
                sv_json_string(&j, NULL, list->item[i]);
            sv_json_end(&j);
            break;
        }
    }
    sv_json_end(&j);
}
