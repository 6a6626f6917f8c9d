// SPDX-License-Identifier: Apache-2.0
//
// Giving up rights, in numbered stages, by a process that was handed everything it needs.
//
//   1. os_sandbox_enter(), while the process has one thread: no new privileges, resource limits, and where the kernel permits it namespaces of its own
//      (user, network, IPC, mounts) and Landlock without a single path. Started as root it becomes nobody. A system call filter for the whole
//      process: nothing that opens a file by name, makes a socket, runs a program or traces another, ever.
//   2. os_sandbox_thread(), first thing on each thread: the calls that this kind of thread needs and no others.
//
// A forbidden call kills the process (SIGSYS). What the kernel does not offer (namespaces, Landlock) is left out; seccomp is required.
// os/ is the only folder that makes system calls, so a new call belongs into the lists of sandbox.c beside its wrapper.
#ifndef WIRT_OS_SANDBOX_H
#define WIRT_OS_SANDBOX_H

#include "base/err.h"

enum os_sandbox_thread {
    OS_SANDBOX_MAIN,     // event loop, terminal, control connections
    OS_SANDBOX_VCPU,     // executes guest code
    OS_SANDBOX_VCPU_KVM, // lets KVM execute guest code
    OS_SANDBOX_IO,       // virtio queues, disk and network I/O
    OS_SANDBOX_THREAD_COUNT
};

// A process that never entered (tests) goes without the second stage too.
int os_sandbox_enter(struct err *err);
int os_sandbox_thread(enum os_sandbox_thread kind, struct err *err);

// For a process of one thread that speaks to the host's network on somebody else's behalf (wirt-net): it keeps the network, may make Internet
// sockets, and reads nothing but the folder of resolv.conf.
int os_sandbox_enter_network(struct err *err);
// The same for one that speaks to a storage (wirt-io), in two steps: all but system calls first, then, in the process that it forks, these.
int os_sandbox_enter_storage(struct err *err);
int os_sandbox_filter_storage(struct err *err);

#endif
