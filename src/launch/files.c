// SPDX-License-Identifier: Apache-2.0
#include "launch/files.h"

#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "os/file.h"
#include "os/tap.h"

#define MAX_CHAIN  64 // images of one disk
#define PATH_BYTES 4096

static const char *path_of(const json_t *object, const char *member)
{
    const char *path = json_string_value(json_object_get(object, member));
    return path ? path : "";
}

// The chain's descriptors become the machine's, the images below the first one a list in the configuration.
static int give_chain(const struct launch_files *to, json_t *disk, struct block_chain *chain,
                      struct err *err)
{
    json_t *backing = json_array();
    json_object_set_new(disk, "backing", backing);
    for (size_t i = 0; i < chain->length; i++) {
        // The whole path: it is what later images are told to stand on.
        char real[PATH_BYTES]; // a remote one has its URL only
        bool known = os_file_real_path(chain->image[i].name, real, sizeof(real));
        const char *name = known ? real : chain->image[i].name;
        json_t *object =
            i ? json_pack("{s:s, s:s}", "file", name, "format", chain->image[i].format) : disk;
        if (!i)
            json_object_set_new(disk, "file", json_string(name));
        if (!object)
            return err_set(err, ERR_INPUT, "the backing file's name is not valid UTF-8");
        if (i)
            json_array_append_new(backing, object);
        int fd = chain->image[i].fd;
        chain->image[i].fd = -1;
        if (to->give(to->context, object, "fd", fd, err))
            return -1;
    }
    return 0;
}

// The format is stated, or the suffix tells it; what stands in the file never does, because the guest writes that.
int launch_open_disk(const struct launch_files *to, json_t *disk, struct err *err)
{
    const char *path = path_of(disk, "file");
    const char *format = json_string_value(json_object_get(disk, "format"));
    const struct block_format *suffix = block_format_by_suffix(path);
    if (!format) {
        format = suffix ? suffix->name : "raw";
        json_object_set_new(disk, "format", json_string(format));
    }
    const char *const stated[] = {"", path_of(disk, "backing_folder"), NULL};
    struct block_chain_rules rules = {.format = format,
                                      .read_only = json_is_true(json_object_get(disk, "readonly")),
                                      .allowed = to->backing_folders ? to->backing_folders : stated,
                                      .depth_max = MAX_CHAIN};
    struct block_chain chain;
    if (block_chain_open(&chain, path, &rules, err))
        return -1;
    int rc = give_chain(to, disk, &chain, err);
    if (!rc && chain.status_fd >= 0) {
        rc = to->give(to->context, disk, "status_fd", chain.status_fd, err);
        chain.status_fd = -1;
    }
    block_chain_close(&chain);
    json_t *log = json_object_get(disk, "log");
    unsigned flags = OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_TRUNCATE;
    if (!rc && log)
        rc = to->give(to->context, log, "fd", os_file_open(path_of(log, "file"), flags, err), err);
    return rc;
}

int launch_open_tap(const struct launch_files *to, json_t *net, struct err *err)
{
    const json_t *opened = json_object_get(net, "opened"); // by whoever made it: borrowed
    int fd = opened ? os_file_duplicate((int)json_integer_value(opened))
                    : os_tap_open(path_of(net, "interface"), err);
    if (opened && fd < 0)
        err_set(err, ERR_HOST, "too many files are open");
    json_object_del(net, "opened");
    return to->give(to->context, net, "fd", fd, err);
}
