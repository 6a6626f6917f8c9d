// SPDX-License-Identifier: Apache-2.0
//
// Multiboot 1 (The Multiboot Specification, version 0.6.96): ELF kernels, modules, command line and memory map.
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "machine/boot/elf_image.h"

#define HEADER_MAGIC   0x1BADB002u
#define LOADER_MAGIC   0x2BADB002u
#define SEARCH_BYTES   8192u
#define FLAG_VIDEO     4u
#define FLAG_ADDRESSES 0x10000u
#define UNKNOWN_FLAGS  0xFFF8u // required features that no loader of this version has
#define MAP_AT         (BOOT_INFO + 0x200u)
#define NAME_AT        (BOOT_INFO + 0x180u)
#define MODULE_LIST_AT BOOT_MODULES
#define STRINGS_AT     (BOOT_MODULES + 0x1000u)
#define STRINGS_END    (BOOT_MODULES + 0x10000u)
#define MAX_MODULES    64u

enum {
    INFO_MEMORY = 1 << 0,
    INFO_COMMAND_LINE = 1 << 2,
    INFO_MODULES = 1 << 3,
    INFO_MAP = 1 << 6,
    INFO_LOADER_NAME = 1 << 9
};

// The information structure (section 3.3), as far as it is filled in.
struct info {
    uint32_t flags, memory_lower, memory_upper, boot_device, command_line, module_count, modules;
    uint32_t symbols[4];
    uint32_t map_bytes, map;
    uint32_t drives[2];
    uint32_t config_table, loader_name, apm_table;
};

struct module {
    uint32_t start, end, string, reserved;
};

struct map_entry {
    uint32_t size;
    uint64_t start, bytes;
    uint32_t type;
} __attribute__((packed));

static bool find_header(const struct boot_file *file, uint32_t *flags)
{
    uint8_t bytes[SEARCH_BYTES];
    size_t end = file->length < SEARCH_BYTES ? file->length : SEARCH_BYTES;
    if (boot_file_read(file, 0, bytes, end, NULL))
        return false;
    for (size_t at = 0; at + 12 <= end; at += 4) {
        const uint8_t *h = bytes + at;
        *flags = load_le32(h + 4);
        if (load_le32(h) == HEADER_MAGIC && load_le32(h) + *flags + load_le32(h + 8) == 0)
            return true;
    }
    return false;
}

bool boot_multiboot_matches(const struct boot_file *file)
{
    uint32_t flags;
    return find_header(file, &flags);
}

// A module's string is its file's name and the words behind it.
static int put_string(struct guest_memory *memory, const struct boot_file *file, uint32_t *at,
                      struct err *err)
{
    char text[4096 + 64];
    int n = snprintf(text, sizeof(text), "%s%s%s", file->name, file->arguments ? " " : "",
                     file->arguments ? file->arguments : "");
    if (n < 0 || (size_t)n >= sizeof(text) || *at + (uint32_t)n + 1 > STRINGS_END)
        return err_set(err, ERR_USAGE, "the modules' words are too long");
    if (boot_put(memory, *at, text, (size_t)n + 1, err))
        return -1;
    *at += (uint32_t)n + 1;
    return 0;
}

static int put_modules(struct guest_memory *memory, const struct boot_images *images,
                       uint64_t after, struct info *info, struct err *err)
{
    uint32_t string = STRINGS_AT;
    if (images->initrd_count > MAX_MODULES)
        return err_set(err, ERR_USAGE, "%u modules are given, %u at most", images->initrd_count,
                       MAX_MODULES);
    for (unsigned i = 0; i < images->initrd_count; i++) {
        const struct boot_file *file = &images->initrds[i];
        uint64_t at = align_up(after, PAGE_BYTES);
        if (!range_within(at, file->length, guest_memory_low_bytes(memory)))
            return err_set(err, ERR_USAGE,
                           "module \"%s\" does not fit; give the machine more with --memory",
                           file->name);
        const struct module module = {(uint32_t)at, (uint32_t)(at + file->length), string, 0};
        if (boot_file_load(file, 0, file->length, memory, at, err) ||
            boot_put(memory, MODULE_LIST_AT + i * sizeof(module), &module, sizeof(module), err) ||
            put_string(memory, file, &string, err))
            return -1;
        after = at + file->length;
    }
    info->flags |= INFO_MODULES;
    info->module_count = images->initrd_count;
    info->modules = MODULE_LIST_AT;
    return 0;
}

static int put_map(struct guest_memory *memory, struct info *info, struct err *err)
{
    struct e820_entry from[E820_MAX];
    struct map_entry to[E820_MAX];
    unsigned count = boot_e820(memory, from);
    for (unsigned i = 0; i < count; i++)
        to[i] = (struct map_entry){sizeof(to[i]) - sizeof(to[i].size), from[i].start,
                                   from[i].length, from[i].type};
    info->flags |= INFO_MEMORY | INFO_MAP;
    info->memory_lower = BOOT_EBDA / KIB;
    info->memory_upper = (uint32_t)((guest_memory_low_bytes(memory) - MIB) / KIB);
    info->map = MAP_AT;
    info->map_bytes = (uint32_t)(count * sizeof(to[0]));
    return boot_put(memory, MAP_AT, to, info->map_bytes, err);
}

// "FILE words" as GRUB passes it.
static int put_command_line(struct guest_memory *memory, const struct boot_images *images,
                            struct info *info, struct err *err)
{
    char text[BOOT_MODULES - BOOT_COMMAND_LINE];
    int n = snprintf(text, sizeof(text), "%s%s%s", images->kernel.name,
                     *images->command_line ? " " : "", images->command_line);
    if (n < 0 || (size_t)n >= sizeof(text))
        return err_set(err, ERR_USAGE, "--append is too long, %zu bytes at most", sizeof(text) - 1);
    info->flags |= INFO_COMMAND_LINE;
    info->command_line = BOOT_COMMAND_LINE;
    return boot_put(memory, BOOT_COMMAND_LINE, text, (size_t)n + 1, err);
}

int boot_load_multiboot(struct guest_memory *memory, const struct boot_images *images,
                        struct boot_entry *entry, struct err *err)
{
    static const char name[] = "wirt";
    struct elf_image image;
    struct info info = {.flags = INFO_LOADER_NAME, .loader_name = NAME_AT};
    uint32_t flags;
    if (!find_header(&images->kernel, &flags))
        return err_set(err, ERR_INPUT, "its multiboot header has gone");
    if (flags & UNKNOWN_FLAGS || flags & FLAG_VIDEO)
        return err_set(err, ERR_UNSUPPORTED,
                       "its multiboot header requires features (0x%x) that are not offered",
                       flags & 0xFFFC);
    if (!elf_image_matches(&images->kernel))
        return err_set(err, ERR_UNSUPPORTED, "it is a multiboot image, but not an ELF file%s",
                       flags & FLAG_ADDRESSES ? " (load addresses in the header are not followed)"
                                              : "");
    if (elf_image_parse(&image, &images->kernel, err) || elf_image_load(&image, memory, err) ||
        put_modules(memory, images, image.high, &info, err) || put_map(memory, &info, err) ||
        put_command_line(memory, images, &info, err) ||
        boot_put(memory, NAME_AT, name, sizeof(name), err) ||
        boot_put(memory, BOOT_INFO, &info, sizeof(info), err))
        return -1;
    *entry = (struct boot_entry){
        .mode = BOOT_PROTECTED_32,
        .rip = elf_image_physical(&image, image.entry),
        .rax = LOADER_MAGIC,
        .rbx = BOOT_INFO,
        .code_selector = 0x08,
        .data_selector = 0x10,
    };
    return 0;
}
