/* Where a run keeps the first fault that its data caused. Owned by who runs nodes (session, eval);
 * operators only call rt_fault(). */
#ifndef RUNTIME_OPS_FAULT_H
#define RUNTIME_OPS_FAULT_H

#include "runtime/status.h"

#include <stdatomic.h>
#include <stdbool.h>

struct rt_fault {
    atomic_flag taken;   /* somebody writes or has written err */
    atomic_bool set;     /* err is complete */
    struct rt_error err;
};

#endif
