// SPDX-License-Identifier: Apache-2.0
//
// Control groups, of version 1 or 2, whichever the host has: a group for each machine, below a slice of our own.
//
// Version 1 has a tree for each controller (cpu, cpuacct, memory), version 2 one for all. Groups are folders that stand at the top of each tree, outside the
// group that we run in, so that nobody who ends that one ends them. Where a controller is missing or may not be written, its limits
// are left out; where no tree may be written there are no groups at all. How much a process's group has used is told from its path, whoever made the group
// (systemd makes ours where it rules).
//
// Threads: any; a struct belongs to its owner.
#ifndef WIRT_OS_CGROUP_H
#define WIRT_OS_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define OS_CGROUP_PATH_BYTES 512
#define OS_CGROUP_NAME_BYTES 256
#define OS_CGROUP_TREES      3

struct os_cgroups {
    unsigned version; // 1 or 2; 0: none can be written
    size_t count;
    struct os_cgroup_tree {
        char folder[OS_CGROUP_PATH_BYTES]; // of our slice
        bool cpu, memory;                  // which limits it takes
    } trees[OS_CGROUP_TREES];
};

struct os_cgroup_limits {
    unsigned cpu_weight;   // 1 to 10000, 100 is usual; 0: as usual
    unsigned cpu_percent;  // of one CPU; 0: no limit
    uint64_t memory_bytes; // 0: no limit
};

// Finds the trees that may be written (by `mountinfo`, as /proc/self/mountinfo) and makes the slice in them. -1 and *err when there is none.
int os_cgroups_open(struct os_cgroups *groups, const char *mountinfo, const char *slice,
                    struct err *err);
// Removes the slice when it is empty.
void os_cgroups_remove(const struct os_cgroups *groups);
// Makes the group, or gives the one that is there these limits. A limit that the kernel refuses is *err and -1.
int os_cgroup_make(const struct os_cgroups *groups, const char *name,
                   const struct os_cgroup_limits *limits, struct err *err);
// The calling process goes into it. After fork(): nothing is allocated. 0 or -errno.
int os_cgroup_enter(const struct os_cgroups *groups, const char *name);
// Removes an empty group; those with processes and those that are missing stay so.
void os_cgroup_remove(const struct os_cgroups *groups, const char *name);
// All empty groups of the slice.
void os_cgroups_sweep(const struct os_cgroups *groups);

// ---- What a process's group uses.
struct os_cgroup_place {
    char cpu[OS_CGROUP_PATH_BYTES], memory[OS_CGROUP_PATH_BYTES]; // folders; "" where there is none
    bool unified;
};
// False when the process is in no group whose name begins with `prefix`.
bool os_cgroup_find(pid_t pid, const char *prefix, struct os_cgroup_place *place);
// The name of that group alone, systemd's unit.
bool os_cgroup_name(pid_t pid, const char *prefix, char name[OS_CGROUP_NAME_BYTES]);
// CPU time of all that were ever in it, and memory that is not just a cache. False when it cannot be read (any more).
bool os_cgroup_usage(const struct os_cgroup_place *place, uint64_t *cpu_ns, uint64_t *memory_bytes);

#endif
