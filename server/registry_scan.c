/* Looks into paths, reads config files, applies version policies. */
#include "server/registry_scan.h"

#include <string.h>

#include "server/file.h"
#include "server/log.h"

void sv_scan_reset(struct sv_scan *scan)
{
    for (int i = 0; i < scan->n; i++) {
        rt_free(scan->item[i].name);
        sv_model_config_reset(&scan->item[i].config);
        sv_model_release(scan->item[i].model);
    }
    for (int i = 0; i < scan->n_roots; i++)
        sv_sources_reset(&scan->sources[i]);
    rt_free(scan->item);
    rt_free(scan->sources);
    rt_free(scan->lost);
    *scan = (struct sv_scan){ 0 };
}

/* Reads the candidate's config.json, from which its name may follow. A file that cannot be
 * understood says nothing about the name: then it is the one that the path had before. */
static enum rt_status look_at(const struct sv_registry *r, const struct sv_source *src,
                              struct sv_candidate *c, struct rt_error *err)
{
    *c = (struct sv_candidate){ .src = src, .stamp = sv_source_stamp(src) };
    enum rt_status s = RT_OK;
    if (src->config != NULL)
        s = sv_model_config_read(src->config, &c->config, &c->why);
    const char *name = c->config.name != NULL ? c->config.name : src->name;
    for (int i = 0; i < r->n && s != RT_OK; i++)
        if (strcmp(r->slot[i].path, src->path) == 0)
            name = r->slot[i].name;
    c->name = rt_strdup(name);
    if (c->name == NULL) {
        rt_fail_nomem(err, strlen(name) + 1);
        sv_model_config_reset(&c->config); /* name may lie in it */
        return RT_E_NOMEM;
    }
    if (s == RT_OK && !sv_model_name_valid(c->name))
        rt_fail(&c->why, RT_E_INVALID,
                "%s: a model cannot be called '%s'; \"name\" in config.json may give it another "
                "name",
                src->path, c->name);
    return RT_OK;
}

enum rt_status sv_scan_add(const struct sv_registry *r, const struct sv_sources *list,
                           struct sv_scan *scan, struct rt_error *err)
{
    struct sv_candidate *grown =
        rt_realloc_array(scan->item, (size_t)scan->n + (size_t)list->n, sizeof *grown);
    if (grown == NULL)
        return rt_fail_nomem(err, (size_t)list->n * sizeof *grown);
    scan->item = grown;
    for (int i = 0; i < list->n; i++) {
        enum rt_status s = look_at(r, &list->item[i], &scan->item[scan->n], err);
        if (s != RT_OK)
            return s;
        scan->n++;
    }
    return RT_OK;
}

enum rt_status sv_scan_roots(const struct sv_registry *r, struct sv_scan *scan,
                             struct rt_error *err)
{
    *scan = (struct sv_scan){ 0 };
    scan->sources = rt_zalloc_array((size_t)r->n_roots, sizeof *scan->sources);
    scan->lost = rt_zalloc_array((size_t)r->n_roots, sizeof *scan->lost);
    enum rt_status s = scan->sources != NULL && scan->lost != NULL
                           ? RT_OK
                           : rt_fail_nomem(err, (size_t)r->n_roots * sizeof *scan->sources);
    for (; scan->n_roots < r->n_roots && s == RT_OK; scan->n_roots++) {
        const char *root = r->root[scan->n_roots];
        struct rt_error why = { .status = RT_OK };
        s = sv_sources_find(root, &scan->sources[scan->n_roots], &why);
        if (s == RT_OK) {
            s = sv_scan_add(r, &scan->sources[scan->n_roots], scan, err);
        } else if (s == RT_E_NOMEM) {
            *err = why;
        } else {
            scan->lost[scan->n_roots] = s != RT_E_NOT_FOUND || !sv_is_folder(root);
            if (scan->lost[scan->n_roots])
                sv_log(SV_LOG_WARN, "%s; its models stay as they are", why.text);
            s = RT_OK;
        }
    }
    if (s != RT_OK)
        sv_scan_reset(scan);
    return s;
}

static bool listed(const struct sv_model_config *c, int64_t version)
{
    for (int i = 0; i < c->n_versions; i++)
        if (c->version[i] == version)
            return true;
    return false;
}

void sv_scan_choose(struct sv_scan *scan, const char *name)
{
    const struct sv_candidate *highest = NULL;
    for (int i = 0; i < scan->n; i++) {
        struct sv_candidate *c = &scan->item[i];
        if (strcmp(c->name, name) == 0 &&
            (highest == NULL || c->src->version > highest->src->version))
            highest = c;
    }
    for (int i = 0; i < scan->n; i++) {
        struct sv_candidate *c = &scan->item[i];
        if (strcmp(c->name, name) != 0)
            continue;
        int above = 0;
        for (int k = 0; k < scan->n; k++)
            above += strcmp(scan->item[k].name, name) == 0 &&
                     scan->item[k].src->version > c->src->version;
        /* NOLINTNEXTLINE(clang-analyzer-core.*): c itself may be it, so there is one */
        switch (highest->config.version_policy) {
        case SV_VERSIONS_ALL:
            c->chosen = true;
            break;
        case SV_VERSIONS_LATEST:
            c->chosen = above < highest->config.n_versions;
            break;
        case SV_VERSIONS_SPECIFIC:
            c->chosen = listed(&highest->config, c->src->version);
            break;
        }
    }
}

const struct sv_candidate *sv_scan_namesake(const struct sv_scan *scan, int i)
{
    const struct sv_candidate *c = &scan->item[i];
    for (int k = 0; k < i; k++)
        if (scan->item[k].src->version == c->src->version &&
            strcmp(scan->item[k].name, c->name) == 0)
            return &scan->item[k];
    return NULL;
}

bool sv_scan_met(const struct sv_scan *scan, int i)
{
    for (int k = 0; k < i; k++)
        if (strcmp(scan->item[k].name, scan->item[i].name) == 0)
            return true;
    return false;
}
