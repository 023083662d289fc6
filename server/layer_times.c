/* One run to warm up, then the mean of several. */
#include "server/layer_times.h"

#include "server/clock.h"

#define RUNS_MAX 10

enum rt_status sv_layer_times(const struct rt_model *m, struct rt_session *session,
                              const struct rt_tensor *in, struct rt_tensor *out, double limit,
                              double *seconds, int *runs, struct rt_error *err)
{
    const int n_layers = rt_model_n_layers(m);
    for (int i = 0; i < n_layers; i++)
        seconds[i] = 0;
    rt_session_profile(session, true);
    enum rt_status s = rt_session_run(session, in, out, err);
    const uint64_t start = sv_now_ns(), most = (uint64_t)(limit * (double)SV_NS_PER_SECOND);
    int n = 0;
    while (s == RT_OK && n < RUNS_MAX && (n == 0 || sv_now_ns() - start < most)) {
        s = rt_session_run(session, in, out, err);
        const double *layer = rt_session_layer_seconds(session);
        for (int i = 0; i < n_layers && s == RT_OK; i++)
            seconds[i] += layer[i];
        n++;
    }
    for (int i = 0; i < n_layers; i++)
        seconds[i] /= n > 0 ? n : 1;
    rt_session_profile(session, false);
    *runs = n;
    return s;
}

double sv_layer_times_sum(const struct rt_model *m, const double *seconds)
{
    double total = 0;
    for (int i = 0; i < rt_model_n_layers(m); i++)
        total += seconds[i];
    return total;
}
