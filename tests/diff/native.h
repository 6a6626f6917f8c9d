// SPDX-License-Identifier: Apache-2.0
//
// Cases on the real processor.
//
// A child process is forked for a batch. For each case it executes INT3; the signal's frame is overwritten with the
// case's registers, flags and extended state, and returning from the handler starts the instruction. What follows it,
// INT3 or a fault, is a signal again: its frame is the result, and the frame of the first is put back. Registers
// thus need no code of their own, and RSP may point anywhere (handlers run on their own stack).
#ifndef WIRT_TESTS_DIFF_NATIVE_H
#define WIRT_TESTS_DIFF_NATIVE_H

#include "diff_case.h"

// Runs `count` cases and fills `results`, which must be shared memory (native_shared_alloc), as must `cases`.
// Returns how many were run: fewer than `count` when the child died in case number `return value`.
unsigned native_run(const struct diff_case *cases, struct diff_result *results, unsigned count);

// Can 16-bit code be run here? (The kernel may refuse an LDT.) To be asked before the first native_run().
bool native_offers_16_bit(void);

void *native_shared_alloc(size_t bytes);

// Bases of FS and GS that native code has; cases carry them.
uint64_t native_fs_base(void);
uint64_t native_gs_base(void);

#endif
