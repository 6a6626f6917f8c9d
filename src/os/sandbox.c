// SPDX-License-Identifier: Apache-2.0
#include "os/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534
// A fixed number: to choose one itself malloc would open a file that tells how many CPUs there are.
#define MALLOC_ARENAS 2

static bool entered; // by the process's first thread, before there were others

// ---- What each kind of thread calls, with the part that needs it.

// Everywhere: libc's threads, locks, memory and exits; clocks; signals of the engine (os/native_code.c); messages.
static const int common_calls[] = {
    SCMP_SYS(futex),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getrandom),
    SCMP_SYS(membarrier),
    SCMP_SYS(write),
    SCMP_SYS(read),
    SCMP_SYS(close),
    SCMP_SYS(poll),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(prctl),
    SCMP_SYS(tgkill),
    SCMP_SYS(seccomp), // a thread's own filter, which can only take rights away
};

// The clock's alarm (os/alarm.c), console output and its copies to connections (os/stream.c, os/unix_socket.c), and in deterministic machines the disks.
static const int vcpu_calls[] = {
    SCMP_SYS(sendto),    SCMP_SYS(sendmsg), SCMP_SYS(pread64),         SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),    SCMP_SYS(pwritev), SCMP_SYS(fdatasync),       SCMP_SYS(fallocate),
    SCMP_SYS(epoll_ctl), SCMP_SYS(lseek),   SCMP_SYS(timerfd_settime),
};

// With KVM, tier 0 is only made when it is needed, on this thread (os/memory.c).
static const int vcpu_kvm_calls[] = {SCMP_SYS(memfd_create), SCMP_SYS(ftruncate), SCMP_SYS(fcntl)};

// The event loop (os/loop.c), files (os/file.c), network ends.
static const int io_calls[] = {
    SCMP_SYS(epoll_wait),      SCMP_SYS(epoll_pwait),     SCMP_SYS(epoll_ctl),
    SCMP_SYS(timerfd_settime), SCMP_SYS(pread64),         SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),          SCMP_SYS(pwritev),         SCMP_SYS(preadv2),
    SCMP_SYS(pwritev2),        SCMP_SYS(readv),           SCMP_SYS(writev),
    SCMP_SYS(fdatasync),       SCMP_SYS(fsync),           SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),       SCMP_SYS(copy_file_range), SCMP_SYS(lseek),
    SCMP_SYS(fstat),           SCMP_SYS(newfstatat),      SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),         SCMP_SYS(recvfrom),        SCMP_SYS(recvmsg),
    SCMP_SYS(setsockopt),      SCMP_SYS(ioctl),           SCMP_SYS(fcntl),
    SCMP_SYS(fadvise64),       SCMP_SYS(sync_file_range), SCMP_SYS(io_uring_enter),
};

// Besides: connections (accept), descriptors of plugged devices, new threads until the machine runs.
static const int main_calls[] = {
    SCMP_SYS(accept4),      SCMP_SYS(dup),
    SCMP_SYS(dup3),         SCMP_SYS(epoll_create1),
    SCMP_SYS(eventfd2),     SCMP_SYS(timerfd_create),
    SCMP_SYS(getsockopt),   SCMP_SYS(shutdown),
    SCMP_SYS(clone),        SCMP_SYS(clone3),
    SCMP_SYS(memfd_create), SCMP_SYS(getrlimit),
    SCMP_SYS(prlimit64),    SCMP_SYS(set_tid_address),
    SCMP_SYS(sysinfo),      SCMP_SYS(getppid),
    SCMP_SYS(sendfile),
};

// Only before the process's threads take their own filters: what makes a ring (os/uring.h).
static const int early_calls[] = {SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_register)};

// wirt-net: libslirp's sockets, and resolv.conf for its name service. Internet sockets only, see allow_internet().
static const int network_calls[] = {
    SCMP_SYS(connect),     SCMP_SYS(bind),       SCMP_SYS(listen),     SCMP_SYS(accept),
    SCMP_SYS(accept4),     SCMP_SYS(sendto),     SCMP_SYS(sendmsg),    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),     SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname),
    SCMP_SYS(getpeername), SCMP_SYS(shutdown),   SCMP_SYS(ioctl),      SCMP_SYS(fcntl),
    SCMP_SYS(openat),      SCMP_SYS(fstat),      SCMP_SYS(newfstatat), SCMP_SYS(lseek),
};

#define PROGRAM_MAX 512 // instructions of a filter: some 100 today
// wirt-io besides: libiscsi and libnfs move with vectors, ask who they are for the storage's own checks, and put a new socket into the old one's place.
static const int storage_calls[] = {
    SCMP_SYS(readv),   SCMP_SYS(writev),  SCMP_SYS(getuid),  SCMP_SYS(getgid),
    SCMP_SYS(geteuid), SCMP_SYS(getegid), SCMP_SYS(dup2),    SCMP_SYS(dup3),
    SCMP_SYS(uname),   SCMP_SYS(ppoll),   SCMP_SYS(getppid), SCMP_SYS(sendmmsg),
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const struct {
    const int *calls;
    size_t count;
} lists[] = {
    [OS_SANDBOX_MAIN] = {main_calls, COUNT(main_calls)},
    [OS_SANDBOX_VCPU] = {vcpu_calls, COUNT(vcpu_calls)},
    [OS_SANDBOX_VCPU_KVM] = {vcpu_calls, COUNT(vcpu_calls)},
    [OS_SANDBOX_IO] = {io_calls, COUNT(io_calls)},
};
_Static_assert(COUNT(lists) == OS_SANDBOX_THREAD_COUNT, "a list for each kind");

static int allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
        if (result && result != -EEXIST)
            return result;
    }
    return 0;
}

// Memory may be mapped, but never writable and executable at once (the code cache is one memfd mapped twice).
static int allow_mappings(scmp_filter_ctx filter)
{
    static const int calls[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
    int result = 0;
    for (size_t i = 0; i < COUNT(calls) && !result; i++) {
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        if (!result)
            result =
                seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC));
    }
    return result;
}

// KVM's requests alone, on whatever descriptor (os/kvm.c): the type of a request stands in its second byte.
static int allow_kvm(scmp_filter_ctx filter)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                            SCMP_A1(SCMP_CMP_MASKED_EQ, 0xFF00, 0xAE00));
}

// A ring's table of files, which its restrictions permit, and nothing else about it.
static int allow_ring_files(scmp_filter_ctx filter)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(io_uring_register), 1,
                            SCMP_A1(SCMP_CMP_EQ, IORING_REGISTER_FILES_UPDATE, 0));
}

static int allow_internet(scmp_filter_ctx filter)
{
    static const int families[] = {AF_INET, AF_INET6};
    int result = allow(filter, network_calls, COUNT(network_calls));
    for (size_t i = 0; i < COUNT(families) && !result; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                  SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0));
    return result;
}

// Filters as the kernel takes them. Those of the machine are all made before the first is installed: every thread that starts needs one, and
// libseccomp takes half a millisecond for each.
struct program {
    struct sock_filter instructions[PROGRAM_MAX];
    struct sock_fprog fprog;
};
static struct program process_program, thread_programs[OS_SANDBOX_THREAD_COUNT];

static int export_filter(scmp_filter_ctx filter, struct program *program)
{
    int fd = memfd_create("wirt-filter", MFD_CLOEXEC);
    int result = fd < 0 ? -errno : seccomp_export_bpf(filter, fd);
    ssize_t length =
        result ? 0 : pread(fd, program->instructions, sizeof(program->instructions), 0);
    if (fd >= 0)
        close(fd);
    if (result)
        return result;
    if (length <= 0 || (size_t)length == sizeof(program->instructions))
        return -E2BIG;
    program->fprog = (struct sock_fprog){
        .len = (unsigned short)((size_t)length / sizeof(program->instructions[0])),
        .filter = program->instructions};
    return 0;
}

static int install(const struct program *program, struct err *err)
{
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program->fprog))
        return err_set_errno(err, errno, "cannot install the system call filter");
    return 0;
}

static int load_network_filter(bool storage, struct err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return err_set(err, ERR_LIMIT, "out of memory for the system call filter");
    int result = allow(filter, common_calls, COUNT(common_calls));
    if (!result)
        result = allow_internet(filter);
    if (!result && storage)
        result = allow(filter, storage_calls, COUNT(storage_calls));
    // The C library would ask for this machine's addresses and a name service's cache, and does without.
    static const int refused[] = {AF_NETLINK, AF_UNIX};
    for (size_t i = 0; i < COUNT(refused) && !result && storage; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                  SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)refused[i], 0));
    if (!result)
        result = allow_mappings(filter);
    if (!result)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return result ? err_set_errno(err, -result, "cannot install the system call filter") : 0;
}

static int make_filter(bool whole_process, enum os_sandbox_thread kind, struct program *program,
                       struct err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return err_set(err, ERR_LIMIT, "out of memory for the system call filter");
    int result = allow(filter, common_calls, COUNT(common_calls));
    for (unsigned i = 0; i < OS_SANDBOX_THREAD_COUNT && !result; i++)
        // The main thread does what an I/O thread does, and more.
        if (whole_process || i == (unsigned)kind || (kind == OS_SANDBOX_MAIN && i == OS_SANDBOX_IO))
            result = allow(filter, lists[i].calls, lists[i].count);
    if (!result && (whole_process || kind == OS_SANDBOX_VCPU_KVM))
        result = allow(filter, vcpu_kvm_calls, COUNT(vcpu_kvm_calls));
    if (!result && kind == OS_SANDBOX_VCPU_KVM)
        result = allow_kvm(filter);
    if (!result && whole_process)
        result = allow(filter, early_calls, COUNT(early_calls));
    else if (!result && (kind == OS_SANDBOX_MAIN || kind == OS_SANDBOX_IO))
        result = allow_ring_files(filter);
    if (!result)
        result = allow_mappings(filter);
    if (!result)
        result = export_filter(filter, program);
    seccomp_release(filter);
    return result ? err_set_errno(err, -result, "cannot make the system call filter") : 0;
}

static int make_filters(struct err *err)
{
    for (enum os_sandbox_thread kind = 0; kind < OS_SANDBOX_THREAD_COUNT; kind++)
        if (make_filter(false, kind, &thread_programs[kind], err))
            return -1;
    return make_filter(true, OS_SANDBOX_MAIN, &process_program, err);
}

// ---- Namespaces, users, Landlock: what the kernel permits.

static void enter_namespaces(void)
{
    static const int optional[] = {CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWNS};
    // As an ordinary user the others come with a user namespace only.
    if (geteuid() != 0 && unshare(CLONE_NEWUSER))
        return;
    for (size_t i = 0; i < COUNT(optional); i++)
        (void)!unshare(optional[i]);
}

// Changing users clears the wish to die with the parent; a machine that wirtd keeps has none.
static int drop_root(struct err *err)
{
    if (geteuid() != 0)
        return 0;
    pid_t parent = getppid();
    int wish = 0;
    (void)prctl(PR_GET_PDEATHSIG, &wish);
    bool kept = setgroups(0, NULL);
    if (setresuid(-1, NOBODY, -1) && errno == EINVAL)
        return 0; // root of a user namespace that has nobody else: its rights are capabilities, which go next
    if (setresuid(-1, 0, -1) || kept || setresgid(NOBODY, NOBODY, NOBODY) ||
        setresuid(NOBODY, NOBODY, NOBODY))
        return err_set_errno(err, errno, "cannot give up root's rights");
    if (wish && (prctl(PR_SET_PDEATHSIG, wish) || getppid() != parent))
        return err_set(err, ERR_HOST, "whoever started the machine has gone");
    return 0;
}

// A user namespace of our own comes with all capabilities inside it, which nothing here needs.
static int drop_capabilities(struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    return syscall(SYS_capset, &header, none) ? err_set_errno(err, errno, "cannot give up rights")
                                              : 0;
}

static void allow_reading(int ruleset, const char *folder)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE};
    rule.parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return;
    (void)!syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(rule.parent_fd);
}

// Landlock denies all that its rule set handles and no rule allows: there are none, or one for files in `readable`.
static void deny_paths(const char *readable)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs =
                                             (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (fd < 0)
        return;
    if (readable)
        allow_reading(fd, readable);
    (void)!syscall(SYS_landlock_restrict_self, fd, 0);
    close(fd);
}

static void limit_resources(void)
{
    const struct rlimit none = {0, 0};
    const struct rlimit files = {1024, 1024};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_NOFILE, &files);
}

int os_sandbox_enter(struct err *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_set_errno(err, errno, "cannot renounce new privileges");
    limit_resources();
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    enter_namespaces();
    if (drop_root(err) || drop_capabilities(err))
        return -1;
    deny_paths(NULL);
    entered = true;
    return make_filters(err) ? -1 : install(&process_program, err);
}

int os_sandbox_thread(enum os_sandbox_thread kind, struct err *err)
{
    return entered ? install(&thread_programs[kind], err) : 0;
}

static int renounce_rights(struct err *err)
{
    char path[PATH_MAX];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_set_errno(err, errno, "cannot renounce new privileges");
    limit_resources();
    bool names = realpath("/etc/resolv.conf", path);
    if (names)
        *strrchr(path, '/') = 0;
    if (drop_root(err) || drop_capabilities(err))
        return -1;
    deny_paths(names ? path : NULL);
    return 0;
}

int os_sandbox_enter_network(struct err *err)
{
    return renounce_rights(err) ? -1 : load_network_filter(false, err);
}

int os_sandbox_enter_storage(struct err *err)
{
    return renounce_rights(err);
}

int os_sandbox_filter_storage(struct err *err)
{
    return load_network_filter(true, err);
}
