// SPDX-License-Identifier: Apache-2.0
//
// The network vmbr0 of the node: the helper makes it; which subnet it has (/network/vmbr0) and which address a card has (/address/MAC) stands in the store,
// so that both stay. Where it cannot be made, cards get user-mode networks, and that is said.
#define LOG_MODULE "guest"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/auth/secret.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"
#include "os/file.h"

#define NETWORK_KEY  "/network/" GUEST_BRIDGE
#define SUBNETS      1024 // of 4096 addresses each, from 10.64.0.0 on
#define FIRST_SUBNET (10u << 24 | 64u << 16)
#define SUBNET_BITS  12
#define FIRST_HOST   16
#define LAST_HOST    4094

static unsigned hash_of(const char *text)
{
    char hash[SECRET_HASH_BYTES];
    secret_hash(text, hash);
    hash[7] = 0;
    return (unsigned)strtoul(hash, NULL, 16);
}

// ---- The bridge.

static int try_subnet(struct guests *guests, unsigned number, struct err *err)
{
    char subnet[16];
    helper_address_text(FIRST_SUBNET + (number << SUBNET_BITS), subnet);
    if (helper_bridge(guests->options.helper, subnet, guests->bridge, err))
        return -1;
    guests->subnet = FIRST_SUBNET + (number << SUBNET_BITS);
    return store_put_now(guests->options.store, NETWORK_KEY,
                         json_pack("{s:i, s:s, s:s}", "number", (int)number, "subnet", subnet,
                                   "interface", guests->bridge),
                         err);
}

// The subnet that it had; else the first free one from a number that another node is not likely to begin at.
static int make_bridge(struct guests *guests, struct err *err)
{
    json_t *kept = store_get(guests->options.store, NETWORK_KEY, NULL);
    unsigned first = kept ? (unsigned)json_integer_value(json_object_get(kept, "number"))
                          : hash_of(guests->run_folder);
    json_decref(kept);
    int result = -1;
    for (unsigned i = 0; i < SUBNETS && result; i++) {
        *err = (struct err){0};
        result = try_subnet(guests, (first + i) % SUBNETS, err);
        if (result && err->code != ERR_BUSY)
            break;
    }
    return result;
}

void guests_network_open(struct guests *guests)
{
    struct err err = {0};
    if (!make_bridge(guests, &err)) {
        log_info(GUEST_BRIDGE " is the bridge %s", guests->bridge);
        return;
    }
    guests->subnet = 0;
    snprintf(guests->no_bridge, sizeof(guests->no_bridge), "%.250s", err.text);
    log_warn(GUEST_BRIDGE " cannot be made, machines have user-mode networks instead: %s",
             err.text);
}

json_t *guests_network(struct guests *guests)
{
    char address[16];
    if (!guests->subnet)
        return json_pack("{s:s, s:s, s:i, s:i, s:s, s:s}", "iface", GUEST_BRIDGE, "type", "bridge",
                         "active", 0, "autostart", 1, "method", "manual", "comments",
                         "user-mode networks: no bridge can be made here");
    helper_address_text(guests->subnet + 1, address);
    char cidr[24], comment[64];
    snprintf(cidr, sizeof(cidr), "%s/%d", address, HELPER_NET_PREFIX);
    snprintf(comment, sizeof(comment), "interface %s, NAT", guests->bridge);
    return json_pack("{s:s, s:s, s:i, s:i, s:s, s:s, s:s, s:s, s:s}", "iface", GUEST_BRIDGE, "type",
                     "bridge", "active", 1, "autostart", 1, "method", "static", "address", address,
                     "netmask", "255.255.240.0", "cidr", cidr, "comments", comment);
}

// ---- Addresses.

struct taken {
    bool host[1 << SUBNET_BITS];
};

static bool in_use(const json_t *macs, const char *mac)
{
    return json_object_get(macs, mac) != NULL;
}

static void lower(const char *mac, char text[18])
{
    size_t i = 0;
    for (; i < 17 && mac[i]; i++)
        text[i] = (char)(mac[i] >= 'A' && mac[i] <= 'Z' ? mac[i] + 32 : mac[i]);
    text[i] = 0;
}

typedef void card_visit(void *context, const struct store_entry *guest, const char *key,
                        const json_t *net);

// All cards of all guests' configurations.
static void each_card(struct guests *guests, card_visit *visit, void *context)
{
    struct store_list list;
    store_list(guests->options.store, "/guest/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *key;
        json_t *value;
        json_object_foreach(json_object_get(list.entries[i].value, "config"), key, value)
        {
            json_t *net = !strncmp(key, "net", 3) && json_is_string(value)
                              ? property_parse_net(json_string_value(value), NULL)
                              : NULL;
            if (net)
                visit(context, &list.entries[i], key, net);
            json_decref(net);
        }
    }
    store_list_free(&list);
}

static void add_mac(void *context, const struct store_entry *guest, const char *key,
                    const json_t *net)
{
    char text[18];
    (void)guest;
    (void)key;
    lower(json_string_value(json_object_get(net, "macaddr")), text);
    json_object_set_new(context, text, json_true());
}

static json_t *all_macs(struct guests *guests)
{
    json_t *macs = json_object();
    each_card(guests, add_mac, macs);
    return macs;
}

static void find_taken(struct guests *guests, struct taken *taken)
{
    struct store_list list;
    store_list(guests->options.store, "/address/", &list);
    for (size_t i = 0; i < list.count; i++) {
        json_int_t host = json_integer_value(json_object_get(list.entries[i].value, "host"));
        if (host > 0 && host <= LAST_HOST)
            taken->host[host] = true;
    }
    store_list_free(&list);
}

static void forget_unused(struct guests *guests)
{
    struct store_list list;
    json_t *macs = all_macs(guests);
    store_list(guests->options.store, "/address/", &list);
    for (size_t i = 0; i < list.count; i++)
        if (!in_use(macs, list.entries[i].key + strlen("/address/")))
            store_delete_now(guests->options.store, list.entries[i].key, NULL);
    store_list_free(&list);
    json_decref(macs);
}

// A free one from where the hardware address points to; 0: there is none.
static unsigned find_free(struct guests *guests, const char *mac)
{
    static const unsigned span = LAST_HOST - FIRST_HOST + 1;
    struct taken *taken = calloc(1, sizeof(*taken));
    if (!taken)
        abort();
    find_taken(guests, taken);
    unsigned first = hash_of(mac), host = 0;
    for (unsigned i = 0; i < span && !host; i++)
        if (!taken->host[FIRST_HOST + (first + i) % span])
            host = FIRST_HOST + (first + i) % span;
    free(taken);
    return host;
}

// Addresses of cards that are no more stay theirs until no other is left: somebody may have one of them leased still.
static int choose_host(struct guests *guests, const char *mac, struct err *err)
{
    unsigned host = find_free(guests, mac);
    if (!host) {
        forget_unused(guests);
        host = find_free(guests, mac);
    }
    return host ? (int)host
                : err_set(err, ERR_LIMIT, "all addresses of " GUEST_BRIDGE " are taken");
}

// The card's own, now and later. One at a time looks for a new one.
static int address_of(struct guests *guests, const char *mac, char address[16], struct err *err)
{
    static pthread_mutex_t choosing = PTHREAD_MUTEX_INITIALIZER;
    char key[64];
    snprintf(key, sizeof(key), "/address/%.17s", mac);
    pthread_mutex_lock(&choosing);
    json_t *kept = store_get(guests->options.store, key, NULL);
    int host = kept ? (int)json_integer_value(json_object_get(kept, "host"))
                    : choose_host(guests, mac, err);
    if (!kept && host > 0 &&
        store_put_now(guests->options.store, key, json_pack("{s:i}", "host", host), err))
        host = -1;
    json_decref(kept);
    pthread_mutex_unlock(&choosing);
    if (host < 0)
        return -1;
    helper_address_text(guests->subnet + (uint32_t)host, address);
    return 0;
}

struct cards {
    struct guests *guests;
    json_t *rows;
};

static void add_card(void *context, const struct store_entry *guest, const char *key,
                     const json_t *net)
{
    struct cards *cards = context;
    const json_t *config = json_object_get(guest->value, "config");
    const char *bridge = json_string_value(json_object_get(net, "bridge"));
    char mac[18], at[64], address[16];
    lower(json_string_value(json_object_get(net, "macaddr")), mac);
    snprintf(at, sizeof(at), "/address/%s", mac);
    json_t *row = json_pack("{s:I, s:s, s:s}", "vmid",
                            (json_int_t)strtoll(guest->key + strlen("/guest/"), NULL, 10), "card",
                            key, "mac", mac);
    json_t *name = json_object_get(config, "name");
    json_t *kept = bridge && !strcmp(bridge, GUEST_BRIDGE) && cards->guests->subnet
                       ? store_get(cards->guests->options.store, at, NULL)
                       : NULL;
    if (name)
        json_object_set(row, "name", name);
    if (bridge)
        json_object_set_new(row, "bridge", json_string(bridge));
    if (kept) {
        uint32_t host = (uint32_t)json_integer_value(json_object_get(kept, "host"));
        helper_address_text(cards->guests->subnet + host, address);
        json_object_set_new(row, "address", json_string(address));
    }
    json_decref(kept);
    json_array_append_new(cards->rows, row);
}

json_t *guests_cards(struct guests *guests)
{
    struct cards cards = {guests, json_array()};
    each_card(guests, add_card, &cards);
    return cards.rows;
}

// ---- Cards.

// A name that DNS takes, or none.
static const char *host_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    return n && !name[n] && n < 64 && name[0] != '-' ? name : "";
}

int guest_net_open(struct guests *guests, const char *name, json_t *net, struct task *task,
                   int *tap, struct err *err)
{
    const char *id = json_string_value(json_object_get(net, "id"));
    const char *bridge = json_string_value(json_object_get(net, "bridge"));
    char mac[18], address[16];
    *tap = -1;
    if (!bridge)
        return 0;
    bool known = !strcmp(bridge, GUEST_BRIDGE) && guests->subnet;
    if (!known) {
        const char *why =
            strcmp(bridge, GUEST_BRIDGE) != 0 ? "there is no such bridge" : guests->no_bridge;
        task_log(task, "%s has a user-mode network: %s cannot be used: %s", id, bridge, why);
        if (!task)
            log_info("%s of '%s' has a user-mode network: %s cannot be used: %s", id, name, bridge,
                     why);
        json_object_set_new(net, "kind", json_string("user"));
        json_object_del(net, "bridge");
        return 0;
    }
    lower(json_string_value(json_object_get(net, "mac")), mac);
    if (address_of(guests, mac, address, err))
        return err_wrap(err, "%s", id);
    *tap = helper_tap(guests->options.helper, mac, address, host_name(name), err);
    if (*tap < 0)
        return err_wrap(err, "%s", id);
    task_log(task, "%s is on " GUEST_BRIDGE " as %s", id, address);
    json_object_set_new(net, "kind", json_string("tap"));
    json_object_set_new(net, "opened", json_integer(*tap));
    json_object_del(net, "bridge");
    return 0;
}
