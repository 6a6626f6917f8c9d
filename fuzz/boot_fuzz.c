// SPDX-License-Identifier: Apache-2.0
//
// Bytes as a kernel of any kind, beside an initrd: it is refused, or the machine can start from what was loaded.
#include <stdint.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/boot/boot.h"

#define MEMORY_BYTES (48 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const uint8_t initrd[5000];
    struct guest_memory *memory = guest_memory_create(MEMORY_BYTES, -1, NULL);
    if (!memory)
        abort();
    const struct boot_file initrds[2] = {{"one", initrd, sizeof(initrd), NULL, -1},
                                         {"two", initrd, 1, "some words", -1}};
    const struct boot_images images = {
        .kernel = {"kernel", bytes, length, NULL, -1},
        .initrds = initrds,
        .initrd_count = 2,
        .command_line = "console=ttyS0",
        .rsdp = BOOT_TABLES,
    };
    struct boot_entry entry;
    struct err err = {0};
    struct cpu_state cpu;
    if (boot_load_kernel(memory, &images, &entry, &err)) {
        if (!err.text[0])
            abort(); // refused without a reason
    } else {
        cpu_state_reset(&cpu, false, true);
        if (boot_entry_apply(&entry, memory, &cpu, &err))
            abort();
    }
    guest_memory_destroy(memory);
    return 0;
}
