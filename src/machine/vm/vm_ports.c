// SPDX-License-Identifier: Apache-2.0
//
// The named ports of the virtio console: each has a listening socket here, with one connection at a time.
//
// Input waits in a small buffer until the guest takes it, and nothing more is read meanwhile. Output goes straight to the
// connection from the I/O thread; what it does not take stays in the guest's ring until the main loop sees room. The
// guest sees the port as connected while there is a connection. One that its client has left is not always seen to end: it is not watched while its input waits
// for the guest, and it may end in the moment in which the next one comes. So whoever comes next puts an end to it.
#define LOG_MODULE "ports"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "machine/virtio/virtio_console.h"
#include "machine/vm/vm_devices.h"
#include "os/file.h"
#include "os/unix_socket.h"

#define INPUT_BYTES 4096

struct port {
    struct vm_ports *ports;
    unsigned index;
    int listener; // borrowed from the configuration
    // Main loop.
    struct os_loop_watch listen_watch, watch;
    struct os_loop_post input_post, output_post;
    size_t input_used, input_length;
    bool wants_room; // output waits for the connection
    uint8_t input[INPUT_BYTES];
    // Under the lock: the I/O thread writes, the main loop opens and closes.
    pthread_mutex_t lock;
    int fd; // -1: no connection
};

struct vm_ports {
    struct vm *vm;
    struct virtio_console *console;
    unsigned count;
    struct port ports[VM_MAX_PORTS];
};

// ---- Output: on the I/O thread, with the device's lock held

static size_t backend_write(void *context, const uint8_t *bytes, size_t length)
{
    struct port *port = context;
    pthread_mutex_lock(&port->lock);
    ssize_t n = port->fd < 0 ? (ssize_t)length : os_unix_send_ready(port->fd, bytes, length);
    if (n < 0)
        n = errno == EAGAIN ? 0
                            : (ssize_t)length; // the other side is gone: the main loop hears of it
    pthread_mutex_unlock(&port->lock);
    if ((size_t)n < length)
        os_loop_post(port->ports->vm->loop, &port->output_post);
    return (size_t)n;
}

// ---- The connection, on the main loop

static void disconnect(struct port *port)
{
    os_loop_unwatch(port->ports->vm->loop, &port->watch);
    pthread_mutex_lock(&port->lock);
    os_file_close(&port->fd);
    pthread_mutex_unlock(&port->lock);
    port->input_used = port->input_length = 0;
    port->wants_room = false;
    virtio_console_connect(port->ports->console, port->index, false);
}

// A connection of which nothing is wanted is not watched: its end would be reported again and again.
static void update_watch(struct port *port)
{
    struct os_loop *loop = port->ports->vm->loop;
    unsigned events = (port->input_length ? 0 : (unsigned)OS_LOOP_READ) |
                      (port->wants_room ? (unsigned)OS_LOOP_WRITE : 0);
    if (!events)
        os_loop_unwatch(loop, &port->watch);
    else if (port->watch.watched)
        os_loop_watch_change(loop, &port->watch, events);
    else if (os_loop_watch(loop, &port->watch, port->fd, events, NULL))
        disconnect(port);
}

static void watch_output(void *context)
{
    struct port *port = context;
    port->wants_room = port->fd >= 0;
    if (port->wants_room)
        update_watch(port);
    else // no connection any more: what is left is dropped
        virtio_console_output_ready(port->ports->console, port->index);
}

// Hands over what was read; true when all is gone.
static bool deliver(struct port *port)
{
    port->input_used +=
        virtio_console_input(port->ports->console, port->index, port->input + port->input_used,
                             port->input_length - port->input_used);
    if (port->input_used < port->input_length)
        return false;
    port->input_used = port->input_length = 0;
    return true;
}

static void receive(struct port *port)
{
    size_t no_fds;
    ssize_t n = os_unix_receive(port->fd, port->input, sizeof(port->input), NULL, 0, &no_fds);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        disconnect(port);
        return;
    }
    port->input_length = (size_t)n;
    deliver(port);
    update_watch(port);
}

static void ready(void *context, unsigned events)
{
    struct port *port = context;
    if (port->wants_room && events & (OS_LOOP_WRITE | OS_LOOP_HANGUP)) {
        port->wants_room = false;
        update_watch(port);
        virtio_console_output_ready(port->ports->console, port->index);
    }
    if (events & (OS_LOOP_READ | OS_LOOP_HANGUP) && !port->input_length)
        receive(port);
}

static void deliver_more(void *context)
{
    struct port *port = context;
    if (port->fd >= 0 && port->input_length && deliver(port))
        update_watch(port);
}

static void backend_input_wanted(void *context)
{
    struct port *port = context;
    os_loop_post(port->ports->vm->loop, &port->input_post);
}

// What its client said last is for the guest still, as far as that takes it now; nobody waits for an answer.
static void end_left(struct port *port)
{
    if (port->fd < 0 || !os_unix_is_left(port->fd))
        return;
    if (!port->input_length)
        receive(port);
    if (port->fd >= 0)
        disconnect(port);
}

static void accept_connection(void *context, unsigned events)
{
    struct port *port = context;
    struct err err;
    (void)events;
    int fd = os_unix_accept(port->listener, false);
    if (fd < 0)
        return;
    end_left(port);
    if (port->fd >= 0) {
        log_warn("a second connection to port %s was refused",
                 port->ports->vm->config->ports[port->index].name);
        os_file_close(&fd);
        return;
    }
    if (os_loop_watch(port->ports->vm->loop, &port->watch, fd, OS_LOOP_READ, &err)) {
        log_warn("%s", err.text);
        os_file_close(&fd);
        return;
    }
    pthread_mutex_lock(&port->lock);
    port->fd = fd;
    pthread_mutex_unlock(&port->lock);
    virtio_console_connect(port->ports->console, port->index, true);
}

// ---- Making and ending

static const struct char_backend_ops backend_ops = {.write = backend_write,
                                                    .input_wanted = backend_input_wanted};

static void init_port(struct vm_ports *ports, unsigned index)
{
    struct port *port = &ports->ports[index];
    port->ports = ports;
    port->index = index;
    port->listener = ports->vm->config->ports[index].fd;
    port->fd = -1;
    port->listen_watch = (struct os_loop_watch){.ready = accept_connection, .context = port};
    port->watch = (struct os_loop_watch){.ready = ready, .context = port};
    port->input_post = (struct os_loop_post){.function = deliver_more, .context = port};
    port->output_post = (struct os_loop_post){.function = watch_output, .context = port};
    pthread_mutex_init(&port->lock, NULL);
}

static struct virtio_console *create_console(struct vm_ports *ports, const char *id,
                                             struct err *err)
{
    struct vm *vm = ports->vm;
    struct virtio_console_port_params params[VM_MAX_PORTS] = {0};
    for (unsigned i = 0; i < ports->count; i++) {
        params[i].name = vm->config->ports[i].name;
        params[i].backend = (struct char_backend){&backend_ops, &ports->ports[i]};
    }
    return virtio_console_create(
        &vm->devices->environment,
        &(struct virtio_console_params){.name = id, .ports = params, .port_count = ports->count},
        err);
}

// The device is unplugged and quiet, so that no more posts come.
static void destroy_ports(struct vm_device *device)
{
    struct vm_ports *ports = device->behind;
    struct os_loop *loop = device->vm->loop;
    for (unsigned i = 0; i < ports->count; i++) {
        struct port *port = &ports->ports[i];
        os_loop_unwatch(loop, &port->listen_watch);
        os_loop_unwatch(loop, &port->watch);
        os_loop_post_cancel(loop, &port->input_post);
        os_loop_post_cancel(loop, &port->output_post);
        os_file_close(&port->fd);
        pthread_mutex_destroy(&port->lock);
    }
    virtio_console_destroy(ports->console);
    free(ports);
}

static const struct vm_device_ops ports_ops = {.kind = "ports", .destroy = destroy_ports};

static int listen_all(struct vm_ports *ports, struct err *err)
{
    for (unsigned i = 0; i < ports->count; i++)
        if (os_loop_watch(ports->vm->loop, &ports->ports[i].listen_watch, ports->ports[i].listener,
                          OS_LOOP_READ, err))
            return -1;
    return 0;
}

int vm_add_ports(struct vm *vm, struct err *err)
{
    if (!vm->config->port_count)
        return 0;
    if (vm->config->deterministic)
        return err_set(err, ERR_USAGE, "ports: a deterministic machine has none");
    struct vm_device *device = vm_device_create(vm, &ports_ops, "ports", err);
    if (!device)
        return -1;
    struct vm_ports *ports = device->behind = calloc(1, sizeof(*ports));
    if (!ports) {
        free(device);
        return err_set(err, ERR_LIMIT, "out of memory");
    }
    ports->vm = vm;
    ports->count = vm->config->port_count;
    for (unsigned i = 0; i < ports->count; i++)
        init_port(ports, i);
    device->kind = ports->console = create_console(ports, device->id, err);
    if (!ports->console || listen_all(ports, err)) {
        if (ports->console)
            device->virtio = virtio_console_device(ports->console);
        vm_device_destroy(device);
        return err_wrap(err, "ports");
    }
    device->virtio = virtio_console_device(ports->console);
    return vm_device_plug(device, err);
}
