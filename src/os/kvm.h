// SPDX-License-Identifier: Apache-2.0
//
// The system calls of KVM: ioctl(2) on its descriptors, the shared page of a vCPU, and the signal that takes a thread out of KVM_RUN. The structures
// are the kernel's own (linux/kvm.h), which this header includes for machine/kvm.
#ifndef WIRT_OS_KVM_H
#define WIRT_OS_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// /dev/kvm; -1 and *err in words.
int os_kvm_open(struct err *err);

// One request of KVM's (and of no other driver). What the call returned, or -errno.
int os_kvm(int fd, unsigned long request, void *argument);
int os_kvm_value(int fd, unsigned long request, unsigned long value);
// The descriptor of a new virtual machine, or -errno. The kernel gives up when a signal comes while it waits for other processors: asked again.
int os_kvm_create_vm(int kvm_fd);

// The page that a vCPU shares with the kernel; NULL on failure.
struct kvm_run *os_kvm_map_run(int vcpu_fd, size_t bytes);
void os_kvm_unmap_run(struct kvm_run *run, size_t bytes);

// A signal that does nothing but end a KVM_RUN: once for the process; once on each thread that runs a vCPU; to such a thread.
void os_kvm_kick_prepare(void);
void os_kvm_kick_accept(void);
void os_kvm_kick(pthread_t thread);

// What names this boot, kernel and CPU together, for a verdict that holds as long as they do: a line of text. 0, or -1 when the host does not tell.
int os_kvm_host_identity(char *text, size_t bytes);

#endif
