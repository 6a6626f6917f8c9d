// SPDX-License-Identifier: Apache-2.0
//
// Linux bzImage: the boot protocol of Documentation/arch/x86/boot.rst, versions 2.06 and later.
//
// The file is a setup part of (setup_sects + 1) sectors, whose header at 0x1F1 tells where the rest, the protected-mode kernel, wants to be
// and which entries it has. boot_params, the page that RSI points to, starts as a copy of that header.
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "machine/boot/boot.h"

// Offsets in the file and in boot_params alike (boot.rst, "Details of Header Fields").
enum {
    HDR_SETUP_SECTS = 0x1F1,
    HDR_BOOT_FLAG = 0x1FE,
    HDR_JUMP = 0x200,
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_TYPE_OF_LOADER = 0x210,
    HDR_LOADFLAGS = 0x211,
    HDR_RAMDISK_IMAGE = 0x218,
    HDR_RAMDISK_SIZE = 0x21C,
    HDR_HEAP_END = 0x224,
    HDR_CMD_LINE_PTR = 0x228,
    HDR_INITRD_ADDR_MAX = 0x22C,
    HDR_RELOCATABLE = 0x234,
    HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238,
    HDR_PREF_ADDRESS = 0x258,
    HDR_INIT_SIZE = 0x260,
    PARAM_ACPI_RSDP = 0x070,
    PARAM_E820_ENTRIES = 0x1E8,
    PARAM_E820_TABLE = 0x2D0,
};
#define HDR_MAGIC_VALUE     0x53726448u // "HdrS"
#define LOADED_HIGH         1u
#define CAN_USE_HEAP        0x80u
#define XLF_KERNEL_64       1u
#define ENTRY_64_OFFSET     0x200u
#define LOADER_UNDEFINED    0xFFu
#define SECTOR_BYTES        512u
#define MIN_HEADER_BYTES    0x264u
#define HEADER_BYTES        0x2D0u // as much as boot_params has room for
#define MIN_VERSION         0x0206u
#define VERSION_RELOCATABLE 0x020Au // pref_address and init_size
#define VERSION_XLOADFLAGS  0x020Cu

struct bzimage {
    const struct boot_file *file;
    uint8_t header[HEADER_BYTES]; // the file's first bytes
    unsigned version;
    uint64_t setup_bytes;
    uint64_t kernel_bytes;
    uint64_t load_at;
    uint64_t memory_bytes; // what the kernel needs from load_at on until it has its own memory map
    bool entry_64;
};

bool boot_bzimage_matches(const struct boot_file *file)
{
    uint8_t header[MIN_HEADER_BYTES];
    return file->length >= sizeof(header) &&
           !boot_file_read(file, 0, header, sizeof(header), NULL) &&
           load_le16(header + HDR_BOOT_FLAG) == 0xAA55 &&
           load_le32(header + HDR_MAGIC) == HDR_MAGIC_VALUE;
}

static int parse(const struct boot_file *file, struct bzimage *image, struct err *err)
{
    const uint8_t *h = image->header;
    *image = (struct bzimage){.file = file};
    if (boot_file_read(file, 0, image->header,
                       file->length < HEADER_BYTES ? file->length : HEADER_BYTES, err))
        return -1;
    image->version = load_le16(h + HDR_VERSION);
    if (image->version < MIN_VERSION || !(h[HDR_LOADFLAGS] & LOADED_HIGH))
        return err_set(err, ERR_INPUT,
                       "Linux boot protocol %u.%02u is too old, 2.06 or later is needed",
                       image->version >> 8, image->version & 0xFF);
    unsigned sectors = h[HDR_SETUP_SECTS] ? h[HDR_SETUP_SECTS] : 4;
    image->setup_bytes = (uint64_t)(sectors + 1) * SECTOR_BYTES;
    if (image->setup_bytes >= file->length)
        return err_set(err, ERR_INPUT,
                       "the file ends after %zu bytes, inside its setup part of %llu bytes",
                       file->length, (unsigned long long)image->setup_bytes);
    image->kernel_bytes = file->length - image->setup_bytes;
    // syssize counts 16-byte paragraphs of the protected-mode part: a shorter file was cut.
    uint64_t declared = (uint64_t)load_le32(h + 0x1F4) * 16;
    if (image->kernel_bytes + 15 < declared)
        return err_set(
            err, ERR_INPUT,
            "the file is truncated: its header announces %llu bytes of kernel, %llu are there",
            (unsigned long long)declared, (unsigned long long)image->kernel_bytes);
    image->entry_64 =
        image->version >= VERSION_XLOADFLAGS && (load_le16(h + HDR_XLOADFLAGS) & XLF_KERNEL_64);
    return 0;
}

static int place(struct guest_memory *memory, struct bzimage *image, struct err *err)
{
    const uint8_t *h = image->header;
    image->load_at = MIB;
    image->memory_bytes = image->kernel_bytes;
    if (image->version >= VERSION_RELOCATABLE) {
        image->load_at = load_le64(h + HDR_PREF_ADDRESS);
        uint64_t init_size = load_le32(h + HDR_INIT_SIZE);
        if (init_size > image->memory_bytes)
            image->memory_bytes = init_size;
    }
    uint64_t low = guest_memory_low_bytes(memory);
    if (h[HDR_RELOCATABLE] && !range_within(image->load_at, image->memory_bytes, low))
        image->load_at = MIB;
    if (image->load_at < MIB)
        return err_set(err, ERR_INPUT, "the kernel wants to be loaded at 0x%llx, below 1 MiB",
                       (unsigned long long)image->load_at);
    if (!range_within(image->load_at, image->memory_bytes, low))
        return err_set(
            err, ERR_USAGE,
            "the kernel needs %llu MiB of memory at 0x%llx; give the machine more with --memory",
            (unsigned long long)((image->memory_bytes + MIB - 1) / MIB),
            (unsigned long long)image->load_at);
    return boot_file_load(image->file, image->setup_bytes, image->kernel_bytes, memory,
                          image->load_at, err);
}

// All initrds, one after another, each on a 4-byte boundary (the format of initramfs buffers allows the zeros between).
static int place_initrds(struct guest_memory *memory, const struct bzimage *image,
                         const struct boot_images *images, uint8_t *params, struct err *err)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < images->initrd_count; i++)
        total += align_up(images->initrds[i].length, 4);
    if (!total)
        return 0;
    uint64_t limit = (uint64_t)load_le32(image->header + HDR_INITRD_ADDR_MAX) + 1;
    uint64_t at = boot_place_high(memory, image->load_at + image->memory_bytes, limit, total);
    if (!at || total > UINT32_MAX)
        return err_set(
            err, ERR_USAGE,
            "initrds of %llu MiB do not fit above the kernel; give the machine more with --memory",
            (unsigned long long)((total + MIB - 1) / MIB));
    uint64_t next = at;
    for (unsigned i = 0; i < images->initrd_count; i++) {
        if (boot_file_load(&images->initrds[i], 0, images->initrds[i].length, memory, next, err))
            return -1;
        next += align_up(images->initrds[i].length, 4);
    }
    store_le32(params + HDR_RAMDISK_IMAGE, (uint32_t)at);
    store_le32(params + HDR_RAMDISK_SIZE, (uint32_t)total);
    return 0;
}

static int place_command_line(struct guest_memory *memory, const struct bzimage *image,
                              const char *text, uint8_t *params, struct err *err)
{
    size_t length = strlen(text);
    uint32_t limit = load_le32(image->header + HDR_CMDLINE_SIZE);
    if (limit > BOOT_MODULES - BOOT_COMMAND_LINE - 1)
        limit = BOOT_MODULES - BOOT_COMMAND_LINE - 1;
    if (length > limit)
        return err_set(err, ERR_USAGE, "--append is %zu bytes long; this kernel takes %u at most",
                       length, limit);
    if (guest_memory_write(memory, gpa(BOOT_COMMAND_LINE), text, length + 1))
        return err_set(err, ERR_LIMIT, "guest memory refused the command line");
    store_le32(params + HDR_CMD_LINE_PTR, BOOT_COMMAND_LINE);
    return 0;
}

static void fill_params(const struct guest_memory *memory, const struct bzimage *image,
                        uint64_t rsdp, uint8_t *params)
{
    // The header ends where its jump instruction's displacement says (boot.rst, "The Real-Mode Kernel Header").
    size_t header_end = HDR_MAGIC + image->header[HDR_JUMP + 1];
    if (header_end > image->setup_bytes)
        header_end = image->setup_bytes;
    if (header_end > PARAM_E820_TABLE)
        header_end = PARAM_E820_TABLE;
    memcpy(params + HDR_SETUP_SECTS, image->header + HDR_SETUP_SECTS, header_end - HDR_SETUP_SECTS);
    params[HDR_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    params[HDR_LOADFLAGS] = (uint8_t)(params[HDR_LOADFLAGS] & ~CAN_USE_HEAP);
    store_le64(params + PARAM_ACPI_RSDP, rsdp);
    struct e820_entry map[E820_MAX];
    unsigned count = boot_e820(memory, map);
    params[PARAM_E820_ENTRIES] = (uint8_t)count;
    memcpy(params + PARAM_E820_TABLE, map, count * sizeof(map[0]));
}

int boot_load_bzimage(struct guest_memory *memory, const struct boot_images *images,
                      struct boot_entry *entry, struct err *err)
{
    struct bzimage image;
    uint8_t params[PAGE_BYTES] = {0};
    if (parse(&images->kernel, &image, err) || place(memory, &image, err))
        return -1;
    fill_params(memory, &image, images->rsdp, params);
    if (place_initrds(memory, &image, images, params, err) ||
        place_command_line(memory, &image, images->command_line, params, err))
        return -1;
    if (guest_memory_write(memory, gpa(BOOT_INFO), params, sizeof(params)))
        return err_set(err, ERR_LIMIT, "guest memory refused boot_params");
    *entry = (struct boot_entry){
        .mode = image.entry_64 ? BOOT_LONG_64 : BOOT_PROTECTED_32,
        .rip = image.load_at + (image.entry_64 ? ENTRY_64_OFFSET : 0),
        .rsi = BOOT_INFO,
        .code_selector = 0x10,
        .data_selector = 0x18,
    };
    return 0;
}
