/* Maps files, and puts zeros where a file has lost what was mapped of it. */
#include "runtime/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files that may be mapped at a time: as many as threads load models. */
#define SLOTS 64

/* Bytes up to which a file's pages are mapped at once, which takes a fifth of the time that they
 * take one after the other. Of a larger one the first might be gone again when they are wanted. */
#define AT_ONCE ((size_t)512 << 20)

/* The handler reads these on any thread, at any time. */
static struct slot {
    atomic_uintptr_t first, end; /* both 0: free. end is set last and cleared first */
    atomic_bool broken;
} slots[SLOTS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all but the handler's reading */
static int n_mapped;
static struct sigaction before;

static struct slot *slot_at(uintptr_t address)
{
    for (int i = 0; i < SLOTS; i++)
        if (address < atomic_load(&slots[i].end) && address >= atomic_load(&slots[i].first))
            return &slots[i];
    return NULL;
}

/* What is not ours: to whom it belongs, or, by running into it again, to the end of the process. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    if ((before.sa_flags & SA_SIGINFO) != 0)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        signal(number, SIG_DFL);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    struct slot *s = slot_at((uintptr_t)info->si_addr);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *at = (void *)((uintptr_t)info->si_addr / page * page);
    if (s == NULL ||
        mmap(at, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        pass_on(number, info, context);
    else
        atomic_store(&s->broken, true);
    errno = saved;
}

/* Takes a slot and, for the first one, the signal. -1: there is none. */
static int enter(const void *bytes, size_t len)
{
    int found = -1;
    pthread_mutex_lock(&lock);
    for (int i = 0; found < 0 && i < SLOTS; i++)
        if (atomic_load(&slots[i].end) == 0)
            found = i;
    if (found >= 0) {
        struct sigaction a = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER };
        if (n_mapped++ == 0)
            sigaction(SIGBUS, &a, &before);
        atomic_store(&slots[found].broken, false);
        atomic_store(&slots[found].first, (uintptr_t)bytes);
        atomic_store(&slots[found].end, (uintptr_t)bytes + len);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static enum rt_status map(int fd, const char *path, struct rt_mapped *out, struct rt_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return rt_fail(err, RT_E_IO, "%s: is not a regular file", path);
    if (st.st_size == 0)
        return rt_fail(err, RT_E_INVALID, "%s: the file is empty", path);
    size_t len = (size_t)st.st_size;
    void *bytes =
        mmap(NULL, len, PROT_READ, MAP_PRIVATE | (len <= AT_ONCE ? MAP_POPULATE : 0), fd, 0);
    if (bytes == MAP_FAILED)
        return rt_fail(err, RT_E_IO, "%s: %s", path, strerror(errno));
    int slot = enter(bytes, len);
    if (slot < 0) {
        munmap(bytes, len);
        return rt_fail(err, RT_E_BUSY, "%s: %d files are being read already", path, SLOTS);
    }
    *out = (struct rt_mapped){ bytes, len, slot };
    return RT_OK;
}

enum rt_status rt_mapped_open(const char *path, struct rt_mapped *out, struct rt_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* nobody is to wait at a fifo */
    if (fd < 0)
        return rt_fail(err, errno == ENOENT ? RT_E_NOT_FOUND : RT_E_IO, "%s: %s", path,
                       strerror(errno));
    enum rt_status s = map(fd, path, out, err);
    close(fd);
    return s;
}

bool rt_mapped_whole(const struct rt_mapped *m)
{
    return !atomic_load(&slots[m->slot].broken);
}

void rt_mapped_close(struct rt_mapped *m)
{
    munmap((void *)(uintptr_t)m->bytes, m->len);
    pthread_mutex_lock(&lock);
    atomic_store(&slots[m->slot].end, 0);
    if (--n_mapped == 0)
        sigaction(SIGBUS, &before, NULL);
    pthread_mutex_unlock(&lock);
}
