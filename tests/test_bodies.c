/* Compressed bodies on their way to a handler, without sockets: which are inflated at once, and
 * that the thread that serves sockets does not wait for the others. */
#include "tests/serving.h"

#include <semaphore.h>
#include <zlib.h>

static struct serving serving;
static const struct chain one = { "x", "Relu", RT_FLOAT, 2, { -1, 3 } };

#define PATH "/v2/models/one/infer"
#define ANSWER                                                                                     \
    "{\"model_name\":\"one\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"x_out\","            \
    "\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":[1.0,0.0,0.5]}]}"

static const char *const headers[] = { "Content-Encoding", "gzip", NULL };

static const struct chain wide = { "x", "Relu", RT_FLOAT, 2, { -1, 20000 } };

static int start(void **state)
{
    (void)state;
    serving_start(&serving);
    serving_add(&serving, "wide", &wide, 1);
    serving_add(&serving, "one", &one, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    serving_stop(&serving);
    return 0;
}

/* A request for inference with blanks behind it, compressed. */
struct body {
    unsigned char bytes[1 << 16];
    size_t len;
};

static void make_body(struct body *b, size_t blanks)
{
    static const char infer[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":"
                                "\"FP32\",\"data\":[1,-2,0.5]}]}";
    const size_t len = sizeof infer - 1 + blanks;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, ' ', len);
    memcpy(text, infer, sizeof infer - 1);
    uLongf n = sizeof b->bytes;
    assert_int_equal(compress2(b->bytes, &n, (const Bytef *)text, len, 9), Z_OK);
    b->len = n;
    free(text);
}

/* Keeps the only thread of the pool. */
struct blocker {
    struct sv_task task;
    sem_t go_on, ended;
};

static void block(struct sv_task *task)
{
    struct blocker *b = (struct blocker *)(void *)task;
    sem_wait(&b->go_on);
    sem_post(&b->ended);
}

static void blocker_start(struct blocker *b)
{
    struct rt_error err;
    *b = (struct blocker){ .task.run = block };
    sem_init(&b->go_on, 0, 0);
    sem_init(&b->ended, 0, 0);
    assert_int_equal(sv_pool_submit(serving.app.pool, &b->task, &err), RT_OK);
}

static void blocker_end(struct blocker *b)
{
    sem_post(&b->go_on);
    sem_wait(&b->ended);
    sem_destroy(&b->go_on);
    sem_destroy(&b->ended);
}

static void answered(struct call *c, int status, const char *answer)
{
    while (c->req.asleep)
        call_go_on(c);
    assert_int_equal(call_status(c), status);
    if (answer != NULL) {
        assert_int_equal(c->req.response.body_len, strlen(answer));
        assert_memory_equal(c->req.response.body, answer, strlen(answer));
    }
    call_end(c);
}

/* With the pool at a stand, routing one that inflates to much comes back all the same. */
static void test_large_bodies_wait_elsewhere(void **state)
{
    (void)state;
    static struct body good, bomb;
    struct blocker b;
    make_body(&good, 100 << 10);
    make_body(&bomb, 2 << 20);
    assert_true(good.len < 1024 && bomb.len < 4096);
    struct call c = { .headers = headers }, over = { .headers = headers };
    blocker_start(&b);
    call_begin(&serving, &c, "POST", PATH, good.bytes, good.len);
    call_begin(&serving, &over, "POST", PATH, bomb.bytes, bomb.len);
    assert_true(c.req.asleep && over.req.asleep);
    assert_false(c.woken || over.woken);
    assert_null(c.req.inflated);
    blocker_end(&b);
    answered(&c, 200, ANSWER);
    answered(&over, 413, NULL);
}

/* Small ones do not ask the pool. */
static void test_small_bodies_do_not_wait(void **state)
{
    (void)state;
    static struct body small;
    struct blocker b;
    make_body(&small, 10 << 10);
    struct call c = { .headers = headers };
    blocker_start(&b);
    call(&serving, &c, "POST", PATH, small.bytes, small.len);
    answered(&c, 200, ANSWER);
    blocker_end(&b);
}

static void test_damaged(void **state)
{
    (void)state;
    static struct body body;
    make_body(&body, 100 << 10);
    struct call c = { .headers = headers };
    call(&serving, &c, "POST", PATH, body.bytes, body.len - 5);
    answered(&c, 400, NULL);
}

static void test_cancel(void **state)
{
    (void)state;
    static struct body body;
    struct blocker b;
    make_body(&body, 100 << 10);
    struct call c = { .headers = headers };
    blocker_start(&b);
    call_begin(&serving, &c, "POST", PATH, body.bytes, body.len);
    c.req.work->cancel(c.req.state);
    blocker_end(&b);
    call_go_on(&c);
    assert_false(c.req.asleep);
    assert_null(c.req.inflated);
    answered(&c, 504, NULL);
}

/* What was taken on before the server began to stop is done. */
static void test_stopping(void **state)
{
    (void)state;
    static struct body body;
    struct blocker b;
    make_body(&body, 100 << 10);
    struct call c = { .headers = headers }, late = { .headers = headers };
    blocker_start(&b);
    call_begin(&serving, &c, "POST", PATH, body.bytes, body.len);
    atomic_store(&serving.app.ready, false);
    call(&serving, &late, "POST", PATH, body.bytes, body.len);
    answered(&late, 503, NULL);
    blocker_end(&b);
    answered(&c, 200, ANSWER);
    atomic_store(&serving.app.ready, true);
}

/* JSON with one row of 20,000 numbers, or of as many as fit; the answer is another one. */
struct row {
    char text[1 << 18];
    size_t len;
};

static void make_row(struct row *r, int n)
{
    char *to = r->text + sprintf(r->text,
                                 "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,%d],"
                                 "\"datatype\":\"FP32\",\"data\":[",
                                 n);
    for (int i = 0; i < n; i++)
        to += sprintf(to, "%s%d.5", i > 0 ? "," : "", i % 100);
    to += sprintf(to, "]}]}");
    r->len = (size_t)(to - r->text);
    assert_true(r->len < sizeof r->text);
}

static void test_long_json(void **state)
{
    (void)state;
    static struct row row;
    static const char *const takes_gzip[] = { "Accept-Encoding", "gzip", NULL };
    struct blocker b;
    make_row(&row, 20000);
    struct call c = { .headers = takes_gzip };
    blocker_start(&b);
    call_begin(&serving, &c, "POST", "/v2/models/wide/infer", row.text, row.len);
    assert_true(c.req.asleep);
    assert_false(c.woken);
    blocker_end(&b);
    /* Read, run, printed and compressed when it is woken, once. */
    pthread_mutex_lock(&c.lock);
    while (!c.woken)
        pthread_cond_wait(&c.changed, &c.lock);
    pthread_mutex_unlock(&c.lock);
    assert_true(c.req.response.coded);
    assert_string_equal(call_answer_header(&c, "Content-Encoding"), "gzip");
    sv_request_finish(&c.req);
    static unsigned char out[1 << 19];
    z_stream z = { .next_in = (Bytef *)(uintptr_t)c.req.response.body,
                   .avail_in = (uInt)c.req.response.body_len,
                   .next_out = out,
                   .avail_out = sizeof out };
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    inflateEnd(&z);
    assert_non_null(strstr((const char *)out, "\"data\":[0.5,1.5,2.5,"));
    answered(&c, 200, NULL);
}

/* Faults of long JSON are told as those of short JSON are. */
static void test_long_faults(void **state)
{
    (void)state;
    static struct row row;
    make_row(&row, 19999);
    struct call c = { .headers = NULL };
    call(&serving, &c, "POST", "/v2/models/wide/infer", row.text, row.len);
    answered(&c, 400, NULL);
    make_row(&row, 20000);
    row.text[row.len - 1] = ' ';
    struct call cut = { .headers = NULL };
    call(&serving, &cut, "POST", "/v2/models/wide/infer", row.text, row.len);
    answered(&cut, 400, NULL);
}

static void test_long_json_cancelled(void **state)
{
    (void)state;
    static struct row row;
    struct blocker b;
    make_row(&row, 20000);
    struct call c = { .headers = NULL };
    blocker_start(&b);
    call_begin(&serving, &c, "POST", "/v2/models/wide/infer", row.text, row.len);
    c.req.work->cancel(c.req.state);
    blocker_end(&b);
    answered(&c, 504, NULL);
}

static void test_pool_is_full(void **state)
{
    (void)state;
    static struct body body;
    struct blocker b;
    make_body(&body, 100 << 10);
    static struct call c[66];
    blocker_start(&b);
    for (size_t i = 0; i < 66; i++) {
        c[i] = (struct call){ .headers = headers };
        call_begin(&serving, &c[i], "POST", PATH, body.bytes, body.len);
    }
    /* The pool has 64 places; the blocker may not have left its own yet. */
    assert_true(c[65].woken);
    blocker_end(&b);
    answered(&c[65], 503, NULL);
    answered(&c[0], 200, ANSWER);
    for (size_t i = 1; i < 65; i++) {
        while (c[i].req.asleep)
            call_go_on(&c[i]);
        assert_true(call_status(&c[i]) == 200 || i == 63 || i == 64);
        call_end(&c[i]);
    }
}

static void test_without_memory(void **state)
{
    (void)state;
    static struct body body;
    make_body(&body, 100 << 10);
    int status = 0;
    for (long after = 0; status != 200 && after < 100; after++) {
        struct call c = { .headers = headers };
        rt_mem_fail(after);
        call(&serving, &c, "POST", PATH, body.bytes, body.len);
        rt_mem_fail(-1);
        status = call_status(&c);
        assert_true(status == 200 || status == 503);
        call_end(&c);
    }
    assert_int_equal(status, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_bodies_wait_elsewhere),
        cmocka_unit_test(test_small_bodies_do_not_wait),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_long_json),
        cmocka_unit_test(test_long_faults),
        cmocka_unit_test(test_long_json_cancelled),
        cmocka_unit_test(test_pool_is_full),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
