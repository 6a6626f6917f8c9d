// SPDX-License-Identifier: Apache-2.0
//
// Walking the guest's page tables: one linear address, one kind of access, one answer. Private to the MMU.
#ifndef WIRT_MACHINE_ENGINE_MMU_WALK_H
#define WIRT_MACHINE_ENGINE_MMU_WALK_H

#include "machine/engine/mmu.h"

// Page fault error code (SDM vol. 3, 4.7).
enum {
    PF_PRESENT = 1 << 0,
    PF_WRITE = 1 << 1,
    PF_USER = 1 << 2,
    PF_RESERVED = 1 << 3,
    PF_FETCH = 1 << 4,
};

// Where the linear address's 4 KiB page lies and what else is known of it.
struct mmu_page {
    uint64_t physical; // of the 4 KiB page
    uint8_t shift;     // log2 of the guest's page size
    bool global;
    bool
        writable; // the accessor may write, and the dirty flag is set: a write needs no further walk
};

struct mmu_query {
    uint64_t linear;
    enum mmu_access access;
    enum tlb_mode mode; // who accesses; for fetches TLB_USER or TLB_SUPERVISOR
    bool user_cpl;      // the CPL is 3 and the access is not implicit: for the error code
    bool debug;         // change nothing, check nothing but presence
};

// 0, or -1 with the error code of the page fault. Sets accessed and dirty flags.
int mmu_walk(struct vcpu *vcpu, const struct mmu_query *query, struct mmu_page *page,
             uint32_t *error);

#endif
