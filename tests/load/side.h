/* One of the servers or settings that are measured: where it is, and what it is sent. */
#ifndef LOAD_SIDE_H
#define LOAD_SIDE_H

#include "runtime/rt.h"
#include "tests/load/body.h"
#include "tests/load/model.h"
#include "tests/load/settings.h"

#define LD_SIDES_MAX 3 /* as many as a picture has colours */

struct ld_side {
    char *text;              /* the argument, cut into what label and url point to */
    const char *label, *url; /* "http://host:8000" */
    struct ld_settings set;
    struct curl_slist *headers; /* of --header, for what is asked beside the load */
    struct ld_model model;      /* without a name when bodies are raw */
    struct ld_bodies bodies;
};

/* Reads "[LABEL=]URL[,OPTION=VALUE...]", asks the server about its model, makes the requests and
 * sends the first one once, which has to be answered with 200.
 * Reset *out in any case. */
enum rt_status ld_side_open(const char *argument, const struct ld_settings *set,
                            struct ld_side *out, struct rt_error *err);
void ld_side_reset(struct ld_side *s);

#endif
