/* Writes JSON to a stream or a text as it is told, indented for reading, without building it first.
 *
 * Objects hold members, so key is their name; arrays hold elements, so key is NULL there. What
 * nests wrongly is the caller's bug. Write errors stay in the stream (ferror()). */
#ifndef SERVER_JSON_OUT_H
#define SERVER_JSON_OUT_H

#include "runtime/rt.h"
#include "server/text.h"

#include <stdio.h>

#define SV_JSON_DEPTH 16

struct sv_json {
    FILE *f; /* one of the two */
    struct sv_text *t;
    int depth;
    struct {
        char close;
        bool empty;
        bool inlined; /* on one line with all that is in it */
    } level[SV_JSON_DEPTH];
};

/* Starts a document: one value, and the newline behind it when that value ends. */
void sv_json_init(struct sv_json *j, FILE *f);
void sv_json_init_text(struct sv_json *j, struct sv_text *t);

void sv_json_object(struct sv_json *j, const char *key); /* a line a member */
void sv_json_array(struct sv_json *j, const char *key);  /* a line an element */
void sv_json_row(struct sv_json *j, const char *key);    /* an object on one line */
void sv_json_end(struct sv_json *j);                     /* closes the last one opened */

/* Bytes that are not UTF-8 become U+FFFD. A NULL string is written as null. */
void sv_json_string(struct sv_json *j, const char *key, const char *value);
void sv_json_int(struct sv_json *j, const char *key, int64_t value);
void sv_json_bool(struct sv_json *j, const char *key, bool value);
/* The shortest decimal that reads back as the same value, of a double or of a float; null for NaN
 * and the infinities, which JSON has no words for. */
void sv_json_double(struct sv_json *j, const char *key, double value);
void sv_json_float(struct sv_json *j, const char *key, float value);
void sv_json_shape(struct sv_json *j, const char *key, const struct rt_shape *value);

#endif
