/* libFuzzer's mutator for ONNX files: takes the message apart, changes a thing or two in it (an
 * operator, an attribute, a dimension, an edge, a node, elements) and puts it together again.
 * Bytes flipped at random hardly ever leave a message that gets past the first checks. */
#include "proto/onnx.pb-c.h"
#include "runtime/ops/op.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned seed);

/* What a message lies in: given up as a whole, so that parts may be shared and dropped. */
#define ROOM ((size_t)1 << 20)
static struct {
    size_t used;
    _Alignas(16) char bytes[ROOM];
} pool;

static void *take(void *context, size_t len)
{
    (void)context;
    len = (len + 15) / 16 * 16;
    if (len > ROOM - pool.used)
        return NULL;
    void *p = pool.bytes + pool.used;
    pool.used += len;
    return p;
}

static void leave(void *context, void *p)
{
    (void)context;
    (void)p;
}

static ProtobufCAllocator allocator = { take, leave, NULL };

static uint64_t state;

static size_t draw(size_t n) /* 0 .. n - 1; 0 when n is 0 */
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return n > 0 ? (size_t)(state >> 33) % n : 0;
}

static int64_t draw_number(int64_t old)
{
    static const int64_t telling[] = {
        0,          1,        -1, 2,        3,         4,         5,
        7,          8,        15, 16,       17,        63,        64,
        127,        128,      -2, 255,      256,       513,       1000000007,
        2147483647, 1L << 32, -3, 1L << 40, INT64_MAX, INT64_MIN, INT64_MAX / 2,
        6,          -8
    };
    switch (draw(4)) {
    case 0:
        return (int64_t)((uint64_t)old + 1);
    case 1:
        return (int64_t)((uint64_t)old - 1);
    default: /* the first ones more often: most numbers of a model are small */
        return telling[draw(draw(3) == 0 ? sizeof telling / sizeof telling[0] : 9)];
    }
}

static float draw_float(float old)
{
    static const float telling[] = { 0.0f,  1.0f,   -1.0f, 0.5f,    1e-5f,
                                     1e30f, 1e-40f, -0.0f, 0x1p63f, -3.5f };
    return draw(3) == 0 ? -old : telling[draw(sizeof telling / sizeof telling[0])];
}

static char *draw_op(void)
{
    size_t n = 0;
    while (rt_op_at((int)n) != NULL)
        n++;
    return (char *)(uintptr_t)rt_op_at((int)draw(n))->name;
}

/* Attributes that some operator has. */
static char *draw_attribute_name(void)
{
    static char names[][24] = {
        "axis",
        "axes",
        "pads",
        "strides",
        "dilations",
        "kernel_shape",
        "group",
        "auto_pad",
        "ceil_mode",
        "alpha",
        "beta",
        "epsilon",
        "mode",
        "perm",
        "to",
        "keepdims",
        "transA",
        "transB",
        "blocksize",
        "num_groups",
        "output_shape",
        "output_padding",
        "split",
        "starts",
        "ends",
        "value",
        "min",
        "max",
        "equation",
        "storage_order",
        "size",
        "p",
        "direction",
        "hidden_size",
        "training_mode",
        "allowzero",
        "largest",
        "sorted",
        "exclusive",
        "reverse",
        "k",
        "noop_with_empty_axes",
        "coordinate_transformation_mode",
        "num_outputs",
        "count_include_pad",
        "scales",
        "shape",
    };
    return names[draw(sizeof names / sizeof names[0])];
}

static char *copy_text(const char *text)
{
    char *p = take(NULL, strlen(text) + 1);
    return p != NULL ? strcpy(p, text) : (char *)(uintptr_t) "";
}

/* list[0..*n) of pointers with one more in it; the old list stays in the pool. */
static bool insert(void ***list, size_t *n, size_t at, void *item)
{
    void **longer = take(NULL, (*n + 1) * sizeof *longer);
    if (longer == NULL || item == NULL)
        return false;
    if (at > 0)
        memcpy(longer, *list, at * sizeof *longer);
    longer[at] = item;
    if (*n > at)
        memcpy(longer + at + 1, *list + at, (*n - at) * sizeof *longer);
    *list = longer;
    (*n)++;
    return true;
}

static void erase(void **list, size_t *n, size_t at)
{
    memmove(list + at, list + at + 1, (*n - at - 1) * sizeof *list);
    (*n)--;
}

#define INSERT(list, n, at, item) insert((void ***)(void *)&(list), &(n), at, item)
#define ERASE(list, n, at) erase((void **)(void *)(list), &(n), at)

static void mutate_ints(int64_t **list, size_t *n)
{
    size_t kind = draw(6);
    if (kind == 0 || *n == 0) {
        int64_t *longer = take(NULL, (*n + 1) * sizeof *longer);
        if (longer == NULL)
            return;
        if (*n > 0)
            memcpy(longer, *list, *n * sizeof *longer);
        longer[*n] = draw_number(*n > 0 ? (*list)[0] : 1);
        *list = longer;
        (*n)++;
    } else if (kind == 1) {
        (*n)--;
    } else if (kind == 2) {
        size_t i = draw(*n), k = draw(*n);
        int64_t kept = (*list)[i];
        (*list)[i] = (*list)[k];
        (*list)[k] = kept;
    } else {
        size_t i = draw(*n);
        (*list)[i] = draw_number((*list)[i]);
    }
}

static int32_t draw_type(void)
{
    return (int32_t)draw(draw(8) == 0 ? 24 : 14);
}

/* Elements of a tensor are none of the message's fields that the schema here has: they are kept as
 * fields that are not known, in their encoded form. */
static void mutate_elements(Onnx__TensorProto *t)
{
    for (size_t i = 0; i < t->base.n_unknown_fields; i++) {
        ProtobufCMessageUnknownField *f = &t->base.unknown_fields[i];
        if (f->tag == 9 && f->len > 1) {
            size_t prefix = 0; /* of the length, which stays */
            while (prefix < f->len && f->data[prefix] >= 0x80)
                prefix++;
            if (++prefix < f->len)
                LLVMFuzzerMutate(f->data + prefix, f->len - prefix, f->len - prefix);
        } else if (f->len > 0) {
            f->data[draw(f->len)] ^= (uint8_t)(1u << draw(8));
        }
    }
}

/* Gives the tensor as many bytes of raw data as its shape and type ask for. */
static void fit_elements(Onnx__TensorProto *t)
{
    size_t n = rt_dtype_size((enum rt_dtype)t->data_type);
    for (size_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] < 0 || t->dims[i] > 4096 || n > 4096)
            return;
        n *= (size_t)t->dims[i];
    }
    ProtobufCMessageUnknownField *f = take(NULL, sizeof *f);
    uint8_t *data = take(NULL, n + 8);
    if (n > 4096 || f == NULL || data == NULL)
        return;
    size_t at = 0;
    for (size_t left = n; at == 0 || left > 0; left >>= 7)
        data[at++] = (uint8_t)((left & 0x7f) | (left >= 0x80 ? 0x80 : 0));
    size_t pattern = draw(3);
    for (size_t i = 0; i < n; i++)
        data[at + i] = (uint8_t)(pattern == 0   ? i % 8 == 0
                                 : pattern == 1 ? 0x3d + i % 3
                                                : draw(256));
    *f = (ProtobufCMessageUnknownField){
        .tag = 9, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, .len = at + n, .data = data
    };
    t->base.unknown_fields = f;
    t->base.n_unknown_fields = 1;
}

static void mutate_tensor(Onnx__TensorProto *t)
{
    switch (draw(6)) {
    case 0:
        t->has_data_type = 1;
        t->data_type = draw_type();
        break;
    case 1:
        mutate_elements(t);
        return;
    case 2:
        t->has_file_at = t->has_file_len = draw(2) == 0;
        t->file_at = draw(10000);
        t->file_len = draw(10000);
        return;
    case 3:
        t->has_data_location = 1;
        t->data_location = (int32_t)draw(3);
        return;
    default:
        mutate_ints(&t->dims, &t->n_dims);
    }
    if (draw(4) > 0)
        fit_elements(t);
}

static void mutate_attribute(Onnx__AttributeProto *a)
{
    switch (draw(8)) {
    case 0:
        a->name = draw_attribute_name();
        break;
    case 1:
        a->has_type = 1;
        a->type = (int32_t)draw(15);
        break;
    case 2:
        if (a->n_floats > 0) {
            size_t i = draw(a->n_floats);
            a->floats[i] = draw_float(a->floats[i]);
        }
        break;
    default:
        if (a->t != NULL)
            mutate_tensor(a->t);
        else if (a->has_f)
            a->f = draw_float(a->f);
        else if (a->n_ints > 0)
            mutate_ints(&a->ints, &a->n_ints);
        else if (a->has_s && a->s.len > 0)
            LLVMFuzzerMutate(a->s.data, a->s.len, a->s.len);
        else
            a->i = draw_number(a->i);
    }
}

static void add_attribute(Onnx__NodeProto *n)
{
    Onnx__AttributeProto *a = take(NULL, sizeof *a);
    if (a == NULL)
        return;
    onnx__attribute_proto__init(a);
    a->name = draw_attribute_name();
    a->has_type = 1;
    if (draw(2) == 0) {
        a->type = 2;
        a->has_i = 1;
        a->i = draw_number(1);
    } else {
        a->type = 7;
        for (size_t k = draw(5); k > 0; k--)
            mutate_ints(&a->ints, &a->n_ints);
    }
    INSERT(n->attribute, n->n_attribute, draw(n->n_attribute + 1), a);
}

static char *name_or_none(char *name) /* a file need not give one */
{
    return name != NULL ? name : (char *)(uintptr_t) "";
}

/* The name of anything a node could read. */
static char *draw_value(const Onnx__GraphProto *g)
{
    switch (draw(g->n_initializer > 0 ? 4 : 3)) {
    case 0:
        return name_or_none(g->n_input > 0 ? g->input[draw(g->n_input)]->name : NULL);
    case 1:
    case 2:
        if (g->n_node > 0) {
            const Onnx__NodeProto *n = g->node[draw(g->n_node)];
            if (n->n_output > 0)
                return n->output[draw(n->n_output)];
        }
        return name_or_none(NULL);
    default:
        return name_or_none(g->initializer[draw(g->n_initializer)]->name);
    }
}

static void mutate_node(Onnx__GraphProto *g, Onnx__NodeProto *n)
{
    switch (draw(9)) {
    case 0:
        n->op_type = draw_op();
        break;
    case 1:
        add_attribute(n);
        break;
    case 2:
        if (n->n_attribute > 0)
            ERASE(n->attribute, n->n_attribute, draw(n->n_attribute));
        break;
    case 3:
        INSERT(n->input, n->n_input, draw(n->n_input + 1), draw_value(g));
        break;
    case 4:
        if (n->n_input > 0)
            ERASE(n->input, n->n_input, draw(n->n_input));
        break;
    case 5:
        if (n->n_input > 0)
            n->input[draw(n->n_input)] = draw(5) == 0 ? (char *)(uintptr_t) "" : draw_value(g);
        break;
    default:
        if (n->n_attribute > 0)
            mutate_attribute(n->attribute[draw(n->n_attribute)]);
    }
}

/* A node like one of the file's, or of another operator, that reads what there is; what read the
 * first input of the chosen one may read it instead. */
static void add_node(Onnx__GraphProto *g)
{
    static unsigned serial;
    char name[32];
    Onnx__NodeProto *n = take(NULL, sizeof *n);
    if (n == NULL || g->n_node == 0)
        return;
    size_t at = draw(g->n_node);
    *n = *g->node[at];
    if (draw(2) == 0) {
        n->op_type = draw_op();
        n->n_input = n->n_input > 1 && draw(2) == 0 ? 1 : n->n_input;
    }
    snprintf(name, sizeof name, "v%u", serial++ % 1000);
    char **output = take(NULL, sizeof *output),
         **input = take(NULL, (n->n_input + 1) * sizeof *input);
    if (output == NULL || input == NULL)
        return;
    output[0] = copy_text(name);
    for (size_t i = 0; i < n->n_input; i++)
        input[i] = n->input[i];
    n->output = output;
    n->n_output = 1;
    n->input = input;
    if (n->n_input > 0 && g->node[at]->n_input > 0 && draw(3) > 0)
        g->node[at]->input[0] = output[0];
    else if (g->n_output > 0 && draw(2) == 0)
        g->output[draw(g->n_output)]->name = output[0];
    INSERT(g->node, g->n_node, at, n);
}

static void mutate_value_info(Onnx__ValueInfoProto *v)
{
    if (v->type == NULL || v->type->tensor_type == NULL)
        return;
    Onnx__TypeProto__Tensor *t = v->type->tensor_type;
    if (draw(4) == 0) {
        t->has_elem_type = 1;
        t->elem_type = draw_type();
    } else if (t->shape != NULL && t->shape->n_dim > 0) {
        size_t i = draw(t->shape->n_dim);
        Onnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
        if (draw(4) == 0) {
            d->has_dim_value = 0;
            d->dim_param = (char *)(uintptr_t) "N";
        } else {
            d->dim_param = NULL;
            d->dim_value = draw_number(d->has_dim_value ? d->dim_value : 1);
            d->has_dim_value = 1;
        }
        if (draw(8) == 0)
            ERASE(t->shape->dim, t->shape->n_dim, i);
    }
}

/* A constant becomes an input, or the other way round where both have a name alike. */
static void move_constant(Onnx__GraphProto *g)
{
    if (g->n_initializer == 0 || g->n_input == 0)
        return;
    size_t i = draw(g->n_initializer);
    Onnx__ValueInfoProto *v = take(NULL, sizeof *v);
    if (v == NULL)
        return;
    *v = *g->input[draw(g->n_input)];
    v->name = g->initializer[i]->name;
    ERASE(g->initializer, g->n_initializer, i);
    INSERT(g->input, g->n_input, g->n_input, v);
}

static void mutate_graph(Onnx__GraphProto *g)
{
    switch (draw(12)) {
    case 0:
        add_node(g);
        break;
    case 1:
        if (g->n_node > 1)
            ERASE(g->node, g->n_node, draw(g->n_node));
        break;
    case 2:
        if (g->n_initializer > 0)
            mutate_tensor(g->initializer[draw(g->n_initializer)]);
        break;
    case 3:
        if (g->n_input > 0)
            mutate_value_info(g->input[draw(g->n_input)]);
        break;
    case 4:
        if (g->n_output > 0)
            g->output[draw(g->n_output)]->name = draw_value(g);
        break;
    case 5:
        move_constant(g);
        break;
    default:
        if (g->n_node > 0)
            mutate_node(g, g->node[draw(g->n_node)]);
    }
}

static void mutate_model(Onnx__ModelProto *m)
{
    size_t inner = draw(24);
    if (inner == 0 && m->n_opset_import > 0) {
        m->opset_import[0]->has_version = 1;
        m->opset_import[0]->version = (int64_t)draw(24);
    } else if (inner == 1 && m->n_functions > 0) {
        Onnx__FunctionProto *f = m->functions[draw(m->n_functions)];
        if (f->n_node > 0)
            mutate_node(m->graph, f->node[draw(f->n_node)]);
    } else {
        mutate_graph(m->graph);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned seed)
{
    state = seed * 2654435761u + 1;
    pool.used = 0;
    Onnx__ModelProto *m = draw(16) == 0 ? NULL : onnx__model_proto__unpack(&allocator, len, data);
    if (m == NULL || m->graph == NULL)
        return LLVMFuzzerMutate(data, len, max);
    for (size_t i = 1 + draw(3); i > 0; i--)
        mutate_model(m);
    size_t packed = onnx__model_proto__get_packed_size(m);
    return packed > 0 && packed <= max ? onnx__model_proto__pack(m, data)
                                       : LLVMFuzzerMutate(data, len, max);
}
