/* How many cores this process may use: the affinity mask, bounded by the cgroup's CPU quota. */
#include "runtime/rt.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

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

/* Reads up to two numbers of a one-line file; "max" reads as -1. The count that was there. */
static int read_numbers(const char *path, double out[2])
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    char word[2][32] = { "", "" };
    int n = fscanf(f, "%31s %31s", word[0], word[1]);
    fclose(f);
    for (int i = 0; i < n; i++)
        if (strcmp(word[i], "max") == 0)
            out[i] = -1;
        else if (sscanf(word[i], "%lf", &out[i]) != 1)
            return i;
    return n < 0 ? 0 : n;
}

/* Cores that the quota in folder (a cgroup's) allows, or infinity. */
static double quota(const char *folder)
{
    char path[PATH_MAX + 64];
    double v[2], period[2];
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (read_numbers(path, v) == 2)
        return v[0] > 0 && v[1] > 0 ? v[0] / v[1] : HUGE_VAL;
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (read_numbers(path, v) != 1 || v[0] <= 0)
        return HUGE_VAL;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    return read_numbers(path, period) == 1 && period[0] > 0 ? v[0] / period[0] : HUGE_VAL;
}

/* The tightest quota from the process's own group up to the root of the hierarchy. */
static double cgroup_quota(void)
{
    double least = fmin(quota("/sys/fs/cgroup"), quota("/sys/fs/cgroup/cpu"));
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL)
        return least;
    char line[PATH_MAX];
    while (fgets(line, sizeof line, f) != NULL) {
        /* "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1. */
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        bool v1 = strstr(controllers, "cpu") != NULL && strstr(controllers, "cpuset") == NULL;
        if (controllers[1] != '\0' && !v1)
            continue;
        for (char *slash; (slash = strrchr(group, '/')) != NULL; *slash = '\0') {
            char folder[PATH_MAX + 32];
            snprintf(folder, sizeof folder, "/sys/fs/cgroup%s%s", v1 ? "/cpu" : "", group);
            least = fmin(least, quota(folder));
        }
    }
    fclose(f);
    return least;
}

int rt_cpu_budget(void)
{
    double cores = fmin(affinity(), ceil(cgroup_quota()));
    return cores >= 1 ? (int)cores : 1;
}
