/* config.json: what a model's file does not say about how to serve it. Read with Jansson, in
 * model_config.c. Nothing here looks at the model: that its settings fit is checked by the
 * registry. */
#ifndef SERVER_MODEL_CONFIG_H
#define SERVER_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/rt.h"
#include "server/batcher.h"
#include "server/labels.h"
#include "server/preprocess.h"

/* What turns the output of a classifier into scores. */
enum sv_scores {
    SV_SCORES_AUTO, /* softmax, unless the graph ends in probabilities already */
    SV_SCORES_SOFTMAX,
    SV_SCORES_SIGMOID,
    SV_SCORES_NONE, /* the output as it is */
};

/* How a picture becomes the model's input. What is not set follows from the input's shape, as
 * sv_preprocess_derive() says; scale, mean and std belong together: when one of them is set, the
 * others are 1/255 (for float types; 1 for integers), 0 and 1. */
struct sv_input_config {
    bool present; /* the file speaks of an input at all */
    char *name;   /* of the model's inputs; NULL: the first one */
    bool has_color, has_layout, has_resize, has_filter, has_scale, has_fill;
    enum sv_color color;
    bool nhwc;
    enum sv_resize_mode resize;
    enum sv_filter filter;
    int resize_to;     /* pixels; 0: not set */
    int width, height; /* pixels, where the model leaves them free; 0: not set */
    float scale;       /* value = (pixel * scale - mean) / std */
    int n_mean, n_std; /* 0: not set; 1: the same for every channel; 3 */
    float mean[3], std[3];
    float fill; /* 0..255, of the ground that "fit" leaves */
};

/* Which of the versions that are there are loaded. */
enum sv_version_policy {
    SV_VERSIONS_ALL,
    SV_VERSIONS_LATEST,   /* the highest n_versions */
    SV_VERSIONS_SPECIFIC, /* those listed */
};

#define SV_VERSIONS_MAX 32
#define SV_PREFERRED_MAX 16

/* What becomes of a request that has waited longer than it may. */
enum sv_timeout_action {
    SV_TIMEOUT_REJECT,
    SV_TIMEOUT_DELAY, /* it is run when nothing else waits */
};

/* One config.json. Members that it does not set have the value named behind them. */
struct sv_model_config {
    char *name;              /* NULL: follows from the path */
    int max_batch_size;      /* 0: the server's --max-batch */
    char *labels_file;       /* relative to the model's folder, never outside of it; or NULL */
    struct sv_labels labels; /* given in the file itself, instead of labels_file */
    enum sv_scores scores;   /* SV_SCORES_AUTO */
    struct sv_input_config input;
    enum sv_version_policy version_policy;      /* SV_VERSIONS_ALL */
    int n_versions;                             /* to keep, or how many are listed */
    int64_t version[SV_VERSIONS_MAX];           /* those listed */
    int max_queue_size;                         /* 0: the server's --max-queue */
    int max_queue_delay_us;                     /* 0 */
    int n_preferred;                            /* 0: any size is as good as another */
    int preferred_batch_size[SV_PREFERRED_MAX]; /* ascending, each once */
    int priority_levels;                        /* 0: all requests are alike; 1 is the highest */
    int default_priority_level;                 /* 0 with no levels, else the middle one */
    enum sv_timeout_action timeout_action;      /* SV_TIMEOUT_REJECT */
    int default_timeout_us;           /* in the queue, of requests that set none; 0: none */
    bool fixed_timeout;               /* a request's own timeout does not count */
    int instances;                    /* 0: as the load has it */
    int warmup;                       /* runs before it serves; -1: none; 0: see warm_up() */
    enum rt_batchnorm_mode batchnorm; /* RT_BATCHNORM_FOLDED */
    bool allow_batch_statistics;      /* false */
};

/* Reads text[0..len); `file` names it in messages, which say what field is meant:
 * "config.json: input.mean[2]: expected a number, got a string". A key that is not known is
 * refused, with the nearest one that is. *out is written on RT_OK only and ends with
 * sv_model_config_reset(). */
enum rt_status sv_model_config_parse(const char *file, const char *text, size_t len,
                                     struct sv_model_config *out, struct rt_error *err);
/* The same from a file of at most 16 MiB; RT_E_NOT_FOUND when there is none. */
enum rt_status sv_model_config_read(const char *path, struct sv_model_config *out,
                                    struct rt_error *err);
/* The keys that are known, "input" and "input.mean" for one inside of it, by number from 0; NULL
 * behind the last one. server/model_config.schema.json lists the same. */
const char *sv_model_config_key(int i);

/* Takes one that is all zero. */
void sv_model_config_reset(struct sv_model_config *c);

/* Whether a model may be called this: 1 to 255 bytes of UTF-8 without '/' and control characters,
 * neither "." nor "..", and not "stats", which the protocol uses itself. */
bool sv_model_name_valid(const char *name);

#endif
