/* The search for the highest rate that a server carries: bisection. Pure. */
#ifndef LOAD_KNEE_H
#define LOAD_KNEE_H

#include <stdbool.h>

struct ld_knee {
    double carried; /* the highest rate seen to be carried; 0: none yet */
    double refused; /* the lowest that was not; 0: none yet */
    double rate;    /* to be tried next */
    double least;   /* no lower one is */
};

/* capacity: requests a second that are answered when nobody waits for a clock; above 0. */
void ld_knee_init(struct ld_knee *k, double capacity);

/* Whether rate was carried, and with that the next rate. False: found, to within 5 %, or even the
 * hundredth part of the capacity is too much. */
bool ld_knee_next(struct ld_knee *k, bool carried);

#endif
