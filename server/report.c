/* The report on a compiled model as JSON. */
#include "server/report.h"

#include "server/layer_times.h"

#include <stdio.h>

size_t sv_report_output_bytes(const struct rt_layer *l)
{
    struct rt_shape one = l->shape;
    size_t bytes;
    if (one.rank > 0 && one.dim[0] < 0)
        one.dim[0] = 1;
    return l->dtype != RT_STRING && rt_shape_bytes(&one, l->dtype, &bytes) ? bytes : 0;
}

static void json_io(struct sv_json *j, const struct rt_io *io)
{
    sv_json_row(j, NULL);
    sv_json_string(j, "name", io->name);
    sv_json_string(j, "datatype", rt_dtype_name(io->dtype));
    sv_json_shape(j, "shape", &io->shape);
    sv_json_end(j);
}

/* Begins a layer's row with what it is. */
static void json_layer(struct sv_json *j, const struct rt_layer *l)
{
    sv_json_row(j, NULL);
    sv_json_string(j, "name", l->name);
    sv_json_string(j, "op", l->op);
    sv_json_string(j, "fused", l->fused);
    sv_json_string(j, "algorithm", l->algorithm);
}

static void json_layers(struct sv_json *j, const struct rt_model *m)
{
    sv_json_array(j, "layers");
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        json_layer(j, l);
        sv_json_string(j, "datatype", rt_dtype_name(l->dtype));
        sv_json_shape(j, "shape", &l->shape);
        sv_json_double(j, "flops", l->flops);
        sv_json_int(j, "weight_bytes", (int64_t)l->weight_bytes);
        sv_json_int(j, "output_bytes", (int64_t)sv_report_output_bytes(l));
        sv_json_array(j, "from");
        for (int k = 0; k < l->n_from; k++)
            sv_json_int(j, NULL, l->from[k]);
        sv_json_end(j);
        sv_json_end(j);
    }
    sv_json_end(j);
}

static void json_histogram(struct sv_json *j, const char *key, const struct rt_histogram *h)
{
    sv_json_row(j, key);
    sv_json_float(j, "min", h->min);
    sv_json_float(j, "max", h->max);
    sv_json_array(j, "counts");
    for (int i = 0; i < RT_HISTOGRAM_BINS; i++)
        sv_json_int(j, NULL, h->count[i]);
    sv_json_end(j);
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
        json_histogram(j, "mean", &b->mean);
        json_histogram(j, "variance", &b->var);
        json_histogram(j, "folded_scale", &b->gain);
        sv_json_end(j);
    }
    sv_json_end(j);
}

static void json_balances(struct sv_json *j, const struct rt_model *m,
                          const struct sv_balances *all)
{
    sv_json_array(j, "balance");
    for (int i = 0; i < all->n; i++) {
        const struct sv_balance *b = &all->balance[i];
        sv_json_object(j, NULL);
        sv_json_int(j, "threads", b->threads);
        sv_json_int(j, "batch", all->batch);
        sv_json_double(j, "bound", b->whole.bound);
        sv_json_int(j, "barriers", b->whole.barriers);
        sv_json_array(j, "largest_shares");
        for (int k = 0; k < rt_model_n_layers(m); k++)
            sv_json_double(j, NULL, b->largest[k]);
        sv_json_end(j);
        sv_json_end(j);
    }
    sv_json_end(j);
}

void sv_report_json(struct sv_json *j, const char *file, const struct rt_model *m,
                    const char *pictures, const struct sv_balances *balances)
{
    struct rt_model_info i;
    char signature[17];
    rt_model_info(m, &i);
    sv_json_object(j, NULL);
    sv_json_string(j, "file", file);
    sv_json_string(j, "producer", i.producer);
    sv_json_int(j, "ir_version", i.ir_version);
    sv_json_int(j, "opset", i.opset);
    sv_json_int(j, "nodes", i.n_nodes);
    sv_json_int(j, "parameters", i.n_parameters);
    sv_json_double(j, "flops", i.flops);
    sv_json_int(j, "max_batch", rt_model_max_batch(m));
    sv_json_string(j, "batch_note", i.batch_note);
    sv_json_bool(j, "dynamic", i.dynamic);
    sv_json_string(j, "isa", i.isa);
    snprintf(signature, sizeof signature, "%016llx", (unsigned long long)i.signature);
    sv_json_string(j, "signature", signature);
    sv_json_int(j, "tuned_layers", i.tuned);
    sv_json_string(j, "tuning_note", i.tuning_note);
    sv_json_row(j, "memory");
    sv_json_int(j, "weights", (int64_t)i.weight_bytes);
    sv_json_int(j, "activations", (int64_t)i.activation_bytes);
    sv_json_int(j, "activations_one", (int64_t)i.activation_bytes_one);
    sv_json_int(j, "activations_unplanned", (int64_t)i.unplanned_bytes);
    sv_json_end(j);
    sv_json_array(j, "inputs");
    for (int k = 0; k < rt_model_n_inputs(m); k++)
        json_io(j, rt_model_input(m, k));
    sv_json_end(j);
    sv_json_array(j, "outputs");
    for (int k = 0; k < rt_model_n_outputs(m); k++)
        json_io(j, rt_model_output(m, k));
    sv_json_end(j);
    sv_json_string(j, "pictures", pictures);
    json_layers(j, m);
    if (balances != NULL && balances->n > 0)
        json_balances(j, m, balances);
    json_batchnorms(j, m);
    sv_json_end(j);
}

void sv_report_layer_times(struct sv_json *j, const struct rt_model *m, int batch,
                           const double *seconds)
{
    const double total = sv_layer_times_sum(m, seconds);
    sv_json_array(j, "layers");
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        json_layer(j, l);
        sv_json_double(j, "seconds", seconds[i]);
        sv_json_double(j, "share", total > 0 ? seconds[i] / total : 0);
        sv_json_double(j, "gflops", seconds[i] > 0 ? l->flops * batch / seconds[i] * 1e-9 : 0);
        sv_json_int(j, "weight_bytes", (int64_t)l->weight_bytes);
        sv_json_int(j, "output_bytes", (int64_t)sv_report_output_bytes(l) * batch);
        sv_json_end(j);
    }
    sv_json_end(j);
}
