// SPDX-License-Identifier: Apache-2.0
//
// Where things stand in the memory of the guest that proves KVM, for it (probe_guest.S) and for who runs it (kvm_probe.c).
#ifndef WIRT_MACHINE_KVM_PROBE_GUEST_H
#define WIRT_MACHINE_KVM_PROBE_GUEST_H

#define PROBE_PML4       0x1000
#define PROBE_PDPT       0x2000
#define PROBE_PD_LOW     0x3000
#define PROBE_PD_APIC    0x4000
#define PROBE_DATA       0x5000
#define PROBE_XSAVE_AREA 0x5400
#define PROBE_IDT        0x6000
#define PROBE_GDT        0x7000
#define PROBE_STACK      0x9000
#define PROBE_CODE       0xA000
#define PROBE_BYTES      0x10000

#define PROBE_APIC         0xFEE00000
#define PROBE_ABSENT       0x40000000 // no page there
#define PROBE_TIMER_VECTOR 0x40
#define PROBE_PORT         0xE9
#define PROBE_XCR0         3 // x87 and SSE
#define PROBE_LOOPS                                                                                \
    50 // of each of these rounds, the fastest of which counts: a busy host interrupts some
#define PROBE_ROUNDS 8

// Steps, in their order.
#define PROBE_LONG_MODE  1
#define PROBE_PAGING     2
#define PROBE_CPUID      3
#define PROBE_CMPXCHG16B 4
#define PROBE_XSAVE      5
#define PROBE_TIMER      6
#define PROBE_PRIVILEGED 7
#define PROBE_STEPS      7

#endif
