/* Reads config.json: every key is a line of a table with the function that takes its value. */
#include "server/model_config.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/config_value.h"
#include "server/file.h"
#include "server/json_fault.h"
#include "server/json_memory.h"
#include "server/options.h"
#include "server/utf8.h"

#define MAX_FILE ((size_t)16 * 1024 * 1024)

struct key {
    const char *name;
    enum rt_status (*read)(const struct sv_place *at, json_t *v, struct sv_model_config *c);
};

/* A number for all channels, or an array of one or three. */
static enum rt_status read_channels(const struct sv_place *at, json_t *v, float out[3], int *n)
{
    if (json_is_number(v)) {
        *n = 1;
        return sv_read_float(at, v, &out[0]);
    }
    if (!json_is_array(v))
        return sv_wrong_type(at, "a number or an array of them", v);
    size_t len = json_array_size(v);
    if (len != 1 && len != 3)
        return rt_fail(at->err, RT_E_INVALID,
                       "%s: %s: expected 1 number (grey) or 3 (colour), got %zu", at->file,
                       at->field, len);
    for (size_t i = 0; i < len; i++) {
        struct sv_place element = sv_place_element(at, i);
        enum rt_status s = sv_read_float(&element, json_array_get(v, i), &out[i]);
        if (s != RT_OK)
            return s;
    }
    *n = (int)len;
    return RT_OK;
}

/* Whether path stays inside the folder that it is relative to. */
static bool stays_inside(const char *path)
{
    if (path[0] == '/' || path[0] == '\0')
        return false;
    for (const char *p = path; *p != '\0';) {
        size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.')
            return false;
        p += len + (p[len] == '/');
    }
    return true;
}

/* The keys of the file. */

static enum rt_status name(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = sv_read_string(at, v, &c->name);
    if (s == RT_OK && !sv_model_name_valid(c->name))
        s = rt_fail(at->err, RT_E_INVALID,
                    "%s: %s: a model cannot be called \"%.60s\": 1 to 255 bytes without '/' and "
                    "control characters, not \"stats\"",
                    at->file, at->field, c->name);
    return s;
}

static enum rt_status max_batch_size(const struct sv_place *at, json_t *v,
                                     struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, 4096, &c->max_batch_size);
}

static enum rt_status label_list(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        json_t *label = json_array_get(v, i);
        struct sv_place element = sv_place_element(at, i);
        if (!json_is_string(label))
            return sv_wrong_type(&element, "a string", label);
        enum rt_status s =
            sv_labels_add(&c->labels, json_string_value(label), json_string_length(label), at->err);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

static enum rt_status labels(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    if (json_is_array(v))
        return label_list(at, v, c);
    if (!json_is_string(v))
        return sv_wrong_type(at, "a file name or an array of labels", v);
    enum rt_status s = sv_read_string(at, v, &c->labels_file);
    if (s == RT_OK && !stays_inside(c->labels_file))
        s = rt_fail(at->err, RT_E_INVALID, "%s: %s: \"%.200s\" is not inside the model's folder",
                    at->file, at->field, c->labels_file);
    return s;
}

static enum rt_status scores(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "auto", "softmax", "sigmoid", "none", NULL };
    int word;
    enum rt_status s = sv_read_word(at, v, words, &word);
    if (s == RT_OK)
        c->scores = (enum sv_scores)word;
    return s;
}

static enum rt_status max_queue_size(const struct sv_place *at, json_t *v,
                                     struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, 1000000, &c->max_queue_size);
}

static enum rt_status max_queue_delay_us(const struct sv_place *at, json_t *v,
                                         struct sv_model_config *c)
{
    return sv_read_int(at, v, 0, 60000000, &c->max_queue_delay_us);
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static enum rt_status preferred_batch_size(const struct sv_place *at, json_t *v,
                                           struct sv_model_config *c)
{
    if (!json_is_array(v))
        return sv_wrong_type(at, "an array of whole numbers", v);
    if (json_array_size(v) > SV_PREFERRED_MAX)
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: at most %d sizes are taken", at->file,
                       at->field, SV_PREFERRED_MAX);
    int n = 0, kept = 0;
    for (; n < (int)json_array_size(v); n++) {
        struct sv_place element = sv_place_element(at, (size_t)n);
        enum rt_status s = sv_read_int(&element, json_array_get(v, (size_t)n), 1, 4096,
                                       &c->preferred_batch_size[n]);
        if (s != RT_OK)
            return s;
    }
    qsort(c->preferred_batch_size, (size_t)n, sizeof(int), ascending);
    for (int i = 0; i < n; i++)
        if (kept == 0 || c->preferred_batch_size[i] != c->preferred_batch_size[kept - 1])
            c->preferred_batch_size[kept++] = c->preferred_batch_size[i];
    c->n_preferred = kept;
    return RT_OK;
}

static enum rt_status priority_levels(const struct sv_place *at, json_t *v,
                                      struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, SV_PRIORITIES_MAX, &c->priority_levels);
}

static enum rt_status default_priority_level(const struct sv_place *at, json_t *v,
                                             struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, SV_PRIORITIES_MAX, &c->default_priority_level);
}

static enum rt_status timeout_action(const struct sv_place *at, json_t *v,
                                     struct sv_model_config *c)
{
    static const char *const words[] = { "reject", "delay", NULL };
    int word;
    enum rt_status s = sv_read_word(at, v, words, &word);
    if (s == RT_OK)
        c->timeout_action = word == 0 ? SV_TIMEOUT_REJECT : SV_TIMEOUT_DELAY;
    return s;
}

static enum rt_status default_timeout_us(const struct sv_place *at, json_t *v,
                                         struct sv_model_config *c)
{
    return sv_read_int(at, v, 0, INT_MAX, &c->default_timeout_us);
}

static enum rt_status allow_timeout_override(const struct sv_place *at, json_t *v,
                                             struct sv_model_config *c)
{
    bool allowed = true;
    enum rt_status s = sv_read_bool(at, v, &allowed);
    if (s == RT_OK)
        c->fixed_timeout = !allowed;
    return s;
}

static enum rt_status warmup(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = sv_read_int(at, v, 0, 1000, &c->warmup);
    if (s == RT_OK && c->warmup == 0)
        c->warmup = -1;
    return s;
}

static enum rt_status latest_versions(const struct sv_place *at, json_t *v,
                                      struct sv_model_config *c)
{
    c->version_policy = SV_VERSIONS_LATEST;
    return sv_read_int(at, v, 1, 1000000, &c->n_versions);
}

static enum rt_status specific_versions(const struct sv_place *at, json_t *v,
                                        struct sv_model_config *c)
{
    if (!json_is_array(v) || json_array_size(v) == 0)
        return sv_wrong_type(at, "an array of versions", v);
    if (json_array_size(v) > SV_VERSIONS_MAX)
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: at most %d versions are taken", at->file,
                       at->field, SV_VERSIONS_MAX);
    c->version_policy = SV_VERSIONS_SPECIFIC;
    for (c->n_versions = 0; c->n_versions < (int)json_array_size(v); c->n_versions++) {
        json_t *version = json_array_get(v, (size_t)c->n_versions);
        struct sv_place element = sv_place_element(at, (size_t)c->n_versions);
        if (!json_is_integer(version) || json_integer_value(version) < 1)
            return sv_wrong_type(&element, "a version, 1 or more", version);
        c->version[c->n_versions] = json_integer_value(version);
    }
    return RT_OK;
}

static enum rt_status instances(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, 256, &c->instances);
}

static enum rt_status batchnorm(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "folded", "separate", NULL };
    int word;
    enum rt_status s = sv_read_word(at, v, words, &word);
    if (s == RT_OK)
        c->batchnorm = word == 0 ? RT_BATCHNORM_FOLDED : RT_BATCHNORM_SEPARATE;
    return s;
}

static enum rt_status allow_batch_statistics(const struct sv_place *at, json_t *v,
                                             struct sv_model_config *c)
{
    return sv_read_bool(at, v, &c->allow_batch_statistics);
}

/* The keys of "input". */

static enum rt_status input_name(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    return sv_read_string(at, v, &c->input.name);
}

static enum rt_status color(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "rgb", "bgr", "gray", NULL };
    static const enum sv_color value[] = { SV_RGB, SV_BGR, SV_GRAY };
    int word;
    enum rt_status s = sv_read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.color = value[word];
        c->input.has_color = true;
    }
    return s;
}

static enum rt_status layout(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "NCHW", "NHWC", NULL };
    int word;
    enum rt_status s = sv_read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.nhwc = word == 1;
        c->input.has_layout = true;
    }
    return s;
}

static enum rt_status resize(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "stretch", "crop", "fit", NULL };
    static const enum sv_resize_mode value[] = { SV_RESIZE_STRETCH, SV_RESIZE_CROP, SV_RESIZE_FIT };
    int word;
    enum rt_status s = sv_read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.resize = value[word];
        c->input.has_resize = true;
    }
    return s;
}

static enum rt_status filter(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "bilinear", "bicubic", "nearest", NULL };
    static const enum sv_filter value[] = { SV_FILTER_BILINEAR, SV_FILTER_BICUBIC,
                                            SV_FILTER_NEAREST };
    int word;
    enum rt_status s = sv_read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.filter = value[word];
        c->input.has_filter = true;
    }
    return s;
}

static enum rt_status resize_to(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, SV_PREPROCESS_MAX_SIDE, &c->input.resize_to);
}

static enum rt_status width(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, SV_PREPROCESS_MAX_SIDE, &c->input.width);
}

static enum rt_status height(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    return sv_read_int(at, v, 1, SV_PREPROCESS_MAX_SIDE, &c->input.height);
}

static enum rt_status scale(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    c->input.has_scale = true;
    enum rt_status s = sv_read_float(at, v, &c->input.scale);
    if (s == RT_OK && c->input.scale == 0)
        s = rt_fail(at->err, RT_E_INVALID, "%s: %s: must not be 0, pixels are multiplied by it",
                    at->file, at->field);
    return s;
}

static enum rt_status mean(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    return read_channels(at, v, c->input.mean, &c->input.n_mean);
}

static enum rt_status std_dev(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = read_channels(at, v, c->input.std, &c->input.n_std);
    for (int i = 0; i < c->input.n_std && s == RT_OK; i++)
        if (!isnormal(c->input.std[i]))
            s = rt_fail(at->err, RT_E_INVALID, "%s: %s: must not be 0, pixels are divided by it",
                        at->file, at->field);
    return s;
}

static enum rt_status fill(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = sv_read_float(at, v, &c->input.fill);
    if (s == RT_OK && !(c->input.fill >= 0 && c->input.fill <= 255))
        s = rt_fail(at->err, RT_E_INVALID, "%s: %s: must be between 0 and 255, got %g", at->file,
                    at->field, (double)c->input.fill);
    c->input.has_fill = true;
    return s;
}

static const struct key input_keys[] = {
    { "name", input_name },     { "color", color },   { "layout", layout }, { "resize", resize },
    { "resize_to", resize_to }, { "filter", filter }, { "scale", scale },   { "mean", mean },
    { "std", std_dev },         { "fill", fill },     { "width", width },   { "height", height },
};

static const struct key queue_policy_keys[] = {
    { "timeout_action", timeout_action },
    { "default_timeout_us", default_timeout_us },
    { "allow_timeout_override", allow_timeout_override },
};

static const struct key latest_keys[] = { { "num_versions", latest_versions } };
static const struct key specific_keys[] = { { "versions", specific_versions } };

#define COUNT(keys) ((int)(sizeof keys / sizeof keys[0]))

static enum rt_status read_object(const struct sv_place *at, json_t *object, const struct key *keys,
                                  int n_keys, struct sv_model_config *c);

static enum rt_status input(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    c->input.present = true;
    return read_object(at, v, input_keys, COUNT(input_keys), c);
}

static enum rt_status queue_policy(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    return read_object(at, v, queue_policy_keys, COUNT(queue_policy_keys), c);
}

/* The words of Triton's configuration. */
static enum rt_status all(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    c->version_policy = SV_VERSIONS_ALL;
    return read_object(at, v, NULL, 0, c);
}

static enum rt_status latest(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    c->version_policy = SV_VERSIONS_LATEST;
    c->n_versions = 1;
    return read_object(at, v, latest_keys, COUNT(latest_keys), c);
}

static enum rt_status specific(const struct sv_place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = read_object(at, v, specific_keys, COUNT(specific_keys), c);
    if (s == RT_OK && c->version_policy != SV_VERSIONS_SPECIFIC)
        s = rt_fail(at->err, RT_E_INVALID, "%s: %s: \"versions\" is missing", at->file, at->field);
    return s;
}

static const struct key version_policy_keys[] = {
    { "all", all },
    { "latest", latest },
    { "specific", specific },
};

static enum rt_status version_policy(const struct sv_place *at, json_t *v,
                                     struct sv_model_config *c)
{
    if (json_is_object(v) && json_object_size(v) != 1)
        return rt_fail(at->err, RT_E_INVALID,
                       "%s: %s: expected one of \"all\", \"latest\" and \"specific\"", at->file,
                       at->field);
    return read_object(at, v, version_policy_keys, COUNT(version_policy_keys), c);
}

static const struct key file_keys[] = {
    { "name", name },
    { "version_policy", version_policy },
    { "max_batch_size", max_batch_size },
    { "labels", labels },
    { "scores", scores },
    { "input", input },
    { "max_queue_size", max_queue_size },
    { "max_queue_delay_us", max_queue_delay_us },
    { "preferred_batch_size", preferred_batch_size },
    { "priority_levels", priority_levels },
    { "default_priority_level", default_priority_level },
    { "queue_policy", queue_policy },
    { "instances", instances },
    { "warmup", warmup },
    { "batchnorm", batchnorm },
    { "allow_batch_statistics", allow_batch_statistics },
};

const char *sv_model_config_key(int i)
{
    static const struct {
        const char *prefix;
        const struct key *keys;
        int n;
    } table[] = {
        { "", file_keys, COUNT(file_keys) },
        { "input.", input_keys, COUNT(input_keys) },
        { "queue_policy.", queue_policy_keys, COUNT(queue_policy_keys) },
        { "version_policy.", version_policy_keys, COUNT(version_policy_keys) },
        { "version_policy.latest.", latest_keys, COUNT(latest_keys) },
        { "version_policy.specific.", specific_keys, COUNT(specific_keys) },
    };
    static _Thread_local char name[128];
    for (size_t k = 0; k < sizeof table / sizeof table[0]; i -= table[k].n, k++)
        if (i < table[k].n) {
            snprintf(name, sizeof name, "%s%s", table[k].prefix, table[k].keys[i].name);
            return name;
        }
    return NULL;
}

/* What two keys have to say about each other. */
static enum rt_status check_together(const char *file, struct sv_model_config *c,
                                     struct rt_error *err)
{
    if (c->default_priority_level > c->priority_levels)
        return rt_fail(err, RT_E_INVALID,
                       "%s: default_priority_level: is %d, but priority_levels is %d", file,
                       c->default_priority_level, c->priority_levels);
    if (c->priority_levels > 0 && c->default_priority_level == 0)
        c->default_priority_level = (c->priority_levels + 1) / 2;
    int largest = c->n_preferred > 0 ? c->preferred_batch_size[c->n_preferred - 1] : 0;
    if (c->max_batch_size > 0 && largest > c->max_batch_size)
        return rt_fail(err, RT_E_INVALID,
                       "%s: preferred_batch_size: holds %d, but max_batch_size is %d", file,
                       largest, c->max_batch_size);
    return RT_OK;
}

static enum rt_status unknown_key(const struct sv_place *at, const struct key *keys, int n_keys,
                                  const char *word)
{
    const char *names[32];
    for (int i = 0; i < n_keys; i++)
        names[i] = keys[i].name;
    const char *near = n_keys > 0 ? sv_nearest(word, names, n_keys) : NULL;
    if (near != NULL)
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: unknown key; did you mean \"%s\"?", at->file,
                       at->field, near);
    return rt_fail(at->err, RT_E_INVALID, "%s: %s: unknown key", at->file, at->field);
}

static enum rt_status read_object(const struct sv_place *at, json_t *object, const struct key *keys,
                                  int n_keys, struct sv_model_config *c)
{
    if (!json_is_object(object))
        return sv_wrong_type(at, "an object", object);
    const char *word;
    json_t *value;
    json_object_foreach(object, word, value)
    {
        struct sv_place inner = { .file = at->file, .err = at->err };
        snprintf(inner.field, sizeof inner.field, "%.40s%s%.40s", at->field,
                 at->field[0] != '\0' ? "." : "", word);
        int i = 0;
        while (i < n_keys && strcmp(word, keys[i].name) != 0)
            i++;
        enum rt_status s =
            i < n_keys ? keys[i].read(&inner, value, c) : unknown_key(&inner, keys, n_keys, word);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

enum rt_status sv_model_config_parse(const char *file, const char *text, size_t len,
                                     struct sv_model_config *out, struct rt_error *err)
{
    struct sv_place top = { .file = file, .err = err };
    json_error_t fault;
    json_t *root;
    enum rt_status s =
        sv_json_load(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &root, &fault);
    if (s == RT_E_NOMEM)
        return sv_place_no_memory(&top);
    if (s != RT_OK)
        return rt_fail(err, RT_E_INVALID, "%s: line %d, column %d: %s", file, fault.line,
                       fault.column, sv_json_fault(&fault));
    struct sv_model_config c = { 0 };
    s = json_is_object(root) ? read_object(&top, root, file_keys, COUNT(file_keys), &c)
                             : rt_fail(err, RT_E_INVALID, "%s: expected an object, got %s", file,
                                       sv_json_type_name(root));
    json_decref(root);
    if (s == RT_OK)
        s = check_together(file, &c, err);
    if (s != RT_OK) {
        sv_model_config_reset(&c);
        return s;
    }
    *out = c;
    return RT_OK;
}

enum rt_status sv_model_config_read(const char *path, struct sv_model_config *out,
                                    struct rt_error *err)
{
    void *text;
    size_t len;
    enum rt_status s = sv_file_read(path, MAX_FILE, &text, &len, err);
    if (s != RT_OK)
        return s;
    s = sv_model_config_parse(path, text, len, out, err);
    rt_free(text);
    return s;
}

void sv_model_config_reset(struct sv_model_config *c)
{
    rt_free(c->name);
    rt_free(c->labels_file);
    rt_free(c->input.name);
    sv_labels_reset(&c->labels);
    memset(c, 0, sizeof *c);
}

bool sv_model_name_valid(const char *s)
{
    size_t len = strlen(s);
    if (len == 0 || len > 255 || !sv_utf8_valid(s, len, NULL))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == '/')
            return false;
    return strcmp(s, ".") != 0 && strcmp(s, "..") != 0 && strcmp(s, "stats") != 0;
}
