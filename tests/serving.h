/* A registry of small models written to a folder of its own, and requests without sockets: what
 * tests of the server's inside stand on. A test program includes this once. */
#ifndef TESTS_SERVING_H
#define TESTS_SERVING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "server/app.h"
#include "server/clock.h"
#include "server/codec.h"
#include "server/file.h"
#include "server/log.h"
#include "server/routes.h"

#include <pthread.h>
#include <unistd.h>

/* Protocol buffers, as far as an ONNX file of one-node chains needs them. */
struct bytes {
    uint8_t p[4096];
    size_t len;
};

static inline void put_varint(struct bytes *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        b->p[b->len++] = (uint8_t)(v | 0x80);
    b->p[b->len++] = (uint8_t)v;
}

static inline void put_int(struct bytes *b, int field, uint64_t v)
{
    put_varint(b, (uint64_t)field << 3);
    put_varint(b, v);
}

static inline void put_bytes(struct bytes *b, int field, const void *p, size_t len)
{
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, len);
    assert_true(b->len + len <= sizeof b->p);
    memcpy(b->p + b->len, p, len);
    b->len += len;
}

static inline void put_string(struct bytes *b, int field, const char *s)
{
    put_bytes(b, field, s, strlen(s));
}

/* One input "name" and the output "name_out" that op makes of it: of the same shape, or with Flatten
 * a sample in a row. Dimension 0 is free when it is -1, and then counts samples. */
struct chain {
    const char *name, *op;
    enum rt_dtype dtype;
    int rank;
    int64_t dim[4];
};

static inline int chain_axis(const struct chain *c)
{
    return c->dim[0] < 0 ? 1 : 0;
}

static inline struct chain chain_output(const struct chain *c)
{
    struct chain y = *c;
    if (strcmp(c->op, "Flatten") != 0)
        return y;
    y.rank = 2;
    y.dim[0] = c->dim[0] < 0 ? c->dim[0] : 1;
    y.dim[1] = 1;
    for (int i = chain_axis(c); i < c->rank; i++)
        y.dim[1] *= c->dim[i];
    return y;
}

static inline void put_value_info(struct bytes *graph, int field, const char *name,
                                  const struct chain *c)
{
    struct bytes shape = { .len = 0 }, tensor = { .len = 0 }, type = { .len = 0 },
                 info = { .len = 0 };
    for (int i = 0; i < c->rank; i++) {
        struct bytes dim = { .len = 0 };
        if (c->dim[i] < 0)
            put_string(&dim, 2, i == 0 ? "N" : "D");
        else
            put_int(&dim, 1, (uint64_t)c->dim[i]);
        put_bytes(&shape, 1, dim.p, dim.len);
    }
    put_int(&tensor, 1, c->dtype);
    put_bytes(&tensor, 2, shape.p, shape.len);
    put_bytes(&type, 1, tensor.p, tensor.len);
    put_string(&info, 1, name);
    put_bytes(&info, 2, type.p, type.len);
    put_bytes(graph, field, info.p, info.len);
}

static inline void make_model(struct bytes *model, const struct chain *chain, int n)
{
    struct bytes graph = { .len = 0 }, opset = { .len = 0 };
    for (int i = 0; i < n; i++) {
        struct bytes node = { .len = 0 };
        char out[64];
        snprintf(out, sizeof out, "%s_out", chain[i].name);
        put_string(&node, 1, chain[i].name);
        put_string(&node, 2, out);
        put_string(&node, 4, chain[i].op);
        if (strcmp(chain[i].op, "Flatten") == 0) {
            struct bytes axis = { .len = 0 };
            put_string(&axis, 1, "axis");
            put_int(&axis, 3, (uint64_t)chain_axis(&chain[i]));
            put_int(&axis, 20, 2); /* an integer */
            put_bytes(&node, 5, axis.p, axis.len);
        }
        put_bytes(&graph, 1, node.p, node.len);
    }
    put_string(&graph, 2, "test");
    for (int i = 0; i < n; i++) {
        char out[64];
        snprintf(out, sizeof out, "%s_out", chain[i].name);
        put_value_info(&graph, 11, chain[i].name, &chain[i]);
        const struct chain y = chain_output(&chain[i]);
        put_value_info(&graph, 12, out, &y);
    }
    put_int(&opset, 2, 17);
    model->len = 0;
    put_int(model, 1, 8);
    put_bytes(model, 7, graph.p, graph.len);
    put_bytes(model, 8, opset.p, opset.len);
}

/* The server without its sockets. */
struct serving {
    char folder[64];
    struct sv_app app;
    struct sv_cores *cores;
};

static inline void serving_start(struct serving *s)
{
    struct rt_error err = { .text = "" };
    memset(s, 0, sizeof *s);
    strcpy(s->folder, "/tmp/convd-test-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    sv_log_set(SV_LOG_ERROR, SV_LOG_TEXT);
    assert_int_equal(sv_cores_create(2, &s->cores, &err), RT_OK);
    const struct sv_registry_options o = { .max_batch = 4, .max_queue = 64, .cores = s->cores };
    assert_int_equal(sv_registry_create(&o, &s->app.registry, &err), RT_OK);
    assert_int_equal(sv_pool_create(1, 64, NULL, &s->app.pool, &err), RT_OK);
    assert_int_equal(sv_pool_create(1, 4, NULL, &s->app.control, &err), RT_OK);
    s->app.cores = s->cores;
    s->app.limits.max_body = 1 << 20;
    s->app.limits.max_pixels = 1 << 20;
    atomic_init(&s->app.ready, true);
}

static inline void serving_add(struct serving *s, const char *name, const struct chain *chain,
                               int n)
{
    char path[128];
    struct bytes model;
    struct rt_error err = { .text = "" };
    make_model(&model, chain, n);
    snprintf(path, sizeof path, "%s/%s.onnx", s->folder, name);
    assert_int_equal(sv_file_write(path, model.p, model.len, &err), RT_OK);
    if (sv_registry_add(s->app.registry, path, &err) != RT_OK)
        fail_msg("%s: %s", path, err.text);
    unlink(path);
    struct sv_model *m;
    if (sv_registry_find(s->app.registry, name, 0, &m, &err) != RT_OK)
        fail_msg("%s: %s", name, err.text);
    sv_model_release(m);
}

static inline void serving_stop(struct serving *s)
{
    sv_pool_destroy(s->app.control);
    sv_pool_destroy(s->app.pool);
    sv_registry_destroy(s->app.registry);
    sv_cores_destroy(s->cores);
    rmdir(s->folder);
}

/* A request whose headers and query are given as pairs, and that can be waited for. */
struct call {
    struct sv_request req;
    const char *const *headers, *const *query; /* name, value, ..., NULL; or NULL */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool woken;
};

static inline const char *call_find(const char *const *pairs, const char *name)
{
    for (; pairs != NULL && *pairs != NULL; pairs += 2)
        if (strcasecmp(pairs[0], name) == 0)
            return pairs[1];
    return NULL;
}

static inline const char *call_header(const struct sv_request *req, const char *name)
{
    return call_find(((const struct call *)(const void *)req)->headers, name);
}

static inline const char *call_query(const struct sv_request *req, const char *name, int i)
{
    return i > 0 ? NULL : call_find(((const struct call *)(const void *)req)->query, name);
}

static inline const char *call_query_name(const struct sv_request *req, int i)
{
    const char *const *pairs = ((const struct call *)(const void *)req)->query;
    for (; pairs != NULL && *pairs != NULL && i > 0; i--)
        pairs += 2;
    return pairs != NULL ? *pairs : NULL;
}

static inline void call_woken(struct sv_request *req)
{
    struct call *c = (struct call *)(void *)req;
    pthread_mutex_lock(&c->lock);
    c->woken = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* Routes the request, which may then be asleep. */
static inline void call_begin(struct serving *s, struct call *c, const char *method,
                              const char *path, const void *body, size_t len)
{
    c->req = (struct sv_request){
        .method = method,
        .path = path,
        .body = body,
        .body_len = len,
        .arrival = sv_now_ns(),
        .find_header = call_header,
        .find_query = call_query,
        .query_name = call_query_name,
        .woken = call_woken,
    };
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->woken = false;
    sv_route(&s->app, &c->req);
}

/* Waits until the request is woken, and goes on with it. */
static inline void call_go_on(struct call *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->woken)
        pthread_cond_wait(&c->changed, &c->lock);
    c->woken = false;
    pthread_mutex_unlock(&c->lock);
    sv_request_finish(&c->req);
}

/* Routes the request and waits for its answer, which is then in c->req.response. */
static inline void call(struct serving *s, struct call *c, const char *method, const char *path,
                        const void *body, size_t len)
{
    call_begin(s, c, method, path, body, len);
    while (c->req.asleep)
        call_go_on(c);
}

static inline int call_status(const struct call *c)
{
    return c->req.response.status != 0 ? c->req.response.status : 200;
}

/* A header of the answer; NULL when it has none of that name. */
static inline const char *call_answer_header(const struct call *c, const char *name)
{
    for (int i = 0; i < c->req.response.n_headers; i++)
        if (strcasecmp(c->req.response.header[i].name, name) == 0)
            return c->req.response.header[i].value;
    return NULL;
}

static inline void call_end(struct call *c)
{
    sv_request_reset(&c->req);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

#endif
