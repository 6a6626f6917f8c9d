// SPDX-License-Identifier: Apache-2.0
//
// The network that the node calls vmbr0: a bridge with an address, NAT to outside by nftables, DHCP and DNS by dnsmasq. Its interface, table
// and folder bear the instance's name, so that several nodes can be on one machine.
//
// All of it outlives the helper as long as a machine hangs on it, and is taken over by the next one; without machines it goes with the helper. A machine's
// TAP interface goes with the machine. What dnsmasq shall give to a hardware address is a file in hosts/, which it reads when it comes. What it has read it keeps:
// of two files with one address it heeds the first, and of a file that has changed what stood there before. So it is told to read all of them again then.
#define LOG_MODULE "helper"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/helper/helper_internal.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"

#define NFT     "/usr/sbin/nft"
#define DNSMASQ "/usr/sbin/dnsmasq"
#define PREFIX  HELPER_NET_PREFIX

#define AGAIN_NS UINT64_C(10000000000) // a server that lives shorter is not started again by itself

const char *helper_address_text(uint32_t address, char text[16])
{
    snprintf(text, 16, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
             address & 255);
    return text;
}

bool helper_net_parse_address(const char *text, uint32_t *address)
{
    unsigned part[4];
    char again[16];
    if (sscanf(text, "%3u.%3u.%3u.%3u", &part[0], &part[1], &part[2], &part[3]) != 4)
        return false;
    *address = part[0] << 24 | part[1] << 16 | part[2] << 8 | part[3];
    return !strcmp(helper_address_text(*address, again), text);
}

void helper_net_init(struct helper_net *net, const char *instance)
{
    *net = (struct helper_net){.server = -1};
    snprintf(net->instance, sizeof(net->instance), "%s", instance);
    snprintf(net->bridge, sizeof(net->bridge), "wbr-%.8s", instance);
    snprintf(net->tap, sizeof(net->tap), "w%.7st", instance);
    snprintf(net->folder, sizeof(net->folder), "/run/wirt-%.8s", instance);
}

static bool net_path(const struct helper_net *net, const char *name, char path[HELPER_PATH_BYTES])
{
    return snprintf(path, HELPER_PATH_BYTES, "%s/%s", net->folder, name) < HELPER_PATH_BYTES;
}

// ---- Translation of addresses.

static int run_nft(const char *rules, struct err *err)
{
    char *const words[] = {(char *)"nft", (char *)"-f", (char *)"-", NULL};
    struct os_process_command command = {.program = NFT, .arguments = words, .input = rules};
    return os_process_run(&command, err);
}

// Named first, so that it can be deleted whether it is there or not: one transaction puts the table in the old one's place.
static int set_rules(const struct helper_net *net, struct err *err)
{
    char rules[2048], from[16];
    const char *id = net->instance, *bridge = net->bridge;
    helper_address_text(net->address - 1, from);
    snprintf(rules, sizeof(rules),
             "table ip wirt_%s\n"
             "delete table ip wirt_%s\n"
             "table ip wirt_%s {\n"
             "  chain outward { type nat hook postrouting priority 100; policy accept;\n"
             "    ip saddr %s/%d oifname != \"%s\" masquerade\n"
             "  }\n"
             "  chain through { type filter hook forward priority 0; policy accept;\n"
             "    iifname != \"%s\" oifname \"%s\" ct state established,related accept\n"
             "    iifname != \"%s\" oifname \"%s\" drop\n"
             "  }\n"
             "}\n",
             id, id, id, from, PREFIX, bridge, bridge, bridge, bridge, bridge);
    return run_nft(rules, err);
}

static void drop_rules(const struct helper_net *net)
{
    char rules[256];
    snprintf(rules, sizeof(rules), "table ip wirt_%s\ndelete table ip wirt_%s\n", net->instance,
             net->instance);
    run_nft(rules, NULL);
}

// ---- dnsmasq.

static pid_t dnsmasq_pid(const struct helper_net *net)
{
    char path[HELPER_PATH_BYTES];
    net_path(net, "dnsmasq.pid", path);
    char *text = os_file_read_all(path, 64, NULL, NULL);
    pid_t pid = text ? (pid_t)strtol(text, NULL, 10) : 0;
    free(text);
    return pid > 1 && os_process_is(pid, DNSMASQ) ? pid : 0;
}

static void tell_dnsmasq(const struct helper_net *net, int (*what)(int watch))
{
    pid_t pid = dnsmasq_pid(net);
    int watch = pid ? os_process_watch(pid) : -1;
    if (watch >= 0 && os_process_is(pid, DNSMASQ))
        what(watch);
    os_file_close(&watch);
}

static void kill_dnsmasq(const struct helper_net *net)
{
    tell_dnsmasq(net, os_process_kill);
}

struct net_entering {
    const struct scopes *scopes;
};

static void enter_net_scope(void *user)
{
    const struct net_entering *entering = user;
    scopes_enter(entering->scopes, "net");
}

static int start_dnsmasq(const struct helper_net *net, const struct scopes *scopes, struct err *err)
{
    char options[9][HELPER_PATH_BYTES + 32], from[16];
    const struct os_cgroup_limits limits = {.memory_bytes = 128u << 20};
    struct scope_words before = {.count = 0};
    struct net_entering entering = {scopes};
    char *words[48];
    size_t n = 0;
    int at = 0;
    if (scopes_make(scopes, "net", &limits, err))
        return -1;
    const char *program = scopes_wrap(scopes, "net", &limits, DNSMASQ, &before);
    for (size_t i = 0; i < before.count; i++)
        words[n++] = (char *)(uintptr_t)before.words[i];
    if (!before.count)
        words[n++] = (char *)"dnsmasq";
    snprintf(options[at++], sizeof(options[0]), "--interface=%s", net->bridge);
    snprintf(options[at++], sizeof(options[0]), "--dhcp-range=%s,static,%s,12h",
             helper_address_text(net->address - 1, from), "255.255.240.0");
    snprintf(options[at++], sizeof(options[0]), "--dhcp-hostsdir=%s/hosts", net->folder);
    snprintf(options[at++], sizeof(options[0]), "--dhcp-leasefile=%s/leases", net->folder);
    snprintf(options[at++], sizeof(options[0]), "--pid-file=%s/dnsmasq.pid", net->folder);
    for (int i = 0; i < at; i++)
        words[n++] = options[i];
    static const char *const plain[] = {
        "--conf-file=/dev/null", "--bind-interfaces",  "--except-interface=lo", "--no-hosts",
        "--dhcp-authoritative",  "--dhcp-no-override", "--dhcp-lease-max=5000", "--no-ping",
        "--domain-needed",       "--bogus-priv",       "--quiet-dhcp"};
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        words[n++] = (char *)(uintptr_t)plain[i];
    words[n] = NULL;
    struct os_process_command command = {
        .program = program, .arguments = words, .enter = enter_net_scope, .user = &entering};
    return os_process_run(&command, err); // it goes into the background when it serves
}

static void tell_end(const struct helper_net *net, bool soon)
{
    log_warn("dnsmasq of %s has ended%s", net->bridge,
             soon ? " soon: it is started with the next card" : "");
}

// From now on its end is seen.
static int serve(struct helper_net *net, const struct scopes *scopes, struct err *err)
{
    pid_t pid = dnsmasq_pid(net);
    if (!pid && start_dnsmasq(net, scopes, err))
        return -1;
    net->served_ns = pid ? net->served_ns : os_clock_monotonic_ns();
    os_file_close(&net->server);
    pid = dnsmasq_pid(net);
    net->server = pid ? os_process_watch(pid) : -1;
    if (net->server < 0) // before it could be watched
        tell_end(net, true);
    return 0;
}

void helper_net_mend(struct helper_net *net, const struct scopes *scopes)
{
    struct err err = {0};
    bool soon = os_clock_monotonic_ns() - net->served_ns < AGAIN_NS;
    os_file_close(&net->server);
    tell_end(net, soon);
    if (!soon && serve(net, scopes, &err))
        log_error("%s", err.text);
}

// ---- Up and down.

static int make_folders(const struct helper_net *net, struct err *err)
{
    char path[HELPER_PATH_BYTES];
    net_path(net, "hosts", path);
    return os_directory_make(net->folder, 0755, err) || os_directory_make(path, 0755, err) ? -1 : 0;
}

static int set_bridge(const struct helper_net *net, struct err *err)
{
    uint32_t tail = net->address;
    const uint8_t mac[6] = {
        0x02,         0x57, (uint8_t)(tail >> 24), (uint8_t)(tail >> 16), (uint8_t)(tail >> 8),
        (uint8_t)tail};
    if (os_bridge_make(net->bridge, mac, net->address, PREFIX, err))
        return -1;
    int result = os_forwarding_enable();
    return result ? err_set_errno(err, -result, "packets cannot be forwarded") : 0;
}

int helper_net_up(struct helper_net *net, const struct scopes *scopes, const char *subnet,
                  struct err *err)
{
    uint32_t network = 0;
    helper_net_parse_address(subnet, &network); // checked with the request
    if (!os_process_is_root())
        return err_set(err, ERR_DENIED, "a bridge is made by root only");
    if (!os_file_exists(NFT) || !os_file_exists(DNSMASQ))
        return err_set(err, ERR_NOT_FOUND,
                       "%s is missing; Debian's packages nftables and "
                       "dnsmasq-base have it",
                       os_file_exists(NFT) ? DNSMASQ : NFT);
    if (os_interface_overlaps(network, PREFIX, net->bridge))
        return err_set(err, ERR_BUSY, "%s/%d is in use", subnet, PREFIX);
    net->address = network + 1;
    if (!os_interface_exists(net->bridge))
        kill_dnsmasq(net); // a predecessor's, of a bridge that is no more
    int result = make_folders(net, err) || set_bridge(net, err) || set_rules(net, err) ||
                 serve(net, scopes, err);
    if (!result)
        return 0;
    helper_net_down(net);
    return -1;
}

static bool remove_host(void *user, const char *name)
{
    char path[HELPER_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/hosts/%.64s", ((struct helper_net *)user)->folder, name);
    if (name[0] != '.')
        os_file_remove(path);
    return true;
}

void helper_net_down(struct helper_net *net)
{
    static const char *const names[] = {"dnsmasq.pid", "leases", "host", "host.new"};
    char path[HELPER_PATH_BYTES];
    net->address = 0;
    os_file_close(&net->server);
    if (os_interface_count(net->tap))
        return; // machines are on it: it is found again
    kill_dnsmasq(net);
    drop_rules(net);
    os_bridge_remove(net->bridge);
    net_path(net, "hosts", path);
    os_directory_list(path, remove_host, net, NULL);
    os_directory_remove(path);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (net_path(net, names[i], path))
            os_file_remove(path);
    os_directory_remove(net->folder);
}

// ---- A machine's card.

struct stale {
    const char *folder, *own, *address;
    bool found;
};

// Whoever had this address before has gone: addresses are used again.
static bool remove_stale(void *user, const char *name)
{
    struct stale *stale = user;
    char path[2 * HELPER_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%.64s", stale->folder, name);
    char *text = name[0] != '.' && strcmp(name, stale->own) != 0
                     ? os_file_read_all(path, 256, NULL, NULL)
                     : NULL;
    const char *address = text ? strchr(text, ',') : NULL;
    size_t length = strlen(stale->address);
    if (address && !strncmp(address + 1, stale->address, length) &&
        strchr(",\n", address[1 + length])) {
        os_file_remove(path);
        stale->found = true;
    }
    free(text);
    return true;
}

static int write_host(const struct helper_net *net, const char *mac, const char *address,
                      const char *name, struct err *err)
{
    char file[24], path[2 * HELPER_PATH_BYTES], hosts[HELPER_PATH_BYTES], line[160];
    char fresh[HELPER_PATH_BYTES];
    snprintf(file, sizeof(file), "%s", mac);
    for (char *at = file; *at; at++)
        if (*at == ':')
            *at = '-';
    if (!net_path(net, "hosts", hosts) || !net_path(net, "host", fresh))
        return -1;
    snprintf(path, sizeof(path), "%s/%s", hosts, file);
    int length = snprintf(line, sizeof(line), "%s,%s%s%s\n", mac, address, *name ? "," : "", name);
    char *before = os_file_read_all(path, sizeof(line), NULL, NULL);
    bool known = before, same = before && !strcmp(before, line);
    free(before);
    if (same)
        return 0;
    struct stale stale = {.folder = hosts, .own = file, .address = address};
    os_directory_list(hosts, remove_stale, &stale, NULL);
    // Beside the folder first: dnsmasq would read it under both names.
    if (os_file_write_whole(fresh, line, (size_t)length, 0644, err) ||
        os_file_rename(fresh, path, err))
        return -1;
    if (known || stale.found)
        tell_dnsmasq(net, os_process_reload);
    return 0;
}

int helper_net_tap(struct helper_net *net, const struct scopes *scopes,
                   const struct helper_card *card, char interface[OS_INTERFACE_BYTES],
                   struct err *err)
{
    uint32_t wanted = 0, mask = UINT32_MAX << (32 - PREFIX);
    char pattern[OS_INTERFACE_BYTES];
    helper_net_parse_address(card->address, &wanted);
    if (!net->address)
        return err_set(err, ERR_NOT_FOUND, "there is no bridge");
    if ((wanted & mask) != (net->address & mask) || wanted == net->address)
        return err_set(err, ERR_DENIED, "%s is no address of a machine", card->address);
    if (write_host(net, card->mac, card->address, card->name, err))
        return -1;
    if (net->server < 0 && serve(net, scopes, err))
        return -1;
    snprintf(pattern, sizeof(pattern), "%.12s%%d", net->tap);
    return os_bridge_tap(net->bridge, pattern, interface, err);
}
