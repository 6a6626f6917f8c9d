// SPDX-License-Identifier: Apache-2.0
//
// The local APIC of one vCPU (SDM vol. 3, chapter 11): xAPIC by MMIO, x2APIC by MSR, timer with one-shot, periodic and
// TSC-deadline, IPIs; and the "APIC bus" that carries interrupt messages from the I/O APIC, MSIs and other LAPICs.
//
// Threads: the register interface is for the vCPU's own thread; delivery (lapic_accept and apic_bus_*) is for any thread: IRR
// and TMR are atomic. Paravirtual EOI (KVM_FEATURE_PV_EOI) is handled here.
#ifndef WIRT_MACHINE_CPU_LAPIC_H
#define WIRT_MACHINE_CPU_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct vcpu;
struct cpu_system;
struct lapic;

#define APIC_DEFAULT_BASE 0xFEE00000ull

struct lapic *lapic_create(struct vcpu *vcpu);
void lapic_destroy(struct lapic *lapic);
void lapic_reset(struct lapic *lapic, bool init_only); // INIT keeps the APIC's id
struct device;
struct device *lapic_device(struct lapic *lapic);

// xAPIC page, offset 0 to 0xFFF; 32-bit registers at multiples of 16. Other accesses read 0 and are ignored.
uint32_t lapic_mmio_read(struct lapic *lapic, uint32_t offset);
void lapic_mmio_write(struct lapic *lapic, uint32_t offset, uint32_t value);
// x2APIC MSRs 0x800 to 0x8FF and IA32_APIC_BASE, IA32_TSC_DEADLINE. False: #GP.
bool lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value);
bool lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value);
uint64_t lapic_get_tpr(struct lapic *lapic); // CR8
void lapic_set_tpr(struct lapic *lapic, uint64_t cr8);

// A message has arrived at this LAPIC (any thread): fixed and lowest priority set IRR, NMI, INIT and SIPI become events.
struct apic_message;
void lapic_accept(struct lapic *lapic, const struct apic_message *message);
// The pins: LINT0 is the PIC's output (bootstrap CPU), LINT1 the NMI line. Any thread.
void lapic_set_lint0(struct lapic *lapic, bool level);
// Is this LAPIC's register page at `page` (xAPIC mode, enabled)?
bool lapic_answers_at(const struct lapic *lapic, uint64_t page);

// All registers as a page of the xAPIC (ICR's upper half at 0x310, also in x2APIC mode; the id in x2APIC mode is the whole word), and the TSC deadline: for
// backends that have an APIC of their own. While the vCPU stands still.
#define LAPIC_PAGE_BYTES 1024u
void lapic_get_page(struct lapic *lapic, uint8_t page[LAPIC_PAGE_BYTES], uint64_t *tsc_deadline);
void lapic_set_page(struct lapic *lapic, const uint8_t page[LAPIC_PAGE_BYTES],
                    uint64_t tsc_deadline);

// Highest vector that may be delivered, or -1; then moves it into service.
int lapic_pending_vector(struct lapic *lapic);
int lapic_acknowledge(struct lapic *lapic);
// The guest is about to change where its word of paravirtual EOI lies: what was offered in the old one is taken back.
void lapic_eoi_word_moves(struct lapic *lapic);
bool lapic_accepts_pic(struct lapic *lapic); // LINT0 is ExtINT and unmasked, or the APIC is off

// An interrupt message: fields as in the ICR / an MSI (SDM vol. 3, 11.6.1 and 11.11).
struct apic_message {
    uint32_t destination; // APIC id or logical destination
    bool logical;
    uint8_t mode; // 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT
    uint8_t vector;
    bool level_triggered, level_asserted;
    uint8_t shorthand; // 0 none, 1 self, 2 all, 3 all but self
};
void apic_bus_send(struct cpu_system *system, const struct vcpu *sender,
                   const struct apic_message *message);
void apic_bus_send_msi(struct cpu_system *system, uint64_t address, uint32_t data);

#endif
