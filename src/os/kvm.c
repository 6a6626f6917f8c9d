// SPDX-License-Identifier: Apache-2.0
#include "os/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KICK_SIGNAL SIGUSR1

int os_kvm_open(struct err *err)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT)
        return err_set(
            err, ERR_HOST,
            "this host has no /dev/kvm: the CPU has no virtualization, or it is switched "
            "off, or the module kvm_intel or kvm_amd is not loaded");
    if (errno == EACCES || errno == EPERM)
        return err_set(err, ERR_HOST,
                       "/dev/kvm may not be opened: be a member of the group kvm, or root");
    return err_set_errno(err, errno, "/dev/kvm");
}

int os_kvm(int fd, unsigned long request, void *argument)
{
    int result = ioctl(fd, request, argument);
    return result < 0 ? -errno : result;
}

int os_kvm_value(int fd, unsigned long request, unsigned long value)
{
    int result = ioctl(fd, request, value);
    return result < 0 ? -errno : result;
}

int os_kvm_create_vm(int kvm_fd)
{
    int fd;
    do
        fd = os_kvm_value(kvm_fd, KVM_CREATE_VM, 0);
    while (fd == -EINTR);
    return fd;
}

struct kvm_run *os_kvm_map_run(int vcpu_fd, size_t bytes)
{
    void *run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
    return run == MAP_FAILED ? NULL : run;
}

void os_kvm_unmap_run(struct kvm_run *run, size_t bytes)
{
    if (run)
        munmap(run, bytes);
}

static void on_kick(int number)
{
    (void)number;
}

void os_kvm_kick_prepare(void)
{
    struct sigaction action = {.sa_handler = on_kick};
    sigaction(KICK_SIGNAL, &action, NULL);
}

void os_kvm_kick_accept(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void os_kvm_kick(pthread_t thread)
{
    pthread_kill(thread, KICK_SIGNAL);
}

static int read_line(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, bytes - 1);
    close(fd);
    if (n <= 0)
        return -1;
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    return 0;
}

int os_kvm_host_identity(char *text, size_t bytes)
{
    char boot[64];
    struct utsname kernel;
    uint32_t signature[4] = {0}, vendor[4] = {0};
    if (read_line("/proc/sys/kernel/random/boot_id", boot, sizeof(boot)) || uname(&kernel))
        return -1;
    __get_cpuid(0, &vendor[0], &vendor[1], &vendor[2], &vendor[3]);
    __get_cpuid(1, &signature[0], &signature[1], &signature[2], &signature[3]);
    int n = snprintf(text, bytes, "%s %s %.4s%.4s%.4s %08x %08x %08x", boot, kernel.release,
                     (const char *)&vendor[1], (const char *)&vendor[3], (const char *)&vendor[2],
                     signature[0], signature[2], signature[3]);
    return n > 0 && (size_t)n < bytes ? 0 : -1;
}
