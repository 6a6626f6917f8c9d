// SPDX-License-Identifier: Apache-2.0
//
// Changing a configuration: values into their canonical writing, "STORE:N" into new volumes, removed disks into `unusedN` or nothing.
//
// The new volumes are made first, in state `making`; then one transaction puts the record and makes them ready. When it fails they are removed.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "node/guest/guest_cloudinit.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"

#define NEW_MAX    32
#define DISK_FIRST "file"
#define TAGS_MAX   64

struct edit {
    struct guests *guests;
    int64_t vmid;
    struct task *task; // or NULL
    json_t *config;    // being changed
    char made[NEW_MAX][VOLUME_ID_BYTES];
    size_t made_count;
    char gone[NEW_MAX][VOLUME_ID_BYTES];
    size_t gone_count;
};

static bool numbered(const char *key, const char *prefix, int max)
{
    size_t n = strlen(prefix);
    if (strncmp(key, prefix, n) != 0 || !isdigit((unsigned char)key[n]))
        return false;
    char *end;
    long number = strtol(key + n, &end, 10);
    return !*end && number < max;
}

bool guest_is_disk_key(const char *key)
{
    return numbered(key, "virtio", 16) || numbered(key, "scsi", 31) || numbered(key, "sata", 6) ||
           numbered(key, "ide", 4);
}

bool guest_is_unused_key(const char *key)
{
    return numbered(key, "unused", 256);
}

bool guest_disk_volume(const char *text, char volid[VOLUME_ID_BYTES], bool *cdrom)
{
    json_t *disk = text ? property_parse(text, DISK_FIRST, NULL) : NULL;
    const char *file = json_string_value(json_object_get(disk, "file"));
    const char *media = json_string_value(json_object_get(disk, "media"));
    *cdrom = media && !strcmp(media, "cdrom");
    bool volume =
        file && strcmp(file, "none") != 0 && strchr(file, ':') && strlen(file) < VOLUME_ID_BYTES;
    if (volume)
        snprintf(volid, VOLUME_ID_BYTES, "%s", file);
    json_decref(disk);
    return volume;
}

// ---- Disks.

// "local:32": allocate so many GiB. Fractions are taken, as small test disks want them.
static bool wants_new(const char *file, char store_id[64], uint64_t *bytes)
{
    const char *colon = strchr(file, ':');
    if (!colon || colon - file >= 64)
        return false;
    char *end;
    double size = strtod(colon + 1, &end);
    if (end == colon + 1 || *end || size <= 0 || size > 131072)
        return false;
    snprintf(store_id, 64, "%.*s", (int)(colon - file), file);
    *bytes = (uint64_t)(size * (double)GIB) & ~(uint64_t)511;
    return true;
}

static void set_size(json_t *disk, uint64_t bytes)
{
    char text[24];
    property_size(bytes, text);
    json_object_set_new(disk, "size", json_string(text));
}

// Where the next new volume's id goes; NULL when there are too many.
static char *next_made(struct edit *edit, struct err *err)
{
    if (edit->made_count < NEW_MAX)
        return edit->made[edit->made_count];
    err_set(err, ERR_LIMIT, "too many new disks at once");
    return NULL;
}

// The volume that next_made() had room for is there, and is this disk's.
static void take_made(struct edit *edit, json_t *disk, uint64_t bytes)
{
    json_object_del(disk, "format");
    json_object_del(disk, "import-from");
    json_object_set_new(disk, DISK_FIRST, json_string(edit->made[edit->made_count++]));
    set_size(disk, bytes);
}

static int allocate(struct edit *edit, json_t *disk, const char *store_id, uint64_t bytes,
                    struct err *err)
{
    const char *format = json_string_value(json_object_get(disk, "format"));
    char *volid = next_made(edit, err);
    if (!volid || volume_make(edit->guests->options.storage, store_id, edit->vmid, NULL,
                              format ? format : "qcow2", bytes, volid, err))
        return -1;
    take_made(edit, disk, bytes);
    return 0;
}

// "local:cloudinit": the guest's drive, which is written at each start.
static int allocate_cloudinit(struct edit *edit, json_t *disk, const char *store_id,
                              struct err *err)
{
    char old[VOLUME_ID_BYTES], *volid = next_made(edit, err);
    snprintf(old, sizeof(old), "%s:%lld/vm-%lld-cloudinit.raw", store_id, (long long)edit->vmid,
             (long long)edit->vmid);
    json_t *record = volume_record(edit->guests->options.storage, old);
    json_object_set_new(disk, "media", json_string("cdrom"));
    if (record) {
        json_decref(record);
        json_object_del(disk, "format");
        json_object_set_new(disk, DISK_FIRST, json_string(old));
        set_size(disk, CLOUDINIT_BYTES);
        return 0;
    }
    if (!volid || volume_make(edit->guests->options.storage, store_id, edit->vmid, "cloudinit",
                              "raw", CLOUDINIT_BYTES, volid, err))
        return -1;
    take_made(edit, disk, CLOUDINIT_BYTES);
    return 0;
}

// "import-from=VOLID": a copy of it.
static int import(struct edit *edit, json_t *disk, const char *store_id, const char *from,
                  struct err *err)
{
    uint64_t bytes;
    const char *format = json_string_value(json_object_get(disk, "format"));
    struct storage *storage = edit->guests->options.storage;
    char *volid = next_made(edit, err);
    if (!volid || volume_make_copy(storage, from, store_id, edit->vmid, format ? format : "qcow2",
                                   edit->task, volid, err))
        return -1;
    int result = volume_size(storage, volid, &bytes, err);
    take_made(edit, disk, result ? 0 : bytes);
    return result;
}

// A volume that is there: one of this guest's own, or a file for a CD-ROM.
static int adopt(struct edit *edit, json_t *disk, const char *file, struct err *err)
{
    const char *media = json_string_value(json_object_get(disk, "media"));
    char path[VOLUME_PATH_BYTES];
    struct storage *storage = edit->guests->options.storage;
    if (!strcmp(file, "none"))
        return 0;
    if (volume_path(storage, file, path, NULL, err))
        return -1;
    json_t *record = volume_record(storage, file);
    bool own = record && json_integer_value(json_object_get(record, "vmid")) == edit->vmid;
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(record, "size"));
    json_decref(record);
    if (record && !own)
        return err_set(err, ERR_DENIED, "volume '%s' belongs to another guest", file);
    if (!record && !(media && !strcmp(media, "cdrom")))
        return err_set(err, ERR_USAGE, "'%s' can only be attached with media=cdrom", file);
    if (record)
        set_size(disk, bytes);
    return 0;
}

static int set_disk(struct edit *edit, const char *key, const char *text, struct err *err)
{
    char store_id[64];
    uint64_t bytes;
    json_t *disk = property_parse(text, DISK_FIRST, err);
    if (!disk)
        return err_wrap(err, "%s", key);
    json_t *limits = json_object();
    int wrong = guest_disk_limits(disk, limits, err);
    json_decref(limits);
    if (wrong) {
        json_decref(disk);
        return err_wrap(err, "%s", key);
    }
    const char *file = json_string_value(json_object_get(disk, DISK_FIRST));
    char *given = strdup(file ? file : "");
    const char *from = json_string_value(json_object_get(disk, "import-from"));
    char *import_from = from ? strdup(from) : NULL;
    int result;
    if (!given || (from && !import_from))
        abort();
    const char *colon = strchr(given, ':');
    snprintf(store_id, sizeof(store_id), "%.*s", (int)strcspn(given, ":"), given);
    if (colon && !strcmp(colon, ":cloudinit")) {
        result = allocate_cloudinit(edit, disk, store_id, err);
    } else if (import_from && colon) {
        result = import(edit, disk, store_id, import_from, err);
    } else if (wants_new(given, store_id, &bytes)) {
        result = allocate(edit, disk, store_id, bytes, err);
    } else {
        result = adopt(edit, disk, given, err);
    }
    if (!result) {
        char *printed = property_print(disk, DISK_FIRST);
        json_object_set_new(edit->config, key, json_string(printed));
        free(printed);
    }
    free(given);
    free(import_from);
    json_decref(disk);
    return result;
}

// ---- Values.

static int set_net(struct edit *edit, const char *key, const char *text, struct err *err)
{
    json_t *net = property_parse_net(text, err);
    if (!net)
        return err_wrap(err, "%s", key);
    // A card that is changed without an address keeps its own.
    json_t *old =
        json_object_get(edit->config, key)
            ? property_parse_net(json_string_value(json_object_get(edit->config, key)), NULL)
            : NULL;
    bool has_mac = strchr(text, ':') != NULL;
    if (old && !has_mac)
        json_object_set(net, "macaddr", json_object_get(old, "macaddr"));
    char *printed = property_print_net(net);
    json_object_set_new(edit->config, key, json_string(printed));
    free(printed);
    json_decref(old);
    json_decref(net);
    return 0;
}

// "b;a,c" becomes "a;b;c": lower case, once each.
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// What does not fit is left out whole.
void guest_join_tags(const char *text, char joined[GUEST_TAGS_BYTES])
{
    char *tags[TAGS_MAX], *copy = strdup(text), *save = NULL;
    size_t count = 0, used = 0;
    for (char *tag = strtok_r(copy, ",; ", &save); tag && count < TAGS_MAX;
         tag = strtok_r(NULL, ",; ", &save)) {
        for (char *c = tag; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        tags[count++] = tag;
    }
    if (count)
        qsort(tags, count, sizeof(*tags), by_text);
    joined[0] = 0;
    for (size_t i = 0; i < count; i++) {
        bool again = i && !strcmp(tags[i], tags[i - 1]);
        if (!again && used + strlen(tags[i]) + 2 <= GUEST_TAGS_BYTES)
            used += (size_t)snprintf(joined + used, GUEST_TAGS_BYTES - used, "%s%s",
                                     used ? ";" : "", tags[i]);
    }
    free(copy);
}

static int set_password(struct edit *edit, const char *text, struct err *err)
{
    char stored[256];
    if (cloudinit_hash_password(text, stored, err))
        return -1;
    json_object_set_new(edit->config, "cipassword", json_string(stored));
    return 0;
}

static void drop_disk(struct edit *edit, const char *key, bool force);

// A volume that a disk uses again is not unused.
static void drop_unused(struct edit *edit, const char *volid)
{
    const char *key;
    void *next;
    json_t *value;
    json_object_foreach_safe(edit->config, next, key,
                             value) if (guest_is_unused_key(key) &&
                                        !strcmp(json_string_value(value), volid))
        json_object_del(edit->config, key);
}

// What a disk's key named before stays, as an unused volume, unless the new string names it too.
static int change_disk(struct edit *edit, const char *key, const char *text, struct err *err)
{
    char old[VOLUME_ID_BYTES], fresh[VOLUME_ID_BYTES];
    bool cdrom;
    json_t *before = json_incref(json_object_get(edit->config, key));
    bool had = guest_disk_volume(json_string_value(before), old, &cdrom);
    int result = set_disk(edit, key, text, err);
    const char *now_text = json_string_value(json_object_get(edit->config, key));
    bool has = guest_disk_volume(now_text, fresh, &cdrom);
    if (!result && has)
        drop_unused(edit, fresh);
    if (!result && had && !(has && !strcmp(old, fresh))) {
        json_t *now = json_incref(json_object_get(edit->config, key));
        json_object_set(edit->config, key, before);
        drop_disk(edit, key, false);
        json_object_set_new(edit->config, key, now);
    }
    json_decref(before);
    return result;
}

static int set_key(struct edit *edit, const char *key, const json_t *value, struct err *err)
{
    const char *text = json_string_value(value);
    if (guest_is_disk_key(key))
        return change_disk(edit, key, text, err);
    if (numbered(key, "net", 32))
        return set_net(edit, key, text, err);
    if (!strcmp(key, "cipassword"))
        return set_password(edit, text, err);
    if (!strcmp(key, "tags")) {
        char joined[GUEST_TAGS_BYTES];
        guest_join_tags(text, joined);
        json_object_set_new(edit->config, "tags", json_string(joined));
        return 0;
    }
    if (json_is_boolean(value))
        json_object_set_new(edit->config, key, json_integer(json_is_true(value)));
    else
        json_object_set(edit->config, key, (json_t *)(uintptr_t)value);
    return 0;
}

// A disk's key goes; its volume stays as `unusedN`, or goes too.
static void drop_disk(struct edit *edit, const char *key, bool force)
{
    char volid[VOLUME_ID_BYTES], unused[24];
    bool cdrom;
    bool volume =
        guest_disk_volume(json_string_value(json_object_get(edit->config, key)), volid, &cdrom);
    json_object_del(edit->config, key);
    json_t *record = volume ? volume_record(edit->guests->options.storage, volid) : NULL;
    bool own = record && json_integer_value(json_object_get(record, "vmid")) == edit->vmid;
    json_decref(record);
    if (!own)
        return;
    if (force || guest_is_unused_key(key) || cloudinit_is_drive(volid)) {
        if (edit->gone_count < NEW_MAX)
            snprintf(edit->gone[edit->gone_count++], VOLUME_ID_BYTES, "%s", volid);
        return;
    }
    for (unsigned n = 0; n < 256; n++) {
        snprintf(unused, sizeof(unused), "unused%u", n);
        if (json_object_get(edit->config, unused))
            continue;
        json_object_set_new(edit->config, unused, json_string(volid));
        return;
    }
}

static int remove_keys(struct edit *edit, const json_t *keys, bool force, struct err *err)
{
    size_t index;
    json_t *key;
    json_array_foreach(keys, index, key)
    {
        const char *name = json_string_value(key);
        bool disk = guest_is_disk_key(name) || guest_is_unused_key(name);
        if (disk && guest_number(edit->config, "protection", 0))
            return err_set(err, ERR_BUSY, "can't remove drive '%s' - protection mode enabled",
                           name);
        if (disk)
            drop_disk(edit, name, force);
        else if (!strcmp(name, "template") || !strcmp(name, "digest"))
            return err_set(err, ERR_USAGE, "'%s' cannot be removed", name);
        else
            json_object_del(edit->config, name);
    }
    return 0;
}

// ---- The whole.

static int apply(struct edit *edit, const struct guest_change *change, struct err *err)
{
    const char *key;
    json_t *value;
    if (remove_keys(edit, change->remove, change->force, err))
        return -1;
    json_object_foreach((json_t *)(uintptr_t)change->changes, key,
                        value) if (set_key(edit, key, value, err)) return -1;
    return 0;
}

static int check_digest(const json_t *config, const char *wanted, struct err *err)
{
    char digest[41];
    guest_digest(config, digest);
    return !wanted || !strcmp(digest, wanted)
               ? 0
               : err_set(err, ERR_BUSY,
                         "detected modified configuration - file changed by other user? Try again");
}

static int commit(struct edit *edit, json_t *record, int64_t revision, struct err *err)
{
    struct storage *storage = edit->guests->options.storage;
    struct store_txn txn;
    store_txn_begin(&txn);
    for (size_t i = 0; i < edit->made_count; i++)
        volume_ready(storage, &txn, edit->made[i]);
    for (size_t i = 0; i < edit->gone_count; i++) {
        if (volume_is_base(storage, edit->gone[i])) {
            store_txn_abandon(&txn);
            return err_set(err, ERR_BUSY, "base volume '%s' is still in use by linked clones",
                           edit->gone[i]);
        }
        volume_going(storage, &txn, edit->gone[i]);
    }
    json_t *changed = json_copy(record);
    json_object_set(changed, "config", edit->config);
    return guest_put(edit->guests, &txn, edit->vmid, revision, changed, err);
}

int guest_configure(struct guests *guests, int64_t vmid, const struct guest_change *change,
                    struct err *err)
{
    int64_t revision;
    json_t *record = guest_get_at(guests, vmid, &revision);
    if (!record)
        return guest_missing(guests, vmid, err);
    struct edit *edit = calloc(1, sizeof(*edit)); // volume ids: large for a stack
    if (!edit)
        abort();
    const json_t *config = json_object_get(record, "config");
    edit->guests = guests;
    edit->vmid = vmid;
    edit->task = change->task;
    edit->config = json_deep_copy(config);
    int result = check_digest(config, change->digest, err);
    if (!result)
        result = apply(edit, change, err);
    if (!result)
        result = commit(edit, record, revision, err);
    for (size_t i = 0; result && i < edit->made_count; i++)
        volume_remove(guests->options.storage, edit->made[i], NULL);
    for (size_t i = 0; !result && i < edit->gone_count; i++)
        volume_remove(guests->options.storage, edit->gone[i], NULL); // else at the next start
    json_decref(edit->config);
    json_decref(record);
    free(edit);
    return result;
}
