/* Reads JSON by Jansson, when memory may run out: left to itself its reader then goes on with a
 * string that lacks its end, and reads beyond it. */
#ifndef SERVER_JSON_MEMORY_H
#define SERVER_JSON_MEMORY_H

#include <stddef.h>

#include "runtime/rt.h"

struct json_t;
struct json_error_t;

/* json_loadb(), which is left at once when an allocation fails. RT_E_NOMEM then, and RT_E_INVALID
 * where *fault says why; *root is written on success only, and nothing is left over otherwise. */
enum rt_status sv_json_load(const char *text, size_t len, size_t flags, struct json_t **root,
                            struct json_error_t *fault);

#endif
