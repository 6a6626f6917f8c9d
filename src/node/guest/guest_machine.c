// SPDX-License-Identifier: Apache-2.0
//
// From a configuration in Proxmox VE's words to the machine that wirt-vm runs. What has no counterpart (display, sound, USB) is left out;
// disks of every bus are virtio-blk, in the order virtio, scsi, sata, ide, those of the boot order first.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"

#define CPUS_MAX  8
#define DISKS_MAX 64
#define NETS_MAX  16

static const char *text_of(const json_t *config, const char *key)
{
    return json_string_value(json_object_get(config, key));
}

// ---- Disks.

static int read_limit(const char *text, double unit, double max, json_int_t *limit, struct err *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value * unit <= max))
        return err_set(err, ERR_USAGE, "'%.40s' is no limit of a disk", text);
    *limit = (json_int_t)(value * unit);
    return 0;
}

int guest_disk_limits(const json_t *properties, json_t *limits, struct err *err)
{
    static const struct {
        const char *key, *member;
        double unit, max;
    } known[] = {{"bps", "bandwidth", 1, 1e15},    {"bps_max", "bandwidth_burst", 1, 1e15},
                 {"mbps", "bandwidth", MIB, 1e15}, {"mbps_max", "bandwidth_burst", MIB, 1e15},
                 {"iops", "iops", 1, 1e9},         {"iops_max", "iops_burst", 1, 1e9}};
    for (size_t i = 0; i < ARRAY_LENGTH(known); i++) {
        const char *text = text_of(properties, known[i].key);
        json_int_t limit = 0;
        if (!text)
            continue;
        if (read_limit(text, known[i].unit, known[i].max, &limit, err))
            return err_wrap(err, "%s", known[i].key);
        json_object_set_new(limits, known[i].member, json_integer(limit));
    }
    return 0;
}

static int add_disk(struct guests *guests, const char *key, const char *text, json_t *disks,
                    struct err *err)
{
    char volid[VOLUME_ID_BYTES], path[VOLUME_PATH_BYTES], format[16];
    bool cdrom;
    if (!guest_disk_volume(text, volid, &cdrom))
        return 0; // an empty drive
    if (volume_path(guests->options.storage, volid, path, format, err))
        return err_wrap(err, "%s", key);
    if (json_array_size(disks) == DISKS_MAX)
        return err_set(err, ERR_LIMIT, "a machine has at most %d disks", DISKS_MAX);
    json_t *properties = property_parse(text, "file", NULL);
    const char *serial = text_of(properties, "serial"), *read_only = text_of(properties, "ro");
    json_t *disk = json_pack("{s:s, s:s, s:s}", "id", key, "file", path, "format", format);
    if (serial)
        json_object_set_new(disk, "serial", json_string(serial));
    if (cdrom || (read_only && !strcmp(read_only, "1")))
        json_object_set_new(disk, "readonly", json_true());
    guest_disk_limits(properties, disk, NULL); // checked when they were set
    json_array_append_new(disks, disk);
    json_decref(properties);
    return 0;
}

static bool has_disk(const json_t *disks, const char *key)
{
    size_t index;
    json_t *disk;
    json_array_foreach(disks, index, disk) if (!strcmp(text_of(disk, "id"), key)) return true;
    return false;
}

static int add_named(struct guests *guests, const json_t *config, const char *key, json_t *disks,
                     struct err *err)
{
    const char *text = guest_is_disk_key(key) ? text_of(config, key) : NULL;
    return text && !has_disk(disks, key) ? add_disk(guests, key, text, disks, err) : 0;
}

// "order=virtio0;net0", or a `bootdisk` of old.
static int add_boot_order(struct guests *guests, const json_t *config, json_t *disks,
                          struct err *err)
{
    const char *boot = text_of(config, "boot"), *old = text_of(config, "bootdisk");
    const char *order = boot ? strstr(boot, "order=") : NULL;
    char key[32];
    for (const char *at = order ? order + 6 : ""; *at && *at != ',';) {
        size_t n = strcspn(at, ";,");
        snprintf(key, sizeof(key), "%.*s", (int)n, at);
        if (add_named(guests, config, key, disks, err))
            return -1;
        at += n + (at[n] == ';');
    }
    return old && !order ? add_named(guests, config, old, disks, err) : 0;
}

static json_t *make_disks(struct guests *guests, const json_t *config, struct err *err)
{
    static const struct {
        const char *bus;
        int count;
    } buses[] = {{"virtio", 16}, {"scsi", 31}, {"sata", 6}, {"ide", 4}};
    json_t *disks = json_array();
    int failed = add_boot_order(guests, config, disks, err);
    for (size_t bus = 0; bus < sizeof(buses) / sizeof(buses[0]); bus++)
        for (int n = 0; n < buses[bus].count && !failed; n++) {
            char key[32];
            snprintf(key, sizeof(key), "%s%d", buses[bus].bus, n);
            failed = add_named(guests, config, key, disks, err);
        }
    if (!failed)
        return disks;
    json_decref(disks);
    return NULL;
}

// ---- Networks. A card that names a bridge gets its end of it when the machine starts (guest_net.c).

static json_t *make_nets(const json_t *config)
{
    json_t *nets = json_array();
    for (int n = 0; n < NETS_MAX; n++) {
        char key[16];
        snprintf(key, sizeof(key), "net%d", n);
        const char *text = text_of(config, key);
        json_t *net = text ? property_parse_net(text, NULL) : NULL;
        if (!net)
            continue;
        const char *bridge = text_of(net, "bridge");
        json_t *card = json_pack("{s:s, s:s, s:O}", "id", key, "kind", "none", "mac",
                                 json_object_get(net, "macaddr"));
        if (bridge)
            json_object_set(card, "bridge", json_object_get(net, "bridge"));
        if (property_flag(net, "link_down"))
            json_object_set_new(card, "link", json_false());
        json_array_append_new(nets, card);
        json_decref(net);
    }
    return nets;
}

// ---- What is kept and has no effect, though somebody may rely on it.

#define UNHEEDED_BYTES 512

static void add_word(char words[UNHEEDED_BYTES], const char *key, const char *part)
{
    size_t used = strlen(words);
    snprintf(words + used, UNHEEDED_BYTES - used, "%s%s%s%s", used ? ", " : "", key,
             part ? " " : "", part ? part : "");
}

static bool is_throttle_of_one(const char *name)
{
    return (!strncmp(name, "bps", 3) || !strncmp(name, "mbps", 4) || !strncmp(name, "iops", 4)) &&
           (strstr(name, "_rd") || strstr(name, "_wr"));
}

static void add_parts(char words[UNHEEDED_BYTES], const char *key, const char *text, bool net)
{
    static const char *const of_net[] = {"tag", "trunks", "rate", "mtu", "firewall"};
    const char *name;
    json_t *value, *properties = property_parse(text, net ? "model" : "file", NULL);
    json_object_foreach(properties, name, value)
    {
        bool unheeded = !net && is_throttle_of_one(name);
        for (size_t i = 0; net && i < ARRAY_LENGTH(of_net); i++)
            unheeded |= !strcmp(name, of_net[i]);
        if (unheeded && strcmp(json_string_value(value), "0") != 0)
            add_word(words, key, name);
    }
    json_decref(properties);
}

static bool is_unheeded(const char *key, const char *text)
{
    static const char *const with_number[] = {"hostpci", "usb", "numa"};
    static const char *const keys[] = {"affinity", "efidisk0",  "tpmstate0", "watchdog",
                                       "freeze",   "localtime", "startdate", "hookscript"};
    for (size_t i = 0; i < ARRAY_LENGTH(with_number); i++)
        if (!strncmp(key, with_number[i], strlen(with_number[i])))
            return true;
    for (size_t i = 0; i < ARRAY_LENGTH(keys); i++)
        if (!strcmp(key, keys[i]))
            return true;
    return (!strcmp(key, "cpu") && text && strcmp(text, "host") != 0) ||
           (!strcmp(key, "bios") && text && !strcmp(text, "ovmf"));
}

void guest_tell_unheeded(struct task *task, const json_t *config)
{
    char words[UNHEEDED_BYTES] = "";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        const char *text = json_string_value(value);
        bool net = !strncmp(key, "net", 3);
        if (text && (net || guest_is_disk_key(key)))
            add_parts(words, key, text, net);
        else if (is_unheeded(key, text) && (text || json_integer_value(value)))
            add_word(words, key, NULL);
    }
    if (*words)
        task_log(task, "without effect here: %s", words);
}

// ---- What starts. `args` are words for QEMU; of them -kernel, -initrd and -append mean the same here, the others are passed over.

// The next word, quotes taken off, to be freed; NULL at the end.
static char *next_word(const char **text)
{
    *text += strspn(*text, " \t");
    if (!**text)
        return NULL;
    char *word = calloc(1, strlen(*text) + 1), quote = 0;
    if (!word)
        abort();
    size_t n = 0;
    for (; **text && (quote || !strchr(" \t", **text)); (*text)++) {
        if (quote ? **text == quote : **text == '\'' || **text == '"')
            quote = quote ? 0 : **text;
        else
            word[n++] = **text;
    }
    return word;
}

static json_t *make_boot(const char *args)
{
    json_t *boot = json_object();
    char *flag;
    while (args && (flag = next_word(&args))) {
        bool known =
            !strcmp(flag, "-kernel") || !strcmp(flag, "-initrd") || !strcmp(flag, "-append");
        char *value = known ? next_word(&args) : NULL;
        if (value && !strcmp(flag, "-kernel"))
            json_object_set_new(boot, "kernel", json_pack("{s:s}", "file", value));
        else if (value && !strcmp(flag, "-initrd"))
            json_object_set_new(boot, "initrds", json_pack("[{s:s}]", "file", value));
        else if (value)
            json_object_set_new(boot, "append", json_string(value));
        free(value);
        free(flag);
    }
    return boot;
}

bool guest_wants_agent(const json_t *config)
{
    const char *agent = text_of(config, "agent");
    return agent && (agent[0] == '1' || strstr(agent, "enabled=1"));
}

static void set_socket(json_t *machine, const char *name, const char *run_folder)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s.sock", run_folder, name);
    if (!strcmp(name, "console"))
        json_object_set_new(machine, name, json_pack("{s:s, s:s}", "kind", "socket", "path", path));
    else if (!strcmp(name, "agent"))
        json_object_set_new(
            machine, "ports",
            json_pack("[{s:s, s:s}]", "name", "org.qemu.guest_agent.0", "path", path));
    else
        json_object_set_new(machine, name, json_pack("{s:s}", "file", path));
}

json_t *guest_machine(struct guests *guests, int64_t vmid, const json_t *config,
                      const char *run_folder, struct err *err)
{
    char fallback[32];
    snprintf(fallback, sizeof(fallback), "VM%lld", (long long)vmid);
    const char *name = text_of(config, "name");
    int64_t all = guest_number(config, "cores", 1) * guest_number(config, "sockets", 1);
    int64_t plugged = guest_number(config, "vcpus", all);
    int64_t cpus = plugged < all ? plugged : all;
    bool software = !guest_number(config, "kvm", 1) && !strcmp(guests->accel, "auto");
    int64_t memory = guest_number(config, "memory", 512);
    if (cpus > CPUS_MAX) {
        err_set(err, ERR_UNSUPPORTED, "a machine has at most %d CPUs, not %lld", CPUS_MAX,
                (long long)cpus);
        return NULL;
    }
    json_t *disks = make_disks(guests, config, err);
    if (!disks)
        return NULL;
    json_t *machine =
        json_pack("{s:s, s:I, s:I, s:s, s:o, s:o, s:o}", "name", name ? name : fallback, "cpus",
                  (json_int_t)cpus, "memory", (json_int_t)memory * (json_int_t)MIB, "accel",
                  software ? "engine" : guests->accel, "disks", disks, "nets", make_nets(config),
                  "boot", make_boot(text_of(config, "args")));
    set_socket(machine, "console", run_folder);
    set_socket(machine, "control", run_folder);
    if (!guest_number(config, "reboot", 1))
        json_object_set_new(machine, "on_reboot", json_string("exit"));
    if (guest_wants_agent(config))
        set_socket(machine, "agent", run_folder);
    return machine;
}
