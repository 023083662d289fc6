/* A tensor's elements as a JSON array, both ways. This is where the bytes of a request are: no
 * tree is built of them. */
#ifndef SERVER_TENSOR_JSON_H
#define SERVER_TENSOR_JSON_H

#include "runtime/rt.h"
#include "server/text.h"

/* Levels of arrays and objects that a request may nest. */
#define SV_JSON_DEPTH_MAX 100

/* Whether elements of this type can be written as JSON at all: not the reduced floats. */
bool sv_tensor_json_has(enum rt_dtype t);

/* Reads the array text[0..len), which ends in its ']'; its numbers, however nested, fill
 * dst[0..count) in the order of reading. Integers must fit their type, floats are rounded to
 * nearest, BOOL is true or false; depth is how deep the array itself lies. `name` is the input's,
 * for messages, which name the element. RT_E_INVALID; dst then holds nothing of use. */
enum rt_status sv_tensor_json_read(const char *text, size_t len, int depth, enum rt_dtype dtype,
                                   void *dst, int64_t count, const char *name,
                                   struct rt_error *err);

/* The shape that the nesting of the array text[0..len) gives, whose brackets are known to match.
 * RT_E_INVALID: it is ragged, too deep for a tensor, or holds something else than numbers. What the
 * numbers are, and commas, is for sv_tensor_json_read() to check. */
enum rt_status sv_tensor_json_shape(const char *text, size_t len, const char *name,
                                    struct rt_shape *out, struct rt_error *err);

/* Writes the elements of t, flat. Its type must be one that sv_tensor_json_has(). */
void sv_tensor_json_write(struct sv_text *out, const struct rt_tensor *t);
/* The same nested by its shape. With row >= 0, only what dimension 0 holds there. */
void sv_tensor_json_write_nested(struct sv_text *out, const struct rt_tensor *t, int64_t row);

#endif
