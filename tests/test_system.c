/* Calls of the system that fail, or do less than they were asked for: each that matters is wrapped,
 * and answers what a test wants. What comes of it is a sentence or the same result as ever. */
#include "tests/importing.h"

#include "runtime/mapped.h"
#include "runtime/rt.h"
#include "server/file.h"
#include "server/folder_watch.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/registry.h"
#include "server/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* A folder of its own for each test, with one file in it. */
static char folder[64], path[80];

enum call { READ, PREAD, MMAP, EVENTFD, INOTIFY, SOCKET, N_CALLS };

/* What the calls of one kind answer from now on. */
static struct {
    int error;  /* errno; 0: they work */
    bool less;  /* a byte at a time */
    bool ended; /* as if the file ended there, or ends from then on */
} now[N_CALLS];

/* Whether it fails; errno is set then. */
static bool fails(enum call c)
{
    if (now[c].error == 0)
        return false;
    errno = now[c].error;
    return true;
}

static size_t at_most(enum call c, size_t len)
{
    return now[c].ended ? 0 : now[c].less && len > 1 ? 1 : len;
}

ssize_t __real_read(int fd, void *to, size_t len);
ssize_t __wrap_read(int fd, void *to, size_t len);
ssize_t __wrap_read(int fd, void *to, size_t len)
{
    return fails(READ) ? -1 : __real_read(fd, to, at_most(READ, len));
}

ssize_t __real_pread(int fd, void *to, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t len, off_t at)
{
    return fails(PREAD) ? -1 : __real_pread(fd, to, at_most(PREAD, len), at);
}

void *__real_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    void *p = fails(MMAP) ? MAP_FAILED : __real_mmap(at, len, prot, flags, fd, offset);
    if (now[MMAP].ended && fd >= 0)
        assert_int_equal(truncate(path, 0), 0);
    return p;
}

int __real_eventfd(unsigned n, int flags);
int __wrap_eventfd(unsigned n, int flags);
int __wrap_eventfd(unsigned n, int flags)
{
    return fails(EVENTFD) ? -1 : __real_eventfd(n, flags);
}

int __real_inotify_init1(int flags);
int __wrap_inotify_init1(int flags);
int __wrap_inotify_init1(int flags)
{
    return fails(INOTIFY) ? -1 : __real_inotify_init1(flags);
}

int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
    return fails(SOCKET) ? -1 : __real_socket(domain, type, protocol);
}

static void expect(enum rt_status s, enum rt_status want, const char *part)
{
    if (s != want || strstr(err.text, part) == NULL)
        fail_msg("status %s, text '%s'; wanted %s, '%s'", rt_status_name(s), err.text,
                 rt_status_name(want), part);
}

static const char content[] = "twelve bytes";

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/convd-test-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/data.bin", folder);
    return sv_file_write(path, content, sizeof content - 1, &err) == RT_OK ? 0 : -1;
}

static int end_folder(void **state)
{
    (void)state;
    memset(now, 0, sizeof now);
    unlink(path);
    return rmdir(folder);
}

static void reads_files(void **state)
{
    (void)state;
    void *bytes;
    size_t len;
    now[READ].less = true;
    assert_int_equal(sv_file_read(path, 0, &bytes, &len, &err), RT_OK);
    assert_int_equal(len, sizeof content - 1);
    assert_memory_equal(bytes, content, len);
    rt_free(bytes);
    expect(sv_file_read("/proc/self/status", 4, &bytes, &len, &err), RT_E_LIMIT,
           "larger than 4 bytes"); /* of no size until it is read */
    now[READ].error = EIO;
    expect(sv_file_read(path, 0, &bytes, &len, &err), RT_E_IO, strerror(EIO));
}

/* x + w, where w lies in the file beside the model. */
static struct bytes external_model(void)
{
    static const char *const pairs[][2] = { { "location", "data.bin" }, { "length", "8" } };
    struct bytes g = graph_xy(), t = tensor("w", 1, 1, (const int64_t[]){ 2 });
    for (size_t i = 0; i < 2; i++) {
        struct bytes entry = { 0 };
        put_text(&entry, 1, pairs[i][0]);
        put_text(&entry, 2, pairs[i][1]);
        put_message(&t, 13, entry);
    }
    put_int(&t, 14, 1);
    put_message(&g, 5, t);
    put_message(&g, 1, node("Add", "a", "x,w", "y"));
    return model(g);
}

static void reads_external_data(void **state)
{
    (void)state;
    const struct rt_options o = { .folder = folder };
    struct bytes m = external_model();
    struct rt_graph *g;
    now[PREAD].less = true;
    expect(rt_import(m.p, m.len, &o, 0, &g, &err), RT_OK, "");
    assert_memory_equal(g->value[g->node[0].in[1]].data, content, 8);
    rt_graph_destroy(g);
    now[PREAD].ended = true;
    expect(rt_import(m.p, m.len, &o, 0, &g, &err), RT_E_IO, "became shorter while it was read");
    now[PREAD].error = EIO;
    expect(rt_import(m.p, m.len, &o, 0, &g, &err), RT_E_IO, strerror(EIO));
    free(m.p);
}

static void maps_files(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    static struct rt_mapped file[MANY];
    int n = 0;
    enum rt_status s;
    while ((s = rt_mapped_open(path, &file[n], &err)) == RT_OK)
        assert_in_range(++n, 1, MANY - 1);
    expect(s, RT_E_BUSY, "files are being read already");
    while (n > 0)
        rt_mapped_close(&file[--n]);
    now[MMAP].error = ENOMEM;
    expect(rt_mapped_open(path, &file[0], &err), RT_E_IO, strerror(ENOMEM));
    now[MMAP].error = 0;
    now[MMAP].ended = true;
    struct rt_model *m;
    expect(rt_model_load_file(path, NULL, &m, &err), RT_E_IO, "became shorter while it was read");
    assert_int_equal(rt_mem_live(), 0);
}

/* One that cannot be told of changes looks by itself. */
static void watches(void **state)
{
    (void)state;
    const char *const folders[] = { folder };
    struct sv_folder_watch *w;
    struct sv_watch *sockets;
    struct sv_cores *cores;
    struct sv_registry *r;
    expect(sv_cores_create(1, &cores, &err), RT_OK, "");
    expect(sv_registry_create(&(struct sv_registry_options){ .max_queue = 1, .cores = cores }, &r,
                              &err),
           RT_OK, "");
    now[INOTIFY].error = EMFILE;
    expect(sv_folder_watch_start(r, folders, 1, 0, &w, &err), RT_OK, "");
    sv_folder_watch_stop(w);
    now[EVENTFD].error = EMFILE;
    expect(sv_folder_watch_start(r, folders, 1, 0, &w, &err), RT_E_IO, strerror(EMFILE));
    expect(sv_watch_create(&sockets, &err), RT_E_IO, "cannot be started");
    sv_registry_destroy(r);
    sv_cores_destroy(cores);
    assert_int_equal(rt_mem_live(), 0);
}

static void listens(void **state)
{
    (void)state;
    int fd, port;
    now[SOCKET].error = EMFILE;
    expect(sv_listen("127.0.0.1", 0, &fd, &port, &err), RT_E_IO, strerror(EMFILE));
    now[SOCKET].error = 0;
    expect(sv_listen("127.0.0.1", 0, &fd, &port, &err), RT_OK, "");
    close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, end_folder)

int main(void)
{
    sv_log_set(SV_LOG_ERROR, SV_LOG_TEXT);
    const struct CMUnitTest tests[] = {
        TEST(reads_files), TEST(reads_external_data), TEST(maps_files), TEST(watches),
        TEST(listens),
    };
    return cmocka_run_group_tests_name("system", tests, NULL, NULL);
}
