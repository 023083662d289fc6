/* The names of a model's classes. */
#ifndef SERVER_LABELS_H
#define SERVER_LABELS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/rt.h"

/* All zero: no labels. */
struct sv_labels {
    int n;
    char **label; /* label[0..n), each its own; UTF-8 */
};

/* One label a line; '\r' and a byte order mark are dropped, an empty line is a class without a
 * label, and lines that are not UTF-8 are refused. *out is written on RT_OK only. */
enum rt_status sv_labels_parse(const char *text, size_t len, struct sv_labels *out,
                               struct rt_error *err);
/* The same from a file of at most 16 MiB. RT_E_NOT_FOUND when there is none. */
enum rt_status sv_labels_read(const char *path, struct sv_labels *out, struct rt_error *err);
/* Appends a copy of label (len bytes, any). */
enum rt_status sv_labels_add(struct sv_labels *l, const char *label, size_t len,
                             struct rt_error *err);
void sv_labels_reset(struct sv_labels *l);

/* NULL when class i has no label. */
const char *sv_labels_get(const struct sv_labels *l, int64_t i);

#endif
