/* Limits of control groups, read from hierarchies made of ordinary files, and what `serve` makes of
 * a memory limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/cgroup.h"
#include "runtime/rt.h"
#include "server/serve_settings.h"

static char root[] = "/tmp/convd-cgroup-XXXXXX";
static char self[PATH_MAX];

/* Writes text to the file of this path below the root, with the folders in between. */
static void put(const char *path, const char *text)
{
    char whole[PATH_MAX];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (char *slash = whole + strlen(root); (slash = strchr(slash + 1, '/')) != NULL;) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
    (void)state;
    strcpy(strrchr(root, '-'), "-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(self, sizeof self, "%s/self", root);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[PATH_MAX];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

#define CPUS rt_cgroup_cpus(root, self)
#define MEMORY rt_cgroup_memory(root, self)

static void nothing_limits(void **state)
{
    (void)state;
    assert_true(isinf(CPUS) && isinf(MEMORY));
    put("self", "0::/\n");
    put("cpu.max", "max 100000\n");
    put("memory.max", "max\n");
    assert_true(isinf(CPUS) && isinf(MEMORY));
}

static void version_2(void **state)
{
    (void)state;
    put("self", "0::/pods/one\n");
    put("pods/cpu.max", "300000 100000\n");
    put("pods/one/cpu.max", "max 100000\n");
    assert_true(CPUS == 3);
    put("pods/one/cpu.max", "50000 100000\n");
    assert_true(CPUS == 0.5);
    put("pods/memory.max", "268435456\n");
    put("pods/one/memory.max", "1073741824\n");
    assert_true(MEMORY == 268435456);
    put("pods/other/memory.max", "4096\n");
    assert_true(MEMORY == 268435456);
}

static void version_1(void **state)
{
    (void)state;
    put("self",
        "7:cpuset:/wrong\n5:cpu,cpuacct:/a/b\n3:memory:/a\n1:name=systemd:/wrong\n0::/wrong\n");
    put("cpu/cpu.cfs_quota_us", "-1\n");
    put("cpu/wrong/cpu.cfs_quota_us", "1000\n");
    put("cpu/wrong/cpu.cfs_period_us", "100000\n");
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(isinf(CPUS) && isinf(MEMORY));
    put("cpu/a/cpu.cfs_quota_us", "150000\n");
    put("cpu/a/cpu.cfs_period_us", "100000\n");
    put("memory/a/memory.limit_in_bytes", "134217728\n");
    assert_true(CPUS == 1.5);
    assert_true(MEMORY == 134217728);
}

/* The container's group is mounted as the root, and self still names it as the host does. */
static void inside_a_container(void **state)
{
    (void)state;
    put("self", "4:memory:/docker/0123\n2:cpuset,cpu:/docker/0123\n");
    put("cpu/cpu.cfs_quota_us", "25000\n");
    put("cpu/cpu.cfs_period_us", "50000\n");
    put("memory/memory.limit_in_bytes", "67108864\n");
    assert_true(CPUS == 0.5);
    assert_true(MEMORY == 67108864);
}

static void files_that_make_no_sense(void **state)
{
    (void)state;
    put("self", "what is this\n::\n0:\n0::no-slash\n0::/x\n");
    put("x/cpu.max", "many few\n");
    put("x/memory.max", "-5\n");
    assert_true(isinf(CPUS) && isinf(MEMORY));
    put("x/cpu.max", "");
    put("x/memory.max", "");
    assert_true(isinf(CPUS) && isinf(MEMORY));
}

static void a_budget_is_never_nothing(void **state)
{
    (void)state;
    assert_true(rt_cpu_budget() >= 1);
}

static void settings_follow_the_limit(void **state)
{
    (void)state;
    struct sv_serve_settings s = sv_serve_defaults;
    sv_serve_fit(&s, 0, 4);
    assert_memory_equal(&s, &sv_serve_defaults, sizeof s);

    const size_t limits[] = { 1 << 20, (size_t)64 << 20, (size_t)256 << 20, (size_t)2 << 30 };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        for (int cores = 1; cores <= 64; cores *= 4) {
            s = sv_serve_defaults;
            sv_serve_fit(&s, limits[i], cores);
            assert_true(s.max_body <= s.max_body_memory && s.max_body >= 1 && s.max_pixels >= 1);
            /* All at once: a model, bodies, waiting tensors, an answer, a picture at three bytes on
             * each core. */
            assert_true(s.max_model_memory + s.max_body_memory + s.max_queue_memory + s.max_answer +
                            3 * s.max_pixels * (size_t)cores <=
                        limits[i]);
        }

    /* Much memory: nothing is above what it is without a limit. */
    s = sv_serve_defaults;
    sv_serve_fit(&s, (size_t)1 << 40, 1);
    assert_true(s.max_body == sv_serve_defaults.max_body);
    assert_true(s.max_body_memory == sv_serve_defaults.max_body_memory);
    assert_true(s.max_answer == sv_serve_defaults.max_answer);
    assert_true(s.max_pixels == sv_serve_defaults.max_pixels);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(nothing_limits),
        TEST(version_2),
        TEST(version_1),
        TEST(inside_a_container),
        TEST(files_that_make_no_sense),
        TEST(a_budget_is_never_nothing),
        TEST(settings_follow_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
