// SPDX-License-Identifier: Apache-2.0
//
// `wirt launch`, `clone`, `template`: VMs out of other VMs.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cli/remote/remote.h"
#include "os/directory.h"

#define KEY_FILE_BYTES_MAX 65536

static int next_id(struct remote *remote, char id[16], struct err *err)
{
    const char *given = cli_word(remote->words, "id");
    json_t *next = NULL;
    if (!given && remote_call(remote, "GET", NULL, &next, err, "/cluster/nextid"))
        return -1;
    snprintf(id, 16, "%s", given ? given : json_string_value(next));
    json_decref(next);
    return 0;
}

static int clone(struct remote *remote, const struct remote_guest *from, const char *id,
                 const char *name, bool full, struct err *err)
{
    char what[NAME_BYTES * 3];
    json_t *parameters = json_pack("{s:s, s:s, s:b}", "newid", id, "name", name, "full", full);
    const char *snapshot = cli_word(remote->words, "snapshot");
    if (snapshot)
        json_object_set_new(parameters, "snapname", json_string(snapshot));
    snprintf(what, sizeof(what), "clone %s to %s", from->name, name);
    return remote_task(remote, what, "POST", parameters, err, "%s/clone", from->path);
}

static void print_made(struct remote *remote, const char *id, const char *name)
{
    json_t *made = json_pack("{s:I, s:s}", "vmid", strtoll(id, NULL, 10), "name", name);
    if (remote->json)
        remote_json(remote, made);
    else
        printf("%s (%s) is there: wirt show %s, wirt console %s\n", name, id, name, name);
    json_decref(made);
}

int remote_clone(struct remote *remote, struct err *err)
{
    struct remote_guest from;
    char id[16];
    const char *name = remote->words->operand[1];
    if (remote_find(remote, remote->words->operand[0], &from, err) || next_id(remote, id, err) ||
        clone(remote, &from, id, name, cli_has(remote->words, "full") || !from.is_template, err))
        return -1;
    print_made(remote, id, name);
    return 0;
}

int remote_template(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    char text[NAME_BYTES * 2];
    if (remote_find(remote, remote->words->operand[0], &guest, err))
        return -1;
    snprintf(text, sizeof(text), "Make %s a template? It can then only be cloned.", guest.name);
    if (!remote_confirm(remote, text, err))
        return -1;
    return remote_task(remote, "template", "POST", NULL, err, "%s/template", guest.path);
}

// ---- launch: clone, configure, grow, start

static int add_key(json_t *config, const char *path, struct err *err)
{
    size_t length;
    char *key = os_file_read_all(path, KEY_FILE_BYTES_MAX, &length, err);
    if (!key)
        return -1;
    while (length && (key[length - 1] == '\n' || key[length - 1] == ' '))
        key[--length] = 0;
    // The interface wants this value URL-encoded in itself.
    size_t room = 3 * length + 1, used = 0;
    char *encoded = calloc(1, room);
    for (size_t i = 0; i < length; i++) {
        bool plain = isalnum((unsigned char)key[i]) || strchr("-._~", key[i]);
        used += (size_t)snprintf(encoded + used, room - used, plain ? "%c" : "%%%02X",
                                 (unsigned char)key[i]);
    }
    json_object_set_new(config, "sshkeys", json_string(encoded));
    free(encoded);
    free(key);
    return 0;
}

static int launch_config(struct remote *remote, json_t *config, struct err *err)
{
    static const char *const words[][2] = {
        {"cores", "cores"}, {"user", "ciuser"}, {"ip", "ipconfig0"}};
    const char *memory = cli_word(remote->words, "memory"),
               *key = cli_word(remote->words, "ssh-key");
    uint64_t bytes;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (cli_has(remote->words, words[i][0]))
            json_object_set_new(config, words[i][1],
                                json_string(cli_word(remote->words, words[i][0])));
    if (memory && !units_parse_size(memory, 1u << 20, &bytes))
        return err_set(err, ERR_USAGE, "--memory %s: a size is a number with K, M, G or T", memory);
    if (memory)
        json_object_set_new(config, "memory", json_integer((json_int_t)(bytes >> 20)));
    return key ? add_key(config, key, err) : 0;
}

// The disk that it boots from: the first of those that there are.
static const char *first_disk(const json_t *config)
{
    static const char *const names[] = {"virtio0", "scsi0", "sata0", "ide0"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (json_object_get(config, names[i]))
            return names[i];
    return NULL;
}

static int grow_disk(struct remote *remote, const char *path, struct err *err)
{
    const char *size = cli_word(remote->words, "disk");
    json_t *config = NULL;
    if (!size)
        return 0;
    if (remote_call(remote, "GET", NULL, &config, err, "%s/config", path))
        return -1;
    const char *disk = first_disk(config);
    int result = disk ? remote_task(remote, "grow its disk", "PUT",
                                    json_pack("{s:s, s:s}", "disk", disk, "size", size), err,
                                    "%s/resize", path)
                      : err_set(err, ERR_NOT_FOUND, "it has no disk to grow");
    json_decref(config);
    return result;
}

static int configure(struct remote *remote, const char *path, struct err *err)
{
    json_t *config = json_object();
    if (launch_config(remote, config, err)) {
        json_decref(config);
        return -1;
    }
    if (!json_object_size(config)) {
        json_decref(config);
        return 0;
    }
    return remote_call(remote, "PUT", config, NULL, err, "%s/config", path);
}

int remote_launch(struct remote *remote, struct err *err)
{
    struct remote_guest from;
    char id[16], path[PATH_BYTES], what[NAME_BYTES * 2];
    const char *name = remote->words->operand[1];
    if (remote_find(remote, remote->words->operand[0], &from, err))
        return err_wrap(err, "launch");
    if (!from.is_template)
        return err_set(err, ERR_USAGE, "%s is no template; `wirt clone` copies a VM", from.name);
    if (next_id(remote, id, err) ||
        clone(remote, &from, id, name, cli_has(remote->words, "full"), err))
        return -1;
    snprintf(path, sizeof(path), "/nodes/%s/qemu/%s", from.node, id);
    snprintf(what, sizeof(what), "start %s", name);
    if (configure(remote, path, err) || grow_disk(remote, path, err) ||
        (!cli_has(remote->words, "no-start") &&
         remote_task(remote, what, "POST", NULL, err, "%s/status/start", path)))
        return err_wrap(err, "%s (%s) is made, but", name, id);
    print_made(remote, id, name);
    return 0;
}
