/* What `convd serve` can be told: one table, from which flags, variables, the settings file and the
 * help follow. */
#ifndef SERVER_SERVE_SETTINGS_H
#define SERVER_SERVE_SETTINGS_H

#include "server/options.h"

enum sv_sandbox { SV_SANDBOX_ON, SV_SANDBOX_OFF };

/* Strings are NULL where nothing is set. Times are in seconds. */
struct sv_serve_settings {
    const char *config;
    bool print_config;
    struct sv_option_list models;
    bool watch;
    double watch_interval;
    bool model_control;
    double queue_timeout;
    int max_connections_each;
    int header_timeout;
    int body_timeout;
    const char *tls_cert;
    const char *tls_key;
    const char *api_keys;
    const char *control_keys;
    struct sv_option_list cors;
    const char *access_log;
    const char *host;
    int port;
    int threads;
    int max_batch;
    int max_queue;
    size_t max_model_memory;
    size_t max_body;
    size_t max_body_memory;
    size_t max_answer;
    size_t max_queue_memory;
    size_t max_pixels;
    int max_connections;
    int idle_timeout;
    double drain_timeout;
    bool exact;
    size_t extra_weights;
    int sandbox; /* enum sv_sandbox */
    int log_level;
    int log_format;
};

extern const struct sv_command sv_serve_command;
extern const struct sv_serve_settings sv_serve_defaults;

/* Lowers the defaults in set to what a memory limit of this many bytes can bear with cores cores at
 * work: half of it for a model, an eighth for bodies and answers, an eighth for tensors that wait,
 * a sixteenth for an answer that is being computed, the rest for pictures being decoded and the
 * program itself. Called before options are read, which win.
 * limit 0 changes nothing. */
void sv_serve_fit(struct sv_serve_settings *set, size_t limit, int cores);

#endif
