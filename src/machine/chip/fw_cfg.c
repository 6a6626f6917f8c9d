// SPDX-License-Identifier: Apache-2.0
//
// Items are byte arrays under 16-bit keys; the directory (key 0x19) is an array of big-endian
// records that is rebuilt whenever a file is added. The guest selects a key and reads on from
// offset 0, byte by byte or by DMA: it writes the address of a control structure, which we read
// once, act on, and answer by its control word.
#include "machine/chip/fw_cfg.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"
#include "machine/memory/guest_memory.h"

#define LOG_MODULE "fw_cfg"
#include "base/log.h"

#define ITEMS         96u
#define RANGE_BYTES   12u
#define DMA_SIGNATURE 0x51454D5520434647ull // "QEMU CFG"
#define FEATURES      3u                    // the ports, and DMA
#define ZERO_CHUNK    4096u
#define KEY_WRITE_BIT 0x4000u

enum { OFFSET_SELECT = 0, OFFSET_DATA = 1, OFFSET_DMA_HIGH = 4, OFFSET_DMA_LOW = 8 };
enum {
    DMA_ERROR = 1 << 0,
    DMA_READ = 1 << 1,
    DMA_SKIP = 1 << 2,
    DMA_SELECT = 1 << 3,
    DMA_WRITE = 1 << 4
};

struct item {
    uint16_t key;
    uint32_t length;
    uint8_t *bytes; // owned
};

// As it stands in the directory, big-endian (docs/specs/fw_cfg, "File Directory").
struct file_record {
    uint8_t size[4], key[2], reserved[2];
    char name[FW_CFG_NAME_BYTES];
};

// As it stands in guest memory, big-endian.
struct dma_access {
    uint8_t control[4], length[4], address[8];
};

struct fw_cfg {
    // Constant after the machine is built.
    struct device device;
    struct bus *ports;           // borrowed
    struct guest_memory *memory; // borrowed
    struct bus_range range;
    struct item items[ITEMS];
    unsigned item_count;
    struct file_record files[FW_CFG_FILES];
    unsigned file_count;
    // Under the lock.
    pthread_mutex_t lock;
    uint16_t selected;
    uint32_t offset;
    uint32_t dma_high;
};

static uint64_t get_be(const uint8_t *bytes, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

static void put_be(uint8_t *bytes, unsigned count, uint64_t value)
{
    for (unsigned i = count; i-- > 0; value >>= 8)
        bytes[i] = (uint8_t)value;
}

static const struct item *find(const struct fw_cfg *fw, uint16_t key)
{
    for (unsigned i = 0; i < fw->item_count; i++)
        if (fw->items[i].key == key)
            return &fw->items[i];
    return NULL;
}

// ---- The guest's side. An item that is not there, or ended, reads as zeroes.

static void select_item(struct fw_cfg *fw, uint16_t key)
{
    fw->selected = key & (uint16_t)~KEY_WRITE_BIT;
    fw->offset = 0;
}

// Bytes left of the selected item, and where they are.
static uint32_t rest(const struct fw_cfg *fw, const uint8_t **bytes)
{
    const struct item *item = find(fw, fw->selected);
    if (!item || fw->offset >= item->length)
        return 0;
    *bytes = item->bytes + fw->offset;
    return item->length - fw->offset;
}

static uint8_t next_byte(struct fw_cfg *fw)
{
    const uint8_t *bytes;
    if (!rest(fw, &bytes))
        return 0;
    fw->offset++;
    return *bytes;
}

static int zero_guest(struct fw_cfg *fw, uint64_t address, uint32_t length)
{
    static const uint8_t zeroes[ZERO_CHUNK];
    while (length) {
        uint32_t n = length < ZERO_CHUNK ? length : ZERO_CHUNK;
        if (guest_memory_write(fw->memory, gpa(address), zeroes, n) != 0)
            return -EFAULT;
        address += n;
        length -= n;
    }
    return 0;
}

// Returns the control word that answers.
static uint32_t dma_transfer(struct fw_cfg *fw, uint32_t control, uint64_t address, uint32_t length)
{
    if (control & DMA_SELECT)
        select_item(fw, (uint16_t)(control >> 16));
    if (!(control & (DMA_READ | DMA_SKIP | DMA_WRITE)))
        return 0;
    const uint8_t *bytes = NULL;
    uint32_t there = rest(fw, &bytes), n = length < there ? length : there;
    if (control & DMA_READ) {
        if (n && guest_memory_write(fw->memory, gpa(address), bytes, n) != 0)
            return DMA_ERROR;
        if (zero_guest(fw, address + n, length - n) != 0)
            return DMA_ERROR;
    } else if (!(control & DMA_SKIP)) {
        return DMA_ERROR; // no item can be written
    }
    fw->offset += n;
    return 0;
}

static void dma(struct fw_cfg *fw, uint64_t at)
{
    struct dma_access access;
    if (guest_memory_read(fw->memory, gpa(at), &access, sizeof(access)) != 0) {
        log_guest("DMA control structure at 0x%llx is not in memory", (unsigned long long)at);
        return;
    }
    uint32_t answer = dma_transfer(fw, (uint32_t)get_be(access.control, 4),
                                   get_be(access.address, 8), (uint32_t)get_be(access.length, 4));
    put_be(access.control, 4, answer);
    // The structure was readable; in ROM it cannot be answered, and the guest waits for ever.
    if (guest_memory_write(fw->memory, gpa(at), access.control, sizeof(access.control)) != 0)
        log_guest("DMA control structure at 0x%llx cannot be written", (unsigned long long)at);
}

static uint64_t fw_cfg_read(void *device, uint64_t offset, unsigned size)
{
    struct fw_cfg *fw = device;
    uint64_t value = 0;
    pthread_mutex_lock(&fw->lock);
    if (offset == OFFSET_DATA)
        value = next_byte(fw);
    else if (offset >= OFFSET_DMA_HIGH) { // shows that DMA is there, big-endian
        uint8_t bytes[8];
        put_be(bytes, 8, DMA_SIGNATURE);
        memcpy(&value, bytes + (offset - OFFSET_DMA_HIGH), size);
    }
    pthread_mutex_unlock(&fw->lock);
    return value;
}

static void fw_cfg_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct fw_cfg *fw = device;
    pthread_mutex_lock(&fw->lock);
    if (offset == OFFSET_SELECT && size == 2) {
        select_item(fw, (uint16_t)value);
    } else if (offset == OFFSET_DMA_HIGH && size == 4) {
        fw->dma_high = __builtin_bswap32((uint32_t)value);
    } else if (offset == OFFSET_DMA_LOW && size == 4) {
        uint64_t at = (uint64_t)fw->dma_high << 32 | __builtin_bswap32((uint32_t)value);
        fw->dma_high = 0;
        dma(fw, at);
    }
    pthread_mutex_unlock(&fw->lock);
}

static const struct bus_ops fw_cfg_ops = {fw_cfg_read, fw_cfg_write, 1, 4};

// ---- The machine's side

static int append(struct fw_cfg *fw, uint16_t key, const void *bytes, size_t length,
                  struct err *err)
{
    if (find(fw, key))
        return err_set(err, ERR_EXISTS, "firmware configuration key 0x%x is taken", key);
    if (fw->item_count == ITEMS || length > UINT32_MAX)
        return err_set(err, ERR_LIMIT, "no room for firmware configuration key 0x%x", key);
    uint8_t *copy = malloc(length ? length : 1);
    if (!copy)
        return err_set(err, ERR_LIMIT, "no memory");
    memcpy(copy, bytes, length);
    struct item *item = &fw->items[fw->item_count++];
    item->key = key;
    item->length = (uint32_t)length;
    item->bytes = copy;
    return 0;
}

int fw_cfg_add(struct fw_cfg *fw, uint16_t key, const void *bytes, size_t length, struct err *err)
{
    bool reserved = key >= FW_CFG_FILE_FIRST && key < FW_CFG_FILE_FIRST + FW_CFG_FILES;
    if (reserved || (key & KEY_WRITE_BIT))
        return err_set(err, ERR_USAGE, "firmware configuration key 0x%x is reserved", key);
    return append(fw, key, bytes, length, err);
}

int fw_cfg_add_u16(struct fw_cfg *fw, uint16_t key, uint16_t value, struct err *err)
{
    return fw_cfg_add(fw, key, &value, sizeof(value), err);
}

int fw_cfg_add_u32(struct fw_cfg *fw, uint16_t key, uint32_t value, struct err *err)
{
    return fw_cfg_add(fw, key, &value, sizeof(value), err);
}

int fw_cfg_add_u64(struct fw_cfg *fw, uint16_t key, uint64_t value, struct err *err)
{
    return fw_cfg_add(fw, key, &value, sizeof(value), err);
}

static int rebuild_directory(struct fw_cfg *fw, struct err *err)
{
    size_t length = 4 + fw->file_count * sizeof(struct file_record);
    uint8_t *bytes = malloc(length);
    if (!bytes)
        return err_set(err, ERR_LIMIT, "no memory");
    put_be(bytes, 4, fw->file_count);
    memcpy(bytes + 4, fw->files, length - 4);
    struct item *directory = (struct item *)(uintptr_t)find(fw, FW_CFG_FILE_DIR);
    free(directory->bytes);
    directory->bytes = bytes;
    directory->length = (uint32_t)length;
    return 0;
}

int fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *bytes, size_t length,
                    struct err *err)
{
    if (!*name || strlen(name) >= FW_CFG_NAME_BYTES)
        return err_set(err, ERR_USAGE,
                       "'%s' is no name for a firmware configuration file (1 to 55 characters)",
                       name);
    for (unsigned i = 0; i < fw->file_count; i++)
        if (!strcmp(fw->files[i].name, name))
            return err_set(err, ERR_EXISTS, "firmware configuration file '%s' is there already",
                           name);
    if (fw->file_count == FW_CFG_FILES)
        return err_set(err, ERR_LIMIT, "no room for firmware configuration file '%s'", name);
    uint16_t key = (uint16_t)(FW_CFG_FILE_FIRST + fw->file_count);
    if (append(fw, key, bytes, length, err) != 0)
        return -1;
    struct file_record *record = &fw->files[fw->file_count++];
    put_be(record->size, 4, length);
    put_be(record->key, 2, key);
    memcpy(record->name, name, strlen(name) + 1);
    return rebuild_directory(fw, err);
}

// ---- The device

static const struct field fields[] = {
    FIELD_U16(struct fw_cfg, selected),
    FIELD_U32(struct fw_cfg, offset),
    FIELD_U32(struct fw_cfg, dma_high),
};

static void fw_cfg_reset(void *device)
{
    struct fw_cfg *fw = device;
    pthread_mutex_lock(&fw->lock);
    fw->selected = 0;
    fw->offset = fw->dma_high = 0;
    pthread_mutex_unlock(&fw->lock);
}

static const struct device_ops fw_cfg_device_ops = {
    .kind = "fw-cfg",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = fw_cfg_reset,
};

struct fw_cfg *fw_cfg_create(struct bus *ports, struct guest_memory *memory, struct err *err)
{
    static const uint8_t no_files[4];
    struct fw_cfg *fw = calloc(1, sizeof(*fw));
    if (!fw) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&fw->lock, NULL);
    fw->device = (struct device){.ops = &fw_cfg_device_ops, .name = "fw-cfg", .self = fw};
    fw->ports = ports;
    fw->memory = memory;
    fw->range =
        (struct bus_range){"fw-cfg", MAP_PORT_FW_CFG, RANGE_BYTES, &fw_cfg_ops, fw, false, 0};
    if (fw_cfg_add(fw, FW_CFG_SIGNATURE, "QEMU", 4, err) ||
        fw_cfg_add_u32(fw, FW_CFG_ID, FEATURES, err) ||
        fw_cfg_add(fw, FW_CFG_FILE_DIR, no_files, sizeof(no_files), err) ||
        bus_add(ports, &fw->range, err)) {
        fw_cfg_destroy(fw);
        return NULL;
    }
    return fw;
}

void fw_cfg_destroy(struct fw_cfg *fw)
{
    if (!fw)
        return;
    bus_remove(fw->ports, &fw->range);
    for (unsigned i = 0; i < fw->item_count; i++)
        free(fw->items[i].bytes);
    pthread_mutex_destroy(&fw->lock);
    free(fw);
}

struct device *fw_cfg_device(struct fw_cfg *fw)
{
    return &fw->device;
}
