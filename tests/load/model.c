/* Reads model metadata; JSON by Jansson. */
#include "tests/load/model.h"

#include "runtime/mem.h"
#include "tests/load/fetch.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ld_model_reset(struct ld_model *m)
{
    for (int i = 0; i < m->n_inputs; i++)
        rt_free(m->input[i].name);
    rt_free(m->name);
    *m = (struct ld_model){ 0 };
}

/* The answer of url as JSON; *out is the caller's to decref. */
static enum rt_status fetch_json(const char *base, const char *path,
                                 const struct curl_slist *headers, const char *post, json_t **out,
                                 struct rt_error *err)
{
    struct sv_text text = { 0 };
    json_error_t fault;
    char *url = ld_url(base, path);
    if (url == NULL)
        return rt_fail_nomem(err, strlen(path));
    enum rt_status s = ld_fetch(url, headers, post, post != NULL ? strlen(post) : 0, &text, err);
    if (s == RT_OK) {
        *out = json_loadb(text.p, text.len, 0, &fault);
        if (*out == NULL)
            s = rt_fail(err, RT_E_IO, "%s: no JSON: %s", url, fault.text);
    }
    sv_text_reset(&text);
    rt_free(url);
    return s;
}

/* The only model that is ready, as the extension for repositories tells. */
static enum rt_status find_model(const char *base, const struct curl_slist *headers, char **name,
                                 struct rt_error *err)
{
    json_t *index = NULL, *entry;
    size_t i;
    char names[512] = "";
    int n = 0;
    if (fetch_json(base, "v2/repository/index", headers, "{}", &index, err) != RT_OK) {
        rt_error_prefix(err, "cannot ask which models there are (say one with --model)");
        return err->status;
    }
    json_array_foreach(index, i, entry)
    {
        const char *s = json_string_value(json_object_get(entry, "name"));
        const char *state = json_string_value(json_object_get(entry, "state"));
        if (s == NULL || (state != NULL && strcmp(state, "READY") != 0))
            continue;
        if (n++ == 0 && (*name = rt_strdup(s)) == NULL)
            break;
        const size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", n > 1 ? ", " : "", s);
    }
    json_decref(index);
    if (n == 1)
        return *name != NULL ? RT_OK : rt_fail_nomem(err, sizeof names);
    rt_free(*name);
    *name = NULL;
    return n == 0 ? rt_fail(err, RT_E_NOT_FOUND, "%s has no model that is ready", base)
                  : rt_fail(err, RT_E_INVALID,
                            "%s has several models: choose one of %s with --model", base, names);
}

static enum rt_status read_input(const json_t *entry, struct ld_input *in, struct rt_error *err)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *datatype = json_string_value(json_object_get(entry, "datatype"));
    const json_t *shape = json_object_get(entry, "shape"), *dim;
    size_t i;
    if (name == NULL || datatype == NULL || !json_is_array(shape) ||
        strlen(datatype) >= sizeof in->datatype || json_array_size(shape) > LD_RANK_MAX)
        return rt_fail(err, RT_E_IO,
                       "the model's metadata has an input without name, datatype or "
                       "shape, or with a shape of too many dimensions");
    json_array_foreach(shape, i, dim)
    {
        /* OpenVINO Model Server has had dimensions as strings. */
        in->dim[i] = json_is_string(dim) ? strtoll(json_string_value(dim), NULL, 10)
                                         : json_integer_value(dim);
    }
    in->rank = (int)json_array_size(shape);
    snprintf(in->datatype, sizeof in->datatype, "%s", datatype);
    in->name = rt_strdup(name);
    return in->name != NULL ? RT_OK : rt_fail_nomem(err, strlen(name));
}

enum rt_status ld_model_read(const char *base, const struct curl_slist *headers, const char *name,
                             struct ld_model *m, struct rt_error *err)
{
    json_t *meta = NULL, *entry;
    size_t i;
    char path[512];
    enum rt_status s = RT_OK;
    if (name == NULL)
        s = find_model(base, headers, &m->name, err);
    else if ((m->name = rt_strdup(name)) == NULL)
        s = rt_fail_nomem(err, strlen(name));
    if (s != RT_OK)
        return s;
    snprintf(path, sizeof path, "v2/models/%s", m->name);
    s = fetch_json(base, path, headers, NULL, &meta, err);
    if (s != RT_OK)
        return s;
    json_array_foreach(json_object_get(meta, "inputs"), i, entry)
    {
        if (i == LD_INPUTS_MAX) {
            s = rt_fail(err, RT_E_LIMIT, "model '%s' has more than %d inputs", m->name,
                        LD_INPUTS_MAX);
            break;
        }
        s = read_input(entry, &m->input[i], err);
        if (s != RT_OK)
            break;
        m->n_inputs++;
    }
    json_decref(meta);
    if (s == RT_OK && m->n_inputs == 0)
        s = rt_fail(err, RT_E_IO, "the metadata of model '%s' names no input", m->name);
    return s;
}

static enum rt_status apply_shape(struct ld_model *m, const char *text, struct rt_error *err)
{
    const char *equals = strchr(text, '='), *p = equals != NULL ? equals + 1 : text;
    int64_t dim[LD_RANK_MAX];
    int rank = 0;
    bool used = false;
    for (;; p++) {
        char *end;
        const long long v = strtoll(p, &end, 10);
        if (end == p || v < 1 || rank == LD_RANK_MAX || (*end != 'x' && *end != '\0'))
            return rt_fail(err, RT_E_INVALID, "--shape: '%s' is not like 1x3x224x224", text);
        dim[rank++] = v;
        p = end;
        if (*p == '\0')
            break;
    }
    for (int i = 0; i < m->n_inputs; i++) {
        struct ld_input *in = &m->input[i];
        const size_t len = strlen(in->name);
        if (equals != NULL && ((size_t)(equals - text) != len || memcmp(text, in->name, len) != 0))
            continue;
        if (in->rank != rank)
            return rt_fail(err, RT_E_INVALID, "--shape: input '%s' has %d dimensions, '%s' has %d",
                           in->name, in->rank, text, rank);
        memcpy(in->dim, dim, sizeof dim);
        used = true;
    }
    return used ? RT_OK
                : rt_fail(err, RT_E_INVALID, "--shape: model '%s' has no input '%.*s'", m->name,
                          (int)(equals - text), text);
}

enum rt_status ld_model_fix(struct ld_model *m, const struct sv_option_list *shapes, int batch,
                            struct rt_error *err)
{
    for (int i = 0; i < shapes->n; i++) {
        enum rt_status s = apply_shape(m, shapes->item[i], err);
        if (s != RT_OK)
            return s;
    }
    for (int i = 0; i < m->n_inputs; i++) {
        struct ld_input *in = &m->input[i];
        if (in->rank > 0 && in->dim[0] < 0)
            in->dim[0] = batch;
        for (int d = 0; d < in->rank; d++)
            if (in->dim[d] < 0)
                return rt_fail(err, RT_E_INVALID,
                               "input '%s' leaves dimension %d free: say its sizes with --shape",
                               in->name, d);
        if (batch > 1 && (in->rank == 0 || in->dim[0] != batch))
            return rt_fail(err, RT_E_INVALID, "--batch: input '%s' does not take %d samples",
                           in->name, batch);
    }
    return RT_OK;
}

bool ld_input_elements(const struct ld_input *in, size_t *n)
{
    size_t product = 1;
    for (int d = 0; d < in->rank; d++)
        if (!rt_mul_size(product, (size_t)in->dim[d], &product))
            return false;
    *n = product;
    return true;
}

size_t ld_input_element_bytes(const struct ld_input *in)
{
    static const struct {
        const char *name;
        size_t bytes;
    } type[] = { { "FP32", 4 },   { "FP64", 8 },   { "FP16", 2 },  { "BF16", 2 },  { "INT8", 1 },
                 { "INT16", 2 },  { "INT32", 4 },  { "INT64", 8 }, { "UINT8", 1 }, { "UINT16", 2 },
                 { "UINT32", 4 }, { "UINT64", 8 }, { "BOOL", 1 } };
    for (size_t i = 0; i < sizeof type / sizeof type[0]; i++)
        if (strcmp(in->datatype, type[i].name) == 0)
            return type[i].bytes;
    return 0;
}
