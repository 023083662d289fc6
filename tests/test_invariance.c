/* Batch invariance, the promise that an image's answer has the same bits whatever batch it travels
 * in: every model that is there x every level of kernels x batch sizes, positions, team sizes and
 * neighbours, some of them full of NaN and infinities. One cmocka test for a model and a level.
 *
 * Models: those of models/, of $CONVD_DATA/models (default ../shared/data) and below the folder
 * $CONVD_INVARIANCE_MODELS, where these are there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kernels/kernels.h"
#include "runtime/rt.h"

#define MAX_BATCH 9
#define MAX_FILES 256
#define MAX_LEVELS 8
#define MAX_IO 8
#define FREE_SIDE 40 /* for dimensions that the model leaves free */
/* Models of more work than this a sample see fewer combinations: the slowest level takes long. */
#define HEAVY_FLOPS 5e7

static const int teams[] = { 1, 2, 5 }; /* 5: more than most cgroups allow */
static const int batches[] = { 1, 2, 7, MAX_BATCH };

enum neighbours { IMAGES, ALL_NAN, ALL_INFINITE, MIXED, N_NEIGHBOURS };
static const char *const neighbour_name[] = { "other images", "NaN", "infinities",
                                              "NaN, infinities and extremes" };

static char *files[MAX_FILES];
static int n_files;

struct test {
    const char *path;
    const struct rt_kernels *level;
};

/* A model with MAX_BATCH images and, for each, the answer it gets alone on one thread. */
struct subject {
    struct rt_model *model;
    struct rt_session *session;
    int threads; /* of session */
    int n_in, n_out;
    size_t in_bytes[MAX_IO], out_bytes[MAX_IO]; /* of one sample */
    struct rt_tensor in[MAX_IO];                /* one sample's type and shape, no data */
    char *image[MAX_IO];                        /* MAX_BATCH samples one after the other */
    char *poison[MAX_IO][N_NEIGHBOURS];         /* one sample; none for IMAGES */
    char *batch[MAX_IO];                        /* room for what a run is given */
    char *answer[MAX_IO];                       /* MAX_BATCH samples */
};

static uint64_t seed;

static uint64_t draw(void)
{
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* About normal: the sum of four uniforms, times sqrt(3). */
static float draw_pixel(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(draw() >> 40) * 0x1p-24f - 0.5f;
    return sum * 1.7320508f;
}

static void put_float(enum rt_dtype type, char *at, float f)
{
    const uint16_t half = type == RT_FLOAT16 ? rt_float_to_half(f) : rt_float_to_bfloat16(f);
    const double d = (double)f;
    const void *from = &half;
    if (type == RT_FLOAT)
        from = &f;
    else if (type == RT_DOUBLE)
        from = &d;
    memcpy(at, from, rt_dtype_size(type));
}

static void fill_image(enum rt_dtype type, char *at, size_t bytes)
{
    size_t size = rt_dtype_size(type);
    for (size_t i = 0; i < bytes; i += size) {
        if (rt_dtype_is_float(type)) {
            put_float(type, at + i, draw_pixel());
        } else {
            uint64_t v = draw() & (type == RT_BOOL ? 1 : type == RT_INT8 ? 127 : 255);
            memcpy(at + i, &v, size); /* little endian, as tensors are */
        }
    }
}

static void fill_poison(enum rt_dtype type, char *at, size_t bytes, enum neighbours kind)
{
    static const float mixed[] = { NAN,    INFINITY, -INFINITY, 3e38f, -3e38f,
                                   1e-40f, -0.0f,    0.0f,      1.0f,  -1.0f };
    size_t size = rt_dtype_size(type);
    for (size_t i = 0; i < bytes; i += size) {
        uint64_t r = draw();
        float f = kind == ALL_NAN        ? NAN
                  : kind == ALL_INFINITE ? (r & 1 ? INFINITY : -INFINITY)
                                         : mixed[r % (sizeof mixed / sizeof mixed[0])];
        if (rt_dtype_is_float(type))
            put_float(type, at + i, f);
        else
            memset(at + i, type == RT_BOOL ? (int)(r & 1) : r & 1 ? 255 : 0, size);
    }
}

/* The shape of n samples of input i. */
static struct rt_tensor tensor_of(const struct subject *s, int i, int n, void *data)
{
    struct rt_tensor t = s->in[i];
    t.shape.dim[0] *= n;
    t.data = data;
    return t;
}

static void use_team(struct subject *s, int threads)
{
    struct rt_error err = { 0 };
    if (s->session != NULL && s->threads == threads)
        return;
    rt_session_destroy(s->session);
    s->session = NULL;
    s->threads = threads;
    if (rt_session_create(s->model, threads, &s->session, &err) != RT_OK)
        fail_msg("%s", err.text);
}

/* Runs n samples of what s->batch holds. */
static enum rt_status run(struct subject *s, int n, struct rt_tensor *out, struct rt_error *err)
{
    struct rt_tensor in[MAX_IO];
    rt_session_settle(s->session); /* no more does an answer depend on that */
    for (int i = 0; i < s->n_in; i++)
        in[i] = tensor_of(s, i, n, s->batch[i]);
    return rt_session_run(s->session, in, out, err);
}

static void put(struct subject *s, int position, const char *const *from, size_t sample)
{
    for (int i = 0; i < s->n_in; i++)
        memcpy(s->batch[i] + (size_t)position * s->in_bytes[i], from[i] + sample * s->in_bytes[i],
               s->in_bytes[i]);
}

/* Runs n samples and compares. Position p holds image (p + shift) % MAX_BATCH, unless there is
 * poison: then the one at `only` does, and the rest are of that kind. */
static void check(struct subject *s, int threads, int n, int shift, enum neighbours kind, int only)
{
    struct rt_tensor out[MAX_IO];
    struct rt_error err = { 0 };
    const char *poison[MAX_IO];
    for (int i = 0; i < s->n_in; i++)
        poison[i] = s->poison[i][kind];
    for (int p = 0; p < n; p++)
        if (kind == IMAGES || p == only)
            put(s, p, (const char *const *)s->image, (size_t)((p + shift) % MAX_BATCH));
        else
            put(s, p, poison, 0);
    use_team(s, threads);
    if (run(s, n, out, &err) != RT_OK)
        fail_msg("%d samples on %d threads: %s", n, threads, err.text);
    for (int k = 0; k < s->n_out; k++) {
        size_t all;
        if (!rt_shape_bytes(&out[k].shape, out[k].dtype, &all) ||
            all != (size_t)n * s->out_bytes[k])
            fail_msg("output %d of %d samples has %zu bytes", k, n, all);
        for (int p = 0; p < n; p++) {
            if (kind != IMAGES && p != only)
                continue;
            size_t image = (size_t)((p + shift) % MAX_BATCH), bytes = s->out_bytes[k], at = 0;
            const char *got = (const char *)out[k].data + (size_t)p * bytes;
            const char *want = s->answer[k] + image * bytes;
            if (memcmp(got, want, bytes) == 0)
                continue;
            while (got[at] == want[at])
                at++;
            fail_msg("output %d of image %zu at position %d of %d on %d threads beside %s: byte "
                     "%zu of %zu is not as when alone on one thread",
                     k, image, p, n, threads, neighbour_name[kind], at, bytes);
        }
    }
}

/* Every image alone on one thread: what all else is compared with. False, with why, when the
 * model cannot be run on such sizes. */
static bool answer_alone(struct subject *s, struct rt_error *err)
{
    struct rt_tensor out[MAX_IO];
    use_team(s, 1);
    for (int image = 0; image < MAX_BATCH; image++) {
        put(s, 0, (const char *const *)s->image, (size_t)image);
        if (run(s, 1, out, err) != RT_OK)
            return false;
        for (int k = 0; k < s->n_out; k++) {
            if (out[k].shape.rank == 0 || out[k].shape.dim[0] != 1) {
                rt_fail(err, RT_E_UNSUPPORTED, "output %d has no axis of samples", k);
                return false;
            }
            if (image == 0) {
                assert_true(rt_shape_bytes(&out[k].shape, out[k].dtype, &s->out_bytes[k]));
                s->answer[k] = rt_alloc_array(s->out_bytes[k], MAX_BATCH);
                assert_non_null(s->answer[k]);
            }
            memcpy(s->answer[k] + (size_t)image * s->out_bytes[k], out[k].data, s->out_bytes[k]);
        }
    }
    return true;
}

static void make_inputs(struct subject *s)
{
    for (int i = 0; i < s->n_in; i++) {
        const struct rt_io *io = rt_model_input(s->model, i);
        s->in[i] = (struct rt_tensor){ .dtype = io->dtype, .shape = io->shape };
        s->in[i].shape.dim[0] = 1;
        for (int d = 1; d < io->shape.rank; d++)
            if (io->shape.dim[d] < 0)
                s->in[i].shape.dim[d] = FREE_SIDE;
        assert_true(rt_shape_bytes(&s->in[i].shape, io->dtype, &s->in_bytes[i]));
        s->image[i] = rt_alloc_array(s->in_bytes[i], MAX_BATCH);
        s->batch[i] = rt_alloc_array(s->in_bytes[i], MAX_BATCH);
        assert_non_null(s->image[i]);
        assert_non_null(s->batch[i]);
        fill_image(io->dtype, s->image[i], s->in_bytes[i] * MAX_BATCH);
        for (int kind = ALL_NAN; kind < N_NEIGHBOURS; kind++) {
            s->poison[i][kind] = rt_alloc(s->in_bytes[i]);
            assert_non_null(s->poison[i][kind]);
            fill_poison(io->dtype, s->poison[i][kind], s->in_bytes[i], (enum neighbours)kind);
        }
    }
}

static void reset(struct subject *s)
{
    rt_session_destroy(s->session);
    rt_model_release(s->model);
    for (int i = 0; i < MAX_IO; i++) {
        rt_free(s->image[i]);
        rt_free(s->batch[i]);
        rt_free(s->answer[i]);
        for (int kind = 0; kind < N_NEIGHBOURS; kind++)
            rt_free(s->poison[i][kind]);
    }
}

static void check_team(struct subject *s, int threads)
{
    for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        int n = batches[b];
        /* Every image visits every position once, of the largest batch. */
        int shifts = n == MAX_BATCH && threads == 2 ? MAX_BATCH : 2;
        for (int shift = 0; shift < shifts; shift++)
            check(s, threads, n, shift, IMAGES, 0);
        /* At the front, in the middle and at the end in turn. */
        for (int kind = ALL_NAN; kind < N_NEIGHBOURS && n > 1; kind++)
            check(s, threads, n, kind, (enum neighbours)kind, (kind + threads) % 3 * (n - 1) / 2);
    }
}

/* What must hold at all: one batch of images on a small and on a large team, one among NaN. */
static void check_heavy(struct subject *s)
{
    check(s, 2, MAX_BATCH, 1, IMAGES, 0);
    check(s, 5, 2, 1, IMAGES, 0);
    check(s, 5, 7, 3, MIXED, 4);
    check(s, 1, 2, 5, ALL_NAN, 1);
}

/* Also true of models that are planned for each number of samples anew. */
static bool takes_batches(const struct subject *s)
{
    bool all = s->n_in <= MAX_IO && s->n_out <= MAX_IO;
    for (int i = 0; all && i < s->n_in; i++)
        all = rt_model_input(s->model, i)->shape.rank > 0 &&
              rt_model_input(s->model, i)->shape.dim[0] < 0;
    for (int k = 0; all && k < s->n_out; k++)
        all = rt_model_output(s->model, k)->shape.rank == 0 ||
              rt_model_output(s->model, k)->shape.dim[0] < 0;
    return all && s->n_in > 0;
}

static void test_model(void **state)
{
    const struct test *t = *state;
    const struct rt_options options = { .max_batch = MAX_BATCH, .threads = 5 };
    struct subject s = { 0 };
    struct rt_error err = { 0 };
    struct rt_model_info info;
    rt_kernels_use(t->level);
    seed = 1;
    enum rt_status status = rt_model_load_file(t->path, &options, &s.model, &err);
    if (status != RT_OK) {
        print_message("%s: %s\n", t->path, err.text);
        if (status == RT_E_UNSUPPORTED)
            skip();
        fail();
    }
    rt_model_info(s.model, &info);
    s.n_in = rt_model_n_inputs(s.model);
    s.n_out = rt_model_n_outputs(s.model);
    if (!takes_batches(&s)) {
        print_message("%s: has no batch axis: %s\n", t->path,
                      info.batch_note != NULL ? info.batch_note : "too many inputs or outputs");
        reset(&s);
        skip();
    }
    make_inputs(&s);
    if (!answer_alone(&s, &err)) {
        print_message("%s: %s\n", t->path, err.text);
        reset(&s);
        skip();
    }
    if (info.flops > HEAVY_FLOPS)
        check_heavy(&s);
    else
        for (size_t i = 0; i < sizeof teams / sizeof teams[0]; i++)
            check_team(&s, teams[i]);
    reset(&s);
    assert_int_equal(rt_mem_live(), 0);
}

static int visit(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)at;
    size_t len = strlen(path);
    if (kind == FTW_F && len > 5 && strcmp(path + len - 5, ".onnx") == 0 && n_files < MAX_FILES)
        files[n_files++] = strdup(path);
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void find_files(void)
{
    char data[1024];
    const char *root = getenv("CONVD_DATA"), *more = getenv("CONVD_INVARIANCE_MODELS");
    snprintf(data, sizeof data, "%s/models", root != NULL ? root : "../shared/data");
    const char *const roots[] = { "models", data, more };
    for (int i = 0; i < 3; i++)
        if (roots[i] != NULL && nftw(roots[i], visit, 16, FTW_PHYS) != 0)
            printf("%s is not there: its models are not tested\n", roots[i]);
    qsort(files, (size_t)n_files, sizeof files[0], by_path);
}

int main(void)
{
    static struct test tests[MAX_FILES * MAX_LEVELS];
    static struct CMUnitTest units[MAX_FILES * MAX_LEVELS];
    size_t n = 0;
    find_files();
    for (int l = 0; l < MAX_LEVELS && rt_kernels_at(l) != NULL; l++)
        for (int f = 0; f < n_files; f++, n++) {
            char *name;
            tests[n] = (struct test){ files[f], rt_kernels_at(l) };
            if (asprintf(&name, "%s %s", tests[n].level->name, tests[n].path) < 0)
                return 1;
            units[n] = (struct CMUnitTest){ .name = name,
                                            .test_func = test_model,
                                            .initial_state = &tests[n] };
        }
    return _cmocka_run_group_tests("invariance", units, n, NULL, NULL);
}
