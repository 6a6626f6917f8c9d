// SPDX-License-Identifier: Apache-2.0
//
// ELF executables of both classes (System V ABI, chapter 4 and 5): checked program headers, and loading by physical address.
#ifndef WIRT_MACHINE_BOOT_ELF_IMAGE_H
#define WIRT_MACHINE_BOOT_ELF_IMAGE_H

#include "machine/boot/boot.h"

#define ELF_MAX_SEGMENTS 64

struct elf_segment {
    uint32_t type;
    uint64_t offset, file_bytes; // inside the file: checked
    uint64_t physical, memory_bytes;
    uint64_t virtual;
};

struct elf_image {
    const struct boot_file *file;
    uint64_t entry; // virtual
    struct elf_segment segments[ELF_MAX_SEGMENTS];
    unsigned segment_count;
    uint64_t low, high; // physical range of what is loaded
};

bool elf_image_matches(const struct boot_file *file);

// Every offset and length lies inside the file afterwards. -1 and *err for anything malformed.
int elf_image_parse(struct elf_image *image, const struct boot_file *file, struct err *err);

// Put every loadable segment at its physical address, zeros behind the bytes of the file.
int elf_image_load(const struct elf_image *image, struct guest_memory *memory, struct err *err);

// The physical address that a virtual one was loaded at, or the same where no segment holds it.
uint64_t elf_image_physical(const struct elf_image *image, uint64_t virtual);

// The first `length` bytes of the contents of the first note of that name and type which has so many. `name` has 15 letters at most.
bool elf_image_note(const struct elf_image *image, const char *name, uint32_t type, void *contents,
                    size_t length);

#endif
