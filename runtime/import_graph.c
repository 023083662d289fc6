/* GraphProto to graph: what its names mean, its constants, inputs and outputs. */
#include "runtime/import_parts.h"

#include <stdio.h>
#include <string.h>

#undef rt_work_nomem

/* --- values -------------------------------------------------------------------------------- */

enum rt_status rt_work_nomem(const struct rt_importer *im)
{
    if (rt_arena_over(im->work))
        return rt_fail(im->err, RT_E_LIMIT, "the structure of the model takes too much memory");
    return rt_fail(im->err, RT_E_NOMEM, "out of memory while reading the file");
}

static enum rt_status name_value(struct rt_importer *im, struct rt_scope *sc, const char *name,
                                 int v)
{
    return rt_names_put(&sc->names, name, v) ? RT_OK : rt_work_nomem(im);
}

enum rt_status rt_add_value(struct rt_importer *im, struct rt_scope *sc, const char *name, int *v)
{
    const char *copy = rt_arena_strdup(sc->g->arena, name, strlen(name));
    *v = copy != NULL ? rt_graph_add_value(sc->g, copy) : -1;
    return *v >= 0 ? name_value(im, sc, name, *v) : rt_graph_nomem(sc->g, im->err);
}

enum rt_status rt_add_constant(struct rt_importer *im, struct rt_scope *sc, const char *name,
                               const struct rt_tensor *t)
{
    int v = rt_names_get(&sc->names, name, RT_UNKNOWN);
    if (v == RT_UNKNOWN) {
        enum rt_status s = rt_add_value(im, sc, name, &v);
        if (s != RT_OK)
            return s;
    }
    if (rt_dtype_is_float(t->dtype) || t->dtype == RT_INT8 || t->dtype == RT_UINT8)
        im->reader.g->n_parameters += rt_shape_numel(&t->shape);
    struct rt_value *value = &sc->g->value[v];
    value->dtype = t->dtype;
    value->shape = t->shape;
    value->data = t->data;
    value->constant = true;
    value->inferred = true;
    value->producer = -1;
    return RT_OK;
}

/* Makes the outer value known in the branch: a constant as it is, another one as an input. */
static enum rt_status capture(struct rt_importer *im, struct rt_scope *sc, const char *name,
                              int outer, int *v)
{
    struct rt_graph *g = sc->g;
    if (sc->outer->g->value[outer].constant) {
        *v = rt_graph_add_value(g, NULL);
        if (*v < 0)
            return rt_graph_nomem(g, im->err);
        g->value[*v] = sc->outer->g->value[outer];
        return name_value(im, sc, name, *v);
    }
    if (g->n_inputs == sc->cap_captured) {
        int cap = 2 * sc->cap_captured + 8;
        int *input = rt_graph_alloc(g, (size_t)cap, sizeof *input);
        int *captured = rt_graph_alloc(g, (size_t)cap, sizeof *captured);
        if (input == NULL || captured == NULL)
            return rt_graph_nomem(g, im->err);
        for (int i = 0; i < g->n_inputs; i++) {
            input[i] = g->input[i];
            captured[i] = sc->captured[i];
        }
        g->input = input;
        sc->captured = captured;
        sc->cap_captured = cap;
    }
    enum rt_status s = rt_add_value(im, sc, name, v);
    if (s != RT_OK)
        return s;
    g->value[*v].is_input = true;
    g->input[g->n_inputs] = *v;
    sc->captured[g->n_inputs++] = outer;
    return RT_OK;
}

enum rt_status rt_resolve(struct rt_importer *im, struct rt_scope *sc, const char *name, int *v)
{
    *v = rt_names_get(&sc->names, name, RT_UNKNOWN);
    if (*v != RT_UNKNOWN || sc->outer == NULL)
        return RT_OK;
    int outer;
    enum rt_status s = rt_resolve(im, sc->outer, name, &outer);
    if (s != RT_OK)
        return s;
    if (outer >= 0)
        return capture(im, sc, name, outer, v);
    *v = outer;
    return RT_OK;
}

/* --- initialisers, inputs, outputs --------------------------------------------------------- */

static enum rt_status add_initializer(struct rt_importer *im, struct rt_scope *sc, const char *name,
                                      const struct rt_tensor *t)
{
    if (rt_names_get(&sc->names, name, RT_UNKNOWN) != RT_UNKNOWN)
        return rt_fail(im->err, RT_E_INVALID, "there are two initializers '%s'", name);
    return rt_add_constant(im, sc, name, t);
}

/* Whether input k is weights that are packed, or most likely turned for one that packs them. */
static bool packs_weights(const struct rt_importer *im, const Onnx__NodeProto *node, size_t k)
{
    const char *domain = rt_text(node->domain), *type = rt_text(node->op_type);
    const bool packs =
        strcmp(type, "Conv") == 0 || strcmp(type, "Gemm") == 0 || strcmp(type, "MatMul") == 0;
    return ((k == 1 && packs) || (k == 0 && strcmp(type, "Transpose") == 0)) &&
           (domain[0] == '\0' || strcmp(domain, "ai.onnx") == 0) &&
           rt_called_function(im, node) == NULL;
}

/* Maps what the graph's nodes read to 1 where all of it is weights that are packed, else to 0. A
 * graph with branches, which may read any of it, is left alone. */
static enum rt_status find_weights(const struct rt_importer *im, const Onnx__GraphProto *graph,
                                   struct rt_names *found)
{
    for (size_t i = 0; i < graph->n_node; i++)
        for (size_t k = 0; k < graph->node[i]->n_attribute; k++)
            if (graph->node[i]->attribute[k]->g != NULL)
                return RT_OK;
    for (size_t i = 0; i < graph->n_node; i++)
        for (size_t k = 0; k < graph->node[i]->n_input; k++) {
            const char *name = rt_text(graph->node[i]->input[k]);
            const bool only = packs_weights(im, graph->node[i], k);
            if (!rt_names_put(found, name, only ? rt_names_get(found, name, 1) : 0))
                return rt_work_nomem(im);
        }
    for (size_t i = 0; i < graph->n_output; i++)
        if (!rt_names_put(found, rt_text(graph->output[i]->name), 0))
            return rt_work_nomem(im);
    return RT_OK;
}

/* Weights that lie in the file where no float may: a copy of all of them would take as long to make
 * as packing them does. */
static void leave_in_file(struct rt_value *v)
{
    v->unscaled = v->data;
    v->data = NULL;
}

static enum rt_status import_initializers(struct rt_importer *im, struct rt_scope *sc,
                                          const Onnx__GraphProto *graph)
{
    struct rt_names weights = { .arena = im->work };
    struct rt_tensor_reader reader = im->reader;
    enum rt_status s = sc->outer == NULL ? find_weights(im, graph, &weights) : RT_OK;
    char what[RT_WHAT];
    struct rt_tensor t;
    for (size_t i = 0; i < graph->n_initializer && s == RT_OK; i++) {
        const char *name = rt_text(graph->initializer[i]->name);
        if (name[0] == '\0')
            return rt_fail(im->err, RT_E_INVALID, "initializer %zu has no name", i);
        snprintf(what, sizeof what, "initializer '%s'", name);
        reader.anywhere = rt_names_get(&weights, name, 0) == 1;
        s = rt_read_tensor(&reader, graph->initializer[i], what, &t, im->err);
        if (s == RT_OK)
            s = add_initializer(im, sc, name, &t);
        if (s == RT_OK && (uintptr_t)t.data % rt_dtype_size(t.dtype) != 0)
            leave_in_file(&sc->g->value[rt_names_get(&sc->names, name, RT_UNKNOWN)]);
    }
    for (size_t i = 0; i < graph->n_sparse_initializer && s == RT_OK; i++) {
        const Onnx__SparseTensorProto *sparse = graph->sparse_initializer[i];
        const char *name = sparse->values != NULL ? rt_text(sparse->values->name) : "";
        if (name[0] == '\0')
            return rt_fail(im->err, RT_E_INVALID, "sparse initializer %zu has no name", i);
        snprintf(what, sizeof what, "initializer '%s'", name);
        s = rt_read_sparse(&im->reader, sparse, what, &t, im->err);
        if (s == RT_OK)
            s = add_initializer(im, sc, name, &t);
    }
    return s;
}

static enum rt_status read_input_shape(struct rt_importer *im, const char *name,
                                       const Onnx__TensorShapeProto *shape, struct rt_shape *out)
{
    struct rt_shape s = { .rank = 0 }, least;
    if (shape->n_dim > RT_MAX_RANK)
        return rt_fail(im->err, RT_E_LIMIT, "input '%s' has %zu dimensions, more than %d", name,
                       shape->n_dim, RT_MAX_RANK);
    s.rank = (int)shape->n_dim;
    least = s;
    for (int i = 0; i < s.rank; i++) {
        const Onnx__TensorShapeProto__Dimension *d = shape->dim[i];
        s.dim[i] = d->has_dim_value ? d->dim_value : -1;
        least.dim[i] = s.dim[i] > 0 ? s.dim[i] : 1;
        /* A few exporters write -1, which says the same as no value. */
        if (s.dim[i] < -1 || s.dim[i] >= RT_BATCH / 2)
            return rt_fail(im->err, s.dim[i] < 0 ? RT_E_INVALID : RT_E_LIMIT,
                           "input '%s': dimension %d is %lld", name, i, (long long)s.dim[i]);
    }
    int64_t n;
    if (!rt_shape_count(&least, &n) || n > RT_BATCH)
        return rt_fail(im->err, RT_E_LIMIT, "input '%s' has too many elements", name);
    *out = s;
    return RT_OK;
}

static enum rt_status read_input_type(struct rt_importer *im, const Onnx__ValueInfoProto *info,
                                      struct rt_value *v)
{
    char what[RT_WHAT];
    snprintf(what, sizeof what, "input '%s'", info->name);
    const Onnx__TypeProto *type = info->type;
    const char *other = type == NULL                   ? NULL
                        : type->has_sequence_type      ? "a sequence"
                        : type->has_map_type           ? "a map"
                        : type->has_optional_type      ? "optional"
                        : type->has_sparse_tensor_type ? "a sparse tensor"
                        : type->has_opaque_type        ? "opaque"
                                                       : NULL;
    if (other != NULL)
        return rt_fail(im->err, RT_E_UNSUPPORTED, "%s is %s, which is not supported", what, other);
    if (type == NULL || type->tensor_type == NULL)
        return rt_fail(im->err, RT_E_INVALID, "%s has no type", what);
    enum rt_status s = rt_check_dtype(type->tensor_type->elem_type, what, &v->dtype, im->err);
    if (s != RT_OK)
        return s;
    if (type->tensor_type->shape == NULL)
        return rt_fail(im->err, RT_E_UNSUPPORTED,
                       "%s has no shape: export the model with at least the number of dimensions",
                       what);
    v->inferred = true;
    return read_input_shape(im, info->name, type->tensor_type->shape, &v->shape);
}

/* Inputs that have an initialiser are defaults which nobody here can override: constants. */
static enum rt_status import_inputs(struct rt_importer *im, struct rt_scope *sc,
                                    const Onnx__GraphProto *graph)
{
    struct rt_graph *g = sc->g;
    if (sc->outer != NULL)
        return graph->n_input == 0 ? RT_OK : rt_fail(im->err, RT_E_INVALID, "a branch has inputs");
    g->input = rt_graph_alloc(g, graph->n_input, sizeof *g->input);
    if (g->input == NULL)
        return rt_graph_nomem(g, im->err);
    for (size_t i = 0; i < graph->n_input; i++) {
        const char *name = rt_text(graph->input[i]->name);
        if (name[0] == '\0')
            return rt_fail(im->err, RT_E_INVALID, "input %zu of the graph has no name", i);
        int v = rt_names_get(&sc->names, name, RT_UNKNOWN);
        if (v >= 0 && g->value[v].constant)
            continue;
        if (v != RT_UNKNOWN)
            return rt_fail(im->err, RT_E_INVALID, "there are two inputs '%s'", name);
        enum rt_status s = rt_add_value(im, sc, name, &v);
        if (s == RT_OK)
            s = read_input_type(im, graph->input[i], &g->value[v]);
        if (s != RT_OK)
            return s;
        g->value[v].is_input = true;
        g->input[g->n_inputs++] = v;
    }
    return RT_OK;
}

static enum rt_status import_outputs(struct rt_importer *im, struct rt_scope *sc,
                                     const Onnx__GraphProto *graph)
{
    struct rt_graph *g = sc->g;
    struct rt_names seen = { .arena = im->work };
    if (graph->n_output == 0)
        return rt_fail(im->err, RT_E_INVALID, "the graph has no outputs");
    g->output = rt_graph_alloc(g, graph->n_output, sizeof *g->output);
    if (g->output == NULL)
        return rt_graph_nomem(g, im->err);
    for (size_t i = 0; i < graph->n_output; i++) {
        const char *name = rt_text(graph->output[i]->name);
        int v;
        enum rt_status s = rt_resolve(im, sc, name, &v);
        if (s != RT_OK)
            return s;
        if (v < 0)
            return rt_fail(im->err, RT_E_INVALID, "nothing makes output '%s' of the graph", name);
        if (sc->outer == NULL && rt_names_get(&seen, name, 0) != 0)
            return rt_fail(im->err, RT_E_INVALID, "there are two outputs '%s'", name);
        if (!rt_names_put(&seen, name, 1))
            return rt_work_nomem(im);
        g->value[v].is_output = true;
        g->output[g->n_outputs++] = v;
    }
    return RT_OK;
}

enum rt_status rt_import_graph(struct rt_importer *im, struct rt_scope *sc,
                               const Onnx__GraphProto *graph)
{
    enum rt_status s = import_initializers(im, sc, graph);
    if (s == RT_OK)
        s = import_inputs(im, sc, graph);
    if (s == RT_OK)
        s = rt_import_nodes(im, sc, graph->node, graph->n_node);
    return s == RT_OK ? import_outputs(im, sc, graph) : s;
}
