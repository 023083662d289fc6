/* Measures how long a model's runs take, for several configurations in turns, so that what else
 * the machine does meanwhile meets them all alike. */
#ifndef SERVER_BENCH_H
#define SERVER_BENCH_H

#include "runtime/rt.h"
#include "server/options.h"

struct sv_bench_options {
    const char *path; /* a model file, or a folder with model.onnx */
    double seconds;   /* measured for each case; warming up comes on top */
    bool exact;
    bool untuned;                        /* whatever file of choices lies beside the model */
    const char *tuning;                  /* the text of one, in its stead; NULL: none */
    size_t extra_weights;                /* as rt_options has it */
    bool zero;                           /* inputs are zeros instead of random numbers */
    bool progress;                       /* show how far it is, on a terminal */
    bool profile;                        /* measure each layer as well, in runs of their own */
    const struct sv_option_list *shapes; /* "[NAME=]1x3x224x224", for free dimensions */
};

/* One configuration and what it measured, in seconds a run. */
struct sv_bench_case {
    int batch; /* samples a run; 1 for a model without a batch axis */
    int threads;
    enum rt_batchnorm_mode batchnorm;

    double peak;      /* rt_peak_flops() of so many threads */
    double load;      /* what loading the model and making the session took */
    double first_run; /* the first of all runs of its session */
    int n_runs;
    double min, median, p99;
    /* Memory of the process that is resident: before anything is loaded, once the model is and has
     * its session, and when it has run and settled. Of what several cases loaded, the later ones
     * have all. And the most there was, the file's own pages included, until its first run had
     * ended. */
    size_t resident_before, resident_loaded, resident_run, resident_peak;
    double *layer_seconds;  /* mean of each layer, rt_model_n_layers() of them, with profile */
    struct rt_model *model; /* one reference */
    /* The measurement's own. */
    struct rt_session *session;
    struct rt_tensor *in, *out;
    double *sample;
    int room;
    double total;
};

/* Measures cases[0..n), of which the caller has set the first three members and cleared the rest.
 * End them with sv_bench_reset() in any case. */
enum rt_status sv_bench_run(const struct sv_bench_options *o, struct sv_bench_case *cases, int n,
                            struct rt_error *err);
void sv_bench_reset(struct sv_bench_case *cases, int n);

/* What the batch norms that are layers of their own took of a profiled case. */
struct sv_bench_norms {
    int n;
    double seconds, share; /* of all layers together */
    double bytes;          /* written by them in one run */
};
struct sv_bench_norms sv_bench_norms(const struct sv_bench_case *c);

/* "folded", "separate". */
const char *sv_batchnorm_mode_name(enum rt_batchnorm_mode mode);

/* Draws measured cases, with their layers where profile says so, to a file of SVG. */
enum rt_status sv_bench_plot(const char *file, const char *model, const struct sv_bench_case *cases,
                             int n, bool profile, struct rt_error *err);

#endif
