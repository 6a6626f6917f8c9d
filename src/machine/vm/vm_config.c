// SPDX-License-Identifier: Apache-2.0
#include "machine/vm/vm_config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "wire/schema.h"

#define DEFAULT_MEMORY    (512 * MIB)
#define DEFAULT_COLD_RUNS 2

static const char *const accel_names[] = {"auto", "kvm", "engine", "interpreter"};
static const char *const console_names[] = {"stdio", "file", "socket", "none", "attached"};
static const char *const net_names[] = {"user", "tap", "none"};
static const char *const trace_names[] = {"exits", "interrupts", "faults",
                                          "modes", "translate",  "hash"};
static_assert(ARRAY_LENGTH(accel_names) == VM_ACCEL_COUNT, "a name for each");
static_assert(ARRAY_LENGTH(console_names) == VM_CONSOLE_KIND_COUNT, "a name for each");
static_assert(ARRAY_LENGTH(net_names) == VM_NET_KIND_COUNT, "a name for each");

// The index of a name that the schema has checked.
static unsigned name_index(const char *name, const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!strcmp(names[i], name))
            return i;
    return 0;
}

static const char *text(const json_t *object, const char *member, const char *otherwise)
{
    const char *value = json_string_value(json_object_get(object, member));
    return value ? value : otherwise;
}

static uint64_t number(const json_t *object, const char *member, uint64_t otherwise)
{
    const json_t *value = json_object_get(object, member);
    return value ? (uint64_t)json_integer_value(value) : otherwise;
}

static int descriptor(const json_t *object, const char *what, int *fd, struct err *err)
{
    const json_t *value = json_object_get(object, "fd");
    if (!value)
        return err_set(
            err, ERR_USAGE,
            "%s: has no descriptor; machines are started by `wirt run` or wirtd, which open files",
            what);
    *fd = (int)json_integer_value(value);
    return 0;
}

static int parse_file(struct vm_file *file, const json_t *json, const char *what, struct err *err)
{
    *file = (struct vm_file){.fd = -1};
    if (!json)
        return 0;
    file->name = text(json, "file", what);
    file->arguments = text(json, "arguments", NULL);
    file->format = text(json, "format", "raw");
    return descriptor(json, what, &file->fd, err);
}

static int parse_boot(struct vm_config *config, const json_t *boot, struct err *err)
{
    config->append = text(boot, "append", "");
    if (parse_file(&config->kernel, json_object_get(boot, "kernel"), "boot.kernel", err) ||
        parse_file(&config->firmware, json_object_get(boot, "firmware"), "boot.firmware", err))
        return -1;
    size_t index;
    json_t *initrd;
    json_array_foreach(json_object_get(boot, "initrds"), index,
                       initrd) if (parse_file(&config->initrds[config->initrd_count++], initrd,
                                              "boot.initrds", err)) return -1;
    if (config->kernel.fd < 0 && config->firmware.fd < 0)
        return err_set(err, ERR_USAGE, "boot: neither a kernel nor firmware is given");
    return 0;
}

void vm_config_parse_limits(struct vm_disk_limits *limits, const json_t *json)
{
    limits->bandwidth = number(json, "bandwidth", 0);
    limits->iops = number(json, "iops", 0);
    limits->bandwidth_burst = number(json, "bandwidth_burst", 0);
    limits->iops_burst = number(json, "iops_burst", 0);
}

int vm_config_parse_disk(struct vm_disk_config *disk, const json_t *json, unsigned index,
                         unsigned cpus, struct err *err)
{
    snprintf(disk->default_id, sizeof(disk->default_id), "disk%u", index % 1000);
    disk->id = text(json, "id", NULL);
    disk->name = text(json, "file", disk->default_id);
    disk->format = text(json, "format", "raw");
    disk->serial = text(json, "serial", "");
    disk->readonly = json_is_true(json_object_get(json, "readonly"));
    disk->queues = (unsigned)number(json, "queues", cpus);
    disk->status_fd = (int)number(json, "status_fd", (uint64_t)-1);
    disk->stop_on_error = !strcmp(text(json, "on_error", "report"), "stop");
    vm_config_parse_limits(&disk->limits, json);
    if (parse_file(&disk->log, json_object_get(json, "log"), disk->name, err))
        return -1;
    const json_t *backing = json_object_get(json, "backing");
    disk->backing_count = (unsigned)json_array_size(backing);
    disk->backing = calloc(disk->backing_count + 1, sizeof(*disk->backing));
    for (unsigned i = 0; i < disk->backing_count; i++)
        if (parse_file(&disk->backing[i], json_array_get(backing, i), disk->name, err))
            return -1;
    return descriptor(json, disk->name, &disk->fd, err);
}

static int parse_mac(const char *mac, uint8_t bytes[6], struct err *err)
{
    unsigned b[6];
    int used = 0;
    if (sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &used) !=
            6 ||
        mac[used])
        return err_set(err, ERR_USAGE, "mac: \"%s\" is not an address such as 52:54:00:12:34:56",
                       mac);
    if (b[0] & 1)
        return err_set(err, ERR_USAGE, "mac: \"%s\" is a multicast address", mac);
    for (unsigned i = 0; i < 6; i++)
        bytes[i] = (uint8_t)b[i];
    return 0;
}

// Locally administered, from the machine's name and the card's number (FNV-1a), so that a VM keeps its addresses.
static void default_mac(const char *vm_name, unsigned index, uint8_t mac[6])
{
    uint32_t hash = 2166136261u;
    for (const char *p = vm_name; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    hash = (hash ^ index) * 16777619u;
    const uint8_t bytes[6] = {0x52,         0x54, 0x00, (uint8_t)(hash >> 16), (uint8_t)(hash >> 8),
                              (uint8_t)hash};
    memcpy(mac, bytes, sizeof(bytes));
}

int vm_config_parse_net(struct vm_net_config *net, const json_t *json, const char *vm_name,
                        unsigned index, struct err *err)
{
    snprintf(net->default_id, sizeof(net->default_id), "net%u", index % 1000);
    net->id = text(json, "id", NULL);
    net->kind =
        (enum vm_net_kind)name_index(text(json, "kind", "none"), net_names, VM_NET_KIND_COUNT);
    net->fd = -1;
    net->link_down = json_is_false(json_object_get(json, "link"));
    default_mac(vm_name, index, net->mac);
    const char *mac = text(json, "mac", NULL);
    if (mac && parse_mac(mac, net->mac, err))
        return err_wrap(err, "%s", net->default_id);
    return net->kind == VM_NET_NONE ? 0 : descriptor(json, net->default_id, &net->fd, err);
}

static int parse_devices(struct vm_config *config, const json_t *json, struct err *err)
{
    size_t index;
    json_t *value;
    json_array_foreach(json_object_get(json, "disks"), index,
                       value) if (vm_config_parse_disk(&config->disks[config->disk_count++], value,
                                                       (unsigned)index, config->cpus,
                                                       err)) return -1;
    json_array_foreach(json_object_get(json, "nets"), index,
                       value) if (vm_config_parse_net(&config->nets[config->net_count++], value,
                                                      config->name, (unsigned)index,
                                                      err)) return -1;
    json_array_foreach(json_object_get(json, "ports"), index, value)
    {
        struct vm_port_config *port = &config->ports[config->port_count++];
        port->name = text(value, "name", "");
        if (descriptor(value, port->name, &port->fd, err))
            return -1;
    }
    return 0;
}

static int parse_console(struct vm_config *config, const json_t *console, struct err *err)
{
    config->console = (enum vm_console_kind)name_index(text(console, "kind", "stdio"),
                                                       console_names, VM_CONSOLE_KIND_COUNT);
    config->console_fd = -1;
    if (config->console == VM_CONSOLE_FILE || config->console == VM_CONSOLE_SOCKET ||
        config->console == VM_CONSOLE_ATTACHED)
        return descriptor(console, "console", &config->console_fd, err);
    return 0;
}

static void parse_scalars(struct vm_config *config, const json_t *json)
{
    config->name = text(json, "name", "vm");
    config->cpus = (unsigned)number(json, "cpus", 1);
    config->memory_bytes = align_down(number(json, "memory", DEFAULT_MEMORY), MIB);
    config->accel =
        (enum vm_accel)name_index(text(json, "accel", "auto"), accel_names, VM_ACCEL_COUNT);
    config->cpu = text(json, "cpu", "host");
    config->timeout_seconds = (unsigned)number(json, "timeout", 0);
    config->exit_on_reboot = !strcmp(text(json, "on_reboot", "restart"), "exit");
    config->deterministic = json_is_true(json_object_get(json, "deterministic"));
    config->cold_runs = (unsigned)number(json, "cold_runs", DEFAULT_COLD_RUNS);
    config->code_cache_bytes = (uint32_t)number(json, "code_cache", 0);
    config->launched_ns = number(json, "launched_ns", 0);
    config->launched_tsc = number(json, "launched_tsc", 0);
    const char *stats = text(json, "stats", NULL);
    config->stats = stats;
    config->stats_json = stats && !strcmp(stats, "json");
}

static int parse_accel(struct vm_config *config, const json_t *json, struct err *err)
{
    struct vm_file kvm;
    if (parse_file(&kvm, json_object_get(json, "kvm"), "kvm", err))
        return -1;
    config->kvm_fd = kvm.fd;
    if (config->accel != VM_ACCEL_KVM)
        return 0;
    if (kvm.fd < 0)
        return err_set(err, ERR_USAGE, "accel: kvm needs /dev/kvm open, as `kvm`");
    if (config->deterministic)
        return err_set(err, ERR_USAGE, "a deterministic machine runs on the engine, not on KVM");
    return 0;
}

// "states=FIRST-LAST"
static bool parse_states(struct vm_config *config, const char *text)
{
    char first[32];
    const char *dash = strchr(text, '-');

    if (strncmp(text, "states=", 7) || !dash || (size_t)(dash - text) - 7 >= sizeof(first))
        return false;
    snprintf(first, sizeof(first), "%.*s", (int)(dash - text) - 7, text + 7);
    return units_parse_number(first, 0, UINT64_MAX, &config->trace_first) &&
           units_parse_number(dash + 1, config->trace_first, UINT64_MAX, &config->trace_last);
}

static int parse_trace(struct vm_config *config, const json_t *trace, struct err *err)
{
    size_t index;
    json_t *value;
    json_array_foreach(trace, index, value)
    {
        unsigned bit = parse_states(config, json_string_value(value)) ? VM_TRACE_STATES : 0;
        for (unsigned i = 0; i < ARRAY_LENGTH(trace_names); i++)
            if (!strcmp(trace_names[i], json_string_value(value)))
                bit = 1u << i;
        if (!bit)
            return err_set(err, ERR_USAGE,
                           "--trace %.40s: should be one of exits, interrupts, faults, modes, "
                           "translate, hash, "
                           "states=FIRST-LAST",
                           json_string_value(value));
        config->trace |= bit;
    }
    return 0;
}

int vm_config_parse(struct vm_config *config, json_t *json, struct err *err)
{
    *config = (struct vm_config){.control_fd = -1, .gdb_fd = -1, .kvm_fd = -1};
    if (schema_check(&schema_config, json, "", err))
        return -1;
    config->json = json_incref(json);
    parse_scalars(config, json);
    struct vm_file control, gdb;
    if (config->deterministic && config->cpus > 1)
        err_set(err, ERR_USAGE, "a deterministic machine has one vCPU, not %u", config->cpus);
    else if (!parse_boot(config, json_object_get(json, "boot"), err) &&
             !parse_devices(config, json, err) &&
             !parse_console(config, json_object_get(json, "console"), err) &&
             !parse_trace(config, json_object_get(json, "trace"), err) &&
             !parse_file(&control, json_object_get(json, "control"), "control", err) &&
             !parse_accel(config, json, err) &&
             !parse_file(&gdb, json_object_get(json, "gdb"), "gdb", err)) {
        config->control_fd = control.fd;
        config->gdb_fd = gdb.fd;
        return 0;
    }
    vm_config_fini(config);
    return -1;
}

void vm_config_fini(struct vm_config *config)
{
    for (unsigned i = 0; i < config->disk_count; i++)
        free(config->disks[i].backing);
    json_decref(config->json);
    *config = (struct vm_config){0};
}
