/* The bodies of requests that are about the server instead of an inference: the repository and
 * logging extensions. Knows JSON, nothing of models. */
#ifndef SERVER_CODEC_CONTROL_H
#define SERVER_CODEC_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/rt.h"

/* Of .../index: whether only models that are ready are asked for. An empty body says nothing. */
enum rt_status sv_control_index(const char *body, size_t len, bool *ready, struct rt_error *err);

/* Of .../load: *config is the text that stands for config.json, to be freed with rt_free(), or
 * NULL. Files in the request ("file:...") are refused. */
enum rt_status sv_control_load(const char *body, size_t len, char **config, struct rt_error *err);
/* Of .../unload: says nothing that matters, but has to be well formed. */
enum rt_status sv_control_unload(const char *body, size_t len, struct rt_error *err);

/* Of /v2/logging. */
struct sv_log_request {
    /* -1: stays as it is; else whether lines of this level are wanted. */
    int info, warning, error;
    int verbose; /* -1, or the level: more than 0 wants debug lines */
};
/* RT_E_UNSUPPORTED for what cannot be set, as the file. */
enum rt_status sv_control_logging(const char *body, size_t len, struct sv_log_request *out,
                                  struct rt_error *err);

#endif
