/* After a refusal: all nodes that are refused, in one go. */
#ifndef RUNTIME_SURVEY_H
#define RUNTIME_SURVEY_H

#include "runtime/graph.h"

/* src was refused as RT_E_UNSUPPORTED with *err, for inputs of these shapes. When more nodes than one
 * are, *err lists them, each with what is missing; else it stays as it is. Returns
 * RT_E_UNSUPPORTED, or RT_E_NOMEM. */
enum rt_status rt_survey(const struct rt_graph *src, const struct rt_shape *inputs, size_t limit,
                         struct rt_error *err);

#endif
