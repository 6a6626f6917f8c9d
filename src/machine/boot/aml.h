// SPDX-License-Identifier: Apache-2.0
//
// A small assembler for ACPI machine language (ACPI 6.4, chapter 20): appends terms to a buffer. Terms with a
// length (scopes, devices, methods, packages) are opened and closed; the length is patched in at the close, always in
// its three-byte form. A full buffer sets `overflow`, and nothing more is written: the caller checks once at the end.
#ifndef WIRT_MACHINE_BOOT_AML_H
#define WIRT_MACHINE_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *bytes; // borrowed
    size_t length, capacity;
    bool overflow;
};

void aml_bytes(struct aml *aml, const void *bytes, size_t length);
void aml_u8(struct aml *aml, uint8_t value);

// "\\_SB.PCI0": segments are padded with '_' to four characters.
void aml_name_string(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, uint64_t value); // shortest form
void aml_string(struct aml *aml, const char *text);
void aml_eisa_id(struct aml *aml, const char id[7]); // "PNP0A08" as its 32-bit integer

// Name (name, value): write the value right after.
void aml_name(struct aml *aml, const char *name);
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);

// Each returns a mark for aml_close().
size_t aml_open_scope(struct aml *aml, const char *name);
size_t aml_open_device(struct aml *aml, const char *name);
size_t aml_open_method(struct aml *aml, const char *name, unsigned arguments, bool serialized);
size_t aml_open_package(struct aml *aml, unsigned elements);
size_t aml_open_if(struct aml *aml);
void aml_close(struct aml *aml, size_t mark);

void aml_return(struct aml *aml); // the value follows

// Expressions. Operands and targets are written in order behind the opcode.
void aml_store(struct aml *aml);  // source, then target
void aml_and(struct aml *aml);    // two operands; no target: the value is the expression's
void aml_notify(struct aml *aml); // object, then value
void aml_local(struct aml *aml, unsigned number);    // Local0 to Local7
void aml_argument(struct aml *aml, unsigned number); // Arg0 to Arg6
void aml_end_and(struct aml *aml); // the absent target of aml_and(), after its operands

// OperationRegion over I/O ports and a Field of equal-sized units in it.
void aml_io_region(struct aml *aml, const char *name, uint16_t port, uint8_t length);
size_t aml_open_field(struct aml *aml, const char *region, uint8_t access_bytes);
void aml_field_unit(struct aml *aml, const char *name, unsigned bits);

// Resource templates (ACPI 6.4, 6.4): Name (_CRS, ResourceTemplate () { … }).
size_t aml_open_resources(struct aml *aml, const char *name);
void aml_resource_io(struct aml *aml, uint16_t start, uint8_t length);
void aml_resource_irq(struct aml *aml, unsigned irq);
void aml_resource_fixed_memory(struct aml *aml, uint32_t start, uint32_t length);
enum aml_range { AML_RANGE_MEMORY = 0, AML_RANGE_IO = 1, AML_RANGE_BUS = 2 };
void aml_resource_word_range(struct aml *aml, enum aml_range kind, uint16_t first, uint16_t last);
void aml_resource_memory_range(struct aml *aml, uint64_t first,
                               uint64_t last); // a quad-word range, not prefetchable
void aml_close_resources(struct aml *aml, size_t mark);

#endif
