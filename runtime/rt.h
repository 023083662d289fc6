/* The runtime's public face: all that server/, tests and programs that link the library include.
 *
 *   bytes -> rt_model_load -> rt_model (compiled, shared) -> rt_session (memory to run it) -> run
 *
 * Strings handed out belong to the object they were asked of and live as long as it does. */
#ifndef RUNTIME_RT_H
#define RUNTIME_RT_H

#include "runtime/mem.h"
#include "runtime/status.h"
#include "runtime/tensor.h"

#pragma GCC visibility push(default)

struct rt_model;   /* compiled; any number of threads may share one */
struct rt_session; /* room to run one model; one thread at a time */

enum rt_batchnorm_mode {
    RT_BATCHNORM_FOLDED,   /* into weights where possible, else fused: the default */
    RT_BATCHNORM_SEPARATE, /* each one runs as an operator of its own, to measure what it costs */
};

/* All zero is the default. */
struct rt_options {
    int max_batch;        /* samples a run may hold; 0: 8. Models without a batch axis ignore it */
    size_t memory_limit;  /* bytes of weights, constants and activations; 0: 4 GiB */
    bool exact;           /* as little rounding as floats allow: no transforms, short sums */
    bool any_shape;       /* take the inputs' declared sizes for hints: whatever is fed is run node by
                             node, slowly */
    bool allow_batch_statistics; /* accept BatchNormalization with training_mode = 1 */
    enum rt_batchnorm_mode batchnorm;
    size_t extra_weights; /* bytes that transformed weights may take beyond the model's own; 0: a
                             quarter of it, at least 64 MiB. Algorithms are chosen within it */
    const char *tuning;   /* the text of a file that `convd tune` wrote; NULL: none */
    bool untuned;         /* rt_model_load_file() looks for no such file beside the model's */
    const char *folder;   /* where external tensor data may be read from; NULL: nowhere */
    int threads;          /* the largest team a session will have, if more than rt_cpu_budget() */
    /* Told how many of the constants' bytes have been compiled, by the thread that loads; NULL:
     * nobody asks. The last call has done == total, also when compiling fails. A model may be
     * compiled more than once while it is loaded. */
    void (*progress)(void *user, size_t done, size_t total);
    void *progress_user;
};

/* Compiles the ONNX file in bytes[0..len). options may be NULL. *out is written on RT_OK only and
 * holds one reference. bytes is not needed once this returns. Errors name the node and what about
 * it is wrong (RT_E_INVALID), missing (RT_E_UNSUPPORTED) or too much (RT_E_LIMIT). */
enum rt_status rt_model_load(const void *bytes, size_t len, const struct rt_options *options,
                             struct rt_model **out, struct rt_error *err);
/* The same from a file, which is mapped; external data is looked for in the file's own folder, and
 * choices that `convd tune` measured in the file of its name with ".tune" behind it. */
enum rt_status rt_model_load_file(const char *path, const struct rt_options *options,
                                  struct rt_model **out, struct rt_error *err);
/* What bytes that are no ONNX model seem to be, by their first 512 ("a JPEG image"); NULL when
 * nothing is known. */
const char *rt_sniff(const void *bytes, size_t len);
struct rt_model *rt_model_retain(struct rt_model *m);
void rt_model_release(struct rt_model *m); /* takes NULL */

/* An input or output. In shape, -1 is a dimension that the caller chooses (inputs) or that
 * follows from it (outputs). */
struct rt_io {
    const char *name;
    enum rt_dtype dtype;
    struct rt_shape shape;
};

int rt_model_n_inputs(const struct rt_model *m);
int rt_model_n_outputs(const struct rt_model *m);
const struct rt_io *rt_model_input(const struct rt_model *m, int i);
const struct rt_io *rt_model_output(const struct rt_model *m, int i);
/* Most samples a run may hold when dimension 0 of every input and output counts samples (it then
 * reads -1 in rt_io); 0 when the model has no such axis and each run takes its inputs as they are. */
int rt_model_max_batch(const struct rt_model *m);
/* Whether the graph's output i is already a probability (it ends in Softmax or Sigmoid). */
bool rt_model_output_is_probability(const struct rt_model *m, int i);

/* Sets up to threads threads aside (0: rt_cpu_budget()) and the memory for max_batch samples. */
enum rt_status rt_session_create(struct rt_model *m, int threads, struct rt_session **out,
                                 struct rt_error *err);
void rt_session_destroy(struct rt_session *s); /* takes NULL */
/* Runs from here on use so many threads, 1 to those that were set aside. What a run answers does
 * not depend on it. */
void rt_session_set_team(struct rt_session *s, int threads);

/* Runs the model on in[0..n_inputs), in the model's order, whose types and shapes must fit the
 * model's and whose data may be anywhere. Fills out[0..n_outputs) with views of the session's
 * memory that are valid until its next run. Allocates nothing, unless the model has free
 * dimensions beside the batch and these sizes are new, or its shapes depend on its data. */
enum rt_status rt_session_run(struct rt_session *s, const struct rt_tensor *in,
                              struct rt_tensor *out, struct rt_error *err);

/* Runs are up to a fifth quicker with large pages than with small ones, which is what loading makes
 * do with where the system has no large ones at hand. This moves the next 2 MiB of what the
 * session's runs use, their activations first, to a large page, which takes about half a
 * millisecond, or as long as it takes to get one; false: there is no more to move. For the time
 * between runs; other sessions of the model may run meanwhile. */
bool rt_session_settle(struct rt_session *s);

/* What became of a BatchNormalization. */
enum rt_batchnorm_fate {
    RT_BN_FOLDED_BACK,    /* into the weights of the node before it */
    RT_BN_FOLDED_FORWARD, /* into the weights of the node after it */
    RT_BN_FUSED,          /* a multiply-add in the epilogue or prologue of another node */
    RT_BN_CONSTANT,       /* its input was constant */
    RT_BN_STANDALONE,     /* a per-channel multiply-add of its own */
    RT_BN_TRAINING,       /* computes the statistics of the batch (training_mode = 1) */
    RT_BN_UNUSED,         /* nothing that the model answers depends on it */
};

/* How numbers spread: count[i] of them lie in the i-th of equal parts of min..max. Those that are
 * not finite are left out; when none is finite all members are 0. */
#define RT_HISTOGRAM_BINS 24
struct rt_histogram {
    float min, max;
    int count[RT_HISTOGRAM_BINS];
};

/* One line of the batch norm report. Channels are counted, not listed. */
struct rt_batchnorm {
    const char *name;      /* the node's, or its output's where it has none */
    int64_t channels;
    const char *placement; /* "Conv -> BatchNormalization -> Relu" */
    enum rt_batchnorm_fate fate;
    const char *into;      /* the node it went into; NULL when there is none */
    const char *why;       /* for RT_BN_STANDALONE: what stood in the way; else NULL */
    float epsilon;
    /* Health of the running statistics. */
    int64_t non_finite;    /* mean, variance, scale or bias is NaN or infinite */
    int64_t negative_var;  /* variance below zero */
    int64_t tiny_var;      /* variance below epsilon */
    int64_t dead;          /* |scale| / sqrt(var + epsilon) below 1e-6: a constant channel */
    int64_t exploding;     /* the same above 1e3 */
    float min_var, max_var, min_mean, max_mean;
    /* Over the channels: what was running, and scale / sqrt(var + epsilon), which x is multiplied
     * by. */
    struct rt_histogram mean, var, gain;
};

int rt_model_n_batchnorms(const struct rt_model *m);
const struct rt_batchnorm *rt_model_batchnorm(const struct rt_model *m, int i);
const char *rt_batchnorm_fate_name(enum rt_batchnorm_fate fate);

/* One step of the plan. */
struct rt_layer {
    const char *name;
    const char *op;        /* ONNX op_type, or the runtime's own name for a step it put in */
    const char *fused;     /* "BatchNormalization, Relu"; "" when nothing was */
    const char *algorithm; /* "direct 6x16", "depthwise", ...; "" where there is no choice */
    enum rt_dtype dtype;
    struct rt_shape shape; /* of its first output; -1 for the batch */
    int n_choices;         /* ways in which it can be computed, with their names; 0: there is one */
    const char *choice[4];
    int chosen;
    double flops;          /* a sample: a multiply-add counts two */
    size_t weight_bytes;   /* as packed */
    int n_from;            /* the layers whose results it reads, rising; -1: the model's inputs */
    const int *from;
};

/* The compiled form for the declared input sizes. A model whose sizes are only known at run time
 * has no layers until a run has shown them. */
int rt_model_n_layers(const struct rt_model *m);
const struct rt_layer *rt_model_layer(const struct rt_model *m, int i);

struct rt_model_info {
    const char *producer; /* "pytorch 1.13.1", "" when the file does not say */
    int ir_version, opset;
    int n_nodes;                  /* in the file, functions inlined */
    int64_t n_parameters;
    double flops;                 /* a sample */
    size_t weight_bytes;          /* as packed */
    size_t activation_bytes;      /* of a session, at max_batch */
    size_t activation_bytes_one;  /* the same for one sample */
    size_t unplanned_bytes;       /* activations at max_batch if no memory were used twice */
    bool dynamic;                 /* has free dimensions beside the batch */
    bool rounds;                  /* computes in integers made by rounding (quantised) */
    uint64_t signature;           /* of what `convd tune` chooses for: other weights are the same */
    int tuned;                    /* layers that are computed as a file of `convd tune` says */
    const char *tuning_note;      /* why such a file was not used; NULL: it was, or there is none */
    const char *isa;              /* kernels in use: "avx2", ... */
    const char *batch_note;       /* why the batch axis is not free; NULL when it is */
};
void rt_model_info(const struct rt_model *m, struct rt_model_info *info);

/* How evenly a run on the session's threads shares out its work, counted in multiply-adds as the run
 * itself would cut it, by workers of equal speed that each have a core. */
struct rt_balance {
    double bound; /* the share of its threads' time that a run can use at best: 1 were perfect */
    int barriers; /* at which a thread waits for others, in a run */
};

/* in[] as for rt_session_run(); what the numbers are does not matter. largest[rt_model_n_layers()]
 * become the largest share of each layer's work that one thread has; 0: it has none that counts.
 * Nothing else of the process may run a session meanwhile. RT_E_UNSUPPORTED when the layers are not
 * known before a run. */
enum rt_status rt_session_balance(struct rt_session *s, const struct rt_tensor *in,
                                  struct rt_balance *out, double *largest, struct rt_error *err);

/* Whether the last run drew random numbers (Dropout in training mode), so that no two are alike. */
bool rt_session_is_random(const struct rt_session *s);

/* Seconds that each layer took in the session's last run; n of them, as rt_model_n_layers().
 * Off until asked for; costs two clock readings a layer. */
void rt_session_profile(struct rt_session *s, bool on);
const double *rt_session_layer_seconds(const struct rt_session *s);

/* Reads a serialised TensorProto. *out's data is freed with rt_free(). name (may be NULL) gets the
 * tensor's name, cut to name_len - 1 characters. */
enum rt_status rt_tensor_from_pb(const void *bytes, size_t len, struct rt_tensor *out, char *name,
                                 size_t name_len, struct rt_error *err);

/* Cores this process may use: the affinity mask and the cgroup's CPU quota (v1 and v2), rounded
 * up, at least 1. */
int rt_cpu_budget(void);

/* Measures for some 30 ms how many floating-point operations a second the inner loop of convolutions
 * does on so many threads, with all it reads in the first cache. Winograd's algorithm gets a layer
 * done with fewer than it counts, and can be faster than that. */
double rt_peak_flops(int threads);
/* Bytes that the cgroup's memory limit (v1 and v2) leaves this process; 0: there is no limit below
 * what the machine has. */
size_t rt_memory_limit(void);
/* The level of kernels in use ("scalar", "avx2", "avx512"): the best that the CPU has, or RT_ISA's. */
const char *rt_isa(void);

#pragma GCC visibility pop

#endif
