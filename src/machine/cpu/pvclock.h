// SPDX-License-Identifier: Apache-2.0
//
// KVM's paravirtual MSRs, as stock kernels use them: kvmclock (system time and wall clock in guest memory), paravirtual EOI, steal time.
// The layouts are those of Linux's Documentation/virt/kvm/x86/{msr,cpuid}.rst.
//
// All functions run on the vCPU's thread. Addresses come from the guest and are checked by guest_memory at each use; a bad one costs
// the guest its clock, nothing else.
#ifndef WIRT_MACHINE_CPU_PVCLOCK_H
#define WIRT_MACHINE_CPU_PVCLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

// False: not one of ours, or a value that is not allowed: #GP.
bool pvclock_msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
bool pvclock_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value);

// Write the time record anew: after a pause, a load, or a change of the TSC offset.
void pvclock_update(struct vcpu *vcpu);

#endif
