// SPDX-License-Identifier: Apache-2.0
//
// Code that a device overwrites after it was executed: virtio-blk reads sectors onto a function, virtio-net receives frames onto it. What is
// called next must be the new function. (dma_test.py makes the disk: sector N begins with "mov $N, %eax; ret".)
#include "tiny.h"

#define BAR_WINDOW  0x30000000ull // above the RAM, below 1 GiB, so that it is mapped
#define QUEUE_SIZE  8u
#define CALLS       300 // enough for any tier to translate
#define ROUNDS      64
#define NET_HEADER  12u
#define BLK         0x1042u
#define NET         0x1041u
#define FRAME_BYTES 42u // ARP

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct queue {
    struct descriptor descriptors[QUEUE_SIZE];
    struct {
        uint16_t flags, index, ring[QUEUE_SIZE], event;
    } available;
    struct {
        uint16_t flags, index;
        struct {
            uint32_t head, length;
        } ring[QUEUE_SIZE];
    } used __attribute__((aligned(4)));
    volatile uint16_t *notify;
    uint16_t seen;
} __attribute__((aligned(4096)));

static struct queue disk_queue, receive_queue, send_queue;
static uint8_t target[4096] __attribute__((aligned(4096))); // the code
static uint8_t frame[NET_HEADER + FRAME_BYTES];

struct device {
    uint8_t *common, *notify;
    uint32_t notify_step;
};

static void outl(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t inl(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static uint32_t config(unsigned slot, unsigned offset)
{
    outl(0xCF8, 0x80000000u | slot << 11 | (offset & 0xFC));
    return inl(0xCFC) >> 8 * (offset & 3);
}

static void set_config(unsigned slot, unsigned offset, uint32_t value)
{
    outl(0xCF8, 0x80000000u | slot << 11 | offset);
    outl(0xCFC, value);
}

#define REGISTER(type, device, offset) (*(volatile type *)((device)->common + (offset)))

// Finds the device, puts its BAR into the window, and brings it to FEATURES_OK with VERSION_1 alone.
static bool open_device(uint32_t id, uint64_t bar, struct device *device)
{
    unsigned slot = 1;
    while (slot < 32 && config(slot, 0) != (id << 16 | 0x1AF4))
        slot++;
    if (slot == 32)
        return false;
    set_config(slot, 0x10, (uint32_t)bar);
    set_config(slot, 0x14, 0);
    set_config(slot, 4, 6);
    for (unsigned at = config(slot, 0x34) & 0xFF; at; at = config(slot, at + 1) & 0xFF) {
        unsigned kind = config(slot, at + 3) & 0xFF;
        if ((config(slot, at) & 0xFF) != 9 || (kind != 1 && kind != 2))
            continue;
        uint8_t *where = (uint8_t *)bar + config(slot, at + 8);
        if (kind == 1) {
            device->common = where;
        } else {
            device->notify = where;
            device->notify_step = config(slot, at + 16);
        }
    }
    REGISTER(uint8_t, device, 20) = 0;
    REGISTER(uint8_t, device, 20) = 3;
    REGISTER(uint32_t, device, 8) = 1;
    REGISTER(uint32_t, device, 12) = 1;
    REGISTER(uint8_t, device, 20) = 11;
    return REGISTER(uint8_t, device, 20) == 11;
}

static void open_queue(struct device *device, unsigned index, struct queue *queue)
{
    REGISTER(uint16_t, device, 22) = (uint16_t)index;
    REGISTER(uint16_t, device, 24) = QUEUE_SIZE;
    REGISTER(uint64_t, device, 32) = (uint64_t)queue->descriptors;
    REGISTER(uint64_t, device, 40) = (uint64_t)&queue->available;
    REGISTER(uint64_t, device, 48) = (uint64_t)&queue->used;
    REGISTER(uint16_t, device, 28) = 1;
    queue->notify = (volatile uint16_t *)(device->notify + index * device->notify_step);
}

static void describe(struct queue *queue, unsigned index, const void *address, uint32_t length,
                     uint16_t flags)
{
    queue->descriptors[index] =
        (struct descriptor){(uint64_t)address, length, flags, (uint16_t)(index + 1)};
}

static void give(struct queue *queue)
{
    queue->available.ring[queue->available.index % QUEUE_SIZE] = 0;
    __asm__ volatile("" : : : "memory");
    queue->available.index++;
    __asm__ volatile("mfence" : : : "memory");
    *queue->notify = 0;
}

static void wait_for(struct queue *queue)
{
    while (*(volatile uint16_t *)&queue->used.index == queue->seen)
        __asm__ volatile("pause");
    __asm__ volatile("" : : : "memory");
    queue->seen++;
}

static uint32_t call(const uint8_t *code)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < CALLS; i++)
        value = ((uint32_t(*)(void))code)();
    return value;
}

static void overwrite_by_disk(void)
{
    static struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    static uint8_t status;
    struct device device;
    unsigned good = 0;
    if (!open_device(BLK, BAR_WINDOW, &device)) {
        print("no disk\n");
        return;
    }
    open_queue(&device, 0, &disk_queue);
    REGISTER(uint8_t, &device, 20) = 15;
    describe(&disk_queue, 0, &header, sizeof(header), 1);
    describe(&disk_queue, 1, target, 512, 3);
    describe(&disk_queue, 2, &status, 1, 2);
    for (unsigned round = 0; round < ROUNDS; round++) {
        header.sector = round;
        status = 0xFF;
        give(&disk_queue);
        wait_for(&disk_queue);
        good += status == 0 && call(target) == round;
    }
    tell("functions read from the disk", good);
}

// An ARP request whose sender's address is "mov $N, %eax; ret": the answer goes to that address, so the frame begins with it.
static void make_request(uint32_t number)
{
    static const uint8_t head[] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1};
    uint8_t code[6] = {0xB8, (uint8_t)number, 0, 0, 0, 0xC3}, *p = frame + NET_HEADER;
    memset(frame, 0, sizeof(frame));
    memset(p, 0xFF, 6);
    memcpy(p + 6, code, 6);
    memcpy(p + 12, head, sizeof(head));
    memcpy(p + 22, code, 6);
    memcpy(p + 28, (const uint8_t[]){10, 0, 2, 15}, 4);
    memcpy(p + 38, (const uint8_t[]){10, 0, 2, 2}, 4);
}

static void overwrite_by_network(void)
{
    struct device device;
    unsigned good = 0;
    if (!open_device(NET, BAR_WINDOW + 0x100000, &device)) {
        print("no network\n");
        return;
    }
    open_queue(&device, 0, &receive_queue);
    open_queue(&device, 1, &send_queue);
    REGISTER(uint8_t, &device, 20) = 15;
    describe(&receive_queue, 0, target, 2048, 2);
    describe(&send_queue, 0, frame, sizeof(frame), 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        make_request(round + 1);
        give(&receive_queue);
        give(&send_queue);
        wait_for(&send_queue);
        do { // the host may have something of its own to say
            wait_for(&receive_queue);
            if (target[NET_HEADER] != 0xB8)
                give(&receive_queue);
        } while (target[NET_HEADER] != 0xB8);
        good += call(target + NET_HEADER) == round + 1;
    }
    tell("functions received from the network", good);
}

void guest(void)
{
    overwrite_by_disk();
    overwrite_by_network();
}
