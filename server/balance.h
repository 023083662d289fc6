/* How evenly teams of several sizes would share a model's work. */
#ifndef SERVER_BALANCE_H
#define SERVER_BALANCE_H

#include "runtime/rt.h"

#define SV_MOST_BALANCES 16

struct sv_balance {
    int threads;
    struct rt_balance whole;
    double *largest; /* [layers]: the largest share of its work that one thread has */
};

struct sv_balances {
    int batch; /* samples of the runs that are looked at; the caller's */
    int n;
    struct sv_balance balance[SV_MOST_BALANCES];
};

/* Adds one for each of threads[0..n), which the model was loaded for. *all is ended with
 * sv_balances_reset() in any case. */
enum rt_status sv_balances_take(struct rt_model *m, const int *threads, int n,
                                struct sv_balances *all, struct rt_error *err);
void sv_balances_reset(struct sv_balances *all);

/* The layer that most work waits for: largest share by work. -1: none counts. */
int sv_balance_worst(const struct rt_model *m, const struct sv_balance *b);

#endif
