/* Both steps of the sandbox, and what is said about them. */
#include "server/sandbox.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>

#include "server/log.h"

static bool filtered;

static const char *reason(int why)
{
    return why == ENOSYS || why == EOPNOTSUPP || why == EINVAL ? "the system has none"
                                                               : strerror(why);
}

enum rt_status sv_sandbox_enter(const struct sv_sandbox_files *files, struct rt_error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        sv_log(SV_LOG_WARN, "sandbox: none: privileges cannot be given up: %s", strerror(errno));
        return RT_OK;
    }
    int why = SV_INSTRUMENTED ? 0 : sv_sandbox_confine_files(files);
    if (why == ENOMEM)
        return rt_fail(err, RT_E_NOMEM, "out of memory while files are confined");
    if (why != 0)
        sv_log(SV_LOG_INFO, "sandbox: files are not confined by Landlock: %s", reason(why));
    why = sv_sandbox_filter_calls(false);
    if (why != 0)
        sv_log(SV_LOG_WARN, "sandbox: system calls are not filtered: %s", reason(why));
    filtered = why == 0;
    return RT_OK;
}

static void *leave(void *arg)
{
    pthread_exit(arg);
}

/* glibc loads its unwinder when a thread first ends so, as those of OpenMP do; it could not once
 * nothing new may be run, and would end the process. */
static void load_unwinder(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, leave, NULL) == 0)
        pthread_join(t, NULL);
}

void sv_sandbox_seal(void)
{
    if (!filtered)
        return;
    load_unwinder();
    int why = sv_sandbox_filter_calls(true);
    if (why != 0)
        sv_log(SV_LOG_WARN, "sandbox: the calls of the start stay possible: %s", strerror(why));
}
