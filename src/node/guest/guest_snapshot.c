// SPDX-License-Identifier: Apache-2.0
//
// Snapshots of disks, while the machine is stopped. The record says what is being done before it is done, so that a crash is mended by
// taking the step again (rollback) or back (the others).
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_internal.h"
#include "os/clock.h"

#define LOCK_SECONDS 10

int guest_snapshot_volumes(struct guests *guests, const json_t *config, enum volume_snapshot what,
                           const char *name, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        char volid[VOLUME_ID_BYTES];
        bool cdrom;
        if (guest_is_disk_key(key) && guest_disk_volume(json_string_value(value), volid, &cdrom) &&
            !cdrom && volume_snapshot(guests->options.storage, volid, what, name, err))
            return -1;
    }
    return 0;
}

// A changed copy of the record, to be put; the revision that it must still have.
static json_t *edit_record(struct guests *guests, int64_t vmid, int64_t *revision, struct err *err)
{
    json_t *record = guest_get_at(guests, vmid, revision);
    if (!record) {
        guest_missing(guests, vmid, err);
        return NULL;
    }
    json_t *copy = json_deep_copy(record);
    json_decref(record);
    return copy;
}

static int put(struct guests *guests, int64_t vmid, int64_t revision, json_t *record,
               struct err *err)
{
    struct store_txn txn;
    store_txn_begin(&txn);
    return guest_put(guests, &txn, vmid, revision, record, err);
}

static int set_lock(struct guests *guests, int64_t vmid, const char *lock, const char *name,
                    struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(guests, vmid, &revision, err);
    if (!record)
        return -1;
    json_object_set_new(record, "lock", json_string(lock));
    json_object_set_new(record, "lock-snapshot", json_string(name));
    return put(guests, vmid, revision, record, err);
}

static json_t *get_snapshot(struct guests *guests, int64_t vmid, const char *name)
{
    json_t *record = guest_get(guests, vmid);
    json_t *snapshot = json_incref(json_object_get(json_object_get(record, "snapshots"), name));
    json_decref(record);
    return snapshot;
}

static int check_stopped(struct guests *guests, int64_t vmid, struct err *err)
{
    struct guest_status status;
    if (!guest_exists(guests, vmid))
        return guest_missing(guests, vmid, err);
    guest_status(guests, vmid, &status);
    return status.running ? err_set(err, ERR_BUSY,
                                    "VM %lld is running: snapshots are taken when it is stopped",
                                    (long long)vmid)
                          : 0;
}

// ---- Taking.

static int record_snapshot(struct guests *guests, int64_t vmid, const char *name,
                           const char *description, struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(guests, vmid, &revision, err);
    if (!record)
        return -1;
    json_t *snapshot = json_pack(
        "{s:I, s:s, s:O}", "snaptime", (json_int_t)(os_clock_wall_ns() / 1000000000u),
        "description", description ? description : "", "config", json_object_get(record, "config"));
    if (json_object_get(record, "parent"))
        json_object_set(snapshot, "parent", json_object_get(record, "parent"));
    json_object_set_new(json_object_get(record, "snapshots"), name, json_deep_copy(snapshot));
    json_decref(snapshot);
    json_object_set_new(record, "parent", json_string(name));
    json_object_del(record, "lock");
    json_object_del(record, "lock-snapshot");
    return put(guests, vmid, revision, record, err);
}

static int take_locked(struct guests *guests, int64_t vmid, const char *name,
                       const char *description, struct err *err)
{
    json_t *old = get_snapshot(guests, vmid, name);
    json_decref(old);
    if (old)
        return err_set(err, ERR_EXISTS, "snapshot name '%s' already used", name);
    if (check_stopped(guests, vmid, err) || set_lock(guests, vmid, "snapshot", name, err))
        return -1;
    json_t *record = guest_get(guests, vmid);
    int result = guest_snapshot_volumes(guests, json_object_get(record, "config"),
                                        VOLUME_SNAPSHOT_TAKE, name, err);
    json_decref(record);
    if (!result)
        result = record_snapshot(guests, vmid, name, description, err);
    if (result)
        guest_snapshot_forget(guests, vmid, name, NULL);
    return result;
}

int guest_snapshot_take(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        const char *description, struct err *err)
{
    (void)task;
    if (guest_lock(guests, vmid, "snapshot", false, LOCK_SECONDS, err))
        return -1;
    int result = take_locked(guests, vmid, name, description, err);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- Dropping. Also what mends a snapshot that was not finished.

static void unlink_snapshot(json_t *record, const char *name)
{
    json_t *snapshots = json_object_get(record, "snapshots");
    json_t *gone = json_incref(json_object_get(snapshots, name));
    json_t *parent = json_object_get(gone, "parent");
    json_object_del(snapshots, name);
    const char *key;
    json_t *other;
    json_object_foreach(snapshots, key, other)
    {
        const char *its = json_string_value(json_object_get(other, "parent"));
        if (!its || strcmp(its, name) != 0)
            continue;
        if (parent)
            json_object_set(other, "parent", parent);
        else
            json_object_del(other, "parent");
    }
    const char *now = json_string_value(json_object_get(record, "parent"));
    if (now && !strcmp(now, name)) {
        if (parent)
            json_object_set(record, "parent", parent);
        else
            json_object_del(record, "parent");
    }
    json_decref(gone);
}

int guest_snapshot_forget(struct guests *guests, int64_t vmid, const char *name, struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(guests, vmid, &revision, err);
    if (!record)
        return -1;
    const json_t *snapshot = json_object_get(json_object_get(record, "snapshots"), name);
    const json_t *config = json_object_get(snapshot ? snapshot : record, "config");
    if (guest_snapshot_volumes(guests, config, VOLUME_SNAPSHOT_DROP, name, err)) {
        json_decref(record);
        return -1;
    }
    unlink_snapshot(record, name);
    json_object_del(record, "lock");
    json_object_del(record, "lock-snapshot");
    return put(guests, vmid, revision, record, err);
}

static int no_snapshot(const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "snapshot '%s' does not exist", name);
}

int guest_snapshot_drop(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        struct err *err)
{
    (void)task;
    if (guest_lock(guests, vmid, "snapshot-delete", false, LOCK_SECONDS, err))
        return -1;
    json_t *snapshot = get_snapshot(guests, vmid, name);
    json_decref(snapshot);
    int result = snapshot ? check_stopped(guests, vmid, err) : no_snapshot(name, err);
    if (!result)
        result = set_lock(guests, vmid, "snapshot-delete", name, err);
    if (!result)
        result = guest_snapshot_forget(guests, vmid, name, err);
    guest_unlock(guests, vmid, false);
    return result;
}

int guest_snapshot_describe(struct guests *guests, int64_t vmid, const char *name,
                            const char *description, struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(guests, vmid, &revision, err);
    json_t *snapshot = json_object_get(json_object_get(record, "snapshots"), name);
    if (!snapshot) {
        json_decref(record);
        return record ? no_snapshot(name, err) : -1;
    }
    json_object_set_new(snapshot, "description", json_string(description ? description : ""));
    return put(guests, vmid, revision, record, err);
}

// ---- Going back.

int guest_snapshot_apply(struct guests *guests, int64_t vmid, const char *name, struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(guests, vmid, &revision, err);
    json_t *snapshot = json_incref(json_object_get(json_object_get(record, "snapshots"), name));
    int result = snapshot ? 0 : no_snapshot(name, err);
    const json_t *config = json_object_get(snapshot, "config");
    if (!result)
        result = guest_snapshot_volumes(guests, config, VOLUME_SNAPSHOT_BACK, name, err);
    if (!result) {
        json_object_set_new(record, "config", json_deep_copy(config));
        json_object_set_new(record, "parent", json_string(name));
        json_object_del(record, "lock");
        json_object_del(record, "lock-snapshot");
        result = put(guests, vmid, revision, record, err);
    } else {
        json_decref(record);
    }
    json_decref(snapshot);
    return result;
}

int guest_snapshot_back(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        bool start, struct err *err)
{
    if (guest_lock(guests, vmid, "rollback", false, LOCK_SECONDS, err))
        return -1;
    json_t *snapshot = get_snapshot(guests, vmid, name);
    json_decref(snapshot);
    int result = snapshot ? check_stopped(guests, vmid, err) : no_snapshot(name, err);
    if (!result)
        result = set_lock(guests, vmid, "rollback", name, err);
    if (!result)
        result = guest_snapshot_apply(guests, vmid, name, err);
    guest_unlock(guests, vmid, false);
    return result || !start ? result : guest_start(guests, task, vmid, err);
}
