/* `convd inspect`: what a model became: layers, batch norms, memory. */
#include "server/cli.h"
#include "server/file.h"
#include "server/json_out.h"
#include "server/table.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct settings {
    bool json, exact;
    int max_batch, batchnorm;
};

static const struct sv_option options[] = {
    { .name = "json",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, json),
      .help = "print one JSON object instead of tables" },
    { .name = "max-batch",
      .type = SV_OPTION_INT,
      .offset = offsetof(struct settings, max_batch),
      .value = "N",
      .help = "samples that memory is planned for",
      .min = 1,
      .max = 4096 },
    { .name = "batchnorm",
      .type = SV_OPTION_CHOICE,
      .offset = offsetof(struct settings, batchnorm),
      .help = "compile batch norms into other layers or each as its own",
      .choices = "folded|separate" },
    { .name = "exact",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, exact),
      .help = "use no algorithm that reorders sums" },
    { 0 },
};

static const struct sv_command command = {
    .name = "inspect",
    .usage = "MODEL",
    .summary = "Shows what a model was compiled to: its layers and what was fused into each, what\n"
               "became of every batch norm, memory and work. MODEL is a .onnx file, or a folder\n"
               "with a model.onnx.",
    .options = options,
    .epilogue = "Example:\n"
                "  convd inspect model.onnx\n"
                "  convd inspect model.onnx --json | jq '.batchnorms[].fate'",
};

static void heading(const char *text)
{
    printf("\n%s%s%s\n", sv_style(stdout, SV_BOLD), text, sv_style(stdout, SV_PLAIN));
}

/* As rt_shape_text(), but with N for the batch and ? for other free dimensions. */
static const char *shape_text(const struct rt_shape *shape, bool batched, char buf[RT_SHAPE_TEXT])
{
    char all[RT_SHAPE_TEXT], *to = buf;
    rt_shape_text(shape, all);
    for (const char *from = all; *from != '\0'; from++) {
        if (strncmp(from, "-1", 2) == 0) {
            *to++ = batched && from == all + 1 ? 'N' : '?';
            from++;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return buf;
}

static void print_summary(const char *file, const struct rt_model *m)
{
    struct rt_model_info i;
    char a[SV_QUANTITY_TEXT], b[SV_QUANTITY_TEXT];
    rt_model_info(m, &i);
    printf("%s", sv_style(stdout, SV_BOLD));
    sv_print_clean(file, stdout);
    printf("%s\n  producer    ", sv_style(stdout, SV_PLAIN));
    sv_print_clean(i.producer[0] != '\0' ? i.producer : "not said", stdout);
    printf(" (opset %d, IR version %d)\n", i.opset, i.ir_version);
    printf("  nodes       %d, of which %d layers are left\n", i.n_nodes, rt_model_n_layers(m));
    printf("  parameters  %s\n", sv_quantity((double)i.n_parameters, "", a));
    printf("  work        %s a sample\n", sv_quantity(i.flops, "FLOP", a));
    if (rt_model_max_batch(m) > 0)
        printf("  batch       1 to %d samples a run\n", rt_model_max_batch(m));
    else
        printf("  batch       fixed%s%s\n", i.batch_note != NULL ? ": " : "",
               i.batch_note != NULL ? i.batch_note : "");
    if (i.dynamic)
        puts("  sizes       free beside the batch: planned anew for each");
    printf("  kernels     %s\n", i.isa);
    heading("Memory");
    printf("  weights      %s, as packed\n", sv_quantity((double)i.weight_bytes, "B", a));
    printf("  activations  %s for one sample, %s for %d\n",
           sv_quantity((double)i.activation_bytes_one, "B", a),
           sv_quantity((double)i.activation_bytes, "B", b),
           rt_model_max_batch(m) > 0 ? rt_model_max_batch(m) : 1);
    if (i.activation_bytes > 0 && i.unplanned_bytes > i.activation_bytes)
        printf("  sharing      %s without it, %.1f times as much\n",
               sv_quantity((double)i.unplanned_bytes, "B", a),
               (double)i.unplanned_bytes / (double)i.activation_bytes);
}

static void print_ios(const struct rt_model *m)
{
    static const struct sv_column column[] = { { .title = "" },
                                               { .title = "NAME", .shrink = true },
                                               { .title = "TYPE" },
                                               { .title = "SHAPE" } };
    struct sv_table t;
    char shape[RT_SHAPE_TEXT];
    const bool batched = rt_model_max_batch(m) > 0;
    sv_table_init(&t, column, 4);
    for (int k = 0; k < rt_model_n_inputs(m) + rt_model_n_outputs(m); k++) {
        const bool input = k < rt_model_n_inputs(m);
        const struct rt_io *io =
            input ? rt_model_input(m, k) : rt_model_output(m, k - rt_model_n_inputs(m));
        sv_table_cell(&t, "%s", input ? "in" : "out");
        sv_table_cell(&t, "%s", io->name);
        sv_table_cell(&t, "%s", rt_dtype_name(io->dtype));
        sv_table_cell(&t, "%s", shape_text(&io->shape, batched, shape));
    }
    heading("Inputs and outputs");
    sv_table_print(&t, stdout);
    sv_table_reset(&t);
}

static void print_layers(const struct rt_model *m)
{
    static const struct sv_column column[] = {
        { .title = "#", .right = true },
        { .title = "NAME", .shrink = true },
        { .title = "OPERATOR" },
        { .title = "FUSED", .shrink = true },
        { .title = "ALGORITHM", .shrink = true },
        { .title = "TYPE" },
        { .title = "SHAPE" },
        { .title = "MFLOP", .right = true },
        { .title = "WEIGHTS", .right = true },
    };
    struct sv_table t;
    char text[RT_SHAPE_TEXT];
    const bool batched = rt_model_max_batch(m) > 0;
    bool all_float = true;
    for (int i = 0; i < rt_model_n_layers(m); i++)
        all_float &= rt_model_layer(m, i)->dtype == RT_FLOAT;
    sv_table_init(&t, column, 9);
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        sv_table_cell(&t, "%d", i);
        sv_table_cell(&t, "%s", l->name);
        sv_table_cell(&t, "%s", l->op);
        sv_table_cell(&t, "%s", l->fused);
        sv_table_cell(&t, "%s", l->algorithm);
        sv_table_cell(&t, "%s", all_float ? "" : rt_dtype_name(l->dtype));
        sv_table_cell(&t, "%s", shape_text(&l->shape, batched, text));
        sv_table_cell(&t, "%.2f", l->flops * 1e-6);
        if (l->weight_bytes > 0)
            sv_table_cell(&t, "%s", sv_quantity((double)l->weight_bytes, "B", text));
        else
            sv_table_cell(&t, "%s", "");
    }
    heading("Layers");
    if (rt_model_n_layers(m) == 0)
        puts("  known once a run has shown the sizes of the inputs");
    else
        sv_table_print(&t, stdout);
    sv_table_reset(&t);
}

/* "ok", or what is wrong with how many channels. */
static void health_text(const struct rt_batchnorm *b, char *buf, size_t size)
{
    const struct {
        int64_t n;
        const char *what;
    } findings[] = {
        { b->non_finite, "non-finite" },       { b->negative_var, "negative variance" },
        { b->tiny_var, "variance < epsilon" }, { b->dead, "dead" },
        { b->exploding, "exploding" },
    };
    size_t at = 0;
    snprintf(buf, size, "ok");
    for (size_t i = 0; i < sizeof findings / sizeof findings[0]; i++)
        if (findings[i].n > 0 && at < size)
            at += (size_t)snprintf(buf + at, size - at, "%s%lld %s", at > 0 ? ", " : "",
                                   (long long)findings[i].n, findings[i].what);
}

static void print_batchnorms(const struct rt_model *m)
{
    static const struct sv_column column[] = {
        { .title = "NAME", .shrink = true },
        { .title = "CHANNELS", .right = true },
        { .title = "PLACEMENT", .shrink = true },
        { .title = "FATE" },
        { .title = "INTO, OR WHY NOT", .shrink = true },
        { .title = "VARIANCE" },
        { .title = "HEALTH", .shrink = true },
    };
    struct sv_table t;
    int count[RT_BN_UNUSED + 1] = { 0 };
    sv_table_init(&t, column, 7);
    for (int i = 0; i < rt_model_n_batchnorms(m); i++) {
        const struct rt_batchnorm *b = rt_model_batchnorm(m, i);
        char health[160];
        health_text(b, health, sizeof health);
        count[b->fate]++;
        sv_table_cell(&t, "%s", b->name);
        sv_table_cell(&t, "%lld", (long long)b->channels);
        sv_table_cell(&t, "%s", b->placement);
        sv_table_cell(&t, "%s", rt_batchnorm_fate_name(b->fate));
        sv_table_cell(&t, "%s", b->into != NULL ? b->into : b->why != NULL ? b->why : "");
        sv_table_cell(&t, "%.2g .. %.2g", (double)b->min_var, (double)b->max_var);
        sv_table_cell(&t, "%s", health);
    }
    heading("Batch norms");
    if (rt_model_n_batchnorms(m) == 0) {
        puts("  none");
    } else {
        printf("  %d", rt_model_n_batchnorms(m));
        const char *separator = ": ";
        for (int fate = 0; fate <= RT_BN_UNUSED; fate++) {
            if (count[fate] == 0)
                continue;
            printf("%s%d %s", separator, count[fate],
                   rt_batchnorm_fate_name((enum rt_batchnorm_fate)fate));
            separator = ", ";
        }
        puts("");
        sv_table_print(&t, stdout);
    }
    sv_table_reset(&t);
}

static void json_io(struct sv_json *j, const struct rt_io *io)
{
    sv_json_row(j, NULL);
    sv_json_string(j, "name", io->name);
    sv_json_string(j, "datatype", rt_dtype_name(io->dtype));
    sv_json_shape(j, "shape", &io->shape);
    sv_json_end(j);
}

static void json_layers(struct sv_json *j, const struct rt_model *m)
{
    sv_json_array(j, "layers");
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        sv_json_row(j, NULL);
        sv_json_string(j, "name", l->name);
        sv_json_string(j, "op", l->op);
        sv_json_string(j, "fused", l->fused);
        sv_json_string(j, "algorithm", l->algorithm);
        sv_json_string(j, "datatype", rt_dtype_name(l->dtype));
        sv_json_shape(j, "shape", &l->shape);
        sv_json_double(j, "flops", l->flops);
        sv_json_int(j, "weight_bytes", (int64_t)l->weight_bytes);
        sv_json_end(j);
    }
    sv_json_end(j);
}

static void json_batchnorms(struct sv_json *j, const struct rt_model *m)
{
    sv_json_array(j, "batchnorms");
    for (int i = 0; i < rt_model_n_batchnorms(m); i++) {
        const struct rt_batchnorm *b = rt_model_batchnorm(m, i);
        sv_json_row(j, NULL);
        sv_json_string(j, "name", b->name);
        sv_json_int(j, "channels", b->channels);
        sv_json_string(j, "placement", b->placement);
        sv_json_string(j, "fate", rt_batchnorm_fate_name(b->fate));
        sv_json_string(j, "into", b->into);
        sv_json_string(j, "why", b->why);
        sv_json_float(j, "epsilon", b->epsilon);
        sv_json_int(j, "non_finite", b->non_finite);
        sv_json_int(j, "negative_variance", b->negative_var);
        sv_json_int(j, "tiny_variance", b->tiny_var);
        sv_json_int(j, "dead", b->dead);
        sv_json_int(j, "exploding", b->exploding);
        sv_json_float(j, "min_variance", b->min_var);
        sv_json_float(j, "max_variance", b->max_var);
        sv_json_float(j, "min_mean", b->min_mean);
        sv_json_float(j, "max_mean", b->max_mean);
        sv_json_end(j);
    }
    sv_json_end(j);
}

static void print_json(const char *file, const struct rt_model *m)
{
    struct sv_json j;
    struct rt_model_info i;
    rt_model_info(m, &i);
    sv_json_init(&j, stdout);
    sv_json_object(&j, NULL);
    sv_json_string(&j, "file", file);
    sv_json_string(&j, "producer", i.producer);
    sv_json_int(&j, "ir_version", i.ir_version);
    sv_json_int(&j, "opset", i.opset);
    sv_json_int(&j, "nodes", i.n_nodes);
    sv_json_int(&j, "parameters", i.n_parameters);
    sv_json_double(&j, "flops", i.flops);
    sv_json_int(&j, "max_batch", rt_model_max_batch(m));
    sv_json_string(&j, "batch_note", i.batch_note);
    sv_json_bool(&j, "dynamic", i.dynamic);
    sv_json_string(&j, "isa", i.isa);
    sv_json_row(&j, "memory");
    sv_json_int(&j, "weights", (int64_t)i.weight_bytes);
    sv_json_int(&j, "activations", (int64_t)i.activation_bytes);
    sv_json_int(&j, "activations_one", (int64_t)i.activation_bytes_one);
    sv_json_int(&j, "activations_unplanned", (int64_t)i.unplanned_bytes);
    sv_json_end(&j);
    sv_json_array(&j, "inputs");
    for (int k = 0; k < rt_model_n_inputs(m); k++)
        json_io(&j, rt_model_input(m, k));
    sv_json_end(&j);
    sv_json_array(&j, "outputs");
    for (int k = 0; k < rt_model_n_outputs(m); k++)
        json_io(&j, rt_model_output(m, k));
    sv_json_end(&j);
    json_layers(&j, m);
    json_batchnorms(&j, m);
    sv_json_end(&j);
}

int sv_inspect_main(int argc, char **argv)
{
    struct settings set = { .max_batch = 8 };
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    struct rt_model *m = NULL;
    int status;
    if (!sv_cli_begin(&command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n != 1)
        return sv_cli_usage(&command, rest.n == 0 ? "a model is missing" : "more than one model");

    const struct rt_options o = {
        .max_batch = set.max_batch,
        .exact = set.exact,
        .allow_batch_statistics = true,
        .batchnorm = set.batchnorm == 0 ? RT_BATCHNORM_FOLDED : RT_BATCHNORM_SEPARATE,
    };
    char *file = NULL;
    enum rt_status s = sv_cli_model_path(rest.item[0], &file, &err);
    if (s == RT_OK)
        s = sv_cli_load(file, &o, &m, &err);
    if (s == RT_OK && set.json) {
        print_json(file, m);
    } else if (s == RT_OK) {
        print_summary(file, m);
        print_ios(m);
        print_layers(m);
        print_batchnorms(m);
    }
    rt_model_release(m);
    rt_free(file);
    return s == RT_OK ? 0 : sv_cli_fail(&command, &err);
}
