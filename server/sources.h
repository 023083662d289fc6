/* Which model files a path stands for, by names alone: nothing is opened but folders. */
#ifndef SERVER_SOURCES_H
#define SERVER_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/rt.h"

/* One version of one model. Strings are the list's. */
struct sv_source {
    char *name; /* from the file or folder; config.json may say otherwise */
    int64_t version;
    char *path;   /* the .onnx file */
    char *config; /* its config.json; NULL: there is none */
    char *labels; /* its labels.txt; NULL: there is none */
};

struct sv_sources {
    int n;
    struct sv_source *item; /* by name, then by version */
};

/* The forms are those of sv_registry_add(). RT_E_NOT_FOUND when path is not there or nothing in it
 * is a model, RT_E_INVALID for a file that is not .onnx and for folders that could be read in two
 * ways. Folders inside it that may not be read are left out, with a line in the log. err must not
 * be NULL. *out is written on RT_OK only. */
enum rt_status sv_sources_find(const char *path, struct sv_sources *out, struct rt_error *err);
void sv_sources_reset(struct sv_sources *s);

/* What tells that the files of a source have changed: a number made of their sizes, times and
 * identities. 0: not looked at yet. */
struct sv_stamp {
    uint64_t value;
};
struct sv_stamp sv_source_stamp(const struct sv_source *source);

#endif
