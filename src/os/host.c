// SPDX-License-Identifier: Apache-2.0
#include "os/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_bridge.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/child.h"

#define CHILD_LIMIT_MS 1000
#define COPIED_BYTES   4096

bool os_host_read(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    ssize_t n = 0;
    if (fd < 0)
        return false;
    while (used < bytes - 1 && (n = read(fd, text + used, bytes - 1 - used)) > 0)
        used += (size_t)n;
    close(fd);
    if (n < 0)
        return false;
    if (used && text[used - 1] == '\n')
        used--;
    text[used] = 0;
    return true;
}

// Closes what a call opened: 0 or -errno of it.
static int opened(int fd)
{
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

int os_host_userfaultfd(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return opened(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
    return opened(fd);
}

int os_host_io_uring(void)
{
    struct io_uring_params params = {0};
    return opened((int)syscall(SYS_io_uring_setup, 4, &params));
}

int os_host_seccomp(void)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) ? -errno : 0;
}

int os_host_landlock(void)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi < 0 ? -errno : (int)abi;
}

int os_host_tun(void)
{
    return opened(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
}

int os_host_bridge(void)
{
    unsigned long arguments[3] = {BRCTL_GET_VERSION};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int result = ioctl(fd, SIOCGIFBR, arguments) < 0 ? -errno : 0;
    close(fd);
    return result;
}

// ---- In namespaces of a child's own

static int enter_namespaces(int which)
{
    return (geteuid() != 0 && unshare(CLONE_NEWUSER)) || unshare(which) ? -errno : 0;
}

// "0" or the errno, as a text.
static void answer(char *text, size_t bytes, int result)
{
    snprintf(text, bytes, "%d", -result);
}

static int ask_child(os_child_work *work)
{
    char text[16];
    if (os_child_answer(work, NULL, CHILD_LIMIT_MS, text, sizeof(text)))
        return -EIO;
    return -(int)strtol(text, NULL, 10);
}

static void try_namespaces(void *context, char *text, size_t bytes)
{
    (void)context;
    answer(text, bytes, enter_namespaces(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS));
}

int os_host_namespaces(void)
{
    return ask_child(try_namespaces);
}

// Ask nftables for its generation: 0, or what it refused with.
static int ask_nftables(void)
{
    struct {
        struct nlmsghdr head;
        struct nfgenmsg body;
    } request = {
        .head = {.nlmsg_len = sizeof(request),
                 .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN,
                 .nlmsg_flags = NLM_F_REQUEST},
        .body = {.version = NFNETLINK_V0},
    };
    union {
        struct nlmsghdr head;
        char bytes[1024];
    } reply;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0)
        return -errno;
    ssize_t n = send(fd, &request, sizeof(request), 0) < 0
                    ? -1
                    : recv(fd, &reply, sizeof(reply), MSG_DONTWAIT);
    int result = n < (ssize_t)sizeof(reply.head)        ? -EIO
                 : reply.head.nlmsg_type == NLMSG_ERROR ? -EOPNOTSUPP
                                                        : 0;
    close(fd);
    return result;
}

static void try_nftables(void *context, char *text, size_t bytes)
{
    (void)context;
    int result = enter_namespaces(CLONE_NEWNET);
    answer(text, bytes, result ? -EPERM : ask_nftables());
}

int os_host_nftables(void)
{
    return ask_child(try_nftables);
}

// ---- Files and limits

int os_host_reflink(const char *folder)
{
    static const char block[COPIED_BYTES];
    int from = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int to = from < 0 ? -1 : open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int result = to < 0 ? -errno : 0;
    if (!result && (write(from, block, sizeof(block)) != sizeof(block) || ioctl(to, FICLONE, from)))
        result = -errno;
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return result;
}

static uint64_t limit_of(__rlimit_resource_t what)
{
    struct rlimit limit;
    return getrlimit(what, &limit) || limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

void os_host_limits(struct os_host_limits *limits)
{
    limits->files = limit_of(RLIMIT_NOFILE);
    limits->processes = limit_of(RLIMIT_NPROC);
    limits->locked_bytes = limit_of(RLIMIT_MEMLOCK);
}

bool os_host_is_root(void)
{
    return geteuid() == 0;
}
