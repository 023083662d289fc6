/* Constant and Poisson arrivals. */
#include "tests/load/arrivals.h"

#include <math.h>

uint64_t ld_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

double ld_random_unit(uint64_t *state)
{
    return (double)(ld_random(state) >> 11) * 0x1p-53;
}

void ld_arrivals_init(struct ld_arrivals *a, enum ld_process process, double rate, uint64_t seed)
{
    *a = (struct ld_arrivals){ .process = process, .mean_gap = 1e9 / rate, .state = seed };
    if (process == LD_POISSON)
        ld_arrivals_advance(a); /* the first one is as random as the others */
}

void ld_arrivals_advance(struct ld_arrivals *a)
{
    /* Gaps of a Poisson process are exponential; 1 - u is never 0. */
    a->next +=
        a->process == LD_CONSTANT ? a->mean_gap : -log(1 - ld_random_unit(&a->state)) * a->mean_gap;
}
