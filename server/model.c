/* Loads one model with all that serving it takes, and counts its references. */
#include "server/model.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "server/clock.h"
#include "server/codec_request.h"
#include "server/file.h"
#include "server/log.h"
#include "server/progress.h"

/* The size that the model's input has along an axis of pictures, -1 when it is free. */
static int64_t side(const struct rt_io *io, const struct sv_preprocess *p, char axis)
{
    int first = io->shape.rank - 3;
    int at = axis == 'c' ? (p->nhwc ? 2 : 0) : axis == 'h' ? (p->nhwc ? 0 : 1) : p->nhwc ? 1 : 2;
    return io->shape.dim[first + at];
}

static enum rt_status set_size(const struct rt_io *io, struct sv_preprocess *p, const char *field,
                               char axis, int wanted, int *out, struct rt_error *err)
{
    int64_t fixed = side(io, p, axis);
    if (wanted != 0 && fixed > 0 && fixed != wanted)
        return rt_fail(err, RT_E_INVALID, "input.%s: the model's input is %" PRId64 ", not %d",
                       field, fixed, wanted);
    if (wanted != 0)
        *out = wanted;
    else if (fixed > 0 && fixed <= SV_PREPROCESS_MAX_SIDE)
        *out = (int)fixed;
    return RT_OK;
}

static enum rt_status spread(const struct sv_preprocess *p, const char *field, const float *from,
                             int n, float to[4], struct rt_error *err)
{
    if (n == 3 && p->channels != 3)
        return rt_fail(err, RT_E_INVALID, "input.%s: has 3 numbers, but pictures are grey", field);
    for (int i = 0; i < p->channels && n > 0; i++)
        to[i] = from[n == 1 ? 0 : i];
    return RT_OK;
}

static enum rt_status set_values(struct sv_preprocess *p, const struct sv_input_config *c,
                                 struct rt_error *err)
{
    if (!c->has_scale && c->n_mean == 0 && c->n_std == 0)
        return RT_OK;
    p->scale = c->has_scale ? c->scale : rt_dtype_is_float(p->dtype) ? 1.0f / 255 : 1;
    for (int i = 0; i < 4; i++) {
        p->mean[i] = 0;
        p->std[i] = 1;
    }
    enum rt_status s = spread(p, "mean", c->mean, c->n_mean, p->mean, err);
    return s == RT_OK ? spread(p, "std", c->std, c->n_std, p->std, err) : s;
}

enum rt_status sv_model_preprocess(const struct rt_io *io, const char *producer,
                                   const struct sv_input_config *c, struct sv_preprocess *out,
                                   struct rt_error *err)
{
    struct sv_preprocess p;
    enum rt_status s = sv_preprocess_derive(io, producer, &p, err);
    if (s != RT_OK)
        return s;
    if (c->has_layout)
        p.nhwc = c->nhwc;
    if (c->has_color) {
        p.color = c->color;
        p.channels = c->color == SV_GRAY ? 1 : 3;
    }
    if (side(io, &p, 'c') > 0 && side(io, &p, 'c') != p.channels)
        return rt_fail(err, RT_E_INVALID,
                       "input.%s: makes %d channels, but the model's input has %" PRId64,
                       c->has_color ? "color" : "layout", p.channels, side(io, &p, 'c'));
    s = set_size(io, &p, "width", 'w', c->width, &p.width, err);
    if (s == RT_OK)
        s = set_size(io, &p, "height", 'h', c->height, &p.height, err);
    if (s == RT_OK)
        s = set_values(&p, c, err);
    if (c->has_resize)
        p.resize = c->resize;
    if (c->resize_to != 0)
        p.resize_to = c->resize_to;
    if (c->has_filter)
        p.filter = c->filter;
    if (c->has_fill)
        p.fill = c->fill;
    if (s == RT_OK)
        s = sv_preprocess_check(&p, err);
    if (s == RT_OK)
        *out = p;
    return s;
}

/* Finds the input that takes pictures, and how. That there is none is an error only if the config
 * describes one. */
static enum rt_status find_image_input(struct sv_model *m, size_t max_pixels, struct rt_error *err)
{
    const struct sv_input_config *c = &m->config.input;
    struct rt_model_info info;
    struct rt_error why = { .status = RT_OK };
    int i = 0;
    rt_model_info(m->rt, &info);
    m->image_input = -1;
    while (c->name != NULL && i < m->n_in && strcmp(rt_model_input(m->rt, i)->name, c->name) != 0)
        i++;
    if (c->name != NULL && i == m->n_in)
        return rt_fail(err, RT_E_INVALID, "input.name: the model has no input '%s'", c->name);
    enum rt_status s = RT_E_UNSUPPORTED;
    if (m->n_in != 1 && c->name == NULL)
        rt_fail(&why, s,
                "the model has %d inputs, and config.json does not name the one for "
                "pictures (\"input\": {\"name\": ...})",
                m->n_in);
    else
        s = sv_model_preprocess(rt_model_input(m->rt, i), info.producer, c, &m->preprocess, &why);
    if (s == RT_OK) {
        m->image_input = i;
        m->preprocess.max_pixels = max_pixels;
        return RT_OK;
    }
    if (s == RT_E_NOMEM || c->present) {
        if (err != NULL)
            *err = why;
        return s;
    }
    m->image_note = rt_strdup(why.text);
    return m->image_note != NULL ? RT_OK : rt_fail_nomem(err, sizeof why.text);
}

int64_t sv_model_classes(const struct sv_model *m)
{
    struct rt_shape shape = rt_model_output(m->rt, 0)->shape;
    int64_t n;
    if (m->max_batch > 0)
        shape.dim[0] = 1;
    return rt_shape_count(&shape, &n) ? n : 0;
}

static enum rt_status read_labels(struct sv_model *m, const struct sv_source *src,
                                  struct rt_error *err)
{
    enum rt_status s = RT_OK;
    if (m->config.labels.n > 0) {
        m->labels = m->config.labels;
        m->config.labels = (struct sv_labels){ 0 };
    } else if (m->config.labels_file != NULL) {
        char *folder = sv_path_folder(src->config);
        char *path = folder != NULL ? sv_path_join(folder, m->config.labels_file) : NULL;
        s = path != NULL ? sv_labels_read(path, &m->labels, err) : rt_fail_nomem(err, 0);
        if (s == RT_E_NOT_FOUND)
            rt_error_prefix(err, "labels");
        rt_free(path);
        rt_free(folder);
    } else if (src->labels != NULL) {
        s = sv_labels_read(src->labels, &m->labels, err);
    }
    if (s == RT_OK && m->labels.n > 0 && sv_model_classes(m) > 0 &&
        sv_model_classes(m) != m->labels.n)
        sv_log(SV_LOG_WARN, "%s: %d labels for %" PRId64 " values of output '%s'", m->path,
               m->labels.n, sv_model_classes(m), rt_model_output(m->rt, 0)->name);
    return s;
}

static void wake_up(struct sv_job *job)
{
    sem_post(job->user);
}

bool sv_model_sample_shape(const struct sv_model *m, int i, int n, struct rt_shape *shape)
{
    *shape = rt_model_input(m->rt, i)->shape;
    if (m->max_batch > 0)
        shape->dim[0] = n;
    if (i == m->image_input && shape->rank >= 3) {
        int first = shape->rank - 3;
        const struct sv_preprocess *p = &m->preprocess;
        shape->dim[first + (p->nhwc ? 0 : 1)] = p->height;
        shape->dim[first + (p->nhwc ? 1 : 2)] = p->width;
        shape->dim[first + (p->nhwc ? 2 : 0)] = p->channels;
    }
    int64_t count;
    return rt_model_input(m->rt, i)->dtype != RT_STRING && rt_shape_count(shape, &count);
}

/* One run on a sample of zeros, as a request would have it. Models whose sizes are free are left
 * as they are. */
static enum rt_status run_zeros(struct sv_model *m, struct rt_error *err)
{
    struct sv_job *job = sv_job_create(m->batcher);
    if (job == NULL)
        return rt_fail_nomem(err, sizeof *job);
    enum rt_status s = RT_OK;
    sem_t done;
    sem_init(&done, 0, 0);
    job->done = wake_up;
    job->user = &done;
    bool known = true;
    for (int i = 0; i < m->n_in && s == RT_OK && known; i++) {
        struct rt_shape shape;
        size_t len;
        known = sv_model_sample_shape(m, i, 1, &shape);
        if (known)
            s = sv_job_input(job, i, rt_model_input(m->rt, i)->dtype, &shape, err);
        if (known && s == RT_OK && rt_shape_bytes(&shape, job->in[i].dtype, &len))
            memset(job->in[i].data, 0, len);
    }
    if (s == RT_OK && known)
        s = sv_batcher_submit(job, err);
    if (s == RT_OK && known) {
        while (sem_wait(&done) != 0)
            continue; /* a signal */
        s = job->error.status;
        if (s != RT_OK && err != NULL)
            *err = job->error;
    }
    sem_destroy(&done);
    sv_job_destroy(job);
    return s;
}

/* Before anybody waits for an answer. Where config.json does not ask for it, only a model that
 * compiles for the sizes it sees is run, and that it refuses zeros is no fault: it may want other
 * values. Any other one's first run takes no longer than its next. */
static enum rt_status warm_up(struct sv_model *m, struct rt_error *err)
{
    struct rt_model_info info;
    rt_model_info(m->rt, &info);
    int wanted = m->config.warmup, n = wanted == 0 ? (int)info.dynamic : wanted;
    enum rt_status s = RT_OK;
    for (int i = 0; i < n && s == RT_OK; i++)
        s = run_zeros(m, err);
    if (s != RT_OK && wanted == 0 && err != NULL) {
        sv_log(SV_LOG_WARN, "%s: does not run on zeros: %s", m->path, err->text);
        s = RT_OK;
    } else if (s != RT_OK) {
        rt_error_prefix(err, "warm-up");
    }
    sv_stats_clear(&m->stats);
    return s;
}

/* The config's wishes that only the model's batch limit makes valid or not. */
static enum rt_status check_preferred(const struct sv_model *m, struct rt_error *err)
{
    const struct sv_model_config *c = &m->config;
    int largest = c->n_preferred > 0 ? c->preferred_batch_size[c->n_preferred - 1] : 0;
    if (largest > m->max_batch)
        return rt_fail(err, RT_E_INVALID,
                       "preferred_batch_size: holds %d, but a batch of this model has at most %d "
                       "samples",
                       largest, m->max_batch > 0 ? m->max_batch : 1);
    return RT_OK;
}

/* Up to so many operations and bytes, which are less than 0.1 ms of one core's work, a run takes
 * less time than waking a thread for it and another one for its answer. Where the threads that
 * serve sockets are as many as the cores, four times as much is still less than the wait for its
 * turn would be, and no core is left idle by it. */
struct lightness {
    double flops;
    size_t bytes;
};
static const struct lightness light_work = { 4e6, (size_t)256 << 10 };
static const struct lightness light_on_few_cores = { 16e6, (size_t)1 << 20 };

/* The bytes of one sample's inputs; SIZE_MAX where dimensions are free. */
static size_t input_bytes(const struct sv_model *m)
{
    size_t all = 0;
    for (int i = 0; i < m->n_in; i++) {
        const struct rt_io *io = rt_model_input(m->rt, i);
        struct rt_shape shape = io->shape;
        size_t len;
        if (m->max_batch > 0)
            shape.dim[0] = 1;
        if (!rt_shape_bytes(&shape, io->dtype, &len) || !rt_add_size(all, len, &all))
            return SIZE_MAX;
    }
    return all;
}

/* The bytes that a run of one sample works on. */
static size_t bytes_of_one(const struct sv_model *m, const struct rt_model_info *info)
{
    size_t all;
    return rt_add_size(input_bytes(m), info->activation_bytes_one, &all) ? all : SIZE_MAX;
}

/* The samples that are light work together; 0: not even one is. */
static int light_samples(const struct sv_model *m, const struct sv_registry_options *o)
{
    const struct lightness most =
        sv_cores_total(o->cores) <= o->socket_threads ? light_on_few_cores : light_work;
    struct rt_model_info info;
    rt_model_info(m->rt, &info);
    const size_t one = bytes_of_one(m, &info);
    if (info.dynamic || info.flops > most.flops || one > most.bytes)
        return 0;
    size_t n = m->max_batch > 0 ? (size_t)m->max_batch : 1;
    if (one * n > most.bytes)
        n = most.bytes / one;
    return info.flops * (double)n > most.flops ? (int)(most.flops / info.flops) : (int)n;
}

/* Requests that may wait where the model's own configuration does not say. Inputs of free size are
 * bounded by what bodies may hold. */
static int queue_size(const struct sv_model *m, const struct sv_registry_options *o)
{
    const size_t one = input_bytes(m);
    if (o->max_queue_memory == 0 || one == 0 || one == SIZE_MAX)
        return o->max_queue;
    const size_t most = o->max_queue_memory / one;
    return most >= (size_t)o->max_queue ? o->max_queue : most > 0 ? (int)most : 1;
}

/* Light work is not worth the meeting of a team: each core has an executor then. Where batches are
 * wanted larger than they become by themselves, they have all cores. What the others need is
 * known, and executors are as many as there is memory for. */
static struct sv_core_split split_cores(const struct sv_model *m,
                                        const struct sv_registry_options *o, bool light,
                                        bool collects)
{
    const int cores = sv_cores_total(o->cores);
    struct rt_model_info info;
    rt_model_info(m->rt, &info);
    if (m->config.instances > 0 || light)
        return sv_cores_split(cores,
                              light && m->config.instances == 0 ? cores : m->config.instances);
    if (collects || info.dynamic)
        return sv_cores_split(cores, 1);
    struct sv_core_split split = sv_cores_split(cores, 0);
    const size_t each = info.activation_bytes;
    while (split.executors > 1 && o->memory_limit > 0 &&
           info.weight_bytes + (size_t)split.executors * each > o->memory_limit)
        split.executors--;
    return split;
}

static enum rt_status start_batcher(struct sv_model *m, const struct sv_registry_options *o,
                                    struct rt_error *err)
{
    const struct rt_io **in = rt_alloc_array((size_t)m->n_in, sizeof *in);
    if (in == NULL)
        return rt_fail_nomem(err, (size_t)m->n_in * sizeof *in);
    for (int i = 0; i < m->n_in; i++)
        in[i] = rt_model_input(m->rt, i);
    const int light = light_samples(m, o);
    const bool collects = m->config.max_queue_delay_us > 0 || m->config.n_preferred > 0;
    const struct sv_batcher_options options = {
        .ops = &sv_batcher_rt,
        .model = m->rt,
        .n_in = m->n_in,
        .n_out = m->n_out,
        .in = in,
        .max_batch = m->max_batch,
        .max_queue = m->config.max_queue_size,
        .max_answer = o->max_answer,
        .at_once = collects ? 0 : light,
        .delay_ns = (uint64_t)m->config.max_queue_delay_us * 1000,
        .policy = {
            .levels = m->config.priority_levels,
            .default_level = m->config.default_priority_level,
            .default_timeout_ns = (uint64_t)m->config.default_timeout_us * 1000,
            .fixed_timeout = m->config.fixed_timeout,
            .delay = m->config.timeout_action == SV_TIMEOUT_DELAY,
            .n_preferred = m->config.n_preferred,
            .preferred = m->config.preferred_batch_size,
        },
        .split = split_cores(m, o, light > 0, collects),
        .cores = o->cores,
        .stats = &m->stats,
    };
    enum rt_status s = sv_batcher_create(&options, &m->batcher, err);
    rt_free(in);
    return s;
}

static enum rt_status load(struct sv_model *m, const struct sv_source *src,
                           const struct sv_registry_options *o, struct rt_error *err)
{
    struct rt_options options = {
        .max_batch = m->config.max_batch_size > 0 ? m->config.max_batch_size : o->max_batch,
        .memory_limit = o->memory_limit,
        .exact = o->exact,
        .extra_weights = o->extra_weights,
        .allow_batch_statistics = m->config.allow_batch_statistics,
        .batchnorm = m->config.batchnorm,
        .threads = sv_cores_total(o->cores),
        .progress = o->loading != NULL ? sv_progress_loading : NULL,
        .progress_user = o->loading,
    };
    enum rt_status s = rt_model_load_file(m->path, &options, &m->rt, err);
    if (s != RT_OK)
        return s;
    if (m->config.default_timeout_us == 0)
        m->config.default_timeout_us = o->queue_timeout_us;
    m->n_in = rt_model_n_inputs(m->rt);
    m->n_out = rt_model_n_outputs(m->rt);
    m->max_batch = rt_model_max_batch(m->rt);
    if (m->config.max_queue_size == 0)
        m->config.max_queue_size = queue_size(m, o);
    s = find_image_input(m, o->max_pixels, err);
    m->preprocess.scaled_decode = !o->exact;
    if (s == RT_OK)
        s = check_preferred(m, err);
    if (s != RT_OK && src->config != NULL)
        rt_error_prefix(err, "%s", src->config);
    if (s == RT_OK)
        s = read_labels(m, src, err);
    if (s == RT_OK)
        s = sv_stats_init(&m->stats, m->max_batch > 0 ? m->max_batch : 1, err);
    if (s == RT_OK)
        s = start_batcher(m, o, err);
    if (s == RT_OK && o->warm_up)
        s = warm_up(m, err);
    return s;
}

enum rt_status sv_model_load(const char *name, const struct sv_source *src,
                             struct sv_model_config *config, const struct sv_registry_options *o,
                             struct sv_model **out, struct rt_error *err)
{
    uint64_t start = sv_now_ns();
    struct sv_model *m = rt_zalloc(sizeof *m);
    if (m == NULL)
        return rt_fail_nomem(err, sizeof *m);
    atomic_init(&m->refs, 1);
    m->name = rt_strdup(name);
    m->path = rt_strdup(src->path);
    m->memo = sv_wire_memo_create();
    m->version = src->version;
    snprintf(m->version_text, sizeof m->version_text, "%" PRId64, src->version);
    m->config = *config;
    memset(config, 0, sizeof *config);
    enum rt_status s = m->name != NULL && m->path != NULL && m->memo != NULL
                           ? load(m, src, o, err)

                           : rt_fail_nomem(err, strlen(src->path));
    if (s != RT_OK) {
        sv_model_destroy(m);
        if (err != NULL && strncmp(err->text, src->path, strlen(src->path)) != 0 &&
            (src->config == NULL || strncmp(err->text, src->config, strlen(src->config)) != 0))
            rt_error_prefix(err, "%s", src->path);
        return s;
    }
    m->load_seconds = (double)(sv_now_ns() - start) / (double)SV_NS_PER_SECOND;
    *out = m;
    return RT_OK;
}

void sv_model_destroy(struct sv_model *m)
{
    sv_batcher_destroy(m->batcher);
    rt_model_release(m->rt);
    sv_model_config_reset(&m->config);
    sv_labels_reset(&m->labels);
    sv_stats_reset(&m->stats);
    sv_wire_memo_destroy(m->memo);
    rt_free(m->image_note);
    rt_free(m->name);
    rt_free(m->path);
    rt_free(m);
}
