/* What a registry's paths hold at one moment, before any of it is loaded. */
#ifndef SERVER_REGISTRY_SCAN_H
#define SERVER_REGISTRY_SCAN_H

#include "server/registry_table.h"

/* One version that was found, and what becomes of it. */
struct sv_candidate {
    const struct sv_source *src; /* in the list of its root */
    char *name;
    struct sv_model_config config;
    struct rt_error why; /* status RT_OK: nothing is wrong so far */
    bool chosen;         /* by the version policy */
    bool wanted;         /* is to be loaded now */
    struct sv_stamp stamp;
    struct sv_model *model; /* what it was loaded to */
};

/* What all roots hold at one moment. */
struct sv_scan {
    int n_roots;
    struct sv_sources *sources; /* sources[0..n_roots) */
    bool *lost;                 /* this root cannot be looked into now */
    int n;
    struct sv_candidate *item; /* item[0..n) */
};

/* Looks into every root. Folders that are empty now count as looked into. *scan is to be reset on
 * RT_OK. All of these under the registry's change lock. */
enum rt_status sv_scan_roots(const struct sv_registry *r, struct sv_scan *scan,
                             struct rt_error *err);
/* Adds what is in the list, which must outlive the scan, with its config files read. */
enum rt_status sv_scan_add(const struct sv_registry *r, const struct sv_sources *list,
                           struct sv_scan *scan, struct rt_error *err);
void sv_scan_reset(struct sv_scan *scan);

/* Applies the policy of the highest version's config to all candidates of this name. */
void sv_scan_choose(struct sv_scan *scan, const char *name);
/* Another candidate before i that has its name and version, or NULL. */
const struct sv_candidate *sv_scan_namesake(const struct sv_scan *scan, int i);
/* Whether the name of item i was met before it. */
bool sv_scan_met(const struct sv_scan *scan, int i);

#endif
