// SPDX-License-Identifier: Apache-2.0
//
// What the processes behind remote disks tell: the connection is lost, or there again. They hold the disk's requests back meanwhile; nothing is done
// here but to tell it on, and to tell them when the disk's end is waited for. Main thread.
#define LOG_MODULE "vm"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/vm/vm_devices.h"
#include "os/file.h"
#include "os/unix_socket.h"

#define WORD_BYTES 512

struct vm_remote {
    struct vm *vm;
    char id[32]; // of the disk
    struct os_loop_watch watch;
    int fd; // owned
    struct vm_remote *next;
};

static void destroy(struct vm_remote *remote)
{
    struct vm_remote **link = &remote->vm->remotes;
    while (*link != remote)
        link = &(*link)->next;
    *link = remote->next;
    os_loop_unwatch(remote->vm->loop, &remote->watch);
    os_file_close(&remote->fd);
    free(remote);
}

static void tell(struct vm_remote *remote, const char *state, const char *reason)
{
    if (!vm_device_find(remote->vm, remote->id))
        return;
    log_warn("disk %s: %s%s%s", remote->id, state, *reason ? ": " : "", reason);
    json_t *members = json_pack("{s:s, s:s}", "id", remote->id, "state", state);
    json_t *why = *reason ? json_string(reason) : NULL; // NULL too when it is not UTF-8
    if (why)
        json_object_set_new(members, "reason", why);
    vm_control_event(remote->vm, "disk-connection", members);
}

static void status_ready(void *context, unsigned events)
{
    struct vm_remote *remote = context;
    char word[WORD_BYTES];
    size_t none;
    (void)events;
    ssize_t n = os_unix_receive(remote->fd, word, sizeof(word) - 1, NULL, 0, &none);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { // it has ended: with the disk, or before it
        tell(remote, "lost", "its process has ended");
        destroy(remote);
        return;
    }
    word[n] = 0;
    if (!strcmp(word, "connected"))
        tell(remote, "connected", "");
    else if (!strncmp(word, "lost ", 5))
        tell(remote, "lost", word + 5);
}

int vm_remote_watch(struct vm *vm, const char *id, int fd, struct err *err)
{
    struct vm_remote *remote = calloc(1, sizeof(*remote));
    if (!remote) {
        os_file_close(&fd);
        return err_set(err, ERR_LIMIT, "out of memory");
    }
    remote->vm = vm;
    remote->fd = fd;
    snprintf(remote->id, sizeof(remote->id), "%s", id);
    (void)block_pool_grow(vm->devices->pool, BLOCK_REMOTE_THREADS); // fewer are slower
    remote->watch = (struct os_loop_watch){.ready = status_ready, .context = remote};
    remote->next = vm->remotes;
    vm->remotes = remote;
    if (os_loop_watch(vm->loop, &remote->watch, fd, OS_LOOP_READ, err)) {
        destroy(remote);
        return -1;
    }
    return 0;
}

void vm_remotes_end(struct vm *vm, const char *id)
{
    static const char word[] = "ending";
    for (struct vm_remote *remote = vm->remotes; remote; remote = remote->next) {
        if (!id || !strcmp(remote->id, id))
            (void)os_unix_send_ready(remote->fd, word, strlen(word));
    }
}

void vm_remotes_destroy(struct vm *vm)
{
    // destroy() takes it off the list: what clang-tidy calls used after free is the next one.
    while (vm->remotes)
        destroy(vm->remotes); // NOLINT(clang-analyzer-unix.Malloc)
}
