/* What is measured of all sides in turns: sweeps over loads, and the search for the knee. */
#ifndef LOAD_MEASURE_H
#define LOAD_MEASURE_H

#include "runtime/rt.h"
#include "tests/load/run.h"
#include "tests/load/side.h"
#include "tests/load/split.h"

#define LD_ROUNDS_MAX 99
#define LD_LEVELS_MAX 64

/* What one round came to. */
struct ld_round {
    double throughput;    /* requests a second */
    double p50, p90, p99; /* seconds, of answers with 2xx */
};

/* One side under one load. */
struct ld_level {
    int concurrency;   /* of a closed loop; 0: an open one */
    double rate;       /* requests a second of an open loop */
    struct ld_run run; /* all rounds together */
    struct ld_histogram good;
    bool has_split;
    struct ld_split split; /* likewise, warm-up included */
    int n_rounds;
    struct ld_round round[LD_ROUNDS_MAX];
};

struct ld_result {
    struct ld_side *side;
    int n_levels;
    struct ld_level level[LD_LEVELS_MAX]; /* of a search in the order of trial */
    double knee;  /* requests a second; 0: not searched, or not even the least rate was carried */
    double limit; /* p99 in seconds that the search allowed */
};

/* Fills result[0..n), whose side is set; the same level of all sides is the same load unless the
 * knee was searched. Says on standard error how far it is. Reset each in any case. */
enum rt_status ld_measure(const struct ld_settings *set, struct ld_result *result, int n,
                          struct rt_error *err);
void ld_result_reset(struct ld_result *r);

/* Medians over a level's rounds. */
double ld_level_throughput(const struct ld_level *l);
/* The median of a level's throughput, p50, p90 and p99 over those of another one's same rounds;
 * NaN where there is nothing to divide by. */
struct ld_round ld_level_ratio(const struct ld_level *l, const struct ld_level *of);

#endif
