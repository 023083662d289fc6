/* Jansson's tree -> sv_wire_request. Alone knows Jansson, with model_config.c. */
#include "server/codec_request.h"

#include "runtime/rt.h"
#include "server/json_fault.h"
#include "server/json_memory.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static const char *type_name(const json_t *v)
{
    static const char *const name[] = {
        [JSON_OBJECT] = "an object",
        [JSON_ARRAY] = "an array",
        [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer",
        [JSON_REAL] = "a number with a fraction",
        [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",
        [JSON_NULL] = "null",
    };
    return name[json_typeof(v)];
}

/* The member of an object, which must have this type; JSON_TRUE stands for both booleans. *out is
 * NULL when it is absent, which is an error if it is needed. `where` says what the object is. */
static enum rt_status member(json_t *object, const char *where, const char *key, json_type type,
                             bool needed, json_t **out, struct rt_error *err)
{
    static const char *const what[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array",     [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_TRUE] = "true or false",
    };
    json_t *v = json_object_get(object, key);
    *out = v;
    if (v == NULL)
        return needed ? rt_fail(err, RT_E_INVALID, "%s has no '%s', which must be %s", where, key,
                                what[type])
                      : RT_OK;
    if (json_typeof(v) == type || (type == JSON_TRUE && json_is_boolean(v)))
        return RT_OK;
    return rt_fail(err, RT_E_INVALID, "Unable to parse '%s' of %s: it must be %s, not %s", key,
                   where, what[type], type_name(v));
}

/* An integer of 0 or more; *out stays as it is when it is absent. */
static enum rt_status unsigned_member(json_t *object, const char *where, const char *key,
                                      uint64_t *out, bool *present, struct rt_error *err)
{
    json_t *v;
    enum rt_status s = member(object, where, key, JSON_INTEGER, false, &v, err);
    *present = v != NULL;
    if (s != RT_OK || v == NULL)
        return s;
    if (json_integer_value(v) < 0)
        return rt_fail(err, RT_E_INVALID, "'%s' of %s must not be negative, got %lld", key, where,
                       (long long)json_integer_value(v));
    *out = (uint64_t)json_integer_value(v);
    return RT_OK;
}

static enum rt_status bool_member(json_t *object, const char *where, const char *key, bool *out,
                                  struct rt_error *err)
{
    json_t *v;
    enum rt_status s = member(object, where, key, JSON_TRUE, false, &v, err);
    if (s == RT_OK && v != NULL)
        *out = json_is_true(v);
    return s;
}

static enum rt_status request_parameters(json_t *root, struct sv_wire_request *w,
                                         struct rt_error *err)
{
    json_t *parameters, *value;
    const char *key;
    enum rt_status s =
        member(root, "the request", "parameters", JSON_OBJECT, false, &parameters, err);
    if (s != RT_OK || parameters == NULL)
        return s;
    json_object_foreach(parameters, key, value)
    {
        if (json_is_object(value) || json_is_array(value) || json_is_null(value))
            return rt_fail(err, RT_E_INVALID,
                           "parameter '%.*s' has invalid type. It should be either 'int', 'bool', "
                           "or 'string'.",
                           SV_SHOWN, key);
        if (strncmp(key, "triton_", 7) == 0)
            return rt_fail(err, RT_E_INVALID,
                           "parameter '%.*s' is refused: names that start with 'triton_' are "
                           "reserved",
                           SV_SHOWN, key);
    }
    bool present;
    s = bool_member(parameters, "'parameters'", "binary_data_output", &w->binary_output, err);
    if (s == RT_OK)
        s = unsigned_member(parameters, "'parameters'", "timeout", &w->timeout_us, &present, err);
    if (s == RT_OK)
        s = unsigned_member(parameters, "'parameters'", "priority", &w->priority, &present, err);
    return s;
}

static enum rt_status shape_of(json_t *input, const char *where, struct rt_shape *out,
                               struct rt_error *err)
{
    json_t *list;
    enum rt_status s = member(input, where, "shape", JSON_ARRAY, true, &list, err);
    if (s != RT_OK)
        return s;
    size_t rank = json_array_size(list);
    if (rank > RT_MAX_RANK)
        return rt_fail(err, RT_E_INVALID, "'shape' of %s has %zu dimensions, at most %d are taken",
                       where, rank, RT_MAX_RANK);
    out->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        json_t *dim = json_array_get(list, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return rt_fail(err, RT_E_INVALID,
                           "Unable to parse 'shape' of %s: dimension %zu must be an integer of 0 "
                           "or more",
                           where, i);
        out->dim[i] = json_integer_value(dim);
    }
    return RT_OK;
}

/* Where the input's values are: exactly one of the three places. */
static enum rt_status source_of(json_t *input, const char *where, struct sv_wire_input *in,
                                bool *binary, struct rt_error *err)
{
    json_t *parameters, *region = NULL, *data = json_object_get(input, "data");
    uint64_t size = 0;
    *binary = false;
    enum rt_status s = member(input, where, "parameters", JSON_OBJECT, false, &parameters, err);
    if (s == RT_OK && parameters != NULL) {
        s = unsigned_member(parameters, where, "binary_data_size", &size, binary, err);
        region = json_object_get(parameters, "shared_memory_region");
    }
    if (s != RT_OK)
        return s;
    in->blob_len = (size_t)size;
    if ((data != NULL) + *binary + (region != NULL) != 1) {
        bool none = data == NULL && !*binary && region == NULL;
        return rt_fail(err, RT_E_INVALID,
                       "Input must set only one of the following fields: 'data', "
                       "'binary_data_size' in 'parameters', 'shared_memory_region' in "
                       "'parameters'. But %s%s%s%s in %s",
                       none ? "no field is set" : "set", data != NULL ? " 'data'" : "",
                       *binary ? " 'binary_data_size'" : "",
                       region != NULL ? " 'shared_memory_region'" : "", where);
    }
    if (region != NULL)
        return rt_fail(err, RT_E_INVALID, "%s: shared memory is not available here", where);
    if (data != NULL && !json_is_array(data))
        return rt_fail(err, RT_E_INVALID,
                       "Unable to parse 'data' of %s: it must be an array, not %s", where,
                       type_name(data));
    return RT_OK;
}

static enum rt_status input(json_t *v, int i, const char *text, const struct sv_cuts *cuts,
                            struct sv_wire_input *in, struct rt_error *err)
{
    bool binary;
    char where[SV_SHOWN + 16];
    snprintf(where, sizeof where, "inputs[%d]", i);
    if (!json_is_object(v))
        return rt_fail(err, RT_E_INVALID, "%s must be an object, not %s", where, type_name(v));
    json_t *name, *datatype;
    enum rt_status s = member(v, where, "name", JSON_STRING, true, &name, err);
    if (s != RT_OK)
        return s;
    in->name = json_string_value(name);
    snprintf(where, sizeof where, "input '%.*s'", SV_SHOWN, in->name);
    s = shape_of(v, where, &in->shape, err);
    if (s == RT_OK)
        s = member(v, where, "datatype", JSON_STRING, true, &datatype, err);
    if (s == RT_OK)
        s = source_of(v, where, in, &binary, err);
    if (s != RT_OK)
        return s;
    in->datatype = json_string_value(datatype);
    if (binary)
        return RT_OK;
    const struct sv_cut *cut = sv_cuts_find(cuts, i);
    if (cut == NULL)
        return rt_fail(err, RT_E_INVALID, "%s: write the key 'data' without escapes", where);
    in->json = text + cut->from;
    in->json_len = cut->to - cut->from;
    return RT_OK;
}

/* More entries than any model has inputs or outputs. */
#define ENTRIES_MAX 1024

static enum rt_status inputs(json_t *root, const char *body, struct sv_wire_request *w,
                             struct rt_error *err)
{
    json_t *list;
    enum rt_status s = member(root, "the request", "inputs", JSON_ARRAY, true, &list, err);
    if (s != RT_OK)
        return s;
    size_t n = json_array_size(list);
    if (n > ENTRIES_MAX)
        return rt_fail(err, RT_E_INVALID, "'inputs' has %zu entries, at most %d are taken", n,
                       ENTRIES_MAX);
    w->in = rt_zalloc_array(n, sizeof *w->in);
    if (w->in == NULL)
        return rt_fail_nomem(err, n * sizeof *w->in);
    for (size_t i = 0; i < n; i++) {
        struct sv_wire_input *in = &w->in[i];
        s = input(json_array_get(list, i), (int)i, body, &w->cuts, in, err);
        for (int k = 0; s == RT_OK && k < w->n_in; k++)
            if (strcmp(w->in[k].name, in->name) == 0)
                s = rt_fail(err, RT_E_INVALID, "input '%.*s' already exists in request", SV_SHOWN,
                            in->name);
        if (s != RT_OK)
            return s;
        w->n_in++;
    }
    return RT_OK;
}

static enum rt_status output(json_t *v, int i, struct sv_wire_output *out, struct rt_error *err)
{
    char where[SV_SHOWN + 16];
    snprintf(where, sizeof where, "outputs[%d]", i);
    if (!json_is_object(v))
        return rt_fail(err, RT_E_INVALID, "%s must be an object, not %s", where, type_name(v));
    json_t *name, *parameters;
    enum rt_status s = member(v, where, "name", JSON_STRING, true, &name, err);
    if (s != RT_OK)
        return s;
    out->name = json_string_value(name);
    snprintf(where, sizeof where, "output '%.*s'", SV_SHOWN, out->name);
    s = member(v, where, "parameters", JSON_OBJECT, false, &parameters, err);
    if (s != RT_OK || parameters == NULL)
        return s;
    s = bool_member(parameters, where, "binary_data", &out->binary, err);
    bool present;
    if (s == RT_OK)
        s = unsigned_member(parameters, where, "classification", &out->classes, &present, err);
    if (s == RT_OK && json_object_get(parameters, "shared_memory_region") != NULL)
        s = rt_fail(err, RT_E_INVALID, "%s: shared memory is not available here", where);
    return s;
}

static enum rt_status outputs(json_t *root, struct sv_wire_request *w, struct rt_error *err)
{
    json_t *list;
    enum rt_status s = member(root, "the request", "outputs", JSON_ARRAY, false, &list, err);
    if (s != RT_OK || list == NULL || json_array_size(list) == 0)
        return s;
    size_t n = json_array_size(list);
    if (n > ENTRIES_MAX)
        return rt_fail(err, RT_E_INVALID, "'outputs' has %zu entries, at most %d are taken", n,
                       ENTRIES_MAX);
    w->out = rt_zalloc_array(n, sizeof *w->out);
    if (w->out == NULL)
        return rt_fail_nomem(err, n * sizeof *w->out);
    for (size_t i = 0; i < n; i++) {
        s = output(json_array_get(list, i), (int)i, &w->out[i], err);
        for (int k = 0; s == RT_OK && k < w->n_out; k++)
            if (strcmp(w->out[k].name, w->out[i].name) == 0)
                s = rt_fail(err, RT_E_INVALID, "output '%.*s' already exists in request", SV_SHOWN,
                            w->out[i].name);
        if (s != RT_OK)
            return s;
        w->n_out++;
    }
    return RT_OK;
}

/* A tree that several requests read. Jansson's own count is not looked at atomically. */
struct tree {
    atomic_int holders;
    json_t *root;
};

/* Takes root over; NULL when it is NULL, or out of memory. */
static struct tree *hold(json_t *root)
{
    struct tree *t = root != NULL ? rt_alloc(sizeof *t) : NULL;
    if (t == NULL) {
        json_decref(root);
        return NULL;
    }
    atomic_init(&t->holders, 1);
    t->root = root;
    return t;
}

static void let_go(struct tree *t)
{
    if (t == NULL || atomic_fetch_sub(&t->holders, 1) > 1)
        return;
    json_decref(t->root);
    rt_free(t);
}

static enum rt_status parse(const char *body, size_t json_len, struct sv_wire_request *w,
                            struct rt_error *err)
{
    struct sv_text rest = { 0 };
    enum rt_status s =
        json_len == 0
            ? rt_fail(err, RT_E_INVALID, "the body is empty: a JSON object with 'inputs' is wanted")
            : sv_json_cut(body, json_len, &rest, &w->cuts, err);
    if (s != RT_OK)
        goto out;
    json_error_t why;
    json_t *root = NULL;
    s = sv_json_load(rest.len > 0 ? rest.p : "", rest.len, JSON_REJECT_DUPLICATES, &root, &why);
    w->tree = hold(root);
    if (s == RT_E_NOMEM || (s == RT_OK && w->tree == NULL))
        s = rt_fail_nomem(err, rest.len);
    else if (s != RT_OK)
        s = rt_fail(err, RT_E_INVALID, "the body is not valid JSON: byte %zu: %s",
                    sv_cuts_offset(&w->cuts, (size_t)why.position), sv_json_fault(&why));
    if (s != RT_OK)
        goto out;
    json_t *id;
    s = json_is_object(root)
            ? member(root, "the request", "id", JSON_STRING, false, &id, err)
            : rt_fail(err, RT_E_INVALID, "the body must be a JSON object, not %s", type_name(root));
    if (s != RT_OK)
        goto out;
    if (id != NULL && json_string_length(id) > 0)
        w->id = json_string_value(id);
    s = request_parameters(root, w, err);
    if (s == RT_OK)
        s = inputs(root, body, w, err);
    if (s == RT_OK)
        s = outputs(root, w, err);
out:
    sv_text_reset(&rest);
    return s;
}

/* Gives the inputs that are binary their bytes, one behind the other, of blob[0..len). */
static enum rt_status take_blobs(struct sv_wire_request *w, const char *blob, size_t len,
                                 const char *model, struct rt_error *err)
{
    for (int i = 0; i < w->n_in; i++) {
        struct sv_wire_input *in = &w->in[i];
        if (in->json != NULL)
            continue;
        if (in->blob_len > len)
            return rt_fail(err, RT_E_INVALID,
                           "unexpected size for input '%.*s', expecting %zu additional bytes for "
                           "model '%s'",
                           SV_SHOWN, in->name, in->blob_len - len, model);
        in->blob = blob;
        blob += in->blob_len;
        len -= in->blob_len;
    }
    return len == 0 ? RT_OK
                    : rt_fail(err, RT_E_INVALID,
                              "unexpected additional input data for model '%s': %zu bytes are left "
                              "over",
                              model, len);
}

/* Heads of this size are remembered. */
#define MEMO_MAX 4096

struct sv_wire_memo {
    pthread_mutex_t lock;
    char *text; /* NULL: nothing is remembered */
    size_t len;
    struct sv_wire_request parsed; /* of that text; inputs have no bytes yet */
};

struct sv_wire_memo *sv_wire_memo_create(void)
{
    struct sv_wire_memo *memo = rt_zalloc(sizeof *memo);
    if (memo != NULL)
        pthread_mutex_init(&memo->lock, NULL);
    return memo;
}

void sv_wire_memo_destroy(struct sv_wire_memo *memo)
{
    if (memo == NULL)
        return;
    sv_wire_reset(&memo->parsed);
    rt_free(memo->text);
    pthread_mutex_destroy(&memo->lock);
    rt_free(memo);
}

/* Both hold the tree. */
static bool copy(const struct sv_wire_request *from, struct sv_wire_request *to)
{
    size_t in_len = (size_t)from->n_in * sizeof *from->in;
    size_t out_len = (size_t)from->n_out * sizeof *from->out;
    struct sv_wire_input *in = rt_alloc(in_len);
    struct sv_wire_output *out = from->n_out > 0 ? rt_alloc(out_len) : NULL;
    if (in == NULL || (from->n_out > 0 && out == NULL)) {
        rt_free(in);
        rt_free(out);
        return false;
    }
    *to = *from;
    to->cuts = (struct sv_cuts){ 0 };
    to->in = memcpy(in, from->in, in_len);
    to->out = from->n_out > 0 ? memcpy(out, from->out, out_len) : NULL;
    atomic_fetch_add(&((struct tree *)to->tree)->holders, 1);
    return true;
}

/* Whether *w could be had without parsing. */
static bool recall(struct sv_wire_memo *memo, const char *text, size_t len,
                   struct sv_wire_request *w)
{
    if (len > MEMO_MAX)
        return false;
    pthread_mutex_lock(&memo->lock);
    bool known = memo->text != NULL && memo->len == len && memcmp(memo->text, text, len) == 0 &&
                 copy(&memo->parsed, w);
    pthread_mutex_unlock(&memo->lock);
    return known;
}

/* What has an id, or values among the JSON, does not come again. */
static void remember(struct sv_wire_memo *memo, const char *text, size_t len,
                     const struct sv_wire_request *w)
{
    if (len > MEMO_MAX || w->id != NULL || w->cuts.n > 0)
        return;
    struct sv_wire_request parsed = { 0 };
    char *mine = rt_alloc(len);
    if (mine == NULL || !copy(w, &parsed)) {
        rt_free(mine);
        return;
    }
    memcpy(mine, text, len);
    pthread_mutex_lock(&memo->lock);
    char *old_text = memo->text;
    struct sv_wire_request old = memo->parsed;
    memo->text = mine;
    memo->len = len;
    memo->parsed = parsed;
    pthread_mutex_unlock(&memo->lock);
    rt_free(old_text);
    sv_wire_reset(&old);
}

enum rt_status sv_wire_parse(const char *body, size_t json_len, size_t len, const char *model,
                             struct sv_wire_memo *memo, struct sv_wire_request *w,
                             struct rt_error *err)
{
    if (!recall(memo, body, json_len, w)) {
        enum rt_status s = parse(body, json_len, w, err);
        if (s != RT_OK)
            return s;
        remember(memo, body, json_len, w);
    }
    return take_blobs(w, body + json_len, len - json_len, model, err);
}

void sv_wire_reset(struct sv_wire_request *w)
{
    let_go(w->tree);
    sv_cuts_reset(&w->cuts);
    rt_free(w->in);
    rt_free(w->out);
    *w = (struct sv_wire_request){ 0 };
}
