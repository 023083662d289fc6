/* Reading one value of a JSON file of settings: what is wrong with it is said with the file and the
 * field. */
#ifndef SERVER_CONFIG_VALUE_H
#define SERVER_CONFIG_VALUE_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/rt.h"

/* What a key's function needs to know to complain. */
struct sv_place {
    const char *file;
    char field[112]; /* "input.mean" */
    struct rt_error *err;
};

/* The place of an array's element i. */
struct sv_place sv_place_element(const struct sv_place *array, size_t i);

/* "an object", "a whole number", ... */
const char *sv_json_type_name(const json_t *v);

/* All of these write *out on RT_OK only. */
enum rt_status sv_read_int(const struct sv_place *at, json_t *v, int min, int max, int *out);
enum rt_status sv_read_float(const struct sv_place *at, json_t *v, float *out);
enum rt_status sv_read_bool(const struct sv_place *at, json_t *v, bool *out);
/* *out, which rt_free() takes, is replaced by a copy of the string. */
enum rt_status sv_read_string(const struct sv_place *at, json_t *v, char **out);
/* *out is the index of the word in words, which ends with NULL; letter case does not matter. */
enum rt_status sv_read_word(const struct sv_place *at, json_t *v, const char *const *words,
                            int *out);

/* Errors to return. */
enum rt_status sv_wrong_type(const struct sv_place *at, const char *expected, const json_t *v);
enum rt_status sv_place_no_memory(const struct sv_place *at);

#endif
