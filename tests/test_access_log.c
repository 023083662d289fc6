/* The access log: lines are gathered, none is lost or torn, whoever writes them and whenever the
 * file is moved away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/rt.h"
#include "server/access_log.h"
#include "server/clock.h"
#include "server/file.h"

#include <pthread.h>
#include <unistd.h>

#define THREADS 4
#define LINES 3000

static char path[64], moved[80];
static struct sv_access_log *log_;

static int begin(void **state)
{
    (void)state;
    struct rt_error err;
    strcpy(path, "/tmp/convd-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(moved, sizeof moved, "%s.1", path);
    assert_int_equal(sv_access_log_open(path, &log_, &err), RT_OK);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(path);
    unlink(moved);
    return 0;
}

static void write_line(const char *id)
{
    struct sv_request req = { .method = "GET", .path = "/x", .sent = true };
    snprintf(req.id, sizeof req.id, "%s", id);
    req.arrival = sv_now_ns();
    sv_access_log_write(log_, &req);
}

/* The number of lines in a file, of which each must be whole. */
static size_t count(const char *file)
{
    void *text;
    size_t len, n = 0;
    struct rt_error err;
    assert_int_equal(sv_file_read(file, SIZE_MAX, &text, &len, &err), RT_OK);
    for (char *p = text, *next; p < (char *)text + len; p = next, n++) {
        next = memchr(p, '\n', (size_t)((char *)text + len - p));
        assert_non_null(next++);
        assert_memory_equal(p, "{\"time\":\"2", 10);
        assert_memory_equal(next - 2, "}\n", 2);
    }
    rt_free(text);
    return n;
}

static void gathered(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        write_line("a");
    assert_int_equal(count(path), 0); /* no call a line */
    sv_access_log_flush(log_);
    assert_int_equal(count(path), 5);
    write_line("b");
    sv_access_log_close(log_);
    assert_int_equal(count(path), 6);
}

static void written_soon(void **state)
{
    (void)state;
    struct rt_error err;
    assert_int_equal(sv_access_log_start(log_, &err), RT_OK);
    for (size_t n = 1; n < 4; n++) {
        write_line("a");
        while (count(path) < n) /* for ever, if it is not */
            usleep(1000);
    }
    sv_access_log_close(log_);
}

static void *write_many(void *arg)
{
    for (int i = 0; i < LINES; i++) {
        write_line(arg);
        if (i % 500 == 0)
            usleep(100);
    }
    return NULL;
}

/* More than the log gathers, by several threads, while it is moved away. */
static void whole_and_all(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    char id[SV_HEADER_VALUE];
    struct rt_error err;
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    assert_int_equal(sv_access_log_start(log_, &err), RT_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, write_many, id), 0);
    while (count(path) == 0)
        usleep(100);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(sv_access_log_reopen(log_, &err), RT_OK);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    write_line("last");
    sv_access_log_close(log_);
    const size_t before = count(moved), after = count(path);
    assert_true(before > 0 && after > 0);
    assert_int_equal(before + after, THREADS * LINES + 1);
}

static void without_memory(void **state)
{
    (void)state;
    write_line("a");
    rt_mem_fail(0); /* of those that would come, the first */
    for (int i = 0; i < 100; i++)
        write_line("long enough to need more room than there is, some time");
    rt_mem_fail(-1);
    write_line("z");
    sv_access_log_close(log_);
    assert_int_equal(count(path), 101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gathered, begin, end),
        cmocka_unit_test_setup_teardown(written_soon, begin, end),
        cmocka_unit_test_setup_teardown(whole_and_all, begin, end),
        cmocka_unit_test_setup_teardown(without_memory, begin, end),
    };
    long before = rt_mem_live();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed != 0 || rt_mem_live() != before;
}
