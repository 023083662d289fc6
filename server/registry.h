/* The models that are served: names -> versions -> loaded models, found by any thread while others
 * are loaded. */
#ifndef SERVER_REGISTRY_H
#define SERVER_REGISTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/rt.h"
#include "server/batcher.h"
#include "server/labels.h"
#include "server/metrics.h"
#include "server/model_config.h"
#include "server/preprocess.h"

struct sv_registry;

/* One loaded version of a model: all that serving it takes. Never changes, but for stats and the
 * batcher's queue. Whoever holds a reference may use every member; the strings live as long. */
struct sv_model {
    char *name;
    int64_t version;       /* >= 1; 1 where the path does not say */
    char version_text[24]; /* the same in decimal */
    char *path;            /* the model's file */
    struct rt_model *rt;
    int n_in, n_out;
    int max_batch; /* rt_model_max_batch(): 0 when there is no batch axis */
    struct sv_model_config config;
    struct sv_labels labels;         /* n == 0: none */
    int image_input;                 /* the input that takes a picture; -1: none does */
    struct sv_preprocess preprocess; /* how, unless image_input is -1 */
    char *image_note;                /* why image_input is -1, one sentence; else NULL */
    struct sv_batcher *batcher;
    struct sv_wire_memo *memo; /* the codec's */
    struct sv_stats stats;     /* counted by the batcher; read at any time */
    double load_seconds;
    /* The fleet's own business (fleet.h). */
    atomic_int refs;
    struct sv_fleet *fleet;
    struct sv_model *next, *prev;
};

struct sv_model *sv_model_retain(struct sv_model *m);
/* Never waits, on any thread: models of a registry are freed by a thread of it. Takes NULL. */
void sv_model_release(struct sv_model *m);

enum sv_model_state {
    SV_MODEL_READY,   /* served; while a replacement is being loaded, too */
    SV_MODEL_FAILED,  /* not served; the entry says why: it could not be loaded, or "unloaded" */
    SV_MODEL_LOADING, /* for the first time, or again after it had been unloaded */
};
/* "READY", "UNAVAILABLE", "LOADING": the protocol's words. */
const char *sv_model_state_name(enum sv_model_state state);

struct sv_progress;
struct sv_registry_options {
    int max_batch;           /* for models whose config.json does not say; 0: 8 */
    int max_queue;           /* likewise; >= 1 */
    size_t max_queue_memory; /* likewise: of inputs, one sample a request; 0: no bound */
    size_t max_answer;       /* bytes of one request's outputs; 0: no bound */
    int queue_timeout_us;    /* likewise; 0: none */
    size_t memory_limit;     /* of each model, as in rt_options */
    size_t extra_weights;    /* likewise */
    struct sv_cores *cores;  /* the budget, shared by all models; must outlive every model */
    int socket_threads;      /* that submit jobs, and may run the light ones */
    size_t max_pixels;       /* of a picture, goes into every model's preprocess; 0: the default */
    bool exact;              /* no algorithm that trades accuracy for speed, and every JPEG decoded whole */
    bool warm_up;            /* run a model on zeros, before it is served, that asks for it */
    struct sv_progress *loading; /* drawn while a model is loaded; NULL: nothing */
};

enum rt_status sv_registry_create(const struct sv_registry_options *options,
                                  struct sv_registry **out, struct rt_error *err);
/* Drops the registry's references, and waits until all others have been dropped. Takes NULL. */
void sv_registry_destroy(struct sv_registry *r);

/* Loads what path stands for:
 *   x.onnx                       a model called x (config: x.config.json, labels: x.labels.txt)
 *   name/model.onnx              a model called name; path may be the folder or the file
 *   name/3/model.onnx ...        its versions; 1.. only digits, no leading zero
 *   a folder of these            all of them
 * Beside a model.onnx, or in the folder above its version's, may be config.json and labels.txt.
 * A model that cannot be loaded becomes an entry that says why (and a line in the log): that is
 * RT_OK. Fails when path is not there or holds no model, or when a name and version is taken. */
enum rt_status sv_registry_add(struct sv_registry *r, const char *path, struct rt_error *err);

/* Looks at all paths added so far once more: what is new is loaded, what has changed is loaded
 * again, what is gone is unloaded. Models unloaded by name stay so. With retry, those that could
 * not be loaded are tried again even if nothing about them has changed. Faults go to the log and
 * the entries; the number of models that could not be loaded is returned. Any thread; takes as
 * long as loading takes, during which the models that are there are served. */
int sv_registry_rescan(struct sv_registry *r, bool retry);

/* Loads what the paths hold of this model, again if it is loaded already. What could be loaded
 * replaces what was there, all its versions at once, when it is ready to serve and has been warmed
 * up; until then the old ones serve, and in place of what could not be loaded they go on to
 * (RT_E_INVALID: "load failed for model 'm': ..."). config is the text that stands for its
 * config.json this time; NULL: the file. RT_E_NOT_FOUND when there is no such model. Names are
 * compared with those found and are never part of a path. */
enum rt_status sv_registry_load(struct sv_registry *r, const char *name, const char *config,
                                struct rt_error *err);
/* Its versions are not found any more; requests at work are finished. Fine for one that is not
 * loaded, RT_E_NOT_FOUND for one that is not known. */
enum rt_status sv_registry_unload(struct sv_registry *r, const char *name, struct rt_error *err);

/* The model's version, or its highest one that is ready when version is 0. *out is a reference of
 * the caller's own. RT_E_NOT_FOUND and RT_E_BUSY (a version that could not be loaded) with the
 * protocol's sentences. */
enum rt_status sv_registry_find(struct sv_registry *r, const char *name, int64_t version,
                                struct sv_model **out, struct rt_error *err);

/* The model for routes that do not name one: the first one loaded. RT_E_NOT_FOUND when none is. */
enum rt_status sv_registry_default(struct sv_registry *r, struct sv_model **out,
                                   struct rt_error *err);

/* One version of one model. */
struct sv_entry {
    const char *name;
    int64_t version;
    char version_text[24];
    enum sv_model_state state;
    const char *path;
    const char *reason; /* why it is not ready, or why a newer one was not; "" when all is well */
    struct sv_model *model;   /* NULL unless it is ready */
    uint64_t loads, failures; /* how often loading it worked, and how often not */
};

/* What was there at one moment. */
struct sv_model_list {
    int n;
    struct sv_entry
        *entry; /* in the order of loading, versions of a model together and ascending */
    char *text; /* the list's own: what its strings point to */
};

/* All entries, or those of one model when name is not NULL (none: n is 0). Holds references: reset
 * it soon. */
enum rt_status sv_registry_list(struct sv_registry *r, const char *name, struct sv_model_list *out,
                                struct rt_error *err);
void sv_model_list_reset(struct sv_model_list *list); /* takes one that is all zero */

/* Before the server stops: every model refuses new jobs, and runs those it has; with abort, these
 * fail instead. Does not wait. */
void sv_registry_stop(struct sv_registry *r, bool abort);

#endif
