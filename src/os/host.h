// SPDX-License-Identifier: Apache-2.0
//
// What the host's kernel offers, found out by trying it in the smallest way: for `wirt doctor`. Nothing here leaves a trace. What needs a namespace of its
// own to be tried is tried in a child (os/child.h).
#ifndef WIRT_OS_HOST_H
#define WIRT_OS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A small file of /proc or /sys as a text, its last newline taken off. False: it cannot be read.
bool os_host_read(const char *path, char *text, size_t bytes);

// 0 when it works, else -errno.
int os_host_userfaultfd(void);
int os_host_io_uring(void);
int os_host_seccomp(void);  // system call filters
int os_host_landlock(void); // its ABI, from 1
int os_host_tun(void);      // /dev/net/tun can be opened
int os_host_bridge(void);
int os_host_nftables(void); // in a network namespace of its own; -EPERM where there can be none

// In a child: namespaces as the sandbox wants them. 0 or -errno.
int os_host_namespaces(void);

// Do copies of a file in this folder share blocks? 0 or -errno (-EOPNOTSUPP: the file system cannot).
int os_host_reflink(const char *folder);

struct os_host_limits {
    uint64_t files, processes, locked_bytes; // UINT64_MAX: none
};
void os_host_limits(struct os_host_limits *limits);

bool os_host_is_root(void);

#endif
