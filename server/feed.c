/* Reading tensor files and matching them by name, then by order. */
#include "server/feed.h"

#include "server/file.h"
#include "server/npy.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum rt_status sv_feed_add(struct sv_feed *f, const char *path, const char *name,
                           struct rt_error *err)
{
    const bool npy = sv_path_has_suffix(path, ".npy");
    if (!npy && !sv_path_has_suffix(path, ".pb"))
        return rt_fail(err, RT_E_INVALID, "%s: a tensor file ends in .npy or .pb", path);
    if (f->n == SV_FEED_MAX)
        return rt_fail(err, RT_E_LIMIT, "%s: more than %d tensors", path, SV_FEED_MAX);
    void *bytes;
    size_t len;
    enum rt_status s = sv_file_read(path, 0, &bytes, &len, err);
    if (s != RT_OK)
        return s;
    char *own = f->name[f->n];
    own[0] = '\0';
    s = npy ? sv_npy_read(bytes, len, &f->tensor[f->n], err)
            : rt_tensor_from_pb(bytes, len, &f->tensor[f->n], own, SV_FEED_NAME, err);
    rt_free(bytes);
    if (s != RT_OK) {
        rt_error_prefix(err, "%s", path);
        return s;
    }
    if (name != NULL)
        snprintf(own, SV_FEED_NAME, "%s", name);
    f->n++;
    return RT_OK;
}

void sv_feed_reset(struct sv_feed *f)
{
    for (int i = 0; i < f->n; i++)
        rt_free(f->tensor[i].data);
    f->n = 0;
}

typedef const struct rt_io *io_of(const struct rt_model *m, int i);

/* slot[k] for every tensor k, no two of them the same. */
static enum rt_status match(const struct sv_feed *f, const struct rt_model *m, io_of *io, int n_io,
                            const char *what, int *slot, struct rt_error *err)
{
    bool taken[SV_FEED_MAX] = { false };
    if (n_io > SV_FEED_MAX)
        return rt_fail(err, RT_E_LIMIT, "the model has %d %ss, more than %d", n_io, what,
                       SV_FEED_MAX);
    for (int k = 0; k < f->n; k++) {
        slot[k] = -1;
        for (int i = 0; i < n_io && slot[k] < 0 && f->name[k][0] != '\0'; i++) {
            if (taken[i] || strcmp(f->name[k], io(m, i)->name) != 0)
                continue;
            slot[k] = i;
            taken[i] = true;
        }
    }
    int next = 0;
    for (int k = 0; k < f->n; k++) {
        if (slot[k] >= 0)
            continue;
        while (next < n_io && taken[next])
            next++;
        if (next == n_io)
            return rt_fail(err, RT_E_INVALID, "%d tensors for the model's %d %s%s", f->n, n_io,
                           what, n_io == 1 ? "" : "s");
        slot[k] = next;
        taken[next] = true;
    }
    return RT_OK;
}

enum rt_status sv_feed_inputs(const struct sv_feed *f, const struct rt_model *m, int *slot,
                              struct rt_error *err)
{
    int n = rt_model_n_inputs(m);
    enum rt_status s = match(f, m, rt_model_input, n, "input", slot, err);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < n; i++) {
        bool fed = false;
        for (int k = 0; k < f->n; k++)
            fed |= slot[k] == i;
        if (!fed)
            return rt_fail(err, RT_E_INVALID, "input %s is missing: %d tensor%s for %d inputs",
                           rt_model_input(m, i)->name, f->n, f->n == 1 ? "" : "s", n);
    }
    return RT_OK;
}

enum rt_status sv_feed_outputs(const struct sv_feed *f, const struct rt_model *m, int *slot,
                               struct rt_error *err)
{
    return match(f, m, rt_model_output, rt_model_n_outputs(m), "output", slot, err);
}

int sv_feed_batch(const struct sv_feed *f)
{
    int64_t most = 1;
    for (int k = 0; k < f->n; k++)
        if (f->tensor[k].shape.rank > 0 && f->tensor[k].shape.dim[0] > most)
            most = f->tensor[k].shape.dim[0];
    return most > INT_MAX ? INT_MAX : (int)most;
}
