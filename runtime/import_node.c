/* NodeProto to node: finds its operator and checks its operands and attributes against it. */
#include "runtime/import.h"
#include "runtime/import_parts.h"
#include "runtime/ops/op.h"
#include "runtime/ops/schema.h"

#include <stdio.h>
#include <string.h>

enum rt_status rt_spend(struct rt_importer *im, int64_t nodes, int64_t elements)
{
    static const int64_t most = 1 << 24;
    im->effort += 64 * nodes + elements;
    if (im->effort <= most)
        return RT_OK;
    return rt_fail(im->err, RT_E_LIMIT, "the model has too many nodes once functions are inlined");
}

int64_t rt_opset_version(const struct rt_opsets *o, const char *domain)
{
    if (strcmp(domain, "ai.onnx") == 0)
        domain = "";
    for (size_t i = 0; i < o->n; i++) {
        const char *d = rt_text(o->set[i]->domain);
        if (strcmp(strcmp(d, "ai.onnx") == 0 ? "" : d, domain) == 0)
            return o->set[i]->version;
    }
    return 0;
}

enum rt_status rt_check_opsets(const struct rt_opsets *o, const char *what, struct rt_error *err)
{
    for (size_t i = 0; i < o->n; i++) {
        const char *d = rt_text(o->set[i]->domain);
        int64_t version = o->set[i]->version;
        if (version < 1 || version > INT32_MAX)
            return rt_fail(err, RT_E_INVALID, "%s imports version %lld of operator set '%s'", what,
                           (long long)version, d);
        if ((d[0] == '\0' || strcmp(d, "ai.onnx") == 0) && version > RT_MAX_OPSET)
            return rt_fail(err, RT_E_UNSUPPORTED,
                           "%s needs opset %lld of ai.onnx; the newest that is supported is %d",
                           what, (long long)version, RT_MAX_OPSET);
    }
    return RT_OK;
}

static bool is_constant(const struct rt_importer *im, const Onnx__NodeProto *node)
{
    const char *domain = rt_text(node->domain);
    return strcmp(rt_text(node->op_type), "Constant") == 0 &&
           (domain[0] == '\0' || strcmp(domain, "ai.onnx") == 0) &&
           rt_called_function(im, node) == NULL;
}

static const char *node_name(const Onnx__NodeProto *node)
{
    const char *name = rt_text(node->name);
    return name[0] != '\0' || node->n_output == 0 ? name : node->output[0];
}

static void describe(char what[RT_WHAT], const struct rt_scope *sc, const Onnx__NodeProto *node)
{
    snprintf(what, RT_WHAT, "node '%.40s%.90s' (%.60s)", sc->prefix, node_name(node),
             rt_text(node->op_type));
}

/* Gives each output of the node a value, so that nodes before it may read it. */
static enum rt_status declare_outputs(struct rt_importer *im, struct rt_scope *sc,
                                      const Onnx__NodeProto *node, const char *what)
{
    for (size_t i = 0; i < node->n_output; i++) {
        const char *name = node->output[i];
        if (name[0] == '\0')
            continue;
        int v = rt_names_get(&sc->names, name, RT_UNKNOWN);
        if (v != RT_UNKNOWN && (v < 0 || sc->g->value[v].producer != RT_WANTED))
            return rt_fail(im->err, RT_E_INVALID, "%s makes '%s', which something else makes too",
                           what, name);
        enum rt_status s = v == RT_UNKNOWN ? rt_add_value(im, sc, name, &v) : RT_OK;
        if (s != RT_OK)
            return s;
        sc->g->value[v].producer = RT_DECLARED;
    }
    return RT_OK;
}

static enum rt_status import_constant(struct rt_importer *im, struct rt_scope *sc,
                                      const Onnx__NodeProto *node, const char *what)
{
    struct rt_attr *attr;
    int n;
    struct rt_tensor t;
    enum rt_status s =
        rt_read_attrs(im, node->attribute, node->n_attribute, sc->bound, what, &attr, &n);
    if (s == RT_OK)
        s = rt_constant_tensor(im, attr, n, what, &t);
    if (s == RT_OK && (node->n_input != 0 || node->n_output != 1 || node->output[0][0] == '\0'))
        s = rt_fail(im->err, RT_E_INVALID, "%s must have no input and one output", what);
    return s == RT_OK ? rt_add_constant(im, sc, node->output[0], &t) : s;
}

static void note_unsupported(struct rt_importer *im, const Onnx__NodeProto *node, const char *why)
{
    im->n_unsupported++;
    const char *domain = rt_text(node->domain);
    char text[384];
    int len = snprintf(text, sizeof text, "%s%.40s%s%.60s '%.80s'%.120s", im->n_listed > 0 ? ", " : "",
                       domain, domain[0] != '\0' ? "." : "", rt_text(node->op_type),
                       node_name(node), why);
    size_t used = strlen(im->unsupported);
    if ((size_t)len < sizeof im->unsupported - used) {
        memcpy(im->unsupported + used, text, (size_t)len + 1);
        im->n_listed++;
    }
}

/* The operator, or NULL after noting the node as unsupported. */
static const struct rt_op *find_op(struct rt_importer *im, const struct rt_scope *sc,
                                   const Onnx__NodeProto *node, int *opset)
{
    const char *domain = rt_text(node->domain);
    const struct rt_op *op =
        strcmp(domain, "ai.convd") != 0 ? rt_op_find(domain, rt_text(node->op_type)) : NULL;
    *opset = (int)rt_opset_version(&sc->opsets, domain);
    if (op != NULL && op->since <= *opset)
        return op;
    char why[64] = "";
    if (op != NULL)
        snprintf(why, sizeof why, " (new in opset %d, the model has %d)", op->since, *opset);
    note_unsupported(im, node, why);
    return NULL;
}

/* Operands at the end that are left out are not there at all. */
static int count_operands(char *const *name, size_t n)
{
    while (n > 0 && name[n - 1][0] == '\0')
        n--;
    return (int)n;
}

static enum rt_status check_count(struct rt_importer *im, const char *what, const char *operands,
                                  int n, int least, int most)
{
    if (n >= least && (most < 0 || n <= most))
        return RT_OK;
    const char *bound = least == most ? "" : n < least ? "at least " : "at most ";
    return rt_fail(im->err, RT_E_INVALID, "%s must have %s%d %s, not %d", what, bound,
                   n < least ? least : most, operands, n);
}

static enum rt_status check_counts(struct rt_importer *im, const struct rt_op *op,
                                   const Onnx__NodeProto *node, const char *what)
{
    int n_in = count_operands(node->input, node->n_input);
    int n_out = count_operands(node->output, node->n_output);
    enum rt_status s = check_count(im, what, "inputs", n_in, op->min_in, op->max_in);
    if (s == RT_OK)
        s = check_count(im, what, "outputs", n_out, op->min_out, op->max_out);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < op->min_in; i++)
        if (node->input[i][0] == '\0')
            return rt_fail(im->err, RT_E_INVALID, "%s has no input %d", what, i);
    return RT_OK;
}

static enum rt_status connect(struct rt_importer *im, struct rt_scope *sc,
                              const Onnx__NodeProto *proto, const char *what, int node)
{
    for (int i = 0; i < sc->g->node[node].n_in; i++) {
        const char *name = proto->input[i];
        int v = RT_ABSENT;
        enum rt_status s = name[0] != '\0' ? rt_resolve(im, sc, name, &v) : RT_OK;
        if (s != RT_OK)
            return s;
        if (v == RT_UNKNOWN)
            return rt_fail(im->err, RT_E_INVALID, "%s reads '%s', which nothing makes", what, name);
        if (v == RT_ABSENT && i < sc->g->node[node].op->min_in)
            return rt_fail(im->err, RT_E_INVALID, "%s has no input %d", what, i);
        sc->g->node[node].in[i] = v;
    }
    for (int i = 0; i < sc->g->node[node].n_out; i++) {
        const char *name = proto->output[i];
        int v = name[0] != '\0' ? rt_names_get(&sc->names, name, RT_ABSENT) : RT_ABSENT;
        sc->g->node[node].out[i] = v;
        if (v >= 0)
            sc->g->value[v].producer = node;
    }
    return RT_OK;
}

static const char *full_name(const struct rt_scope *sc, const Onnx__NodeProto *node)
{
    const char *name = node_name(node);
    size_t front = strlen(sc->prefix), len = strlen(name);
    char *full = rt_arena_alloc(sc->g->arena, front + len + 1);
    if (full == NULL)
        return NULL;
    memcpy(full, sc->prefix, front);
    memcpy(full + front, name, len + 1);
    return full;
}

static enum rt_status check_attrs(const struct rt_op *op, int opset, const struct rt_attr *attr,
                                  int n, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    if (op->domain == NULL)
        s = rt_schema_check(op->name, opset, attr, n, err);
    for (int i = 0; i < n && s == RT_OK && op->domain != NULL; i++)
        if (attr[i].type == RT_ATTR_GRAPH)
            s = rt_fail(err, RT_E_UNSUPPORTED, "attribute '%s' is a graph", attr[i].name);
    return s;
}

/* Tensors among a node's attributes outlive the file's bytes, unlike those that become constants. */
static enum rt_status keep_tensors(struct rt_importer *im, struct rt_attr *attr, int n)
{
    struct rt_graph *g = im->reader.g;
    for (int i = 0; i < n; i++) {
        size_t len;
        if (attr[i].type != RT_ATTR_TENSOR ||
            !rt_shape_bytes(&attr[i].t.shape, attr[i].t.dtype, &len))
            continue;
        void *copy = rt_graph_alloc(g, len, 1);
        if (copy == NULL)
            return rt_graph_nomem(g, im->err);
        if (len > 0)
            memcpy(copy, attr[i].t.data, len);
        attr[i].t.data = copy;
    }
    return RT_OK;
}

static enum rt_status import_op(struct rt_importer *im, struct rt_scope *sc,
                                const Onnx__NodeProto *proto, const char *what,
                                struct rt_attr *attr, int n_attr)
{
    int opset;
    const struct rt_op *op = find_op(im, sc, proto, &opset);
    if (op == NULL)
        return RT_OK;
    struct rt_error wrong = { .status = RT_OK };
    enum rt_status s = check_attrs(op, opset, attr, n_attr, &wrong);
    if (s == RT_E_UNSUPPORTED) {
        char why[128];
        snprintf(why, sizeof why, " (%.120s)", wrong.text);
        note_unsupported(im, proto, why);
        return RT_OK;
    }
    if (s != RT_OK)
        return rt_fail(im->err, s, "%s: %s", what, wrong.text);
    s = check_counts(im, op, proto, what);
    if (s == RT_OK)
        s = keep_tensors(im, attr, n_attr);
    if (s != RT_OK)
        return s;
    const char *name = full_name(sc, proto);
    int node = name != NULL ? rt_graph_add_node(sc->g, op, name,
                                                count_operands(proto->input, proto->n_input),
                                                count_operands(proto->output, proto->n_output))
                            : -1;
    if (node < 0)
        return rt_graph_nomem(sc->g, im->err);
    sc->g->node[node].opset = opset;
    sc->g->node[node].attr = attr;
    sc->g->node[node].n_attr = n_attr;
    s = connect(im, sc, proto, what, node);
    if (s == RT_OK && op == &rt_op_If)
        s = rt_import_branches(im, sc, proto, what, attr, n_attr, node);
    return s;
}

static enum rt_status import_node(struct rt_importer *im, struct rt_scope *sc,
                                  const Onnx__NodeProto *node)
{
    char what[RT_WHAT];
    describe(what, sc, node);
    const Onnx__FunctionProto *f = rt_called_function(im, node);
    if (f == NULL && rt_op_find(rt_text(node->domain), rt_text(node->op_type)) == NULL) {
        note_unsupported(im, node, ""); /* its attributes may be of any kind */
        return RT_OK;
    }
    struct rt_attr *attr;
    int n_attr;
    enum rt_status s =
        rt_read_attrs(im, node->attribute, node->n_attribute, sc->bound, what, &attr, &n_attr);
    if (s != RT_OK)
        return s;
    return f != NULL ? rt_import_call(im, sc, node, f, what, attr, n_attr)
                     : import_op(im, sc, node, what, attr, n_attr);
}

enum rt_status rt_import_nodes(struct rt_importer *im, struct rt_scope *sc,
                               Onnx__NodeProto *const *node, size_t n)
{
    enum rt_status s = RT_OK;
    char what[RT_WHAT];
    for (size_t i = 0; i < n && s == RT_OK; i++) {
        describe(what, sc, node[i]);
        if (rt_text(node[i]->op_type)[0] == '\0')
            return rt_fail(im->err, RT_E_INVALID, "node %zu, '%s', has no operator", i,
                           node_name(node[i]));
        s = rt_spend(im, 1, (int64_t)node[i]->n_input + (int64_t)node[i]->n_output);
        if (s == RT_OK)
            s = declare_outputs(im, sc, node[i], what);
        if (s == RT_OK && is_constant(im, node[i]))
            s = import_constant(im, sc, node[i], what);
    }
    for (size_t i = 0; i < n && s == RT_OK; i++)
        if (!is_constant(im, node[i]))
            s = import_node(im, sc, node[i]);
    return s;
}
