/* Costs, a budget of bytes, and the lines of a file of measured choices:
 *
 *     convd tuning 1
 *     isa avx512
 *     model 0123456789abcdef
 *     winograd F(2x2) /layer1/layer1.0/conv1/Conv
 *
 * The name of a choice is two words, the node's name is the rest of the line. */
#include "runtime/choose.h"

#include "runtime/ops/op.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What transformed weights may take beyond the original ones where nobody says: this share of all
 * constants, but at least so much. */
#define EXTRA_SHARE 4
#define EXTRA_LEAST ((size_t)64 << 20)

/* What it costs to read a line of 64 bytes of weights, by what a model's constants take in all:
 * that says whether a run finds them again in the second cache, in the third or in memory. One
 * image pays in full and a batch shares: the figures, measured, are between the two. */
static const struct {
    size_t constants; /* at most */
    double cost;
} reading[] = { { 8 << 20, 10 }, { 48 << 20, 20 }, { SIZE_MAX, 34 } };

/* A node and the ways to compute it. */
struct open {
    struct rt_node *node;
    int n;
    struct rt_choice way[RT_MAX_CHOICES];
};

static int cheapest(const struct open *o)
{
    int best = 0;
    for (int k = 1; k < o->n; k++)
        if (o->way[k].cost < o->way[best].cost)
            best = k;
    return best;
}

static double extra(const struct open *o, int k)
{
    return (double)o->way[k].weight_bytes - (double)o->way[0].weight_bytes;
}

/* From the first way of each node on, the change that saves most for its bytes, as long as one
 * fits. */
static void fit(struct open *open, int n, double room)
{
    for (int i = 0; i < n; i++)
        open[i].node->choice = 0;
    for (;;) {
        int best = -1, way = 0;
        double most = 0;
        for (int i = 0; i < n; i++) {
            const struct open *o = &open[i];
            const int now = o->node->choice;
            for (int k = 0; k < o->n; k++) {
                const double bytes = extra(o, k) - extra(o, now);
                const double gain = o->way[now].cost - o->way[k].cost;
                const double worth = gain / (bytes > 1 ? bytes : 1);
                if (gain > 0 && bytes <= room && worth > most) {
                    most = worth;
                    best = i;
                    way = k;
                }
            }
        }
        if (best < 0)
            return;
        room -= extra(&open[best], way) - extra(&open[best], open[best].node->choice);
        open[best].node->choice = way;
    }
}

double rt_choice_cost(const struct rt_choice *way, size_t constants)
{
    int row = 0;
    while (constants > reading[row].constants)
        row++;
    return way->cost + reading[row].cost * (double)way->weight_bytes / 64;
}

static size_t constants_of(const struct rt_graph *g)
{
    size_t sum = 0;
    for (int v = 0; v < g->n_values; v++) {
        size_t bytes;
        if (g->value[v].constant && g->value[v].uses > 0 &&
            rt_shape_bytes(&g->value[v].shape, g->value[v].dtype, &bytes))
            sum += bytes;
    }
    return sum;
}

static double room_for(size_t constants, const struct rt_options *options)
{
    if (options->extra_weights > 0)
        return (double)options->extra_weights;
    return (double)(constants / EXTRA_SHARE > EXTRA_LEAST ? constants / EXTRA_SHARE : EXTRA_LEAST);
}

static void choose(const struct rt_graph *g, struct open *open, int n,
                   const struct rt_options *options)
{
    const size_t constants = constants_of(g);
    const double room = room_for(constants, options);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < open[i].n; k++)
            open[i].way[k].cost = rt_choice_cost(&open[i].way[k], constants);
        open[i].node->choice = cheapest(&open[i]);
        sum += extra(&open[i], open[i].node->choice);
    }
    if (sum > room)
        fit(open, n, room);
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(1099511628211);
    return hash;
}

static uint64_t signature_of(const struct open *open, int n)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (int i = 0; i < n; i++) {
        const uint64_t bytes = open[i].way[0].weight_bytes;
        hash = mix(hash, open[i].node->name, strlen(open[i].node->name) + 1);
        hash = mix(hash, &bytes, sizeof bytes);
    }
    return hash;
}

/* A line of the text, without its end; false: there are no more. */
static bool next_line(const char **at, int *number, const char **line, size_t *len)
{
    if (**at == '\0')
        return false;
    *line = *at;
    *len = strcspn(*at, "\n");
    *at += *len + ((*at)[*len] != '\0');
    (*number)++;
    return true;
}

/* "WAY NAME": the node is to be computed so. */
static enum rt_status take_line(struct open *open, int n, const char *line, size_t len, int number,
                                struct rt_error *err)
{
    for (int i = 0; i < n; i++) {
        const size_t name = strlen(open[i].node->name);
        if (len <= name || line[len - name - 1] != ' ' ||
            memcmp(line + len - name, open[i].node->name, name) != 0)
            continue;
        for (int k = 0; k < open[i].n; k++)
            if (strlen(open[i].way[k].name) == len - name - 1 &&
                memcmp(line, open[i].way[k].name, len - name - 1) == 0) {
                open[i].node->choice = k;
                return RT_OK;
            }
    }
    return rt_fail(err, RT_E_IO,
                   "its .tune file, line %d: '%.*s' names no node of the model with a way to compute it",
                   number, (int)(len < 100 ? len : 100), line);
}

/* The value behind a line's keyword, NULL when it begins otherwise. */
static const char *value_of(const char *line, size_t len, const char *key, size_t *value_len)
{
    const size_t key_len = strlen(key);
    if (len <= key_len || memcmp(line, key, key_len) != 0)
        return NULL;
    *value_len = len - key_len;
    return line + key_len;
}

/* The three lines in front. *use: they are of this model and level; else out->note says why not. */
static enum rt_status read_head(const char **at, int *number, struct rt_chosen *out, bool *use,
                                struct rt_error *err)
{
    static const char *const key[] = { "convd tuning ", "isa ", "model " };
    char value[3][32];
    for (int i = 0; i < 3; i++) {
        const char *line, *found = NULL;
        size_t len, value_len = 0;
        if (next_line(at, number, &line, &len))
            found = value_of(line, len, key[i], &value_len);
        if (found == NULL || value_len >= sizeof value[i])
            return rt_fail(err, RT_E_IO, "its .tune file, line %d: expected '%s...'", i + 1, key[i]);
        memcpy(value[i], found, value_len);
        value[i][value_len] = '\0';
    }
    char model[17];
    snprintf(model, sizeof model, "%016" PRIx64, out->signature);
    *use = false;
    if (strcmp(value[0], "1") != 0)
        snprintf(out->note, sizeof out->note, "it is written by another version of convd");
    else if (strcmp(value[1], rt_kernels()->name) != 0)
        snprintf(out->note, sizeof out->note, "it was measured with %s kernels, these are %s",
                 value[1], rt_kernels()->name);
    else if (strcmp(value[2], model) != 0)
        snprintf(out->note, sizeof out->note, "it was measured on another model");
    else
        *use = true;
    return RT_OK;
}

static enum rt_status apply(struct open *open, int n, const char *text, struct rt_chosen *out,
                            struct rt_error *err)
{
    int number = 0;
    bool use = false;
    enum rt_status s = read_head(&text, &number, out, &use, err);
    const char *line;
    size_t len;
    while (s == RT_OK && use && next_line(&text, &number, &line, &len)) {
        s = take_line(open, n, line, len, number, err);
        out->tuned++;
    }
    return s;
}

enum rt_status rt_choose(struct rt_graph *g, const struct rt_options *options, struct rt_chosen *out,
                         struct rt_error *err)
{
    int n = 0;
    *out = (struct rt_chosen){ .tuned = 0 };
    struct open *open = rt_alloc_array((size_t)g->n_nodes + 1, sizeof *open);
    if (open == NULL)
        return rt_fail_nomem(err, (size_t)g->n_nodes * sizeof *open);
    for (int i = 0; i < g->n_nodes; i++) {
        struct rt_node *node = &g->node[i];
        node->choice = 0;
        if (node->op == NULL || node->op->choices == NULL)
            continue;
        open[n].node = node;
        open[n].n = node->op->choices(g, node, open[n].way);
        if (open[n].n < 2)
            continue;
        node->n_ways = options->exact ? 0 : open[n].n;
        for (int k = 0; k < node->n_ways; k++)
            node->way[k] = open[n].way[k].name;
        n++;
    }
    out->signature = signature_of(open, n);
    enum rt_status s = RT_OK;
    if (options->exact && options->tuning != NULL)
        snprintf(out->note, sizeof out->note, "exact computation has no choice");
    else if (!options->exact) {
        choose(g, open, n, options);
        if (options->tuning != NULL)
            s = apply(open, n, options->tuning, out, err);
    }
    rt_free(open);
    return s;
}
