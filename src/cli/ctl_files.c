// SPDX-License-Identifier: Apache-2.0
//
// The files behind a request. Jobs ask the machine first what the disk is and stands on: a new image gets its size, and the name of what it
// stands on as its own directory has it.
#include "cli/ctl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/files.h"
#include "launch/user_net.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/block_remote.h"
#include "os/file.h"
#include "os/process.h"
#include "os/unix_socket.h"

static const char *text(const json_t *object, const char *member)
{
    const char *value = json_string_value(json_object_get(object, member));
    return value ? value : "";
}

// Remember a descriptor under `member` of `object`. Takes it over.
static int give(struct ctl_files *files, json_t *object, const char *member, int fd,
                struct err *err)
{
    if (fd < 0)
        return -1;
    if (files->count == CTL_FILES_MAX) {
        os_file_close(&fd);
        return err_set(err, ERR_LIMIT, "a request takes %d files at most", CTL_FILES_MAX);
    }
    json_object_set_new(object, member, json_integer((json_int_t)files->count));
    files->fds[files->count++] = fd;
    return 0;
}

// ---- Jobs

// What `disks` tells about the request's disk; borrowed from *answer, which is the caller's.
static json_t *ask_about_disk(int socket, const json_t *request, json_t **answer, struct err *err)
{
    json_t *question = json_pack("{s:s}", "do", "disks"), *disk;
    size_t index;
    *answer = ctl_ask(socket, question, NULL, err);
    json_decref(question);
    json_t *disks = json_object_get(json_object_get(*answer, "ok"), "disks");
    json_array_foreach(disks, index, disk)
    {
        if (strcmp(text(disk, "id"), text(request, "disk")) != 0)
            continue;
        if (!json_object_get(disk, "layers")) {
            err_set(err, ERR_BUSY, "a job is at work on disk %s", text(request, "disk"));
            return NULL;
        }
        return disk;
    }
    if (*answer)
        err_set(err, ERR_NOT_FOUND, "there is no disk %s", text(request, "disk"));
    return NULL;
}

// "b.qcow2" for a file beside the new one, else its whole path.
static const char *name_beside(const char *file, const char *backing)
{
    const char *a = strrchr(file, '/'), *b = strrchr(backing, '/');
    bool beside =
        a && b && a - file == b - backing && !strncmp(file, backing, (size_t)(b - backing));
    return beside ? b + 1 : backing;
}

// The whole path of a file that may not be there yet.
static int whole_path(const char *file, char path[PATH_MAX], struct err *err)
{
    char directory[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    snprintf(directory, sizeof(directory), "%.*s", slash ? (int)(slash - file) + 1 : 1,
             slash ? file : ".");
    if (!os_file_real_path(directory, real, sizeof(real)) ||
        (size_t)snprintf(path, PATH_MAX, "%s/%s", strcmp(real, "/") ? real : "", name) >= PATH_MAX)
        return err_set(err, ERR_NOT_FOUND, "'%s': there is no such directory", file);
    return 0;
}

// What a new image stands on: text and format, empty: nothing.
struct stands_on {
    const char *file, *format;
};

static struct stands_on choose_backing(const json_t *request, const json_t *layers)
{
    const char *command = text(request, "do");
    const json_t *layer = NULL;
    if (!strcmp(command, "disk-snapshot"))
        layer = json_array_get(layers, 0);
    else if (!strcmp(text(request, "scope"), "top"))
        layer = json_array_get(layers, 1);
    if (layer)
        return (struct stands_on){text(layer, "file"), text(layer, "format")};
    return (struct stands_on){text(request, "backing"), ""};
}

static int make_image(json_t *request, const json_t *disk, const char *path,
                      struct ctl_files *files, struct err *err)
{
    struct stands_on on = choose_backing(request, json_object_get(disk, "layers"));
    char backing[PATH_MAX] = "";
    if (on.file[0] && whole_path(on.file, backing, err))
        return -1;
    if (on.file[0] && !on.format[0]) {
        const struct block_format *format = block_format_by_suffix(on.file);
        on.format = format ? format->name : "raw";
    }
    struct block_create create = {
        .format = text(request, "format"),
        .size = (uint64_t)json_integer_value(json_object_get(disk, "size")),
        .backing = backing[0] ? name_beside(path, backing) : NULL,
        .backing_format = backing[0] ? on.format : NULL,
    };
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, err);
    if (fd < 0)
        return -1;
    files->made = strdup(path);
    if (block_lock_take(fd, true, path, err) || block_image_create(fd, path, &create, err)) {
        os_file_close(&fd);
        return -1;
    }
    if (strcmp(text(request, "do"), "disk-snapshot") != 0)
        json_object_set_new(request, "new", json_true());
    return give(files, request, "fd", fd, err);
}

// A remote target is there already.
static int start_remote(json_t *object, const char *url, bool read_only, struct ctl_files *files,
                        struct err *err)
{
    int status, fd = block_remote_start(url, read_only, &status, err);
    if (give(files, object, "fd", fd, err))
        return -1;
    return give(files, object, "status_fd", status, err);
}

static int open_target(json_t *request, const json_t *disk, struct ctl_files *files,
                       struct err *err)
{
    char path[PATH_MAX];
    if (block_is_remote(text(request, "file")) && strcmp(text(request, "do"), "disk-snapshot") != 0)
        return start_remote(request, text(request, "file"), false, files, err);
    const json_t *is_new = json_object_get(request, "new");
    if (whole_path(text(request, "file"), path, err))
        return -1;
    if (!json_object_get(request, "format")) {
        const struct block_format *format = block_format_by_suffix(path);
        bool snapshot = !strcmp(text(request, "do"), "disk-snapshot");
        json_object_set_new(request, "format",
                            json_string(snapshot ? "qcow2"
                                        : format ? format->name
                                                 : "raw"));
    }
    json_object_set_new(request, "file", json_string(path));
    if (!is_new || json_is_true(is_new))
        return make_image(request, disk, path, files, err);
    int fd = os_file_open(path, OS_FILE_WRITE, err);
    if (fd >= 0 && block_lock_take(fd, true, path, err))
        os_file_close(&fd);
    return give(files, request, "fd", fd, err);
}

static int find_layer(const json_t *layers, const char *name, size_t otherwise)
{
    size_t index;
    json_t *layer;
    json_array_foreach(layers, index, layer)
    {
        const char *file = text(layer, "file"), *slash = strrchr(file, '/');
        if (!strcmp(file, name) || (slash && !strcmp(slash + 1, name)))
            return (int)index;
    }
    return name[0] ? -1 : (int)otherwise;
}

// The base is written, and the image above `top` changes what it names: the machine has both open for reading only. It takes the locks itself.
static int open_layers(json_t *request, const json_t *disk, struct ctl_files *files,
                       struct err *err)
{
    const json_t *layers = json_object_get(disk, "layers");
    int top = find_layer(layers, text(request, "top"), 0);
    int base = find_layer(layers, text(request, "base"), (size_t)top + 1);
    if (top < 0 || base <= top || (size_t)base >= json_array_size(layers))
        return err_set(err, ERR_USAGE, "there are no such images in the disk's chain");
    const char *base_file = text(json_array_get(layers, (size_t)base), "file");
    if (give(files, request, "base_fd", os_file_open(base_file, OS_FILE_WRITE, err), err))
        return -1;
    if (top < 2)
        return 0;
    const char *above = text(json_array_get(layers, (size_t)top - 1), "file");
    return give(files, request, "above_fd", os_file_open(above, OS_FILE_WRITE, err), err);
}

// ---- plug

static int give_to_machine(void *files, json_t *object, const char *member, int fd, struct err *err)
{
    return give(files, object, member, fd, err);
}

// Nobody's child: it outlives this command and ends with its card or its machine, whichever goes first.
static int start_detached(void *user, const char *program, char *const words[], const int *fds,
                          size_t count, pid_t *pid, struct err *err)
{
    char path[PATH_MAX];
    (void)user;
    (void)pid;
    if (os_process_find_program(program, path, sizeof(path), err))
        return -1;
    return os_process_start_detached(path, words, fds, count, err);
}

static int open_net(const struct launch_files *to, json_t *net, struct err *err)
{
    const char *kind = text(net, "kind");
    pid_t nobody;
    if (!strcmp(kind, "user") &&
        to->give(to->context, net, "fd",
                 launch_user_net(net, start_detached, NULL, 0, &nobody, err), err))
        return err_wrap(err, "user-mode network");
    if (!strcmp(kind, "tap") && launch_open_tap(to, net, err))
        return err_wrap(err, "tap %s", text(net, "interface"));
    return 0;
}

static int open_plugged(json_t *request, struct ctl_files *files, struct err *err)
{
    const struct launch_files to = {.give = give_to_machine, .context = files};
    json_t *disk = json_object_get(request, "disk"), *net = json_object_get(request, "net");
    if (disk && launch_open_disk(&to, disk, err))
        return err_wrap(err, "%s", text(disk, "file"));
    return net ? open_net(&to, net, err) : 0;
}

int ctl_open_files(int socket, json_t *request, struct ctl_files *files, struct err *err)
{
    const char *command = text(request, "do");
    json_t *answer = NULL;
    bool commit = !strcmp(command, "disk-commit");
    if (!strcmp(command, "plug"))
        return open_plugged(request, files, err);
    if (!commit && strcmp(command, "disk-snapshot") != 0 && strcmp(command, "disk-mirror") != 0 &&
        strcmp(command, "disk-backup") != 0)
        return 0;
    json_t *disk = ask_about_disk(socket, request, &answer, err);
    int rc = -1;
    if (disk)
        rc = commit ? open_layers(request, disk, files, err)
                    : open_target(request, disk, files, err);
    json_object_del(request, "backing");
    json_decref(answer);
    return rc;
}

void ctl_close_files(struct ctl_files *files, bool failed)
{
    while (files->count)
        os_file_close(&files->fds[--files->count]);
    if (failed && files->made)
        os_unix_remove(files->made);
    free(files->made);
    files->made = NULL;
}
