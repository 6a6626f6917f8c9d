// SPDX-License-Identifier: Apache-2.0
//
// A guest comes, goes, and becomes a template; and what is done after a crash about those that were on their way.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"

#define LOCK_SECONDS 10

// ---- Coming.

int guest_claim(struct guests *guests, int64_t vmid, const char *lock, struct err *err)
{
    struct store_txn txn;
    store_txn_begin(&txn);
    json_t *record = json_pack("{s:s, s:{}, s:{}}", "lock", lock, "config", "snapshots");
    if (!guest_put(guests, &txn, vmid, 0, record, err))
        return 0;
    return err->code == ERR_BUSY ? err_set(err, ERR_EXISTS, "VM %lld already exists on node '%s'",
                                           (long long)vmid, guests->node)
                                 : -1;
}

int guest_create(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                 struct err *err)
{
    if (guest_lock(guests, vmid, "create", false, LOCK_SECONDS, err))
        return -1;
    struct guest_change change = {.changes = config, .task = task};
    int result = guest_configure(guests, vmid, &change, err);
    if (!result)
        result = guest_set_member(guests, vmid, "lock", NULL, err);
    if (result)
        guest_remove_record(guests, vmid, task, NULL);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- Going.

static int check_bases(struct guests *guests, int64_t vmid, const json_t *volumes, struct err *err)
{
    size_t index;
    json_t *row;
    json_array_foreach(volumes, index, row)
    {
        const char *volid = json_string_value(json_object_get(row, "volid"));
        if (!volume_owned_chain(guests->options.storage, volid, vmid))
            return err_set(err, ERR_BUSY, "base volume '%s' is still in use by linked clones",
                           volid);
    }
    return 0;
}

// The record goes and the volumes are marked in one transaction; then the files go.
int guest_remove_record(struct guests *guests, int64_t vmid, struct task *task, struct err *err)
{
    char key[40];
    struct store_txn txn;
    size_t index;
    json_t *row;
    json_t *volumes = volumes_of(guests->options.storage, vmid);
    if (check_bases(guests, vmid, volumes, err)) {
        json_decref(volumes);
        return -1;
    }
    guest_key(vmid, key);
    store_txn_begin(&txn);
    store_delete(&txn, key);
    json_array_foreach(volumes, index, row) volume_going(
        guests->options.storage, &txn, json_string_value(json_object_get(row, "volid")));
    int result = store_commit(guests->options.store, &txn, err);
    if (!result)
        volumes_remove(guests->options.storage, volumes, task); // else at the next start
    json_decref(volumes);
    return result;
}

void guest_remove_leftovers(struct guests *guests, int64_t vmid)
{
    json_t *rows = volumes_of(guests->options.storage, vmid), *row, *gone = json_array();
    size_t index;
    json_array_foreach(rows, index, row)
    {
        const char *state =
            json_string_value(json_object_get(json_object_get(row, "record"), "state"));
        if (!state || strcmp(state, "ready") != 0)
            json_array_append(gone, row);
    }
    volumes_remove(guests->options.storage, gone, NULL);
    json_decref(gone);
    json_decref(rows);
}

int guest_destroy(struct guests *guests, struct task *task, int64_t vmid, struct err *err)
{
    if (guest_lock(guests, vmid, "destroy", false, LOCK_SECONDS, err))
        return -1;
    json_t *record = guest_get(guests, vmid);
    const json_t *config = json_object_get(record, "config");
    int result = -1;
    if (!record)
        guest_missing(guests, vmid, err);
    else if (guest_is_running(guests, vmid))
        err_set(err, ERR_BUSY, "VM %lld is running - destroy failed", (long long)vmid);
    else if (json_integer_value(json_object_get(config, "protection")))
        err_set(err, ERR_BUSY, "can't remove VM %lld - protection mode enabled", (long long)vmid);
    else
        result = guest_remove_record(guests, vmid, task, err);
    json_decref(record);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- Template.

int guest_make_template(struct guests *guests, struct task *task, int64_t vmid, struct err *err)
{
    (void)task;
    if (guest_lock(guests, vmid, "template", false, LOCK_SECONDS, err))
        return -1;
    int64_t revision;
    json_t *record = guest_get_at(guests, vmid, &revision);
    int result = -1;
    if (!record)
        guest_missing(guests, vmid, err);
    else if (guest_is_running(guests, vmid))
        err_set(err, ERR_BUSY, "you can't convert a VM to template if VM is running");
    else if (json_object_size(json_object_get(record, "snapshots")))
        err_set(err, ERR_BUSY, "you can't convert a VM to template if it has snapshots");
    else {
        struct store_txn txn;
        json_t *changed = json_deep_copy(record);
        json_object_set_new(json_object_get(changed, "config"), "template", json_integer(1));
        store_txn_begin(&txn);
        result = guest_put(guests, &txn, vmid, revision, changed, err);
    }
    json_decref(record);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- Resize.

static int target_size(const char *text, uint64_t old, uint64_t *bytes, struct err *err)
{
    bool plus = text[0] == '+';
    if (!units_parse_size(text + plus, 1, bytes))
        return err_set(err, ERR_USAGE, "size '%s' is no size, as 32G or +5G", text);
    if (plus)
        *bytes += old;
    if (*bytes < old)
        return err_set(err, ERR_USAGE, "shrinking disks is not supported");
    return 0;
}

// The machine grows its disk and tells the guest.
static int resize_running(struct guests *guests, int64_t vmid, const char *disk, const char *volid,
                          uint64_t bytes, struct err *err)
{
    json_t *ok = guest_control(guests, vmid,
                               json_pack("{s:s, s:s, s:I}", "do", "disk-resize", "device", disk,
                                         "size", (json_int_t)bytes),
                               10, err);
    json_decref(ok);
    return ok ? volume_note_size(guests->options.storage, volid, bytes, err) : -1;
}

static int resize_locked(struct guests *guests, int64_t vmid, const char *disk, const char *size,
                         struct err *err)
{
    char volid[VOLUME_ID_BYTES];
    bool cdrom;
    uint64_t bytes;
    json_t *record = guest_get(guests, vmid);
    const char *text = json_string_value(json_object_get(json_object_get(record, "config"), disk));
    bool volume = guest_disk_volume(text, volid, &cdrom) && !cdrom;
    json_t *value = text ? json_string(text) : NULL;
    json_decref(record);
    int result = -1;
    if (!volume)
        err_set(err, ERR_NOT_FOUND, "disk '%s' does not exist", disk);
    else if (volume_is_base(guests->options.storage, volid))
        err_set(err, ERR_BUSY, "base volume '%s' is in use by linked clones", volid);
    else
        result = volume_size(guests->options.storage, volid, &bytes, err);
    if (!result)
        result = target_size(size, bytes, &bytes, err);
    if (!result)
        result = guest_is_running(guests, vmid)
                     ? resize_running(guests, vmid, disk, volid, bytes, err)
                     : volume_resize(guests->options.storage, volid, bytes, err);
    if (!result) { // the string shows the size: written anew from the volume's record
        json_t *changes = json_pack("{s:O}", disk, value);
        struct guest_change change = {.changes = changes};
        result = guest_configure(guests, vmid, &change, err);
        json_decref(changes);
    }
    json_decref(value);
    return result;
}

int guest_resize_disk(struct guests *guests, struct task *task, int64_t vmid, const char *disk,
                      const char *size, struct err *err)
{
    (void)task;
    if (guest_lock(guests, vmid, "resize", false, LOCK_SECONDS, err))
        return -1;
    int result = resize_locked(guests, vmid, disk, size, err);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- After a crash.

static void recover_one(struct guests *guests, int64_t vmid, const json_t *record)
{
    const char *lock = json_string_value(json_object_get(record, "lock"));
    if (!lock)
        return;
    if (!strcmp(lock, "create") || !strcmp(lock, "clone") || !strcmp(lock, "destroy"))
        guest_remove_record(guests, vmid, NULL, NULL);
    else if (!strcmp(lock, "snapshot") && guest_is_running(guests, vmid))
        guest_snapshot_resume(guests, vmid, NULL);
    else if (!strcmp(lock, "move"))
        guest_move_resume(guests, vmid, NULL);
    else
        guest_set_member(guests, vmid, "lock", NULL, NULL);
}

void guests_recover(struct guests *guests)
{
    struct store_list list;
    store_list(guests->options.store, "/guest/", &list);
    for (size_t i = 0; i < list.count; i++)
        recover_one(guests, strtoll(list.entries[i].key + strlen("/guest/"), NULL, 10),
                    list.entries[i].value);
    store_list_free(&list);
}
