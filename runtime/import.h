/* ONNX bytes to a graph. Everything that a file can get wrong before shapes are known is found
 * here, once: later steps rely on the graph. */
#ifndef RUNTIME_IMPORT_H
#define RUNTIME_IMPORT_H

#include "runtime/graph.h"

#define RT_MAX_IR_VERSION 13
#define RT_MAX_OPSET 27

/* Reads the model in bytes[0..len). *out is written on RT_OK only, ended by rt_graph_destroy().
 *
 * The graph is tidy. Its inputs have types and shapes, where -1 is a dimension that the file leaves
 * free; nothing else is inferred. Constants may point into bytes (raw data that lies aligned is not
 * copied), which must therefore stay as they are while the graph lives. External data is read from
 * options->folder, never from outside of it. Model-local functions are inlined; Constant nodes are
 * constants; an If keeps its branches as attributes (see inline.h).
 *
 * The graph's memory and what is needed on the way are bounded by memory_limit bytes each (0: no
 * bound), the latter also by a bound of its own. RT_E_UNSUPPORTED lists every node whose operator
 * is not served, in one sentence. options may be NULL. */
enum rt_status rt_import(const void *bytes, size_t len, const struct rt_options *options,
                         size_t memory_limit, struct rt_graph **out, struct rt_error *err);

#endif
