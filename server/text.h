/* Text that grows: what answers are written into. */
#ifndef SERVER_TEXT_H
#define SERVER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Begins all zero. When memory runs out everything written from then on is dropped and failed is
 * set, so that only the end has to be checked. */
struct sv_text {
    char *p; /* p[0..len), no zero byte behind it; rt_free() */
    size_t len, room;
    bool failed;
};

void sv_text_reset(struct sv_text *t);

/* Room for n more bytes, whose number used is then added to len; NULL when there is none. */
char *sv_text_reserve(struct sv_text *t, size_t n);
void sv_text_bytes(struct sv_text *t, const void *bytes, size_t len);
void sv_text_add(struct sv_text *t, const char *s);
void sv_text_printf(struct sv_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void sv_text_json(struct sv_text *t, const char *s, size_t len);
void sv_text_json_str(struct sv_text *t, const char *s);
/* Text of SVG and HTML, with what those take for their own written otherwise. */
void sv_text_xml(struct sv_text *t, const char *s);
void sv_text_int(struct sv_text *t, int64_t v);
void sv_text_uint(struct sv_text *t, uint64_t v);
void sv_text_float(struct sv_text *t, float v);

#endif
