/* Secrets that clients show: a file with one key a line, which may be read again while it is used. */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include <stdbool.h>

#include "runtime/rt.h"

struct sv_keys;

/* Reads the file: one key a line, blanks around it dropped, empty lines and those that begin with
 * '#' left out. Keys have 8 to 512 visible ASCII characters. RT_E_INVALID names the line, and says
 * when there is no key at all. */
enum rt_status sv_keys_create(const char *path, struct sv_keys **out, struct rt_error *err);
void sv_keys_destroy(struct sv_keys *k); /* takes NULL */

/* Reads the file again. On failure the keys stay as they were. Any thread. */
enum rt_status sv_keys_reload(struct sv_keys *k, struct rt_error *err);

/* Whether text is one of the keys. How long it takes depends on text and on how many keys there are
 * alone, not on how much of one text has in common with them. Any thread. */
bool sv_keys_match(struct sv_keys *k, const char *text);

#endif
