/* Compressed bodies between the route table and a handler: inflated on the pool, as neither the
 * length of one nor what it says of itself tells how long that takes. */
#include "server/routes.h"

#include "server/compress.h"

/* What a compressed body and an inflated one may have to be dealt with at once, which takes less
 * than asking the pool. */
#define SHORT ((size_t)32 << 10)

/* A request whose body is being inflated. */
struct inflating {
    struct sv_task task;
    struct sv_app *app;
    struct sv_request *req;
    struct sv_target target;
    sv_handler *handler;
    atomic_bool cancelled;
    struct rt_error error;
};

static void run(struct sv_task *task)
{
    struct inflating *x = (struct inflating *)(void *)task;
    if (atomic_load(&x->cancelled))
        rt_fail(&x->error, RT_E_TIMEOUT, "The client went away before the request was read");
    else
        sv_request_inflate(x->req, x->app->limits.max_body, &x->error);
    sv_request_wake(x->req);
}

static void release(void *state)
{
    rt_free(state);
}

static void finish(void *state, struct sv_request *req)
{
    struct inflating *x = state;
    if (x->error.status != RT_OK) {
        sv_reply_error(&req->response, &x->error);
        return;
    }
    struct sv_app *app = x->app;
    sv_handler *handler = x->handler;
    const struct sv_target target = x->target;
    req->work = NULL;
    req->state = NULL;
    release(x);
    handler(app, req, &target);
}

static void cancel(void *state)
{
    struct inflating *x = state;
    atomic_store(&x->cancelled, true);
}

static const struct sv_work work = { .finish = finish, .cancel = cancel, .release = release };

static void inflate_later(struct sv_app *app, struct sv_request *req,
                          const struct sv_target *target, sv_handler *handler)
{
    struct inflating *x = rt_zalloc(sizeof *x);
    if (x == NULL) {
        struct rt_error err;
        rt_fail_nomem(&err, sizeof *x);
        sv_reply_error(&req->response, &err);
        return;
    }
    x->task.run = run;
    x->task.is_long = true; /* as far as anybody can tell */
    x->app = app;
    x->req = req;
    x->target = *target;
    x->handler = handler;
    sv_request_sleep(req, &work, x);
    if (sv_pool_submit(app->pool, &x->task, &x->error) != RT_OK)
        sv_request_wake(req);
}

void sv_with_body(struct sv_app *app, struct sv_request *req, const struct sv_target *target,
                  sv_handler *handler)
{
    const size_t most = app->limits.max_body;
    bool compressed;
    struct rt_error err;
    if (!sv_request_coding(req, &compressed))
        return;
    enum rt_status s = RT_OK;
    if (compressed)
        s = req->body_len <= SHORT || most <= SHORT
                ? sv_request_inflate(req, most < SHORT ? most : SHORT, &err)
                : RT_E_LIMIT;
    if (s == RT_OK)
        handler(app, req, target);
    else if (s != RT_E_LIMIT || most <= SHORT)
        sv_reply_error(&req->response, &err);
    else
        inflate_later(app, req, target, handler);
}
