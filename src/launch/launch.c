// SPDX-License-Identifier: Apache-2.0
#include "launch/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/files.h"
#include "machine/kvm/kvm_probe.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/kvm.h"
#include "os/memory.h"
#include "os/unix_socket.h"

#define MAX_FDS          256
#define DEFAULT_FIRMWARE "/usr/share/seabios/bios-256k.bin"
#define MAX_NETS         16
#define MAX_PORTS        8

struct launch {
    json_t *config;               // borrowed
    const struct launch_how *how; // borrowed
    int fds[MAX_FDS];             // for wirt-vm, owned
    size_t fd_count;
    pid_t helpers[MAX_NETS]; // wirt-net processes
    size_t helper_count;
    const char
        *sockets[3 + MAX_PORTS]; // paths to remove at the end, borrowed from the configuration
    size_t socket_count;
};

// Remember a descriptor and write its number into the object. Takes the descriptor over.
static int give(struct launch *launch, json_t *object, int fd, struct err *err)
{
    if (fd < 0)
        return -1;
    if (launch->fd_count == MAX_FDS) {
        os_file_close(&fd);
        return err_set(err, ERR_LIMIT, "a machine takes %d files at most", MAX_FDS);
    }
    int first = launch->how->first_number;
    int number = first ? first + (int)launch->fd_count : fd;
    launch->fds[launch->fd_count++] = fd;
    json_object_set_new(object, "fd", json_integer(number));
    return 0;
}

static const char *path_of(const json_t *object, const char *member)
{
    const char *path = json_string_value(json_object_get(object, member));
    return path ? path : "";
}

static int open_read(struct launch *launch, json_t *file, const char *flag, struct err *err)
{
    if (give(launch, file, os_file_open(path_of(file, "file"), 0, err), err))
        return err_wrap(err, "%s %s", flag, path_of(file, "file"));
    return 0;
}

// "FILE words": where no file has the whole name, the words behind the first space are a module's arguments.
static int open_initrd(struct launch *launch, json_t *file, struct err *err)
{
    const char *whole = path_of(file, "file");
    const char *space = strchr(whole, ' ');
    int fd = os_file_open(whole, 0, err);
    if (fd < 0 && space && !json_object_get(file, "arguments")) {
        char *path = strndup(whole, (size_t)(space - whole));
        json_object_set_new(file, "arguments", json_string(space + 1));
        json_object_set_new(file, "file", json_string(path));
        fd = os_file_open(path, 0, err);
        free(path);
    }
    if (give(launch, file, fd, err))
        return err_wrap(err, "--initrd %s", path_of(file, "file"));
    return 0;
}

static int open_boot(struct launch *launch, json_t *config, struct err *err)
{
    json_t *boot = json_object_get(config, "boot");
    if (!boot) {
        boot = json_object();
        json_object_set_new(config, "boot", boot);
    }
    json_t *kernel = json_object_get(boot, "kernel");
    if (kernel && open_read(launch, kernel, "--kernel", err))
        return -1;
    size_t index;
    json_t *initrd;
    json_array_foreach(json_object_get(boot, "initrds"), index,
                       initrd) if (open_initrd(launch, initrd, err)) return -1;
    if (kernel)
        return 0;
    json_t *firmware = json_object_get(boot, "firmware");
    if (!firmware) {
        firmware = json_pack("{s:s}", "file", DEFAULT_FIRMWARE);
        json_object_set_new(boot, "firmware", firmware);
    }
    if (open_read(launch, firmware, "--firmware", err))
        return err_wrap(err, "no --kernel is given and the firmware cannot be read (Debian's "
                             "package seabios has it)");
    return 0;
}

static int give_to_machine(void *context, json_t *object, const char *member, int fd,
                           struct err *err)
{
    json_t *holder = json_object();
    int result = give(context, holder, fd, err);
    json_object_set(object, member, json_object_get(holder, "fd"));
    json_decref(holder);
    return result;
}

static struct launch_files files_of(struct launch *launch)
{
    return (struct launch_files){give_to_machine, launch, launch->how->backing_folders};
}

static int open_disks(struct launch *launch, json_t *config, struct err *err)
{
    const struct launch_files files = files_of(launch);
    size_t index;
    json_t *disk;
    json_array_foreach(json_object_get(config, "disks"), index, disk)
    {
        if (launch_open_disk(&files, disk, err))
            return err_wrap(err, "--disk %s", path_of(disk, "file"));
    }
    return 0;
}

// The file is removed at the end.
static int open_listener(struct launch *launch, json_t *file, const char *member, const char *flag,
                         struct err *err)
{
    const char *path = path_of(file, member);
    if (give(launch, file, os_unix_listen(path, err), err))
        return err_wrap(err, "%s", flag);
    launch->sockets[launch->socket_count++] = path;
    return 0;
}

static int open_console(struct launch *launch, json_t *config, struct err *err)
{
    json_t *console = json_object_get(config, "console");
    if (!console) {
        console = json_pack("{s:s}", "kind", "stdio");
        json_object_set_new(config, "console", console);
    }
    const char *kind = path_of(console, "kind");
    if (launch->how->console) {
        json_object_set_new(console, "kind", json_string("attached"));
        return give(launch, console, launch->how->console, err);
    }
    if (!strcmp(kind, "socket"))
        return open_listener(launch, console, "path", "--console", err);
    if (!strcmp(kind, "file")) {
        if (give(launch, console,
                 os_file_open(path_of(console, "path"),
                              OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_APPEND, err),
                 err))
            return err_wrap(err, "--console file=%s", path_of(console, "path"));
    }
    return 0;
}

static int start_user_net(struct launch *launch, json_t *net, struct err *err)
{
    const struct launch_how *how = launch->how;
    if (launch->helper_count == MAX_NETS)
        return err_set(err, ERR_LIMIT, "a machine takes %d networks at most", MAX_NETS);
    pid_t *pid = &launch->helpers[launch->helper_count];
    int fd = launch_user_net(net, how->start, how->user, how->first_number, pid, err);
    launch->helper_count += *pid != 0;
    return give(launch, net, fd, err);
}

static int open_nets(struct launch *launch, json_t *config, struct err *err)
{
    const struct launch_files files = files_of(launch);
    size_t index;
    json_t *net;
    json_array_foreach(json_object_get(config, "nets"), index, net)
    {
        const char *kind = path_of(net, "kind");
        if (!strcmp(kind, "tap") && launch_open_tap(&files, net, err))
            return err_wrap(err, "--net tap=%s", path_of(net, "interface"));
        if (!strcmp(kind, "user") && start_user_net(launch, net, err))
            return err_wrap(err, "--net user");
    }
    return 0;
}

static int open_sockets(struct launch *launch, json_t *config, struct err *err)
{
    static const struct {
        const char *member, *flag;
    } sockets[] = {{"control", "--control"}, {"gdb", "--gdb"}};
    for (size_t i = 0; i < 2; i++) {
        json_t *file = json_object_get(config, sockets[i].member);
        if (file && open_listener(launch, file, "file", sockets[i].flag, err))
            return -1;
    }
    size_t index;
    json_t *port;
    json_array_foreach(json_object_get(config, "ports"), index, port)
    {
        if (open_listener(launch, port, "path", "--port", err))
            return err_wrap(err, "port %s", path_of(port, "name"));
    }
    return 0;
}

// KVM is only used where a guest has proved it, whether it was asked for or found; the choice is in the configuration from here on. Some wishes only
// the engine fulfils.
static int open_accel(struct launch *launch, json_t *config, struct err *err)
{
    const char *accel = path_of(config, "accel");
    bool asked = !strcmp(accel, "kvm");
    bool engine_only =
        json_is_true(json_object_get(config, "deterministic")) || json_object_get(config, "trace");
    struct kvm_verdict verdict;
    if (!asked && *accel && strcmp(accel, "auto"))
        return 0;
    if (asked && engine_only)
        return err_set(err, ERR_USAGE, "--accel kvm: --deterministic and --trace need the engine");
    if (!asked && engine_only)
        return 0;
    kvm_probe(false, &verdict);
    if (!verdict.usable)
        return asked ? err_set(err, ERR_USAGE, "--accel kvm: KVM is not usable: %s", verdict.text)
                     : 0;
    json_t *file = json_pack("{s:s}", "file", "/dev/kvm");
    json_object_set_new(config, "accel", json_string("kvm"));
    json_object_set_new(config, "kvm", file);
    return give(launch, file, os_kvm_open(err), err);
}

// The configuration as a descriptor: a memfd that holds its text.
static int config_descriptor(const json_t *config, struct err *err)
{
    char *text = json_dumps(config, JSON_COMPACT);
    size_t length = strlen(text);
    int fd = os_memfd_create("wirt-config", length, err);
    if (fd >= 0 && os_pwrite(fd, text, length, 0)) {
        os_file_close(&fd);
        err_set(err, ERR_IO, "cannot write the configuration");
    }
    free(text);
    return fd;
}

int launch_start(struct launch *launch, pid_t *pid, struct err *err)
{
    char number[16];
    json_t *holder = json_object();
    int result = give(launch, holder, config_descriptor(launch->config, err), err);
    snprintf(number, sizeof(number), "%lld", json_integer_value(json_object_get(holder, "fd")));
    json_decref(holder);
    char *const words[] = {(char *)"wirt-vm", (char *)"--config-fd", number, NULL};
    const struct launch_how *how = launch->how;
    return result
               ? result
               : how->start(how->user, "wirt-vm", words, launch->fds, launch->fd_count, pid, err);
}

struct launch *launch_create(json_t *config, const struct launch_how *how)
{
    struct launch *launch = calloc(1, sizeof(*launch));
    if (!launch)
        abort();
    launch->config = config;
    launch->how = how;
    struct os_clock_reading now = os_clock_read();
    json_object_set_new(config, "launched_ns", json_integer((json_int_t)now.ns));
    json_object_set_new(config, "launched_tsc", json_integer((json_int_t)now.tsc));
    return launch;
}

int launch_open(struct launch *launch, struct err *err)
{
    json_t *config = launch->config;
    return open_boot(launch, config, err) || open_disks(launch, config, err) ||
                   open_console(launch, config, err) || open_sockets(launch, config, err) ||
                   open_nets(launch, config, err) || open_accel(launch, config, err)
               ? -1
               : 0;
}

void launch_release(struct launch *launch)
{
    for (size_t i = 0; i < launch->fd_count; i++)
        os_file_close(&launch->fds[i]);
    launch->fd_count = 0;
}

const pid_t *launch_helpers(const struct launch *launch, size_t *count)
{
    *count = launch->helper_count;
    return launch->helpers;
}

void launch_remove_sockets(struct launch *launch)
{
    for (size_t i = 0; i < launch->socket_count; i++)
        os_unix_remove(launch->sockets[i]);
    launch->socket_count = 0;
}

void launch_destroy(struct launch *launch)
{
    if (!launch)
        return;
    launch_release(launch);
    free(launch);
}
