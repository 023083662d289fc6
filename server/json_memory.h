/* Whether Jansson failed for want of memory: its own error codes do not tell that apart from a
 * syntax error. */
#ifndef SERVER_JSON_MEMORY_H
#define SERVER_JSON_MEMORY_H

#include <stdbool.h>

/* Whether an allocation of Jansson's has failed on this thread since the last call. */
bool sv_json_out_of_memory(void);

#endif
