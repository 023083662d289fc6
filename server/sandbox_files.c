/* Landlock: below which folders files may be read. The kernel's interface is used as it is, as its
 * C library has no functions for it. */
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/file.h"
#include "server/sources.h"

/* Of versions of the kernel that are newer than the headers at hand may be. */
#define ACCESS_REFER (1ULL << 13)
#define ACCESS_TRUNCATE (1ULL << 14)
#define ACCESS_IOCTL_DEV (1ULL << 15)

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define APPEND (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG)
#define OF_FILES                                                                                   \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE |   \
     ACCESS_TRUNCATE | ACCESS_IOCTL_DEV)

/* What the C library, GnuTLS and the OpenMP runtime read: names of hosts, the zone of time, cores,
 * limits; its own modules. */
static const char *const system_paths[] = {
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/dev/null",
    "/dev/urandom",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/etc/gnutls",
    "/etc/crypto-policies",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
};

/* Everything that this version of Landlock can refuse. */
static uint64_t all_accesses(int version)
{
    uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
    if (version >= 2)
        all |= ACCESS_REFER;
    if (version >= 3)
        all |= ACCESS_TRUNCATE;
    if (version >= 5)
        all |= ACCESS_IOCTL_DEV;
    return all;
}

/* Allows these accesses to what path leads to and, for a folder, to everything below. What is not
 * there needs no rule. */
static void allow(int rules, const char *path, uint64_t access)
{
    struct stat is;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &is) == 0) {
        const struct landlock_path_beneath_attr rule = {
            .allowed_access = S_ISDIR(is.st_mode) ? access : access & OF_FILES,
            .parent_fd = fd,
        };
        syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    }
    close(fd);
}

/* The folder of a file, so that a file which takes its place can be opened, too; of what a link
 * leads to likewise. False: out of memory. */
static bool allow_beside(int rules, const char *path, uint64_t access)
{
    char target[PATH_MAX];
    const char *const both[] = { path, realpath(path, target) };
    for (int i = 0; i < 2 && both[i] != NULL; i++) {
        char *folder = sv_path_folder(both[i]);
        if (folder == NULL)
            return false;
        allow(rules, folder, access);
        rt_free(folder);
    }
    return true;
}

/* A model's folder, and what the links in it lead to: a model may be linked from a store. */
static bool allow_models(int rules, const char *root)
{
    if (sv_is_folder(root))
        allow(rules, root, READ);
    else if (!allow_beside(rules, root, READ))
        return false;
    struct sv_sources found = { 0 };
    struct rt_error why;
    enum rt_status s = sv_sources_find(root, &found, &why);
    if (s != RT_OK)
        return s != RT_E_NOMEM; /* the load is going to say what is wrong */
    bool good = true;
    for (int i = 0; i < found.n && good; i++) {
        const struct sv_source *m = &found.item[i];
        allow(rules, m->path, READ);
        if (m->config != NULL)
            allow(rules, m->config, READ);
        if (m->labels != NULL)
            allow(rules, m->labels, READ);
        char *folder = sv_path_folder(m->path);
        good = folder != NULL;
        if (good)
            allow(rules, folder, READ);
        rt_free(folder);
    }
    sv_sources_reset(&found);
    return good;
}

static bool allow_all(int rules, const struct sv_sandbox_files *files)
{
    for (size_t i = 0; i < sizeof system_paths / sizeof system_paths[0]; i++)
        allow(rules, system_paths[i], READ);
    bool good = true;
    for (size_t i = 0; i < files->n_models && good; i++)
        good = allow_models(rules, files->model[i]);
    for (size_t i = 0; i < files->n_reread && good; i++)
        good = files->reread[i] == NULL || allow_beside(rules, files->reread[i], READ);
    if (good && files->log != NULL && strcmp(files->log, "-") != 0) {
        allow(rules, files->log, LANDLOCK_ACCESS_FS_WRITE_FILE);
        good = allow_beside(rules, files->log, APPEND);
    }
    return good;
}

int sv_sandbox_confine_files(const struct sv_sandbox_files *files)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1)
        return version < 0 ? errno : ENOSYS;
    const struct landlock_ruleset_attr refused = { .handled_access_fs =
                                                       all_accesses((int)version) };
    int rules = (int)syscall(SYS_landlock_create_ruleset, &refused, sizeof refused, 0);
    if (rules < 0)
        return errno;
    int why = 0;
    if (!allow_all(rules, files))
        why = ENOMEM;
    else if (syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        why = errno;
    close(rules);
    return why;
}
