// SPDX-License-Identifier: Apache-2.0
//
// The life of a device:
//
//     reset --ACKNOWLEDGE, DRIVER--> features chosen --FEATURES_OK--> queues set up --DRIVER_OK--> running
//       ^                                                                                          |
//       +------ nothing in flight ------ resetting <------ status 0, from anywhere ----------------+
//
// In "running" a broken queue or a senseless request sets NEEDS_RESET, after which only a reset helps.
#include "machine/virtio/virtio_device.h"

#include <assert.h>
#include <stdio.h>

#include "base/bits.h"
#include "os/event_counter.h"
#include "os/file.h"

#define LOG_MODULE "virtio"
#include "base/log.h"

#define COMMON_FEATURES (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

void virtio_lock(struct virtio_device *device)
{
    pthread_mutex_lock(&device->lock);
}

void virtio_unlock(struct virtio_device *device)
{
    pthread_mutex_unlock(&device->lock);
}

bool virtio_running(const struct virtio_device *device)
{
    return (device->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET)) ==
               VIRTIO_STATUS_DRIVER_OK &&
           !device->resetting && !device->paused;
}

void virtio_device_break(struct virtio_device *device, const char *why)
{
    if (why && !(device->status & VIRTIO_STATUS_NEEDS_RESET))
        log_guest("%s: %s; the device needs a reset", device->name, why);
    if (device->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    device->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (device->status & VIRTIO_STATUS_DRIVER_OK)
        virtio_pci_interrupt(device, device->config_vector, VIRTIO_INTERRUPT_CONFIG);
}

void virtio_config_changed(struct virtio_device *device)
{
    device->config_generation++;
    if (device->status & VIRTIO_STATUS_DRIVER_OK && !device->resetting)
        virtio_pci_interrupt(device, device->config_vector, VIRTIO_INTERRUPT_CONFIG);
}

void virtio_queue_interrupt(struct virtio_queue *queue)
{
    struct virtio_device *device = queue->device;
    if (queue->ring.broken)
        virtio_device_break(device, NULL); // the queue has said why
    if (!(device->status & VIRTIO_STATUS_DRIVER_OK) || device->resetting)
        return; // what was pushed is for nobody
    if (virtqueue_publish(&queue->ring))
        virtio_pci_interrupt(queue->device, queue->ring.vector, VIRTIO_INTERRUPT_QUEUE);
}

// ---- Queues

static bool process_locked(struct virtio_queue *queue)
{
    struct virtio_device *device = queue->device;
    if (!virtio_running(device) || !queue->ring.enabled)
        return false;
    bool again = device->setup.ops->process(device->setup.self, queue->index);
    if (queue->ring.broken)
        virtio_device_break(device, NULL);
    return again && virtio_running(device);
}

// One round; true when there is more to do.
static bool process_round(struct virtio_queue *queue)
{
    struct virtio_device *device = queue->device;
    virtio_lock(device);
    bool again = process_locked(queue);
    virtio_unlock(device);
    if (device->setup.ops->processed)
        device->setup.ops->processed(device->setup.self, queue->index);
    return again;
}

static void process_on_loop(void *context)
{
    struct virtio_queue *queue = context;
    if (process_round(queue))
        os_loop_post(queue->device->environment.loop, &queue->post);
}

void virtio_notify(struct virtio_device *device, unsigned queue)
{
    if (queue >= device->setup.queue_count)
        return;
    if (device->environment.loop)
        os_loop_post(device->environment.loop, &device->queues[queue].post);
    else
        while (process_round(&device->queues[queue]))
            ; // a guest that adds requests for ever keeps only its own vCPU here
}

void virtio_device_poke(struct virtio_device *device, unsigned queue)
{
    virtio_notify(device, queue);
}

// Lock held.
static void poke_all(struct virtio_device *device)
{
    if (!device->environment.loop) {
        device->process_pending = true;
        return;
    }
    for (unsigned i = 0; i < device->setup.queue_count; i++)
        if (device->queues[i].ring.enabled)
            os_loop_post(device->environment.loop, &device->queues[i].post);
}

void virtio_process_pending(struct virtio_device *device)
{
    if (device->environment.loop)
        return;
    virtio_lock(device);
    bool pending = device->process_pending;
    device->process_pending = false;
    virtio_unlock(device);
    for (unsigned i = 0; pending && i < device->setup.queue_count; i++)
        virtio_notify(device, i);
}

// ---- Status

static void start_queues(struct virtio_device *device)
{
    for (unsigned i = 0; i < device->setup.queue_count; i++) {
        struct virtqueue *ring = &device->queues[i].ring;
        if (!ring->enabled)
            continue;
        virtqueue_start(ring, virtio_has(device, VIRTIO_F_INDIRECT_DESC),
                        virtio_has(device, VIRTIO_F_EVENT_IDX));
        if (ring->broken)
            virtio_device_break(device, NULL);
    }
}

static void start(struct virtio_device *device)
{
    device->status |= VIRTIO_STATUS_DRIVER_OK;
    start_queues(device);
    if (device->setup.ops->started)
        device->setup.ops->started(device->setup.self);
    poke_all(device);
}

static void finish_reset(struct virtio_device *device)
{
    device->resetting = false;
    device->status = 0;
    device->interrupt_status = 0;
    device->config_vector = 0xFFFF;
    device->queue_select = 0;
    device->device_feature_select = device->driver_feature_select = 0;
    device->driver_features = 0;
    for (unsigned i = 0; i < device->setup.queue_count; i++)
        virtqueue_reset(&device->queues[i].ring);
    virtio_pci_reset(device);
}

static void begin_reset(struct virtio_device *device)
{
    if (device->resetting)
        return;
    device->resetting = true;
    if (device->setup.ops->stop && device->status & VIRTIO_STATUS_DRIVER_OK)
        device->setup.ops->stop(device->setup.self);
    if (!device->in_flight)
        finish_reset(device);
}

static bool features_acceptable(const struct virtio_device *device)
{
    uint64_t offered = device->setup.features;
    return !(device->driver_features & ~offered) && device->driver_features & VIRTIO_F_VERSION_1;
}

void virtio_set_status(struct virtio_device *device, uint8_t status)
{
    if (status == 0) {
        begin_reset(device);
        return;
    }
    if (device->resetting)
        return; // it was to wait until the status reads 0
    if (status & VIRTIO_STATUS_FEATURES_OK && !(device->status & VIRTIO_STATUS_FEATURES_OK) &&
        !features_acceptable(device))
        status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    bool starts = status & VIRTIO_STATUS_DRIVER_OK && !(device->status & VIRTIO_STATUS_DRIVER_OK);
    if (starts && !(status & VIRTIO_STATUS_FEATURES_OK)) {
        log_guest("%s: a driver without VIRTIO_F_VERSION_1, or one that skipped FEATURES_OK",
                  device->name);
        starts = false;
    }
    const uint8_t known = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                          VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED;
    device->status |= status & known; // bits are never cleared but by reset
    if (starts)
        start(device);
}

// ---- In flight

void virtio_device_begin(struct virtio_device *device)
{
    device->in_flight++;
}

void virtio_device_done(struct virtio_device *device)
{
    assert(device->in_flight);
    if (--device->in_flight)
        return;
    if (device->resetting)
        finish_reset(device);
    pthread_cond_broadcast(&device->idle);
}

void virtio_device_held(struct virtio_device *device)
{
    pthread_cond_broadcast(&device->idle);
}

// `but_held`: leave out those that wait for whoever controls the machine, which may be the caller.
static void wait_idle(struct virtio_device *device, bool but_held)
{
    const struct virtio_ops *ops = device->setup.ops;
    while (device->in_flight > (but_held && ops->held ? ops->held(device->setup.self) : 0))
        pthread_cond_wait(&device->idle, &device->lock);
}

void virtio_device_pause(struct virtio_device *device)
{
    virtio_lock(device);
    device->paused++;
    wait_idle(device, true);
    virtio_unlock(device);
}

void virtio_device_resume(struct virtio_device *device)
{
    virtio_lock(device);
    assert(device->paused);
    if (!--device->paused && virtio_running(device))
        poke_all(device);
    virtio_unlock(device);
    virtio_process_pending(device);
}

// ---- Doorbells: an event counter a queue, watched by the loop. Without one (too many files) the notification comes by the BAR's handler.

static void bell_rang(void *context, unsigned events)
{
    struct virtio_queue *queue = context;
    (void)events;
    os_event_counter_clear(queue->device->bells[queue->index].fd);
    process_on_loop(queue);
}

static void make_bells(struct virtio_device *device)
{
    for (unsigned i = 0; i < device->setup.queue_count; i++) {
        int fd = os_event_counter_open();
        if (fd < 0)
            return;
        device->queues[i].bell =
            (struct os_loop_watch){.ready = bell_rang, .context = &device->queues[i]};
        device->bells[i].fd = fd;
        device->bell_count = i + 1;
    }
}

// On the loop's thread. One that cannot be watched, and those behind it, do not become doorbells.
static void hang_bells(void *context)
{
    struct virtio_device *device = context;
    struct err err;
    unsigned hung = 0;
    while (hung < device->bell_count &&
           !os_loop_watch(device->environment.loop, &device->queues[hung].bell,
                          device->bells[hung].fd, OS_LOOP_READ, &err))
        hung++;
    for (unsigned i = hung; i < device->bell_count; i++)
        os_file_close(&device->bells[i].fd);
    device->bell_count = hung;
}

static void unhang_bells(void *context)
{
    struct virtio_device *device = context;
    for (unsigned i = 0; i < device->bell_count; i++)
        os_loop_unwatch(device->environment.loop, &device->queues[i].bell);
}

void virtio_device_quiesce(struct virtio_device *device)
{
    virtio_lock(device);
    device->paused++;
    wait_idle(device, false);
    virtio_unlock(device);
    if (device->bell_count)
        os_loop_call(device->environment.loop, unhang_bells, device);
    if (device->environment.loop)
        for (unsigned i = 0; i < device->setup.queue_count; i++)
            os_loop_post_cancel(device->environment.loop, &device->queues[i].post);
}

// ---- Machine reset and saved state

static void device_reset(void *self)
{
    struct virtio_device *device = self;
    virtio_lock(device);
    begin_reset(device);
    wait_idle(device, false);
    virtio_unlock(device);
}

static int device_check(const void *self, struct err *err)
{
    const struct virtio_device *device = self;
    if (device->driver_features & ~device->setup.features)
        return err_set(err, ERR_INPUT, "%s was saved with features that it does not offer here",
                       device->name);
    return 0;
}

static void device_loaded(void *self)
{
    struct virtio_device *device = self;
    virtio_lock(device);
    virtio_pci_loaded(device);
    virtio_unlock(device);
}

static const struct field fields[] = {
    FIELD_U8(struct virtio_device, status),
    FIELD_U8(struct virtio_device, interrupt_status),
    FIELD_U8(struct virtio_device, config_generation),
    FIELD_U16(struct virtio_device, config_vector),
    FIELD_U16(struct virtio_device, queue_select),
    FIELD_U32(struct virtio_device, device_feature_select),
    FIELD_U32(struct virtio_device, driver_feature_select),
    FIELD_U64(struct virtio_device, driver_features),
};

static const struct device_ops device_ops = {
    .kind = "virtio",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = device_reset,
    .check = device_check,
    .loaded = device_loaded,
};

// ---- Making

static void link_device(struct virtio_device *device, struct device *section)
{
    section->next = *device->environment.devices;
    *device->environment.devices = section;
}

static void unlink_device(struct virtio_device *device, struct device *section)
{
    struct device **at = device->environment.devices;
    while (*at && *at != section)
        at = &(*at)->next;
    if (*at)
        *at = section->next;
}

static void init_queue(struct virtio_device *device, unsigned index)
{
    struct virtio_queue *queue = &device->queues[index];
    queue->device = device;
    queue->index = index;
    queue->post.function = process_on_loop;
    queue->post.context = queue;
    snprintf(queue->name, sizeof(queue->name), "%.30s.queue%u", device->name, index);
    virtqueue_init(&queue->ring, device->environment.memory, queue->name,
                   device->setup.queue_sizes[index]);
    link_device(device, &queue->ring.device);
}

int virtio_device_init(struct virtio_device *device, const struct virtio_environment *environment,
                       const struct virtio_setup *setup, struct err *err)
{
    if (setup->queue_count > VIRTIO_QUEUES_MAX)
        return err_set(err, ERR_USAGE, "%s: %u queues are more than %u", setup->name,
                       setup->queue_count, VIRTIO_QUEUES_MAX);
    device->environment = *environment;
    device->setup = *setup;
    device->setup.features |= COMMON_FEATURES;
    snprintf(device->name, sizeof(device->name), "%s", setup->name);
    device->setup.name = device->name;
    device->config_vector = 0xFFFF;
    pthread_mutex_init(&device->lock, NULL);
    pthread_cond_init(&device->idle, NULL);
    device->device = (struct device){.ops = &device_ops, .name = device->name, .self = device};
    link_device(device, &device->device);
    if (setup->device_ops) {
        device->kind_device =
            (struct device){.ops = setup->device_ops, .name = device->name, .self = setup->self};
        link_device(device, &device->kind_device);
    }
    for (unsigned i = 0; i < setup->queue_count; i++)
        init_queue(device, i);
    if (environment->doorbells && environment->loop)
        make_bells(device);
    if (device->bell_count)
        os_loop_call(environment->loop, hang_bells, device);
    virtio_pci_init(device);
    return 0;
}

void virtio_device_fini(struct virtio_device *device)
{
    assert(!device->in_flight);
    for (unsigned i = 0; i < device->bell_count; i++)
        os_file_close(&device->bells[i].fd);
    for (unsigned i = 0; i < device->setup.queue_count; i++)
        unlink_device(device, &device->queues[i].ring.device);
    if (device->setup.device_ops)
        unlink_device(device, &device->kind_device);
    unlink_device(device, &device->device);
    pci_function_fini(&device->pci);
    pthread_cond_destroy(&device->idle);
    pthread_mutex_destroy(&device->lock);
}
