/* Opens files below a folder and reads ranges of them. */
#include "runtime/external.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens the file component by component, following no link, so that whatever lies in the folder
 * cannot lead out of it. */
static int open_below(const char *folder, const char *path)
{
    int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0) {
        char part[NAME_MAX + 1];
        size_t len = strcspn(path, "/");
        if (len == 0 || len > NAME_MAX) {
            close(at);
            errno = len == 0 ? ENOENT : ENAMETOOLONG;
            return -1;
        }
        memcpy(part, path, len);
        part[len] = '\0';
        bool last = path[len] == '\0';
        int flags = last ? O_NONBLOCK : O_DIRECTORY; /* a fifo must not make anybody wait */
        int next = openat(at, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | flags);
        int saved = errno;
        close(at);
        errno = saved;
        if (last)
            return next;
        at = next;
        path += len + 1;
    }
    return -1;
}

static bool leaves_folder(const char *path)
{
    if (path[0] == '/')
        return true;
    for (const char *p = path;;) {
        size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.')
            return true;
        if (p[len] == '\0')
            return false;
        p += len + 1;
    }
}

enum rt_status rt_external_open(const char *folder, const char *path, int64_t offset, size_t len,
                                int *fd, struct rt_error *err)
{
    if (leaves_folder(path))
        return rt_fail(err, RT_E_INVALID, "'%s' is not inside the model's folder", path);
    int64_t end;
    if (__builtin_add_overflow(offset, len, &end))
        return rt_fail(err, RT_E_INVALID, "'%s': offset %lld is too large", path,
                       (long long)offset);
    const char *rest = path;
    while (rest[0] == '.' && rest[1] == '/')
        rest += 2;
    int opened = open_below(folder, rest);
    if (opened < 0 && (errno == ELOOP || errno == ENOTDIR))
        return rt_fail(err, RT_E_INVALID, "'%s' leads through a symbolic link or no folder", path);
    if (opened < 0)
        return rt_fail(err, errno == EMFILE || errno == ENFILE ? RT_E_IO : RT_E_INVALID,
                       "'%s' cannot be opened: %s", path, strerror(errno));
    struct stat st;
    enum rt_status s = RT_OK;
    if (fstat(opened, &st) != 0 || !S_ISREG(st.st_mode))
        s = rt_fail(err, RT_E_INVALID, "'%s' is not a regular file", path);
    else if (end > st.st_size)
        s = rt_fail(err, RT_E_INVALID, "'%s' has %lld bytes, %lld are needed", path,
                    (long long)st.st_size, (long long)end);
    if (s == RT_OK)
        *fd = opened;
    else
        close(opened);
    return s;
}

enum rt_status rt_external_read(int fd, const char *path, int64_t offset, void *to, size_t len,
                                struct rt_error *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)to + done, len - done, (off_t)(offset + (int64_t)done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rt_fail(err, RT_E_IO, "'%s' cannot be read: %s", path, strerror(errno));
        if (n == 0)
            return rt_fail(err, RT_E_IO, "'%s' became shorter while it was read", path);
        done += (size_t)n;
    }
    return RT_OK;
}
