/* From bytes to graph: the check of the wire format, the parse, what concerns the whole file. */
#include "runtime/import.h"

#include "runtime/batchnorms.h"
#include "runtime/import_parts.h"
#include "runtime/rt.h"
#include "runtime/wire.h"

#include <stdio.h>
#include <string.h>

/* Most memory for the parsed structure of a file and its tables of names. */
#define MAX_WORK ((size_t)256 << 20)

static void *arena_alloc(void *a, size_t len)
{
    return rt_arena_alloc(a, len);
}

static void arena_free(void *a, void *p)
{
    (void)a;
    (void)p;
}

ProtobufCAllocator rt_arena_allocator(struct rt_arena *a)
{
    return (ProtobufCAllocator){ .alloc = arena_alloc, .free = arena_free, .allocator_data = a };
}

/* Adds what the bytes seem to be to an error that says they are no model. */
static enum rt_status not_a_model(const void *bytes, size_t len, enum rt_status s,
                                  struct rt_error *err)
{
    const char *seems = rt_sniff(bytes, len);
    if (s != RT_E_INVALID || seems == NULL)
        return s;
    return rt_fail(err, RT_E_INVALID, "this is not an ONNX model but %s", seems);
}

static enum rt_status parse(struct rt_importer *im, size_t len)
{
    uint8_t *skeleton;
    size_t skeleton_len;
    const uint8_t *bytes = im->reader.file;
    enum rt_status s =
        rt_wire_skeleton(bytes, len, RT_WIRE_MODEL, &skeleton, &skeleton_len, im->err);
    if (s != RT_OK)
        return not_a_model(bytes, len, s, im->err);
    ProtobufCAllocator in_work = rt_arena_allocator(im->work);
    im->model = onnx__model_proto__unpack(&in_work, skeleton_len, skeleton);
    rt_free(skeleton);
    return im->model != NULL ? RT_OK : rt_work_nomem(im);
}

static enum rt_status check_versions(struct rt_importer *im, struct rt_opsets *opsets)
{
    /* Before IR version 3 files did not name operator sets: there was one. */
    static Onnx__OperatorSetIdProto first = {
        PROTOBUF_C_MESSAGE_INIT(&onnx__operator_set_id_proto__descriptor),
        .has_version = 1,
        .version = 1,
    };
    static Onnx__OperatorSetIdProto *const only_first[] = { &first };
    const Onnx__ModelProto *m = im->model;
    if (m->graph == NULL)
        return not_a_model(im->reader.file, im->reader.file_len,
                           rt_fail(im->err, RT_E_INVALID, "the file has no graph"), im->err);
    if (m->ir_version < 1)
        return rt_fail(im->err, RT_E_INVALID, "the file has no valid ir_version (%lld)",
                       (long long)m->ir_version);
    if (m->ir_version > RT_MAX_IR_VERSION)
        return rt_fail(im->err, RT_E_UNSUPPORTED,
                       "the file has ir_version %lld; the newest that is supported is %d",
                       (long long)m->ir_version, RT_MAX_IR_VERSION);
    *opsets = (struct rt_opsets){ m->n_opset_import, m->opset_import };
    if (opsets->n == 0 && m->ir_version >= 3)
        return rt_fail(im->err, RT_E_INVALID, "the file does not say which opset it needs");
    if (opsets->n == 0)
        *opsets = (struct rt_opsets){ 1, only_first };
    return rt_check_opsets(opsets, "the model", im->err);
}

static const char *producer_of(struct rt_graph *g, const Onnx__ModelProto *m)
{
    const char *name = rt_text(m->producer_name), *version = rt_text(m->producer_version);
    size_t len = strlen(name) + strlen(version) + 2;
    char *text = rt_graph_alloc(g, len, 1);
    if (text != NULL)
        snprintf(text, len, "%s%s%s", name, name[0] != '\0' && version[0] != '\0' ? " " : "",
                 version);
    return text;
}

static enum rt_status list_unsupported(struct rt_importer *im)
{
    int more = im->n_unsupported - im->n_listed;
    char tail[40] = "";
    if (more > 0)
        snprintf(tail, sizeof tail, " and %d more", more);
    return rt_fail(im->err, RT_E_UNSUPPORTED, "%d node%s not supported: %s%s", im->n_unsupported,
                   im->n_unsupported == 1 ? " is" : "s are", im->unsupported, tail);
}

static enum rt_status import_model(struct rt_importer *im, size_t len)
{
    struct rt_graph *g = im->reader.g;
    struct rt_scope sc = { .g = g, .names = { .arena = im->work }, .prefix = "" };
    enum rt_status s = parse(im, len);
    if (s == RT_OK)
        s = check_versions(im, &sc.opsets);
    if (s == RT_OK)
        s = rt_register_functions(im);
    if (s != RT_OK)
        return s;
    g->ir_version = (int)im->model->ir_version;
    g->opset = (int)rt_opset_version(&sc.opsets, "");
    g->producer = producer_of(g, im->model);
    if (g->producer == NULL)
        return rt_graph_nomem(g, im->err);
    s = rt_import_graph(im, &sc, im->model->graph);
    if (s == RT_OK && im->n_unsupported > 0)
        s = list_unsupported(im);
    g->n_file_nodes = g->n_nodes;
    if (s == RT_OK)
        s = rt_record_batchnorms(g, im->err); /* those that nobody reads, too */
    return s == RT_OK ? rt_graph_tidy(g, im->err) : s;
}

enum rt_status rt_import(const void *bytes, size_t len, const struct rt_options *options,
                         size_t memory_limit, struct rt_graph **out, struct rt_error *err)
{
    struct rt_importer im = {
        .reader = { .file = bytes,
                    .file_len = len,
                    .folder = options != NULL ? options->folder : NULL,
                    .g = rt_graph_create(memory_limit) },
        .work =
            rt_arena_create(memory_limit != 0 && memory_limit < MAX_WORK ? memory_limit : MAX_WORK),
        .err = err,
    };
    enum rt_status s;
    if (im.reader.g == NULL || im.work == NULL)
        s = rt_fail(err, RT_E_NOMEM, "out of memory while reading the file");
    else
        s = import_model(&im, len);
    rt_arena_destroy(im.work);
    if (s == RT_OK)
        *out = im.reader.g;
    else
        rt_graph_destroy(im.reader.g);
    return s;
}
