/* Nice values and the length of time slices. */
#include "server/give_way.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A tenth of an equal's share when cores are short. */
#define NICER 10
/* Who wakes up with a shorter time slice than that of the running thread interrupts it; else it
 * would wait for the running slice to end (Linux 6.12 and later; before, nice alone counts). */
#define LONG_NS 100000000
#define SHORT_NS 100000 /* as short as the system takes */
#define KEEP_POLICY 8

/* The first form of the kernel's struct sched_attr, which not every C library has. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* slice_ns 0: the system's own. */
static bool set(int nice, uint64_t slice_ns)
{
    struct attributes a = {
        .size = sizeof a,
        .flags = KEEP_POLICY,
        .nice = nice,
        .runtime = slice_ns,
    };
    return syscall(SYS_sched_setattr, 0, &a, 0) == 0;
}

void sv_give_way(void)
{
    const int now = getpriority(PRIO_PROCESS, 0);
    const int nice = now + NICER < 19 ? now + NICER : 19;
    if (!set(nice, LONG_NS))
        setpriority(PRIO_PROCESS, (id_t)gettid(), nice);
}

void sv_go_first(void)
{
    set(getpriority(PRIO_PROCESS, 0), SHORT_NS);
}

void sv_go_as_others(void)
{
    set(getpriority(PRIO_PROCESS, 0), 0);
}
