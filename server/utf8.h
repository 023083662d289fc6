/* UTF-8: is it? */
#ifndef SERVER_UTF8_H
#define SERVER_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character that s[0..len) begins with, len >= 1; 0 when there is none: overlong
 * forms, surrogates and what lies past U+10FFFF included. */
size_t sv_utf8_character(const char *s, size_t len);

/* Whether all of s[0..len) is UTF-8; if not, *bad (may be NULL) is the first byte that is not. */
bool sv_utf8_valid(const char *s, size_t len, size_t *bad);

#endif
