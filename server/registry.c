/* The table of models. Loading happens outside its lock, so that serving goes on meanwhile. */
#include "server/registry.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "server/log.h"
#include "server/model.h"
#include "server/sources.h"

struct entry {
    char *name;
    int64_t version;
    char *path;
    char *reason;           /* NULL when it is ready */
    struct sv_model *model; /* NULL unless it is ready */
};

struct sv_registry {
    struct sv_registry_options options;
    pthread_rwlock_t lock;
    struct entry *entry; /* versions of a model together and ascending */
    int n;
};

const char *sv_model_state_name(enum sv_model_state state)
{
    return state == SV_MODEL_READY ? "READY" : "UNAVAILABLE";
}

enum rt_status sv_registry_create(const struct sv_registry_options *options,
                                  struct sv_registry **out, struct rt_error *err)
{
    assert(options->max_queue >= 1 && options->cores != NULL);
    struct sv_registry *r = rt_zalloc(sizeof *r);
    if (r == NULL)
        return rt_fail_nomem(err, sizeof *r);
    r->options = *options;
    pthread_rwlock_init(&r->lock, NULL);
    *out = r;
    return RT_OK;
}

static void reset_entry(struct entry *e)
{
    sv_model_release(e->model);
    rt_free(e->name);
    rt_free(e->path);
    rt_free(e->reason);
}

void sv_registry_destroy(struct sv_registry *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < r->n; i++)
        reset_entry(&r->entry[i]);
    rt_free(r->entry);
    pthread_rwlock_destroy(&r->lock);
    rt_free(r);
}

/* Where name's version is, or -1; *at (may be NULL) is where it would belong. Under the lock. */
static int find(const struct sv_registry *r, const char *name, int64_t version, int *at)
{
    int place = r->n;
    bool known = false;
    for (int i = 0; i < r->n; i++) {
        if (strcmp(r->entry[i].name, name) != 0) {
            if (known)
                break;
            continue;
        }
        known = true;
        if (r->entry[i].version == version)
            return i;
        place = i;
        if (r->entry[i].version > version)
            break;
        place = i + 1;
    }
    if (at != NULL)
        *at = place;
    return -1;
}

static enum rt_status taken(const struct entry *there, const struct sv_source *src,
                            struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID, "two models are called '%s' (version %" PRId64 "): %s and %s",
                   there->name, there->version, there->path, src->path);
}

/* Puts in what became of src; model or reason is set. Takes over model on RT_OK. */
static enum rt_status insert(struct sv_registry *r, const char *name, const struct sv_source *src,
                             struct sv_model *model, const char *reason, struct rt_error *err)
{
    struct entry e = {
        .name = rt_strdup(name),
        .version = src->version,
        .path = rt_strdup(src->path),
        .reason = reason != NULL ? rt_strdup(reason) : NULL,
        .model = model,
    };
    enum rt_status s = RT_OK;
    pthread_rwlock_wrlock(&r->lock);
    int at = 0;
    int there = find(r, name, src->version, &at);
    struct entry *grown = NULL;
    if (there >= 0)
        s = taken(&r->entry[there], src, err);
    else if (e.name == NULL || e.path == NULL || (reason != NULL && e.reason == NULL) ||
             (grown = rt_realloc_array(r->entry, (size_t)r->n + 1, sizeof *grown)) == NULL)
        s = rt_fail(err, RT_E_NOMEM, "%s: out of memory", src->path);
    if (s == RT_OK) {
        r->entry = grown;
        memmove(grown + at + 1, grown + at, (size_t)(r->n - at) * sizeof *grown);
        grown[at] = e;
        r->n++;
    }
    pthread_rwlock_unlock(&r->lock);
    if (s != RT_OK) {
        e.model = NULL; /* still the caller's */
        reset_entry(&e);
    }
    return s;
}

/* Loads one model; that it fails to load is RT_OK and an entry. */
static enum rt_status add_source(struct sv_registry *r, const struct sv_source *src,
                                 struct rt_error *err)
{
    struct sv_model_config config = { 0 };
    struct sv_model *model = NULL;
    struct rt_error why = { .status = RT_OK };
    enum rt_status s = RT_OK;
    if (src->config != NULL)
        s = sv_model_config_read(src->config, &config, &why);
    char *name = rt_strdup(config.name != NULL ? config.name : src->name);
    if (name == NULL) {
        sv_model_config_reset(&config);
        return rt_fail_nomem(err, strlen(src->name) + 1);
    }
    if (s == RT_OK && !sv_model_name_valid(name))
        s = rt_fail(&why, RT_E_INVALID,
                    "%s: a model cannot be called '%s'; \"name\" in "
                    "config.json may give it another name",
                    src->path, name);
    pthread_rwlock_rdlock(&r->lock);
    int there = find(r, name, src->version, NULL);
    enum rt_status fatal = there >= 0 ? taken(&r->entry[there], src, err) : RT_OK;
    pthread_rwlock_unlock(&r->lock);
    if (fatal == RT_OK && s == RT_OK)
        s = sv_model_load(name, src, &config, &r->options, &model, &why);
    if (fatal == RT_OK && s != RT_OK)
        sv_log(SV_LOG_ERROR, "model '%s' was not loaded: %s", name, why.text);
    if (fatal == RT_OK)
        fatal = insert(r, name, src, model, s == RT_OK ? NULL : why.text, err);
    if (fatal != RT_OK)
        sv_model_release(model);
    sv_model_config_reset(&config);
    rt_free(name);
    return fatal;
}

enum rt_status sv_registry_add(struct sv_registry *r, const char *path, struct rt_error *err)
{
    struct sv_sources list;
    struct rt_error local;
    enum rt_status s = sv_sources_find(path, &list, err != NULL ? err : &local);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < list.n && s == RT_OK; i++)
        s = add_source(r, &list.item[i], err);
    sv_sources_reset(&list);
    return s;
}

/* Under the lock. */
static enum rt_status lookup(const struct sv_registry *r, const char *name, int64_t version,
                             struct sv_model **out, struct rt_error *err)
{
    struct sv_model *newest = NULL;
    bool known = false;
    for (int i = 0; i < r->n; i++) {
        const struct entry *e = &r->entry[i];
        if (strcmp(e->name, name) != 0)
            continue;
        known = true;
        if (e->model != NULL && version == 0)
            newest = e->model;
        if (e->version != version)
            continue;
        if (e->model == NULL)
            return rt_fail(err, RT_E_BUSY,
                           "Request for unknown model: '%s' version %" PRId64
                           " is not at ready state",
                           name, version);
        newest = e->model;
    }
    if (newest != NULL) {
        *out = sv_model_retain(newest);
        return RT_OK;
    }
    if (!known)
        return rt_fail(err, RT_E_NOT_FOUND, "Request for unknown model: '%s' is not found", name);
    if (version == 0)
        return rt_fail(err, RT_E_NOT_FOUND,
                       "Request for unknown model: '%s' has no available versions", name);
    return rt_fail(err, RT_E_NOT_FOUND,
                   "Request for unknown model: '%s' version %" PRId64 " is not found", name,
                   version);
}

enum rt_status sv_registry_find(struct sv_registry *r, const char *name, int64_t version,
                                struct sv_model **out, struct rt_error *err)
{
    pthread_rwlock_rdlock(&r->lock);
    enum rt_status s = lookup(r, name, version, out, err);
    pthread_rwlock_unlock(&r->lock);
    return s;
}

enum rt_status sv_registry_default(struct sv_registry *r, struct sv_model **out,
                                   struct rt_error *err)
{
    enum rt_status s = RT_E_NOT_FOUND;
    pthread_rwlock_rdlock(&r->lock);
    for (int i = 0; i < r->n && s != RT_OK; i++)
        if (r->entry[i].model != NULL)
            s = lookup(r, r->entry[i].name, 0, out, err);
    pthread_rwlock_unlock(&r->lock);
    return s == RT_OK ? s : rt_fail(err, s, "No model is loaded");
}

/* Copies s to *to, moving it on, and lets *where point there; with to NULL only its bytes are
 * counted. */
static size_t put_string(char **to, const char *s, const char **where)
{
    size_t len = strlen(s) + 1;
    if (to != NULL) {
        *where = memcpy(*to, s, len);
        *to += len;
    }
    return len;
}

/* The text that the entry's strings take; with an item, it and they are filled in too. */
static size_t put_entry(const struct entry *e, char **to, struct sv_entry *item)
{
    struct sv_entry unused;
    struct sv_entry *out = item != NULL ? item : &unused;
    size_t len = put_string(to, e->name, &out->name) + put_string(to, e->path, &out->path) +
                 put_string(to, e->reason != NULL ? e->reason : "", &out->reason);
    if (item != NULL) {
        item->version = e->version;
        snprintf(item->version_text, sizeof item->version_text, "%" PRId64, e->version);
        item->state = e->model != NULL ? SV_MODEL_READY : SV_MODEL_FAILED;
        item->model = e->model != NULL ? sv_model_retain(e->model) : NULL;
    }
    return len;
}

/* Under the lock. */
static enum rt_status list_entries(const struct sv_registry *r, const char *name,
                                   struct sv_model_list *out, struct rt_error *err)
{
    struct sv_model_list list = { 0 };
    size_t len = 0;
    for (int i = 0; i < r->n; i++) {
        if (name != NULL && strcmp(r->entry[i].name, name) != 0)
            continue;
        list.n++;
        len += put_entry(&r->entry[i], NULL, NULL);
    }
    list.entry = rt_zalloc_array((size_t)list.n, sizeof *list.entry);
    list.text = rt_alloc(len);
    if (list.entry == NULL || list.text == NULL) {
        rt_free(list.entry);
        rt_free(list.text);
        return rt_fail_nomem(err, len + (size_t)list.n * sizeof *list.entry);
    }
    char *to = list.text;
    struct sv_entry *item = list.entry;
    for (int i = 0; i < r->n; i++)
        if (name == NULL || strcmp(r->entry[i].name, name) == 0)
            put_entry(&r->entry[i], &to, item++);
    *out = list;
    return RT_OK;
}

enum rt_status sv_registry_list(struct sv_registry *r, const char *name, struct sv_model_list *out,
                                struct rt_error *err)
{
    pthread_rwlock_rdlock(&r->lock);
    enum rt_status s = list_entries(r, name, out, err);
    pthread_rwlock_unlock(&r->lock);
    return s;
}

void sv_model_list_reset(struct sv_model_list *list)
{
    for (int i = 0; i < list->n; i++)
        sv_model_release(list->entry[i].model);
    rt_free(list->entry);
    rt_free(list->text);
    memset(list, 0, sizeof *list);
}

void sv_registry_stop(struct sv_registry *r, bool abort)
{
    pthread_rwlock_rdlock(&r->lock);
    for (int i = 0; i < r->n; i++) {
        if (r->entry[i].model == NULL)
            continue;
        if (abort)
            sv_batcher_abort(r->entry[i].model->batcher);
        else
            sv_batcher_stop(r->entry[i].model->batcher);
    }
    pthread_rwlock_unlock(&r->lock);
}
