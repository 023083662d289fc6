/* Percent-encoding in paths and queries (RFC 3986). */
#ifndef SERVER_PERCENT_H
#define SERVER_PERCENT_H

#include <stdbool.h>
#include <stddef.h>

/* Decodes p[0..len) to out[0..room), with a zero byte behind it. False when a % is not followed by
 * two hexadecimal digits, gives a zero byte, or the text does not fit. */
bool sv_percent_decode(const char *p, size_t len, char *out, size_t room);

#endif
