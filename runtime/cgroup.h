/* What the control groups around this process allow it, in versions 1 and 2. */
#ifndef RUNTIME_CGROUP_H
#define RUNTIME_CGROUP_H

/* Where the system has the hierarchies, and in which groups the process is. */
#define RT_CGROUP_MOUNT "/sys/fs/cgroup"
#define RT_CGROUP_SELF "/proc/self/cgroup"

/* Both look at the process's own group and at all above it, and take the tightest limit: mount and
 * self are the two paths above, or a test's. Infinity where nothing limits, or nothing is found. */

/* Cores by the CPU quota; 0.5 is half the time of one. */
double rt_cgroup_cpus(const char *mount, const char *self);
/* Bytes. */
double rt_cgroup_memory(const char *mount, const char *self);

#endif
