// SPDX-License-Identifier: Apache-2.0
//
// The firmware configuration device (QEMU's specification, docs/specs/fw_cfg): a selector at port
// 0x510, a data port at 0x511, DMA at 0x514, a directory of named files. It is the interface by
// which SeaBIOS and OVMF get tables, kernels and settings.
//
// Items are added while the machine is built, copied, and never change while it runs; the guest
// only reads.
#ifndef WIRT_MACHINE_CHIP_FW_CFG_H
#define WIRT_MACHINE_CHIP_FW_CFG_H

#include <stddef.h>

#include "machine/chip/chip.h"

struct guest_memory;
struct fw_cfg;

enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00, // these three are there from the start
    FW_CFG_ID = 0x01,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03, // 64 bits
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05, // 16 bits
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_KERNEL_CMDLINE = 0x09,
    FW_CFG_INITRD_ADDR = 0x0A,
    FW_CFG_INITRD_SIZE = 0x0B,
    FW_CFG_BOOT_DEVICE = 0x0C,
    FW_CFG_BOOT_MENU = 0x0E,
    FW_CFG_MAX_CPUS = 0x0F,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_ACPI_TABLES = 0x8000,
    FW_CFG_SMBIOS_ENTRIES = 0x8001,
    FW_CFG_E820_TABLE = 0x8003,
};
#define FW_CFG_FILES      64u
#define FW_CFG_NAME_BYTES 56u

struct fw_cfg *fw_cfg_create(struct bus *ports, struct guest_memory *memory, struct err *err);
void fw_cfg_destroy(struct fw_cfg *fw_cfg);
struct device *fw_cfg_device(struct fw_cfg *fw_cfg);

// Copies the bytes. -1 and *err: no memory, the key or name is taken or not possible, too many
// files.
int fw_cfg_add(struct fw_cfg *fw_cfg, uint16_t key, const void *bytes, size_t length,
               struct err *err);
int fw_cfg_add_u16(struct fw_cfg *fw_cfg, uint16_t key, uint16_t value, struct err *err);
int fw_cfg_add_u32(struct fw_cfg *fw_cfg, uint16_t key, uint32_t value, struct err *err);
int fw_cfg_add_u64(struct fw_cfg *fw_cfg, uint16_t key, uint64_t value, struct err *err);
int fw_cfg_add_file(struct fw_cfg *fw_cfg, const char *name, const void *bytes, size_t length,
                    struct err *err);

#endif
