// SPDX-License-Identifier: Apache-2.0
//
// A VM's disks.
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "cli/remote/remote.h"

#define DISKS_MAX 16

static bool free_key(const json_t *config, char key[16])
{
    for (int i = 0; i < DISKS_MAX; i++) {
        snprintf(key, 16, "virtio%d", i);
        if (!json_object_get(config, key))
            return true;
    }
    return false;
}

// "local:20,format=qcow2", or the volume that exists.
static int disk_value(struct remote *remote, char *value, size_t size, struct err *err)
{
    const char *volume = cli_word(remote->words, "volume"),
               *format = cli_word(remote->words, "format");
    uint64_t bytes;
    if (volume) {
        snprintf(value, size, "%s", volume);
        return 0;
    }
    if (remote->words->operands < 2 ||
        !units_parse_size(remote->words->operand[1], 1ull << 30, &bytes) || !bytes)
        return err_set(err, ERR_USAGE, "give the new disk's size, as 20G, or --volume");
    uint64_t gib = (bytes + (1ull << 30) - 1) >> 30;
    snprintf(value, size, "%s:%llu%s%s", remote_store(remote), (unsigned long long)gib,
             format ? ",format=" : "", format ? format : "");
    return 0;
}

int remote_disk_attach(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    char key[16], value[PATH_BYTES], what[64];
    json_t *config = NULL;
    if (disk_value(remote, value, sizeof(value), err) ||
        remote_find(remote, remote->words->operand[0], &guest, err) ||
        remote_call(remote, "GET", NULL, &config, err, "%s/config", guest.path))
        return -1;
    bool room = free_key(config, key);
    json_decref(config);
    if (!room)
        return err_set(err, ERR_LIMIT, "it has %d disks already", DISKS_MAX);
    snprintf(what, sizeof(what), "attach %s", key);
    return remote_task(remote, what, "POST", json_pack("{s:s}", key, value), err, "%s/config",
                       guest.path);
}

int remote_disk_detach(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    bool destroy = cli_has(remote->words, "destroy");
    if (remote_find(remote, remote->words->operand[0], &guest, err))
        return -1;
    if (destroy && !remote_confirm(remote, "Delete the disk and what is on it?", err))
        return -1;
    json_t *parameters =
        json_pack("{s:s, s:b}", "idlist", remote->words->operand[1], "force", destroy);
    return remote_call(remote, "PUT", parameters, NULL, err, "%s/unlink", guest.path);
}

int remote_disk_grow(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    if (remote_find(remote, remote->words->operand[0], &guest, err))
        return -1;
    json_t *parameters = json_pack("{s:s, s:s}", "disk", remote->words->operand[1], "size",
                                   remote->words->operand[2]);
    return remote_task(remote, "grow", "PUT", parameters, err, "%s/resize", guest.path);
}
