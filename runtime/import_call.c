/* Nodes that hold other nodes: calls of the model's functions, and the branches of an If. */
#include "runtime/import_parts.h"
#include "runtime/ops/op.h"

#include <stdio.h>
#include <string.h>

/* Calls and branches inside one another; bounds our own recursion too. */
#define MAX_DEPTH 100

/* Longest "domain name overload" that a function may have. */
#define KEY 512

static enum rt_status enter(struct rt_importer *im, const char *what)
{
    if (im->depth == MAX_DEPTH)
        return rt_fail(im->err, RT_E_LIMIT, "%s: calls and branches are nested too deep", what);
    im->depth++;
    return RT_OK;
}

/* --- functions ----------------------------------------------------------------------------- */

/* No part of a name has a newline in it that somebody meant. */
static bool function_key(char key[KEY], const char *domain, const char *name, const char *overload)
{
    if (domain != NULL && strcmp(domain, "ai.onnx") == 0)
        domain = "";
    return snprintf(key, KEY, "%s\n%s\n%s", rt_text(domain), rt_text(name), rt_text(overload)) <
           KEY;
}

enum rt_status rt_register_functions(struct rt_importer *im)
{
    im->functions = (struct rt_names){ .arena = im->work };
    for (size_t i = 0; i < im->model->n_functions; i++) {
        const Onnx__FunctionProto *f = im->model->functions[i];
        char key[KEY];
        if (rt_text(f->name)[0] == '\0')
            return rt_fail(im->err, RT_E_INVALID, "function %zu has no name", i);
        if (!function_key(key, f->domain, f->name, f->overload))
            return rt_fail(im->err, RT_E_LIMIT, "the name of function %zu is too long", i);
        if (rt_names_get(&im->functions, key, -1) >= 0)
            return rt_fail(im->err, RT_E_INVALID, "there are two functions '%s'", f->name);
        const char *copy = rt_arena_strdup(im->work, key, strlen(key));
        if (copy == NULL || !rt_names_put(&im->functions, copy, (int)i))
            return rt_work_nomem(im);
    }
    return RT_OK;
}

const Onnx__FunctionProto *rt_called_function(const struct rt_importer *im,
                                              const Onnx__NodeProto *node)
{
    char key[KEY];
    if (im->functions.n == 0 || !function_key(key, node->domain, node->op_type, node->overload))
        return NULL;
    int i = rt_names_get(&im->functions, key, -1);
    return i >= 0 ? im->model->functions[i] : NULL;
}

static bool takes_attribute(const Onnx__FunctionProto *f, const char *name)
{
    for (size_t i = 0; i < f->n_attribute; i++)
        if (strcmp(f->attribute[i], name) == 0)
            return true;
    for (size_t i = 0; i < f->n_attribute_proto; i++)
        if (strcmp(rt_text(f->attribute_proto[i]->name), name) == 0)
            return true;
    return false;
}

/* The call's attributes, and the function's defaults for those that it does not give. */
static enum rt_status bind(struct rt_importer *im, const Onnx__FunctionProto *f, const char *what,
                           const struct rt_attr *given, int n_given, struct rt_bindings *out)
{
    struct rt_attr *defaults;
    int n_defaults;
    for (int i = 0; i < n_given; i++) {
        if (!takes_attribute(f, given[i].name))
            return rt_fail(im->err, RT_E_INVALID, "%s: the function has no attribute '%s'", what,
                           given[i].name);
        if (given[i].type == RT_ATTR_GRAPH)
            return rt_fail(im->err, RT_E_UNSUPPORTED, "%s: attribute '%s' is a graph", what,
                           given[i].name);
    }
    enum rt_status s = rt_read_attrs(im, f->attribute_proto, f->n_attribute_proto, NULL, what,
                                     &defaults, &n_defaults);
    if (s != RT_OK)
        return s;
    struct rt_attr *all =
        rt_arena_array(im->work, (size_t)n_given + (size_t)n_defaults, sizeof *all);
    if (all == NULL)
        return rt_work_nomem(im);
    int n = 0;
    for (int i = 0; i < n_given; i++)
        all[n++] = given[i];
    for (int i = 0; i < n_defaults; i++) {
        bool overridden = false;
        for (int k = 0; k < n_given; k++)
            overridden |= strcmp(given[k].name, defaults[i].name) == 0;
        if (!overridden)
            all[n++] = defaults[i];
    }
    *out = (struct rt_bindings){ .n = n, .attr = all };
    return RT_OK;
}

static enum rt_status bind_inputs(struct rt_importer *im, struct rt_scope *sc,
                                  struct rt_scope *body, const Onnx__NodeProto *node,
                                  const Onnx__FunctionProto *f, const char *what)
{
    if (node->n_input > f->n_input)
        return rt_fail(im->err, RT_E_INVALID, "%s has %zu inputs, the function takes %zu", what,
                       node->n_input, f->n_input);
    for (size_t i = 0; i < f->n_input; i++) {
        int v = RT_ABSENT;
        if (rt_names_get(&body->names, f->input[i], RT_UNKNOWN) != RT_UNKNOWN)
            return rt_fail(im->err, RT_E_INVALID, "%s: the function has two inputs '%s'", what,
                           f->input[i]);
        if (i < node->n_input && node->input[i][0] != '\0') {
            enum rt_status s = rt_resolve(im, sc, node->input[i], &v);
            if (s != RT_OK)
                return s;
            if (v == RT_UNKNOWN)
                return rt_fail(im->err, RT_E_INVALID, "%s reads '%s', which nothing makes", what,
                               node->input[i]);
        }
        if (!rt_names_put(&body->names, f->input[i], v))
            return rt_work_nomem(im);
    }
    return RT_OK;
}

/* An output that the function hands through, or names twice, and that the body therefore does not
 * make: copied by an Identity once the body is there. */
static bool is_handed_through(const Onnx__FunctionProto *f, size_t i)
{
    for (size_t k = 0; k < f->n_input; k++)
        if (strcmp(f->input[k], f->output[i]) == 0)
            return true;
    for (size_t k = 0; k < i; k++)
        if (strcmp(f->output[k], f->output[i]) == 0)
            return true;
    return false;
}

static enum rt_status bind_outputs(struct rt_importer *im, struct rt_scope *sc,
                                   struct rt_scope *body, const Onnx__NodeProto *node,
                                   const Onnx__FunctionProto *f, const char *what)
{
    if (node->n_output > f->n_output)
        return rt_fail(im->err, RT_E_INVALID, "%s has %zu outputs, the function makes %zu", what,
                       node->n_output, f->n_output);
    for (size_t i = 0; i < node->n_output; i++) {
        if (node->output[i][0] == '\0' || is_handed_through(f, i))
            continue;
        int v = rt_names_get(&sc->names, node->output[i], RT_UNKNOWN);
        sc->g->value[v].producer = RT_WANTED;
        if (!rt_names_put(&body->names, f->output[i], v))
            return rt_work_nomem(im);
    }
    return RT_OK;
}

static enum rt_status finish_outputs(struct rt_importer *im, struct rt_scope *sc,
                                     struct rt_scope *body, const Onnx__NodeProto *node,
                                     const Onnx__FunctionProto *f, const char *what)
{
    for (size_t i = 0; i < node->n_output; i++) {
        if (node->output[i][0] == '\0')
            continue;
        int made = rt_names_get(&body->names, f->output[i], RT_UNKNOWN);
        if (made < 0 || sc->g->value[made].producer == RT_WANTED)
            return rt_fail(im->err, RT_E_INVALID, "%s: nothing in the function makes '%s'", what,
                           f->output[i]);
        int v = rt_names_get(&sc->names, node->output[i], RT_UNKNOWN);
        if (made == v)
            continue;
        int copy = rt_graph_add_node(sc->g, &rt_op_Identity, sc->g->value[v].name, 1, 1);
        if (copy < 0)
            return rt_graph_nomem(sc->g, im->err);
        sc->g->node[copy].in[0] = made;
        sc->g->node[copy].out[0] = v;
        sc->g->value[v].producer = copy;
    }
    return RT_OK;
}

static const char *call_prefix(const struct rt_importer *im, const struct rt_scope *sc,
                               const Onnx__NodeProto *node)
{
    const char *name = rt_text(node->name)[0] != '\0' || node->n_output == 0 ? rt_text(node->name)
                                                                             : node->output[0];
    size_t len = strlen(sc->prefix) + strlen(name) + 2;
    char *prefix = rt_arena_alloc(im->work, len);
    if (prefix != NULL)
        snprintf(prefix, len, "%s%s/", sc->prefix, name);
    return prefix;
}

enum rt_status rt_import_call(struct rt_importer *im, struct rt_scope *sc,
                              const Onnx__NodeProto *node, const Onnx__FunctionProto *f,
                              const char *what, const struct rt_attr *attr, int n_attr)
{
    for (const struct rt_call_site *c = sc->call; c != NULL; c = c->up)
        if (c->function == f)
            return rt_fail(im->err, RT_E_INVALID, "%s: the function calls itself", what);
    struct rt_bindings bound;
    struct rt_call_site call = { .function = f, .up = sc->call };
    struct rt_scope body = {
        .g = sc->g,
        .names = { .arena = im->work },
        .opsets = { f->n_opset_import, f->opset_import },
        .bound = &bound,
        .call = &call,
        .prefix = call_prefix(im, sc, node),
    };
    if (body.prefix == NULL)
        return rt_work_nomem(im);
    if (body.opsets.n == 0)
        body.opsets = sc->opsets;
    enum rt_status s = enter(im, what);
    if (s != RT_OK)
        return s;
    s = rt_check_opsets(&body.opsets, what, im->err);
    if (s == RT_OK)
        s = rt_spend(im, 0, (int64_t)f->n_input + (int64_t)f->n_output);
    if (s == RT_OK)
        s = bind(im, f, what, attr, n_attr, &bound);
    if (s == RT_OK)
        s = bind_inputs(im, sc, &body, node, f, what);
    if (s == RT_OK)
        s = bind_outputs(im, sc, &body, node, f, what);
    if (s == RT_OK)
        s = rt_import_nodes(im, &body, f->node, f->n_node);
    if (s == RT_OK)
        s = finish_outputs(im, sc, &body, node, f, what);
    im->depth--;
    return s;
}

/* --- branches ------------------------------------------------------------------------------ */

/* Imports one branch into a graph of its own, which shares the arenas. */
static enum rt_status import_branch(struct rt_importer *im, struct rt_scope *sc,
                                    const Onnx__GraphProto *graph, const char *what,
                                    struct rt_attr *attr, int n_out, struct rt_scope *branch)
{
    struct rt_graph *g = rt_graph_alloc(sc->g, 1, sizeof *g);
    if (g == NULL)
        return rt_graph_nomem(sc->g, im->err);
    g->arena = sc->g->arena;
    g->bulk = sc->g->bulk;
    g->opset = sc->g->opset;
    g->producer = sc->g->producer;
    *branch = (struct rt_scope){
        .outer = sc,
        .g = g,
        .names = { .arena = im->work },
        .opsets = sc->opsets,
        .bound = sc->bound,
        .call = sc->call,
        .prefix = sc->prefix,
    };
    enum rt_status s = rt_import_graph(im, branch, graph);
    if (s == RT_OK && g->n_outputs < n_out)
        s = rt_fail(im->err, RT_E_INVALID, "%s has %d outputs, its %s makes %d", what, n_out,
                    attr->name, g->n_outputs);
    attr->g = g;
    return s;
}

static enum rt_status add_captured(struct rt_importer *im, struct rt_scope *sc, int node,
                                   const struct rt_scope *branch)
{
    for (int i = 0; i < branch->g->n_inputs; i++)
        if (rt_graph_add_input(sc->g, &sc->g->node[node], branch->captured[i]) < 0)
            return rt_graph_nomem(sc->g, im->err);
    return RT_OK;
}

static struct rt_attr *find(struct rt_attr *attr, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(attr[i].name, name) == 0)
            return &attr[i];
    return NULL;
}

static const Onnx__GraphProto *graph_of(const Onnx__NodeProto *proto, const char *name)
{
    for (size_t i = 0; i < proto->n_attribute; i++)
        if (strcmp(rt_text(proto->attribute[i]->name), name) == 0)
            return proto->attribute[i]->g;
    return NULL;
}

enum rt_status rt_import_branches(struct rt_importer *im, struct rt_scope *sc,
                                  const Onnx__NodeProto *proto, const char *what,
                                  struct rt_attr *attr, int n_attr, int node)
{
    static const char *const name[] = { "then_branch", "else_branch" };
    struct rt_scope branch[2];
    enum rt_status s = enter(im, what);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < 2 && s == RT_OK; i++)
        s = import_branch(im, sc, graph_of(proto, name[i]), what, find(attr, n_attr, name[i]),
                          sc->g->node[node].n_out, &branch[i]);
    for (int i = 0; i < 2 && s == RT_OK; i++)
        s = add_captured(im, sc, node, &branch[i]);
    im->depth--;
    return s;
}
