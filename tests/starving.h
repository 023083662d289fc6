/* Memory that runs out at every single place of a model's way: it is compiled, given a session and
 * run again and again, and its first allocation fails, then the second, ... until a round has none
 * that could. Each failure comes with a sentence and leaves nothing behind. */
#ifndef TESTS_STARVING_H
#define TESTS_STARVING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/rt.h"
#include "tests/onnx_bytes.h"

#define MOST_ALLOCATIONS 100000 /* of a round: far above what any of these makes */

struct starving {
    const char *what;
    const struct bytes *file; /* or */
    const char *path;
    const struct rt_options *options;
    const struct rt_tensor *in; /* what it is run on; NULL: it is not */
    enum rt_status wanted;      /* of the round that has all the memory it wants */
};

static inline enum rt_status starving_round(const struct starving *w, struct rt_error *err)
{
    struct rt_model *m = NULL;
    struct rt_session *s = NULL;
    struct rt_tensor out[4];
    enum rt_status status = w->path != NULL
                                ? rt_model_load_file(w->path, w->options, &m, err)
                                : rt_model_load(w->file->p, w->file->len, w->options, &m, err);
    if (status == RT_OK && w->in != NULL) {
        assert_in_range(rt_model_n_outputs(m), 1, sizeof out / sizeof out[0]);
        status = rt_session_create(m, 2, &s, err);
    }
    if (s != NULL)
        status = rt_session_run(s, w->in, out, err);
    rt_session_destroy(s);
    rt_model_release(m);
    return status;
}

static inline void starve(const struct starving *w)
{
    const long live = rt_mem_live();
    long after = 0, left;
    enum rt_status s;
    struct rt_error err;
    do {
        err = (struct rt_error){ .text = "" };
        rt_mem_fail(after++);
        s = starving_round(w, &err);
        left = rt_mem_fail(-1);
        if (s != RT_OK && s != RT_E_NOMEM && s != w->wanted)
            fail_msg("%s, allocation %ld: status %d, '%s'", w->what, after - 1, s, err.text);
        if (s != RT_OK && err.text[0] == '\0')
            fail_msg("%s, allocation %ld: failed without a word", w->what, after - 1);
        if (rt_mem_live() != live)
            fail_msg("%s, allocation %ld: %ld blocks are left over", w->what, after - 1,
                     rt_mem_live() - live);
    } while (left < 0 && after < MOST_ALLOCATIONS);
    assert_true(left >= 0);
    if (s != w->wanted)
        fail_msg("%s: status %d, '%s'", w->what, s, err.text);
    print_message("%s: %ld allocations\n", w->what, after - 1);
}

#endif
