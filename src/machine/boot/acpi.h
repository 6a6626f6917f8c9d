// SPDX-License-Identifier: Apache-2.0
//
// The machine's ACPI tables (ACPI 6.4): RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG, HPET.
//
// They are built as one block with absolute addresses for a place in guest memory: BOOT_TABLES when a kernel is loaded
// directly, and where the firmware's allocator puts them otherwise (firmware.c splits the block for fw_cfg's table loader).
#ifndef WIRT_MACHINE_BOOT_ACPI_H
#define WIRT_MACHINE_BOOT_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define ACPI_S5_TYPE 5 // SLP_TYP value of soft off, as chip/acpi_pm.c expects it

struct acpi_machine {
    unsigned vcpus;
};

#define ACPI_MAX_TABLES   8
#define ACPI_HEADER_BYTES 36u

// Where the FADT holds addresses of other tables (ACPI 6.4, table 5-9).
#define ACPI_FADT_FACS   36u
#define ACPI_FADT_DSDT   40u
#define ACPI_FADT_X_FACS 132u
#define ACPI_FADT_X_DSDT 140u

struct acpi_block {
    uint8_t *bytes; // borrowed
    size_t capacity;
    size_t length;
    size_t table_offset[ACPI_MAX_TABLES]; // RSDP is at 0; then as in table_signature
    char table_signature[ACPI_MAX_TABLES][5];
    unsigned table_count;
};

// Build all tables into block->bytes for guest physical address `base`. The RSDP stands at the start.
int acpi_build(const struct acpi_machine *machine, uint64_t base, struct acpi_block *block,
               struct err *err);

// The DSDT's contents, behind its header (acpi_dsdt.c).
struct aml;
void acpi_build_dsdt(struct aml *aml);

#endif
