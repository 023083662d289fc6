/* When requests are meant to begin: a clock that no answer can hold up. Pure. */
#ifndef LOAD_ARRIVALS_H
#define LOAD_ARRIVALS_H

#include <stdint.h>

enum ld_process { LD_POISSON, LD_CONSTANT };

struct ld_arrivals {
    enum ld_process process;
    double mean_gap; /* ns */
    double next;     /* ns since the start: when the next request is meant to begin */
    uint64_t state;  /* of the random numbers */
};

/* rate: requests a second, above 0. The same seed gives the same arrivals. */
void ld_arrivals_init(struct ld_arrivals *a, enum ld_process process, double rate, uint64_t seed);

/* Goes on to the request after the next one. */
void ld_arrivals_advance(struct ld_arrivals *a);

/* Random bits from a state that may begin as any number (splitmix64). */
uint64_t ld_random(uint64_t *state);
/* The same as a number from 0 up to, and without, 1. */
double ld_random_unit(uint64_t *state);

#endif
