// SPDX-License-Identifier: Apache-2.0
//
// Boot: puts a kernel, its helpers and the machine's tables into guest memory, and says in which state the
// bootstrap CPU starts.
//
// Loaders take open files, never paths: the launcher opened them. They check every offset and length of a file before use,
// write only guest RAM, and refuse what is wrong with a sentence that names the reason. They run once, before any vCPU, on
// the thread that builds the machine.
//
// Guest memory below 1 MiB, for a kernel that is started without firmware (nothing of it is needed once the kernel runs,
// except the ACPI tables, which the E820 map reserves):
//     0x500    global descriptor table          0x7000   boot_params or hvm_start_info, multiboot information
//     0x9000   page tables (64-bit entry)       0x20000  command line     0xE0000  ACPI and SMBIOS tables
#ifndef WIRT_MACHINE_BOOT_BOOT_H
#define WIRT_MACHINE_BOOT_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/cpu/cpu_state.h"
#include "machine/memory/guest_memory.h"

#define BOOT_GDT          0x500u
#define BOOT_INFO         0x7000u
#define BOOT_PAGE_TABLES  0x9000u
#define BOOT_COMMAND_LINE 0x20000u
#define BOOT_MODULES      0x30000u
#define BOOT_TABLES       0xE0000u
#define BOOT_TABLES_BYTES 0x20000u
#define BOOT_EBDA         0x9FC00u

// One file, borrowed. `name` is what the user called it, for messages. The file may change while it is read: what is checked is a copy.
struct boot_file {
    const char *name;
    const uint8_t *bytes; // NULL: read from `fd`
    size_t length;
    const char *arguments; // multiboot modules: the words after the file's name; else NULL
    int fd;
};

// A part of the file, which lies inside it: into our memory, or into the guest's. -1 and *err.
int boot_file_read(const struct boot_file *file, uint64_t offset, void *buffer, size_t length,
                   struct err *err);
int boot_file_load(const struct boot_file *file, uint64_t offset, uint64_t length,
                   struct guest_memory *memory, uint64_t at, struct err *err);

struct boot_images {
    struct boot_file kernel;
    const struct boot_file *initrds;
    unsigned initrd_count;
    const char *command_line; // never NULL
    uint64_t rsdp;            // guest physical address of the ACPI root pointer
};

enum boot_mode {
    BOOT_RESET,        // at the reset vector, in real mode: firmware
    BOOT_PROTECTED_32, // flat 32-bit segments, paging off
    BOOT_LONG_64,      // flat 64-bit code, the first 4 GiB mapped one to one
};

struct boot_entry {
    enum boot_mode mode;
    uint64_t rip;
    uint64_t rax, rbx, rsi;
    uint16_t code_selector, data_selector;
};

// Recognizes bzImage, ELF with a PVH note, and multiboot 1, and loads it with its initrds or modules.
int boot_load_kernel(struct guest_memory *memory, const struct boot_images *images,
                     struct boot_entry *entry, struct err *err);

// The kinds, for boot_load_kernel() and its tests. `_matches` looks at the magic numbers only.
bool boot_bzimage_matches(const struct boot_file *file);
int boot_load_bzimage(struct guest_memory *memory, const struct boot_images *images,
                      struct boot_entry *entry, struct err *err);
bool boot_pvh_matches(const struct boot_file *file);
int boot_load_pvh(struct guest_memory *memory, const struct boot_images *images,
                  struct boot_entry *entry, struct err *err);
bool boot_multiboot_matches(const struct boot_file *file);
int boot_load_multiboot(struct guest_memory *memory, const struct boot_images *images,
                        struct boot_entry *entry, struct err *err);

// Bring a reset bootstrap CPU into the entry's state; puts the descriptor table and page tables it needs into guest memory.
int boot_entry_apply(const struct boot_entry *entry, struct guest_memory *memory,
                     struct cpu_state *cpu, struct err *err);

// The memory map that kernels and firmware are told. Types as in ACPI 6.4, table 15-374.
enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3 };
struct e820_entry {
    uint64_t start, length;
    uint32_t type;
} __attribute__((packed));
#define E820_MAX 16
unsigned boot_e820(const struct guest_memory *memory, struct e820_entry entries[E820_MAX]);

// For loaders: a copy of bytes that must fit into low memory. -1 and *err when the machine has too little.
int boot_put(struct guest_memory *memory, uint64_t at, const void *bytes, size_t length,
             struct err *err);

// Space for initrds or modules: below `limit`, above `floor`, in low RAM, page aligned, as high as possible. 0 if there is none.
uint64_t boot_place_high(const struct guest_memory *memory, uint64_t floor, uint64_t limit,
                         uint64_t length);

#endif
