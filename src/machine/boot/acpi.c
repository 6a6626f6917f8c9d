// SPDX-License-Identifier: Apache-2.0
#include "machine/boot/acpi.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "machine/boot/aml.h"
#include "machine/device/memory_map.h"

#define RSDP_BYTES   36u
#define HEADER_BYTES ACPI_HEADER_BYTES
#define TABLE_ALIGN  64u

// Common header (ACPI 6.4, 5.2.6).
struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} __attribute__((packed));
static_assert(sizeof(struct acpi_header) == HEADER_BYTES, "ACPI 6.4, table 5-4");

// Generic address structure (5.2.3.2): space 1 is system I/O.
struct acpi_address {
    uint8_t space, bits, offset, access;
    uint64_t address;
} __attribute__((packed));

// Fixed description table, revision 4 (5.2.9).
struct acpi_fadt {
    struct acpi_header header;
    uint32_t facs, dsdt;
    uint8_t reserved1, profile;
    uint16_t sci;
    uint32_t smi_command;
    uint8_t acpi_enable, acpi_disable, s4bios, pstate;
    uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
    uint8_t pm1_event_bytes, pm1_control_bytes, pm2_control_bytes, pm_timer_bytes, gpe0_bytes,
        gpe1_bytes, gpe1_base;
    uint8_t cst;
    uint16_t c2_latency, c3_latency, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_architecture;
    uint8_t reserved2;
    uint32_t flags;
    struct acpi_address reset;
    uint8_t reset_value;
    uint16_t arm_architecture;
    uint8_t minor;
    uint64_t x_facs, x_dsdt;
    struct acpi_address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control,
        x_pm_timer, x_gpe0, x_gpe1;
} __attribute__((packed));
static_assert(sizeof(struct acpi_fadt) == 244, "ACPI 4.0, table 5-9");
static_assert(offsetof(struct acpi_fadt, facs) == ACPI_FADT_FACS &&
                  offsetof(struct acpi_fadt, dsdt) == ACPI_FADT_DSDT &&
                  offsetof(struct acpi_fadt, x_facs) == ACPI_FADT_X_FACS &&
                  offsetof(struct acpi_fadt, x_dsdt) == ACPI_FADT_X_DSDT,
              "what the header says");

enum {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_NO_SLEEP_BUTTON = 1 << 5,
    FADT_TIMER_32 = 1 << 8,
    FADT_RESET_REGISTER = 1 << 10,
    BOOT_LEGACY_DEVICES = 1 << 0,
    BOOT_8042 = 1 << 1,
    BOOT_NO_VGA = 1 << 2,
    MADT_PCAT_COMPAT = 1,
};
#define RESET_VALUE   6 // full reset through port 0xCF9
#define CMOS_CENTURY  0x32
#define IOAPIC_ID     0
#define ISO_LEVEL     0xD // level triggered, active high
#define HPET_BLOCK_ID 0x8086A201u

static uint8_t sum(const uint8_t *bytes, size_t length)
{
    uint8_t total = 0;
    while (length--)
        total = (uint8_t)(total + *bytes++);
    return total;
}

// Start a table: aligned, with room for its header; returns its offset.
static size_t open_table(struct aml *out, struct acpi_block *block, const char *signature)
{
    static const uint8_t zeros[TABLE_ALIGN];
    aml_bytes(out, zeros, (size_t)(align_up(out->length, TABLE_ALIGN) - out->length));
    size_t at = out->length;
    aml_bytes(out, zeros, HEADER_BYTES);
    assert(block->table_count < ACPI_MAX_TABLES);
    block->table_offset[block->table_count] = at;
    memcpy(block->table_signature[block->table_count++], signature, 4);
    return at;
}

static void close_table(struct aml *out, size_t at, const char *signature, uint8_t revision)
{
    if (out->overflow)
        return;
    struct acpi_header header = {.length = (uint32_t)(out->length - at),
                                 .revision = revision,
                                 .oem_revision = 1,
                                 .creator_revision = 1};
    memcpy(header.signature, signature, 4);
    memcpy(header.oem_id, "WIRT  ", 6);
    memcpy(header.oem_table_id, "WIRTPC  ", 8);
    memcpy(header.creator_id, "WIRT", 4);
    memcpy(out->bytes + at, &header, sizeof(header));
    out->bytes[at + offsetof(struct acpi_header, checksum)] =
        (uint8_t)-sum(out->bytes + at, header.length);
}

static size_t add_facs(struct aml *out, struct acpi_block *block)
{
    size_t at = open_table(out, block, "FACS");
    static const uint8_t rest[64 - HEADER_BYTES];
    aml_bytes(out, rest, sizeof(rest));
    if (!out->overflow) { // no checksum, no common header (5.2.10)
        memcpy(out->bytes + at, "FACS", 4);
        store_le32(out->bytes + at + 4, 64);
        out->bytes[at + 32] = 2;
    }
    return at;
}

static size_t add_dsdt(struct aml *out, struct acpi_block *block)
{
    size_t at = open_table(out, block, "DSDT");
    acpi_build_dsdt(out);
    close_table(out, at, "DSDT", 2);
    return at;
}

static struct acpi_address io_address(uint64_t port, uint8_t bits)
{
    return (struct acpi_address){.space = 1,
                                 .bits = bits,
                                 .access = (uint8_t)(bits == 8    ? 1
                                                     : bits == 16 ? 2
                                                                  : 3),
                                 .address = port};
}

static size_t add_fadt(struct aml *out, struct acpi_block *block, uint64_t facs, uint64_t dsdt)
{
    struct acpi_fadt fadt = {
        .facs = (uint32_t)facs,
        .dsdt = (uint32_t)dsdt,
        .profile = 4, // enterprise server
        .sci = MAP_IRQ_SCI,
        .pm1a_event = MAP_PORT_PM1_EVENT,
        .pm1a_control = MAP_PORT_PM1_CONTROL,
        .pm_timer = MAP_PORT_PM_TIMER,
        .gpe0 = MAP_PORT_GPE0,
        .pm1_event_bytes = 4,
        .pm1_control_bytes = 2,
        .pm_timer_bytes = 4,
        .gpe0_bytes = 4,
        .c2_latency = 0xFFF, // no C2, no C3
        .c3_latency = 0xFFF,
        .century = CMOS_CENTURY,
        .boot_architecture = BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA,
        .flags =
            FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_TIMER_32 | FADT_RESET_REGISTER,
        .reset = io_address(MAP_PORT_RESET, 8),
        .reset_value = RESET_VALUE,
        .x_facs = facs,
        .x_dsdt = dsdt,
        .x_pm1a_event = io_address(MAP_PORT_PM1_EVENT, 32),
        .x_pm1a_control = io_address(MAP_PORT_PM1_CONTROL, 16),
        .x_pm_timer = io_address(MAP_PORT_PM_TIMER, 32),
        .x_gpe0 = io_address(MAP_PORT_GPE0, 32),
    };
    size_t at = open_table(out, block, "FACP");
    aml_bytes(out, (const uint8_t *)&fadt + HEADER_BYTES, sizeof(fadt) - HEADER_BYTES);
    close_table(out, at, "FACP", 4);
    return at;
}

static size_t add_madt(struct aml *out, struct acpi_block *block, unsigned vcpus)
{
    size_t at = open_table(out, block, "APIC");
    uint32_t head[2] = {(uint32_t)MAP_LAPIC_START, MADT_PCAT_COMPAT};
    aml_bytes(out, head, sizeof(head));
    for (unsigned i = 0; i < vcpus; i++) {
        const uint8_t lapic[8] = {0, 8, (uint8_t)i, (uint8_t)i, 1, 0, 0, 0};
        aml_bytes(out, lapic, sizeof(lapic));
    }
    uint8_t ioapic[12] = {1, 12, IOAPIC_ID};
    store_le32(ioapic + 4, (uint32_t)MAP_IOAPIC_START);
    aml_bytes(out, ioapic, sizeof(ioapic));
    const uint8_t timer_override[10] = {2, 10, 0, 0, 2, 0, 0, 0, 0, 0};
    aml_bytes(out, timer_override, sizeof(timer_override));
    const uint8_t sci_override[10] = {2, 10, 0, MAP_IRQ_SCI, MAP_IRQ_SCI, 0, 0, 0, ISO_LEVEL, 0};
    aml_bytes(out, sci_override, sizeof(sci_override));
    const uint8_t nmi[6] = {4, 6, 0xFF, 0, 0, 1}; // LINT1 of every processor
    aml_bytes(out, nmi, sizeof(nmi));
    close_table(out, at, "APIC", 4);
    return at;
}

static size_t add_mcfg(struct aml *out, struct acpi_block *block)
{
    size_t at = open_table(out, block, "MCFG");
    uint8_t body[24] = {0};
    store_le64(body + 8, MAP_ECAM_START);
    body[19] = (uint8_t)(MAP_ECAM_LENGTH / MIB - 1); // last bus
    aml_bytes(out, body, sizeof(body));
    close_table(out, at, "MCFG", 1);
    return at;
}

static size_t add_hpet(struct aml *out, struct acpi_block *block)
{
    size_t at = open_table(out, block, "HPET");
    uint8_t body[20] = {0};
    store_le32(body, HPET_BLOCK_ID);
    body[5] = 64; // a register of 64 bits in memory
    store_le64(body + 8, MAP_HPET_START);
    aml_bytes(out, body, sizeof(body));
    close_table(out, at, "HPET", 1);
    return at;
}

static size_t add_xsdt(struct aml *out, struct acpi_block *block, uint64_t base,
                       const size_t *tables, unsigned count)
{
    size_t at = open_table(out, block, "XSDT");
    for (unsigned i = 0; i < count; i++) {
        uint64_t address = base + tables[i];
        aml_bytes(out, &address, sizeof(address));
    }
    close_table(out, at, "XSDT", 1);
    return at;
}

static void write_rsdp(uint8_t *rsdp, uint64_t xsdt)
{
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "WIRT  ", 6);
    rsdp[15] = 2;
    store_le32(rsdp + 20, RSDP_BYTES);
    store_le64(rsdp + 24, xsdt);
    rsdp[8] = (uint8_t)-sum(rsdp, 20);
    rsdp[32] = (uint8_t)-sum(rsdp, RSDP_BYTES);
}

int acpi_build(const struct acpi_machine *machine, uint64_t base, struct acpi_block *block,
               struct err *err)
{
    struct aml out = {.bytes = block->bytes, .capacity = block->capacity};
    static const uint8_t room[RSDP_BYTES];
    block->table_count = 0;
    aml_bytes(&out, room, sizeof(room));
    size_t facs = add_facs(&out, block);
    size_t dsdt = add_dsdt(&out, block);
    size_t tables[4] = {add_fadt(&out, block, base + facs, base + dsdt)};
    tables[1] = add_madt(&out, block, machine->vcpus);
    tables[2] = add_mcfg(&out, block);
    tables[3] = add_hpet(&out, block);
    size_t xsdt = add_xsdt(&out, block, base, tables, ARRAY_LENGTH(tables));
    if (out.overflow)
        return err_set(err, ERR_LIMIT, "the ACPI tables do not fit into %zu bytes",
                       block->capacity);
    write_rsdp(block->bytes, base + xsdt);
    block->length = out.length;
    return 0;
}
