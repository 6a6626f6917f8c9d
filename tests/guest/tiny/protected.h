// SPDX-License-Identifier: Apache-2.0
//
// For guests that leave long mode (protected.S): the tables of the 32-bit half, and its log.
#ifndef WIRT_TESTS_TINY_PROTECTED_H
#define WIRT_TESTS_TINY_PROTECTED_H

#include "tiny.h"

extern uint64_t gdt32_free[]; // selector 58 and on
extern uint8_t main_tss[];    // what the guest is to put into the first of them
extern const uint8_t stubs32[];

// Calls the guest's protected_main() in 32-bit code without paging.
void run_protected(void);

// What is seen there is written down, and told at the end.
void tell_log(void);

// All gates lead to stubs that log the exception and go on where CATCH said.
void fill_gates(void);
void set_gate(unsigned vector, uint64_t offset, uint16_t selector, uint8_t type);
uint64_t segment_descriptor(uint32_t base, uint32_t limit, uint8_t access, uint8_t flags);
uint64_t tss_descriptor(const uint8_t *base, uint32_t limit, uint8_t access);
uint64_t call_gate(uint64_t offset, uint16_t selector, uint8_t access, unsigned parameters);

#endif
