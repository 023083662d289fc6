/* How much of the machine this process may use: cores and memory. */
#include "runtime/cgroup.h"
#include "runtime/rt.h"

#include <math.h>
#include <sched.h>
#include <unistd.h>

static int affinity(void)
{
    /* A mask of 64 kbit: more cores than any kernel is built for. */
    static const size_t bytes = 8192;
    cpu_set_t *set = rt_alloc(bytes);
    if (set == NULL)
        return 1;
    int n = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 1;
    rt_free(set);
    return n > 0 ? n : 1;
}

int rt_cpu_budget(void)
{
    double cores = fmin(affinity(), ceil(rt_cgroup_cpus(RT_CGROUP_MOUNT, RT_CGROUP_SELF)));
    return cores >= 1 ? (int)cores : 1;
}

size_t rt_memory_limit(void)
{
    double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double limit = rt_cgroup_memory(RT_CGROUP_MOUNT, RT_CGROUP_SELF);
    return limit < machine ? (size_t)limit : 0;
}
