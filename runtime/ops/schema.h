/* Which attributes ONNX gives each of its operators, in which versions of the operator set. */
#ifndef RUNTIME_OPS_SCHEMA_H
#define RUNTIME_OPS_SCHEMA_H

#include "runtime/graph.h"

/* Checks the n attributes that a file gives an operator of ai.onnx against that version of the
 * operator set: each must exist there and have its type, and those that must be there must be.
 * On failure the sentence in *err names the attribute, not the node. Operators that schema.def does
 * not list may have any attributes. */
enum rt_status rt_schema_check(const char *op, int opset, const struct rt_attr *attr, int n,
                               struct rt_error *err);

#endif
