/* The inside of a registry, shared by the files that make it up: registry.c, which finds and lists,
 * and registry_load.c, which changes it. */
#ifndef SERVER_REGISTRY_TABLE_H
#define SERVER_REGISTRY_TABLE_H

#include <pthread.h>

#include "server/fleet.h"
#include "server/registry.h"
#include "server/sources.h"

/* One version of a model, loaded or not. */
struct sv_slot {
    char *name;
    int64_t version;
    char *path;
    char *reason;           /* what is wrong, or why it is not loaded; NULL: nothing */
    struct sv_model *model; /* NULL: not served */
    bool loading;
    bool unloaded; /* by name: rescanning leaves it alone */
    struct sv_stamp stamp; /* of its files when they were last loaded, or tried to */
    uint64_t loads, failures;
};

struct sv_registry {
    struct sv_registry_options options;
    struct sv_fleet *fleet;
    pthread_mutex_t change; /* held by whoever loads: one change at a time, as long as it takes */
    pthread_rwlock_t lock;  /* of what follows; taken inside change, and never for long */
    struct sv_slot *slot;   /* versions of a model together and ascending */
    int n;
    /* Under change alone. */
    char **root; /* the paths added */
    int n_roots;
};

/* Where name's version is, or -1; *at (may be NULL) is where it would belong. Under either lock. */
int sv_slot_find(const struct sv_registry *r, const char *name, int64_t version, int *at);
void sv_slot_reset(struct sv_slot *s);

#endif
