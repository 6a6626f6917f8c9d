// SPDX-License-Identifier: Apache-2.0
//
// A disk moves to another volume. Of a machine that does not run it is copied; one that runs mirrors it and then writes the copy alone. The record
// says meanwhile what moves where ("move", with the lock), so that whoever comes back after a crash can ask the machine which of the two it writes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_internal.h"
#include "node/guest/guest_plug.h"
#include "node/guest/property.h"
#include "os/directory.h"
#include "os/file.h"

#define LOCK_SECONDS 10
#define ASK_SECONDS  10

static json_t *changed_copy(struct guests *guests, int64_t vmid, int64_t *revision)
{
    json_t *record = guest_get_at(guests, vmid, revision);
    json_t *copy = record ? json_deep_copy(record) : NULL;
    json_decref(record);
    return copy;
}

static void set_volume(json_t *config, const char *key, const char *volid)
{
    const char *text = json_string_value(json_object_get(config, key));
    json_t *disk = text ? property_parse(text, "file", NULL) : NULL;
    if (!disk) // it never ran, or the disk came since
        return;
    json_object_set_new(disk, "file", json_string(volid));
    char *printed = property_print(disk, "file");
    json_object_set_new(config, key, json_string(printed));
    free(printed);
    json_decref(disk);
}

static void add_unused(json_t *config, const char *volid)
{
    char unused[24];
    unsigned n = 0;
    do
        snprintf(unused, sizeof(unused), "unused%u", n++);
    while (json_object_get(config, unused));
    json_object_set_new(config, unused, json_string(volid));
}

// The disk is `now`; `other` goes, or stays unused. The lock is given up.
static int settle(struct guests *guests, int64_t vmid, const char *key, const char *now,
                  const char *other, bool remove, struct err *err)
{
    int64_t revision;
    struct store_txn txn;
    json_t *record = changed_copy(guests, vmid, &revision);
    if (!record)
        return guest_missing(guests, vmid, err);
    json_t *config = json_object_get(record, "config");
    set_volume(config, key, now);
    set_volume(json_object_get(record, "running"), key, now);
    if (!remove)
        add_unused(config, other);
    json_object_del(record, "lock");
    json_object_del(record, "move");
    store_txn_begin(&txn);
    volume_ready(guests->options.storage, &txn, now);
    if (remove)
        volume_going(guests->options.storage, &txn, other);
    int result = guest_put(guests, &txn, vmid, revision, record, err);
    if (!result && remove)
        volume_remove(guests->options.storage, other, NULL); // else at the next start
    return result;
}

// ---- Of a machine that runs.

static int begin(struct guests *guests, int64_t vmid, const char *key, const char *from,
                 const char *to, struct err *err)
{
    int64_t revision;
    struct store_txn txn;
    json_t *record = changed_copy(guests, vmid, &revision);
    if (!record)
        return guest_missing(guests, vmid, err);
    json_object_set_new(record, "lock", json_string("move"));
    json_object_set_new(record, "move",
                        json_pack("{s:s, s:s, s:s}", "disk", key, "from", from, "to", to));
    store_txn_begin(&txn);
    volume_ready(guests->options.storage, &txn, to);
    return guest_put(guests, &txn, vmid, revision, record, err);
}

static int open_target(struct guests *guests, const char *volid, char real[VOLUME_PATH_BYTES],
                       char format[16], struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    if (volume_path(guests->options.storage, volid, path, format, err))
        return -1;
    int fd = storage_image_open(path, err);
    if (fd >= 0 && !os_file_real_path(path, real, VOLUME_PATH_BYTES)) {
        os_file_close(&fd);
        err_set(err, ERR_HOST, "the path of '%s' is too long", volid);
    }
    return fd;
}

static int mirror(struct guests *guests, struct task *task, int64_t vmid,
                  const struct guest_move *move, const char *from, const char *to, uint64_t size,
                  struct err *err)
{
    char path[VOLUME_PATH_BYTES], format[16], job[32];
    int fd = open_target(guests, to, path, format, err);
    if (fd < 0)
        return -1;
    json_t *request = json_pack("{s:s, s:s, s:s, s:s, s:b}", "do", "disk-mirror", "disk",
                                move->disk, "file", path, "format", format, "new", 1);
    if (move->bytes_per_s)
        json_object_set_new(request, "rate", json_integer((json_int_t)move->bytes_per_s));
    int result = guest_job_start(guests, vmid, request, fd, job, err);
    os_file_close(&fd);
    if (!result)
        result = guest_job_wait(guests, task, vmid, job, 0, size, err);
    bool begun = !result && !begin(guests, vmid, move->disk, from, to, err);
    if (begun)
        result = guest_job_complete(guests, vmid, job, true, err);
    if (begun && result) {
        guest_jobs_cancel(guests, vmid);
        guest_move_resume(guests, vmid, NULL);
        return -1;
    }
    if (!begun) {
        guest_jobs_cancel(guests, vmid);
        return -1;
    }
    return settle(guests, vmid, move->disk, to, from, move->remove, err);
}

// ---- The whole.

static int move_locked(struct guests *guests, struct task *task, int64_t vmid,
                       const struct guest_move *move, struct err *err)
{
    char from[VOLUME_ID_BYTES], to[VOLUME_ID_BYTES], format[16], path[VOLUME_PATH_BYTES];
    bool cdrom;
    uint64_t size;
    json_t *record = guest_get(guests, vmid);
    const char *text =
        json_string_value(json_object_get(json_object_get(record, "config"), move->disk));
    bool disk = guest_is_disk_key(move->disk) && guest_disk_volume(text, from, &cdrom) && !cdrom;
    bool snapshots = json_object_size(json_object_get(record, "snapshots")) > 0;
    json_decref(record);
    if (!disk)
        return err_set(err, ERR_NOT_FOUND, "disk '%s' does not exist", move->disk);
    if (snapshots && move->remove)
        return err_set(err, ERR_BUSY, "the disk has snapshots: its old volume cannot be removed");
    if (volume_path(guests->options.storage, from, path, format, err) ||
        volume_size(guests->options.storage, from, &size, err))
        return -1;
    const char *as = move->format ? move->format : format;
    if (!guest_is_running(guests, vmid))
        return volume_make_copy(guests->options.storage, from, move->storage, vmid, as, task, to,
                                err) ||
                       settle(guests, vmid, move->disk, to, from, move->remove, err)
                   ? -1
                   : 0;
    if (volume_make(guests->options.storage, move->storage, vmid, NULL, as, size, to, err))
        return -1;
    int result = mirror(guests, task, vmid, move, from, to, size, err);
    json_t *left = result ? volume_record(guests->options.storage, to) : NULL;
    if (left && !strcmp(json_string_value(json_object_get(left, "state")), "making"))
        volume_remove(guests->options.storage, to, NULL);
    json_decref(left);
    return result;
}

int guest_move_disk(struct guests *guests, struct task *task, int64_t vmid,
                    const struct guest_move *move, struct err *err)
{
    if (guest_lock(guests, vmid, "move", false, LOCK_SECONDS, err))
        return -1;
    int result = move_locked(guests, task, vmid, move, err);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- After a crash.

// Does the machine write this volume as its disk?
static bool writes(struct guests *guests, int64_t vmid, const char *key, const char *volid)
{
    char path[VOLUME_PATH_BYTES], real[VOLUME_PATH_BYTES];
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", "disks"), ASK_SECONDS, NULL);
    json_t *disk;
    size_t index;
    bool found = false;
    if (!volume_path(guests->options.storage, volid, path, NULL, NULL) &&
        os_file_real_path(path, real, sizeof(real)))
        json_array_foreach(json_object_get(ok, "disks"), index, disk)
        {
            const char *id = json_string_value(json_object_get(disk, "id"));
            const char *active = json_string_value(
                json_object_get(json_array_get(json_object_get(disk, "layers"), 0), "file"));
            found |= id && active && !strcmp(id, key) && !strcmp(active, real);
        }
    json_decref(ok);
    return found;
}

static uint64_t written_s(struct guests *guests, const char *volid)
{
    char path[VOLUME_PATH_BYTES];
    return volume_path(guests->options.storage, volid, path, NULL, NULL) ? 0
                                                                         : os_file_changed_s(path);
}

int guest_move_resume(struct guests *guests, int64_t vmid, struct err *err)
{
    json_t *record = guest_get(guests, vmid);
    const json_t *move = json_object_get(record, "move");
    const char *key = json_string_value(json_object_get(move, "disk"));
    const char *from = json_string_value(json_object_get(move, "from"));
    const char *to = json_string_value(json_object_get(move, "to"));
    int result = -1;
    if (key && from && to) {
        guest_jobs_cancel(guests, vmid);
        bool moved = guest_is_running(guests, vmid)
                         ? writes(guests, vmid, key, to)
                         : written_s(guests, to) > written_s(guests, from);
        result = settle(guests, vmid, key, moved ? to : from, moved ? from : to, false, err);
    }
    json_decref(record);
    return result;
}
