// SPDX-License-Identifier: Apache-2.0
//
// Sixty-four bits of redirection entry and the level of each input. An edge that comes while its
// input is masked is forgotten; a level is seen when the mask goes.
//
// An edge sends a message at once. A level sends one and sets remote IRR; the EOI message with its
// vector clears that, and the input is looked at again. Remote IRR and delivery status are read
// only for the guest; switching an entry to edge clears remote IRR, which Linux relies on to mend a
// stuck entry.
#include "machine/chip/ioapic.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"

#define WINDOW_BYTES 0x1000u
#define VERSION      0x20u
#define ID_MASK      0x0F000000u

enum { MMIO_SELECT = 0x00, MMIO_WINDOW = 0x10, MMIO_EOI = 0x40 };
enum { REG_ID = 0x00, REG_VERSION = 0x01, REG_ARBITRATION = 0x02, REG_TABLE = 0x10 };

#define ENTRY_LOGICAL      BIT(11)
#define ENTRY_STATUS       BIT(12)
#define ENTRY_REMOTE_IRR   BIT(14)
#define ENTRY_LEVEL        BIT(15)
#define ENTRY_MASKED       BIT(16)
#define ENTRY_WRITABLE_LOW 0x0001AFFFull // bits 12 and 14 are the chip's own
#define ENTRY_WRITABLE     (0xFF00000000000000ull | ENTRY_WRITABLE_LOW)

struct ioapic {
    // Constant.
    struct device device;
    struct bus *mmio; // borrowed
    struct bus_range range;
    ioapic_send *send;
    void *send_context;
    // Under the lock.
    pthread_mutex_t lock;
    uint32_t select, id;
    uint32_t levels; // a bit an input
    uint64_t entries[IOAPIC_INPUTS];
};

static void deliver(struct ioapic *ioapic, uint64_t entry)
{
    struct apic_message message = {
        .destination = (uint32_t)(entry >> 56),
        .logical = entry & ENTRY_LOGICAL,
        .mode = (uint8_t)(entry >> 8 & 7),
        .vector = (uint8_t)entry,
        .level_triggered = entry & ENTRY_LEVEL,
        .level_asserted = true,
    };
    ioapic->send(ioapic->send_context, &message);
}

// A level-triggered input that is asserted and neither masked nor being served.
static void service_level(struct ioapic *ioapic, unsigned input)
{
    uint64_t *entry = &ioapic->entries[input];
    if (!(*entry & ENTRY_LEVEL) || (*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) ||
        !(ioapic->levels & BIT(input)))
        return;
    *entry |= ENTRY_REMOTE_IRR;
    deliver(ioapic, *entry);
}

void ioapic_set_line(struct ioapic *ioapic, unsigned input, bool level)
{
    if (input >= IOAPIC_INPUTS)
        return;
    uint32_t bit = (uint32_t)BIT(input);
    pthread_mutex_lock(&ioapic->lock);
    bool rises = level && !(ioapic->levels & bit);
    ioapic->levels = level ? ioapic->levels | bit : ioapic->levels & ~bit;
    uint64_t entry = ioapic->entries[input];
    if (rises && !(entry & (ENTRY_LEVEL | ENTRY_MASKED)))
        deliver(ioapic, entry);
    else
        service_level(ioapic, input);
    pthread_mutex_unlock(&ioapic->lock);
}

static void end_of_interrupt(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned i = 0; i < IOAPIC_INPUTS; i++)
        if ((ioapic->entries[i] & ENTRY_REMOTE_IRR) && (uint8_t)ioapic->entries[i] == vector) {
            ioapic->entries[i] &= ~ENTRY_REMOTE_IRR;
            service_level(ioapic, i);
        }
}

void ioapic_eoi(void *context, uint8_t vector)
{
    struct ioapic *ioapic = context;
    pthread_mutex_lock(&ioapic->lock);
    end_of_interrupt(ioapic, vector);
    pthread_mutex_unlock(&ioapic->lock);
}

static void write_entry(struct ioapic *ioapic, unsigned input, bool high, uint32_t value)
{
    uint64_t *entry = &ioapic->entries[input];
    uint64_t writable = high ? ENTRY_WRITABLE & ~0xFFFFFFFFull : ENTRY_WRITABLE_LOW;
    uint64_t wide = high ? (uint64_t)value << 32 : value;
    *entry = (*entry & ~writable) | (wide & writable);
    if (!(*entry & ENTRY_LEVEL))
        *entry &= ~ENTRY_REMOTE_IRR;
    service_level(ioapic, input);
}

static uint32_t read_register(const struct ioapic *ioapic)
{
    uint32_t entry = ioapic->select - REG_TABLE;
    switch (ioapic->select) {
    case REG_ID:
    case REG_ARBITRATION:
        return ioapic->id;
    case REG_VERSION:
        return (IOAPIC_INPUTS - 1) << 16 | VERSION;
    default:
        if (entry < 2 * IOAPIC_INPUTS)
            return (uint32_t)(ioapic->entries[entry / 2] >> (entry % 2 * 32));
        return 0xFFFFFFFFu;
    }
}

static void write_register(struct ioapic *ioapic, uint32_t value)
{
    uint32_t entry = ioapic->select - REG_TABLE;
    if (ioapic->select == REG_ID)
        ioapic->id = value & ID_MASK;
    else if (entry < 2 * IOAPIC_INPUTS)
        write_entry(ioapic, entry / 2, entry % 2, value);
}

static uint64_t ioapic_read(void *device, uint64_t offset, unsigned size)
{
    struct ioapic *ioapic = device;
    uint32_t value = 0;
    pthread_mutex_lock(&ioapic->lock);
    if (offset == MMIO_SELECT)
        value = ioapic->select;
    else if (offset == MMIO_WINDOW)
        value = read_register(ioapic);
    pthread_mutex_unlock(&ioapic->lock);
    return value;
}

static void ioapic_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct ioapic *ioapic = device;
    pthread_mutex_lock(&ioapic->lock);
    if (offset == MMIO_SELECT)
        ioapic->select = value & 0xFF;
    else if (offset == MMIO_WINDOW)
        write_register(ioapic, (uint32_t)value);
    else if (offset == MMIO_EOI)
        end_of_interrupt(ioapic, (uint8_t)value);
    pthread_mutex_unlock(&ioapic->lock);
}

static const struct bus_ops ioapic_ops = {ioapic_read, ioapic_write, 4, 4};

static const struct field fields[] = {
    FIELD_U32_MAX(struct ioapic, select, 0xFF),
    FIELD_U32_MAX(struct ioapic, id, ID_MASK),
    FIELD_U32_MAX(struct ioapic, levels, (1u << IOAPIC_INPUTS) - 1),
    FIELD_U64S(struct ioapic, entries),
};

static void ioapic_reset(void *device)
{
    struct ioapic *ioapic = device;
    pthread_mutex_lock(&ioapic->lock);
    ioapic->select = ioapic->id = 0;
    for (unsigned i = 0; i < IOAPIC_INPUTS; i++)
        ioapic->entries[i] = ENTRY_MASKED;
    pthread_mutex_unlock(&ioapic->lock);
}

static int ioapic_check(const void *device, struct err *err)
{
    const struct ioapic *ioapic = device;
    for (unsigned i = 0; i < IOAPIC_INPUTS; i++) {
        uint64_t entry = ioapic->entries[i];
        bool stuck = (entry & ENTRY_REMOTE_IRR) && !(entry & ENTRY_LEVEL);
        if ((entry & ~(ENTRY_WRITABLE | ENTRY_REMOTE_IRR)) || stuck)
            return err_set(err, ERR_INPUT, "entry %u is impossible", i);
    }
    return ioapic->id & ~ID_MASK ? err_set(err, ERR_INPUT, "the id is impossible") : 0;
}

void ioapic_get_registers(struct ioapic *ioapic, struct ioapic_registers *registers)
{
    pthread_mutex_lock(&ioapic->lock);
    *registers = (struct ioapic_registers){
        .select = ioapic->select, .id = ioapic->id, .levels = ioapic->levels};
    memcpy(registers->entries, ioapic->entries, sizeof(registers->entries));
    pthread_mutex_unlock(&ioapic->lock);
}

void ioapic_set_registers(struct ioapic *ioapic, const struct ioapic_registers *registers)
{
    pthread_mutex_lock(&ioapic->lock);
    ioapic->select = registers->select & 0xFF;
    ioapic->id = registers->id & ID_MASK;
    ioapic->levels = registers->levels & ((1u << IOAPIC_INPUTS) - 1);
    for (unsigned i = 0; i < IOAPIC_INPUTS; i++) {
        uint64_t entry = registers->entries[i] & (ENTRY_WRITABLE | ENTRY_REMOTE_IRR);
        ioapic->entries[i] = entry & ENTRY_LEVEL ? entry : entry & ~ENTRY_REMOTE_IRR;
    }
    pthread_mutex_unlock(&ioapic->lock);
}

static const struct device_ops ioapic_device_ops = {
    .kind = "ioapic",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = ioapic_reset,
    .check = ioapic_check,
};

struct ioapic *ioapic_create(struct bus *mmio, ioapic_send *send, void *context, struct err *err)
{
    struct ioapic *ioapic = calloc(1, sizeof(*ioapic));
    if (!ioapic) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&ioapic->lock, NULL);
    ioapic->device = (struct device){.ops = &ioapic_device_ops, .name = "ioapic", .self = ioapic};
    ioapic->mmio = mmio;
    ioapic->range =
        (struct bus_range){"ioapic", MAP_IOAPIC_START, WINDOW_BYTES, &ioapic_ops, ioapic, false, 0};
    ioapic->send = send;
    ioapic->send_context = context;
    ioapic_reset(ioapic);
    if (bus_add(mmio, &ioapic->range, err) != 0) {
        ioapic_destroy(ioapic);
        return NULL;
    }
    return ioapic;
}

void ioapic_destroy(struct ioapic *ioapic)
{
    if (!ioapic)
        return;
    bus_remove(ioapic->mmio, &ioapic->range);
    pthread_mutex_destroy(&ioapic->lock);
    free(ioapic);
}

struct device *ioapic_device(struct ioapic *ioapic)
{
    return &ioapic->device;
}
