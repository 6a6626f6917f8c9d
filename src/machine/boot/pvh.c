// SPDX-License-Identifier: Apache-2.0
//
// PVH: an ELF kernel with a note that names its 32-bit entry (Xen, docs/misc/pvh.pandoc; xen/include/public/arch-x86/hvm/start_info.h).
#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "machine/boot/elf_image.h"

#define NOTE_PHYS32_ENTRY 18u
#define START_MAGIC       0x336EC578u
#define MODULES_AT        (BOOT_INFO + 0x100u)
#define MEMORY_MAP_AT     (BOOT_INFO + 0x400u)
#define MAX_MODULES       16u

struct start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, command_line, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
};
static_assert(sizeof(struct start_info) == 56, "start_info.h, version 1");

struct module {
    uint64_t start, bytes, command_line, reserved;
};

struct map_entry {
    uint64_t start, bytes;
    uint32_t type, reserved;
};

static bool parse(const struct boot_file *file, struct elf_image *image, uint32_t *entry,
                  struct err *err)
{
    if (!elf_image_matches(file) || elf_image_parse(image, file, err))
        return false;
    uint8_t note[sizeof(*entry)];
    if (!elf_image_note(image, "Xen", NOTE_PHYS32_ENTRY, note, sizeof(note)))
        return false;
    *entry = load_le32(note);
    return true;
}

bool boot_pvh_matches(const struct boot_file *file)
{
    struct elf_image image;
    uint32_t entry;
    return parse(file, &image, &entry, NULL);
}

static int put_modules(struct guest_memory *memory, const struct boot_images *images,
                       uint64_t floor, struct err *err)
{
    struct module modules[MAX_MODULES] = {0};
    uint64_t limit = GUEST_LOW_RAM_LIMIT;
    if (images->initrd_count > MAX_MODULES)
        return err_set(err, ERR_USAGE, "%u initrds are given, %u at most", images->initrd_count,
                       MAX_MODULES);
    for (unsigned i = 0; i < images->initrd_count; i++) {
        const struct boot_file *initrd = &images->initrds[i];
        uint64_t at = boot_place_high(memory, floor, limit, initrd->length);
        if (!at)
            return err_set(err, ERR_USAGE,
                           "initrd \"%s\" does not fit; give the machine more with --memory",
                           initrd->name);
        if (boot_file_load(initrd, 0, initrd->length, memory, at, err))
            return -1;
        modules[i] = (struct module){.start = at, .bytes = initrd->length};
        limit = at;
    }
    return boot_put(memory, MODULES_AT, modules, sizeof(modules), err);
}

static int put_memory_map(struct guest_memory *memory, struct start_info *info, struct err *err)
{
    struct e820_entry from[E820_MAX];
    struct map_entry to[E820_MAX] = {0};
    info->memory_map = MEMORY_MAP_AT;
    info->memory_map_entries = boot_e820(memory, from);
    for (unsigned i = 0; i < info->memory_map_entries; i++)
        to[i] = (struct map_entry){from[i].start, from[i].length, from[i].type, 0};
    return boot_put(memory, MEMORY_MAP_AT, to, sizeof(to), err);
}

int boot_load_pvh(struct guest_memory *memory, const struct boot_images *images,
                  struct boot_entry *entry, struct err *err)
{
    struct elf_image image;
    uint32_t start;
    if (!parse(&images->kernel, &image, &start, err))
        return -1;
    if (elf_image_load(&image, memory, err) || put_modules(memory, images, image.high, err))
        return -1;
    size_t length = strlen(images->command_line);
    if (length >= BOOT_MODULES - BOOT_COMMAND_LINE)
        return err_set(err, ERR_USAGE, "--append is %zu bytes long, %u at most", length,
                       BOOT_MODULES - BOOT_COMMAND_LINE - 1);
    struct start_info info = {
        .magic = START_MAGIC,
        .version = 1,
        .module_count = images->initrd_count,
        .modules = images->initrd_count ? MODULES_AT : 0,
        .command_line = BOOT_COMMAND_LINE,
        .rsdp = images->rsdp,
    };
    if (boot_put(memory, BOOT_COMMAND_LINE, images->command_line, length + 1, err) ||
        put_memory_map(memory, &info, err) || boot_put(memory, BOOT_INFO, &info, sizeof(info), err))
        return -1;
    *entry = (struct boot_entry){.mode = BOOT_PROTECTED_32,
                                 .rip = start,
                                 .rbx = BOOT_INFO,
                                 .code_selector = 0x08,
                                 .data_selector = 0x10};
    return 0;
}
