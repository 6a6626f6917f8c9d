// SPDX-License-Identifier: Apache-2.0
#include "cli/run_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "machine/block/block_driver.h"
#include "wire/schema.h"

#define DISK_WORDS                                                                                 \
    "FILE[,readonly][,serial=S][,format=raw|qcow2|vmdk|vhdx|vdi][,bandwidth=SIZE][,iops=N]"        \
    "[,bandwidth-burst=SIZE][,iops-burst=N][,backing-folder=DIR][,on-error=report|stop]"
#define MIN_MEMORY    (16 * MIB)
#define MAX_MEMORY    (64 * GIB)
#define MAX_PORT_NAME 63

struct option_context {
    const char *flag;
    const char *value;
    json_t *config;
    bool json; // --json: statistics for programs
};

struct option {
    const char *flag;
    bool takes_value;
    int (*apply)(struct option_context *context, struct err *err);
};

static json_t *child_object(json_t *parent, const char *name)
{
    json_t *child = json_object_get(parent, name);
    if (!child) {
        child = json_object();
        json_object_set_new(parent, name, child);
    }
    return child;
}

static json_t *child_array(json_t *parent, const char *name)
{
    json_t *child = json_object_get(parent, name);
    if (!child) {
        child = json_array();
        json_object_set_new(parent, name, child);
    }
    return child;
}

static int refuse(const struct option_context *c, struct err *err, const char *right)
{
    return err_set(err, ERR_USAGE, "%s %s: should be %s", c->flag, *c->value ? c->value : "\"\"",
                   right);
}

// A string value goes into JSON: it must be UTF-8.
static int set_string(const struct option_context *c, json_t *object, const char *name,
                      const char *text, struct err *err)
{
    json_t *value = json_string(text);
    if (!value)
        return err_set(err, ERR_USAGE, "%s: the value is not valid UTF-8", c->flag);
    json_object_set_new(object, name, value);
    return 0;
}

static int set_file(struct option_context *c, json_t *parent, const char *name, struct err *err)
{
    if (!*c->value)
        return refuse(c, err, "the path of a file");
    json_t *file = json_object();
    json_object_set_new(parent, name, file);
    return set_string(c, file, "file", c->value, err);
}

static int set_choice(struct option_context *c, const char *name, const char *const *choices,
                      const char *right, struct err *err)
{
    for (; *choices; choices++)
        if (!strcmp(c->value, *choices))
            return set_string(c, c->config, name, c->value, err);
    return refuse(c, err, right);
}

static int apply_kernel(struct option_context *c, struct err *err)
{
    return set_file(c, child_object(c->config, "boot"), "kernel", err);
}

static int apply_firmware(struct option_context *c, struct err *err)
{
    return set_file(c, child_object(c->config, "boot"), "firmware", err);
}

// "FILE words": the words are a multiboot module's arguments, unless a file of the whole name is meant; the launcher decides.
static int apply_initrd(struct option_context *c, struct err *err)
{
    if (!*c->value)
        return refuse(c, err, "the path of a file");
    json_t *file = json_object();
    json_array_append_new(child_array(child_object(c->config, "boot"), "initrds"), file);
    return set_string(c, file, "file", c->value, err);
}

static int apply_append(struct option_context *c, struct err *err)
{
    return set_string(c, child_object(c->config, "boot"), "append", c->value, err);
}

static int apply_cpus(struct option_context *c, struct err *err)
{
    uint64_t n;
    if (!units_parse_number(c->value, 1, 8, &n))
        return refuse(c, err, "a number from 1 to 8");
    json_object_set_new(c->config, "cpus", json_integer((json_int_t)n));
    return 0;
}

static int apply_memory(struct option_context *c, struct err *err)
{
    uint64_t bytes;
    if (!units_parse_size(c->value, MIB, &bytes) || bytes < MIN_MEMORY || bytes > MAX_MEMORY)
        return refuse(c, err, "a size from 16M to 64G, as in 512M or 2G");
    json_object_set_new(c->config, "memory", json_integer((json_int_t)align_down(bytes, MIB)));
    return 0;
}

static int apply_accel(struct option_context *c, struct err *err)
{
    static const char *const choices[] = {"auto", "kvm", "engine", "interpreter", NULL};
    return set_choice(c, "accel", choices, "auto, kvm, engine or interpreter", err);
}

static int apply_on_reboot(struct option_context *c, struct err *err)
{
    static const char *const choices[] = {"restart", "exit", NULL};
    return set_choice(c, "on_reboot", choices, "restart or exit", err);
}

static int apply_cpu(struct option_context *c, struct err *err)
{
    if (!*c->value)
        return refuse(
            c, err, "host, x86-64, x86-64-v2 or x86-64-v3, with ,+FEATURE or ,-FEATURE behind it");
    return set_string(c, c->config, "cpu", c->value, err);
}

static int apply_timeout(struct option_context *c, struct err *err)
{
    uint64_t n;
    if (!units_parse_number(c->value, 1, 31536000, &n))
        return refuse(c, err, "a whole number of seconds from 1 to 31536000");
    json_object_set_new(c->config, "timeout", json_integer((json_int_t)n));
    return 0;
}

static int apply_deterministic(struct option_context *c, struct err *err)
{
    (void)err;
    json_object_set_new(c->config, "deterministic", json_true());
    return 0;
}

static int apply_stats(struct option_context *c, struct err *err)
{
    (void)err;
    if (!json_object_get(c->config, "stats"))
        json_object_set_new(c->config, "stats", json_string("text"));
    return 0;
}

static int apply_json(struct option_context *c, struct err *err)
{
    (void)err;
    c->json = true;
    return 0;
}

static int apply_control(struct option_context *c, struct err *err)
{
    return set_file(c, c->config, "control", err);
}

static int apply_gdb(struct option_context *c, struct err *err)
{
    return set_file(c, c->config, "gdb", err);
}

static int apply_trace(struct option_context *c, struct err *err)
{
    static const char *const kinds[] = {"exits",     "interrupts", "faults", "modes",
                                        "translate", "hash",       NULL};
    for (const char *const *kind = kinds; *kind; kind++)
        if (!strcmp(c->value, *kind)) {
            json_array_append_new(child_array(c->config, "trace"), json_string(*kind));
            return 0;
        }
    if (!strncmp(c->value, "states=", 7)) { // the machine looks at its numbers
        json_array_append_new(child_array(c->config, "trace"), json_string(c->value));
        return 0;
    }
    return refuse(c, err, "exits, interrupts, faults, modes, translate, hash or states=FIRST-LAST");
}

static int apply_console(struct option_context *c, struct err *err)
{
    static const char right[] = "stdio, file=PATH, socket=PATH or none";
    const char *equals = strchr(c->value, '=');
    json_t *console = json_object();
    json_object_set_new(c->config, "console", console);
    if (!equals) {
        if (strcmp(c->value, "stdio") && strcmp(c->value, "none"))
            return refuse(c, err, right);
        return set_string(c, console, "kind", c->value, err);
    }
    size_t length = (size_t)(equals - c->value);
    bool file = length == 4 && !memcmp(c->value, "file", 4);
    if ((!file && (length != 6 || memcmp(c->value, "socket", 6))) || !equals[1])
        return refuse(c, err, right);
    json_object_set_new(console, "kind", json_string(file ? "file" : "socket"));
    return set_string(c, console, "path", equals + 1, err);
}

static int add_port(struct option_context *c, const char *name, const char *path, struct err *err)
{
    json_t *ports = child_array(c->config, "ports"), *port = json_object(), *other;
    size_t index;
    json_array_foreach(ports, index, other)
    {
        const char *taken = json_string_value(json_object_get(other, "name"));
        if (taken && !strcmp(taken, name)) {
            json_decref(port);
            return err_set(err, ERR_USAGE, "%s %s: there is a port '%s' already", c->flag, c->value,
                           name);
        }
    }
    json_array_append_new(ports, port);
    return set_string(c, port, "name", name, err) || set_string(c, port, "path", path, err) ? -1
                                                                                            : 0;
}

static int apply_port(struct option_context *c, struct err *err)
{
    char name[MAX_PORT_NAME + 1];
    size_t length = strcspn(c->value, "=");
    if (!length || length > MAX_PORT_NAME || !c->value[length] || !c->value[length + 1])
        return refuse(c, err, "NAME=SOCKET with a name of 1 to 63 bytes");
    memcpy(name, c->value, length);
    name[length] = 0;
    return add_port(c, name, c->value + length + 1, err);
}

// A stock agent finds its port by this name.
static int apply_agent(struct option_context *c, struct err *err)
{
    if (!*c->value)
        return refuse(c, err, "the path of a socket");
    return add_port(c, "org.qemu.guest_agent.0", c->value, err);
}

// bandwidth=, iops= and their bursts.
static int disk_limit(struct option_context *c, json_t *disk, const char *word, struct err *err)
{
    static const struct {
        const char *word, *member;
        uint64_t max;
        bool size;
    } limits[] = {{"bandwidth=", "bandwidth", 1ull << 50, true},
                  {"bandwidth-burst=", "bandwidth_burst", 1ull << 50, true},
                  {"iops=", "iops", 1000000000, false},
                  {"iops-burst=", "iops_burst", 1000000000, false}};
    uint64_t value;
    for (size_t i = 0; i < ARRAY_LENGTH(limits); i++) {
        size_t length = strlen(limits[i].word);
        if (strncmp(word, limits[i].word, length))
            continue;
        bool right = limits[i].size ? units_parse_size(word + length, 1, &value) && value &&
                                          value <= limits[i].max
                                    : units_parse_number(word + length, 1, limits[i].max, &value);
        if (!right)
            return refuse(c, err,
                          limits[i].size ? "bytes a second, at least 1, as in 100M"
                                         : "a number from 1 to 1000000000");
        json_object_set_new(disk, limits[i].member, json_integer((json_int_t)value));
        return 0;
    }
    return refuse(c, err, DISK_WORDS);
}

static int disk_property(struct option_context *c, json_t *disk, const char *word, struct err *err)
{
    if (!strcmp(word, "readonly")) {
        json_object_set_new(disk, "readonly", json_true());
        return 0;
    }
    if (!strncmp(word, "serial=", 7)) {
        size_t length = strlen(word + 7);
        if (!length || length > 20)
            return refuse(c, err, "serial= with 1 to 20 bytes");
        return set_string(c, disk, "serial", word + 7, err);
    }
    if (!strncmp(word, "format=", 7) && block_format_find(word + 7))
        return set_string(c, disk, "format", word + 7, err);
    if (!strcmp(word, "on-error=report") || !strcmp(word, "on-error=stop"))
        return set_string(c, disk, "on_error", word + 9, err);
    if (!strncmp(word, "backing-folder=", 15) && word[15])
        return set_string(c, disk, "backing_folder", word + 15, err);
    return disk_limit(c, disk, word, err);
}

static int apply_disk(struct option_context *c, struct err *err)
{
    char *words = strdup(c->value);
    json_t *disk = json_object();
    json_array_append_new(child_array(c->config, "disks"), disk);
    char *rest = words;
    const char *path = strsep(&rest, ",");
    int result = *path ? set_string(c, disk, "file", path, err) : refuse(c, err, DISK_WORDS);
    while (!result && rest)
        result = disk_property(c, disk, strsep(&rest, ","), err);
    free(words);
    return result;
}

static int net_forward(struct option_context *c, json_t *net, const char *word, struct err *err)
{
    uint64_t host, guest;
    char ports[32];
    if (strncmp(word, "forward=tcp:", 12) || strlen(word + 12) >= sizeof(ports))
        return refuse(c, err, "user[,forward=tcp:HOSTPORT:GUESTPORT]…, tap=IFNAME or none");
    memcpy(ports, word + 12, strlen(word + 12) + 1);
    char *rest = ports;
    const char *first = strsep(&rest, ":");
    if (!rest || !units_parse_number(first, 1, 65535, &host) ||
        !units_parse_number(rest, 1, 65535, &guest))
        return refuse(c, err, "forward=tcp:HOSTPORT:GUESTPORT with ports from 1 to 65535");
    json_array_append_new(
        child_array(net, "forward"),
        json_pack("{s:I, s:I}", "host_port", (json_int_t)host, "guest_port", (json_int_t)guest));
    return 0;
}

static int apply_net(struct option_context *c, struct err *err)
{
    if (!strcmp(c->value, "none"))
        return 0;
    json_t *net = json_object();
    json_array_append_new(child_array(c->config, "nets"), net);
    if (!strncmp(c->value, "tap=", 4)) {
        size_t length = strlen(c->value + 4);
        if (!length || length > 15)
            return refuse(c, err, "tap= with an interface name of 1 to 15 bytes");
        json_object_set_new(net, "kind", json_string("tap"));
        return set_string(c, net, "interface", c->value + 4, err);
    }
    char *words = strdup(c->value);
    char *rest = words;
    int result = strcmp(strsep(&rest, ","), "user")
                     ? refuse(c, err, "user[,forward=tcp:HOSTPORT:GUESTPORT]…, tap=IFNAME or none")
                     : 0;
    if (!result)
        json_object_set_new(net, "kind", json_string("user"));
    while (!result && rest)
        result = net_forward(c, net, strsep(&rest, ","), err);
    free(words);
    return result;
}

// What src/launch puts in, descriptors above all, is nothing that a file may say.
static int refuse_launchers(const json_t *value, const char *path, struct err *err)
{
    static const char *const names[] = {"fd",  "status_fd",   "backing",
                                        "kvm", "launched_ns", "launched_tsc"};
    char inner[256];
    const char *key;
    size_t index;
    json_t *member;
    json_array_foreach(value, index, member)
    {
        snprintf(inner, sizeof(inner), "%.200s[%zu]", path, index);
        if (refuse_launchers(member, inner, err))
            return -1;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        snprintf(inner, sizeof(inner), "%.200s%s%.40s", path, *path ? "." : "", key);
        for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
            if (!strcmp(key, names[i]))
                return err_set(err, ERR_USAGE, "%s: is set by wirt itself; leave it out", inner);
        if (refuse_launchers(member, inner, err))
            return -1;
    }
    const char *kind = json_string_value(json_object_get(value, "kind"));
    if (kind && !strcmp(kind, "attached"))
        return err_set(err, ERR_USAGE, "%s.kind: \"attached\" is set by wirt itself, not by people",
                       path);
    return 0;
}

// Members of the file are replaced whole by later options of the same name, lists are appended to.
static int apply_config(struct option_context *c, struct err *err)
{
    json_error_t error;
    json_t *file = json_load_file(c->value, JSON_REJECT_DUPLICATES, &error);
    if (!file)
        return err_set(err, ERR_USAGE, "%s %s: line %d: %s", c->flag, c->value, error.line,
                       error.text);
    int result = schema_check(&schema_config, file, "", err);
    if (!result)
        result = refuse_launchers(file, "", err);
    if (result)
        err_wrap(err, "%s %s", c->flag, c->value);
    else
        json_object_update(c->config, file);
    json_decref(file);
    return result;
}

static const struct option options[] = {
    {"--kernel", true, apply_kernel},       {"--initrd", true, apply_initrd},
    {"--append", true, apply_append},       {"--firmware", true, apply_firmware},
    {"--disk", true, apply_disk},           {"--net", true, apply_net},
    {"--cpus", true, apply_cpus},           {"--memory", true, apply_memory},
    {"--accel", true, apply_accel},         {"--cpu", true, apply_cpu},
    {"--console", true, apply_console},     {"--control", true, apply_control},
    {"--config", true, apply_config},       {"--timeout", true, apply_timeout},
    {"--on-reboot", true, apply_on_reboot}, {"--gdb", true, apply_gdb},
    {"--trace", true, apply_trace},         {"--deterministic", false, apply_deterministic},
    {"--stats", false, apply_stats},        {"--json", false, apply_json},
    {"--agent", true, apply_agent},         {"--port", true, apply_port},
};

static const struct option *find_option(const char *word, size_t length)
{
    for (size_t i = 0; i < ARRAY_LENGTH(options); i++)
        if (strlen(options[i].flag) == length && !memcmp(options[i].flag, word, length))
            return &options[i];
    return NULL;
}

// One flag, as "--flag value" or "--flag=value". Moves *index past it.
static int parse_one(struct option_context *c, int argc, char **argv, int *index, struct err *err)
{
    const char *word = argv[(*index)++];
    size_t length = strcspn(word, "=");
    const struct option *option = find_option(word, length);
    if (!option)
        return err_set(err, ERR_USAGE, "%s: there is no such option; `wirt help run` lists them",
                       word);
    c->flag = option->flag;
    c->value = "";
    if (option->takes_value) {
        if (word[length] == '=')
            c->value = word + length + 1;
        else if (*index < argc)
            c->value = argv[(*index)++];
        else
            return err_set(err, ERR_USAGE, "%s: needs a value; `wirt help run` shows it", word);
    } else if (word[length]) {
        return err_set(err, ERR_USAGE, "%s: takes no value", option->flag);
    }
    return option->apply(c, err);
}

// Each object's member must be there, and different from those of the others. `what`: the path of the list, or of the object.
static int check_named(const json_t *objects, const char *member, const char *what, bool unique,
                       struct err *err)
{
    size_t index;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, member));
        if (!name || !*name)
            return err_set(err, ERR_USAGE, "%s[%zu].%s: is missing", what, index, member);
        for (size_t i = 0; unique && i < index; i++)
            if (!strcmp(name,
                        json_string_value(json_object_get(json_array_get(objects, i), member))))
                return err_set(err, ERR_USAGE, "%s[%zu].%s: there is \"%.60s\" already", what,
                               index, member, name);
    }
    return 0;
}

static int check_one(const json_t *object, const char *member, const char *what, struct err *err)
{
    const char *name = json_string_value(json_object_get(object, member));
    return !object || (name && *name) ? 0
                                      : err_set(err, ERR_USAGE, "%s.%s: is missing", what, member);
}

// What a configuration names must have a name. Members that wirt-vm does not need are not required by the schema.
static int check_names(const json_t *config, struct err *err)
{
    const json_t *boot = json_object_get(config, "boot"),
                 *console = json_object_get(config, "console");
    const char *kind = json_string_value(json_object_get(console, "kind"));
    bool leads = kind && (!strcmp(kind, "file") || !strcmp(kind, "socket"));
    size_t index;
    json_t *net;
    json_array_foreach(json_object_get(config, "nets"), index, net)
    {
        const char *net_kind = json_string_value(json_object_get(net, "kind"));
        if (net_kind && !strcmp(net_kind, "tap") && check_one(net, "interface", "nets", err))
            return -1;
    }
    return check_one(json_object_get(boot, "kernel"), "file", "boot.kernel", err) ||
                   check_one(json_object_get(boot, "firmware"), "file", "boot.firmware", err) ||
                   check_named(json_object_get(boot, "initrds"), "file", "boot.initrds", false,
                               err) ||
                   check_named(json_object_get(config, "disks"), "file", "disks", false, err) ||
                   check_named(json_object_get(config, "ports"), "name", "ports", true, err) ||
                   check_named(json_object_get(config, "ports"), "path", "ports", true, err) ||
                   check_one(json_object_get(config, "control"), "file", "control", err) ||
                   check_one(json_object_get(config, "gdb"), "file", "gdb", err) ||
                   (leads && check_one(console, "path", "console", err))
               ? -1
               : 0;
}

// Relations between members that the schema cannot express.
static int check_relations(const json_t *config, struct err *err)
{
    const json_t *boot = json_object_get(config, "boot");
    bool kernel = json_object_get(boot, "kernel");
    if (!kernel && (json_object_get(boot, "initrds") || json_object_get(boot, "append")))
        return err_set(err, ERR_USAGE, "%s needs --kernel",
                       json_object_get(boot, "initrds") ? "--initrd" : "--append");
    if (kernel && json_object_get(boot, "firmware"))
        return err_set(err, ERR_USAGE, "--firmware and --kernel exclude each other");
    if (json_is_true(json_object_get(config, "deterministic")) &&
        json_integer_value(json_object_get(config, "cpus")) > 1)
        return err_set(err, ERR_USAGE, "--deterministic needs --cpus 1");
    return 0;
}

json_t *run_options_parse(int argc, char **argv, struct err *err)
{
    struct option_context context = {.config = json_object()};
    int index = 1;
    while (index < argc)
        if (parse_one(&context, argc, argv, &index, err))
            goto failed;
    if (context.json)
        json_object_set_new(context.config, "stats", json_string("json"));
    if (schema_check(&schema_config, context.config, "", err) || check_names(context.config, err) ||
        check_relations(context.config, err))
        goto failed;
    return context.config;
failed:
    json_decref(context.config);
    return NULL;
}
