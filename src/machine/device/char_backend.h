// SPDX-License-Identifier: Apache-2.0
//
// What stands behind a character device: a terminal, a file, a socket.
//
// Output: the device offers bytes, the back end takes some. What it did not take the device keeps,
// and offers again when the back end says that it is ready (uart_output_ready()). Input: the back
// end hands bytes to the device (uart_input()), which takes some; the rest stays with the back end
// until `input_wanted`. So nothing is ever lost, and neither side keeps an unbounded buffer.
//
// Threads: `write` is called on any thread with the device's lock held: it must not block for long
// and not call the device. `input_wanted` is called on any thread without locks and may hand over
// bytes at once.
#ifndef WIRT_MACHINE_DEVICE_CHAR_BACKEND_H
#define WIRT_MACHINE_DEVICE_CHAR_BACKEND_H

#include <stddef.h>
#include <stdint.h>

struct char_backend_ops {
    size_t (*write)(void *context, const uint8_t *bytes,
                    size_t length);      // returns how many it took. NULL: all, unseen
    void (*input_wanted)(void *context); // NULL: has no input
};

struct char_backend {
    const struct char_backend_ops *ops;
    void *context;
};

static inline size_t char_backend_write(const struct char_backend *backend, const uint8_t *bytes,
                                        size_t length)
{
    if (!backend->ops || !backend->ops->write)
        return length;
    return backend->ops->write(backend->context, bytes, length);
}

static inline void char_backend_want_input(const struct char_backend *backend)
{
    if (backend->ops && backend->ops->input_wanted)
        backend->ops->input_wanted(backend->context);
}

#endif
