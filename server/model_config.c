/* Reads config.json: every key is a line of a table with the function that takes its value. */
#include "server/model_config.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "server/file.h"
#include "server/json_memory.h"
#include "server/options.h"
#include "server/utf8.h"

#define MAX_FILE ((size_t)16 * 1024 * 1024)

/* What a key's function needs to know to complain. */
struct place {
    const char *file;
    char field[112]; /* "input.mean" */
    struct rt_error *err;
};

struct key {
    const char *name;
    enum rt_status (*read)(const struct place *at, json_t *v, struct sv_model_config *c);
};

static const char *type_name(const json_t *v)
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

static struct place element_of(const struct place *array, size_t i)
{
    struct place element = *array;
    snprintf(element.field, sizeof element.field, "%.80s[%zu]", array->field, i);
    return element;
}

static enum rt_status wrong_type(const struct place *at, const char *expected, const json_t *v)
{
    return rt_fail(at->err, RT_E_INVALID, "%s: %s: expected %s, got %s", at->file, at->field,
                   expected, type_name(v));
}

static enum rt_status no_memory(const struct place *at)
{
    return rt_fail(at->err, RT_E_NOMEM, "%s: out of memory", at->file);
}

static enum rt_status read_int(const struct place *at, json_t *v, int min, int max, int *out)
{
    if (!json_is_integer(v))
        return wrong_type(at, "a whole number", v);
    json_int_t i = json_integer_value(v);
    if (i < min || i > max)
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: must be between %d and %d, got %lld",
                       at->file, at->field, min, max, (long long)i);
    *out = (int)i;
    return RT_OK;
}

static enum rt_status read_float(const struct place *at, json_t *v, float *out)
{
    if (!json_is_number(v))
        return wrong_type(at, "a number", v);
    float f = (float)json_number_value(v);
    if (!isfinite(f))
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: %g is more than a 32-bit float holds",
                       at->file, at->field, json_number_value(v));
    *out = f;
    return RT_OK;
}

static enum rt_status read_bool(const struct place *at, json_t *v, bool *out)
{
    if (!json_is_boolean(v))
        return wrong_type(at, "true or false", v);
    *out = json_is_true(v);
    return RT_OK;
}

/* *out is replaced by a copy of the string. */
static enum rt_status read_string(const struct place *at, json_t *v, char **out)
{
    if (!json_is_string(v))
        return wrong_type(at, "a string", v);
    char *copy = rt_strdup(json_string_value(v));
    if (copy == NULL)
        return no_memory(at);
    rt_free(*out);
    *out = copy;
    return RT_OK;
}

/* *out is the index of the word in words, which ends with NULL; letter case does not matter. */
static enum rt_status read_word(const struct place *at, json_t *v, const char *const *words,
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
        return wrong_type(at, all, v);
    return rt_fail(at->err, RT_E_INVALID, "%s: %s: expected %s, got \"%.60s\"", at->file, at->field,
                   all, json_string_value(v));
}

/* A number for all channels, or an array of one or three. */
static enum rt_status read_channels(const struct place *at, json_t *v, float out[3], int *n)
{
    if (json_is_number(v)) {
        *n = 1;
        return read_float(at, v, &out[0]);
    }
    if (!json_is_array(v))
        return wrong_type(at, "a number or an array of them", v);
    size_t len = json_array_size(v);
    if (len != 1 && len != 3)
        return rt_fail(at->err, RT_E_INVALID,
                       "%s: %s: expected 1 number (grey) or 3 (colour), got %zu", at->file,
                       at->field, len);
    for (size_t i = 0; i < len; i++) {
        struct place element = element_of(at, i);
        enum rt_status s = read_float(&element, json_array_get(v, i), &out[i]);
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

static enum rt_status name(const struct place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = read_string(at, v, &c->name);
    if (s == RT_OK && !sv_model_name_valid(c->name))
        s = rt_fail(at->err, RT_E_INVALID,
                    "%s: %s: a model cannot be called \"%.60s\": 1 to 255 bytes without '/' and "
                    "control characters, not \"stats\"",
                    at->file, at->field, c->name);
    return s;
}

static enum rt_status max_batch_size(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_int(at, v, 1, 4096, &c->max_batch_size);
}

static enum rt_status label_list(const struct place *at, json_t *v, struct sv_model_config *c)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        json_t *label = json_array_get(v, i);
        struct place element = element_of(at, i);
        if (!json_is_string(label))
            return wrong_type(&element, "a string", label);
        enum rt_status s =
            sv_labels_add(&c->labels, json_string_value(label), json_string_length(label), at->err);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

static enum rt_status labels(const struct place *at, json_t *v, struct sv_model_config *c)
{
    if (json_is_array(v))
        return label_list(at, v, c);
    if (!json_is_string(v))
        return wrong_type(at, "a file name or an array of labels", v);
    enum rt_status s = read_string(at, v, &c->labels_file);
    if (s == RT_OK && !stays_inside(c->labels_file))
        s = rt_fail(at->err, RT_E_INVALID, "%s: %s: \"%.200s\" is not inside the model's folder",
                    at->file, at->field, c->labels_file);
    return s;
}

static enum rt_status scores(const struct place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "auto", "softmax", "sigmoid", "none", NULL };
    int word;
    enum rt_status s = read_word(at, v, words, &word);
    if (s == RT_OK)
        c->scores = (enum sv_scores)word;
    return s;
}

static enum rt_status max_queue_size(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_int(at, v, 1, 1000000, &c->max_queue_size);
}

static enum rt_status max_queue_delay_us(const struct place *at, json_t *v,
                                         struct sv_model_config *c)
{
    return read_int(at, v, 0, 60000000, &c->max_queue_delay_us);
}

static enum rt_status instances(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_int(at, v, 1, 256, &c->instances);
}

static enum rt_status batchnorm(const struct place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "folded", "separate", NULL };
    int word;
    enum rt_status s = read_word(at, v, words, &word);
    if (s == RT_OK)
        c->batchnorm = word == 0 ? RT_BATCHNORM_FOLDED : RT_BATCHNORM_SEPARATE;
    return s;
}

static enum rt_status allow_batch_statistics(const struct place *at, json_t *v,
                                             struct sv_model_config *c)
{
    return read_bool(at, v, &c->allow_batch_statistics);
}

/* The keys of "input". */

static enum rt_status input_name(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_string(at, v, &c->input.name);
}

static enum rt_status color(const struct place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "rgb", "bgr", "gray", NULL };
    static const enum sv_color value[] = { SV_RGB, SV_BGR, SV_GRAY };
    int word;
    enum rt_status s = read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.color = value[word];
        c->input.has_color = true;
    }
    return s;
}

static enum rt_status layout(const struct place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "NCHW", "NHWC", NULL };
    int word;
    enum rt_status s = read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.nhwc = word == 1;
        c->input.has_layout = true;
    }
    return s;
}

static enum rt_status resize(const struct place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "stretch", "crop", "fit", NULL };
    static const enum sv_resize_mode value[] = { SV_RESIZE_STRETCH, SV_RESIZE_CROP, SV_RESIZE_FIT };
    int word;
    enum rt_status s = read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.resize = value[word];
        c->input.has_resize = true;
    }
    return s;
}

static enum rt_status filter(const struct place *at, json_t *v, struct sv_model_config *c)
{
    static const char *const words[] = { "bilinear", "bicubic", "nearest", NULL };
    static const enum sv_filter value[] = { SV_FILTER_BILINEAR, SV_FILTER_BICUBIC,
                                            SV_FILTER_NEAREST };
    int word;
    enum rt_status s = read_word(at, v, words, &word);
    if (s == RT_OK) {
        c->input.filter = value[word];
        c->input.has_filter = true;
    }
    return s;
}

static enum rt_status resize_to(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_int(at, v, 1, SV_PREPROCESS_MAX_SIDE, &c->input.resize_to);
}

static enum rt_status width(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_int(at, v, 1, SV_PREPROCESS_MAX_SIDE, &c->input.width);
}

static enum rt_status height(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_int(at, v, 1, SV_PREPROCESS_MAX_SIDE, &c->input.height);
}

static enum rt_status scale(const struct place *at, json_t *v, struct sv_model_config *c)
{
    c->input.has_scale = true;
    return read_float(at, v, &c->input.scale);
}

static enum rt_status mean(const struct place *at, json_t *v, struct sv_model_config *c)
{
    return read_channels(at, v, c->input.mean, &c->input.n_mean);
}

static enum rt_status std_dev(const struct place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = read_channels(at, v, c->input.std, &c->input.n_std);
    for (int i = 0; i < c->input.n_std && s == RT_OK; i++)
        if (c->input.std[i] == 0)
            s = rt_fail(at->err, RT_E_INVALID, "%s: %s: must not be 0, pixels are divided by it",
                        at->file, at->field);
    return s;
}

static enum rt_status fill(const struct place *at, json_t *v, struct sv_model_config *c)
{
    enum rt_status s = read_float(at, v, &c->input.fill);
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

static enum rt_status read_object(const struct place *at, json_t *object, const struct key *keys,
                                  int n_keys, struct sv_model_config *c);

static enum rt_status input(const struct place *at, json_t *v, struct sv_model_config *c)
{
    c->input.present = true;
    return read_object(at, v, input_keys, (int)(sizeof input_keys / sizeof input_keys[0]), c);
}

static const struct key file_keys[] = {
    { "name", name },
    { "max_batch_size", max_batch_size },
    { "labels", labels },
    { "scores", scores },
    { "input", input },
    { "max_queue_size", max_queue_size },
    { "max_queue_delay_us", max_queue_delay_us },
    { "instances", instances },
    { "batchnorm", batchnorm },
    { "allow_batch_statistics", allow_batch_statistics },
};

static enum rt_status unknown_key(const struct place *at, const struct key *keys, int n_keys,
                                  const char *word)
{
    const char *names[32];
    for (int i = 0; i < n_keys; i++)
        names[i] = keys[i].name;
    const char *near = sv_nearest(word, names, n_keys);
    if (near != NULL)
        return rt_fail(at->err, RT_E_INVALID, "%s: %s: unknown key; did you mean \"%s\"?", at->file,
                       at->field, near);
    return rt_fail(at->err, RT_E_INVALID, "%s: %s: unknown key", at->file, at->field);
}

static enum rt_status read_object(const struct place *at, json_t *object, const struct key *keys,
                                  int n_keys, struct sv_model_config *c)
{
    if (!json_is_object(object))
        return wrong_type(at, "an object", object);
    const char *word;
    json_t *value;
    json_object_foreach(object, word, value)
    {
        struct place inner = { .file = at->file, .err = at->err };
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
    struct place top = { .file = file, .err = err };
    json_error_t fault;
    sv_json_out_of_memory(); /* what was before does not count */
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (root == NULL && sv_json_out_of_memory())
        return no_memory(&top);
    if (root == NULL)
        return rt_fail(err, RT_E_INVALID, "%s: line %d, column %d: %s", file, fault.line,
                       fault.column, fault.text);
    struct sv_model_config c = { 0 };
    enum rt_status s =
        json_is_object(root)
            ? read_object(&top, root, file_keys, (int)(sizeof file_keys / sizeof file_keys[0]), &c)
            : rt_fail(err, RT_E_INVALID, "%s: expected an object, got %s", file, type_name(root));
    json_decref(root);
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
