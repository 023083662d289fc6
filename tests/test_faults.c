/* What the system may do to a server: no threads, no memory anywhere in a run, files that shrink
 * while they are read, full disks, no more descriptors. Each leaves a sentence and a server that
 * goes on. Linked with pthread_create() wrapped. */
#include "tests/serving.h"

#include "runtime/mapped.h"
#include "server/http.h"
#include "server/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

static const struct chain chain = { "x", "Relu", RT_FLOAT, 2, { -1, 3 } };

/* --- threads -----------------------------------------------------------------------------------
 */

static atomic_long fail_thread = -1; /* so many more may start; then one fails */

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
    if (atomic_load(&fail_thread) >= 0 && atomic_fetch_sub(&fail_thread, 1) == 0)
        return EAGAIN;
    return __real_pthread_create(t, a, f, arg);
}

static void handle(void *context, struct sv_request *req)
{
    sv_route(context, req);
}

/* Starts what `convd serve` starts, with one model, and ends it. */
static enum rt_status start_and_stop(const char *path, struct rt_error *err)
{
    struct serving s = { .folder = "" };
    struct sv_http *http = NULL;
    struct sv_model *m = NULL;
    enum rt_status status = sv_cores_create(2, &s.cores, err);
    const struct sv_registry_options o = {
        .max_batch = 4, .max_queue = 8, .cores = s.cores, .warm_up = true
    };
    const struct sv_http_options h = {
        .host = "127.0.0.1", .max_body = 1 << 16, .handle = handle, .context = &s.app
    };
    if (status == RT_OK)
        status = sv_registry_create(&o, &s.app.registry, err);
    if (status == RT_OK)
        status = sv_pool_create(2, 8, NULL, &s.app.pool, err);
    if (status == RT_OK)
        status = sv_registry_add(s.app.registry, path, err);
    if (status == RT_OK)
        status = sv_registry_default(s.app.registry, &m, err);
    if (status == RT_OK)
        status = sv_http_start(&h, &http, err);
    sv_model_release(m);
    sv_http_stop(http);
    sv_pool_destroy(s.app.pool);
    sv_registry_destroy(s.app.registry);
    sv_cores_destroy(s.cores);
    return status;
}

static void write_model(char path[64])
{
    struct bytes model;
    strcpy(path, "/tmp/convd-test-XXXXXX.onnx");
    int fd = mkstemps(path, 5);
    assert_true(fd >= 0);
    make_model(&model, &chain, 1);
    assert_int_equal(write(fd, model.p, model.len), model.len);
    close(fd);
}

static void test_no_threads(void **state)
{
    (void)state;
    char path[64];
    write_model(path);
    long live = rt_mem_live(), n = 0;
    enum rt_status s;
    do {
        struct rt_error err = { .text = "" };
        atomic_store(&fail_thread, n++);
        s = start_and_stop(path, &err);
        atomic_store(&fail_thread, -1);
        if (s != RT_OK && err.text[0] == '\0')
            fail_msg("thread %ld: status %d without a reason", n - 1, s);
        if (rt_mem_live() != live)
            fail_msg("thread %ld: %ld blocks are left over", n - 1, rt_mem_live() - live);
    } while (s != RT_OK && n < 100);
    assert_int_equal(s, RT_OK);
    assert_true(n > 4); /* the registry's, two of the pool, the model's, the watch's */
    unlink(path);
}

/* How a model's work would be shared out is found out on as many threads. */
static void test_no_threads_to_rehearse(void **state)
{
    (void)state;
    char path[64];
    float x[6] = { 0 };
    double largest[4];
    struct rt_model *m;
    struct rt_session *s;
    struct rt_balance balance;
    struct rt_error err = { .text = "" };
    const struct rt_options o = { .max_batch = 2, .threads = 2 };
    const struct rt_tensor in = { RT_FLOAT, rt_shape_of(2, (int64_t[]){ 2, 3 }), x };
    write_model(path);
    assert_int_equal(rt_model_load_file(path, &o, &m, &err), RT_OK);
    unlink(path);
    assert_int_equal(rt_session_create(m, 2, &s, &err), RT_OK);
    for (long n = 0; n < 2; n++) {
        atomic_store(&fail_thread, n);
        enum rt_status status = rt_session_balance(s, &in, &balance, largest, &err);
        atomic_store(&fail_thread, -1);
        assert_int_equal(status, RT_E_BUSY);
        assert_non_null(strstr(err.text, "no 2 threads for a rehearsal"));
    }
    rt_session_destroy(s);
    rt_model_release(m);
}

/* With a config.json that asks for a run before it is served. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char config[] = "{\"warmup\": 1}";
    char path[64], config_path[80];
    struct rt_error written;
    write_model(path);
    snprintf(config_path, sizeof config_path, "%.*s.config.json", (int)(strlen(path) - 5), path);
    assert_int_equal(sv_file_write(config_path, config, sizeof config - 1, &written), RT_OK);
    long live = rt_mem_live(), n = 0, left;
    enum rt_status s;
    do {
        struct rt_error err = { .text = "" };
        rt_mem_fail(n++);
        s = start_and_stop(path, &err);
        left = rt_mem_fail(-1);
        if (s != RT_OK && err.text[0] == '\0')
            fail_msg("allocation %ld: status %d without a reason", n - 1, s);
        if (rt_mem_live() != live)
            fail_msg("allocation %ld: %ld blocks are left over", n - 1, rt_mem_live() - live);
    } while (left < 0); /* some are done without */
    assert_int_equal(s, RT_OK);
    unlink(config_path);
    unlink(path);
}

static void test_no_memory_for_a_certificate(void **state)
{
    (void)state;
    const long live = rt_mem_live();
    long n = 0, left;
    do {
        struct rt_error err = { .text = "" };
        struct sv_tls *tls;
        rt_mem_fail(n++);
        enum rt_status s = sv_tls_create("/nowhere/cert.pem", "/nowhere/key.pem", &tls, &err);
        left = rt_mem_fail(-1);
        assert_int_equal(s, left < 0 ? RT_E_NOMEM : RT_E_NOT_FOUND);
        assert_true(err.text[0] != '\0');
        assert_int_equal(rt_mem_live(), live);
    } while (left < 0);
    assert_true(n > 3); /* it, and the names of two files */
}

/* A model that lies elsewhere than before is loaded from there, or its old version serves on. */
static void test_no_memory_for_a_move(void **state)
{
    (void)state;
    struct serving s;
    struct bytes model;
    struct rt_error err;
    char before[96], below[96], after[112];
    long n = 0, left;
    serving_start(&s);
    sv_log_set(SV_LOG_ERROR + 1, SV_LOG_TEXT); /* which serving_start() turned on again */
    make_model(&model, &chain, 1);
    snprintf(before, sizeof before, "%s/m.onnx", s.folder);
    snprintf(below, sizeof below, "%s/m", s.folder);
    snprintf(after, sizeof after, "%s/model.onnx", below);
    assert_int_equal(sv_file_write(before, model.p, model.len, &err), RT_OK);
    assert_int_equal(sv_registry_add(s.app.registry, s.folder, &err), RT_OK);
    assert_int_equal(sv_folder_create(below, &err), RT_OK);
    assert_int_equal(rename(before, after), 0);
    do {
        struct sv_model *m;
        rt_mem_fail(n++);
        enum rt_status status = sv_registry_load(s.app.registry, "m", NULL, &err);
        left = rt_mem_fail(-1);
        assert_true(left < 0 || status == RT_OK);
        assert_int_equal(sv_registry_find(s.app.registry, "m", 0, &m, &err), RT_OK);
        if (status == RT_OK)
            assert_string_equal(m->path, after);
        sv_model_release(m);
    } while (left < 0);
    unlink(after);
    rmdir(below);
    serving_stop(&s);
}

/* --- files -------------------------------------------------------------------------------------
 */

static void test_file_that_shrinks(void **state)
{
    (void)state;
    char path[] = "/tmp/convd-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct rt_mapped file, other;
    struct rt_error err = { .text = "" };
    static const char page[4096] = { 1 };
    for (int i = 0; i < 4; i++)
        assert_int_equal(write(fd, page, sizeof page), sizeof page);
    assert_int_equal(rt_mapped_open(path, &file, &err), RT_OK);
    assert_int_equal(rt_mapped_open(path, &other, &err), RT_OK);
    const volatile char *bytes = file.bytes;
    assert_int_equal(bytes[3 * 4096], 1);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(bytes[0], 1);
    assert_true(rt_mapped_whole(&file));
    assert_int_equal(bytes[3 * 4096], 0);
    assert_int_equal(bytes[2 * 4096], 0);
    assert_false(rt_mapped_whole(&file));
    assert_true(rt_mapped_whole(&other)); /* which nobody has read there */
    rt_mapped_close(&other);
    rt_mapped_close(&file);
    close(fd);
    unlink(path);
}

/* The handler goes with the last file. */
static void test_signal_is_given_back(void **state)
{
    (void)state;
    const struct sigaction mine = { .sa_handler = SIG_IGN };
    struct sigaction now, kept;
    struct rt_model *m;
    struct rt_error err;
    char path[64];
    write_model(path);
    assert_int_equal(sigaction(SIGBUS, &mine, &kept), 0);
    assert_int_equal(rt_model_load_file(path, NULL, &m, &err), RT_OK);
    rt_model_release(m);
    assert_int_equal(sigaction(SIGBUS, &kept, &now), 0);
    assert_true(now.sa_handler == SIG_IGN);
    unlink(path);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct rt_error err = { .text = "" };
    struct sv_access_log *log;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(sv_file_write("/dev/full", "text", 4, &err), RT_E_IO);
    assert_non_null(strstr(err.text, "/dev/full"));
    assert_int_equal(sv_access_log_open("/dev/full", &log, &err), RT_OK);
    struct sv_request req = { .method = "GET", .path = "/", .sent = true };
    for (int i = 0; i < 3; i++)
        sv_access_log_write(log, &req);
    sv_access_log_flush(log);
    sv_access_log_close(log);
}

/* --- descriptors -------------------------------------------------------------------------------
 */

/* What a client is told; 0: nothing. */
static int status_of(const struct sv_http *http, const char *request, size_t len)
{
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)sv_http_port(http)),
                                    .sin_addr = { htonl(INADDR_LOOPBACK) } };
    const struct timeval patience = { .tv_sec = 20 };
    char answer[16] = "";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    bool good = fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 &&
                send(fd, request, len, MSG_NOSIGNAL) == (ssize_t)len &&
                recv(fd, answer, 12, MSG_WAITALL) == 12;
    if (fd >= 0)
        close(fd);
    return good ? atoi(answer + 8) : 0;
}

static bool serves(const struct sv_http *http)
{
    static const char request[] = "GET /v2/health/live HTTP/1.0\r\n\r\n";
    return status_of(http, request, strlen(request)) == 200;
}

/* A body that is longer than was set aside for bodies at first, and finds no memory. */
static void test_no_memory_for_a_body(void **state)
{
    (void)state;
    static char request[40000];
    struct serving s;
    struct sv_http *http;
    struct rt_error err;
    serving_start(&s);
    serving_add(&s, "one", &chain, 1);
    const struct sv_http_options h = {
        .host = "127.0.0.1", .max_body = 1 << 16, .handle = handle, .context = &s.app
    };
    assert_int_equal(sv_http_start(&h, &http, &err), RT_OK);
    memset(request, ' ', sizeof request);
    const int head = snprintf(request, sizeof request,
                              "POST /v2/models/one/infer HTTP/1.0\r\nContent-Length: %d\r\n\r\n",
                              (int)sizeof request - 200);
    request[head] = '{'; /* JSON that has no end: refused when all of it has come */
    const int refused = 400, len = head + (int)sizeof request - 200;
    assert_int_equal(status_of(http, request, (size_t)len), refused);
    long n = 0, left, unavailable = 0;
    do {
        rt_mem_fail(n++);
        const int status = status_of(http, request, (size_t)len);
        left = rt_mem_fail(-1);
        unavailable += status == 503;
        if (status != refused && status != 503 && status != 0)
            fail_msg("allocation %ld: status %d", n - 1, status);
    } while (left < 0 && n < 1000);
    assert_true(left >= 0 && unavailable > 0);
    assert_true(serves(http));
    sv_http_stop(http);
    serving_stop(&s);
}

/* accept() fails for want of descriptors while a client waits; it is served when there are some. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct serving s;
    struct sv_http *http;
    struct rt_error err;
    struct rlimit kept, few;
    serving_start(&s);
    serving_add(&s, "one", &chain, 1);
    const struct sv_http_options h = {
        .host = "127.0.0.1", .max_body = 1 << 16, .handle = handle, .context = &s.app
    };
    assert_int_equal(sv_http_start(&h, &http, &err), RT_OK);
    assert_true(serves(http));
    int waiting = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)sv_http_port(http)),
                                    .sin_addr = { htonl(INADDR_LOOPBACK) } };
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &kept), 0);
    few = kept;
    few.rlim_cur = 3; /* those that are open stay; none can be added */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int connected = connect(waiting, (const struct sockaddr *)&to, sizeof to);
    nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &kept), 0);
    assert_int_equal(connected, 0);
    close(waiting);
    assert_true(serves(http));
    sv_http_stop(http);
    serving_stop(&s);
}

/* The server starts as far as descriptors go, and says so when that is not far enough. */
static void test_few_descriptors(void **state)
{
    (void)state;
    struct serving s;
    struct rlimit kept, few;
    int failed = 0, started = 0;
    serving_start(&s);
    const struct sv_http_options h = {
        .host = "127.0.0.1", .max_body = 1 << 16, .handle = handle, .context = &s.app
    };
    const long live = rt_mem_live();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &kept), 0);
    few = kept;
    for (few.rlim_cur = 3; started == 0 && few.rlim_cur < 200; few.rlim_cur++) {
        struct rt_error err = { .text = "" };
        struct sv_http *http = NULL;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        enum rt_status status = sv_http_start(&h, &http, &err);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &kept), 0);
        started += status == RT_OK;
        failed += status != RT_OK && err.text[0] != '\0';
        assert_int_equal(started + failed, few.rlim_cur - 2);
        sv_http_stop(http);
        assert_int_equal(rt_mem_live(), live);
    }
    assert_int_equal(started, 1);
    assert_true(failed > 4);
    serving_stop(&s);
}

int main(void)
{
    sv_log_set(SV_LOG_ERROR + 1, SV_LOG_TEXT); /* failures are meant here */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_threads),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_memory_for_a_certificate),
        cmocka_unit_test(test_no_memory_for_a_move),
        cmocka_unit_test(test_no_memory_for_a_body),
        cmocka_unit_test(test_no_threads_to_rehearse),
        cmocka_unit_test(test_few_descriptors),
        cmocka_unit_test(test_file_that_shrinks),
        cmocka_unit_test(test_signal_is_given_back),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_no_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
