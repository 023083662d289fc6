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
    struct sv_stats stats; /* counted by the batcher; read at any time */
    double load_seconds;
    atomic_int refs; /* the registry's own business */
};

struct sv_model *sv_model_retain(struct sv_model *m);
/* The last one waits for accepted jobs and frees: never from a job's done. Takes NULL. */
void sv_model_release(struct sv_model *m);

enum sv_model_state {
    SV_MODEL_READY,
    SV_MODEL_FAILED, /* could not be loaded; the entry says why */
};
/* "READY", "UNAVAILABLE": the protocol's words. */
const char *sv_model_state_name(enum sv_model_state state);

struct sv_registry_options {
    int max_batch;          /* for models whose config.json does not say; 0: 8 */
    int max_queue;          /* likewise; >= 1 */
    struct sv_cores *cores; /* the budget, shared by all models; must outlive every model */
    size_t max_pixels;      /* of a picture, goes into every model's preprocess; 0: the default */
    bool exact;             /* no algorithm that reorders sums */
};

enum rt_status sv_registry_create(const struct sv_registry_options *options,
                                  struct sv_registry **out, struct rt_error *err);
/* Drops the registry's references. Takes NULL. */
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
    const char *reason;     /* why it is not ready; "" when it is */
    struct sv_model *model; /* NULL unless it is ready */
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
