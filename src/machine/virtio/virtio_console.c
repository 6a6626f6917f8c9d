// SPDX-License-Identifier: Apache-2.0
//
// Queues: 0 and 1 carry port 0's input and output, 2 and 3 control messages to and from the driver, 4 and 5 port 1's
// bytes, and so on.
//
// What the driver is to be told stands as bits per port, not as a queue of messages: a message is made from the
// present state when there is a buffer for it, so nothing grows while the driver gives none.
//
// Output that the back end does not take stays in its ring: the chain is popped again later, and `sent` remembers
// how many of its bytes are gone.
#include "machine/virtio/virtio_console.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define LOG_MODULE "virtio-console"
#include "base/log.h"

#define CLASS_SERIAL      0x078000u // simple communication controller, other
#define QUEUE_SIZE        128u
#define CONTROL_TO_DRIVER 2u
#define CONTROL_TO_DEVICE 3u
#define NAME_BYTES        64u
#define ROUND             QUEUE_SIZE

enum feature { FEATURE_MULTIPORT = 1 };

enum event {
    EVENT_DEVICE_READY,
    EVENT_PORT_ADD,
    EVENT_PORT_REMOVE,
    EVENT_PORT_READY,
    EVENT_CONSOLE_PORT,
    EVENT_RESIZE,
    EVENT_PORT_OPEN,
    EVENT_PORT_NAME,
};

// What a port's driver has yet to be told, in this order.
enum tell { TELL_ADD = 1, TELL_CONSOLE = 2, TELL_NAME = 4, TELL_OPEN = 8 };
#define TELL_ALL 15u

struct control {
    uint32_t port;
    uint16_t event;
    uint16_t value;
};

struct config {
    uint16_t columns, rows;
    uint32_t port_count;
    uint32_t emergency_write;
};

struct port {
    char name[NAME_BYTES];
    bool console;
    struct char_backend backend;
    void (*opened)(void *context, bool open);
    void *context;
    bool told_open; // what `opened` was last called with; the loop's
};

struct virtio_console {
    struct virtio_device device;
    struct config config;
    unsigned port_count;
    struct port ports[VIRTIO_CONSOLE_PORTS_MAX];
    // Under the device's lock.
    bool opened_again
        [VIRTIO_CONSOLE_PORTS_MAX]; // in the guest, since report_open(): it may have been closed in between
    // Under the device's lock. Saved.
    bool open[VIRTIO_CONSOLE_PORTS_MAX];      // in the guest
    bool connected[VIRTIO_CONSOLE_PORTS_MAX]; // on the host
    uint8_t tell[VIRTIO_CONSOLE_PORTS_MAX];
    uint32_t sent[VIRTIO_CONSOLE_PORTS_MAX]; // bytes of the next output chain that are gone
};

static unsigned input_queue(unsigned port)
{
    return port ? 2 * port + 2 : 0;
}

static unsigned output_queue(unsigned port)
{
    return input_queue(port) + 1;
}

static bool multiport(const struct virtio_console *console)
{
    return virtio_has(&console->device, BIT(FEATURE_MULTIPORT));
}

static bool is_open(const struct virtio_console *console, unsigned port)
{
    return multiport(console) ? console->open[port] : port == 0;
}

// ---- Control messages to the driver; device lock held

static uint8_t next_tell(struct virtio_console *console, unsigned port, struct control *control)
{
    uint8_t bit = console->tell[port] & (uint8_t)-console->tell[port];
    *control = (struct control){.port = port, .value = 1};
    switch ((enum tell)bit) {
    case TELL_ADD:
        control->event = EVENT_PORT_ADD;
        break;
    case TELL_CONSOLE:
        control->event = EVENT_CONSOLE_PORT;
        break;
    case TELL_NAME:
        control->event = EVENT_PORT_NAME;
        break;
    case TELL_OPEN:
        control->event = EVENT_PORT_OPEN;
        control->value = console->connected[port];
        break;
    }
    return bit;
}

static bool send_control(struct virtio_console *console, const struct control *control)
{
    struct virtqueue *ring = &console->device.queues[CONTROL_TO_DRIVER].ring;
    struct virtq_chain chain;
    if (virtqueue_next(ring, &chain, NULL) <= 0)
        return false;
    uint8_t bytes[sizeof(*control) + NAME_BYTES];
    size_t length = sizeof(*control);
    memcpy(bytes, control, sizeof(*control));
    if (control->event == EVENT_PORT_NAME) {
        size_t name_length = strlen(console->ports[control->port].name);
        memcpy(bytes + length, console->ports[control->port].name, name_length);
        length += name_length;
    }
    virtqueue_push(ring, &chain, virtq_chain_write(&chain, 0, bytes, length));
    return true;
}

static void tell_driver(struct virtio_console *console)
{
    if (!virtio_running(&console->device) || !multiport(console))
        return;
    for (unsigned port = 0; port < console->port_count; port++)
        while (console->tell[port]) {
            struct control control;
            uint8_t bit = next_tell(console, port, &control);
            if (!send_control(console, &control))
                goto out;
            console->tell[port] &= (uint8_t)~bit;
        }
out:
    virtio_queue_interrupt(&console->device.queues[CONTROL_TO_DRIVER]);
}

// ---- Control messages from the driver

static void handle_control(struct virtio_console *console, const struct control *control)
{
    uint32_t port = control->port;
    if (control->event == EVENT_DEVICE_READY) {
        for (unsigned p = 0; control->value && p < console->port_count; p++)
            console->tell[p] = TELL_ADD;
        return;
    }
    if (port >= console->port_count) {
        log_guest("%s: a control message for port %u", console->device.name, port);
        return;
    }
    if (control->event == EVENT_PORT_READY && control->value)
        console->tell[port] |=
            (uint8_t)((console->ports[port].console ? TELL_CONSOLE : 0) |
                      (console->ports[port].name[0] ? TELL_NAME : 0) | TELL_OPEN);
    else if (control->event == EVENT_PORT_OPEN) {
        console->open[port] = control->value;
        console->opened_again[port] |= control->value != 0;
    }
}

static bool process_control(struct virtio_console *console)
{
    struct virtio_queue *queue = &console->device.queues[CONTROL_TO_DEVICE];
    struct virtq_chain chain;
    unsigned budget = ROUND;
    while (virtqueue_next(&queue->ring, &chain, &budget) > 0) {
        struct control control;
        if (virtq_chain_read(&chain, 0, &control, sizeof(control)) == sizeof(control))
            handle_control(console, &control);
        virtqueue_push(&queue->ring, &chain, 0);
    }
    virtio_queue_interrupt(queue);
    tell_driver(console);
    return !budget;
}

// ---- Output

// Offers the chain's bytes behind `sent`; true when all are gone.
static bool offer(struct virtio_console *console, unsigned port, const struct virtq_chain *chain)
{
    struct port *p = &console->ports[port];
    size_t skip = console->sent[port];
    for (unsigned i = 0; i < chain->out_count && console->connected[port]; i++) {
        if (skip >= chain->iov[i].iov_len) {
            skip -= chain->iov[i].iov_len;
            continue;
        }
        size_t length = chain->iov[i].iov_len - skip;
        size_t taken =
            char_backend_write(&p->backend, (const uint8_t *)chain->iov[i].iov_base + skip, length);
        console->sent[port] += (uint32_t)taken;
        if (taken < length)
            return false;
        skip = 0;
    }
    return true;
}

static bool process_output(struct virtio_console *console, unsigned port)
{
    struct virtio_queue *queue = &console->device.queues[output_queue(port)];
    struct virtq_chain chain;
    unsigned budget = ROUND;
    while (virtqueue_next(&queue->ring, &chain, &budget) > 0) {
        if (!offer(console, port, &chain)) {
            virtqueue_unpop(&queue->ring); // until virtio_console_output_ready()
            budget = ROUND;
            break;
        }
        console->sent[port] = 0;
        virtqueue_push(&queue->ring, &chain, 0);
    }
    virtio_queue_interrupt(queue);
    return !budget;
}

// ---- Input

// Into one chain; returns how many bytes went.
static size_t fill(struct virtqueue *ring, const uint8_t *bytes, size_t length)
{
    struct virtq_chain chain;
    if (virtqueue_next(ring, &chain, NULL) <= 0)
        return 0;
    size_t n = virtq_chain_write(&chain, 0, bytes, length);
    virtqueue_push(ring, &chain, n);
    return n;
}

size_t virtio_console_input(struct virtio_console *console, unsigned port, const uint8_t *bytes,
                            size_t length)
{
    struct virtio_device *device = &console->device;
    struct virtio_queue *queue = &device->queues[input_queue(port)];
    size_t taken = 0, n;
    assert(port < console->port_count);
    virtio_lock(device);
    if (virtio_running(device) && queue->ring.enabled && is_open(console, port)) {
        while (taken < length && (n = fill(&queue->ring, bytes + taken, length - taken)) > 0)
            taken += n;
        if (queue->ring.broken)
            virtio_device_break(device, NULL);
        virtio_queue_interrupt(queue);
    }
    virtio_unlock(device);
    return taken;
}

// ---- The device

static bool process(void *self, unsigned index)
{
    struct virtio_console *console = self;
    if (index == CONTROL_TO_DEVICE)
        return process_control(console);
    if (index == CONTROL_TO_DRIVER) {
        tell_driver(console);
        return false;
    }
    unsigned port = index < 2 ? 0 : index / 2 - 1;
    return index % 2 ? process_output(console, port) : false;
}

static void report_open(struct virtio_console *console)
{
    for (unsigned i = 0; i < console->port_count; i++) {
        struct port *port = &console->ports[i];
        virtio_lock(&console->device);
        bool open = is_open(console, i), changed = open != port->told_open;
        bool again = console->opened_again[i];
        console->opened_again[i] = false;
        port->told_open = open;
        virtio_unlock(&console->device);
        if (changed && port->opened)
            port->opened(port->context, open);
        if ((changed || again) && open)
            char_backend_want_input(&port->backend);
    }
}

static void processed(void *self, unsigned index)
{
    struct virtio_console *console = self;
    if (index == CONTROL_TO_DEVICE || index == CONTROL_TO_DRIVER)
        report_open(console);
    else if (index % 2 == 0) // new room for input
        char_backend_want_input(&console->ports[index ? index / 2 - 1 : 0].backend);
}

static void stop(void *self)
{
    struct virtio_console *console = self;
    memset(console->open, 0, sizeof(console->open));
    memset(console->tell, 0, sizeof(console->tell));
    memset(console->sent, 0, sizeof(console->sent));
}

static const struct virtio_ops ops = {.process = process, .processed = processed, .stop = stop};

static const struct field fields[] = {
    FIELD_RANGE(FIELD_TYPE_BOOL, struct virtio_console, open, VIRTIO_CONSOLE_PORTS_MAX, 0, 1),
    FIELD_RANGE(FIELD_TYPE_BOOL, struct virtio_console, connected, VIRTIO_CONSOLE_PORTS_MAX, 0, 1),
    FIELD_RANGE(FIELD_TYPE_U8, struct virtio_console, tell, VIRTIO_CONSOLE_PORTS_MAX, 0, TELL_ALL),
    FIELD_U32S(struct virtio_console, sent),
};

static const struct device_ops device_ops = {
    .kind = "virtio-console",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
};

void virtio_console_output_ready(struct virtio_console *console, unsigned port)
{
    assert(port < console->port_count);
    virtio_device_poke(&console->device, output_queue(port));
}

void virtio_console_connect(struct virtio_console *console, unsigned port, bool connected)
{
    assert(port < console->port_count);
    virtio_lock(&console->device);
    if (console->connected[port] != connected) {
        console->connected[port] = connected;
        console->tell[port] |= TELL_OPEN;
    }
    virtio_unlock(&console->device);
    virtio_device_poke(&console->device, CONTROL_TO_DRIVER);
    virtio_device_poke(&console->device, output_queue(port));
}

bool virtio_console_is_open(struct virtio_console *console, unsigned port)
{
    assert(port < console->port_count);
    virtio_lock(&console->device);
    bool open = is_open(console, port);
    virtio_unlock(&console->device);
    return open;
}

// ---- Making

static void init_ports(struct virtio_console *console, const struct virtio_console_params *params)
{
    console->port_count = params->port_count;
    console->config.port_count = params->port_count;
    for (unsigned i = 0; i < params->port_count; i++) {
        const struct virtio_console_port_params *from = &params->ports[i];
        struct port *port = &console->ports[i];
        snprintf(port->name, sizeof(port->name), "%s", from->name ? from->name : "");
        port->console = from->console;
        port->backend = from->backend;
        port->opened = from->opened;
        port->context = from->context;
        console->connected[i] = from->console;
    }
}

struct virtio_console *virtio_console_create(const struct virtio_environment *environment,
                                             const struct virtio_console_params *params,
                                             struct err *err)
{
    if (!params->port_count || params->port_count > VIRTIO_CONSOLE_PORTS_MAX) {
        err_set(err, ERR_USAGE, "%s: a console has 1 to %u ports", params->name,
                VIRTIO_CONSOLE_PORTS_MAX);
        return NULL;
    }
    struct virtio_console *console = calloc(1, sizeof(*console));
    if (!console) {
        err_set_errno(err, ENOMEM, "%s", params->name);
        return NULL;
    }
    init_ports(console, params);
    uint16_t sizes[VIRTIO_QUEUES_MAX];
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        sizes[i] = QUEUE_SIZE;
    struct virtio_setup setup = {
        .name = params->name,
        .kind = VIRTIO_CONSOLE,
        .class_code = CLASS_SERIAL,
        .ops = &ops,
        .self = console,
        .features = BIT(FEATURE_MULTIPORT),
        .queue_count = 2 * params->port_count + 2,
        .queue_sizes = sizes,
        .config = &console->config,
        .config_length = sizeof(console->config),
        .device_ops = &device_ops,
    };
    if (virtio_device_init(&console->device, environment, &setup, err) < 0) {
        free(console);
        return NULL;
    }
    return console;
}

void virtio_console_destroy(struct virtio_console *console)
{
    if (!console)
        return;
    virtio_device_quiesce(&console->device);
    virtio_device_fini(&console->device);
    free(console);
}

struct virtio_device *virtio_console_device(struct virtio_console *console)
{
    return &console->device;
}
