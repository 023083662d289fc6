/* Loads a model: finds out how its batch axis behaves, and compiles accordingly. */
#include "runtime/model.h"

#include "runtime/clock.h"
#include "runtime/import.h"
#include "runtime/mapped.h"
#include "runtime/ops/batchnorm.h"
#include "runtime/survey.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_MAX_BATCH 8
#define MOST_BATCH 65536
#define DEFAULT_MEMORY ((size_t)4 << 30)
/* Stands for a height or width that the file leaves open, to see whether the model compiles. */
#define GUESSED_SIZE 224

static struct rt_program_options how(const struct rt_model *m)
{
    return (struct rt_program_options){ &m->options, m->options.max_batch, m->max_threads };
}

static const struct rt_shape *declared(const struct rt_model *m, int i)
{
    return &m->src->value[m->src->input[i]].shape;
}

/* Whether dimension 0 of every input reads d. */
static bool first_dims_are(const struct rt_model *m, int64_t d)
{
    for (int i = 0; i < m->src->n_inputs; i++)
        if (declared(m, i)->rank == 0 || declared(m, i)->dim[0] != d)
            return false;
    return m->src->n_inputs > 0;
}

/* Whether dimensions after the first, or the first if it is not counted as the batch, are free. */
static bool has_free_dims(const struct rt_model *m, bool batch)
{
    for (int i = 0; i < m->src->n_inputs; i++)
        for (int k = batch ? 1 : 0; k < declared(m, i)->rank; k++)
            if (declared(m, i)->dim[k] < 0)
                return true;
    return false;
}

/* The declared shapes with first in dimension 0 (0: as it is) and a guess for what is free. */
static struct rt_shape *guess_shapes(const struct rt_model *m, int64_t first)
{
    struct rt_shape *s = rt_alloc_array((size_t)m->src->n_inputs + 1, sizeof *s);
    for (int i = 0; s != NULL && i < m->src->n_inputs; i++) {
        s[i] = *declared(m, i);
        for (int k = 0; k < s[i].rank; k++)
            if (k == 0 && first != 0)
                s[i].dim[k] = first;
            else if (s[i].dim[k] < 0)
                s[i].dim[k] = k == 0 ? 1 : k == 1 && s[i].rank > 2 ? 3 : GUESSED_SIZE;
    }
    return s;
}

static enum rt_status compile_with(struct rt_model *m, int64_t first, struct rt_program **out,
                                   struct rt_error *err)
{
    struct rt_shape *shapes = guess_shapes(m, first);
    if (shapes == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while loading the model");
    struct rt_program_options o = how(m);
    enum rt_status s = rt_program_compile(m->src, shapes, &o, out, err);
    rt_free(shapes);
    return s;
}

static bool is_refusal(enum rt_status s)
{
    return s == RT_E_UNSUPPORTED || s == RT_E_INVALID;
}

static bool outputs_start_with_one(const struct rt_program *p)
{
    for (int i = 0; i < p->g->n_outputs; i++) {
        const struct rt_shape *s = &p->g->value[p->g->output[i]].shape;
        if (s->rank == 0 || s->dim[0] != 1)
            return false;
    }
    return true;
}

/* The name of a batch norm of g, or of a branch in it, that is in training mode; NULL: none is. */
static const char *find_training(const struct rt_graph *g)
{
    const char *name = NULL;
    for (int i = 0; i < g->n_nodes && name == NULL; i++) {
        const struct rt_node *n = &g->node[i];
        if (n->op == &rt_op_BatchNormalization && rt_batchnorm_is_training(n))
            name = n->name;
        for (int k = 0; k < n->n_attr && name == NULL; k++)
            if (n->attr[k].g != NULL)
                name = find_training(n->attr[k].g);
    }
    return name;
}

/* Statistics of the batch make a sample's answer depend on who shares its batch. */
static enum rt_status check_statistics(const struct rt_model *m, struct rt_error *err)
{
    const char *name = NULL;
    if (m->options.allow_batch_statistics)
        return RT_OK;
    if (m->program == NULL)
        name = find_training(m->src);
    for (int i = 0; m->program != NULL && i < m->program->g->n_batchnorms && name == NULL; i++)
        if (m->program->g->batchnorm[i].fate == RT_BN_TRAINING)
            name = m->program->g->batchnorm[i].name;
    if (name == NULL)
        return RT_OK;
    return rt_fail(err, RT_E_UNSUPPORTED,
                   "node '%s' (BatchNormalization): training_mode = 1 normalises by the statistics "
                   "of whatever shares the batch; export the model for inference, or allow it with "
                   "allow_batch_statistics",
                   name);
}

/* Names all nodes that are refused, where one is. */
static enum rt_status survey(const struct rt_model *m, int64_t first, struct rt_error *err)
{
    struct rt_shape *shapes = guess_shapes(m, first);
    if (shapes == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while loading the model");
    enum rt_status s = rt_survey(m->src, shapes, m->options.memory_limit, err);
    rt_free(shapes);
    return s;
}

/* Tries the forms from the most useful down. */
static enum rt_status find_mode(struct rt_model *m, struct rt_error *err)
{
    bool is_free = first_dims_are(m, -1), is_one = first_dims_are(m, 1);
    bool shaped = has_free_dims(m, is_free);
    struct rt_error first = { .status = RT_OK };
    enum rt_status s = RT_E_UNSUPPORTED;
    m->src->batch_of_one = is_one;
    if (m->options.any_shape) {
        m->mode = RT_MODE_INTERPRETED;
        return RT_OK;
    }
    if (is_free || is_one)
        s = compile_with(m, RT_BATCH, &m->program, &first);
    if (s == RT_OK) {
        m->mode = shaped ? RT_MODE_SHAPED : RT_MODE_BATCHED;
        m->batch_free = true;
        return RT_OK;
    }
    if (s == RT_E_DYNAMIC) {
        m->mode = RT_MODE_INTERPRETED;
        return RT_OK;
    }
    if (!is_refusal(s)) {
        *err = first;
        return s;
    }
    s = compile_with(m, is_free ? 1 : 0, &m->program, err);
    if (s == RT_E_DYNAMIC) {
        m->mode = RT_MODE_INTERPRETED;
        return RT_OK;
    }
    /* With sizes that are only guessed, those that do not agree may be the guess's fault. */
    bool guessed = is_free ? has_free_dims(m, true) : shaped;
    if (s == RT_E_UNSUPPORTED)
        return survey(m, is_free ? 1 : 0, err);
    if (s != RT_OK && !(guessed && s == RT_E_INVALID))
        return s;
    if (first.status != RT_OK) {
        m->batch_note = rt_strdup(first.text);
        if (m->batch_note == NULL)
            return rt_fail(err, RT_E_NOMEM, "out of memory while loading the model");
    }
    if (shaped || is_free)
        m->mode = RT_MODE_SHAPED;
    else
        m->mode = is_one && outputs_start_with_one(m->program) ? RT_MODE_LOOPED : RT_MODE_FIXED;
    return RT_OK;
}

static bool is_batched(const struct rt_model *m)
{
    return m->mode == RT_MODE_BATCHED || m->mode == RT_MODE_LOOPED || m->batch_free;
}

/* What the file declares, with what was found out put in. */
static struct rt_io describe(const struct rt_model *m, int value, bool is_output, int at)
{
    const struct rt_value *v = &m->src->value[value];
    struct rt_io io = { v->name, v->dtype, v->shape };
    if (is_output && m->program != NULL) {
        const struct rt_graph *g = m->program->g;
        const struct rt_value *made = &g->value[g->output[at]];
        bool trusted = m->mode != RT_MODE_SHAPED;
        struct rt_shape filed = io.shape;
        io.dtype = made->dtype;
        io.shape = made->shape;
        for (int k = 0; k < io.shape.rank; k++)
            if (rt_is_batched(io.shape.dim[k]) ||
                (!trusted && (filed.rank != made->shape.rank || filed.dim[k] < 0)))
                io.shape.dim[k] = -1;
    }
    if (is_batched(m) && io.shape.rank > 0)
        io.shape.dim[0] = -1;
    return io;
}

static enum rt_status describe_all(struct rt_model *m, struct rt_error *err)
{
    m->input = rt_zalloc_array((size_t)m->src->n_inputs + 1, sizeof *m->input);
    m->output = rt_zalloc_array((size_t)m->src->n_outputs + 1, sizeof *m->output);
    if (m->input == NULL || m->output == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while loading the model");
    for (int i = 0; i < m->src->n_inputs; i++)
        m->input[i] = describe(m, m->src->input[i], false, i);
    for (int i = 0; i < m->src->n_outputs; i++)
        m->output[i] = describe(m, m->src->output[i], true, i);
    return RT_OK;
}

/* What p points at in from[0..len), in to[0..len); another p stays. */
static const void *moved(const void *p, const void *from, size_t len, const void *to)
{
    const uintptr_t at = (uintptr_t)p, start = (uintptr_t)from;
    return at >= start && at < start + len ? (const char *)to + (at - start) : p;
}

/* Lets the constants of g, and of the branches in it, that lie in from[0..len) lie in to[0..len).
 */
static void move_constants(struct rt_graph *g, const void *from, size_t len, const void *to)
{
    for (int v = 0; v < g->n_values; v++) {
        g->value[v].data = moved(g->value[v].data, from, len, to);
        g->value[v].unscaled = moved(g->value[v].unscaled, from, len, to);
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_attr; k++)
            if (g->node[i].attr[k].g != NULL)
                move_constants((struct rt_graph *)g->node[i].attr[k].g, from, len, to);
}

/* Programs that are compiled later need the constants, which may lie in the caller's bytes. */
static enum rt_status keep_source(struct rt_model *m, const void *bytes, size_t len,
                                  struct rt_error *err)
{
    if (m->mode != RT_MODE_SHAPED && m->mode != RT_MODE_INTERPRETED) {
        rt_arena_destroy(m->src->bulk);
        m->src->bulk = NULL;
        for (int v = 0; v < m->src->n_values; v++)
            m->src->value[v].data = m->src->value[v].unscaled = NULL;
        return RT_OK;
    }
    for (int v = 0; v < m->src->n_values && m->mode == RT_MODE_INTERPRETED; v++)
        if (!rt_graph_fetch(m->src, v)) /* each run would do it anew */
            return rt_graph_nomem(m->src, err);
    const size_t past = (uintptr_t)bytes % RT_ALIGN; /* what was aligned stays so */
    m->bytes = rt_alloc(past + len);
    if (m->bytes == NULL)
        return rt_fail_nomem(err, past + len);
    char *to = (char *)m->bytes + past;
    memcpy(to, bytes, len);
    move_constants(m->src, bytes, len, to);
    return RT_OK;
}

enum rt_status rt_model_load(const void *bytes, size_t len, const struct rt_options *options,
                             struct rt_model **out, struct rt_error *err)
{
    struct rt_error own;
    /* cppcheck-suppress uninitvar ; its address is taken */
    err = err != NULL ? err : &own;
    struct rt_model *m = rt_zalloc(sizeof *m);
    if (m == NULL)
        return rt_fail_nomem(err, sizeof *m);
    atomic_init(&m->refs, 1);
    pthread_mutex_init(&m->lock, NULL);
    m->options = options != NULL ? *options : (struct rt_options){ 0 };
    if (m->options.max_batch <= 0)
        m->options.max_batch = DEFAULT_MAX_BATCH;
    if (m->options.memory_limit == 0)
        m->options.memory_limit = DEFAULT_MEMORY;
    if (m->options.tuning != NULL) { /* programs may be compiled later */
        m->tuning = rt_strdup(m->options.tuning);
        m->options.tuning = m->tuning;
    }
    m->max_threads = rt_cpu_budget();
    if (m->options.threads > m->max_threads)
        m->max_threads = m->options.threads;
    enum rt_status s = RT_OK;
    const double start = rt_now();
    if (options != NULL && options->tuning != NULL && m->tuning == NULL)
        s = rt_fail(err, RT_E_NOMEM, "out of memory while loading the model");
    if (s == RT_OK && m->options.max_batch > MOST_BATCH)
        s = rt_fail(err, RT_E_LIMIT, "max_batch is %d, at most %d is possible",
                    m->options.max_batch, MOST_BATCH);
    if (s == RT_OK)
        s = rt_import(bytes, len, &m->options, m->options.memory_limit, &m->src, err);
    if (s == RT_OK)
        s = rt_graph_tidy(m->src, err);
    if (s == RT_OK)
        s = find_mode(m, err);
    if (s == RT_OK)
        s = check_statistics(m, err);
    if (s == RT_OK)
        s = describe_all(m, err);
    if (s == RT_OK)
        s = keep_source(m, bytes, len, err);
    m->options.folder = NULL; /* the caller's, as are those for progress */
    m->options.progress = NULL;
    m->load_seconds = rt_now() - start;
    if (s == RT_OK)
        *out = m;
    else
        rt_model_release(m);
    return s;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = rt_strdup(slash != NULL ? path : ".");
    if (folder != NULL && slash != NULL)
        folder[slash == path ? 1 : slash - path] = '\0';
    return folder;
}

/* A file of choices is some lines a layer. */
#define MOST_TUNING ((size_t)1 << 20)

/* The text beside the model, for rt_free(); NULL: there is none. */
static enum rt_status read_tuning(const char *path, char **out, struct rt_error *err)
{
    const size_t len = strlen(path) + sizeof ".tune";
    char *file = rt_alloc(len), *text = NULL;
    struct rt_mapped map;
    *out = NULL;
    if (file == NULL)
        return rt_fail_nomem(err, len);
    snprintf(file, len, "%s.tune", path);
    enum rt_status s = rt_mapped_open(file, &map, err);
    if (s == RT_E_NOT_FOUND) {
        rt_free(file);
        if (err != NULL)
            *err = (struct rt_error){ .status = RT_OK };
        return RT_OK;
    }
    if (s == RT_OK) {
        text = map.len <= MOST_TUNING ? rt_zalloc(map.len + 1) : NULL;
        if (text != NULL)
            memcpy(text, map.bytes, map.len);
        else
            s = map.len > MOST_TUNING
                    ? rt_fail(err, RT_E_LIMIT, "%s: larger than %zu bytes", file, MOST_TUNING)
                    : rt_fail_nomem(err, map.len);
        rt_mapped_close(&map);
    }
    rt_free(file);
    *out = text;
    return s;
}

enum rt_status rt_model_load_file(const char *path, const struct rt_options *options,
                                  struct rt_model **out, struct rt_error *err)
{
    struct rt_options o = options != NULL ? *options : (struct rt_options){ 0 };
    struct rt_mapped file;
    struct rt_model *m = NULL;
    char *folder = folder_of(path);
    if (folder == NULL)
        return rt_fail(err, RT_E_NOMEM, "%s: out of memory", path);
    char *tuning = NULL;
    enum rt_status s = RT_OK;
    if (o.tuning == NULL && !o.untuned)
        s = read_tuning(path, &tuning, err);
    o.tuning = tuning != NULL ? tuning : o.tuning;
    if (s == RT_OK)
        s = rt_mapped_open(path, &file, err);
    if (s == RT_OK) {
        o.folder = folder;
        s = rt_model_load(file.bytes, file.len, &o, &m, err);
        if (s != RT_OK)
            rt_error_prefix(err, "%s", path);
        if (!rt_mapped_whole(&file)) {
            rt_model_release(m);
            s = rt_fail(err, RT_E_IO, "%s: became shorter while it was read", path);
        }
        rt_mapped_close(&file);
    }
    if (s == RT_OK)
        *out = m;
    rt_free(tuning);
    rt_free(folder);
    return s;
}

struct rt_model *rt_model_retain(struct rt_model *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void rt_model_release(struct rt_model *m)
{
    if (m == NULL || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    for (struct rt_shaped *s = m->shaped, *next; s != NULL; s = next) {
        next = s->next;
        rt_program_destroy(s->program);
        rt_free(s);
    }
    rt_program_destroy(m->program);
    rt_graph_destroy(m->src);
    rt_free(m->input);
    rt_free(m->output);
    rt_free(m->batch_note);
    rt_free(m->tuning);
    rt_free(m->bytes);
    pthread_mutex_destroy(&m->lock);
    rt_free(m);
}

int rt_model_n_inputs(const struct rt_model *m)
{
    return m->src->n_inputs;
}

int rt_model_n_outputs(const struct rt_model *m)
{
    return m->src->n_outputs;
}

const struct rt_io *rt_model_input(const struct rt_model *m, int i)
{
    return &m->input[i];
}

const struct rt_io *rt_model_output(const struct rt_model *m, int i)
{
    return &m->output[i];
}

int rt_model_max_batch(const struct rt_model *m)
{
    return is_batched(m) ? m->options.max_batch : 0;
}

bool rt_model_output_is_probability(const struct rt_model *m, int i)
{
    /* In the source graph: passes may have fused the node away. */
    int v = m->src->output[i];
    for (;;) {
        int p = m->src->value[v].producer;
        if (p < 0)
            return false;
        const struct rt_node *n = &m->src->node[p];
        if ((n->op->traits & RT_OP_PROBABILITY) != 0)
            return true;
        if ((n->op->traits & RT_OP_VIEW) == 0)
            return false;
        v = n->in[0];
    }
}

int rt_model_n_batchnorms(const struct rt_model *m)
{
    return (m->program != NULL ? m->program->g : m->src)->n_batchnorms;
}

const struct rt_batchnorm *rt_model_batchnorm(const struct rt_model *m, int i)
{
    return &(m->program != NULL ? m->program->g : m->src)->batchnorm[i];
}

const char *rt_batchnorm_fate_name(enum rt_batchnorm_fate fate)
{
    static const char *const name[] = {
        [RT_BN_FOLDED_BACK] = "folded back",
        [RT_BN_FOLDED_FORWARD] = "folded forward",
        [RT_BN_FUSED] = "fused",
        [RT_BN_CONSTANT] = "constant",
        [RT_BN_STANDALONE] = "standalone",
        [RT_BN_TRAINING] = "training",
        [RT_BN_UNUSED] = "unused",
    };
    return name[fate];
}

int rt_model_n_layers(const struct rt_model *m)
{
    return m->program != NULL ? m->program->n_layers : 0;
}

const struct rt_layer *rt_model_layer(const struct rt_model *m, int i)
{
    return &m->program->layer[i];
}

static bool rounds(const struct rt_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if ((g->node[i].op->traits & RT_OP_ROUNDS) != 0)
            return true;
    return false;
}

static size_t planned_bytes(const struct rt_program *p, int batch)
{
    struct rt_plan plan = { .bytes = 0 };
    struct rt_arena *arena = rt_arena_create(0);
    if (arena != NULL)
        rt_plan_make(p->g, &(struct rt_plan_for){ .max_batch = batch, .threads = 1 }, arena, &plan,
                     NULL);
    rt_arena_destroy(arena);
    return plan.bytes;
}

void rt_model_info(const struct rt_model *m, struct rt_model_info *info)
{
    const struct rt_program *p = m->program;
    *info = (struct rt_model_info){
        .producer = m->src->producer,
        .ir_version = m->src->ir_version,
        .opset = m->src->opset,
        .n_nodes = m->src->n_file_nodes,
        .n_parameters = m->src->n_parameters,
        .flops = p != NULL ? p->flops : 0,
        .weight_bytes = p != NULL ? p->weight_bytes : 0,
        .activation_bytes = p != NULL ? p->plan.bytes : 0,
        .activation_bytes_one = p != NULL ? planned_bytes(p, 1) : 0,
        .unplanned_bytes = p != NULL ? p->plan.unplanned : 0,
        .dynamic = m->mode == RT_MODE_SHAPED || m->mode == RT_MODE_INTERPRETED,
        .rounds = rounds(m->src),
        .signature = p != NULL ? p->chosen.signature : 0,
        .tuned = p != NULL ? p->chosen.tuned : 0,
        .tuning_note = p != NULL && p->chosen.note[0] != '\0' ? p->chosen.note : NULL,
        .isa = rt_isa(),
        .batch_note = m->batch_note,
    };
}

const char *rt_isa(void)
{
    return rt_kernels()->name;
}

/* Sizes whose programs are kept: more than a client that means well asks for in turns. Each has
 * weights of its own. */
#define SHAPES_KEPT 16

static bool has_shapes(const struct rt_model *m, const struct rt_shaped *s,
                       const struct rt_shape *shape)
{
    for (int i = 0; i < m->src->n_inputs; i++)
        if (!rt_shape_equal(&s->input[i], &shape[i]))
            return false;
    return true;
}

/* Called with the lock held, as the next two. What is found goes to the front. */
static struct rt_shaped *look_up(struct rt_model *m, const struct rt_shape *shape)
{
    for (struct rt_shaped **at = &m->shaped, *s; (s = *at) != NULL; at = &s->next) {
        if (!has_shapes(m, s, shape))
            continue;
        *at = s->next;
        s->next = m->shaped;
        m->shaped = s;
        return s;
    }
    return NULL;
}

/* Lets go of those that nobody has and that were used longest ago: over the number of them, or over
 * the memory that a model may need. */
static void drop_old(struct rt_model *m)
{
    int n = 0;
    size_t bytes = 0;
    for (struct rt_shaped **at = &m->shaped, *s; (s = *at) != NULL;) {
        n++;
        bytes += s->program->weight_bytes;
        if (s->users > 0 || (n <= SHAPES_KEPT && bytes <= m->options.memory_limit)) {
            at = &s->next;
            continue;
        }
        bytes -= s->program->weight_bytes;
        *at = s->next;
        rt_program_destroy(s->program);
        rt_free(s);
    }
}

static enum rt_status add_shaped(struct rt_model *m, const struct rt_shape *shape,
                                 struct rt_shaped **out, struct rt_error *err)
{
    size_t inputs = (size_t)m->src->n_inputs * sizeof *shape;
    struct rt_shaped *s = rt_zalloc(sizeof *s + inputs);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s + inputs);
    memcpy(s->input, shape, inputs);
    struct rt_program_options o = how(m);
    enum rt_status status = rt_program_compile(m->src, shape, &o, &s->program, err);
    if (status != RT_OK) {
        rt_free(s);
        return status;
    }
    s->next = m->shaped;
    m->shaped = s;
    *out = s;
    return RT_OK;
}

enum rt_status rt_model_program_for(struct rt_model *m, const struct rt_tensor *in,
                                    struct rt_program **out, struct rt_error *err)
{
    struct rt_shape *shape = rt_alloc_array((size_t)m->src->n_inputs + 1, sizeof *shape);
    if (shape == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while compiling for new sizes");
    for (int i = 0; i < m->src->n_inputs; i++) {
        shape[i] = in[i].shape;
        if (m->batch_free)
            shape[i].dim[0] = RT_BATCH;
    }
    pthread_mutex_lock(&m->lock);
    enum rt_status s = RT_OK;
    struct rt_shaped *found = look_up(m, shape);
    if (found == NULL)
        s = add_shaped(m, shape, &found, err);
    if (s == RT_OK) {
        found->users++;
        *out = found->program;
        drop_old(m);
    }
    pthread_mutex_unlock(&m->lock);
    rt_free(shape);
    return s;
}

void rt_model_program_done(struct rt_model *m, const struct rt_program *p)
{
    if (p == NULL || p == m->program)
        return;
    pthread_mutex_lock(&m->lock);
    for (struct rt_shaped *s = m->shaped; s != NULL; s = s->next)
        s->users -= s->program == p;
    drop_old(m);
    pthread_mutex_unlock(&m->lock);
}
