/* The one clock of the server: nanoseconds that only go forward, for deadlines and durations. */
#ifndef SERVER_CLOCK_H
#define SERVER_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define SV_NS_PER_SECOND UINT64_C(1000000000)

/* Since some point in the past, the same for the whole process. Never 0. */
static inline uint64_t sv_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SV_NS_PER_SECOND + (uint64_t)t.tv_nsec + 1;
}

/* sv_now_ns() time as pthread_cond_timedwait() takes it on a condition that uses
 * CLOCK_MONOTONIC. */
static inline struct timespec sv_clock_timespec(uint64_t ns)
{
    return (struct timespec){
        .tv_sec = (time_t)((ns - 1) / SV_NS_PER_SECOND),
        .tv_nsec = (long)((ns - 1) % SV_NS_PER_SECOND),
    };
}

/* Such a condition. */
static inline void sv_clock_condition(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

#endif
