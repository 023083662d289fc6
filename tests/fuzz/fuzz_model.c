/* Any bytes as an ONNX file: compiled in two ways and, where that works, run on small inputs. */
#include "runtime/rt.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

#define MEMORY ((size_t)1 << 20)
#define MAX_IO 16
#define MAX_FLOPS 2e7 /* what is run has to end soon */
#define FREE_SIDE 3   /* of dimensions that are left open */

/* Small numbers of both signs, in the type's own form: data that is looked up by must have a chance
 * of being in range. */
static void fill(struct rt_tensor *t, size_t bytes)
{
    size_t size = rt_dtype_size(t->dtype);
    for (size_t i = 0; i < bytes / size; i++) {
        int v = (int)(i * 7 % 11) - 3;
        char *at = (char *)t->data + i * size;
        const float f = (float)v / 2;
        const double d = (double)f;
        const uint16_t half =
            t->dtype == RT_FLOAT16 ? rt_float_to_half(f) : rt_float_to_bfloat16(f);
        const uint64_t whole = t->dtype == RT_BOOL ? (uint64_t)(v & 1) : (uint64_t)(int64_t)v;
        const void *from = &whole;
        if (t->dtype == RT_FLOAT)
            from = &f;
        else if (t->dtype == RT_DOUBLE)
            from = &d;
        else if (rt_dtype_is_float(t->dtype))
            from = &half;
        memcpy(at, from, size);
    }
}

/* Whether there is memory for it, at a size that is to be tried. */
static bool make_input(const struct rt_model *m, int i, int n, struct rt_tensor *t)
{
    const struct rt_io *io = rt_model_input(m, i);
    size_t bytes;
    *t = (struct rt_tensor){ .dtype = io->dtype, .shape = io->shape };
    for (int k = 0; k < t->shape.rank; k++)
        if (t->shape.dim[k] < 0)
            t->shape.dim[k] = k == 0 && rt_model_max_batch(m) > 0 ? n : FREE_SIDE;
    if (!rt_shape_bytes(&t->shape, t->dtype, &bytes) || bytes > MEMORY)
        return false;
    t->data = malloc(bytes > 0 ? bytes : 1);
    if (t->data == NULL)
        return false;
    fill(t, bytes);
    return true;
}

/* All bytes of an answer belong to it: a sanitizer sees those that do not. */
static unsigned sum(const struct rt_tensor *t)
{
    unsigned all = 0;
    size_t bytes;
    HOLDS(rt_shape_bytes(&t->shape, t->dtype, &bytes), "an answer of impossible size");
    for (size_t i = 0; i < bytes; i++)
        all = all * 31 + ((const unsigned char *)t->data)[i];
    return all;
}

static void run(struct rt_model *m, int n)
{
    struct rt_tensor in[MAX_IO] = { { .data = NULL } }, out[MAX_IO];
    struct rt_error err = { .text = "" };
    struct rt_session *s = NULL;
    int n_in = rt_model_n_inputs(m);
    bool ready = n_in <= MAX_IO && rt_model_n_outputs(m) <= MAX_IO;
    for (int i = 0; ready && i < n_in; i++)
        ready = make_input(m, i, n, &in[i]);
    if (ready && rt_session_create(m, 1, &s, &err) == RT_OK) {
        enum rt_status status = rt_session_run(s, in, out, &err);
        for (int i = 0; status == RT_OK && i < rt_model_n_outputs(m); i++) {
            volatile unsigned kept = sum(&out[i]);
            (void)kept;
        }
        HOLDS(status == RT_OK || err.text[0] != '\0', "a failed run says nothing");
    }
    rt_session_destroy(s);
    for (int i = 0; i < MAX_IO; i++)
        free(in[i].data);
}

static void compile(const uint8_t *data, size_t len, const struct rt_options *o)
{
    struct rt_error err = { .text = "" };
    struct rt_model *m = NULL;
    if (rt_model_load(data, len, o, &m, &err) != RT_OK) {
        HOLDS(err.text[0] != '\0', "a refused model without a reason");
        return;
    }
    struct rt_model_info info;
    rt_model_info(m, &info);
    if (info.flops < MAX_FLOPS) {
        run(m, 1);
        if (rt_model_max_batch(m) > 1)
            run(m, 2);
    }
    rt_model_release(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct rt_options usual = {
        .max_batch = 2,
        .memory_limit = MEMORY,
        .folder = "models/tiny/line/test_data_set_0", /* where data outside of a file is found */
    };
    struct rt_options unusual = usual;
    unusual.exact = unusual.any_shape = unusual.allow_batch_statistics = true;
    unusual.batchnorm = RT_BATCHNORM_SEPARATE;
    long live = rt_mem_live();
    compile(data, len, &usual);
    compile(data, len, &unusual);
    HOLDS(rt_mem_live() == live, "%ld blocks are left over", rt_mem_live() - live);
    return 0;
}
