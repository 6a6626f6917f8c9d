// SPDX-License-Identifier: Apache-2.0
//
// JSON as the header of a backup that a stranger made, restored by who may not set everything: refused with a reason and nothing left of it, or a
// guest whose every key the interface would have taken, and whose disks are its own, valid volumes.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "node/guest/guest_internal.h"
#include "node/rest/rest.h"
#include "node/storage/archive.h"

#define VMID 100

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void demand(bool true_of_it)
{
    if (!true_of_it)
        abort();
}

static char folder[64];

static void clean_up(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    demand(!system(command)); // NOLINT(cert-env33-c): of our own making
}

// A node's guests and datastores, without a helper: nothing is started here.
static struct guests *make_guests(void)
{
    char path[96];
    struct err err = {0};
    struct guests *guests = calloc(1, sizeof(*guests));
    log_set_level(LOG_ERROR);
    snprintf(folder, sizeof(folder), "/tmp/wirt-restore-XXXXXX");
    demand(guests && mkdtemp(folder) && !atexit(clean_up));
    snprintf(path, sizeof(path), "%s/store.db", folder);
    guests->options.store = store_open(path, &err);
    demand(guests->options.store != NULL);
    guests->options.storage = storage_create(guests->options.store, folder, &err);
    demand(guests->options.storage != NULL);
    snprintf(path, sizeof(path), "%s/run", folder);
    guests->run_folder = strdup(path);
    guests->node = strdup("fuzz");
    pthread_mutex_init(&guests->lock, NULL);
    pthread_cond_init(&guests->changed, NULL);
    return guests;
}

// The header with disks that hold nothing. False when it is none.
static bool write_archive(const char *path, const uint8_t *bytes, size_t length)
{
    struct err err = {0};
    json_t *header = json_loadb((const char *)bytes, length, 0, NULL);
    FILE *file = header ? fopen(path, "wb+") : NULL;
    struct archive_writer *writer = file ? archive_create(fileno(file), header, &err) : NULL;
    bool written = writer && !archive_finish(writer, &err);
    archive_writer_destroy(writer);
    if (file)
        fclose(file);
    json_decref(header);
    return written;
}

static bool permitted(void *user, const char *key, const json_t *value)
{
    (void)user;
    return rest_guest_permission(key) && api_value_fits(rest_guest_keys, key, value);
}

static void check_guest(struct guests *guests)
{
    const char *key;
    json_t *value, *record = guest_get(guests, VMID);
    demand(record && !json_object_get(record, "lock"));
    json_object_foreach(json_object_get(record, "config"), key, value)
    {
        char volid[VOLUME_ID_BYTES], path[VOLUME_PATH_BYTES];
        bool cdrom;
        demand(api_value_fits(rest_guest_keys, key, value));
        if (!guest_is_disk_key(key) || !guest_disk_volume(json_string_value(value), volid, &cdrom))
            continue;
        json_t *volume = volume_record(guests->options.storage, volid);
        demand(volume || cdrom);
        if (volume) {
            demand(json_integer_value(json_object_get(volume, "vmid")) == VMID);
            demand(!strcmp(json_string_value(json_object_get(volume, "state")), "ready"));
            demand(!volume_path(guests->options.storage, volid, path, NULL, NULL));
        }
        json_decref(volume);
    }
    json_decref(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static struct guests *guests;
    char path[96];
    struct err err = {0};
    if (!guests)
        guests = make_guests();
    snprintf(path, sizeof(path), "%s/archive", folder);
    if (!write_archive(path, bytes, length))
        return 0;
    demand(!guest_claim(guests, VMID, "create", &err));
    struct guest_restore how = {.archive = path, .storage = "local", .permitted = permitted};
    if (!guest_restore(guests, NULL, VMID, &how, &err)) {
        check_guest(guests);
        demand(!guest_destroy(guests, NULL, VMID, &err));
    } else {
        demand(err.text[0] != 0);
    }
    json_t *left = volumes_of(guests->options.storage, VMID);
    demand(!json_array_size(left) && !guest_exists(guests, VMID));
    json_decref(left);
    return 0;
}
