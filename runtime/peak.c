/* How fast this machine adds products, measured with the inner loop of convolutions on data that
 * stays in the first cache: what a layer's speed is to be held against. */
#include "runtime/clock.h"
#include "runtime/kernels/kernels.h"
#include "runtime/parallel.h"
#include "runtime/rt.h"

#define MAX_BLOCK 16
#define MAX_TILE 14
#define DEPTH 8 /* blocks of input channels */
#define SECONDS 0.002 /* short of a time slice: the best of some is undisturbed */
#define ROUNDS 15
#define CALLS 16 /* between two looks at the clock */

struct meter {
    atomic_llong flops_per_second; /* of all workers */
};

static void measure(void *ctx, const struct rt_worker *w)
{
    const struct rt_kernels *k = rt_kernels();
    const size_t block = (size_t)k->block, pixels = (size_t)k->tile;
    _Alignas(64) float x[DEPTH * MAX_TILE * MAX_BLOCK] = { 0 };
    _Alignas(64) float panel[DEPTH * MAX_BLOCK * 2 * MAX_BLOCK] = { 0 };
    _Alignas(64) float y[2 * MAX_TILE * MAX_BLOCK], bias[2 * MAX_BLOCK] = { 0 };
    const struct rt_mac m = {
        .x = x,
        .w = panel,
        .y = y,
        .bias = bias,
        .pixels = pixels,
        .rows = 1,
        .blocks = 2,
        .x_pixel = block,
        .x_outer = pixels * block,
        .y_pixel = block,
        .y_block = pixels * block,
        .outer = DEPTH,
        .kh = 1,
        .kw = 1,
        .lanes = block,
        .last_lanes = block,
    };
    const double flops = 2.0 * DEPTH * (double)(block * pixels * 2 * block);
    long long calls = 0;
    double seconds;
    rt_worker_barrier(w); /* all cores at once, as they are in a run */
    const double start = rt_now();
    do {
        for (int i = 0; i < CALLS; i++)
            k->mac(&m);
        calls += CALLS;
        seconds = rt_now() - start;
    } while (seconds < SECONDS);
    struct meter *meter = ctx;
    atomic_fetch_add(&meter->flops_per_second, (long long)((double)calls * flops / seconds));
}

double rt_peak_flops(int threads)
{
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct meter meter = { 0 };
        rt_parallel(threads, measure, &meter);
        const double found = (double)atomic_load(&meter.flops_per_second);
        best = found > best ? found : best;
    }
    return best;
}
