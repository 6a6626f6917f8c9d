// SPDX-License-Identifier: Apache-2.0
//
// Backups. Of a machine that runs, each disk is copied by a job as it was at one instant, at which the guest's file systems are frozen by its
// agent or the machine stands still; of one that does not, the volumes are read. Everything gathers in the datastore's `.incoming` and is put in
// place whole.
//
// A restore makes new volumes in state `making`; one transaction makes them and the record valid, and lets go of what a guest that is
// replaced had before. So a crash leaves either the old state or the new.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/guest/guest_cloudinit.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"
#include "node/storage/archive.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"

#define LOCK_SECONDS 10

struct saved_disk {
    char key[24];
    char volid[VOLUME_ID_BYTES];
    char source[VOLUME_PATH_BYTES]; // what is read: the volume, or the job's copy
    uint64_t size;
};

struct backup {
    struct guests *guests;
    struct task *task;
    int64_t vmid;
    const struct guest_backup *how;
    json_t *record;
    struct saved_disk disks[ARCHIVE_DISKS_MAX];
    size_t count;
    uint64_t total;
    bool live;
};

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

// ---- What is saved.

static int add_disk(struct backup *b, const char *key, const char *text, struct err *err)
{
    struct saved_disk *disk = &b->disks[b->count];
    bool cdrom;
    if (!guest_is_disk_key(key) || !guest_disk_volume(text, disk->volid, &cdrom) || cdrom)
        return 0;
    json_t *properties = property_parse(text, "file", NULL);
    const char *wanted = text_of(properties, "backup");
    bool left_out = wanted && !strcmp(wanted, "0");
    json_decref(properties);
    if (left_out) {
        task_log(b->task, "disk %s is left out, as it says", key);
        return 0;
    }
    if (b->count == ARCHIVE_DISKS_MAX)
        return err_set(err, ERR_LIMIT, "too many disks");
    if (volume_size(b->guests->options.storage, disk->volid, &disk->size, err))
        return -1;
    snprintf(disk->key, sizeof(disk->key), "%s", key);
    memcpy(disk->source, disk->volid, sizeof(disk->volid));
    b->total += disk->size;
    b->count++;
    return 0;
}

static int list_disks(struct backup *b, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(b->record, "config"), key,
                        value) if (add_disk(b, key, json_string_value(value), err)) return -1;
    return 0;
}

static json_t *make_header(const struct backup *b)
{
    json_t *disks = json_array();
    for (size_t i = 0; i < b->count; i++) {
        json_t *record = volume_record(b->guests->options.storage, b->disks[i].volid);
        const char *format = text_of(record, "format");
        json_array_append_new(disks, json_pack("{s:s, s:I, s:s}", "key", b->disks[i].key, "size",
                                               (json_int_t)b->disks[i].size, "format",
                                               format ? format : "qcow2"));
        json_decref(record);
    }
    return json_pack("{s:I, s:I, s:s, s:O, s:o}", "vmid", (json_int_t)b->vmid, "time",
                     (json_int_t)(os_clock_wall_ns() / 1000000000u), "node", b->guests->node,
                     "config", json_object_get(b->record, "config"), "disks", disks);
}

// ---- Of a machine that runs.

static int make_copy(struct backup *b, struct saved_disk *disk, struct guest_copy *copy,
                     struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    int spool = storage_spool(b->guests->options.storage, b->how->storage, 0, path, err);
    if (spool < 0)
        return -1;
    os_file_close(&spool);
    os_file_remove(path); // its name is what was wanted
    snprintf(disk->source, sizeof(disk->source), "%.4000s.qcow2", path);
    *copy = (struct guest_copy){
        .disk = disk->key, .path = disk->source, .format = "qcow2", .size = disk->size};
    copy->fd = storage_image_make(disk->source, disk->size, err);
    return copy->fd < 0 ? -1 : 0;
}

static int copy_live(struct backup *b, struct err *err)
{
    struct guest_copy copies[ARCHIVE_DISKS_MAX];
    struct guest_copying copying = {
        .copies = copies, .bytes_per_s = b->how->bytes_per_s, .total = 2 * b->total};
    int result = 0;
    while (copying.count < b->count && !result) {
        result = make_copy(b, &b->disks[copying.count], &copies[copying.count], err);
        copying.count += !result;
    }
    if (!result)
        result = guest_copy_disks(b->guests, b->task, b->vmid, json_object_get(b->record, "config"),
                                  &copying, err);
    while (copying.count)
        os_file_close(&copies[--copying.count].fd);
    return result;
}

// ---- The file.

static int write_archive(struct backup *b, int fd, struct err *err)
{
    json_t *header = make_header(b);
    struct archive_writer *writer = archive_create(fd, header, err);
    uint64_t done = b->live ? b->total : 0, total = b->live ? 2 * b->total : b->total;
    json_decref(header);
    int result = writer ? 0 : -1;
    for (size_t i = 0; i < b->count && !result; i++) {
        result = volume_save(b->guests->options.storage, b->disks[i].source, writer, (uint32_t)i,
                             b->task, done, total, err);
        done += b->disks[i].size;
    }
    if (!result)
        result = archive_finish(writer, err);
    if (!result)
        task_log(b->task, "%llu bytes of disks, %llu bytes of backup", (unsigned long long)b->total,
                 (unsigned long long)archive_bytes(writer));
    archive_writer_destroy(writer);
    return result;
}

// A name that is free: the second tells them apart.
static void choose_name(struct backup *b, char name[96])
{
    char stamp[40], path[VOLUME_PATH_BYTES];
    time_t now = (time_t)(os_clock_wall_ns() / 1000000000u);
    for (int i = 0; i < 60; i++, now++) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(stamp, sizeof(stamp), "%Y_%m_%d-%H_%M_%S", &tm);
        snprintf(name, 96, "vzdump-qemu-%lld-%s.wirt.zst", (long long)b->vmid, stamp);
        if (storage_file_path(b->guests->options.storage, b->how->storage, "backup", name, path,
                              NULL) ||
            !os_file_exists(path))
            return;
    }
}

static int put_in_place(struct backup *b, const char *path, char volid[VOLUME_ID_BYTES],
                        struct err *err)
{
    char name[96];
    struct storage *storage = b->guests->options.storage;
    choose_name(b, name);
    snprintf(volid, VOLUME_ID_BYTES, "%s:backup/%s", b->how->storage, name);
    json_t *facts = json_object();
    if (b->how->notes)
        json_object_set_new(facts, "notes", json_string(b->how->notes));
    if (b->how->protect)
        json_object_set_new(facts, "protected", json_integer(1));
    bool known = json_object_size(facts) > 0;
    if (!known)
        json_decref(facts);
    struct storage_arrival arrival = {
        .id = b->how->storage, .content = "backup", .name = name, .path = path};
    if (known && storage_set_file_facts(storage, volid, facts, err))
        return -1;
    int result = storage_arrive(storage, &arrival, b->task, err);
    if (result && known)
        storage_set_file_facts(storage, volid, NULL, NULL);
    return result;
}

static int save(struct backup *b, char volid[VOLUME_ID_BYTES], struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    if (list_disks(b, err))
        return -1;
    b->live = guest_is_running(b->guests, b->vmid);
    int fd = storage_spool(b->guests->options.storage, b->how->storage, 0, path, err);
    if (fd < 0)
        return -1;
    int result = b->live ? copy_live(b, err) : 0;
    if (!result)
        result = write_archive(b, fd, err);
    os_file_close(&fd);
    for (size_t i = 0; i < b->count; i++)
        if (b->disks[i].source[0] == '/')
            os_file_remove(b->disks[i].source);
    if (!result)
        return put_in_place(b, path, volid, err);
    os_file_remove(path);
    return -1;
}

int guest_backup(struct guests *guests, struct task *task, int64_t vmid,
                 const struct guest_backup *how, char volid[VOLUME_ID_BYTES], struct err *err)
{
    if (!storage_takes(guests->options.storage, how->storage, "backup"))
        return err_set(err, ERR_USAGE, "storage '%s' does not support 'backup' content",
                       how->storage);
    if (guest_lock(guests, vmid, "backup", false, LOCK_SECONDS, err))
        return -1;
    struct backup *b = calloc(1, sizeof(*b));
    if (!b)
        abort();
    b->guests = guests;
    b->task = task;
    b->vmid = vmid;
    b->how = how;
    b->record = guest_get(guests, vmid);
    int result = -1;
    if (!b->record)
        guest_missing(guests, vmid, err);
    else if (json_object_get(b->record, "lock"))
        err_set(err, ERR_BUSY, "VM is locked (%s)", text_of(b->record, "lock"));
    else
        result = save(b, volid, err);
    json_decref(b->record);
    free(b);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- Restoring.

struct restore {
    struct guests *guests;
    struct task *task;
    int64_t vmid;
    const struct guest_restore *how;
    struct archive_reader *reader;
    uint64_t archive_size;
    json_t *config; // being made
    char made[ARCHIVE_DISKS_MAX][VOLUME_ID_BYTES];
    size_t count;
    struct store_txn txn;
};

// Where a disk goes: as told, else where it was, else to `local`.
static void choose_storage(const struct restore *r, const char *text, char id[64])
{
    char volid[VOLUME_ID_BYTES] = "";
    bool cdrom;
    snprintf(id, 64, "%s", r->how->storage ? r->how->storage : "local");
    if (r->how->storage || !guest_disk_volume(text, volid, &cdrom))
        return;
    volid[strcspn(volid, ":")] = 0;
    if (strlen(volid) < 64 && storage_takes(r->guests->options.storage, volid, "images"))
        snprintf(id, 64, "%.63s", volid);
}

static int restore_disk(struct restore *r, const json_t *disk, struct err *err)
{
    char id[64], size_text[24];
    const char *key = text_of(disk, "key"), *format = text_of(disk, "format");
    const char *text = text_of(json_object_get(archive_header(r->reader), "config"), key);
    uint64_t size = (uint64_t)json_integer_value(json_object_get(disk, "size"));
    bool raw = format && !strcmp(format, "raw");
    json_t *properties = text ? property_parse(text, "file", NULL) : NULL;
    if (!guest_is_disk_key(key) || !properties || json_object_get(r->config, key)) {
        json_decref(properties);
        return err_set(err, ERR_INPUT, "the backup is broken: disk '%.30s'", key);
    }
    choose_storage(r, text, id);
    task_log(r->task, "disk %s of %llu bytes goes to '%s'", key, (unsigned long long)size, id);
    int result = volume_make(r->guests->options.storage, id, r->vmid, NULL, raw ? "raw" : "qcow2",
                             size, r->made[r->count], err);
    if (!result) {
        property_size(size, size_text);
        json_object_set_new(properties, "file", json_string(r->made[r->count++]));
        json_object_set_new(properties, "size", json_string(size_text));
        char *printed = property_print(properties, "file");
        json_object_set_new(r->config, key, json_string(printed));
        free(printed);
    }
    json_decref(properties);
    return result;
}

// A drive without a disk in the backup: cloud-init's is made anew, an ISO image stays when it is there and may be used.
static int restore_drive(struct restore *r, const char *key, const json_t *value, struct err *err)
{
    const char *text = json_string_value(value);
    char volid[VOLUME_ID_BYTES], path[VOLUME_PATH_BYTES], id[64], changed[VOLUME_ID_BYTES + 64];
    bool cdrom, there = guest_disk_volume(text, volid, &cdrom);
    if (!there && text && !strncmp(text, "none", 4)) {
        json_object_set_new(r->config, key, json_string("none,media=cdrom"));
        return 0;
    }
    if (!there || !cdrom)
        return 0; // it was left out of the backup
    if (cloudinit_is_drive(volid) && r->count < ARCHIVE_DISKS_MAX) {
        choose_storage(r, text, id);
        if (volume_make(r->guests->options.storage, id, r->vmid,
                        r->how->replace ? NULL : "cloudinit", "raw", CLOUDINIT_BYTES,
                        r->made[r->count], err))
            return -1;
        snprintf(changed, sizeof(changed), "%s,media=cdrom,size=4M", r->made[r->count++]);
    } else if (strstr(volid, ":iso/") && !r->how->permitted(r->how->user, key, value)) {
        task_log(r->task, "%s: '%s' is left out", key, volid);
        snprintf(changed, sizeof(changed), "none,media=cdrom");
    } else if (strstr(volid, ":iso/") &&
               !volume_path(r->guests->options.storage, volid, path, NULL, NULL)) {
        snprintf(changed, sizeof(changed), "%s,media=cdrom", volid);
    } else {
        task_log(r->task, "%s: '%s' is not here", key, volid);
        snprintf(changed, sizeof(changed), "none,media=cdrom");
    }
    json_object_set_new(r->config, key, json_string(changed));
    return 0;
}

static int restore_keys(struct restore *r, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(archive_header(r->reader), "config"), key, value)
    {
        if (json_object_get(r->config, key) || guest_is_unused_key(key))
            continue;
        if (guest_is_disk_key(key)) {
            if (restore_drive(r, key, value, err))
                return -1;
        } else if (!r->how->permitted(r->how->user, key, value)) {
            task_log(r->task, "'%s' of the backup is left out", key);
        } else if (!strncmp(key, "net", 3) && json_is_string(value)) {
            guest_copy_net(r->config, key, json_string_value(value), r->how->unique);
        } else {
            json_object_set(r->config, key, value);
        }
    }
    return 0;
}

static int restore_disks(struct restore *r, struct err *err)
{
    size_t index;
    json_t *disk;
    json_array_foreach(json_object_get(archive_header(r->reader), "disks"), index,
                       disk) if (restore_disk(r, disk, err)) return -1;
    return volumes_load(r->guests->options.storage, r->reader,
                        (const char(*)[VOLUME_ID_BYTES])r->made, r->count, r->task, r->archive_size,
                        err);
}

// The new record and volumes become valid, and the old volumes go, in one step.
static int restore_commit(struct restore *r, struct err *err)
{
    struct storage *storage = r->guests->options.storage;
    int64_t revision;
    json_t *record = guest_get_at(r->guests, r->vmid, &revision), *row;
    json_t *old = volumes_of(storage, r->vmid);
    size_t index;
    // A new guest that is still to be changed goes as a whole when that does not come about.
    bool unfinished = !r->how->replace && json_object_size(r->how->changes);
    store_txn_begin(&r->txn);
    for (size_t i = 0; i < r->count; i++)
        volume_ready(storage, &r->txn, r->made[i]);
    json_array_foreach(old, index, row)
    {
        bool fresh = false;
        for (size_t i = 0; i < r->count; i++)
            fresh |= !strcmp(text_of(row, "volid"), r->made[i]);
        if (!fresh)
            volume_going(storage, &r->txn, text_of(row, "volid"));
    }
    int result = record ? guest_put(r->guests, &r->txn, r->vmid, revision,
                                    json_pack("{s:O, s:{}, s:s*}", "config", r->config, "snapshots",
                                              "lock", unfinished ? "create" : NULL),
                                    err)
                        : guest_missing(r->guests, r->vmid, err);
    if (!record)
        store_txn_abandon(&r->txn);
    if (!result)
        guest_remove_leftovers(r->guests, r->vmid); // else at the next start
    json_decref(old);
    json_decref(record);
    return result;
}

static int check_replaced(struct restore *r, struct err *err)
{
    json_t *old = volumes_of(r->guests->options.storage, r->vmid), *row;
    size_t index;
    int result = 0;
    if (guest_is_running(r->guests, r->vmid))
        result =
            err_set(err, ERR_BUSY, "unable to restore VM %lld - VM is running", (long long)r->vmid);
    json_t *record = guest_get(r->guests, r->vmid);
    if (!result && guest_number(json_object_get(record, "config"), "protection", 0))
        result = err_set(err, ERR_BUSY, "unable to restore VM %lld - protection mode enabled",
                         (long long)r->vmid);
    json_decref(record);
    json_array_foreach(
        old, index,
        row) if (!result && volume_is_base(r->guests->options.storage, text_of(row, "volid")) &&
                 !volume_owned_chain(r->guests->options.storage, text_of(row, "volid"), r->vmid))
        result = err_set(err, ERR_BUSY, "base volume '%s' is still in use by linked clones",
                         text_of(row, "volid"));
    json_decref(old);
    return result;
}

static int restore_all(struct restore *r, struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    if (r->how->archive[0] == '/')
        snprintf(path, sizeof(path), "%s", r->how->archive);
    else if (volume_path(r->guests->options.storage, r->how->archive, path, NULL, err))
        return -1;
    int fd = os_file_open(path, 0, err);
    if (fd < 0)
        return -1;
    os_file_size(fd, &r->archive_size);
    r->reader = archive_open(fd, err);
    int result = r->reader ? 0 : -1;
    if (!result)
        result = restore_disks(r, err);
    if (!result)
        result = restore_keys(r, err);
    if (!result)
        result = restore_commit(r, err);
    for (size_t i = 0; result && i < r->count; i++)
        volume_remove(r->guests->options.storage, r->made[i], NULL);
    archive_reader_destroy(r->reader);
    os_file_close(&fd);
    return result;
}

int guest_restore(struct guests *guests, struct task *task, int64_t vmid,
                  const struct guest_restore *how, struct err *err)
{
    if (guest_lock(guests, vmid, "restore", false, LOCK_SECONDS, err))
        return -1;
    struct restore *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    r->guests = guests;
    r->task = task;
    r->vmid = vmid;
    r->how = how;
    r->config = json_object();
    int result = how->replace ? check_replaced(r, err) : 0;
    if (!result)
        result = restore_all(r, err);
    struct guest_change change = {.changes = how->changes, .task = task};
    if (!result && json_object_size(how->changes))
        result = guest_configure(guests, vmid, &change, err);
    if (!result && !how->replace)
        result = guest_set_member(guests, vmid, "lock", NULL, err);
    if (result && !how->replace)
        guest_remove_record(guests, vmid, task, NULL);
    json_decref(r->config);
    free(r);
    guest_unlock(guests, vmid, false);
    return result;
}

json_t *guest_backup_config(struct guests *guests, const char *volid, struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    int fd = volume_path(guests->options.storage, volid, path, NULL, err)
                 ? -1
                 : os_file_open(path, 0, err);
    struct archive_reader *reader = fd < 0 ? NULL : archive_open(fd, err);
    json_t *header = reader ? json_deep_copy(archive_header(reader)) : NULL;
    archive_reader_destroy(reader);
    os_file_close(&fd);
    return header;
}
