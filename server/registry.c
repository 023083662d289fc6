/* The table of models, as those see it who serve. */
#include "server/registry_table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAMES_MAX 5
#define NAMES_ROOM 256

const char *sv_model_state_name(enum sv_model_state state)
{
    static const char *const name[] = {
        [SV_MODEL_READY] = "READY",
        [SV_MODEL_FAILED] = "UNAVAILABLE",
        [SV_MODEL_LOADING] = "LOADING",
    };
    return name[state];
}

enum rt_status sv_registry_create(const struct sv_registry_options *options,
                                  struct sv_registry **out, struct rt_error *err)
{
    assert(options->max_queue >= 1 && options->cores != NULL);
    struct sv_registry *r = rt_zalloc(sizeof *r);
    if (r == NULL)
        return rt_fail_nomem(err, sizeof *r);
    r->options = *options;
    enum rt_status s = sv_fleet_create(&r->fleet, err);
    if (s != RT_OK) {
        rt_free(r);
        return s;
    }
    pthread_mutex_init(&r->change, NULL);
    pthread_rwlock_init(&r->lock, NULL);
    *out = r;
    return RT_OK;
}

void sv_slot_reset(struct sv_slot *s)
{
    sv_model_release(s->model);
    rt_free(s->name);
    rt_free(s->path);
    rt_free(s->reason);
}

void sv_registry_destroy(struct sv_registry *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < r->n; i++)
        sv_slot_reset(&r->slot[i]);
    rt_free(r->slot);
    for (int i = 0; i < r->n_roots; i++)
        rt_free(r->root[i]);
    rt_free(r->root);
    sv_fleet_destroy(r->fleet);
    pthread_rwlock_destroy(&r->lock);
    pthread_mutex_destroy(&r->change);
    rt_free(r);
}

int sv_slot_find(const struct sv_registry *r, const char *name, int64_t version, int *at)
{
    int place = r->n;
    bool known = false;
    for (int i = 0; i < r->n; i++) {
        if (strcmp(r->slot[i].name, name) != 0) {
            if (known)
                break;
            continue;
        }
        known = true;
        if (r->slot[i].version == version)
            return i;
        place = i;
        if (r->slot[i].version > version)
            break;
        place = i + 1;
    }
    if (at != NULL)
        *at = place;
    return -1;
}

/* The first models that are served, for whoever misspelt one: "'a', 'b' and 3 more". How many there
 * are in all. Under the lock. */
static int name_some(const struct sv_registry *r, char text[NAMES_ROOM])
{
    const char *last = "";
    int all = 0, named = 0;
    size_t len = 0;
    text[0] = '\0';
    for (int i = 0; i < r->n; i++) {
        const char *name = r->slot[i].name;
        if (r->slot[i].model == NULL || strcmp(name, last) == 0)
            continue;
        last = name;
        all++;
        if (named < NAMES_MAX &&
            len + strlen(name) + sizeof "'', and 2147483647 more" < NAMES_ROOM) {
            len += (size_t)snprintf(text + len, NAMES_ROOM - len, "%s'%s'", named > 0 ? ", " : "",
                                    name);
            named++;
        }
    }
    if (all > named)
        snprintf(text + len, NAMES_ROOM - len, "%s%d%s", named > 0 ? " and " : "", all - named,
                 named > 0 ? " more" : "");
    return all;
}

static enum rt_status fail_unknown(const struct sv_registry *r, const char *name,
                                   struct rt_error *err)
{
    char some[NAMES_ROOM];
    const int all = name_some(r, some);
    return rt_fail(err, RT_E_NOT_FOUND, "Request for unknown model: '%s' is not found; there %s %s",
                   name, all > 1 ? "are" : "is", all > 0 ? some : "none");
}

/* Under the lock. */
static enum rt_status lookup(const struct sv_registry *r, const char *name, int64_t version,
                             struct sv_model **out, struct rt_error *err)
{
    struct sv_model *newest = NULL;
    bool known = false;
    for (int i = 0; i < r->n; i++) {
        const struct sv_slot *e = &r->slot[i];
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
        return fail_unknown(r, name, err);
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
        if (r->slot[i].model != NULL)
            s = lookup(r, r->slot[i].name, 0, out, err);
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
static size_t put_entry(const struct sv_slot *e, char **to, struct sv_entry *item)
{
    struct sv_entry unused;
    /* cppcheck-suppress uninitvar ; its address is taken */
    struct sv_entry *out = item != NULL ? item : &unused;
    size_t len = put_string(to, e->name, &out->name) + put_string(to, e->path, &out->path) +
                 put_string(to, e->reason != NULL ? e->reason : "", &out->reason);
    if (item != NULL) {
        item->version = e->version;
        snprintf(item->version_text, sizeof item->version_text, "%" PRId64, e->version);
        item->state = e->model != NULL ? SV_MODEL_READY
                      : e->loading     ? SV_MODEL_LOADING
                                       : SV_MODEL_FAILED;
        item->model = e->model != NULL ? sv_model_retain(e->model) : NULL;
        item->loads = e->loads;
        item->failures = e->failures;
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
        if (name != NULL && strcmp(r->slot[i].name, name) != 0)
            continue;
        list.n++;
        len += put_entry(&r->slot[i], NULL, NULL);
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
        if (name == NULL || strcmp(r->slot[i].name, name) == 0)
            put_entry(&r->slot[i], &to, item++);
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
    sv_fleet_stop(r->fleet, abort);
}
