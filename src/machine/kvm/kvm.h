// SPDX-License-Identifier: Apache-2.0
//
// Hardware virtualization through Linux's KVM, as a backend (cpu/vcpu.h).
//
//     kvm_machine.c  the VM: capabilities, memory slots, interrupt routes, MSR filter, the guest's clock
//     kvm_cpuid.c    the CPU model as KVM is told it, and what KVM supports of it
//     kvm_state.c    registers between struct cpu_state and KVM; kvm_msr.c the MSRs among them; kvm_apic.c the local APIC
//     kvm_chips.c    PIC and I/O APIC between the machine's own and KVM's; lines and messages
//     kvm_routes.c   the table of interrupt routes; event counters that send messages (irqfd)
//     kvm_run.c      the run loop and its exits; what KVM cannot emulate is finished by tier 0 of the engine
//     kvm_dirty.c    KVM's dirty log behind guest_memory's dirty tracking
//     kvm_probe.c    is KVM here fit to run a kernel? A guest of a few instructions answers
//
// Interrupt controllers are the kernel's: local APICs, I/O APIC, PIC; the PIT and all other chips are the machine's. What is saved is the machine's
// form of everything: state is fetched from the kernel when a vCPU leaves its run loop (registers) and when the machine is saved (interrupt
// controllers), and put back before the vCPUs go on, if it was changed.
//
// Threads: KVM_RUN and the registers belong to the vCPU's thread while it runs; everything else happens on the main thread while the
// vCPUs stand still. Lines and messages come from any thread.
#ifndef WIRT_MACHINE_KVM_KVM_H
#define WIRT_MACHINE_KVM_KVM_H

#include <stdbool.h>

#include "machine/cpu/cpu_model.h"
#include "machine/cpu/vcpu.h"

extern const struct vcpu_backend_ops kvm_backend;

// What KVM can offer a guest, for cpu_model_create(). `kvm_fd` is /dev/kvm, borrowed. NULL and *err; free with kvm_offer_destroy().
struct cpu_offer *kvm_offer_create(int kvm_fd, struct err *err);
void kvm_offer_destroy(struct cpu_offer *offer);

// Does /dev/kvm have all that the backend cannot do without? -1 and *err: the first thing that is missing.
int kvm_check_capabilities(int kvm_fd, struct err *err);

#endif
