// SPDX-License-Identifier: Apache-2.0
//
// Snapshots: each disk's state is kept as a layer (storage.h) on which the disk goes on, whether the machine runs or not. One transaction puts the
// snapshot and all its layers; a machine that runs is told afterwards to go on with the new images, all at one instant. The record's lock says
// "snapshot" until it does: a daemon that comes back in between tells it then.
//
// {"snaptime", "description", "config", "layers": {"virtio0": VOLID}, "parent"}
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_internal.h"
#include "node/guest/guest_plug.h"
#include "os/clock.h"
#include "os/file.h"

#define LOCK_SECONDS 10
#define ASK_SECONDS  10
#define DISKS_MAX    32

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

static json_t *get_snapshot(struct guests *guests, int64_t vmid, const char *name)
{
    json_t *record = guest_get(guests, vmid);
    json_t *snapshot = json_incref(json_object_get(json_object_get(record, "snapshots"), name));
    json_decref(record);
    return snapshot;
}

// ---- Taking.

struct taking {
    struct guests *guests;
    int64_t vmid;
    const char *name;
    size_t count;
    char keys[DISKS_MAX][24];
    struct volume_layer layers[DISKS_MAX];
    char jobs[DISKS_MAX][32];
    struct store_txn txn;
};

static int make_layers(struct taking *t, const json_t *config, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        char volid[VOLUME_ID_BYTES], name[80];
        bool cdrom;
        if (!guest_is_disk_key(key) ||
            !guest_disk_volume(json_string_value(value), volid, &cdrom) || cdrom)
            continue;
        if (t->count == DISKS_MAX)
            return err_set(err, ERR_LIMIT, "snapshots are of %d disks at most", DISKS_MAX);
        snprintf(name, sizeof(name), "snap-%.40s-%.20s", t->name, key);
        if (volume_layer_make(t->guests->options.storage, volid, name, &t->layers[t->count], err))
            return err_wrap(err, "%s", key);
        snprintf(t->keys[t->count++], sizeof(t->keys[0]), "%s", key);
    }
    return 0;
}

static json_t *snapshot_of(const struct taking *t, const json_t *record, const char *description)
{
    json_t *layers = json_object();
    for (size_t i = 0; i < t->count; i++)
        json_object_set_new(layers, t->keys[i], json_string(t->layers[i].below));
    json_t *snapshot = json_pack(
        "{s:I, s:s, s:o, s:o}", "snaptime", (json_int_t)(os_clock_wall_ns() / 1000000000u),
        "description", description ? description : "", "config",
        json_deep_copy(json_object_get(record, "config")), "layers", layers);
    if (json_object_get(record, "parent"))
        json_object_set(snapshot, "parent", json_object_get(record, "parent"));
    return snapshot;
}

// The layers and the snapshot, in one step; with the lock when the machine has yet to be told.
static int record_snapshot(struct taking *t, const char *description, bool running, struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(t->guests, t->vmid, &revision, err);
    if (!record)
        return -1;
    json_object_set_new(json_object_get(record, "snapshots"), t->name,
                        snapshot_of(t, record, description));
    json_object_set_new(record, "parent", json_string(t->name));
    if (running) {
        json_object_set_new(record, "lock", json_string("snapshot"));
        json_object_set_new(record, "lock-snapshot", json_string(t->name));
    }
    store_txn_begin(&t->txn);
    for (size_t i = 0; i < t->count; i++)
        volume_layer_ready(t->guests->options.storage, &t->txn, &t->layers[i]);
    return guest_put(t->guests, &t->txn, t->vmid, revision, record, err);
}

static int unlock(struct guests *guests, int64_t vmid, struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(guests, vmid, &revision, err);
    if (!record)
        return -1;
    json_object_del(record, "lock");
    json_object_del(record, "lock-snapshot");
    return put(guests, vmid, revision, record, err);
}

// ---- The machine goes on with the new images.

static int start_job(struct guests *guests, int64_t vmid, const char *key, const char *path, int fd,
                     char job[32], struct err *err)
{
    char real[VOLUME_PATH_BYTES]; // as the machine names its images
    bool known = os_file_real_path(path, real, sizeof(real));
    json_t *request = json_pack("{s:s, s:s, s:s, s:s}", "do", "disk-snapshot", "disk", key, "file",
                                known ? real : path, "format", "qcow2");
    return guest_job_start(guests, vmid, request, fd, job, err);
}

static int start_jobs(void *user, struct err *err)
{
    struct taking *t = user;
    for (size_t i = 0; i < t->count; i++)
        if (start_job(t->guests, t->vmid, t->keys[i], t->layers[i].path, t->layers[i].fd,
                      t->jobs[i], err))
            return err_wrap(err, "disk %s", t->keys[i]);
    for (size_t i = 0; i < t->count; i++)
        if (guest_job_hold(t->guests, t->vmid, t->jobs[i], err))
            return err_wrap(err, "disk %s", t->keys[i]);
    return 0;
}

// A layer that the machine did not take up is taken back.
static void take_back(struct taking *t, const bool *taken_up)
{
    for (size_t i = 0; i < t->count; i++)
        if (!taken_up[i])
            volume_layer_undo(t->guests->options.storage, &t->layers[i], NULL);
}

static int tell_machine(struct taking *t, struct task *task, const json_t *config, struct err *err)
{
    bool taken_up[DISKS_MAX] = {0};
    int result = guest_at_rest(t->guests, task, t->vmid, config, start_jobs, t, err);
    for (size_t i = 0; i < t->count; i++) {
        struct err failed = {0};
        taken_up[i] =
            t->jobs[i][0] && !guest_job_wait(t->guests, NULL, t->vmid, t->jobs[i], 0, 0, &failed);
        if (!taken_up[i] && !result)
            result = err_set(err, ERR_HOST, "disk %s: %.300s", t->keys[i], failed.text);
    }
    if (result)
        take_back(t, taken_up);
    return result;
}

static int take_locked(struct taking *t, struct task *task, const char *description,
                       struct err *err)
{
    json_t *old = get_snapshot(t->guests, t->vmid, t->name);
    json_decref(old);
    if (old)
        return err_set(err, ERR_EXISTS, "snapshot name '%s' already used", t->name);
    json_t *record = guest_get(t->guests, t->vmid);
    if (!record)
        return guest_missing(t->guests, t->vmid, err);
    const json_t *config = json_object_get(record, "config");
    bool running = guest_is_running(t->guests, t->vmid);
    int result = -1;
    if (json_object_get(config, "template"))
        err_set(err, ERR_BUSY, "a template has no snapshots");
    else if (json_object_get(record, "lock"))
        err_set(err, ERR_BUSY, "VM is locked (%s)",
                json_string_value(json_object_get(record, "lock")));
    else
        result = make_layers(t, config, err);
    bool recorded = !result && !record_snapshot(t, description, running, err);
    if (!recorded)
        for (size_t i = 0; i < t->count; i++)
            volume_remove(t->guests->options.storage, t->layers[i].below, NULL);
    if (recorded && running)
        result = tell_machine(t, task, config, err);
    if (recorded && result)
        guest_snapshot_forget(t->guests, t->vmid, t->name, NULL);
    else if (recorded)
        result = unlock(t->guests, t->vmid, err);
    json_decref(record);
    for (size_t i = 0; i < t->count; i++)
        os_file_close(&t->layers[i].fd);
    return recorded ? result : -1;
}

int guest_snapshot_take(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        const char *description, struct err *err)
{
    if (guest_lock(guests, vmid, "snapshot", false, LOCK_SECONDS, err))
        return -1;
    struct taking *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->guests = guests;
    t->vmid = vmid;
    t->name = name;
    int result = take_locked(t, task, description, err);
    free(t);
    guest_unlock(guests, vmid, false);
    return result;
}

// After a crash: a machine that still runs with the images of before goes on with the new ones now.
int guest_snapshot_resume(struct guests *guests, int64_t vmid, struct err *err)
{
    json_t *record = guest_get(guests, vmid), *disk;
    json_t *disks =
        guest_control(guests, vmid, json_pack("{s:s}", "do", "disks"), ASK_SECONDS, NULL);
    size_t index;
    json_array_foreach(json_object_get(disks, "disks"), index, disk)
    {
        char volid[VOLUME_ID_BYTES], path[VOLUME_PATH_BYTES], real[VOLUME_PATH_BYTES], job[32];
        bool cdrom;
        const char *key = json_string_value(json_object_get(disk, "id"));
        const char *text =
            json_string_value(json_object_get(json_object_get(record, "config"), key));
        const char *active = json_string_value(
            json_object_get(json_array_get(json_object_get(disk, "layers"), 0), "file"));
        if (!guest_disk_volume(text, volid, &cdrom) || cdrom || !active ||
            volume_path(guests->options.storage, volid, path, NULL, NULL) ||
            !os_file_real_path(path, real, sizeof(real)) || !strcmp(real, active))
            continue;
        int fd = storage_image_open(path, NULL);
        if (fd >= 0 && !start_job(guests, vmid, key, real, fd, job, NULL))
            guest_job_wait(guests, NULL, vmid, job, 0, 0, NULL);
        os_file_close(&fd);
    }
    json_decref(disks);
    json_decref(record);
    return unlock(guests, vmid, err);
}

// ---- Dropping.

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

struct merging {
    struct guests *guests;
    int64_t vmid;
};

// A machine that has the upper image open takes over itself, when it is the one that it writes.
static int merge_live(void *user, const struct volume_merge *merge, struct err *err)
{
    const struct merging *m = user;
    char job[32];
    if (!guest_is_running(m->guests, m->vmid))
        return 0;
    json_t *record = guest_get(m->guests, m->vmid);
    json_t *running = guest_running_config(m->guests, m->vmid, record), *value;
    const char *key, *found = NULL;
    json_object_foreach(running, key, value)
    {
        char volid[VOLUME_ID_BYTES];
        bool cdrom;
        if (guest_is_disk_key(key) && guest_disk_volume(json_string_value(value), volid, &cdrom) &&
            !strcmp(volid, merge->upper))
            found = key;
    }
    int result = 0;
    if (found) {
        char base[VOLUME_PATH_BYTES] = "";
        json_t *request = json_pack("{s:s, s:s}", "do", "disk-stream", "disk", found);
        if (merge->base[0] && os_file_real_path(merge->base, base, sizeof(base)))
            json_object_set_new(request, "base", json_string(base));
        result = guest_job_start(m->guests, m->vmid, request, -1, job, err) ||
                         guest_job_wait(m->guests, NULL, m->vmid, job, 0, 0, err)
                     ? -1
                     : 1;
    } else {
        result = err_set(err, ERR_BUSY, "the machine stands on it");
    }
    json_decref(running);
    json_decref(record);
    return result;
}

// One turn over the layers of this guest that no snapshot names any more; how many went.
static size_t collect_turn(struct guests *guests, int64_t vmid, struct task *task)
{
    struct merging merging = {guests, vmid};
    json_t *rows = volumes_of(guests->options.storage, vmid), *row;
    size_t index, gone = 0;
    json_array_foreach(rows, index, row)
    {
        struct err err = {0};
        const char *volid = json_string_value(json_object_get(row, "volid"));
        if (!strstr(volid, "-snap-") || guests_use_volume(guests, volid))
            continue;
        int kept = volume_layer_drop(guests->options.storage, volid, merge_live, &merging, &err);
        gone += kept == 0;
        if (kept < 0 && task)
            task_log(task, "'%s' stays for now: %s", volid, err.text);
    }
    json_decref(rows);
    return gone;
}

// What goes may make room for the next to go.
static void collect_layers(struct guests *guests, int64_t vmid, struct task *task)
{
    while (collect_turn(guests, vmid, task))
        ;
}

// The next guest after `after` with a layer that can go; 0: there is none. A layer on which several stand has to stay.
static int64_t next_with_layers(struct guests *guests, int64_t after)
{
    struct store_list list;
    int64_t found = 0;
    store_list(guests->options.store, "/volume/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *volid = list.entries[i].key + strlen("/volume/");
        int64_t vmid = json_integer_value(json_object_get(list.entries[i].value, "vmid"));
        if (!strstr(volid, "-snap-") || vmid <= after || (found && vmid >= found))
            continue;
        json_t *record = guest_get(guests, vmid);
        if (record && !guest_record_names(record, volid) &&
            volume_layer_uppers(guests->options.storage, volid) <= 1)
            found = vmid;
        json_decref(record);
    }
    store_list_free(&list);
    return found;
}

bool guests_layers_left(struct guests *guests)
{
    return next_with_layers(guests, 0) != 0;
}

int guests_merge_layers(struct guests *guests, struct task *task, struct err *err)
{
    for (int64_t vmid = 0; (vmid = next_with_layers(guests, vmid)) && task_wanted(task);) {
        task_log(task, "VM %lld", (long long)vmid);
        if (guest_lock(guests, vmid, "snapshot-delete", false, LOCK_SECONDS, err))
            return -1;
        collect_layers(guests, vmid, task);
        guest_unlock(guests, vmid, false);
    }
    return 0;
}

int guest_snapshot_forget(struct guests *guests, int64_t vmid, const char *name, struct err *err)
{
    int64_t revision;
    json_t *record = edit_record(guests, vmid, &revision, err);
    if (!record)
        return -1;
    unlink_snapshot(record, name);
    json_object_del(record, "lock");
    json_object_del(record, "lock-snapshot");
    int result = put(guests, vmid, revision, record, err);
    if (!result)
        collect_layers(guests, vmid, NULL);
    return result;
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
    int result = snapshot ? guest_snapshot_forget(guests, vmid, name, err) : no_snapshot(name, err);
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

// ---- Going back: the machine is stopped, and its disks stand on the snapshot's layers anew.

static int back_steps(struct guests *guests, struct store_txn *txn, const json_t *snapshot,
                      struct err *err)
{
    const char *key;
    json_t *layer;
    json_object_foreach(json_object_get(snapshot, "layers"), key, layer)
    {
        char volid[VOLUME_ID_BYTES];
        bool cdrom;
        const char *text =
            json_string_value(json_object_get(json_object_get(snapshot, "config"), key));
        if (!guest_disk_volume(text, volid, &cdrom))
            return err_set(err, ERR_INPUT, "the snapshot's %s is lost", key);
        if (volume_layer_back(guests->options.storage, txn, json_string_value(layer), volid, err))
            return err_wrap(err, "%s", key);
    }
    return 0;
}

// Disks that the snapshot does not know stay, unused.
static void keep_others(struct guests *guests, int64_t vmid, json_t *config)
{
    json_t *rows = volumes_of(guests->options.storage, vmid), *row, *value;
    size_t index;
    unsigned n = 0;
    json_array_foreach(rows, index, row)
    {
        const char *volid = json_string_value(json_object_get(row, "volid")), *key;
        const char *state =
            json_string_value(json_object_get(json_object_get(row, "record"), "state"));
        char unused[24];
        bool named = strstr(volid, "-disk-") == NULL || !state || strcmp(state, "ready") != 0;
        json_object_foreach(config, key, value)
        {
            const char *text = json_string_value(value);
            named |= text && !strncmp(text, volid, strlen(volid));
        }
        if (named)
            continue;
        do
            snprintf(unused, sizeof(unused), "unused%u", n++);
        while (json_object_get(config, unused));
        json_object_set_new(config, unused, json_string(volid));
    }
    json_decref(rows);
}

static int go_back(struct guests *guests, int64_t vmid, const char *name, const json_t *snapshot,
                   struct err *err)
{
    int64_t revision;
    struct store_txn txn;
    json_t *record = edit_record(guests, vmid, &revision, err);
    if (!record)
        return -1;
    json_t *config = json_deep_copy(json_object_get(snapshot, "config"));
    keep_others(guests, vmid, config);
    json_object_set_new(record, "config", config);
    json_object_set_new(record, "parent", json_string(name));
    json_object_del(record, "lock");
    json_object_del(record, "lock-snapshot");
    store_txn_begin(&txn);
    int result = back_steps(guests, &txn, snapshot, err);
    if (!result)
        return guest_put(guests, &txn, vmid, revision, record, err);
    store_txn_abandon(&txn);
    json_decref(record);
    return result;
}

int guest_snapshot_back(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        bool start, struct err *err)
{
    json_t *snapshot = get_snapshot(guests, vmid, name);
    if (!snapshot)
        return no_snapshot(name, err);
    int result = guest_stop(guests, task, vmid, false, err);
    if (!result)
        result = guest_lock(guests, vmid, "rollback", false, LOCK_SECONDS, err);
    if (result) {
        json_decref(snapshot);
        return -1;
    }
    result = guest_is_running(guests, vmid)
                 ? err_set(err, ERR_BUSY, "VM %lld runs again", (long long)vmid)
                 : go_back(guests, vmid, name, snapshot, err);
    guest_remove_leftovers(guests, vmid);
    collect_layers(guests, vmid, task);
    guest_unlock(guests, vmid, false);
    json_decref(snapshot);
    return result || !start ? result : guest_start(guests, task, vmid, err);
}
