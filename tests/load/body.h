/* Requests made beforehand, so that sending one costs as little as it can. */
#ifndef LOAD_BODY_H
#define LOAD_BODY_H

#include "runtime/rt.h"
#include "server/text.h"
#include "tests/load/model.h"
#include "tests/load/settings.h"

#include <curl/curl.h>

#define LD_BODIES_MAX 64
#define LD_ANSWERS_MAX 4

struct ld_answer {
    void *p;
    size_t len;
};

struct ld_body {
    struct sv_text bytes;
    struct curl_slist *headers;
    int n_answers; /* 0: any answer will do */
    struct ld_answer answer[LD_ANSWERS_MAX];
};

/* What takes turns on one URL. */
struct ld_bodies {
    char *url;
    int n, samples; /* samples: of each */
    struct ld_body item[LD_BODIES_MAX];
};

/* The requests that set asks for of model m at base; m's dimensions are fixed by it. m is NULL for
 * raw bodies, which know of no model. Reset *out in any case. */
enum rt_status ld_bodies_make(const struct ld_settings *set, const char *base, struct ld_model *m,
                              struct ld_bodies *out, struct rt_error *err);
void ld_bodies_reset(struct ld_bodies *b);

#endif
