/* Keys are compared by the same instructions whatever a guess has in common with one: a process
 * that compares is run instruction by instruction and its way is written down. */
#include "tests/serving.h"

#include "server/keys.h"
#include "server/sandbox.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#define KEY "the-key-of-this-test-0123456789"
#define MOST 1000000

#if defined(__x86_64__)

/* The comparison between two stops, in the process that is watched. */
static void compare(struct sv_keys *keys, const char *text)
{
    static char shown[64]; /* the same memory each time: copies may depend on where things lie */
    strcpy(shown, text);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    volatile bool matches = sv_keys_match(keys, shown);
    raise(SIGSTOP);
    _exit(matches ? 1 : 0);
}

/* A sum over the addresses of all instructions between the stops; 0 where nobody may be watched. */
static uint64_t way(struct sv_keys *keys, const char *text, long *steps)
{
    int status;
    uint64_t sum = 14695981039346656037u;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        compare(keys, text);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSTOPPED(status))
        return 0;
    for (*steps = 0; *steps < MOST; (*steps)++) {
        struct user_regs_struct r;
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 || waitpid(child, &status, 0) < 0)
            break;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) == SIGSTOP)
            break;
        ptrace(PTRACE_GETREGS, child, NULL, &r);
        sum = (sum ^ r.rip) * 1099511628211u;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return sum;
}

static void test_same_instructions(void **state)
{
    (void)state;
    static const char *const guess[] = {
        KEY,
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "the-key-of-this-test-012345678x",
        "txxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "xhe-key-of-this-test-0123456789",
    };
    char path[] = "/tmp/convd-test-XXXXXX";
    struct rt_error err;
    struct sv_keys *keys;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char text[] = "another-key-of-the-test-0123456\n" KEY "\n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    assert_int_equal(sv_keys_create(path, &keys, &err), RT_OK);
    unlink(path);
    assert_true(sv_keys_match(keys, KEY));
    long steps, wanted_steps;
    uint64_t wanted = way(keys, guess[0], &wanted_steps);
    if (wanted == 0 || wanted_steps < 100) {
        sv_keys_destroy(keys);
        skip(); /* where no process may watch another */
    }
    for (size_t i = 1; i < sizeof guess / sizeof guess[0]; i++) {
        assert_false(sv_keys_match(keys, guess[i]));
        uint64_t got = way(keys, guess[i], &steps);
        if (got != wanted)
            fail_msg("'%s': another way, %ld instructions, not %ld", guess[i], steps, wanted_steps);
    }
    print_message("%ld instructions each time\n", wanted_steps);
    sv_keys_destroy(keys);
}

#endif

int main(void)
{
#if defined(__x86_64__)
    if (!SV_INSTRUMENTED) { /* what sanitizers add goes by what they have seen before */
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_instructions) };
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
#endif
    puts("0 passed, 1 skipped");
    return 0;
}
