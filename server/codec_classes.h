/* The classification extension: a tensor's largest values as strings. Between the files of the
 * codec. */
#ifndef SERVER_CODEC_CLASSES_H
#define SERVER_CODEC_CLASSES_H

#include "runtime/rt.h"
#include "server/labels.h"
#include "server/text.h"

/* Elements of a sample among which is chosen, at most. */
#define SV_CLASSES_FROM 1000000

/* Whether values of this type are ranked. */
bool sv_classes_has(enum rt_dtype t);

/* For each sample of t (dimension 0 counts them when batched, else there is one) its k largest
 * values, or as many as there are: "<value>:<index>", and ":<label>" where there is one (labels may
 * be NULL). In descending order, of equal ones the lower index first, NaN last. Written to *out as
 * the protocol writes BYTES: each string behind its length in 4 bytes, least significant first.
 * *shape is that of the strings. name is the output's, for messages. RT_E_NOMEM; RT_E_INVALID: a
 * sample has more than SV_CLASSES_FROM elements. */
enum rt_status sv_classes_write(const struct rt_tensor *t, bool batched, int64_t k,
                                const struct sv_labels *labels, const char *name,
                                struct sv_text *out, struct rt_shape *shape, struct rt_error *err);

/* The same strings, out[0..len), as elements of a JSON array with its brackets. */
void sv_classes_json(const char *strings, size_t len, struct sv_text *to);

#endif
