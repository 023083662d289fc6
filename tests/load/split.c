/* Reads /v2/models/NAME/stats; JSON by Jansson. */
#include "tests/load/split.h"

#include "runtime/mem.h"
#include "tests/load/fetch.h"

#include <jansson.h>
#include <stdio.h>

static uint64_t count_at(const json_t *o, const char *key)
{
    const json_int_t v = json_integer_value(json_object_get(o, key));
    return v > 0 ? (uint64_t)v : 0;
}

static double ns_of(const json_t *stats, const char *key)
{
    return (double)count_at(json_object_get(stats, key), "ns");
}

static struct ld_batch *batch_of(struct ld_split *s, int size)
{
    int i = 0;
    while (i < s->n_batches && s->batch[i].size != size)
        i++;
    if (i == LD_BATCHES_MAX)
        return NULL;
    if (i == s->n_batches)
        s->batch[s->n_batches++] = (struct ld_batch){ .size = size };
    return &s->batch[i];
}

/* Several versions of a model count together. */
static void add_version(struct ld_split *s, const json_t *model)
{
    const json_t *stats = json_object_get(model, "inference_stats"), *entry;
    size_t i;
    s->samples += count_at(model, "inference_count");
    s->runs += count_at(model, "execution_count");
    s->requests += count_at(json_object_get(stats, "success"), "count");
    s->queue += ns_of(stats, "queue");
    s->input += ns_of(stats, "compute_input");
    s->compute += ns_of(stats, "compute_infer");
    s->output += ns_of(stats, "compute_output");
    json_array_foreach(json_object_get(model, "batch_stats"), i, entry)
    {
        struct ld_batch *b = batch_of(s, (int)count_at(entry, "batch_size"));
        if (b != NULL)
            b->runs += count_at(json_object_get(entry, "compute_infer"), "count");
    }
}

enum rt_status ld_split_read(const char *base, const struct curl_slist *headers, const char *model,
                             struct ld_split *out, struct rt_error *err)
{
    struct sv_text text = { 0 };
    char path[512];
    snprintf(path, sizeof path, "v2/models/%s/stats", model);
    char *url = ld_url(base, path);
    if (url == NULL)
        return rt_fail_nomem(err, sizeof path);
    enum rt_status s = ld_fetch(url, headers, NULL, 0, &text, err);
    json_t *root = s == RT_OK ? json_loadb(text.p, text.len, 0, NULL) : NULL, *entry;
    const json_t *models = json_object_get(root, "model_stats");
    size_t i;
    if (s == RT_OK && !json_is_array(models))
        s = rt_fail(err, RT_E_IO, "%s: no statistics as the protocol has them", url);
    *out = (struct ld_split){ 0 };
    json_array_foreach(models, i, entry)
    {
        add_version(out, entry);
    }
    json_decref(root);
    sv_text_reset(&text);
    rt_free(url);
    return s;
}

void ld_split_add(struct ld_split *sum, const struct ld_split *before, const struct ld_split *after)
{
    sum->requests += after->requests - before->requests;
    sum->samples += after->samples - before->samples;
    sum->runs += after->runs - before->runs;
    sum->queue += after->queue - before->queue;
    sum->input += after->input - before->input;
    sum->compute += after->compute - before->compute;
    sum->output += after->output - before->output;
    for (int i = 0; i < after->n_batches; i++) {
        uint64_t runs = after->batch[i].runs;
        for (int k = 0; k < before->n_batches; k++)
            if (before->batch[k].size == after->batch[i].size)
                runs -= before->batch[k].runs;
        struct ld_batch *b = runs > 0 ? batch_of(sum, after->batch[i].size) : NULL;
        if (b != NULL)
            b->runs += runs;
    }
}

double ld_split_mean_batch(const struct ld_split *s)
{
    return s->runs > 0 ? (double)s->samples / (double)s->runs : 0;
}
