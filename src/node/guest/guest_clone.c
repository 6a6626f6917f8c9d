// SPDX-License-Identifier: Apache-2.0
//
// Clones: linked ones stand on the template's disks, full ones have copies. The source is only read: any number of clones are made of it at
// once. Of a machine that runs its disks are copied as they were at one instant, by jobs of its own, with what it runs with: then nothing else works on it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_cloudinit.h"
#include "node/guest/guest_internal.h"
#include "node/guest/guest_plug.h"
#include "node/guest/property.h"
#include "os/file.h"

#define LOCK_SECONDS 10
#define DISKS_MAX    64

struct live_disk {
    char key[24], path[VOLUME_PATH_BYTES], format[16];
};

struct cloning {
    struct guests *guests;
    struct task *task;
    const struct guest_clone *clone;
    bool full;
    const json_t *layers; // of the snapshot, NULL: as it is now; borrowed
    json_t *config;       // of the new one
    struct store_txn txn;
    bool live; // the source runs, and is cloned as it is now
    struct live_disk disks[DISKS_MAX];
    struct guest_copy copies[DISKS_MAX];
    struct guest_copying copying;
};

// An empty volume, which the source's machine is to fill.
static int make_live(struct cloning *c, const char *key, const char *source, const char *target,
                     const char *format, char volid[VOLUME_ID_BYTES], struct err *err)
{
    struct storage *storage = c->guests->options.storage;
    size_t n = c->copying.count;
    struct live_disk *disk = &c->disks[n];
    struct guest_copy *copy = &c->copies[n];
    if (n == DISKS_MAX)
        return err_set(err, ERR_LIMIT, "too many disks");
    *copy = (struct guest_copy){.disk = disk->key, .path = disk->path, .format = disk->format};
    snprintf(disk->key, sizeof(disk->key), "%s", key);
    if (volume_size(storage, source, &copy->size, err) ||
        volume_make(storage, target, c->clone->to, NULL, format, copy->size, volid, err) ||
        volume_path(storage, volid, disk->path, disk->format, err))
        return -1;
    copy->fd = storage_image_open(disk->path, err);
    if (copy->fd < 0)
        return -1;
    c->copying.count++;
    c->copying.total += copy->size;
    return 0;
}

static int clone_volume(struct cloning *c, const char *key, const char *source,
                        char volid[VOLUME_ID_BYTES], struct err *err)
{
    const struct guest_clone *clone = c->clone;
    struct storage *storage = c->guests->options.storage;
    char store_id[64];
    snprintf(store_id, sizeof(store_id), "%.*s", (int)strcspn(source, ":"), source);
    const char *target = clone->storage ? clone->storage : store_id;
    if (cloudinit_is_drive(source)) // written at the start
        return volume_make(storage, target, clone->to, "cloudinit", "raw", CLOUDINIT_BYTES, volid,
                           err);
    if (!c->full)
        return volume_make_linked(storage, source, target, clone->to, volid, err);
    json_t *record = volume_record(storage, source);
    const char *own = json_string_value(json_object_get(record, "format"));
    const char *format = clone->format ? clone->format : own ? own : "qcow2";
    task_log(c->task, "create full clone of drive %s (%s)", key, source);
    int result =
        c->live ? make_live(c, key, source, target, format, volid, err)
                : volume_make_copy(storage, source, target, clone->to, format, c->task, volid, err);
    json_decref(record);
    return result;
}

static int clone_disk(struct cloning *c, const char *key, const char *text, struct err *err)
{
    char source[VOLUME_ID_BYTES], volid[VOLUME_ID_BYTES];
    bool cdrom;
    if (!guest_disk_volume(text, source, &cdrom) || (cdrom && !cloudinit_is_drive(source))) {
        json_object_set_new(c->config, key, json_string(text));
        return 0;
    }
    const char *layer = json_string_value(json_object_get(c->layers, key));
    if (clone_volume(c, key, layer ? layer : source, volid, err))
        return -1;
    volume_ready(c->guests->options.storage, &c->txn, volid);
    json_t *disk = property_parse(text, "file", NULL);
    json_object_set_new(disk, "file", json_string(volid));
    char *printed = property_print(disk, "file");
    json_object_set_new(c->config, key, json_string(printed));
    free(printed);
    json_decref(disk);
    return 0;
}

void guest_copy_net(json_t *config, const char *key, const char *text, bool fresh)
{
    json_t *net = property_parse_net(text, NULL);
    if (!net)
        return;
    if (fresh)
        json_object_del(net, "macaddr");
    char *bare = property_print(net, "model");
    json_t *made = fresh ? property_parse_net(bare, NULL) : json_incref(net);
    char *printed = made ? property_print_net(made) : NULL;
    if (printed)
        json_object_set_new(config, key, json_string(printed));
    free(printed);
    free(bare);
    json_decref(made);
    json_decref(net);
}

static int clone_keys(struct cloning *c, const json_t *config, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        if (!strcmp(key, "template") || guest_is_unused_key(key) || !strcmp(key, "protection"))
            continue;
        if (guest_is_disk_key(key)) {
            if (clone_disk(c, key, json_string_value(value), err))
                return -1;
        } else if (!strncmp(key, "net", 3) && strspn(key + 3, "0123456789") == strlen(key + 3)) {
            guest_copy_net(c->config, key, json_string_value(value), true);
        } else {
            json_object_set(c->config, key, value);
        }
        if (!task_wanted(c->task))
            return task_cancelled(err);
    }
    return 0;
}

static void set_names(struct cloning *c)
{
    char fallback[64];
    const struct guest_clone *clone = c->clone;
    const char *old = json_string_value(json_object_get(c->config, "name"));
    if (old)
        snprintf(fallback, sizeof(fallback), "Copy-of-VM-%.40s", old);
    else
        snprintf(fallback, sizeof(fallback), "Copy-of-VM-%lld", (long long)clone->from);
    json_object_set_new(c->config, "name", json_string(clone->name ? clone->name : fallback));
    if (clone->description)
        json_object_set_new(c->config, "description", json_string(clone->description));
}

static int finish(struct cloning *c, struct err *err)
{
    int64_t revision;
    set_names(c);
    json_t *record = guest_get_at(c->guests, c->clone->to, &revision);
    if (!record)
        return guest_missing(c->guests, c->clone->to, err);
    json_decref(record);
    json_t *fresh = json_pack("{s:O, s:{}}", "config", c->config, "snapshots");
    return guest_put(c->guests, &c->txn, c->clone->to, revision, fresh, err);
}

static int copy_live(struct cloning *c, const json_t *config, struct err *err)
{
    c->copying.copies = c->copies;
    c->copying.bytes_per_s = c->clone->bytes_per_s;
    return c->copying.count
               ? guest_copy_disks(c->guests, c->task, c->clone->from, config, &c->copying, err)
               : 0;
}

// What is cloned: a snapshot, what the machine runs with, or the configuration. A new reference; NULL and *err.
static json_t *choose_source(struct cloning *c, const json_t *record, struct err *err)
{
    const struct guest_clone *clone = c->clone;
    json_t *config = json_object_get(record, "config");
    const json_t *snapshot =
        clone->snapshot ? json_object_get(json_object_get(record, "snapshots"), clone->snapshot)
                        : NULL;
    bool template = json_object_get(config, "template") != NULL;
    c->full = clone->full < 0 ? !template : clone->full;
    if (clone->snapshot && !snapshot) {
        err_set(err, ERR_NOT_FOUND, "snapshot '%s' does not exist", clone->snapshot);
        return NULL;
    }
    if (!c->full && !template) {
        err_set(err, ERR_USAGE,
                "Linked clone feature is not supported for a VM that is no "
                "template; give full=1");
        return NULL;
    }
    if (snapshot) { // its layers are never written, whether the machine runs or not
        c->layers = json_object_get(snapshot, "layers");
        return json_incref(json_object_get(snapshot, "config"));
    }
    c->live = guest_is_running(c->guests, clone->from);
    json_t *running = c->live ? guest_running_config(c->guests, clone->from, record) : NULL;
    return running ? running : json_incref(config);
}

static int clone_locked(struct guests *guests, struct task *task, const struct guest_clone *clone,
                        struct err *err)
{
    json_t *record = guest_get(guests, clone->from);
    if (!record)
        return guest_missing(guests, clone->from, err);
    struct cloning *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->guests = guests;
    c->task = task;
    c->clone = clone;
    c->config = json_object();
    store_txn_begin(&c->txn);
    json_t *config = choose_source(c, record, err);
    int result = config ? clone_keys(c, config, err) : -1;
    if (!result)
        result = copy_live(c, config, err);
    while (c->copying.count)
        os_file_close(&c->copies[--c->copying.count].fd);
    if (!result)
        result = finish(c, err);
    else
        store_txn_abandon(&c->txn);
    json_decref(config);
    json_decref(c->config);
    json_decref(record);
    free(c);
    return result;
}

// Takes the source's lock: with others who only read it, unless its machine is to work for us. 1: shared; 0: alone; -1.
static int lock_source(struct guests *guests, const struct guest_clone *clone, struct err *err)
{
    for (;;) {
        bool shared = clone->snapshot || !guest_is_running(guests, clone->from);
        if (guest_lock(guests, clone->from, "clone", shared, LOCK_SECONDS, err))
            return -1;
        if (!shared || clone->snapshot || !guest_is_running(guests, clone->from))
            return shared;
        guest_unlock(guests, clone->from, shared); // it was started meanwhile
    }
}

int guest_clone(struct guests *guests, struct task *task, const struct guest_clone *clone,
                struct err *err)
{
    int shared = lock_source(guests, clone, err), result = -1;
    if (shared >= 0) {
        result = clone_locked(guests, task, clone, err);
        guest_unlock(guests, clone->from, shared);
    }
    if (result)
        guest_remove_record(guests, clone->to, task, NULL);
    return result;
}
