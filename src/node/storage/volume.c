// SPDX-License-Identifier: Apache-2.0
//
// Guests' volumes: images made, copied and changed through machine/block. Every file is preceded by its record in state `making`.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/block/block_copy.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "node/storage/storage_internal.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"

#define SUFFIX_TRIES 1000
#define CHAIN_MAX    64

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

// ---- Making.

// Chooses a free name and records it.
static int claim(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                 json_t *record, char volid[VOLUME_ID_BYTES], struct err *err)
{
    char key[VOLUME_ID_BYTES + 16], name[64];
    const char *format = json_string_value(json_object_get(record, "format"));
    int result = -1;
    pthread_mutex_lock(&storage->name_lock);
    for (unsigned n = 0; n < SUFFIX_TRIES && result; n++) {
        if (suffix)
            snprintf(name, sizeof(name), "%s", suffix);
        else
            snprintf(name, sizeof(name), "disk-%u", n);
        snprintf(volid, VOLUME_ID_BYTES, "%s:%lld/vm-%lld-%s.%s", store_id, (long long)vmid,
                 (long long)vmid, name, format);
        volume_key(volid, key);
        struct store_txn txn;
        store_txn_begin(&txn);
        store_expect(&txn, key, 0);
        store_put(&txn, key, json_incref(record));
        result = store_commit(storage->store, &txn, err);
        if (result && (err->code != ERR_BUSY || suffix))
            break;
    }
    pthread_mutex_unlock(&storage->name_lock);
    json_decref(record);
    return result;
}

static json_t *new_record(int64_t vmid, const char *format, uint64_t size)
{
    return json_pack("{s:s, s:I, s:s, s:I, s:I}", "state", "making", "vmid", (json_int_t)vmid,
                     "format", format, "size", (json_int_t)size, "ctime", (json_int_t)now_s());
}

static int new_file(struct storage *storage, const char *volid, int64_t vmid,
                    const struct block_create *create, struct err *err)
{
    char path[VOLUME_PATH_BYTES], folder[VOLUME_PATH_BYTES];
    if (volume_path(storage, volid, path, NULL, err))
        return -1;
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = 0;
    if (os_directory_make_all(folder, 0750, err))
        return -1;
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, err);
    if (fd < 0)
        return -1;
    int result = block_image_create(fd, volid, create, err);
    if (!result && os_fdatasync(fd))
        result = err_set(err, ERR_IO, "volume '%s' cannot be written", volid);
    os_file_close(&fd);
    os_directory_sync(folder);
    return result;
}

static int check_format(const char *format, struct err *err)
{
    if (!strcmp(format, "qcow2") || !strcmp(format, "raw"))
        return 0;
    return err_set(err, ERR_USAGE, "volumes are qcow2 or raw, not '%s'", format);
}

static int make(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                const char *parent, const struct block_create *create, char volid[VOLUME_ID_BYTES],
                struct err *err)
{
    char folder[VOLUME_PATH_BYTES];
    if (check_format(create->format, err) || storage_folder(storage, store_id, folder, err))
        return -1;
    if (!storage_takes(storage, store_id, "images"))
        return err_set(err, ERR_USAGE, "storage '%s' does not support 'images' content", store_id);
    json_t *record = new_record(vmid, create->format, create->size);
    if (parent)
        json_object_set_new(record, "parent", json_string(parent));
    if (claim(storage, store_id, vmid, suffix, record, volid, err))
        return -1;
    if (!new_file(storage, volid, vmid, create, err))
        return 0;
    volume_remove(storage, volid, NULL);
    return -1;
}

int volume_make(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                const char *format, uint64_t size, char volid[VOLUME_ID_BYTES], struct err *err)
{
    struct block_create create = {.format = format, .size = size};
    return make(storage, store_id, vmid, suffix, NULL, &create, volid, err);
}

int volume_make_linked(struct storage *storage, const char *base, const char *store_id,
                       int64_t vmid, char volid[VOLUME_ID_BYTES], struct err *err)
{
    char path[VOLUME_PATH_BYTES], format[16];
    uint64_t size;
    if (volume_path(storage, base, path, format, err) || volume_size(storage, base, &size, err))
        return -1;
    struct block_create create = {
        .format = "qcow2", .size = size, .backing = path, .backing_format = format};
    return make(storage, store_id, vmid, NULL, base, &create, volid, err);
}

// ---- Opening.

static struct block_disk *open_volume(struct storage *storage, const char *volid, bool read_only,
                                      struct block_chain *chain, struct err *err)
{
    char path[VOLUME_PATH_BYTES], format[16];
    chain->length = 0;
    if (volume_path(storage, volid, path, format, err))
        return NULL;
    const char **folders = storage_image_folders(storage);
    struct block_chain_rules rules = {
        .format = format, .read_only = read_only, .allowed = folders, .depth_max = CHAIN_MAX};
    int failed = block_chain_open(chain, path, &rules, err);
    free(folders);
    if (failed) {
        err_wrap(err, "volume '%s'", volid);
        return NULL;
    }
    struct block_options options = {.read_only = read_only};
    struct block_disk *disk = block_chain_disk(chain, &options, err);
    if (!disk)
        block_chain_close(chain);
    return disk;
}

static int close_volume(struct block_disk *disk, struct block_chain *chain, const char *volid,
                        int result, struct err *err)
{
    int failed = block_disk_close(disk);
    block_chain_close(chain);
    return failed && !result ? err_set_errno(err, -failed, "volume '%s' cannot be written", volid)
                             : result;
}

// ---- Copying.

static bool tell(void *user, uint64_t done, uint64_t total)
{
    return !user || task_progress(user, done, total);
}

static int copy(struct storage *storage, const char *source, const char *target, struct task *task,
                struct err *err)
{
    struct block_chain *chains = calloc(2, sizeof(*chains)); // too large for a stack
    if (!chains)
        abort();
    struct block_disk *from = open_volume(storage, source, true, &chains[0], err);
    struct block_disk *to = from ? open_volume(storage, target, false, &chains[1], err) : NULL;
    int result = to ? 0 : -1;
    if (to) {
        struct block_copy job = {
            .source = from, .target = to, .target_is_zero = true, .progress = tell, .user = task};
        int failed = block_copy_run(&job);
        if (failed == -ECANCELED)
            result = task_cancelled(err);
        else if (failed)
            result = err_set_errno(err, -failed, "copying '%s' to '%s'", source, target);
        result = close_volume(to, &chains[1], target, result, err);
    }
    if (from)
        result = close_volume(from, &chains[0], source, result, err);
    free(chains);
    return result;
}

int volume_make_copy(struct storage *storage, const char *source, const char *store_id,
                     int64_t vmid, const char *format, struct task *task,
                     char volid[VOLUME_ID_BYTES], struct err *err)
{
    uint64_t size;
    if (volume_size(storage, source, &size, err) ||
        volume_make(storage, store_id, vmid, NULL, format, size, volid, err))
        return -1;
    if (!copy(storage, source, volid, task, err))
        return 0;
    volume_remove(storage, volid, NULL);
    return -1;
}

// ---- States.

static void put_state(struct storage *storage, struct store_txn *txn, const char *volid,
                      const char *state)
{
    char key[VOLUME_ID_BYTES + 16];
    json_t *record = volume_record(storage, volid);
    if (!record)
        return;
    volume_key(volid, key);
    json_t *changed = json_copy(record);
    json_object_set_new(changed, "state", json_string(state));
    store_put(txn, key, changed);
    json_decref(record);
}

void volume_ready(struct storage *storage, struct store_txn *txn, const char *volid)
{
    put_state(storage, txn, volid, "ready");
}

void volume_going(struct storage *storage, struct store_txn *txn, const char *volid)
{
    put_state(storage, txn, volid, "going");
}

bool volume_is_base(struct storage *storage, const char *volid)
{
    struct store_list list;
    bool found = false;
    store_list(storage->store, "/volume/", &list);
    for (size_t i = 0; i < list.count && !found; i++) {
        const char *parent = json_string_value(json_object_get(list.entries[i].value, "parent"));
        found = parent && !strcmp(parent, volid);
    }
    store_list_free(&list);
    return found;
}

int volume_remove(struct storage *storage, const char *volid, struct err *err)
{
    char path[VOLUME_PATH_BYTES], key[VOLUME_ID_BYTES + 16];
    if (volume_is_base(storage, volid))
        return err_set(err, ERR_BUSY, "base volume '%s' is still in use by linked clones", volid);
    if (volume_path(storage, volid, path, NULL, err))
        return -1;
    int failed = os_file_remove(path);
    if (failed)
        return err_set_errno(err, -failed, "volume '%s' cannot be removed", volid);
    volume_key(volid, key);
    *strrchr(path, '/') = 0;
    os_directory_remove(path); // the guest's folder, when it was the last; fails otherwise
    return store_delete_now(storage->store, key, err);
}

// ---- Changes in place.

int volume_size(struct storage *storage, const char *volid, uint64_t *bytes, struct err *err)
{
    json_t *record = volume_record(storage, volid);
    json_int_t size = json_integer_value(json_object_get(record, "size"));
    json_decref(record);
    if (!record)
        return err_set(err, ERR_NOT_FOUND, "volume '%s' does not exist", volid);
    *bytes = (uint64_t)size;
    return 0;
}

int volume_resize(struct storage *storage, const char *volid, uint64_t bytes, struct err *err)
{
    struct block_chain *chain = calloc(1, sizeof(*chain));
    if (!chain)
        abort();
    struct block_disk *disk = open_volume(storage, volid, false, chain, err);
    int result = disk ? block_disk_resize(disk, bytes, err) : -1;
    if (disk)
        result = close_volume(disk, chain, volid, result, err);
    free(chain);
    json_t *record = result ? NULL : volume_record(storage, volid);
    if (record) {
        char key[VOLUME_ID_BYTES + 16];
        json_t *changed = json_copy(record);
        volume_key(volid, key);
        json_object_set_new(changed, "size", json_integer((json_int_t)bytes));
        result = store_put_now(storage->store, key, changed, err);
        json_decref(record);
    }
    return result;
}

static bool has_snapshot(struct block_node *node, const struct block_image_ops *ops,
                         const char *name)
{
    int count = ops->snapshot_list(node, NULL, 0, NULL);
    struct block_snapshot *list = count > 0 ? calloc((size_t)count, sizeof(*list)) : NULL;
    count = list ? ops->snapshot_list(node, list, count, NULL) : 0;
    bool found = false;
    for (int i = 0; i < count && !found; i++)
        found = !strcmp(list[i].name, name);
    free(list);
    return found;
}

static int snapshot_step(struct block_disk *disk, const struct block_image_ops *ops,
                         enum volume_snapshot what, const char *name, struct err *err)
{
    struct block_node *node = block_disk_node(disk);
    bool there = has_snapshot(node, ops, name);
    switch (what) {
    case VOLUME_SNAPSHOT_TAKE:
        return there ? 0 : ops->snapshot_create(node, name, now_s(), err);
    case VOLUME_SNAPSHOT_DROP:
        return there ? ops->snapshot_delete(node, name, err) : 0;
    case VOLUME_SNAPSHOT_BACK:
        break;
    }
    return ops->snapshot_apply(node, name, err);
}

int volume_snapshot(struct storage *storage, const char *volid, enum volume_snapshot what,
                    const char *name, struct err *err)
{
    struct block_chain *chain = calloc(1, sizeof(*chain));
    if (!chain)
        abort();
    struct block_disk *disk = open_volume(storage, volid, false, chain, err);
    int result = -1;
    if (disk) {
        const struct block_format *format = block_format_find(chain->image[0].format);
        const struct block_image_ops *ops = format ? format->image : NULL;
        result = ops && ops->snapshot_create
                     ? snapshot_step(disk, ops, what, name, err)
                     : err_set(err, ERR_UNSUPPORTED,
                               "volume '%s' is raw and has no snapshots; use qcow2", volid);
        result = close_volume(disk, chain, volid, result, err);
    }
    free(chain);
    return result;
}
