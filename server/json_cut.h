/* Takes the tensor data out of a request's JSON, so that what is left is small and can be given to
 * a parser that builds a tree. */
#ifndef SERVER_JSON_CUT_H
#define SERVER_JSON_CUT_H

#include "runtime/rt.h"
#include "server/text.h"

/* One array that was cut out: text[from..to), its brackets included. */
struct sv_cut {
    int64_t element; /* it is the "data" of inputs[element] */
    size_t from, to;
    size_t at; /* where the "[]" in its place stands in the rest */
};

struct sv_cuts {
    int n, room;
    struct sv_cut *cut; /* in the order of the text */
};

/* Bytes that may be left once the data is cut out. */
#define SV_JSON_REST_MAX ((size_t)256 * 1024)

/* Writes text[0..len) to *rest with the array of every inputs[i].data replaced by [], and notes
 * those arrays in *cuts. A zero byte must follow somewhere at or behind text[len]. Checks no more
 * of JSON than it needs for that; what is wrong with text is wrong with the rest or with a cut as
 * well. RT_E_INVALID: nested deeper than SV_JSON_DEPTH_MAX, or something is not closed;
 * RT_E_LIMIT: the rest is too long. Both outputs begin all zero and are to be reset in any case. */
enum rt_status sv_json_cut(const char *text, size_t len, struct sv_text *rest, struct sv_cuts *cuts,
                           struct rt_error *err);
void sv_cuts_reset(struct sv_cuts *cuts);

/* The array of inputs[element].data; NULL when none was cut out there. */
const struct sv_cut *sv_cuts_find(const struct sv_cuts *cuts, int64_t element);
/* The byte of the text that stands at this place in the rest. */
size_t sv_cuts_offset(const struct sv_cuts *cuts, size_t at);

#endif
