// SPDX-License-Identifier: Apache-2.0
//
// Hardware virtualization through Linux's KVM, as a backend (cpu/vcpu.h).
//
//     kvm_machine.c  the VM: capabilities, memory slots and their dirty log, MSR filter, doorbells, the guest's clock
//     kvm_cpuid.c    the CPU model as KVM is told it, and what KVM supports of it
//     kvm_state.c    registers between struct cpu_state and KVM; kvm_msr.c the MSRs among them; kvm_apic.c the local APIC
//     kvm_chips.c    PIC and I/O APIC between the machine's own and KVM's; lines and messages
//     kvm_routes.c   the table of interrupt routes; event counters that send messages (irqfd)
//     kvm_run.c      the run loop and its exits; what KVM cannot emulate is finished by tier 0 of the engine
//     kvm_debug.c    breakpoints and single steps of --gdb
//     kvm_probe.c    is KVM here fit to run a kernel? A guest of a few instructions answers
//
// Interrupt controllers are the kernel's: local APICs, I/O APIC, PIC; the PIT and all other chips are the machine's. What is saved is the machine's
// form of everything: state is fetched from the kernel when a vCPU leaves its run loop (registers) and when the machine is saved (interrupt
// controllers), and put back before the vCPUs go on, if it was changed.
//
// Messages (MSI-X) go by irqfd, an event counter for each vector, and notifications by ioeventfd: every disk and network. Lines, which chips and devices
// without MSI-X have, go by KVM_IRQ_LINE. irqfd could only raise a level, by one system call as well; the kernel would lower it at the end of each interrupt
// and tell a resampling counter, upon which a thread here would have to wake and look whether the device still wants it: more work for each interrupt,
// on no path that needs to be fast, and a level that is wrong for a while, which is part of the saved state.
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
