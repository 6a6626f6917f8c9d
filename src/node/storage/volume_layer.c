// SPDX-License-Identifier: Apache-2.0
//
// How it works: a volume's record names its image's file, so a volume keeps its id while its image changes. To keep its state, a new, empty image
// is made upon the image that it has; then one transaction gives the new image to the volume and the old one to a new volume, the layer below.
// Nothing is copied and nothing renamed, so it can be done while a machine has the old image open, which is told to go on with the new one.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/block/block_image.h"
#include "machine/job/job.h"
#include "node/storage/storage_internal.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/random.h"

static const char *text_of(const json_t *record, const char *key)
{
    return json_string_value(json_object_get(record, key));
}

static void put_record(struct store_txn *txn, const char *volid, json_t *record)
{
    char key[VOLUME_ID_BYTES + 16];
    volume_key(volid, key);
    store_put(txn, key, record);
}

// The file that a record's image has, below the datastore's folder of images.
static void file_of(const char *volid, const json_t *record, char file[VOLUME_ID_BYTES])
{
    const char *own = text_of(record, "file");
    snprintf(file, VOLUME_ID_BYTES, "%s", own ? own : strchr(volid, ':') + 1);
}

static void set_parent(json_t *record, const char *parent)
{
    if (parent)
        json_object_set_new(record, "parent", json_string(parent));
    else
        json_object_del(record, "parent");
}

// ---- Making. The claim names the new file, so that a crash takes it away with the claim.

static int claim_layer(struct storage *storage, const char *volid, const char *name,
                       struct volume_layer *layer, struct err *err)
{
    char store_id[64], suffix[120], file[VOLUME_ID_BYTES];
    const char *rest;
    uint32_t number;
    json_t *record = volume_record(storage, volid);
    if (!record)
        return err_set(err, ERR_NOT_FOUND, "volume '%s' does not exist", volid);
    if (volume_split(volid, store_id, &rest, err)) {
        json_decref(record);
        return -1;
    }
    long long vmid = json_integer_value(json_object_get(record, "vmid"));
    os_random_bytes(&number, sizeof(number));
    snprintf(file, sizeof(file), "%lld/vm-%lld-layer-%08x.qcow2", vmid, vmid, number);
    json_t *claim = volume_new_record(
        vmid, "qcow2", (uint64_t)json_integer_value(json_object_get(record, "size")));
    json_object_set_new(claim, "file", json_string(file));
    json_decref(record);
    snprintf(layer->volid, sizeof(layer->volid), "%s", volid);
    snprintf(suffix, sizeof(suffix), "%.80s-%08x", name, number);
    return volume_claim(storage, store_id, vmid, suffix, claim, layer->below, err) ||
                   volume_path(storage, layer->below, layer->path, NULL, err)
               ? -1
               : 0;
}

static int make_image(struct storage *storage, const char *upon, struct volume_layer *layer,
                      struct err *err)
{
    char path[VOLUME_PATH_BYTES], format[16];
    uint64_t size;
    if (volume_path(storage, upon, path, format, err) || volume_size(storage, upon, &size, err))
        return -1;
    struct block_create create = {
        .format = "qcow2", .size = size, .backing = path, .backing_format = format};
    layer->fd = os_file_open(layer->path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, err);
    if (layer->fd < 0)
        return -1;
    int result = block_lock_take(layer->fd, true, layer->path, err) ||
                         block_image_create(layer->fd, layer->path, &create, err)
                     ? -1
                     : 0;
    int failed = result ? 0 : os_fdatasync(layer->fd);
    if (failed)
        result = err_set_errno(err, -failed, "'%s' cannot be written", layer->path);
    if (result)
        os_file_close(&layer->fd);
    return result;
}

int volume_layer_make(struct storage *storage, const char *volid, const char *name,
                      struct volume_layer *layer, struct err *err)
{
    layer->fd = -1;
    if (claim_layer(storage, volid, name, layer, err))
        return -1;
    if (!make_image(storage, volid, layer, err))
        return 0;
    volume_remove(storage, layer->below, NULL);
    return -1;
}

// ---- Giving images to volumes.

// The two records with their images exchanged: a layer below with what the volume had.
static void exchange(json_t *volume, json_t *below, const char *volid, const char *below_id)
{
    char old[VOLUME_ID_BYTES], fresh[VOLUME_ID_BYTES];
    file_of(volid, volume, old);
    file_of(below_id, below, fresh);
    json_t *format = json_incref(json_object_get(volume, "format"));
    json_object_set(volume, "format", json_object_get(below, "format"));
    json_object_set_new(below, "format", format);
    json_object_set_new(volume, "file", json_string(fresh));
    json_object_set_new(below, "file", json_string(old));
}

void volume_layer_ready(struct storage *storage, struct store_txn *txn,
                        const struct volume_layer *layer)
{
    json_t *stored = volume_record(storage, layer->volid);
    json_t *claimed = volume_record(storage, layer->below);
    json_t *volume = json_copy(stored), *below = json_copy(claimed);
    exchange(volume, below, layer->volid, layer->below);
    set_parent(below, text_of(volume, "parent"));
    set_parent(volume, layer->below);
    json_object_set_new(below, "state", json_string("ready"));
    put_record(txn, layer->volid, volume);
    put_record(txn, layer->below, below);
    json_decref(stored);
    json_decref(claimed);
}

int volume_layer_undo(struct storage *storage, const struct volume_layer *layer, struct err *err)
{
    struct store_txn txn;
    json_t *stored = volume_record(storage, layer->volid);
    json_t *kept = volume_record(storage, layer->below);
    json_t *volume = json_copy(stored), *below = json_copy(kept);
    exchange(volume, below, layer->volid, layer->below);
    set_parent(volume, text_of(below, "parent"));
    set_parent(below, NULL);
    json_object_set_new(below, "state", json_string("going"));
    store_txn_begin(&txn);
    put_record(&txn, layer->volid, volume);
    put_record(&txn, layer->below, below);
    json_decref(stored);
    json_decref(kept);
    if (store_commit(storage->store, &txn, err))
        return -1;
    return volume_remove(storage, layer->below, err);
}

// ---- Going back.

// A claim is turned into what the volume had, which goes; a volume that is gone is made again.
int volume_layer_back(struct storage *storage, struct store_txn *txn, const char *below,
                      const char *volid, struct err *err)
{
    struct volume_layer layer = {.fd = -1};
    if (claim_layer(storage, below, "back", &layer, err))
        return -1;
    if (make_image(storage, below, &layer, err)) {
        volume_remove(storage, layer.below, NULL);
        return -1;
    }
    os_file_close(&layer.fd);
    json_t *stored = volume_record(storage, volid);
    json_t *claimed = volume_record(storage, layer.below);
    json_t *fresh = json_copy(claimed);
    if (stored) { // the claim takes what the volume had, and goes
        json_t *volume = json_copy(stored), *gone = json_copy(claimed);
        exchange(volume, gone, volid, layer.below);
        json_object_set(volume, "size", json_object_get(claimed, "size"));
        set_parent(gone, text_of(stored, "parent"));
        set_parent(volume, below);
        json_object_set_new(gone, "state", json_string("going"));
        put_record(txn, volid, volume);
        put_record(txn, layer.below, gone);
        json_decref(fresh);
    } else {
        char key[VOLUME_ID_BYTES + 16];
        json_object_set_new(fresh, "state", json_string("ready"));
        set_parent(fresh, below);
        put_record(txn, volid, fresh);
        volume_key(layer.below, key);
        store_delete(txn, key);
    }
    json_decref(stored);
    json_decref(claimed);
    return 0;
}

// ---- Dropping.

// The only volume that stands on it; "" when there are none or several.
static size_t find_upper(struct storage *storage, const char *below, char upper[VOLUME_ID_BYTES])
{
    struct store_list list;
    size_t found = 0;
    upper[0] = 0;
    store_list(storage->store, "/volume/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *parent = text_of(list.entries[i].value, "parent");
        if (parent && !strcmp(parent, below) && !found++)
            snprintf(upper, VOLUME_ID_BYTES, "%s", list.entries[i].key + strlen("/volume/"));
    }
    store_list_free(&list);
    return found;
}

size_t volume_layer_uppers(struct storage *storage, const char *below)
{
    char upper[VOLUME_ID_BYTES];
    return find_upper(storage, below, upper);
}

// The upper image takes over what lies between it and its new base; killed in between it reads the same.
static int merge_here(struct storage *storage, const struct volume_merge *merge, struct err *err)
{
    struct block_chain *chain = calloc(1, sizeof(*chain));
    if (!chain)
        abort();
    struct block_disk *disk = volume_open(storage, merge->upper, false, chain, err);
    struct job_options options = {.kind = JOB_STREAM,
                                  .id = "merge",
                                  .disk = disk,
                                  .target = {.fd = -1},
                                  .base = merge->base[0] ? merge->base : NULL,
                                  .base_fd = -1,
                                  .above_fd = -1};
    struct job *job = disk ? job_start(&options, err) : NULL;
    int result = job ? 0 : -1;
    if (job && job_wait(job) != JOB_DONE) {
        struct job_status status;
        job_status(job, &status);
        result = err_set(err, ERR_IO, "'%s' cannot take over what lies below it: %.300s",
                         merge->upper, status.err.text);
    }
    job_destroy(job);
    if (disk)
        result = volume_close(disk, chain, merge->upper, result, err);
    free(chain);
    return result;
}

int volume_layer_drop(struct storage *storage, const char *below,
                      int (*live)(void *user, const struct volume_merge *merge, struct err *err),
                      void *user, struct err *err)
{
    struct volume_merge merge = {.base = ""};
    size_t uppers = find_upper(storage, below, merge.upper);
    json_t *record = volume_record(storage, below);
    const char *parent = text_of(record, "parent");
    int result = record ? 0 : err_set(err, ERR_NOT_FOUND, "volume '%s' does not exist", below);
    int did = 0;
    if (uppers == 1 && parent && volume_path(storage, parent, merge.base, NULL, err))
        result = -1;
    if (!result && uppers == 1) {
        did = live(user, &merge, err);
        result = did < 0 || (!did && merge_here(storage, &merge, err)) ? -1 : 0;
    }
    if (!result && uppers == 1) {
        struct store_txn txn;
        json_t *stored = volume_record(storage, merge.upper);
        json_t *upper = json_copy(stored);
        set_parent(upper, parent);
        store_txn_begin(&txn);
        put_record(&txn, merge.upper, upper);
        json_decref(stored);
        result = store_commit(storage->store, &txn, err);
    }
    json_decref(record);
    if (!result && uppers > 1)
        return 1;
    return result ? -1 : volume_remove(storage, below, err);
}
