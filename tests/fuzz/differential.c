/* Runs random networks (random_net.h) and given files every way there is to run them, and compares.
 *
 *   differential [--from N] [--count N] [--seconds S] [--found DIR] [--write DIR] [FILE.onnx...]
 *
 * The measure is the file's own nodes one by one (any_shape), in plain C, on one thread. Within a
 * tolerance of it have to be all levels of kernels x batch norms folded and separate x exact or
 * not. Without any tolerance, to the bit: teams of one and three threads, samples alone and in
 * batches of all sizes. A network that fails is made smaller while it fails and left in --found.
 * --write leaves each network with its input and answer for others to compare (onnxruntime.js). */
#include "runtime/kernels/kernels.h"
#include "runtime/rt.h"
#include "tests/avx512_emulated.h"
#include "tests/fuzz/random_net.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define MAX_OUT 32
#define SAMPLES 5
#define RELATIVE 1e-4f /* of an output's largest element */

/* All outputs of a run, or of several put together. */
struct answer {
    int n;
    struct rt_shape shape[MAX_OUT];
    float *data[MAX_OUT];
};

struct subject {
    const void *bytes;
    size_t len;
    struct rt_tensor in; /* SAMPLES samples, or as many as the file says */
    struct answer measure;
    float tolerance[MAX_OUT];
    char fault[512]; /* what failed; "" so far */
};

/* One way to run: what may change the last bits of an answer. */
struct way {
    const struct rt_kernels *level;
    struct rt_options options;
};

static void answer_reset(struct answer *a)
{
    for (int i = 0; i < a->n; i++)
        free(a->data[i]);
    a->n = 0;
}

static size_t numel(const struct rt_shape *s)
{
    return (size_t)rt_shape_numel(s);
}

static const char *describe(const struct way *w, char text[96])
{
    snprintf(text, 96, "%s%s%s%s", w->level->name, w->options.exact ? ", exact" : "",
             w->options.batchnorm == RT_BATCHNORM_SEPARATE ? ", batch norms separate" : "",
             w->options.any_shape ? ", node by node" : "");
    return text;
}

/* --- running ---------------------------------------------------------------------------------- */

/* Runs samples first .. first + n - 1 and puts their answers where they belong in *a. */
static enum rt_status run_part(struct rt_session *s, const struct rt_tensor *all, int64_t first,
                               int64_t n, int n_out, struct answer *a, struct rt_error *err)
{
    struct rt_tensor in = *all, out[MAX_OUT];
    size_t sample = numel(&all->shape) / (size_t)all->shape.dim[0];
    in.shape.dim[0] = n;
    in.data = (float *)all->data + (size_t)first * sample;
    enum rt_status status = rt_session_run(s, &in, out, err);
    for (int i = 0; status == RT_OK && i < n_out; i++) {
        if (a->data[i] == NULL) {
            a->shape[i] = out[i].shape;
            if (n < all->shape.dim[0])
                a->shape[i].dim[0] *= all->shape.dim[0] / n; /* parts are of one sample */
            a->data[i] = malloc((numel(&a->shape[i]) + 1) * sizeof(float));
            a->n = i + 1;
        }
        size_t part = numel(&out[i].shape);
        if (a->data[i] != NULL && part > 0)
            memcpy(a->data[i] + (size_t)first * (part / (size_t)n), out[i].data,
                   part * sizeof(float));
    }
    return status;
}

/* All samples in one run, or one by one. */
static enum rt_status run(struct rt_model *m, int threads, bool alone, const struct rt_tensor *in,
                          struct answer *a, struct rt_error *err)
{
    struct rt_session *s = NULL;
    int n_out = rt_model_n_outputs(m);
    if (n_out > MAX_OUT)
        return rt_fail(err, RT_E_LIMIT, "%d outputs", n_out);
    enum rt_status status = rt_session_create(m, threads, &s, err);
    int64_t all = in->shape.dim[0], step = alone ? 1 : all;
    for (int64_t i = 0; status == RT_OK && i < all; i += step)
        status = run_part(s, in, i, step, n_out, a, err);
    rt_session_destroy(s);
    return status;
}

/* A fresh input for m, from a seed; dimensions that are free become 7, the batch SAMPLES. */
static bool make_input(const struct rt_model *m, uint64_t seed, struct rt_tensor *in)
{
    const struct rt_io *io = rt_model_input(m, 0);
    if (rt_model_n_inputs(m) != 1 || io->dtype != RT_FLOAT || io->shape.rank < 1)
        return false;
    *in = (struct rt_tensor){ .dtype = RT_FLOAT, .shape = io->shape };
    for (int i = 0; i < in->shape.rank; i++)
        if (in->shape.dim[i] < 0)
            in->shape.dim[i] = i == 0 ? SAMPLES : 7;
    size_t n = numel(&in->shape);
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; x != NULL && i < n; i++)
        x[i] = net_normal(&seed);
    in->data = x;
    return x != NULL;
}

/* --- comparing -------------------------------------------------------------------------------- */

static bool same_shapes(struct subject *s, const struct answer *a, const char *who)
{
    char want[RT_SHAPE_TEXT], got[RT_SHAPE_TEXT];
    for (int i = 0; i < s->measure.n; i++)
        if (!rt_shape_equal(&a->shape[i], &s->measure.shape[i])) {
            snprintf(s->fault, sizeof s->fault, "%s: output %d has shape %.60s instead of %.60s",
                     who, i, rt_shape_text(&a->shape[i], got),
                     rt_shape_text(&s->measure.shape[i], want));
            return false;
        }
    return true;
}

static bool near(struct subject *s, const struct answer *a, const char *who)
{
    if (!same_shapes(s, a, who))
        return false;
    for (int i = 0; i < s->measure.n; i++)
        for (size_t k = 0; k < numel(&a->shape[i]); k++) {
            float want = s->measure.data[i][k], got = a->data[i][k];
            if (!isfinite(want) || fabsf(got - want) <= s->tolerance[i])
                continue;
            snprintf(s->fault, sizeof s->fault,
                     "%s: output %d[%zu] is %.9g, node by node %.9g (tolerance %.3g)", who, i, k,
                     (double)got, (double)want, (double)s->tolerance[i]);
            return false;
        }
    return true;
}

static bool equal(struct subject *s, const struct answer *a, const struct answer *b,
                  const char *who)
{
    for (int i = 0; i < a->n; i++) {
        if (!rt_shape_equal(&a->shape[i], &b->shape[i])) {
            snprintf(s->fault, sizeof s->fault, "%s: output %d has another shape", who, i);
            return false;
        }
        for (size_t k = 0; k < numel(&a->shape[i]); k++)
            if (memcmp(&a->data[i][k], &b->data[i][k], sizeof(float)) != 0) {
                snprintf(s->fault, sizeof s->fault, "%s: output %d[%zu] is %a, not %a", who, i, k,
                         (double)a->data[i][k], (double)b->data[i][k]);
                return false;
            }
    }
    return true;
}

/* Runs in one more way than the first and wants the same bits. */
static void want_bits(struct subject *s, struct rt_model *m, int threads, bool alone,
                      const struct answer *first, const char *way)
{
    struct rt_error err = { .text = "" };
    struct answer a = { .n = 0 };
    char who[160];
    snprintf(who, sizeof who, "%s, %d threads, %s", way, threads,
             alone ? "samples alone" : "all samples at once");
    if (run(m, threads, alone, &s->in, &a, &err) != RT_OK)
        snprintf(s->fault, sizeof s->fault, "%s: %.300s", who, err.text);
    else
        equal(s, &a, first, who);
    answer_reset(&a);
}

static void try_way(struct subject *s, const struct way *w)
{
    struct rt_error err = { .text = "" };
    struct rt_model *m = NULL;
    struct answer a = { .n = 0 };
    char who[96];
    describe(w, who);
    rt_kernels_use(w->level);
    if (rt_model_load(s->bytes, s->len, &w->options, &m, &err) != RT_OK ||
        run(m, 1, false, &s->in, &a, &err) != RT_OK)
        snprintf(s->fault, sizeof s->fault, "%s: %.300s", who, err.text);
    else if (near(s, &a, who)) {
        want_bits(s, m, 3, false, &a, who);
        if (s->fault[0] == '\0' && rt_model_max_batch(m) > 1)
            want_bits(s, m, 1, true, &a, who);
    }
    answer_reset(&a);
    rt_model_release(m);
}

/* How much an answer moves when its input moves by its last bits is not the runtime's doing. */
static void find_tolerance(struct subject *s, struct rt_model *m)
{
    struct rt_error err = { .text = "" };
    struct answer moved = { .n = 0 };
    float *x = s->in.data;
    uint64_t seed = 1;
    size_t n = numel(&s->in.shape);
    float *kept = malloc((n + 1) * sizeof *kept);
    if (kept == NULL)
        return;
    memcpy(kept, x, n * sizeof *kept);
    for (size_t i = 0; i < n; i++)
        x[i] *= 1 + (net_random(&seed) & 1 ? 1 : -1) * 0x1p-20f;
    bool ran = run(m, 1, false, &s->in, &moved, &err) == RT_OK;
    memcpy(x, kept, n * sizeof *kept);
    free(kept);
    for (int i = 0; ran && i < s->measure.n; i++) {
        float largest = 0, most = 0;
        for (size_t k = 0; k < numel(&s->measure.shape[i]); k++) {
            float y = s->measure.data[i][k];
            if (!isfinite(y))
                continue;
            largest = fmaxf(largest, fabsf(y));
            most = fmaxf(most, fabsf(moved.data[i][k] - y));
        }
        s->tolerance[i] = RELATIVE * largest + 4 * most + 1e-30f;
    }
    answer_reset(&moved);
}

/* Whether there is a measure to compare with; what stands in the way goes to *err. */
static bool measure(struct subject *s, uint64_t seed, struct rt_error *err)
{
    const struct rt_options o = {
        .max_batch = SAMPLES, .any_shape = true, .exact = true, .batchnorm = RT_BATCHNORM_SEPARATE
    };
    struct rt_model *m = NULL;
    rt_kernels_use(rt_kernels_at(0));
    bool good = rt_model_load(s->bytes, s->len, &o, &m, err) == RT_OK;
    if (good && !make_input(m, seed, &s->in)) {
        rt_fail(err, RT_E_UNSUPPORTED, "not one float input");
        good = false;
    }
    good = good && run(m, 1, false, &s->in, &s->measure, err) == RT_OK;
    if (good)
        find_tolerance(s, m);
    rt_model_release(m);
    return good;
}

static void subject_reset(struct subject *s)
{
    answer_reset(&s->measure);
    free(s->in.data);
}

enum verdict { SAME, DIFFERENT, REFUSED };

/* Compares all ways. Ends with subject_reset(). */
static enum verdict compare(const void *bytes, size_t len, uint64_t seed, struct subject *s)
{
    struct rt_error err = { .text = "" };
    *s = (struct subject){ .bytes = bytes, .len = len };
    if (!measure(s, seed, &err)) {
        snprintf(s->fault, sizeof s->fault, "%.500s", err.text);
        return REFUSED;
    }
    for (int i = 0; s->fault[0] == '\0' && check_level(i) != NULL; i++)
        for (int k = 0; s->fault[0] == '\0' && k < 3; k++) {
            const struct way w = {
                .level = check_level(i),
                .options = { .max_batch = SAMPLES,
                             .exact = k == 1,
                             .threads = 3,
                             .batchnorm = k == 2 ? RT_BATCHNORM_SEPARATE : RT_BATCHNORM_FOLDED },
            };
            try_way(s, &w);
        }
    return s->fault[0] == '\0' ? SAME : DIFFERENT;
}

/* --- networks ----------------------------------------------------------------------------------
 */

static bool still_fails(const struct net *n, char fault[512])
{
    struct subject s;
    struct bytes b = net_write(n);
    bool fails = compare(b.p, b.len, n->seed, &s) == DIFFERENT;
    if (fails)
        strcpy(fault, s.fault);
    subject_reset(&s);
    free(b.p);
    return fails;
}

/* Leaves out what it takes not: layers first, then outputs, then sides. */
static void minimise(struct net *n, char fault[512])
{
    for (bool smaller = true; smaller;) {
        smaller = false;
        for (int i = n->n_layers - 1; i >= 0; i--) {
            struct net fewer = *n;
            fewer.layer[i].left_out = true;
            fewer.layer[i].shown = false;
            if (memcmp(&fewer, n, sizeof fewer) != 0 && still_fails(&fewer, fault)) {
                *n = fewer;
                smaller = true;
            }
        }
        struct net thinner = *n;
        thinner.height = (n->height + 1) / 2;
        thinner.width = (n->width + 1) / 2;
        thinner.channels = (n->channels + 1) / 2;
        if (memcmp(&thinner, n, sizeof thinner) != 0 && still_fails(&thinner, fault)) {
            *n = thinner;
            smaller = true;
        }
    }
}

static void write_file(const char *path, const void *p, size_t len)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(p, 1, len, f) != len || fclose(f) != 0) {
        fprintf(stderr, "%s cannot be written\n", path);
        exit(2);
    }
}

static void print_shape(FILE *f, const struct rt_shape *s)
{
    for (int i = 0; i < s->rank; i++)
        fprintf(f, "%s%lld", i > 0 ? "," : "", (long long)s->dim[i]);
}

/* folder/seed.onnx, .json, .x and .y0 ...: what it was run on, what came of it, how near is near.
 */
static void write_case(const char *folder, uint64_t seed, const struct subject *s)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%llu.onnx", folder, (unsigned long long)seed);
    write_file(path, s->bytes, s->len);
    snprintf(path, sizeof path, "%s/%llu.x", folder, (unsigned long long)seed);
    write_file(path, s->in.data, numel(&s->in.shape) * sizeof(float));
    snprintf(path, sizeof path, "%s/%llu.json", folder, (unsigned long long)seed);
    FILE *f = fopen(path, "w");
    if (f == NULL)
        exit(2);
    fprintf(f, "{\"shape\":[");
    print_shape(f, &s->in.shape);
    fprintf(f, "],\"outputs\":[");
    for (int i = 0; i < s->measure.n; i++) {
        fprintf(f, "%s{\"tolerance\":%g,\"shape\":[", i > 0 ? "," : "", (double)s->tolerance[i]);
        print_shape(f, &s->measure.shape[i]);
        fprintf(f, "]}");
        char data[512];
        snprintf(data, sizeof data, "%s/%llu.y%d", folder, (unsigned long long)seed, i);
        write_file(data, s->measure.data[i], numel(&s->measure.shape[i]) * sizeof(float));
    }
    fprintf(f, "]}\n");
    fclose(f);
}

struct totals {
    int same, different, refused;
};

static void try_seed(uint64_t seed, const char *found, const char *write, struct totals *t)
{
    struct subject s;
    struct net n = net_draw(seed);
    struct bytes b = net_write(&n);
    enum verdict v = compare(b.p, b.len, seed, &s);
    if (write != NULL && v != REFUSED)
        write_case(write, seed, &s);
    t->same += v == SAME;
    t->refused += v == REFUSED;
    if (v == REFUSED)
        printf("seed %llu is refused: %s\n", (unsigned long long)seed, s.fault);
    if (v == DIFFERENT) {
        char path[512];
        printf("seed %llu: %s\n", (unsigned long long)seed, s.fault);
        minimise(&n, s.fault);
        snprintf(path, sizeof path, "%s/differential-%llu.onnx", found, (unsigned long long)seed);
        mkdir(found, 0777);
        struct bytes small = net_write(&n);
        write_file(path, small.p, small.len);
        free(small.p);
        printf("  smaller, in %s: %s\n", path, s.fault);
        t->different++;
    }
    fflush(stdout);
    subject_reset(&s);
    free(b.p);
}

static void try_file(const char *path, struct totals *t)
{
    struct subject s;
    struct bytes b = { 0 };
    char piece[4096];
    FILE *f = fopen(path, "rb");
    for (size_t n; f != NULL && (n = fread(piece, 1, sizeof piece, f)) > 0;)
        put_raw(&b, piece, n);
    if (f != NULL)
        fclose(f);
    enum verdict v = compare(b.p, b.len, 1, &s);
    if (v != SAME)
        printf("%s: %s\n", path, s.fault);
    t->same += v == SAME;
    t->different += v != SAME;
    subject_reset(&s);
    free(b.p);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t from = 1;
    long long n = 0;
    double seconds = 0, start = now();
    const char *found = "build/fuzz-found", *write = NULL;
    struct totals t = { .same = 0 };
    for (int i = 1; i < argc; i++) {
        const char *o = argv[i];
        if (strncmp(o, "--", 2) != 0) {
            try_file(o, &t);
            continue;
        }
        const char *v = i + 1 < argc ? argv[++i] : "0";
        if (strcmp(o, "--from") == 0)
            from = strtoull(v, NULL, 10);
        else if (strcmp(o, "--count") == 0)
            n = strtoll(v, NULL, 10);
        else if (strcmp(o, "--seconds") == 0)
            seconds = strtod(v, NULL);
        else if (strcmp(o, "--found") == 0)
            found = v;
        else if (strcmp(o, "--write") == 0)
            write = v;
    }
    uint64_t seed = from;
    for (; seed < from + (uint64_t)n || now() - start < seconds; seed++)
        try_seed(seed, found, write, &t);
    printf("seeds %llu to %llu in %.0f s; %d refused\n", (unsigned long long)from,
           (unsigned long long)seed - 1, now() - start, t.refused);
    printf("%d passed, %d failed\n", t.same, t.different);
    return t.different > 0;
}
