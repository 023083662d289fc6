/* The next rate to try. */
#include "tests/load/knee.h"

#define CLOSE_ENOUGH 1.05
#define TOO_LITTLE 0.01 /* of the capacity */

void ld_knee_init(struct ld_knee *k, double capacity)
{
    /* Random arrivals rarely leave a server more than nine tenths of what it can do. */
    *k = (struct ld_knee){ .rate = 0.9 * capacity, .least = TOO_LITTLE * capacity };
}

bool ld_knee_next(struct ld_knee *k, bool carried)
{
    if (carried)
        k->carried = k->rate;
    else
        k->refused = k->rate;
    if (k->refused == 0) {
        k->rate *= 1.2;
        return true;
    }
    if (k->carried == 0) {
        k->rate /= 2;
        return k->rate > k->least;
    }
    k->rate = (k->carried + k->refused) / 2;
    return k->refused > CLOSE_ENOUGH * k->carried;
}
