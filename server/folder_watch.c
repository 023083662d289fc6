/* A thread around inotify, or around a clock. */
#include "server/folder_watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/file.h"
#include "server/log.h"

#define NS_PER_MS (SV_NS_PER_SECOND / 1000)
#define QUIET_MS 200
#define LONGEST_MS 5000 /* that a stream of changes may put off looking at them */
#define POLL_MS 2000
#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB |            \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct sv_folder_watch {
    struct sv_registry *registry;
    const char *const *path;
    int n;
    int interval_ms; /* 0: inotify */
    int stop;        /* eventfd */
    pthread_t thread;
};

/* Watches a folder and those in it, `depth` levels of them. False when the system has no more
 * watches to give. */
static bool watch_folder(int fd, const char *path, int depth)
{
    if (inotify_add_watch(fd, path, EVENTS) < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES;
    struct sv_names names = { 0 };
    bool good = true;
    if (depth > 0 && sv_folder_list(path, &names, NULL) != RT_OK)
        sv_names_reset(&names); /* gone by now */
    for (size_t i = 0; i < names.n && good; i++) {
        char *inner = sv_path_join(path, names.name[i]);
        if (inner != NULL && sv_is_folder(inner))
            good = watch_folder(fd, inner, depth - 1);
        rt_free(inner);
    }
    sv_names_reset(&names);
    return good;
}

/* An inotify descriptor for all that there is now; -1: polling has to do. */
static int watch_all(const struct sv_folder_watch *w)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    bool good = fd >= 0;
    for (int i = 0; i < w->n && good; i++) {
        bool whole = sv_is_folder(w->path[i]);
        char *folder = whole ? rt_strdup(w->path[i]) : sv_path_folder(w->path[i]);
        good = folder != NULL && watch_folder(fd, folder, whole ? 2 : 0);
        rt_free(folder);
    }
    if (!good && fd >= 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Sleeps until fd (-1: none) can be read or so many milliseconds have passed. False: stop. */
static bool wait_for(const struct sv_folder_watch *w, int fd, int timeout_ms, bool *readable)
{
    struct pollfd p[2] = { { .fd = w->stop, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
    int n = poll(p, 2, timeout_ms);
    *readable = n > 0 && p[1].revents != 0;
    return n <= 0 || p[0].revents == 0;
}

static void drop_events(int fd)
{
    char bin[4096];
    while (read(fd, bin, sizeof bin) > 0)
        continue;
}

/* Sleeps until there is a reason to rescan. False: stop. */
static bool wait_for_change(const struct sv_folder_watch *w, int fd)
{
    bool readable;
    if (fd < 0)
        return wait_for(w, -1, w->interval_ms > 0 ? w->interval_ms : POLL_MS, &readable);
    do {
        if (!wait_for(w, fd, -1, &readable))
            return false;
    } while (!readable);
    uint64_t since = sv_now_ns();
    while (readable && sv_now_ns() - since < LONGEST_MS * NS_PER_MS) {
        drop_events(fd);
        if (!wait_for(w, fd, QUIET_MS, &readable))
            return false;
    }
    return true;
}

static void *run(void *arg)
{
    const struct sv_folder_watch *w = arg;
    pthread_setname_np(pthread_self(), "convd-watch");
    bool told = false;
    for (;;) {
        /* Before looking, so that no change falls between. */
        int fd = w->interval_ms > 0 ? -1 : watch_all(w);
        if (fd < 0 && w->interval_ms == 0 && !told) {
            sv_log(SV_LOG_WARN,
                   "changes of model folders are not reported by the system (%s): they are looked "
                   "at every %d seconds",
                   strerror(errno), POLL_MS / 1000);
            told = true;
        }
        sv_registry_rescan(w->registry, false);
        bool go_on = wait_for_change(w, fd);
        if (fd >= 0)
            close(fd);
        if (!go_on)
            return NULL;
    }
}

enum rt_status sv_folder_watch_start(struct sv_registry *r, const char *const *path, int n,
                                     uint64_t interval_ns, struct sv_folder_watch **out,
                                     struct rt_error *err)
{
    struct sv_folder_watch *w = rt_zalloc(sizeof *w);
    if (w == NULL)
        return rt_fail_nomem(err, sizeof *w);
    w->registry = r;
    w->path = path;
    w->n = n;
    w->interval_ms = (int)(interval_ns / NS_PER_MS);
    w->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int e = w->stop < 0 ? errno : pthread_create(&w->thread, NULL, run, w);
    if (e != 0) {
        if (w->stop >= 0)
            close(w->stop);
        rt_free(w);
        return rt_fail(err, RT_E_IO, "model folders cannot be watched: %s", strerror(e));
    }
    *out = w;
    return RT_OK;
}

void sv_folder_watch_stop(struct sv_folder_watch *w)
{
    if (w == NULL)
        return;
    eventfd_write(w->stop, 1);
    pthread_join(w->thread, NULL);
    close(w->stop);
    rt_free(w);
}
