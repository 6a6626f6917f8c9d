// SPDX-License-Identifier: Apache-2.0
//
// A virtio console with several named ports (virtio 1.2, 5.3). A guest agent finds its port by name
// (/dev/virtio-ports/NAME); port 0 may be a console of the guest (hvc0).
//
// Behind each port stands a char_backend, with that header's rules: what it does not take the port offers again after
// virtio_console_output_ready(), what the port does not take waits for the back end's `input_wanted`. A port that nobody
// in the guest has open takes no input.
//
// Threads: all functions may be called from any thread.
#ifndef WIRT_MACHINE_VIRTIO_VIRTIO_CONSOLE_H
#define WIRT_MACHINE_VIRTIO_VIRTIO_CONSOLE_H

#include "machine/device/char_backend.h"
#include "machine/virtio/virtio_device.h"

#define VIRTIO_CONSOLE_PORTS_MAX 8u

struct virtio_console_port_params {
    const char *name; // for the guest; copied; NULL: none
    bool console;     // the guest shall use it as a console
    struct char_backend backend;
    // Somebody in the guest opened or closed the port: called without locks. NULL: nobody cares.
    void (*opened)(void *context, bool open);
    void *context;
};

struct virtio_console_params {
    const char *name;
    const struct virtio_console_port_params *ports;
    unsigned port_count; // 1 to VIRTIO_CONSOLE_PORTS_MAX
};

struct virtio_console;

struct virtio_console *virtio_console_create(const struct virtio_environment *environment,
                                             const struct virtio_console_params *params,
                                             struct err *err);
void virtio_console_destroy(struct virtio_console *console); // unplugged; NULL is fine
struct virtio_device *virtio_console_device(struct virtio_console *console);

// Bytes for the guest; returns how many the port took.
size_t virtio_console_input(struct virtio_console *console, unsigned port, const uint8_t *bytes,
                            size_t length);
// The back end can take output again.
void virtio_console_output_ready(struct virtio_console *console, unsigned port);
// Somebody on the host is there (true from the start for consoles, false for other ports). Output of a port without
// anybody is dropped.
void virtio_console_connect(struct virtio_console *console, unsigned port, bool connected);
bool virtio_console_is_open(struct virtio_console *console, unsigned port);

#endif
