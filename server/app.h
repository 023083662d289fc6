/* What a request handler works with: made by `convd serve`, lent to the HTTP side. */
#ifndef SERVER_APP_H
#define SERVER_APP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/access_log.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/registry.h"
#include "server/version.h"

/* Bounds of one request. Fixed once the server has started. */
struct sv_limits {
    size_t max_body;    /* bytes, as sent and as decompressed; over it: 413 */
    int64_t max_pixels; /* of one picture, as decoded */
};

struct sv_http;

struct sv_app {
    struct sv_registry *registry;
    struct sv_pool *pool; /* for decoding; full is RT_E_BUSY */
    struct sv_cores *cores; /* the budget that the models' executors share */
    struct sv_limits limits;
    uint64_t started; /* sv_now_ns() */
    struct sv_http *http;      /* for what it counts; NULL until it serves */
    struct sv_pool *control;   /* for loading models: a thread of its own */
    bool model_control;        /* load and unload are allowed */
    struct sv_keys *api_keys;  /* what clients have to show; NULL: nothing */
    struct sv_keys *control_keys; /* likewise for model control; NULL: as for all else */
    struct sv_access_log *access_log; /* NULL: none is written */
    int n_origins;                    /* origins whose pages may use this server: "https://a.b", or */
    const char *const *origin;        /* "*"; 0: none */
    struct sv_server_stats stats;
    atomic_bool profiling; /* a profile is being measured: one at a time */
    /* health/ready. Set once all models are loaded, cleared when stopping begins: new inference
     * requests are then refused with RT_E_BUSY, those at work are finished. */
    atomic_bool ready;
};

/* The `serve` command: everything from its arguments (behind the command's name) to the exit
 * status of the process. Prints errors itself. */
int sv_serve_main(int argc, char **argv);

#endif
