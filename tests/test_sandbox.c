/* What the sandbox refuses and what it leaves, in processes of their own: there is no way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/file.h"
#include "server/log.h"
#include "server/sandbox.h"

/* In the child: ends it with a sentence when the condition does not hold. */
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, strerror(errno));          \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)
/* A call that fails with this error. */
#define FAILS(call, error) HOLDS((errno = 0, (call) < 0) && errno == (error))

static char folder[256], outside[256];

static void path_in(char out[512], const char *of, const char *name)
{
    snprintf(out, 512, "%s/%s", of, name);
}

static void put(const char *of, const char *name)
{
    char path[512];
    path_in(path, of, name);
    assert_int_equal(sv_file_write(path, "x", 1, NULL), RT_OK);
}

static int open_in(const char *of, const char *name, int flags)
{
    char path[512];
    path_in(path, of, name);
    return open(path, flags, 0600);
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static bool has_filters(void)
{
    const unsigned action = SECCOMP_RET_ERRNO;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static void enter(void)
{
    char model[512], log[512];
    path_in(model, folder, "m.onnx");
    path_in(log, folder, "log/access.log");
    const char *const models[] = { model };
    const struct sv_sandbox_files files = { .model = models, .n_models = 1, .log = log };
    struct rt_error err;
    HOLDS(sv_sandbox_enter(&files, &err) == RT_OK);
}

static void in_child(void (*f)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        f();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void no_processes(void)
{
    static char name[] = "/bin/true";
    char *const args[] = { name, NULL };
    FAILS(execve(name, args, NULL), EPERM);
    FAILS(fork(), EPERM);
    FAILS(ptrace(PTRACE_TRACEME, 0, NULL, NULL), EPERM);
    FAILS(kill(getppid(), SIGTERM), EPERM);
    FAILS(syscall(SYS_tgkill, getppid(), getppid(), 0), EPERM);
    FAILS(setuid(getuid()), EPERM);
    FAILS(chmod("/", 0755), EPERM);
    FAILS(unlink("/nothing"), EPERM);
    FAILS(syscall(SYS_mount, NULL, "/", NULL, 0, NULL), EPERM);
    FAILS(syscall(SYS_bpf, 0, NULL, 0), EPERM);
    FAILS(syscall(SYS_unshare, CLONE_NEWUSER), EPERM);
    FAILS(syscall(SYS_clone3, NULL, 0), ENOSYS);
    FAILS(syscall(5000), ENOSYS);
}

static void *other_thread(void *arg)
{
    (void)arg;
    no_processes();
    FAILS(socket(AF_INET, SOCK_STREAM, 0), EPERM);
    return NULL;
}

static void *leaving_thread(void *arg)
{
    pthread_exit(arg);
}

static pthread_barrier_t sealed;

static void *earlier_thread(void *arg)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    HOLDS(fd >= 0);
    pthread_barrier_wait(&sealed);
    pthread_barrier_wait(&sealed);
    return other_thread(arg);
}

static void calls(void)
{
    enter();
    no_processes();
    /* What the start needs. */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    HOLDS(fd >= 0 && listen(fd, 1) == 0);
    pthread_t earlier, later;
    HOLDS(pthread_barrier_init(&sealed, NULL, 2) == 0);
    HOLDS(pthread_create(&earlier, NULL, earlier_thread, NULL) == 0);
    pthread_barrier_wait(&sealed);
    sv_sandbox_seal();
    pthread_barrier_wait(&sealed);

    FAILS(socket(AF_INET, SOCK_STREAM, 0), EPERM);
    FAILS(listen(fd, 1), EPERM);
    FAILS(connect(fd, NULL, 0), EPERM);
    FAILS(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, NULL), EPERM);
    FAILS(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), EPERM);
    const size_t page = 4096;
    void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HOLDS(p != MAP_FAILED);
    FAILS(mprotect(p, page, PROT_READ | PROT_EXEC), EPERM);
    HOLDS(mprotect(p, page, PROT_READ) == 0);
    HOLDS(mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
              MAP_FAILED &&
          errno == EPERM);

    /* Threads that end early do not end the process. */
    HOLDS(pthread_create(&later, NULL, leaving_thread, NULL) == 0);
    HOLDS(pthread_join(later, NULL) == 0);

    /* Threads of before and of now are bound alike, and new ones can be made. */
    HOLDS(pthread_create(&later, NULL, other_thread, NULL) == 0);
    HOLDS(pthread_join(earlier, NULL) == 0 && pthread_join(later, NULL) == 0);
    HOLDS(raise(0) == 0); /* to itself */
}

static void test_calls(void **state)
{
    (void)state;
    if (SV_INSTRUMENTED || !has_filters())
        skip();
    in_child(calls);
}

static void files(void)
{
    enter();
    HOLDS(open_in(folder, "m.onnx", O_RDONLY) >= 0);
    HOLDS(open_in(folder, "sub/labels.txt", O_RDONLY) >= 0);
    HOLDS(open_in(folder, "log/access.log", O_WRONLY | O_CREAT | O_APPEND) >= 0);
    FAILS(open_in(folder, "m.onnx", O_WRONLY), EACCES);
    FAILS(open_in(folder, "new", O_WRONLY | O_CREAT), EACCES);
    FAILS(open_in(outside, "secret", O_RDONLY), EACCES);
    FAILS(open_in(folder, "escape", O_RDONLY), EACCES);
    FAILS(open("/etc/passwd", O_RDONLY), EACCES);
    FAILS(open("/etc/passwd", O_WRONLY), EACCES);
    HOLDS(open("/proc/self/stat", O_RDONLY) >= 0);
}

static void test_files(void **state)
{
    (void)state;
    if (SV_INSTRUMENTED || !has_landlock())
        skip();
    in_child(files);
}

/* Links that are there when it starts are followed, as a model may be linked from a store. */
static void links(void)
{
    const char *const models[] = { folder };
    const struct sv_sandbox_files files = { .model = models, .n_models = 1 };
    struct rt_error err;
    HOLDS(sv_sandbox_enter(&files, &err) == RT_OK);
    HOLDS(open_in(folder, "linked/model.onnx", O_RDONLY) >= 0);
    HOLDS(open_in(folder, "linked/config.json", O_RDONLY) >= 0);
    FAILS(open_in(folder, "linked/../secret", O_RDONLY), EACCES);
    FAILS(open_in(folder, "log/access.log", O_WRONLY | O_CREAT | O_APPEND), EACCES);
}

static void test_links(void **state)
{
    (void)state;
    if (SV_INSTRUMENTED || !has_landlock())
        skip();
    in_child(links);
}

static int make_files(void **state)
{
    (void)state;
    char path[512], target[512];
    snprintf(folder, sizeof folder, "/tmp/convd-sandbox-XXXXXX");
    snprintf(outside, sizeof outside, "/tmp/convd-outside-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_non_null(mkdtemp(outside));
    for (int i = 0; i < 2; i++) {
        path_in(path, folder, i == 0 ? "sub" : "log");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    put(folder, "m.onnx");
    put(folder, "sub/labels.txt");
    put(outside, "secret");
    path_in(path, folder, "escape");
    path_in(target, outside, "secret");
    assert_int_equal(symlink(target, path), 0);
    path_in(target, outside, "store");
    assert_int_equal(mkdir(target, 0700), 0);
    put(outside, "store/model.onnx");
    put(outside, "store/config.json");
    path_in(path, folder, "linked");
    assert_int_equal(symlink(target, path), 0);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    static const char *const names[] = {
        "m.onnx", "sub/labels.txt", "log/access.log", "escape", "linked", "sub", "log", ""
    };
    static const char *const others[] = { "secret", "store/model.onnx", "store/config.json",
                                          "store", "" };
    char path[512];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_in(path, folder, names[i]);
        remove(path);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        path_in(path, outside, others[i]);
        remove(path);
    }
    return 0;
}

int main(void)
{
    sv_log_set(SV_LOG_ERROR, SV_LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_links),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
