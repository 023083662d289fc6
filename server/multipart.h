/* multipart/form-data: the parts of a body that lies in memory. */
#ifndef SERVER_MULTIPART_H
#define SERVER_MULTIPART_H

#include "runtime/rt.h"

#include <stdbool.h>
#include <stddef.h>

/* One part; bytes[0..len) lies in the body. */
struct sv_part {
    const char *bytes;
    size_t len;
    bool has_file_name;
    char file_name[128]; /* cut to fit, as the next */
    char field[64];      /* the name of the form's field; "" when there is none */
    bool is_image;       /* its Content-Type says so */
};

struct sv_parts {
    const char *at, *end;
    char delimiter[80]; /* CRLF, two dashes and the boundary (RFC 2046: at most 70 characters) */
    size_t delimiter_len;
};

/* Whether this Content-Type (NULL: none) says multipart/form-data. */
bool sv_is_multipart(const char *content_type);

/* Begins on body[0..len), whose boundary is in content_type. RT_E_INVALID: there is no boundary, or
 * it does not occur. */
enum rt_status sv_parts_begin(struct sv_parts *p, const char *content_type, const char *body,
                              size_t len, struct rt_error *err);
/* The next part to *out, or *out untouched and *more false behind the last one. RT_E_INVALID: the
 * body ends too early. */
enum rt_status sv_parts_next(struct sv_parts *p, struct sv_part *out, bool *more,
                             struct rt_error *err);

#endif
