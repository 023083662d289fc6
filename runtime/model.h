/* The inside of rt_model, for session.c. */
#ifndef RUNTIME_MODEL_H
#define RUNTIME_MODEL_H

#include "runtime/program.h"

#include <pthread.h>
#include <stdatomic.h>

/* How runs are done, found out while loading. */
enum rt_mode {
    RT_MODE_BATCHED,     /* one program; its first dimension is the batch */
    RT_MODE_LOOPED,      /* one program for one sample, run once for each */
    RT_MODE_FIXED,       /* one program for the shapes that the file declares */
    RT_MODE_SHAPED,      /* a program for each set of input sizes, the last used are kept */
    RT_MODE_INTERPRETED, /* shapes depend on data: node by node */
};

struct rt_shaped {
    struct rt_shaped *next;
    struct rt_program *program;
    int users;               /* sessions that are bound to it */
    struct rt_shape input[]; /* as compiled: multiples of RT_BATCH where batched */
};

struct rt_model {
    atomic_int refs;
    struct rt_graph *src; /* as imported */
    void *bytes;          /* the file, kept only when programs are compiled later */
    struct rt_options options;
    int max_threads;
    double load_seconds; /* what loading took */
    enum rt_mode mode;
    bool batch_free;      /* SHAPED: programs are compiled for any batch */
    struct rt_program *program; /* of the declared shapes, or of a guess at them; may be NULL */
    struct rt_io *input, *output;
    char *batch_note;
    char *tuning; /* a copy of options.tuning */
    pthread_mutex_t lock;     /* over shaped */
    struct rt_shaped *shaped; /* the last used first */
};

/* The program for these inputs (SHAPED), compiled if need be. It is to be given back; of those that
 * nobody has, the few that were used last are kept. */
enum rt_status rt_model_program_for(struct rt_model *m, const struct rt_tensor *in,
                                    struct rt_program **out, struct rt_error *err);
/* Takes NULL, and programs that are not out of the list. */
void rt_model_program_done(struct rt_model *m, const struct rt_program *p);

#endif
