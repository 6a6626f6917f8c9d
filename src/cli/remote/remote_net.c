// SPDX-License-Identifier: Apache-2.0
//
// The node's networks, and the cards of VMs on them.
#include <stdio.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "cli/table.h"

#define CARDS_MAX 32

int remote_net_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"NAME", "iface", CELL_TEXT},    {"KIND", "type", CELL_TEXT},
        {"ADDRESS", "cidr", CELL_TEXT},  {"ACTIVE", "active", CELL_FLAG},
        {"NOTE", "comments", CELL_TEXT}, {NULL, NULL, CELL_TEXT},
    };
    char node[NAME_BYTES];
    if (remote_node(remote, node, err))
        return -1;
    return remote_print_list(remote, NULL, columns, err, "/nodes/%s/network", node);
}

int remote_net_cards(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"ID", "vmid", CELL_NUMBER}, {"NAME", "name", CELL_TEXT},
        {"CARD", "card", CELL_TEXT}, {"NETWORK", "bridge", CELL_TEXT},
        {"MAC", "mac", CELL_TEXT},   {"ADDRESS", "address", CELL_TEXT},
        {NULL, NULL, CELL_TEXT},
    };
    struct remote_guest guest;
    char node[NAME_BYTES];
    if (!remote->words->operands)
        return remote_node(remote, node, err)
                   ? -1
                   : remote_print_list(remote, NULL, columns, err, "/nodes/%s/cards", node);
    if (remote_find(remote, remote->words->operand[0], &guest, err))
        return -1;
    return remote_print_list(remote, json_pack("{s:i}", "vmid", guest.vmid), columns, err,
                             "/nodes/%s/cards", guest.node);
}

// The VM that is named first, and its configuration.
static int find(struct remote *remote, struct remote_guest *guest, json_t **config, struct err *err)
{
    return remote_find(remote, remote->words->operand[0], guest, err) ||
                   remote_call(remote, "GET", NULL, config, err, "%s/config", guest->path)
               ? -1
               : 0;
}

// "virtio=MAC,bridge=vmbr0,link_down=1"
static json_t *card_value(const struct remote *remote)
{
    const char *model = cli_word(remote->words, "model"), *mac = cli_word(remote->words, "mac"),
               *bridge = cli_word(remote->words, "bridge");
    return json_sprintf("%s%s%s,bridge=%s%s", model ? model : "virtio", mac ? "=" : "",
                        mac ? mac : "", bridge ? bridge : "vmbr0",
                        cli_has(remote->words, "unplugged") ? ",link_down=1" : "");
}

int remote_net_attach(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    json_t *config = NULL, *parameters = json_object();
    char key[16] = "", what[NAME_BYTES * 2];
    if (find(remote, &guest, &config, err)) {
        json_decref(parameters);
        return -1;
    }
    int number = 0;
    for (; number < CARDS_MAX && (!number || json_object_get(config, key)); number++)
        snprintf(key, sizeof(key), "net%d", number);
    bool room = !json_object_get(config, key);
    json_decref(config);
    if (!room) {
        json_decref(parameters);
        return err_set(err, ERR_LIMIT, "%s has %d cards already", guest.name, CARDS_MAX);
    }
    json_object_set_new(parameters, key, card_value(remote));
    snprintf(what, sizeof(what), "attach %s to %s", key, guest.name);
    return remote_task(remote, what, "POST", parameters, err, "%s/config", guest.path);
}

static void list_cards(const json_t *config, char *text, size_t size)
{
    const char *key;
    json_t *value;
    size_t used = 0;
    *text = 0;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        if (strncmp(key, "net", 3) != 0 || used >= size)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", key);
    }
}

int remote_net_detach(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    json_t *config = NULL;
    const char *card = remote->words->operand[1];
    char what[NAME_BYTES * 2], cards[NAME_BYTES];
    if (find(remote, &guest, &config, err))
        return -1;
    bool there = !strncmp(card, "net", 3) && json_object_get(config, card);
    list_cards(config, cards, sizeof(cards));
    json_decref(config);
    if (!there)
        return err_set(err, ERR_NOT_FOUND, "%s has no card \"%s\"; its cards: %s", guest.name, card,
                       *cards ? cards : "none");
    snprintf(what, sizeof(what), "detach %s of %s", card, guest.name);
    return remote_task(remote, what, "POST", json_pack("{s:s}", "delete", card), err, "%s/config",
                       guest.path);
}
