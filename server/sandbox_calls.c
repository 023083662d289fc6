/* seccomp: the list of system calls that a server makes, compiled into the kernel's filter. A call
 * that is not in it fails with EPERM. Two filters are installed, one when the server starts and one
 * when it listens; a call has to pass both. */
#include "server/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__LP64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifdef ARCHITECTURE

#define START 1 /* by the filter of the start */
#define SERVE 2 /* by the one that is added when the server listens */
#define BOTH (START | SERVE)

/* A call that is let through where (low half of its argument & mask) == value. */
struct call {
    int number;
    unsigned filters;
    unsigned argument;
    unsigned mask, value;
};

#define SELF 0x1000u /* as a value's place: the id of this process */

/* Those of newer kernels than this list fail with ENOSYS: the C library then does without. */
#define FIRST_UNKNOWN 450

/* Numbers of arch_prctl() that the headers may lack: asking for AMX's tiles. */
#define GET_XCOMP_PERM 0x1022
#define REQ_XCOMP_PERM 0x1023

static const struct call calls[] = {
    /* What every request makes comes first. */
    { SYS_futex, BOTH, 0, 0, 0 },
#ifdef SYS_epoll_wait
    { SYS_epoll_wait, BOTH, 0, 0, 0 },
#endif
    { SYS_epoll_pwait, BOTH, 0, 0, 0 },
    { SYS_epoll_ctl, BOTH, 0, 0, 0 },
    { SYS_recvfrom, BOTH, 0, 0, 0 },
    { SYS_sendto, BOTH, 0, 0, 0 },
    { SYS_sendmsg, BOTH, 0, 0, 0 },
    { SYS_recvmsg, BOTH, 0, 0, 0 },
    { SYS_read, BOTH, 0, 0, 0 },
    { SYS_write, BOTH, 0, 0, 0 },
    { SYS_readv, BOTH, 0, 0, 0 },
    { SYS_writev, BOTH, 0, 0, 0 },
    { SYS_accept, BOTH, 0, 0, 0 },
    { SYS_accept4, BOTH, 0, 0, 0 },
    { SYS_close, BOTH, 0, 0, 0 },
    { SYS_shutdown, BOTH, 0, 0, 0 },
    { SYS_setsockopt, BOTH, 0, 0, 0 },
    { SYS_getsockopt, BOTH, 0, 0, 0 },
    { SYS_getsockname, BOTH, 0, 0, 0 },
    { SYS_getpeername, BOTH, 0, 0, 0 },
    { SYS_clock_gettime, BOTH, 0, 0, 0 },
    { SYS_gettimeofday, BOTH, 0, 0, 0 },

    /* Sockets are made when the server starts, and names of hosts are looked up. */
    { SYS_socket, START, 0, 0, 0 },
    { SYS_bind, START, 0, 0, 0 },
    { SYS_listen, START, 0, 0, 0 },
    { SYS_connect, START, 0, 0, 0 },
    { SYS_sendmmsg, START, 0, 0, 0 },

/* Waiting. */
#ifdef SYS_poll
    { SYS_poll, BOTH, 0, 0, 0 },
#endif
#ifdef SYS_select
    { SYS_select, BOTH, 0, 0, 0 },
#endif
    { SYS_ppoll, BOTH, 0, 0, 0 },
    { SYS_pselect6, BOTH, 0, 0, 0 },
    { SYS_epoll_create1, BOTH, 0, 0, 0 },
#ifdef SYS_epoll_create
    { SYS_epoll_create, BOTH, 0, 0, 0 },
#endif
    { SYS_eventfd2, BOTH, 0, 0, 0 },
    { SYS_pipe2, BOTH, 0, 0, 0 },
    { SYS_nanosleep, BOTH, 0, 0, 0 },
    { SYS_clock_nanosleep, BOTH, 0, 0, 0 },
    { SYS_clock_getres, BOTH, 0, 0, 0 },
    { SYS_restart_syscall, BOTH, 0, 0, 0 },

/* Files: which ones is for Landlock to say. */
#ifdef SYS_open
    { SYS_open, BOTH, 0, 0, 0 },
    { SYS_stat, BOTH, 0, 0, 0 },
    { SYS_lstat, BOTH, 0, 0, 0 },
    { SYS_access, BOTH, 0, 0, 0 },
    { SYS_readlink, BOTH, 0, 0, 0 },
    { SYS_getdents, BOTH, 0, 0, 0 },
#endif
    { SYS_openat, BOTH, 0, 0, 0 },
    { SYS_newfstatat, BOTH, 0, 0, 0 },
    { SYS_fstat, BOTH, 0, 0, 0 },
    { SYS_statx, BOTH, 0, 0, 0 },
    { SYS_fstatfs, BOTH, 0, 0, 0 },
    { SYS_statfs, BOTH, 0, 0, 0 },
    { SYS_faccessat, BOTH, 0, 0, 0 },
    { 439 /* faccessat2 */, BOTH, 0, 0, 0 },
    { SYS_readlinkat, BOTH, 0, 0, 0 },
    { SYS_getdents64, BOTH, 0, 0, 0 },
    { SYS_getcwd, BOTH, 0, 0, 0 },
    { SYS_lseek, BOTH, 0, 0, 0 },
    { SYS_pread64, BOTH, 0, 0, 0 },
    { SYS_preadv, BOTH, 0, 0, 0 },
    { SYS_fadvise64, BOTH, 0, 0, 0 },
    { SYS_fcntl, BOTH, 0, 0, 0 },
    { SYS_dup, BOTH, 0, 0, 0 },
    { SYS_dup3, BOTH, 0, 0, 0 },
    { SYS_ioctl, BOTH, 1, ~0u, TCGETS },
    { SYS_ioctl, BOTH, 1, ~0u, TIOCGWINSZ },
    { SYS_ioctl, BOTH, 1, ~0u, FIONBIO },
    { SYS_ioctl, BOTH, 1, ~0u, FIONREAD },
    { SYS_inotify_init1, BOTH, 0, 0, 0 },
    { SYS_inotify_add_watch, BOTH, 0, 0, 0 },
    { SYS_inotify_rm_watch, BOTH, 0, 0, 0 },

    /* Memory. What is written and then run is nothing of ours. */
    { SYS_mmap, START, 0, 0, 0 },
    { SYS_mprotect, START, 0, 0, 0 },
    { SYS_mmap, SERVE, 2, PROT_EXEC, 0 },
    { SYS_mprotect, SERVE, 2, PROT_EXEC, 0 },
    { SYS_munmap, BOTH, 0, 0, 0 },
    { SYS_mremap, BOTH, 0, 0, 0 },
    { SYS_madvise, BOTH, 0, 0, 0 },
    { SYS_brk, BOTH, 0, 0, 0 },

    /* Threads: new ones, but no processes. */
    { SYS_clone, BOTH, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM },
    { SYS_exit, BOTH, 0, 0, 0 },
    { SYS_exit_group, BOTH, 0, 0, 0 },
    { SYS_set_robust_list, BOTH, 0, 0, 0 },
    { SYS_rseq, BOTH, 0, 0, 0 },
    { SYS_sched_yield, BOTH, 0, 0, 0 },
    { SYS_sched_getaffinity, BOTH, 0, 0, 0 },
    { SYS_sched_setaffinity, BOTH, 0, 0, 0 },
    { SYS_sched_getparam, BOTH, 0, 0, 0 },
    { SYS_sched_getscheduler, BOTH, 0, 0, 0 },
    { SYS_sched_get_priority_min, BOTH, 0, 0, 0 },
    { SYS_sched_get_priority_max, BOTH, 0, 0, 0 },
    { SYS_getpriority, BOTH, 0, 0, 0 }, /* threads that compute give way to those with sockets */
    { SYS_setpriority, BOTH, 0, 0, 0 },
    { SYS_sched_setattr, BOTH, 0, 0, 0 },
    { SYS_getcpu, BOTH, 0, 0, 0 },
    { SYS_membarrier, BOTH, 0, 0, 0 },

    /* Signals, to itself at most. */
    { SYS_rt_sigaction, BOTH, 0, 0, 0 },
    { SYS_rt_sigprocmask, BOTH, 0, 0, 0 },
    { SYS_rt_sigreturn, BOTH, 0, 0, 0 },
    { SYS_rt_sigtimedwait, BOTH, 0, 0, 0 },
    { SYS_sigaltstack, BOTH, 0, 0, 0 },
    { SYS_tgkill, BOTH, 0, ~0u, SELF },

    /* What there is to know about itself. */
    { SYS_getpid, BOTH, 0, 0, 0 },
    { SYS_getppid, BOTH, 0, 0, 0 },
    { SYS_gettid, BOTH, 0, 0, 0 },
    { SYS_getuid, BOTH, 0, 0, 0 },
    { SYS_geteuid, BOTH, 0, 0, 0 },
    { SYS_getgid, BOTH, 0, 0, 0 },
    { SYS_getegid, BOTH, 0, 0, 0 },
    { SYS_uname, BOTH, 0, 0, 0 },
    { SYS_sysinfo, BOTH, 0, 0, 0 },
    { SYS_getrusage, BOTH, 0, 0, 0 },
    { SYS_times, BOTH, 0, 0, 0 },
    { SYS_getrlimit, BOTH, 0, 0, 0 },
    { SYS_prlimit64, BOTH, 2, ~0u, 0 }, /* the new limit is NULL */
    { SYS_getrandom, BOTH, 0, 0, 0 },
    { SYS_prctl, BOTH, 0, ~0u, PR_SET_NAME },
    { SYS_prctl, START, 0, ~0u, PR_SET_SECCOMP },
    { SYS_seccomp, START, 0, 0, 0 },
#ifdef SYS_arch_prctl
    { SYS_arch_prctl, BOTH, 0, ~0u, GET_XCOMP_PERM },
    { SYS_arch_prctl, BOTH, 0, ~0u, REQ_XCOMP_PERM },
#endif

#if SV_INSTRUMENTED
    /* LeakSanitizer's tracer, the sanitizers' symbolizer, files of coverage. */
    { SYS_clone, BOTH, 0, 0, 0 },
    { SYS_execve, BOTH, 0, 0, 0 },
    { SYS_wait4, BOTH, 0, 0, 0 },
    { SYS_ptrace, BOTH, 0, 0, 0 },
    { SYS_prctl, BOTH, 0, 0, 0 },
    { SYS_mmap, BOTH, 0, 0, 0 },
    { SYS_mprotect, BOTH, 0, 0, 0 },
    { SYS_prlimit64, BOTH, 0, 0, 0 },
    { SYS_kill, BOTH, 0, 0, 0 },
    { SYS_tgkill, BOTH, 0, 0, 0 },
    { SYS_process_vm_readv, BOTH, 0, 0, 0 },
    { SYS_personality, BOTH, 0, 0, 0 },
    { SYS_mkdirat, BOTH, 0, 0, 0 },
    { SYS_unlinkat, BOTH, 0, 0, 0 },
    { SYS_ftruncate, BOTH, 0, 0, 0 },
    { SYS_close_range, BOTH, 0, 0, 0 },
#ifdef SYS_fork
    { SYS_fork, BOTH, 0, 0, 0 },
    { SYS_vfork, BOTH, 0, 0, 0 },
    { SYS_dup2, BOTH, 0, 0, 0 },
    { SYS_pipe, BOTH, 0, 0, 0 },
    { SYS_mkdir, BOTH, 0, 0, 0 },
    { SYS_unlink, BOTH, 0, 0, 0 },
#endif
#endif
};

#define N_CALLS (sizeof calls / sizeof calls[0])

static void add(struct sock_fprog *to, unsigned code, unsigned k, unsigned char yes,
                unsigned char no)
{
    to->filter[to->len++] = (struct sock_filter){ (unsigned short)code, yes, no, k };
}

/* Leaves the call's number where the next comparison wants it. */
static void add_call(struct sock_fprog *to, const struct call *c)
{
    const unsigned number = offsetof(struct seccomp_data, nr);
    /* The low half: both processors are little-endian. */
    const unsigned argument =
        (unsigned)(offsetof(struct seccomp_data, args) + c->argument * sizeof(__u64));
    if (c->mask == 0) {
        add(to, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)c->number, 0, 1);
        add(to, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
        return;
    }
    add(to, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)c->number, 0, 5);
    add(to, BPF_LD | BPF_W | BPF_ABS, argument, 0, 0);
    add(to, BPF_ALU | BPF_AND | BPF_K, c->mask, 0, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, c->value == SELF ? (unsigned)getpid() : c->value, 0, 1);
    add(to, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    add(to, BPF_LD | BPF_W | BPF_ABS, number, 0, 0);
}

int sv_sandbox_filter_calls(bool sealed)
{
    struct sock_filter room[6 * N_CALLS + 16];
    struct sock_fprog program = { .filter = room };
    add(&program, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    add(&program, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    add(&program, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    add(&program, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    for (size_t i = 0; i < N_CALLS; i++)
        if ((calls[i].filters & (sealed ? SERVE : START)) != 0)
            add_call(&program, &calls[i]);
    /* clone3's flags lie in memory, where no filter sees them: the C library then takes clone. */
    add(&program, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0);
    add(&program, BPF_JMP | BPF_JGE | BPF_K, FIRST_UNKNOWN, 0, 1);
    add(&program, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
    add(&program, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0);
    /* All threads at once; more than 0 is the id of one that cannot follow. */
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    return r == 0 ? 0 : r < 0 ? errno : EBUSY;
}

#else

int sv_sandbox_filter_calls(bool sealed)
{
    (void)sealed;
    return ENOSYS;
}

#endif
