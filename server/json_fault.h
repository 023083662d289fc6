/* What is wrong with a JSON text, in words that name neither Jansson nor its flags. */
#ifndef SERVER_JSON_FAULT_H
#define SERVER_JSON_FAULT_H

#include <jansson.h>

/* Lives as long as *fault. */
const char *sv_json_fault(const json_error_t *fault);

#endif
