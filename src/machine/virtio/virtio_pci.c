// SPDX-License-Identifier: Apache-2.0
//
// virtio over PCI (virtio 1.2, 4.1), modern only. BAR 0, 64 bits wide, holds everything:
//
//     0x0000 common configuration    0x1000 interrupt status    0x2000 the kind's own configuration
//     0x3000 notifications, 4 bytes a queue    0x4000 MSI-X table    0x5000 MSI-X pending bits
//
// A fifth capability is a window through which firmware reaches the BAR by configuration space.
#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "machine/virtio/virtio_device.h"

#define LOG_MODULE "virtio"
#include "base/log.h"

#define AREA_BYTES     0x1000u
#define AREA_COMMON    0u
#define AREA_INTERRUPT 1u
#define AREA_CONFIG    2u
#define AREA_NOTIFY    3u
#define MSIX_TABLE     0x4000u
#define MSIX_PENDING   0x5000u
#define BAR_BYTES      0x8000u
#define NOTIFY_STEP    4u
#define NO_VECTOR      0xFFFFu

#define VENDOR           0x1AF4u
#define MODERN_DEVICE_ID 0x1040u // plus the kind

enum capability_kind {
    CAPABILITY_COMMON = 1,
    CAPABILITY_NOTIFY,
    CAPABILITY_INTERRUPT,
    CAPABILITY_CONFIG,
    CAPABILITY_WINDOW
};

enum common_register {
    COMMON_DEVICE_FEATURE_SELECT = 0,
    COMMON_DEVICE_FEATURE = 4,
    COMMON_DRIVER_FEATURE_SELECT = 8,
    COMMON_DRIVER_FEATURE = 12,
    COMMON_CONFIG_VECTOR = 16,
    COMMON_QUEUE_COUNT = 18,
    COMMON_STATUS = 20,
    COMMON_CONFIG_GENERATION = 21,
    COMMON_QUEUE_SELECT = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_VECTOR = 26,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY_OFFSET = 30,
    COMMON_QUEUE_DESCRIPTORS = 32,
    COMMON_QUEUE_AVAILABLE = 40,
    COMMON_QUEUE_USED = 48,
    COMMON_QUEUE_NOTIFY_DATA = 56,
    COMMON_QUEUE_RESET = 58,
    COMMON_BYTES = 60,
};

static const struct {
    uint8_t offset, size;
} common_registers[] = {
    {COMMON_DEVICE_FEATURE_SELECT, 4},
    {COMMON_DEVICE_FEATURE, 4},
    {COMMON_DRIVER_FEATURE_SELECT, 4},
    {COMMON_DRIVER_FEATURE, 4},
    {COMMON_CONFIG_VECTOR, 2},
    {COMMON_QUEUE_COUNT, 2},
    {COMMON_STATUS, 1},
    {COMMON_CONFIG_GENERATION, 1},
    {COMMON_QUEUE_SELECT, 2},
    {COMMON_QUEUE_SIZE, 2},
    {COMMON_QUEUE_VECTOR, 2},
    {COMMON_QUEUE_ENABLE, 2},
    {COMMON_QUEUE_NOTIFY_OFFSET, 2},
    {COMMON_QUEUE_DESCRIPTORS, 8},
    {COMMON_QUEUE_AVAILABLE, 8},
    {COMMON_QUEUE_USED, 8},
    {COMMON_QUEUE_NOTIFY_DATA, 2},
    {COMMON_QUEUE_RESET, 2},
};

// ---- Interrupts; device lock held

void virtio_pci_interrupt(struct virtio_device *device, uint16_t vector, uint8_t why)
{
    if (pci_msix_enabled(&device->pci)) {
        pci_msix_send(&device->pci, vector);
        return;
    }
    device->interrupt_status |= why;
    pci_intx_set(&device->pci, true);
}

void virtio_pci_reset(struct virtio_device *device)
{
    pci_intx_set(&device->pci, false);
}

void virtio_pci_loaded(struct virtio_device *device)
{
    pci_intx_set(&device->pci, device->interrupt_status);
}

static uint8_t take_interrupt_status(struct virtio_device *device)
{
    virtio_lock(device);
    uint8_t status = device->interrupt_status;
    device->interrupt_status = 0;
    pci_intx_set(&device->pci, false);
    virtio_unlock(device);
    return status;
}

// ---- Common configuration; device lock held

static struct virtqueue *selected(struct virtio_device *device)
{
    unsigned i = device->queue_select;
    return i < device->setup.queue_count ? &device->queues[i].ring : NULL;
}

static uint64_t read_queue_register(struct virtio_device *device, unsigned offset)
{
    const struct virtqueue *ring = selected(device);
    if (!ring)
        return 0;
    switch (offset) {
    case COMMON_QUEUE_SIZE:
        return ring->size;
    case COMMON_QUEUE_VECTOR:
        return ring->vector;
    case COMMON_QUEUE_ENABLE:
        return ring->enabled;
    case COMMON_QUEUE_NOTIFY_OFFSET:
    case COMMON_QUEUE_NOTIFY_DATA:
        return device->queue_select;
    case COMMON_QUEUE_DESCRIPTORS:
        return ring->descriptors;
    case COMMON_QUEUE_AVAILABLE:
        return ring->available;
    case COMMON_QUEUE_USED:
        return ring->used;
    default:
        return 0;
    }
}

static uint64_t read_register(struct virtio_device *device, unsigned offset)
{
    switch (offset) {
    case COMMON_DEVICE_FEATURE_SELECT:
        return device->device_feature_select;
    case COMMON_DEVICE_FEATURE:
        return device->device_feature_select < 2
                   ? device->setup.features >> 32 * device->device_feature_select
                   : 0;
    case COMMON_DRIVER_FEATURE_SELECT:
        return device->driver_feature_select;
    case COMMON_DRIVER_FEATURE:
        return device->driver_feature_select < 2
                   ? device->driver_features >> 32 * device->driver_feature_select
                   : 0;
    case COMMON_CONFIG_VECTOR:
        return device->config_vector;
    case COMMON_QUEUE_COUNT:
        return device->setup.queue_count;
    case COMMON_STATUS:
        return device->status;
    case COMMON_CONFIG_GENERATION:
        return device->config_generation;
    case COMMON_QUEUE_SELECT:
        return device->queue_select;
    default:
        return read_queue_register(device, offset);
    }
}

static uint16_t checked_vector(const struct virtio_device *device, uint64_t vector)
{
    return vector < device->pci.msix_vectors ? (uint16_t)vector : NO_VECTOR;
}

// Once a queue is enabled only its vector may change: what we checked stays as it was.
static void write_queue_register(struct virtio_device *device, unsigned offset, uint64_t value)
{
    struct virtqueue *ring = selected(device);
    if (!ring)
        return;
    if (offset == COMMON_QUEUE_VECTOR) {
        ring->vector = checked_vector(device, value);
        return;
    }
    if (ring->enabled || device->status & VIRTIO_STATUS_DRIVER_OK) {
        log_guest("%s: the driver changed a queue that is enabled", ring->name);
        return;
    }
    switch (offset) {
    case COMMON_QUEUE_SIZE:
        if (is_power_of_two(value) && value <= ring->size_max)
            ring->size = (uint16_t)value;
        else
            log_guest("%s: the driver wants %u entries", ring->name, (unsigned)value);
        break;
    case COMMON_QUEUE_ENABLE:
        ring->enabled = value == 1;
        break;
    case COMMON_QUEUE_DESCRIPTORS:
        ring->descriptors = value;
        break;
    case COMMON_QUEUE_AVAILABLE:
        ring->available = value;
        break;
    case COMMON_QUEUE_USED:
        ring->used = value;
        break;
    default:
        break;
    }
}

static void write_driver_features(struct virtio_device *device, uint32_t value)
{
    unsigned half = device->driver_feature_select;
    if (half > 1 || device->status & VIRTIO_STATUS_FEATURES_OK)
        return;
    uint64_t keep = half ? UINT32_MAX : (uint64_t)UINT32_MAX << 32;
    device->driver_features = (device->driver_features & keep) | (uint64_t)value << 32 * half;
}

static void write_register(struct virtio_device *device, unsigned offset, uint64_t value)
{
    switch (offset) {
    case COMMON_DEVICE_FEATURE_SELECT:
        device->device_feature_select = (uint32_t)value;
        break;
    case COMMON_DRIVER_FEATURE_SELECT:
        device->driver_feature_select = (uint32_t)value;
        break;
    case COMMON_DRIVER_FEATURE:
        write_driver_features(device, (uint32_t)value);
        break;
    case COMMON_CONFIG_VECTOR:
        device->config_vector = checked_vector(device, value);
        break;
    case COMMON_STATUS:
        virtio_set_status(device, (uint8_t)value);
        break;
    case COMMON_QUEUE_SELECT:
        device->queue_select = (uint16_t)value;
        break;
    default:
        write_queue_register(device, offset, value);
    }
}

// The register that holds the byte at `offset`, or -1.
static int register_at(uint64_t offset)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(common_registers); i++)
        if (offset >= common_registers[i].offset &&
            offset - common_registers[i].offset < common_registers[i].size)
            return (int)i;
    return -1;
}

static uint64_t common_read(struct virtio_device *device, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        int r = register_at(offset + i);
        if (r < 0)
            break;
        uint64_t whole = read_register(device, common_registers[r].offset);
        value |= (whole >> 8 * (offset + i - common_registers[r].offset) & 0xFF) << 8 * i;
    }
    return value;
}

// Whole registers only, or a half of a 64-bit one (4.1.3.1).
static void common_write(struct virtio_device *device, uint64_t offset, uint64_t value,
                         unsigned size)
{
    int r = register_at(offset);
    if (r < 0)
        return;
    unsigned start = common_registers[r].offset, whole = common_registers[r].size;
    if (size == whole && offset == start) {
        write_register(device, start, value);
    } else if (whole == 8 && size == 4) {
        uint64_t old = read_register(device, start);
        bool high = offset != start;
        write_register(device, start,
                       high ? (old & UINT32_MAX) | value << 32
                            : (old & ~(uint64_t)UINT32_MAX) | value);
    } else {
        log_guest("%s: a write of %u bytes to common configuration 0x%x", device->name, size,
                  (unsigned)offset);
    }
}

// ---- The kind's configuration

static uint64_t config_read(struct virtio_device *device, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    const uint8_t *config = device->setup.config;
    for (unsigned i = 0; i < size && offset + i < device->setup.config_length; i++)
        value |= (uint64_t)config[offset + i] << 8 * i;
    return value;
}

static void config_write(struct virtio_device *device, uint64_t offset, uint64_t value,
                         unsigned size)
{
    if (device->setup.ops->config_write && range_within(offset, size, device->setup.config_length))
        device->setup.ops->config_write(device->setup.self, (unsigned)offset, &value, size);
}

// ---- The BAR

static uint64_t bar_read(void *context, uint64_t offset, unsigned size)
{
    struct virtio_device *device = context;
    uint64_t area = offset / AREA_BYTES, value = 0;
    if (area == AREA_INTERRUPT)
        return offset % AREA_BYTES == 0 ? take_interrupt_status(device) : 0;
    virtio_lock(device);
    if (area == AREA_COMMON)
        value = common_read(device, offset, size);
    else if (area == AREA_CONFIG)
        value = config_read(device, offset % AREA_BYTES, size);
    virtio_unlock(device);
    return value;
}

static void bar_write(void *context, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_device *device = context;
    uint64_t area = offset / AREA_BYTES;
    if (area == AREA_NOTIFY) {
        virtio_notify(device, (unsigned)(offset % AREA_BYTES / NOTIFY_STEP));
        return;
    }
    virtio_lock(device);
    if (area == AREA_COMMON)
        common_write(device, offset, value, size);
    else if (area == AREA_CONFIG)
        config_write(device, offset % AREA_BYTES, value, size);
    virtio_unlock(device);
    virtio_process_pending(device);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

// ---- The window capability: {.., bar, .., offset, length, data}

#define WINDOW_BAR    4u
#define WINDOW_OFFSET 8u
#define WINDOW_LENGTH 12u
#define WINDOW_DATA   16u

static bool window_selects(const struct virtio_device *device, uint64_t *offset, unsigned *size)
{
    const uint8_t *capability = device->pci.config + device->window_capability;
    uint32_t length = load_le32(capability + WINDOW_LENGTH);
    *offset = load_le32(capability + WINDOW_OFFSET);
    *size = length;
    return capability[WINDOW_BAR] == 0 && (length == 1 || length == 2 || length == 4) &&
           *offset % length == 0 && range_within(*offset, length, BAR_BYTES);
}

static bool touches_data(const struct virtio_device *device, unsigned offset, unsigned size)
{
    unsigned data = device->window_capability + WINDOW_DATA;
    return offset < data + 4 && data < offset + size;
}

static void window_read(void *self, unsigned offset, unsigned size)
{
    struct virtio_device *device = self;
    uint64_t at;
    unsigned length;
    if (!touches_data(device, offset, size) || !window_selects(device, &at, &length))
        return;
    uint64_t value = 0;
    if (!pci_msix_read(&device->pci, 0, at, length, &value))
        value = bar_read(device, at, length);
    store_le32(device->pci.config + device->window_capability + WINDOW_DATA, (uint32_t)value);
}

static void window_written(void *self, unsigned offset, unsigned size)
{
    struct virtio_device *device = self;
    uint64_t at;
    unsigned length;
    if (!touches_data(device, offset, size) || !window_selects(device, &at, &length))
        return;
    uint64_t value = load_le32(device->pci.config + device->window_capability + WINDOW_DATA) &
                     bits_mask(8 * length);
    if (!pci_msix_write(&device->pci, 0, at, value, length))
        bar_write(device, at, value, length);
}

static const struct pci_function_ops function_ops = {.config_read = window_read,
                                                     .config_written = window_written};

// ---- Making

static unsigned add_capability(struct virtio_device *device, enum capability_kind kind,
                               unsigned area, uint32_t bytes, unsigned capability_bytes)
{
    unsigned at =
        pci_function_add_capability(&device->pci, PCI_CAPABILITY_VENDOR, capability_bytes);
    uint8_t body[14] = {(uint8_t)capability_bytes, (uint8_t)kind};
    store_le32(body + 6, area * AREA_BYTES);
    store_le32(body + 10, bytes);
    pci_function_set_config(&device->pci, at + 2, body, sizeof(body));
    return at;
}

static void add_capabilities(struct virtio_device *device)
{
    struct pci_function *pci = &device->pci;
    add_capability(device, CAPABILITY_COMMON, AREA_COMMON, COMMON_BYTES, 16);
    add_capability(device, CAPABILITY_INTERRUPT, AREA_INTERRUPT, 1, 16);
    if (device->setup.config_length)
        add_capability(device, CAPABILITY_CONFIG, AREA_CONFIG, device->setup.config_length, 16);
    unsigned notify = add_capability(device, CAPABILITY_NOTIFY, AREA_NOTIFY, AREA_BYTES, 20);
    uint32_t step = NOTIFY_STEP;
    pci_function_set_config(pci, notify + 16, &step, sizeof(step));
    device->window_capability = add_capability(device, CAPABILITY_WINDOW, 0, 0, 20);
    static const uint8_t writable[16] = {0xFF, 0,    0,    0,    0xFF, 0xFF, 0xFF, 0xFF,
                                         0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    pci_function_set_writable(pci, device->window_capability + WINDOW_BAR, writable,
                              sizeof(writable));
}

void virtio_pci_init(struct virtio_device *device)
{
    const struct virtio_setup *setup = &device->setup;
    struct pci_identity identity = {
        .vendor = VENDOR,
        .device = (uint16_t)(MODERN_DEVICE_ID + setup->kind),
        .subsystem_vendor = VENDOR,
        .subsystem = 0x1100,
        .class_code = setup->class_code,
        .revision = 1,
        .interrupt = true,
    };
    assert(setup->config_length <= AREA_BYTES);
    pci_function_init(&device->pci, device->name, &identity, &function_ops, device);
    for (unsigned i = 0; i < device->bell_count; i++)
        device->bells[i].offset = AREA_NOTIFY * AREA_BYTES + NOTIFY_STEP * i;
    struct pci_bar bar = {.bytes = BAR_BYTES,
                          .wide = true,
                          .ops = &bar_ops,
                          .device = device,
                          .doorbells = device->bells,
                          .doorbell_count = device->bell_count};
    pci_function_add_bar(&device->pci, 0, &bar);
    add_capabilities(device);
    pci_msix_init(&device->pci, setup->queue_count + 1, 0, MSIX_TABLE, MSIX_PENDING);
}
