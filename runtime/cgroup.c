/* Reads the limits of control groups from their files. */
#include "runtime/cgroup.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads up to two numbers of a one-line file; "max" reads as -1. The count that was there. */
static int read_numbers(const char *folder, const char *file, double out[2])
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    char word[2][32] = { "", "" };
    int n = fscanf(f, "%31s %31s", word[0], word[1]);
    fclose(f);
    for (int i = 0; i < n; i++) {
        char *end = word[i];
        out[i] = strcmp(word[i], "max") == 0 ? -1 : strtod(word[i], &end);
        if (out[i] != -1 && end == word[i])
            return i;
    }
    return n < 0 ? 0 : n;
}

/* Cores that the group of this folder may use. */
static double quota(const char *folder)
{
    double v[2], period[2];
    if (read_numbers(folder, "cpu.max", v) == 2)
        return v[0] > 0 && v[1] > 0 ? v[0] / v[1] : HUGE_VAL;
    if (read_numbers(folder, "cpu.cfs_quota_us", v) != 1 || v[0] <= 0)
        return HUGE_VAL;
    return read_numbers(folder, "cpu.cfs_period_us", period) == 1 && period[0] > 0
               ? v[0] / period[0]
               : HUGE_VAL;
}

/* Bytes that it may use. Version 1 says "no limit" by a number that no machine has. */
static double memory(const char *folder)
{
    double v[2];
    if (read_numbers(folder, "memory.max", v) != 1 &&
        read_numbers(folder, "memory.limit_in_bytes", v) != 1)
        return HUGE_VAL;
    return v[0] > 0 && v[0] < 0x1p60 ? v[0] : HUGE_VAL;
}

/* Whether word is one of the list's, which has commas between them. */
static bool lists(const char *list, const char *word)
{
    const size_t len = strlen(word);
    for (;; list++) {
        const size_t n = strcspn(list, ",");
        if (n == len && strncmp(list, word, len) == 0)
            return true;
        list += n;
        if (*list == '\0')
            return false;
    }
}

/* The tightest limit from the process's own group up to the root of the controller's hierarchy.
 * Inside a container that root is the container's own group, whatever path self names: it is
 * looked at in any case. */
static double tightest(const char *mount, const char *self, const char *controller,
                       double (*limit)(const char *folder))
{
    char top[PATH_MAX];
    snprintf(top, sizeof top, "%s/%s", mount, controller);
    double least = fmin(limit(mount), limit(top));
    FILE *f = fopen(self, "re");
    if (f == NULL)
        return least;
    char line[PATH_MAX];
    while (fgets(line, sizeof line, f) != NULL) {
        /* "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1. */
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        controllers++;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        const bool v2 = controllers[0] == '\0';
        if (!v2 && !lists(controllers, controller))
            continue;
        for (char *slash; (slash = strrchr(group, '/')) != NULL; *slash = '\0') {
            char folder[2 * PATH_MAX];
            snprintf(folder, sizeof folder, "%s%s", v2 ? mount : top, group);
            least = fmin(least, limit(folder));
        }
    }
    fclose(f);
    return least;
}

double rt_cgroup_cpus(const char *mount, const char *self)
{
    return tightest(mount, self, "cpu", quota);
}

double rt_cgroup_memory(const char *mount, const char *self)
{
    return tightest(mount, self, "memory", memory);
}
