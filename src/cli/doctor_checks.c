// SPDX-License-Identifier: Apache-2.0
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cli/doctor.h"
#include "machine/kvm/kvm_probe.h"
#include "os/host.h"
#include "os/process.h"

#define TEXT_BYTES 8192

#define FOUND(finding, ...) snprintf((finding)->found, sizeof((finding)->found), __VA_ARGS__)

static void check_kvm(struct doctor_finding *f)
{
    struct kvm_verdict verdict;
    kvm_probe(true, &verdict); // not what is remembered: things may have been changed just now
    f->name = "KVM";
    f->state = verdict.usable ? DOCTOR_GOOD : DOCTOR_MISSING;
    FOUND(f, "%s: %s", verdict.usable ? "usable" : "not usable", verdict.text);
    f->use = verdict.usable ? "KVM, unless --accel says otherwise" : "its own engine";
    if (verdict.usable)
        return;
    f->lost = "speed: programs in a guest take a few times longer than with KVM";
    f->change =
        "use a host whose CPU has its virtualization switched on (a cloud's metal or nested "
        "kind), with kvm_intel or kvm_amd loaded and this user in the group kvm";
}

// ---- CPU

static const struct {
    const char *name;
    uint32_t leaf;
    uint8_t reg, bit; // EAX to EDX
} cpu_features[] = {
    {"cx16", 1, 2, 13},      {"xsave", 1, 2, 26},       {"avx", 1, 2, 28},
    {"aes", 1, 2, 25},       {"fsgsbase", 7, 1, 0},     {"bmi2", 7, 1, 8},
    {"avx2", 7, 1, 5},       {"avx512f", 7, 1, 16},     {"pku", 7, 2, 3},
    {"vmx", 1, 2, 5},        {"svm", 0x80000001, 2, 2}, {"invariant-tsc", 0x80000007, 3, 8},
    {"hypervisor", 1, 2, 31}};

static bool cpu_has(unsigned feature)
{
    uint32_t regs[4] = {0};
    __get_cpuid_count(cpu_features[feature].leaf, 0, &regs[0], &regs[1], &regs[2], &regs[3]);
    return regs[cpu_features[feature].reg] >> cpu_features[feature].bit & 1;
}

static void check_cpu(struct doctor_finding *f)
{
    uint32_t brand[12] = {0};
    bool has[ARRAY_LENGTH(cpu_features)];
    for (uint32_t i = 0; i < 3; i++)
        __get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2],
                    &brand[4 * i + 3]);
    int used = FOUND(f, "%.48s:", (const char *)brand);
    for (unsigned i = 0; i < ARRAY_LENGTH(cpu_features); i++) {
        has[i] = cpu_has(i);
        if (has[i] && used > 0 && (size_t)used < sizeof(f->found))
            used += snprintf(f->found + used, sizeof(f->found) - (size_t)used, " %s",
                             cpu_features[i].name);
    }
    f->name = "CPU features";
    bool whole = has[0] && has[1] && has[2] && has[4] && has[5];
    f->state = whole ? DOCTOR_GOOD : DOCTOR_PARTLY;
    f->use = "guests get what is listed here and what the backend supports (--cpu host)";
    if (!whole) {
        f->lost = "cx16, xsave and avx are missing in guests that want them; without fsgsbase and "
                  "bmi2 the engine is slower";
        f->change = "use a newer CPU, or let the hypervisor around this host show its features";
    }
}

// ---- Memory

static uint64_t meminfo_mib(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) / 1024 : 0;
}

static void check_huge_pages(struct doctor_finding *f)
{
    char thp[128] = "absent", shmem[128] = "absent", meminfo[TEXT_BYTES] = "";
    os_host_read("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
    os_host_read("/sys/kernel/mm/transparent_hugepage/shmem_enabled", shmem, sizeof(shmem));
    os_host_read("/proc/meminfo", meminfo, sizeof(meminfo));
    const char *total = strstr(meminfo, "HugePages_Total:");
    bool shared =
        strstr(shmem, "[always]") || strstr(shmem, "[advise]") || strstr(shmem, "[within_size]");
    bool any = !strstr(thp, "[never]") && strcmp(thp, "absent");
    f->name = "huge pages";
    f->state = shared && any ? DOCTOR_GOOD : any ? DOCTOR_PARTLY : DOCTOR_MISSING;
    FOUND(f, "transparent: %s; for shared memory: %s; reserved: %llu", thp, shmem,
          total ? strtoull(total + strlen("HugePages_Total:"), NULL, 10) : 0);
    f->use = "pages of 4 KiB for guest RAM, and huge ones where the kernel makes them by itself";
    if (f->state != DOCTOR_GOOD) {
        f->lost = "guests that touch much memory run somewhat slower";
        f->change = "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled";
    }
}

static void check_memory(struct doctor_finding *f)
{
    char meminfo[TEXT_BYTES] = "", maps[32] = "?", overcommit[16] = "?";
    struct os_host_limits limits;
    os_host_limits(&limits);
    os_host_read("/proc/meminfo", meminfo, sizeof(meminfo));
    os_host_read("/proc/sys/vm/max_map_count", maps, sizeof(maps));
    os_host_read("/proc/sys/vm/overcommit_memory", overcommit, sizeof(overcommit));
    uint64_t available = meminfo_mib(meminfo, "MemAvailable:");
    f->name = "memory, limits";
    f->vital = true;
    f->state = available >= 512 && limits.files >= 256 ? DOCTOR_GOOD
               : available >= 64 && limits.files >= 64 ? DOCTOR_PARTLY
                                                       : DOCTOR_MISSING;
    FOUND(f,
          "%llu MiB, %llu available; %lld open files, %lld processes, %lld KiB locked; %s "
          "mappings; overcommit %s",
          (unsigned long long)meminfo_mib(meminfo, "MemTotal:"), (unsigned long long)available,
          limits.files == UINT64_MAX ? -1LL : (long long)limits.files,
          limits.processes == UINT64_MAX ? -1LL : (long long)limits.processes,
          limits.locked_bytes == UINT64_MAX ? -1LL : (long long)(limits.locked_bytes / 1024), maps,
          overcommit);
    f->use = "a guest's RAM as it touches it (512 MiB at most by default)";
    if (f->state != DOCTOR_GOOD) {
        f->lost = "the default machine may not fit, or not many disks and networks";
        f->change = "give machines less (--memory), or the host more; ulimit -n 1024";
    }
}

// ---- One system call each

static void by_result(struct doctor_finding *f, int result, const char *use, const char *lost,
                      const char *change)
{
    f->state = result < 0 ? DOCTOR_MISSING : DOCTOR_GOOD;
    FOUND(f, "%s", result < 0 ? strerror(-result) : "works");
    f->use = use;
    f->lost = result < 0 ? lost : NULL;
    f->change = result < 0 ? change : NULL;
}

static void check_userfaultfd(struct doctor_finding *f)
{
    f->name = "userfaultfd";
    by_result(f, os_host_userfaultfd(), "nothing of it yet",
              "a machine cannot be resumed before its memory has arrived",
              "sysctl vm.unprivileged_userfaultfd=1, or rights on /dev/userfaultfd");
}

static void check_io_uring(struct doctor_finding *f)
{
    f->name = "io_uring";
    by_result(f, os_host_io_uring(), "many requests of a disk at once",
              "disks are slower: a thread for each request",
              "sysctl kernel.io_uring_disabled=0; a kernel with CONFIG_IO_URING");
    if (f->lost)
        f->use = "threads for disks";
}

static void check_seccomp(struct doctor_finding *f)
{
    f->name = "seccomp";
    f->vital = true;
    by_result(f, os_host_seccomp(), "a filter of system calls for each kind of thread",
              "everything: wirt-vm does not run without its filter",
              "a kernel with CONFIG_SECCOMP_FILTER");
    if (f->lost)
        f->use = "nothing";
}

static void check_landlock(struct doctor_finding *f)
{
    int abi = os_host_landlock();
    f->name = "Landlock";
    by_result(f, abi, "no path can be opened by wirt-vm",
              "one of the walls around a guest; the filter stands",
              "lsm=landlock,... on the kernel command line, a kernel from 5.13");
    if (abi > 0)
        FOUND(f, "ABI %d", abi);
}

static void check_namespaces(struct doctor_finding *f)
{
    f->name = "namespaces";
    by_result(f, os_host_namespaces(), "wirt-vm has no network, mounts and IPC of the host",
              "one of the walls around a guest; the filter stands",
              "sysctl kernel.unprivileged_userns_clone=1 or user.max_user_namespaces=10000");
    if (f->lost)
        f->use = "the host's namespaces";
}

static void check_tun(struct doctor_finding *f)
{
    f->name = "TUN";
    by_result(f, os_host_tun(), "--net tap=NAME", "taps; --net user works without",
              "modprobe tun; rights on /dev/net/tun");
    if (f->lost)
        f->use = "user-mode networking";
}

static void check_bridge(struct doctor_finding *f)
{
    f->name = "bridge";
    by_result(f, os_host_bridge(),
              "a node's vmbr0, and taps in bridges that the administrator makes",
              "guests in the host's own network", "modprobe bridge");
    if (f->lost)
        f->use = "user-mode networking";
}

static void check_nftables(struct doctor_finding *f)
{
    int result = os_host_nftables();
    f->name = "nftables";
    by_result(f, result, "the way out of a node's vmbr0 (NAT)", "networks behind vmbr0",
              "modprobe nf_tables");
    if (result < 0)
        f->use = "user-mode networking";
    if (result == -EPERM) {
        f->state = DOCTOR_PARTLY;
        FOUND(f, "cannot be asked without a network namespace");
    }
}

// ---- cgroups

// Names of controllers: those of v2's root, or the mounts of v1.
static void list_v1(const char *mounts, char *names, size_t bytes)
{
    names[0] = 0;
    for (const char *at = mounts; (at = strstr(at, " cgroup ")); at++) {
        const char *options = at + strlen(" cgroup ");
        static const char *const wanted[] = {"cpu",   "cpuacct", "memory", "pids",
                                             "blkio", "freezer", "cpuset"};
        for (unsigned i = 0; i < ARRAY_LENGTH(wanted); i++) {
            char word[16];
            size_t length = (size_t)snprintf(word, sizeof(word), ",%s", wanted[i]);
            const char *end = strchr(options, '\n'), *found = strstr(options, word);
            size_t used = strlen(names);
            if (found && (!end || found < end) && (found[length] == ',' || found[length] == ' '))
                snprintf(names + used, bytes - used, "%s%s", used ? " " : "", wanted[i]);
        }
    }
}

// "cpuset" is none that gives time.
static bool has_controllers(const char *names)
{
    char padded[260];
    snprintf(padded, sizeof(padded), " %s ", names);
    return strstr(padded, " memory ") && strstr(padded, " cpu ");
}

static void check_cgroups(struct doctor_finding *f)
{
    char mounts[TEXT_BYTES] = "", v2[256] = "", v1[256];
    os_host_read("/proc/self/mounts", mounts, sizeof(mounts));
    bool has_v2 = os_host_read("/sys/fs/cgroup/cgroup.controllers", v2, sizeof(v2)) ||
                  os_host_read("/sys/fs/cgroup/unified/cgroup.controllers", v2, sizeof(v2));
    list_v1(mounts, v1, sizeof(v1));
    bool enough = has_controllers(v2) || has_controllers(v1);
    f->name = "cgroups";
    f->state = enough ? DOCTOR_GOOD : has_v2 || v1[0] ? DOCTOR_PARTLY : DOCTOR_MISSING;
    FOUND(f, "%s%s%s%s%s", has_v2 ? "version 2: " : "",
          has_v2 ? (v2[0] ? v2 : "no controllers") : "", has_v2 && v1[0] ? "; " : "",
          v1[0] ? "version 1: " : "", v1[0] ? v1 : "");
    if (!has_v2 && !v1[0])
        FOUND(f, "none is mounted");
    f->use = enough ? "a group with limits for each machine of a node" : "no groups";
    if (!enough) {
        f->lost = "limits of CPU and memory for each machine";
        f->change = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
    }
}

// ---- Reflink

static void check_reflink(struct doctor_finding *f)
{
    char mounts[TEXT_BYTES] = "";
    int used = 0;
    bool any = !os_host_reflink(".");
    f->found[0] = 0;
    if (any)
        used = FOUND(f, "this folder");
    os_host_read("/proc/self/mounts", mounts, sizeof(mounts));
    for (char *rest = mounts, *line; (line = strsep(&rest, "\n"));) {
        char path[256], type[32];
        if (sscanf(line, "%*s %255s %31s", path, type) != 2 ||
            (strcmp(type, "btrfs") && strcmp(type, "xfs")) || os_host_reflink(path))
            continue;
        any = true;
        if ((size_t)used < sizeof(f->found))
            used += snprintf(f->found + used, sizeof(f->found) - (size_t)used, "%s%.60s (%s)",
                             used ? ", " : "", path, type);
    }
    f->name = "reflink";
    f->state = any ? DOCTOR_GOOD : DOCTOR_MISSING;
    f->use = any ? "copies of images that share blocks, there" : "whole copies";
    if (any)
        return;
    FOUND(f, "neither this folder nor a mounted btrfs or XFS that may be written");
    f->lost = "instant copies of disk images; backing files do the same";
    f->change = "keep images on XFS or btrfs";
}

static void check_programs(struct doctor_finding *f)
{
    char path[256];
    struct err err;
    bool there = !os_process_find_program("wirt-vm", path, sizeof(path), &err);
    f->name = "programs";
    f->vital = true;
    f->state = there ? DOCTOR_GOOD : DOCTOR_MISSING;
    FOUND(f, "%.250s", there ? path : err.text);
    f->use = there ? "this program for each machine" : "nothing";
    if (!there) {
        f->lost = "everything";
        f->change = "install wirt whole: make install";
    }
}

doctor_check *const doctor_checks[] = {
    check_kvm,      check_cpu,     check_memory,   check_huge_pages, check_userfaultfd,
    check_io_uring, check_seccomp, check_landlock, check_namespaces, check_cgroups,
    check_tun,      check_bridge,  check_nftables, check_reflink,    check_programs,
};
const unsigned doctor_check_count = ARRAY_LENGTH(doctor_checks);
