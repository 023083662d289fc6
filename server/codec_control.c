/* Takes the bodies of control requests apart. */
#include "server/codec_control.h"

#include <jansson.h>
#include <string.h>

#include "server/json_fault.h"
#include "server/json_memory.h"

/* No configuration is as long. Every value becomes a block of memory, so that what two bytes say
 * may take a hundred. */
#define BODY_MAX ((size_t)256 << 10)

/* The object that the body is; *root is NULL for an empty one. */
static enum rt_status parse(const char *body, size_t len, json_t **root, struct rt_error *err)
{
    json_error_t why;
    *root = NULL;
    if (len == 0)
        return RT_OK;
    if (len > BODY_MAX)
        return rt_fail(err, RT_E_LIMIT, "the body has %zu bytes, at most %zu are taken", len,
                       BODY_MAX);
    json_t *v;
    enum rt_status s = sv_json_load(body, len, JSON_REJECT_DUPLICATES, &v, &why);
    if (s == RT_E_NOMEM)
        return rt_fail_nomem(err, len);
    if (s != RT_OK)
        return rt_fail(err, RT_E_INVALID, "the body is not valid JSON: byte %d: %s", why.position,
                       sv_json_fault(&why));
    if (!json_is_object(v)) {
        json_decref(v);
        return rt_fail(err, RT_E_INVALID, "the body must be a JSON object");
    }
    *root = v;
    return RT_OK;
}

enum rt_status sv_control_index(const char *body, size_t len, bool *ready, struct rt_error *err)
{
    json_t *root;
    enum rt_status s = parse(body, len, &root, err);
    const json_t *v = json_object_get(root, "ready");
    *ready = json_is_true(v);
    if (s == RT_OK && v != NULL && !json_is_boolean(v))
        s = rt_fail(err, RT_E_INVALID, "Invalid value for 'ready': expected a boolean");
    json_decref(root);
    return s;
}

static enum rt_status check_load(json_t *parameters, const char **config, struct rt_error *err)
{
    const char *key;
    json_t *value;
    *config = NULL;
    json_object_foreach(parameters, key, value)
    {
        if (strcmp(key, "config") == 0 && json_is_string(value))
            *config = json_string_value(value);
        else if (strcmp(key, "config") == 0)
            return rt_fail(err, RT_E_INVALID,
                           "parameter 'config' must be a string that holds the JSON text of a "
                           "configuration");
        else if (strncmp(key, "file:", 5) == 0)
            return rt_fail(err, RT_E_INVALID,
                           "parameter '%.100s' is refused: models are loaded from the repository's "
                           "folders, files are not taken from requests",
                           key);
        else
            return rt_fail(err, RT_E_INVALID, "unknown parameter '%.100s': only 'config' is taken",
                           key);
    }
    return RT_OK;
}

enum rt_status sv_control_load(const char *body, size_t len, char **config, struct rt_error *err)
{
    json_t *root;
    const char *text = NULL;
    enum rt_status s = parse(body, len, &root, err);
    json_t *parameters = json_object_get(root, "parameters");
    if (s == RT_OK && parameters != NULL && !json_is_object(parameters))
        s = rt_fail(err, RT_E_INVALID, "'parameters' must be an object");
    if (s == RT_OK && parameters != NULL)
        s = check_load(parameters, &text, err);
    char *copy = s == RT_OK && text != NULL ? rt_strdup(text) : NULL;
    if (s == RT_OK && text != NULL && copy == NULL)
        s = rt_fail_nomem(err, strlen(text) + 1);
    json_decref(root);
    if (s == RT_OK)
        *config = copy;
    return s;
}

enum rt_status sv_control_unload(const char *body, size_t len, struct rt_error *err)
{
    json_t *root;
    enum rt_status s = parse(body, len, &root, err);
    const json_t *parameters = json_object_get(root, "parameters");
    if (s == RT_OK && parameters != NULL && !json_is_object(parameters))
        s = rt_fail(err, RT_E_INVALID, "'parameters' must be an object");
    const json_t *v = json_object_get(parameters, "unload_dependents");
    if (s == RT_OK && v != NULL && !json_is_boolean(v))
        s = rt_fail(err, RT_E_INVALID, "'unload_dependents' must be true or false");
    json_decref(root);
    return s;
}

static enum rt_status set_switch(const char *key, const json_t *v, int *out, struct rt_error *err)
{
    if (!json_is_boolean(v))
        return rt_fail(err, RT_E_INVALID, "'%s' must be true or false", key);
    *out = json_is_true(v);
    return RT_OK;
}

static enum rt_status set_logging(const char *key, const json_t *v, struct sv_log_request *out,
                                  struct rt_error *err)
{
    if (json_is_null(v))
        return RT_OK;
    if (strcmp(key, "log_info") == 0)
        return set_switch(key, v, &out->info, err);
    if (strcmp(key, "log_warning") == 0)
        return set_switch(key, v, &out->warning, err);
    if (strcmp(key, "log_error") == 0)
        return set_switch(key, v, &out->error, err);
    if (strcmp(key, "log_verbose_level") == 0) {
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return rt_fail(err, RT_E_INVALID, "'%s' must be a whole number of 0 or more", key);
        out->verbose = json_integer_value(v) > 0;
        return RT_OK;
    }
    if (strcmp(key, "log_file") == 0)
        return rt_fail(err, RT_E_UNSUPPORTED,
                       "'log_file' cannot be set: the log is standard error");
    if (strcmp(key, "log_format") == 0) {
        const char *format = json_is_string(v) ? json_string_value(v) : "";
        if (strcmp(format, "default") == 0 || strcmp(format, "ISO8601") == 0)
            return RT_OK; /* times are of that form in any case */
        return rt_fail(err, RT_E_INVALID, "'log_format' must be \"default\" or \"ISO8601\"");
    }
    return rt_fail(err, RT_E_INVALID, "unknown setting '%.100s'", key);
}

enum rt_status sv_control_logging(const char *body, size_t len, struct sv_log_request *out,
                                  struct rt_error *err)
{
    json_t *root, *value;
    const char *key;
    *out = (struct sv_log_request){ -1, -1, -1, -1 };
    enum rt_status s = parse(body, len, &root, err);
    json_object_foreach(root, key, value)
    {
        if (s == RT_OK)
            s = set_logging(key, value, out, err);
    }
    json_decref(root);
    return s;
}
