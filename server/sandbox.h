/* What a server gives up, so that code which a request or a model took over can do little with it:
 * new privileges, system calls that the server does not make (seccomp), files that it does not read
 * (Landlock). What the kernel or the container does not offer is left out, with a line in the log:
 * none of it stands between a user and a running server. */
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/rt.h"

/* The files that it goes on to read; NULL and empty lists are fine, and so is what is not there. */
struct sv_sandbox_files {
    const char *const *model; /* model[0..n_models): as sv_registry_add() takes them */
    size_t n_models;
    const char *const *reread; /* reread[0..n_reread): opened anew at times, or replaced */
    size_t n_reread;
    const char *log; /* appended to, made anew; "-" is none */
};

/* Before the first thread is made and before anything of a model or a client is read. Reading stays
 * possible below the folders of these files, of what symbolic links there lead to by now, and of
 * what the C library reads. Of system calls those stay that a server makes while it starts or
 * serves. Fails for want of memory only. */
enum rt_status sv_sandbox_enter(const struct sv_sandbox_files *files, struct rt_error *err);

/* When it listens: every thread loses the calls that only the start makes, as those for new
 * sockets, and new memory can no longer be run. Nothing without sv_sandbox_enter(). */
void sv_sandbox_seal(void);

/* The parts, for sandbox.c. They return 0 or an errno that says why there is none: ENOSYS where
 * kernel or processor know nothing of the kind. */
int sv_sandbox_confine_files(const struct sv_sandbox_files *files);
int sv_sandbox_filter_calls(bool sealed);

/* Sanitizers and profilers make calls and write files of their own. In builds with one they pass,
 * and files are not confined. */
#ifndef SV_INSTRUMENTED
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SV_INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SV_INSTRUMENTED 1
#endif
#endif
#endif
#ifndef SV_INSTRUMENTED
#define SV_INSTRUMENTED 0
#endif

#endif
