// SPDX-License-Identifier: Apache-2.0
#include <assert.h>

#include "base/bits.h"
#include "machine/boot/boot.h"
#include "machine/device/memory_map.h"

unsigned boot_e820(const struct guest_memory *memory, struct e820_entry entries[E820_MAX])
{
    uint64_t low = guest_memory_low_bytes(memory);
    uint64_t high = guest_memory_high_bytes(memory);
    unsigned n = 0;
    entries[n++] = (struct e820_entry){0, BOOT_EBDA, E820_RAM};
    entries[n++] = (struct e820_entry){BOOT_EBDA, 0xA0000 - BOOT_EBDA, E820_RESERVED};
    entries[n++] = (struct e820_entry){BOOT_TABLES, BOOT_TABLES_BYTES, E820_RESERVED};
    if (low > MIB)
        entries[n++] = (struct e820_entry){MIB, low - MIB, E820_RAM};
    // Linux uses ECAM only where the firmware reserved it (PCI Firmware Specification 3.2, 4.1.2).
    entries[n++] = (struct e820_entry){MAP_ECAM_START, MAP_ECAM_LENGTH, E820_RESERVED};
    if (high)
        entries[n++] = (struct e820_entry){GUEST_HIGH_RAM_START, high, E820_RAM};
    assert(n <= E820_MAX);
    return n;
}

uint64_t boot_place_high(const struct guest_memory *memory, uint64_t floor, uint64_t limit,
                         uint64_t length)
{
    uint64_t low = guest_memory_low_bytes(memory);
    uint64_t end = low < limit ? low : limit;
    if (length > end)
        return 0;
    uint64_t start = align_down(end - length, PAGE_BYTES);
    return start >= align_up(floor, PAGE_BYTES) ? start : 0;
}
