// SPDX-License-Identifier: Apache-2.0
//
// The registers that a debugger sees: gdb's x86-64 set, segment bases, and the control registers. One file serves all modes:
// in 16- and 32-bit code the upper halves are there and mean nothing.
#ifndef WIRT_MACHINE_VM_GDB_REGISTERS_H
#define WIRT_MACHINE_VM_GDB_REGISTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/cpu/cpu_state.h"

#define GDB_REGISTER_BYTES_MAX 16

// Number of registers, and the width of one in bytes.
unsigned gdb_register_count(void);
unsigned gdb_register_bytes(unsigned number);

void gdb_register_read(const struct cpu_state *cpu, unsigned number, uint8_t *value);
// What only the CPU itself may change (segments, control registers) is left alone.
void gdb_register_write(struct cpu_state *cpu, unsigned number, const uint8_t *value);

// The target description as gdb reads it; static.
const char *gdb_target_xml(void);

#endif
