/* Walks over JSON text in place: members and elements as pieces of the text, without a tree. For
 * requests whose tensors lie anywhere in them. */
#ifndef SERVER_JSON_SPAN_H
#define SERVER_JSON_SPAN_H

#include "runtime/rt.h"

#include <stdbool.h>
#include <stddef.h>

/* One value: p[0..len), without white space around it. */
struct sv_span {
    const char *p;
    size_t len;
};

/* The members of an object, or the elements of an array. */
struct sv_spans {
    const char *text; /* for messages, which name bytes of it */
    const char *at;   /* behind what has been handed out */
    bool object, begun;
};

/* The one value that text[0..len) is. Brackets and strings are checked all through it, and that it
 * is nested at most SV_JSON_DEPTH_MAX deep: the calls below may rely on it. What other values are
 * made of is checked by whoever reads them. RT_E_INVALID. */
enum rt_status sv_span_document(const char *text, size_t len, struct sv_span *out,
                                struct rt_error *err);

/* Begins on v, a value in the document text[...]; false when it is neither object nor array. */
bool sv_spans_begin(struct sv_spans *s, const char *text, struct sv_span v);
/* The next one to *value, and for objects its name, quotes included, to *key (else untouched);
 * *more is false behind the last. RT_E_INVALID for commas and colons that are missing or too
 * many. */
enum rt_status sv_spans_next(struct sv_spans *s, struct sv_span *key, struct sv_span *value,
                             bool *more, struct rt_error *err);

/* Whether v is this string, written without escapes; word has no quotes. */
bool sv_span_is(struct sv_span v, const char *word);

#endif
