// SPDX-License-Identifier: Apache-2.0
//
// The engine's memory management unit: linear addresses to bytes.
//
// A look-up in the soft TLB first; on a miss a walk of the guest's page tables (none, 2-level, PAE, 4- and 5-level; SDM
// vol. 3, chapter 4) with every check in the manual's order (P, reserved bits, U/S, R/W with CR0.WP, NX, SMEP, SMAP), setting
// accessed and dirty bits by atomic compare-exchange in guest RAM, then a fill. What is not RAM goes to the MMIO bus, or to the
// vCPU's LAPIC page.
//
// All functions run on the vCPU's thread. Those that can fault return 0, or -1 with engine_cpu.exception filled (a page fault with CR2 and error
// code; #GP or #SS for a non-canonical address are the caller's segment check). An access that crosses a page checks both pages before it
// touches either.
#ifndef WIRT_MACHINE_ENGINE_MMU_H
#define WIRT_MACHINE_ENGINE_MMU_H

#include "machine/engine/engine.h"

enum mmu_access { MMU_READ = 0, MMU_WRITE = 1, MMU_EXECUTE = 2, MMU_READ_WRITE = 3 };

// Who asks. NORMAL: the current CPL (CPL 3 is user; SMAP is overridden by RFLAGS.AC). IMPLICIT: a supervisor access whatever the CPL
// (descriptor tables, TSS, interrupt stacks); SMAP then ignores AC.
enum mmu_privilege { MMU_NORMAL, MMU_IMPLICIT };

void mmu_init(struct vcpu *vcpu); // empty TLBs; engine_cpu_init() does it

// Data access of 1 to 64 bytes.
int mmu_read(struct vcpu *vcpu, struct gva address, void *buffer, unsigned size,
             enum mmu_privilege privilege);
int mmu_write(struct vcpu *vcpu, struct gva address, const void *buffer, unsigned size,
              enum mmu_privilege privilege);

// Check that `size` bytes can be accessed, with all effects of a successful walk, without touching them (PUSHA, ENTER, FXSAVE, far call).
int mmu_probe(struct vcpu *vcpu, struct gva address, unsigned size, enum mmu_access access,
              enum mmu_privilege privilege);

// A host pointer for `size` bytes that lie in one page of RAM, for locked and vector operations and string loops; NULL with no exception set when they
// are MMIO or cross a page (the caller goes through mmu_read/mmu_write), NULL with exception.vector set when they fault. Writable pointers: the
// page holds no translations (they were dropped) and its dirty bits are set.
void *mmu_pointer(struct vcpu *vcpu, struct gva address, unsigned size, enum mmu_access access);

// The same for reading and writing where the access crosses into another page of RAM: locked operations on both are then one to every vCPU. For whoever has
// locked globally (interp_access.h).
void *mmu_pointer_across(struct vcpu *vcpu, struct gva address, unsigned size);

// Instruction bytes: up to 15 from `address`, but never past the end of its page, so that the next page is not looked at unless the instruction
// needs it: then fetch again from there. Returns how many, or -1 (fault).
int mmu_fetch(struct vcpu *vcpu, struct gva address, uint8_t bytes[15]);

// Physical address of the page that `address` is executed from, and its host address: for the translator. -1: fault, or not RAM/ROM (*host NULL).
int mmu_fetch_page(struct vcpu *vcpu, struct gva address, uint64_t *physical_page,
                   const uint8_t **host);

// Translate for the debugger: no side effects, no exception. False: not mapped.
bool mmu_debug_translate(struct vcpu *vcpu, struct gva address, struct gpa *physical);

void mmu_flush_all(struct vcpu *vcpu);                      // everything, also global
void mmu_flush_non_global(struct vcpu *vcpu);               // MOV to CR3
void mmu_flush_page(struct vcpu *vcpu, struct gva address); // INVLPG
void mmu_flush_write(struct vcpu *vcpu); // only the write permissions (dirty tracking)
void mmu_flush_write_page(
    struct vcpu *vcpu, const void *host_page); // of one page of RAM (it got its first translation)

// 8, 16, 32, 64-bit conveniences (NORMAL privilege); defined in mmu_access.h inline with the TLB hit path.
#endif
