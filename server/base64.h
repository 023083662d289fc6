/* Base64 as JSON carries it. */
#ifndef SERVER_BASE64_H
#define SERVER_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Decodes text[0..len), in either alphabet (RFC 4648, 4 and 5), with or without padding, to
 * out[0..len / 4 * 3 + 3). A backslash before a slash, as some write JSON, is passed over. False
 * when it is something else. */
bool sv_base64_decode(const char *text, size_t len, unsigned char *out, size_t *out_len);

#endif
