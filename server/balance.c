/* Rehearses runs on zeros, one for each size of team. */
#include "server/balance.h"

/* Zeros of the input's shape for a batch; sizes that are free beside it have no layers to look at. */
static enum rt_status make_input(const struct rt_model *m, int i, int batch, struct rt_tensor *t,
                                 struct rt_error *err)
{
    const struct rt_io *io = rt_model_input(m, i);
    size_t len;
    t->dtype = io->dtype;
    t->shape = io->shape;
    for (int d = 0; d < t->shape.rank; d++) {
        if (d == 0 && rt_model_max_batch(m) > 0)
            t->shape.dim[d] = batch;
        else if (t->shape.dim[d] < 0)
            return rt_fail(err, RT_E_UNSUPPORTED,
                           "--threads: input %s has sizes that are only known at run time",
                           io->name);
    }
    if (!rt_shape_bytes(&t->shape, t->dtype, &len))
        return rt_fail(err, RT_E_LIMIT, "input %s is too large", io->name);
    t->data = rt_zalloc(len);
    return t->data != NULL ? RT_OK : rt_fail_nomem(err, len);
}

static enum rt_status take(struct rt_model *m, const struct rt_tensor *in, int threads,
                           struct sv_balance *b, struct rt_error *err)
{
    struct rt_session *session = NULL;
    b->threads = threads;
    b->largest = rt_zalloc_array((size_t)rt_model_n_layers(m) + 1, sizeof *b->largest);
    if (b->largest == NULL)
        return rt_fail_nomem(err, (size_t)rt_model_n_layers(m) * sizeof *b->largest);
    enum rt_status s = rt_session_create(m, threads, &session, err);
    if (s == RT_OK)
        s = rt_session_balance(session, in, &b->whole, b->largest, err);
    rt_session_destroy(session);
    return s;
}

enum rt_status sv_balances_take(struct rt_model *m, const int *threads, int n,
                                struct sv_balances *all, struct rt_error *err)
{
    const int n_in = rt_model_n_inputs(m);
    if (n == 0)
        return RT_OK;
    struct rt_tensor *in = rt_zalloc_array((size_t)n_in + 1, sizeof *in);
    if (in == NULL)
        return rt_fail_nomem(err, (size_t)n_in * sizeof *in);
    enum rt_status s = RT_OK;
    for (int i = 0; i < n_in && s == RT_OK; i++)
        s = make_input(m, i, all->batch, &in[i], err);
    for (int i = 0; i < n && s == RT_OK; i++)
        s = take(m, in, threads[i], &all->balance[all->n++], err);
    for (int i = 0; i < n_in; i++)
        rt_free(in[i].data);
    rt_free(in);
    return s;
}

void sv_balances_reset(struct sv_balances *all)
{
    for (int i = 0; i < all->n; i++)
        rt_free(all->balance[i].largest);
    all->n = 0;
}

int sv_balance_worst(const struct rt_model *m, const struct sv_balance *b)
{
    int worst = -1;
    double most = 0;
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const double waits = (b->largest[i] - 1.0 / b->threads) * rt_model_layer(m, i)->flops;
        if (waits > most) {
            most = waits;
            worst = i;
        }
    }
    return worst;
}
