/* Files and folders over POSIX calls, each failure said with the path it is about. */
#include "server/file.h"

#include "runtime/rt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static enum rt_status fail_errno(const char *path, struct rt_error *err)
{
    int e = errno;
    enum rt_status status = e == ENOENT || e == ENOTDIR ? RT_E_NOT_FOUND : RT_E_IO;
    return rt_fail(err, status, "%s: %s", path, strerror(e));
}

/* Reads to the end. The file's stated size is only a first guess: pipes have none, and a file may
 * grow while it is read. */
static enum rt_status read_all(int fd, const char *path, size_t guess, size_t limit, void **bytes,
                               size_t *len, struct rt_error *err)
{
    size_t room = guess + 1, used = 0;
    char *buf = rt_alloc(room + 1);
    for (;;) {
        if (buf == NULL)
            return rt_fail(err, RT_E_NOMEM, "%s: out of memory while reading it", path);
        ssize_t got = read(fd, buf + used, room - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rt_free(buf);
            return fail_errno(path, err);
        }
        used += (size_t)got;
        if (limit != 0 && used > limit) {
            rt_free(buf);
            return rt_fail(err, RT_E_LIMIT, "%s: larger than %zu bytes", path, limit);
        }
        if (got == 0)
            break;
        if (used == room) {
            room *= 2;
            char *grown = rt_realloc_array(buf, room + 1, 1);
            if (grown == NULL)
                rt_free(buf);
            buf = grown;
        }
    }
    buf[used] = '\0';
    *bytes = buf;
    *len = used;
    return RT_OK;
}

enum rt_status sv_file_read(const char *path, size_t limit, void **bytes, size_t *len,
                            struct rt_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* nobody is to wait at a fifo */
    if (fd < 0)
        return fail_errno(path, err);
    struct stat st;
    enum rt_status s;
    if (fstat(fd, &st) != 0)
        s = fail_errno(path, err);
    else if (S_ISDIR(st.st_mode))
        s = rt_fail(err, RT_E_INVALID, "%s: is a folder, not a file", path);
    else if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
        s = rt_fail(err, RT_E_INVALID, "%s: is not a regular file", path);
    else if (limit != 0 && st.st_size > 0 && (uint64_t)st.st_size > limit)
        s = rt_fail(err, RT_E_LIMIT, "%s: %lld bytes, more than the %zu that are read", path,
                    (long long)st.st_size, limit);
    else
        s = read_all(fd, path, st.st_size > 0 ? (size_t)st.st_size : 65536, limit, bytes, len, err);
    close(fd);
    return s;
}

enum rt_status sv_file_write(const char *path, const void *bytes, size_t len, struct rt_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail_errno(path, err);
    const char *at = bytes;
    while (len > 0) {
        ssize_t put = write(fd, at, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            enum rt_status s = fail_errno(path, err);
            close(fd);
            return s;
        }
        at += put;
        len -= (size_t)put;
    }
    return close(fd) == 0 ? RT_OK : fail_errno(path, err);
}

bool sv_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool sv_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

bool sv_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static int by_version(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

static enum rt_status list(DIR *dir, const char *path, struct sv_names *out, struct rt_error *err)
{
    size_t room = 0;
    for (const struct dirent *e; errno = 0, (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        if (out->n == room) {
            room = room > 0 ? 2 * room : 16;
            char **grown = rt_realloc_array(out->name, room, sizeof *grown);
            if (grown == NULL)
                return rt_fail_nomem(err, room * sizeof *grown);
            out->name = grown;
        }
        char *name = rt_strdup(e->d_name);
        if (name == NULL)
            return rt_fail_nomem(err, strlen(e->d_name) + 1);
        out->name[out->n++] = name;
    }
    if (errno != 0)
        return fail_errno(path, err);
    if (out->n > 1)
        qsort(out->name, out->n, sizeof *out->name, by_version);
    return RT_OK;
}

enum rt_status sv_folder_list(const char *path, struct sv_names *out, struct rt_error *err)
{
    *out = (struct sv_names){ 0 };
    DIR *dir = opendir(path);
    if (dir == NULL)
        return fail_errno(path, err);
    enum rt_status s = list(dir, path, out, err);
    closedir(dir);
    return s;
}

void sv_names_reset(struct sv_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        rt_free(names->name[i]);
    rt_free(names->name);
    *names = (struct sv_names){ 0 };
}

enum rt_status sv_folder_create(const char *path, struct rt_error *err)
{
    char *part = rt_strdup(path);
    if (part == NULL)
        return rt_fail_nomem(err, strlen(path) + 1);
    enum rt_status s = RT_OK;
    for (char *slash = part; s == RT_OK && slash != NULL;) {
        slash = strchr(slash + strspn(slash, "/"), '/');
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(part, 0777) != 0 && !sv_is_folder(part))
            s = errno == EEXIST ? rt_fail(err, RT_E_IO, "%s: is a file, not a folder", part)
                                : fail_errno(part, err);
        if (slash != NULL)
            *slash = '/';
    }
    rt_free(part);
    return s;
}

char *sv_path_join(const char *folder, const char *name)
{
    size_t left = strlen(folder), right = strlen(name) + 1;
    bool slash = left > 0 && folder[left - 1] != '/';
    char *path = rt_alloc(left + (slash ? 1 : 0) + right);
    if (path == NULL)
        return NULL;
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): the name's end is its own */
    memcpy(path, folder, left);
    if (slash)
        path[left++] = '/';
    memcpy(path + left, name, right);
    return path;
}

char *sv_path_folder(const char *path)
{
    const char *base = sv_path_base(path);
    if (base == path)
        return rt_strdup(".");
    size_t len = (size_t)(base - path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    char *folder = rt_alloc(len + 1);
    if (folder == NULL)
        return NULL;
    memcpy(folder, path, len);
    folder[len] = '\0';
    return folder;
}

const char *sv_path_base(const char *path)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    return path + end;
}

bool sv_path_has_suffix(const char *path, const char *suffix)
{
    size_t len = strlen(path), tail = strlen(suffix);
    return len >= tail && strcasecmp(path + len - tail, suffix) == 0;
}
