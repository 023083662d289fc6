/* How the table of models changes: what the paths hold is compared with what is loaded, the
 * difference is loaded beside it, and then put in its place at once. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "server/log.h"
#include "server/model.h"
#include "server/registry_scan.h"

/* Makes a slot for the candidate if there is none, and says that it is being loaded. */
static enum rt_status reserve(struct sv_registry *r, const struct sv_candidate *c,
                              struct rt_error *err)
{
    int at = 0, i = sv_slot_find(r, c->name, c->src->version, &at);
    struct sv_slot fresh = { .version = c->src->version };
    struct sv_slot *grown = NULL;
    char *path = NULL;
    if (i < 0) {
        fresh.name = rt_strdup(c->name);
        fresh.path = rt_strdup(c->src->path);
        grown = rt_alloc_array((size_t)r->n + 1, sizeof *grown);
        if (fresh.name == NULL || fresh.path == NULL || grown == NULL) {
            sv_slot_reset(&fresh);
            rt_free(grown);
            return rt_fail(err, RT_E_NOMEM, "%s: out of memory", c->src->path);
        }
    } else if (strcmp(r->slot[i].path, c->src->path) != 0) {
        path = rt_strdup(c->src->path);
        if (path == NULL)
            return rt_fail(err, RT_E_NOMEM, "%s: out of memory", c->src->path);
    }
    pthread_rwlock_wrlock(&r->lock);
    if (i < 0) {
        i = at;
        if (r->n > 0) {
            memcpy(grown, r->slot, (size_t)at * sizeof *grown);
            memcpy(grown + at + 1, r->slot + at, (size_t)(r->n - at) * sizeof *grown);
        }
        grown[at] = fresh;
        rt_free(r->slot);
        r->slot = grown;
        r->n++;
    }
    if (path != NULL) {
        rt_free(r->slot[i].path);
        r->slot[i].path = path;
    }
    r->slot[i].loading = true;
    pthread_rwlock_unlock(&r->lock);
    return RT_OK;
}

static void load(struct sv_registry *r, struct sv_candidate *c)
{
    if (c->why.status == RT_OK)
        sv_model_load(c->name, c->src, &c->config, &r->options, &c->model, &c->why);
    if (c->model != NULL) {
        sv_fleet_join(r->fleet, c->model);
        if (sv_source_stamp(c->src).value == c->stamp.value)
            return;
        sv_model_release(c->model);
        c->model = NULL;
        rt_fail(&c->why, RT_E_IO, "%s: was changed while it was being loaded", c->src->path);
    }
    pthread_rwlock_rdlock(&r->lock);
    int i = sv_slot_find(r, c->name, c->src->version, NULL);
    bool kept = i >= 0 && r->slot[i].model != NULL;
    pthread_rwlock_unlock(&r->lock);
    sv_log(SV_LOG_ERROR, "model '%s' was not loaded%s: %s", c->name,
           kept ? ", the one before stays" : "", c->why.text);
}

/* Puts what was loaded of this model in its place. What it replaces is then the scan's, to be
 * released with it. Under the lock. */
static void install(struct sv_registry *r, struct sv_scan *scan, const char *name)
{
    for (int i = 0; i < scan->n; i++) {
        struct sv_candidate *c = &scan->item[i];
        if (!c->wanted || strcmp(c->name, name) != 0)
            continue;
        int at = sv_slot_find(r, name, c->src->version, NULL);
        assert(at >= 0);
        struct sv_slot *slot = &r->slot[at];
        slot->loading = false;
        slot->unloaded = false;
        slot->stamp = c->stamp;
        rt_free(slot->reason);
        slot->reason = NULL;
        if (c->model != NULL) {
            struct sv_model *before = slot->model;
            slot->model = c->model;
            slot->loads++;
            c->model = before;
        } else {
            slot->reason = rt_strdup(c->why.text);
            slot->failures++;
        }
    }
}

/* Whether all versions of this model that were chosen are served. Under the lock. */
static bool is_complete(const struct sv_registry *r, const struct sv_scan *scan, const char *name)
{
    for (int i = 0; i < scan->n; i++) {
        const struct sv_candidate *c = &scan->item[i];
        if (!c->chosen || strcmp(c->name, name) != 0)
            continue;
        int at = sv_slot_find(r, name, c->src->version, NULL);
        if (at >= 0 && r->slot[at].model == NULL && !r->slot[at].unloaded)
            return false;
    }
    return true;
}

/* The candidate that stands for the slot, or NULL when its files are gone. */
static const struct sv_candidate *candidate_of(const struct sv_scan *scan,
                                               const struct sv_slot *slot)
{
    for (int i = 0; i < scan->n; i++)
        if (scan->item[i].src->version == slot->version &&
            strcmp(scan->item[i].name, slot->name) == 0)
            return &scan->item[i];
    return NULL;
}

/* Takes away the versions of this model that are gone or not chosen; their models go to
 * old[0..*n_old), which has room for all there are. Under the lock. */
static void take_away(struct sv_registry *r, const struct sv_scan *scan, const char *name,
                      struct sv_model **old, int *n_old)
{
    for (int i = r->n - 1; i >= 0; i--) {
        struct sv_slot *slot = &r->slot[i];
        const struct sv_candidate *c = candidate_of(scan, slot);
        if (strcmp(slot->name, name) != 0 || (c != NULL && c->chosen))
            continue;
        if (slot->model != NULL)
            old[(*n_old)++] = slot->model;
        slot->model = NULL;
        if (c != NULL) {
            rt_free(slot->reason);
            slot->reason = rt_strdup("unloaded");
            slot->stamp = (struct sv_stamp){ 0 }; /* should it be chosen again */
            continue;
        }
        sv_slot_reset(slot);
        memmove(slot, slot + 1, (size_t)(r->n - i - 1) * sizeof *slot);
        r->n--;
    }
}

/* Makes what was loaded of this model what is served, and takes away what is not to be any more
 * (with retire), at once. As long as a version that was chosen is not served, those that were
 * before stay; so they do, until the next time, when there is no memory to let go of them in. */
static void commit(struct sv_registry *r, struct sv_scan *scan, const char *name, bool retire)
{
    struct sv_model **old = rt_zalloc_array((size_t)r->n, sizeof *old);
    int n_old = 0;
    pthread_rwlock_wrlock(&r->lock);
    install(r, scan, name);
    if (retire && old != NULL && is_complete(r, scan, name))
        take_away(r, scan, name, old, &n_old);
    pthread_rwlock_unlock(&r->lock);
    for (int i = 0; i < n_old; i++) {
        sv_log(SV_LOG_INFO, "model '%s' version %s is not served any more", name,
               old[i]->version_text);
        sv_model_release(old[i]);
    }
    rt_free(old);
}

/* Loads the wanted candidates of this name, and commits. */
static enum rt_status apply(struct sv_registry *r, struct sv_scan *scan, const char *name,
                            bool retire, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    for (int i = 0; i < scan->n; i++) {
        struct sv_candidate *c = &scan->item[i];
        if (!c->wanted || strcmp(c->name, name) != 0)
            continue;
        if (s == RT_OK)
            s = reserve(r, c, err);
        if (s == RT_OK)
            load(r, c);
        else
            c->wanted = false;
    }
    commit(r, scan, name, retire && s == RT_OK);
    for (int i = 0; i < scan->n && retire; i++) {
        const struct sv_candidate *c = &scan->item[i];
        if (c->wanted && c->why.status == RT_OK && strcmp(c->name, name) == 0)
            sv_log(SV_LOG_INFO, "model '%s' version %" PRId64 " is loaded", name, c->src->version);
    }
    return s;
}

static enum rt_status add_root(struct sv_registry *r, const char *path, struct rt_error *err)
{
    char **grown = rt_realloc_array(r->root, (size_t)r->n_roots + 1, sizeof *grown);
    if (grown == NULL)
        return rt_fail_nomem(err, sizeof *grown);
    r->root = grown;
    r->root[r->n_roots] = rt_strdup(path);
    if (r->root[r->n_roots] == NULL)
        return rt_fail_nomem(err, strlen(path) + 1);
    r->n_roots++;
    return RT_OK;
}

static enum rt_status taken(const char *name, int64_t version, const char *one, const char *other,
                            struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID, "two models are called '%s' (version %" PRId64 "): %s and %s",
                   name, version, one, other);
}

/* Loads what a path that is new holds, which nothing else may be called. */
static enum rt_status add_sources(struct sv_registry *r, struct sv_scan *scan, struct rt_error *err)
{
    enum rt_status s = sv_scan_add(r, &scan->sources[0], scan, err);
    for (int i = 0; i < scan->n && s == RT_OK; i++) {
        struct sv_candidate *c = &scan->item[i];
        const struct sv_candidate *other = sv_scan_namesake(scan, i);
        int there = sv_slot_find(r, c->name, c->src->version, NULL);
        if (there >= 0)
            s = taken(c->name, c->src->version, r->slot[there].path, c->src->path, err);
        else if (other != NULL)
            s = taken(c->name, c->src->version, other->src->path, c->src->path, err);
    }
    for (int i = 0; i < scan->n && s == RT_OK; i++)
        if (!sv_scan_met(scan, i))
            sv_scan_choose(scan, scan->item[i].name);
    for (int i = 0; i < scan->n && s == RT_OK; i++)
        scan->item[i].wanted = scan->item[i].chosen;
    for (int i = 0; i < scan->n && s == RT_OK; i++)
        if (!sv_scan_met(scan, i))
            s = apply(r, scan, scan->item[i].name, false, err);
    return s;
}

enum rt_status sv_registry_add(struct sv_registry *r, const char *path, struct rt_error *err)
{
    struct sv_scan scan = { .n_roots = 1 };
    struct rt_error local;
    if (err == NULL)
        err = &local;
    scan.sources = rt_zalloc(sizeof *scan.sources);
    if (scan.sources == NULL)
        return rt_fail_nomem(err, sizeof *scan.sources);
    pthread_mutex_lock(&r->change);
    enum rt_status s = sv_sources_find(path, &scan.sources[0], err);
    if (s == RT_OK)
        s = add_sources(r, &scan, err);
    if (s == RT_OK)
        s = add_root(r, path, err);
    sv_scan_reset(&scan);
    pthread_mutex_unlock(&r->change);
    return s;
}

/* Whether this version has to be loaded, going by what is known of it. */
static bool is_stale(const struct sv_registry *r, const struct sv_candidate *c, bool retry)
{
    int i = sv_slot_find(r, c->name, c->src->version, NULL);
    if (i < 0)
        return true;
    const struct sv_slot *slot = &r->slot[i];
    if (slot->unloaded)
        return false;
    return slot->stamp.value != c->stamp.value || strcmp(slot->path, c->src->path) != 0 ||
           (retry && slot->reason != NULL);
}

/* Models of which nothing is found any more, unless their root is out of sight. */
static void retire_lost(struct sv_registry *r, struct sv_scan *scan)
{
    for (int i = 0; i < scan->n_roots; i++)
        if (scan->lost[i])
            return;
    for (int i = r->n - 1; i >= 0; i--) {
        bool found = false;
        for (int k = 0; k < scan->n; k++)
            found |= strcmp(scan->item[k].name, r->slot[i].name) == 0;
        if (found)
            continue;
        char *name = rt_strdup(r->slot[i].name);
        if (name == NULL)
            return;
        commit(r, scan, name, true);
        rt_free(name);
        if (i > r->n)
            i = r->n;
    }
}

int sv_registry_rescan(struct sv_registry *r, bool retry)
{
    struct sv_scan scan;
    struct rt_error err;
    int failed = 0;
    pthread_mutex_lock(&r->change);
    if (sv_scan_roots(r, &scan, &err) != RT_OK) {
        sv_log(SV_LOG_ERROR, "the models were not looked at: %s", err.text);
        pthread_mutex_unlock(&r->change);
        return 1;
    }
    bool lost = false;
    for (int i = 0; i < scan.n_roots; i++)
        lost |= scan.lost[i];
    for (int i = 0; i < scan.n; i++)
        if (!sv_scan_met(&scan, i))
            sv_scan_choose(&scan, scan.item[i].name);
    for (int i = 0; i < scan.n; i++) {
        struct sv_candidate *c = &scan.item[i];
        const struct sv_candidate *other = sv_scan_namesake(&scan, i);
        if (other != NULL) {
            taken(c->name, c->src->version, other->src->path, c->src->path, &err);
            sv_log(SV_LOG_ERROR, "%s; the second is not loaded", err.text);
            failed++;
        }
        c->wanted = other == NULL && c->chosen && is_stale(r, c, retry);
    }
    for (int i = 0; i < scan.n; i++) {
        if (sv_scan_met(&scan, i))
            continue;
        if (apply(r, &scan, scan.item[i].name, !lost, &err) != RT_OK) {
            sv_log(SV_LOG_ERROR, "model '%s' was not loaded: %s", scan.item[i].name, err.text);
            failed++;
        }
    }
    for (int i = 0; i < scan.n; i++)
        failed += scan.item[i].wanted && scan.item[i].why.status != RT_OK;
    retire_lost(r, &scan);
    sv_scan_reset(&scan);
    pthread_mutex_unlock(&r->change);
    return failed;
}

enum rt_status sv_registry_load(struct sv_registry *r, const char *name, const char *config,
                                struct rt_error *err)
{
    struct sv_scan scan;
    struct rt_error local;
    if (err == NULL)
        err = &local;
    pthread_mutex_lock(&r->change);
    enum rt_status s = sv_scan_roots(r, &scan, err);
    if (s != RT_OK) {
        pthread_mutex_unlock(&r->change);
        return s;
    }
    bool found = false;
    for (int i = 0; i < scan.n && s == RT_OK; i++) {
        struct sv_candidate *c = &scan.item[i];
        if (strcmp(c->name, name) != 0 || sv_scan_namesake(&scan, i) != NULL)
            continue;
        found = true;
        if (config == NULL)
            continue;
        /* The name stays what the model was asked for by. */
        sv_model_config_reset(&c->config);
        c->why.status = RT_OK;
        s = sv_model_config_parse("config", config, strlen(config), &c->config, err);
    }
    if (s == RT_OK && !found)
        s = rt_fail(err, RT_E_NOT_FOUND,
                    "failed to load '%s', failed to poll from model repository: there is no model "
                    "of this name",
                    name);
    if (s == RT_OK) {
        sv_scan_choose(&scan, name);
        for (int i = 0; i < scan.n; i++)
            scan.item[i].wanted = scan.item[i].chosen && strcmp(scan.item[i].name, name) == 0 &&
                                  sv_scan_namesake(&scan, i) == NULL;
        s = apply(r, &scan, name, true, err);
    }
    for (int i = 0; i < scan.n && s == RT_OK; i++)
        if (scan.item[i].wanted && scan.item[i].why.status != RT_OK)
            s = rt_fail(err, scan.item[i].why.status == RT_E_NOMEM ? RT_E_NOMEM : RT_E_INVALID,
                        "load failed for model '%s': %s", name, scan.item[i].why.text);
    sv_scan_reset(&scan);
    pthread_mutex_unlock(&r->change);
    return s;
}

enum rt_status sv_registry_unload(struct sv_registry *r, const char *name, struct rt_error *err)
{
    pthread_mutex_lock(&r->change);
    struct sv_model **old = rt_zalloc_array((size_t)r->n, sizeof *old);
    int n_old = 0;
    bool known = false;
    enum rt_status s =
        old != NULL ? RT_OK : rt_fail_nomem(err, (size_t)r->n * sizeof(struct sv_model *));
    pthread_rwlock_wrlock(&r->lock);
    for (int i = 0; i < r->n && s == RT_OK; i++) {
        struct sv_slot *slot = &r->slot[i];
        if (strcmp(slot->name, name) != 0)
            continue;
        known = true;
        slot->unloaded = true;
        rt_free(slot->reason);
        slot->reason = rt_strdup("unloaded");
        if (slot->model != NULL)
            old[n_old++] = slot->model;
        slot->model = NULL;
    }
    pthread_rwlock_unlock(&r->lock);
    pthread_mutex_unlock(&r->change);
    for (int i = 0; i < n_old; i++) {
        sv_log(SV_LOG_INFO, "model '%s' version %s was unloaded", name, old[i]->version_text);
        sv_model_release(old[i]);
    }
    rt_free(old);
    if (s == RT_OK && !known)
        s = rt_fail(err, RT_E_NOT_FOUND, "Request for unknown model: '%s' is not found", name);
    return s;
}
