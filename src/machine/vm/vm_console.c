// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "console"
#include "machine/vm/vm_console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/vm/vm_chips.h"
#include "machine/vm/vm_internal.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/stream.h"
#include "os/unix_socket.h"

#define INPUT_BYTES 256
#define MAX_CLIENTS 8

// A reader and writer beside the first one.
struct client {
    struct vm_console *console;
    int fd; // -1: free
    struct os_loop_watch watch;
};

struct vm_console {
    struct vm *vm;

    // Main thread.
    bool started;
    int in_fd; // standard input or the first connection; -1: none
    struct os_loop_watch input_watch, output_watch, listen_watch;
    struct os_loop_post input_post, output_post;
    bool input_polls; // the loop can watch standard input (it is no regular file)
    bool input_ended;
    uint8_t input[INPUT_BYTES];
    size_t input_used, input_length;

    // Under the lock: vCPU threads write to them, the main thread adds and removes them.
    pthread_mutex_t lock;
    int out_fd;         // standard output, the file or the first connection; -1: none
    bool out_is_socket; // the first connection: owned
    struct client clients[MAX_CLIENTS];
};

// ---- Output, on any thread.

static void write_clients(struct vm_console *console, const uint8_t *bytes, size_t length)
{
    pthread_mutex_lock(&console->lock);
    for (unsigned i = 0; i < MAX_CLIENTS; i++)
        if (console->clients[i].fd >= 0 &&
            os_unix_send_ready(console->clients[i].fd, bytes, length) < (ssize_t)length)
            log_guest("a console connection does not keep up: bytes are lost to it");
    pthread_mutex_unlock(&console->lock);
}

// What the first reader takes. Without one, and after it went away, everything is taken: the guest goes on.
static size_t write_out(struct vm_console *console, const uint8_t *bytes, size_t length)
{
    size_t taken = length;
    pthread_mutex_lock(&console->lock);
    if (console->out_fd >= 0) {
        ssize_t n = console->out_is_socket ? os_unix_send_ready(console->out_fd, bytes, length)
                                           : os_stream_write(console->out_fd, bytes, length);
        if (n < 0 && console->out_is_socket && errno == EAGAIN)
            n = 0;
        if (n >= 0)
            taken = (size_t)n;
        else if (!console->out_is_socket)
            console->out_fd = -1;
    }
    pthread_mutex_unlock(&console->lock);
    if (taken < length)
        os_loop_post(console->vm->loop, &console->output_post);
    return taken;
}

static size_t backend_write(void *context, const uint8_t *bytes, size_t length)
{
    struct vm_console *console = context;
    uint64_t none = 0;
    if (!console->vm->first_output_ns)
        atomic_compare_exchange_strong(&console->vm->first_output_ns, &none,
                                       os_clock_monotonic_ns() - console->vm->start_ns);
    size_t taken = write_out(console, bytes, length);
    write_clients(console, bytes, taken);
    return taken;
}

static void output_ready(void *context, unsigned events)
{
    struct vm_console *console = context;
    (void)events;
    os_loop_unwatch(console->vm->loop, &console->output_watch);
    uart_output_ready(console->vm->chips->uart);
}

// The first reader was full: wait for room. A file that cannot be watched always has room.
static void wait_for_room(void *context)
{
    struct vm_console *console = context;
    if (console->output_watch.watched)
        return;
    if (console->out_fd < 0 || os_loop_watch(console->vm->loop, &console->output_watch,
                                             console->out_fd, OS_LOOP_WRITE, NULL))
        uart_output_ready(console->vm->chips->uart);
}

// ---- Input, on the main thread.

// The first connection is gone: whoever attaches next takes its place.
static void drop_first(struct vm_console *console)
{
    os_loop_unwatch(console->vm->loop, &console->input_watch);
    os_loop_unwatch(console->vm->loop, &console->output_watch);
    pthread_mutex_lock(&console->lock);
    os_file_close(&console->out_fd);
    console->out_is_socket = false;
    pthread_mutex_unlock(&console->lock);
    console->in_fd = -1;
    console->input_used = console->input_length = 0;
    if (console->started)
        uart_output_ready(console->vm->chips->uart);
}

// The end of the input is not the end of the guest.
static void end_input(struct vm_console *console)
{
    if (console->out_is_socket) {
        drop_first(console);
        return;
    }
    console->input_ended = true;
    os_loop_unwatch(console->vm->loop, &console->input_watch);
}

// True: all that was read is handed over. Else the guest takes no more now, and input_wanted follows.
static bool deliver_input(struct vm_console *console)
{
    size_t length = console->input_length - console->input_used;
    console->input_used +=
        uart_input(console->vm->chips->uart, console->input + console->input_used, length);
    return console->input_used == console->input_length;
}

static void read_input(struct vm_console *console)
{
    while (console->in_fd >= 0 && !console->input_ended) {
        if (!deliver_input(console)) {
            os_loop_unwatch(console->vm->loop, &console->input_watch);
            return;
        }
        ssize_t n = os_stream_read(console->in_fd, console->input, sizeof(console->input));
        console->input_used = 0;
        console->input_length = n > 0 ? (size_t)n : 0;
        if (n == 0 || (n < 0 && n != -EAGAIN)) {
            end_input(console);
            return;
        }
        if (n < 0)
            break;
    }
    if (console->input_polls && console->in_fd >= 0 && !console->input_watch.watched)
        os_loop_watch(console->vm->loop, &console->input_watch, console->in_fd, OS_LOOP_READ, NULL);
}

static void input_ready(void *context, unsigned events)
{
    (void)events;
    read_input(context);
}

static void input_posted(void *context)
{
    struct vm_console *console = context;
    if (console->started)
        read_input(console);
}

static void backend_input_wanted(void *context)
{
    struct vm_console *console = context;
    os_loop_post(console->vm->loop, &console->input_post);
}

// ---- Connections.

static void client_close(struct client *client)
{
    struct vm_console *console = client->console;
    os_loop_unwatch(console->vm->loop, &client->watch);
    pthread_mutex_lock(&console->lock);
    os_file_close(&client->fd);
    pthread_mutex_unlock(&console->lock);
}

static void client_ready(void *context, unsigned events)
{
    struct client *client = context;
    uint8_t bytes[INPUT_BYTES];
    size_t ignored;
    (void)events;
    ssize_t n = os_unix_receive(client->fd, bytes, sizeof(bytes), NULL, 0, &ignored);
    if (n <= 0) {
        client_close(client);
        return;
    }
    if (uart_input(client->console->vm->chips->uart, bytes, (size_t)n) < (size_t)n)
        log_guest("the guest does not read its console: input of a connection is lost");
}

// Nobody reads the console: this connection is the first one, which is waited for as standard output is.
static void attach_first(struct vm_console *console, int fd)
{
    pthread_mutex_lock(&console->lock);
    console->out_fd = fd;
    console->out_is_socket = true;
    pthread_mutex_unlock(&console->lock);
    console->in_fd = fd;
    console->input_ended = false;
    console->input_polls = true;
    if (console->started)
        os_loop_post(console->vm->loop, &console->input_post);
}

int vm_console_attach(struct vm *vm, int fd, struct err *err)
{
    struct vm_console *console = vm->console;
    if (console->out_fd < 0 && console->in_fd < 0) {
        attach_first(console, fd);
        return 0;
    }
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        struct client *client = &console->clients[i];
        if (client->fd >= 0)
            continue;
        client->watch = (struct os_loop_watch){.ready = client_ready, .context = client};
        pthread_mutex_lock(&console->lock);
        client->fd = fd;
        pthread_mutex_unlock(&console->lock);
        if (!os_loop_watch(vm->loop, &client->watch, fd, OS_LOOP_READ, err))
            return 0;
        client_close(client);
        return -1;
    }
    os_file_close(&fd);
    return err_set(err, ERR_LIMIT, "the console has %d connections already", MAX_CLIENTS);
}

static void listen_ready(void *context, unsigned events)
{
    struct vm_console *console = context;
    struct err err;
    (void)events;
    int fd = os_unix_accept(console->vm->config->console_fd, false);
    if (fd >= 0 && vm_console_attach(console->vm, fd, &err))
        log_warn("%s", err.text);
}

// ---- Making and ending.

static const struct char_backend_ops backend_ops = {.write = backend_write,
                                                    .input_wanted = backend_input_wanted};
static const struct char_backend_ops debug_ops = {.write = backend_write};

struct char_backend vm_console_backend(struct vm *vm)
{
    return (struct char_backend){&backend_ops, vm->console};
}

struct char_backend vm_console_debug_backend(struct vm *vm)
{
    return (struct char_backend){&debug_ops, vm->console};
}

int vm_console_create(struct vm *vm, struct err *err)
{
    struct vm_console *console = vm->console = calloc(1, sizeof(*console));
    if (!console)
        return err_set(err, ERR_LIMIT, "out of memory");
    console->vm = vm;
    enum vm_console_kind kind = vm->config->console;
    console->in_fd = kind == VM_CONSOLE_STDIO ? 0 : -1;
    console->out_fd = kind == VM_CONSOLE_STDIO  ? 1
                      : kind == VM_CONSOLE_FILE ? vm->config->console_fd
                                                : -1;
    pthread_mutex_init(&console->lock, NULL);
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        console->clients[i].fd = -1;
        console->clients[i].console = console;
    }
    console->input_watch = (struct os_loop_watch){.ready = input_ready, .context = console};
    console->output_watch = (struct os_loop_watch){.ready = output_ready, .context = console};
    console->listen_watch = (struct os_loop_watch){.ready = listen_ready, .context = console};
    console->input_post = (struct os_loop_post){.function = input_posted, .context = console};
    console->output_post = (struct os_loop_post){.function = wait_for_room, .context = console};
    if (kind == VM_CONSOLE_ATTACHED)
        attach_first(console, vm->config->console_fd);
    if (kind == VM_CONSOLE_SOCKET)
        return os_loop_watch(vm->loop, &console->listen_watch, vm->config->console_fd, OS_LOOP_READ,
                             err);
    return 0;
}

void vm_console_start(struct vm *vm)
{
    struct vm_console *console = vm->console;
    console->started = true;
    if (console->in_fd < 0)
        return;
    // A regular file cannot be watched: it is read whenever the guest takes more.
    console->input_polls =
        !os_loop_watch(vm->loop, &console->input_watch, console->in_fd, OS_LOOP_READ, NULL);
    if (!console->input_polls)
        os_loop_post(vm->loop, &console->input_post);
}

void vm_console_destroy(struct vm *vm)
{
    struct vm_console *console = vm->console;
    if (!console)
        return;
    for (unsigned i = 0; i < MAX_CLIENTS; i++)
        if (console->clients[i].fd >= 0)
            client_close(&console->clients[i]);
    os_loop_unwatch(vm->loop, &console->input_watch);
    os_loop_unwatch(vm->loop, &console->output_watch);
    os_loop_unwatch(vm->loop, &console->listen_watch);
    if (console->out_is_socket)
        os_file_close(&console->out_fd);
    pthread_mutex_destroy(&console->lock);
    free(console);
    vm->console = NULL;
}
