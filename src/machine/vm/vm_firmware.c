// SPDX-License-Identifier: Apache-2.0
//
// Starting through PC firmware (SeaBIOS): the image below 4 GiB and below 1 MiB, and what firmware asks fw_cfg for.
//
// The ACPI tables go through the table loader (QEMU, docs/specs and hw/acpi/bios-linker-loader.c name the format; SeaBIOS, src/fw/romfile_loader.h):
// a script of commands to allocate files, to add the address of one file to a pointer in another, and to mend checksums.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/boot/acpi.h"
#include "machine/boot/boot.h"
#include "machine/device/memory_map.h"
#include "machine/vm/vm_chips.h"
#include "machine/vm/vm_internal.h"
#include "os/file_load.h"

#define TABLES_FILE     "etc/acpi/tables"
#define RSDP_FILE       "etc/acpi/rsdp"
#define RSDP_BYTES      36u
#define RSDP_XSDT       24u
#define TABLES_CAPACITY 0x10000u
#define MIN_FIRMWARE    0x20000u
#define LOW_FIRMWARE    0x40000u // what of the image's end stands below 1 MiB, at the most
#define MAX_FIRMWARE    (8 * MIB)
#define MAX_COMMANDS    64u
#define FILE_NAME_BYTES 56u
#define CHECKSUM_AT     9u

enum loader_command_kind { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER = 2, LOADER_ADD_CHECKSUM = 3 };
enum loader_zone { ZONE_HIGH = 1, ZONE_FSEG = 2 };

struct loader_command {
    uint32_t kind;
    union {
        struct {
            char file[FILE_NAME_BYTES];
            uint32_t alignment;
            uint8_t zone;
        } __attribute__((packed)) allocate;
        struct {
            char pointer_file[FILE_NAME_BYTES], target_file[FILE_NAME_BYTES];
            uint32_t offset;
            uint8_t size;
        } __attribute__((packed)) pointer;
        struct {
            char file[FILE_NAME_BYTES];
            uint32_t result, start, length;
        } __attribute__((packed)) checksum;
        uint8_t room[124];
    };
} __attribute__((packed));
static_assert(sizeof(struct loader_command) == 128, "romfile_loader.h");

struct loader_script {
    struct loader_command commands[MAX_COMMANDS];
    unsigned count;
};

static struct loader_command *next_command(struct loader_script *script,
                                           enum loader_command_kind kind)
{
    assert(script->count < MAX_COMMANDS);
    struct loader_command *command = &script->commands[script->count++];
    command->kind = kind;
    return command;
}

static void set_name(char name[FILE_NAME_BYTES], const char *text)
{
    assert(strlen(text) < FILE_NAME_BYTES);
    memcpy(name, text, strlen(text) + 1);
}

static void allocate(struct loader_script *script, const char *file, uint32_t alignment,
                     enum loader_zone zone)
{
    struct loader_command *command = next_command(script, LOADER_ALLOCATE);
    set_name(command->allocate.file, file);
    command->allocate.alignment = alignment;
    command->allocate.zone = (uint8_t)zone;
}

// The pointer at `offset` holds an offset into the tables file so far.
static void relocate(struct loader_script *script, const char *file, size_t offset, unsigned size)
{
    struct loader_command *command = next_command(script, LOADER_ADD_POINTER);
    set_name(command->pointer.pointer_file, file);
    set_name(command->pointer.target_file, TABLES_FILE);
    command->pointer.offset = (uint32_t)offset;
    command->pointer.size = (uint8_t)size;
}

static void mend_checksum(struct loader_script *script, const char *file, size_t result,
                          size_t start, size_t length)
{
    struct loader_command *command = next_command(script, LOADER_ADD_CHECKSUM);
    set_name(command->checksum.file, file);
    command->checksum.result = (uint32_t)result;
    command->checksum.start = (uint32_t)start;
    command->checksum.length = (uint32_t)length;
}

static void relocate_table(struct loader_script *script, const struct acpi_block *block,
                           unsigned index)
{
    size_t at = block->table_offset[index];
    uint32_t length = load_le32(block->bytes + at + 4);
    const char *signature = block->table_signature[index];
    if (!strcmp(signature, "FACP")) {
        relocate(script, TABLES_FILE, at + ACPI_FADT_FACS, 4);
        relocate(script, TABLES_FILE, at + ACPI_FADT_DSDT, 4);
        relocate(script, TABLES_FILE, at + ACPI_FADT_X_FACS, 8);
        relocate(script, TABLES_FILE, at + ACPI_FADT_X_DSDT, 8);
    } else if (!strcmp(signature, "XSDT")) {
        for (uint32_t entry = ACPI_HEADER_BYTES; entry + 8 <= length; entry += 8)
            relocate(script, TABLES_FILE, at + entry, 8);
    } else {
        return;
    }
    mend_checksum(script, TABLES_FILE, at + CHECKSUM_AT, at, length);
}

static int offer_tables(struct vm *vm, struct err *err)
{
    uint8_t *bytes = calloc(1, TABLES_CAPACITY);
    struct loader_script *script = calloc(1, sizeof(*script));
    const struct acpi_machine machine = {.vcpus = vm->config->cpus};
    struct acpi_block block = {.bytes = bytes, .capacity = TABLES_CAPACITY};
    int result = -1;
    if (!bytes || !script) {
        err_set(err, ERR_LIMIT, "out of memory");
    } else if (!acpi_build(&machine, 0, &block, err)) {
        allocate(script, TABLES_FILE, 64, ZONE_HIGH);
        allocate(script, RSDP_FILE, 16, ZONE_FSEG);
        for (unsigned i = 0; i < block.table_count; i++)
            relocate_table(script, &block, i);
        relocate(script, RSDP_FILE, RSDP_XSDT, 8);
        mend_checksum(script, RSDP_FILE, 32, 0, RSDP_BYTES);
        struct fw_cfg *fw_cfg = vm->chips->fw_cfg;
        result = fw_cfg_add_file(fw_cfg, TABLES_FILE, bytes, block.length, err) ||
                 fw_cfg_add_file(fw_cfg, RSDP_FILE, bytes, RSDP_BYTES, err) ||
                 fw_cfg_add_file(fw_cfg, "etc/table-loader", script->commands,
                                 script->count * sizeof(script->commands[0]), err);
    }
    free(bytes);
    free(script);
    return result ? -1 : 0;
}

// Firmware divides the memory below 1 MiB itself.
static int offer_memory_map(struct vm *vm, struct err *err)
{
    struct e820_entry map[3] = {
        {0, guest_memory_low_bytes(vm->memory), E820_RAM},
        {MAP_ECAM_START, MAP_ECAM_LENGTH, E820_RESERVED},
        {GUEST_HIGH_RAM_START, guest_memory_high_bytes(vm->memory), E820_RAM},
    };
    unsigned count = map[2].length ? 3 : 2;
    return fw_cfg_add_file(vm->chips->fw_cfg, "etc/e820", map, count * sizeof(map[0]), err);
}

int vm_firmware_offer(struct vm *vm, struct err *err)
{
    struct fw_cfg *fw_cfg = vm->chips->fw_cfg;
    const uint16_t console =
        UART_COM1_PORT; // text output of guests goes to the serial port: there is no screen
    if (fw_cfg_add_u16(fw_cfg, FW_CFG_NB_CPUS, (uint16_t)vm->config->cpus, err) ||
        fw_cfg_add_u16(fw_cfg, FW_CFG_MAX_CPUS, (uint16_t)vm->config->cpus, err) ||
        fw_cfg_add_u64(fw_cfg, FW_CFG_RAM_SIZE, guest_memory_ram_bytes(vm->memory), err) ||
        fw_cfg_add_u16(fw_cfg, FW_CFG_NOGRAPHIC, 1, err) ||
        fw_cfg_add_file(fw_cfg, "etc/sercon-port", &console, sizeof(console), err) ||
        offer_memory_map(vm, err) || offer_tables(vm, err))
        return err_wrap(err, "firmware");
    return 0;
}

// The image ends at 4 GiB, where the reset vector is; its last part also at 1 MiB, in RAM, where it runs. (A PC's firmware copies it there
// itself, through the chip set's shadow registers, which this machine does not have.)
static int place(struct vm *vm, const uint8_t *bytes, size_t length, struct err *err)
{
    if (length < MIN_FIRMWARE || length % PAGE_BYTES)
        return err_set(err, ERR_INPUT,
                       "%zu bytes are no PC firmware: it has 128 KiB to 8 MiB in whole pages",
                       length);
    vm->firmware_low_bytes = length < LOW_FIRMWARE ? length : LOW_FIRMWARE;
    return guest_memory_add_rom(vm->memory, gpa(GUEST_HIGH_RAM_START - length), bytes, length, err);
}

static int add_rom(struct vm *vm, struct err *err)
{
    uint8_t *bytes;
    size_t length;
    if (os_file_load(vm->config->firmware.fd, MAX_FIRMWARE, &bytes, &length, err))
        return -1;
    int result = place(vm, bytes, length, err);
    free(bytes);
    return result;
}

int vm_firmware_load(struct vm *vm, struct err *err)
{
    if (!vm->firmware_low_bytes && add_rom(vm, err))
        return err_wrap(err, "firmware \"%s\"", vm->config->firmware.name);
    uint64_t low = vm->firmware_low_bytes;
    uint8_t bytes[LOW_FIRMWARE];
    if (guest_memory_read(vm->memory, gpa(GUEST_HIGH_RAM_START - low), bytes, low) ||
        guest_memory_write(vm->memory, gpa(MIB - low), bytes, low))
        return err_set(err, ERR_USAGE, "guest memory is too small for firmware");
    return 0;
}
