/* The command line of convd-load: one table of options, from which a side may differ. */
#ifndef LOAD_SETTINGS_H
#define LOAD_SETTINGS_H

#include "runtime/rt.h"
#include "server/options.h"

enum ld_body_kind { LD_BINARY, LD_JSON, LD_IMAGE, LD_BYTES, LD_RAW };

struct ld_settings {
    /* What is sent: each side may have its own. */
    const char *model, *path;
    int body; /* enum ld_body_kind */
    int batch;
    bool check;
    struct sv_option_list data, shape, header;
    /* How it is sent and what becomes of it: the same for all sides. */
    struct sv_option_list concurrency, rate;
    int arrivals; /* enum ld_process */
    int connections, rounds, seed;
    bool knee;
    double limit, time, warm_up, timeout;
    const char *json, *plot, *title;
};

extern const struct sv_command ld_command;
extern const struct ld_settings ld_defaults;

const char *ld_body_name(enum ld_body_kind kind);

/* Gives one of a side's own options its value. RT_E_INVALID for others, too. */
enum rt_status ld_settings_override(struct ld_settings *set, const char *side, const char *name,
                                    const char *value, struct rt_error *err);

#endif
