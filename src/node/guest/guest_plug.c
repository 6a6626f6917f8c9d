// SPDX-License-Identifier: Apache-2.0
#include "node/guest/guest_plug.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "launch/files.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/poll_set.h"
#include "os/unix_socket.h"

#define ASK_SECONDS    10
#define UNPLUG_SECONDS 5
#define FILES_MAX      8 // that the control protocol takes beside a request

// ---- The record's member.

int guest_note_running(struct guests *guests, int64_t vmid, const json_t *config, struct err *err)
{
    return guest_set_member(guests, vmid, "running", json_deep_copy(config), err);
}

json_t *guest_running_config(struct guests *guests, int64_t vmid, const json_t *record)
{
    json_t *running = json_object_get(record, "running");
    return running && guest_is_running(guests, vmid) ? json_incref(running) : NULL;
}

static const char *const limit_keys[] = {"cpulimit", "cpuunits"};

static bool is_limit(const char *key)
{
    for (size_t i = 0; i < ARRAY_LENGTH(limit_keys); i++)
        if (!strcmp(key, limit_keys[i]))
            return true;
    return false;
}

// What the machine has no part in: it holds as soon as it is written.
static bool concerns_machine(const char *key)
{
    static const char *const others[] = {
        "name",       "description", "tags",         "onboot",   "startup",   "autostart",
        "protection", "lock",        "boot",         "bootdisk", "ciuser",    "cipassword",
        "sshkeys",    "nameserver",  "searchdomain", "cicustom", "ciupgrade", "citype",
        "hookscript", "template",    "parent",       "hotplug",  "ostype"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (!strcmp(key, others[i]))
            return false;
    return strncmp(key, "ipconfig", 8) != 0 && !guest_is_unused_key(key);
}

static bool is_net(const char *key)
{
    return !strncmp(key, "net", 3) && isdigit((unsigned char)key[3]);
}

static bool is_device(const char *key)
{
    return is_net(key) || guest_is_disk_key(key);
}

// ---- Unplugging: the guest has to let go, which the event tells.

struct lines {
    int fd;
    char text[65536];
    size_t used;
};

// 1: the event for the device came; 0: not yet; -1 and *err: the machine refused.
static int look_for(struct lines *lines, const char *device, struct err *err)
{
    char *newline;
    while ((newline = memchr(lines->text, '\n', lines->used))) {
        size_t length = (size_t)(newline - lines->text);
        json_t *line = json_loadb(lines->text, length, 0, NULL);
        const char *event = json_string_value(json_object_get(line, "event"));
        const char *id = json_string_value(json_object_get(line, "id"));
        const char *refusal =
            json_string_value(json_object_get(json_object_get(line, "error"), "message"));
        int found = event && !strcmp(event, "unplugged") && id && !strcmp(id, device);
        if (refusal)
            found = err_set(err, ERR_HOST, "%s", refusal);
        json_decref(line);
        lines->used -= length + 1;
        memmove(lines->text, newline + 1, lines->used);
        if (found)
            return found;
    }
    return 0;
}

static int wait_unplugged(struct lines *lines, const char *device, struct err *err)
{
    uint64_t end_ns = os_clock_monotonic_ns() + UNPLUG_SECONDS * UINT64_C(1000000000);
    for (int found = 0; !found;) {
        uint64_t now_ns = os_clock_monotonic_ns();
        struct pollfd poll = {.fd = lines->fd, .events = POLLIN};
        if (now_ns >= end_ns || os_poll(&poll, 1, (int)((end_ns - now_ns) / 1000000) + 1) == 0)
            return err_set(err, ERR_BUSY, "the guest does not let go of %s", device);
        size_t none;
        ssize_t n = os_unix_receive(lines->fd, lines->text + lines->used,
                                    sizeof(lines->text) - lines->used, NULL, 0, &none);
        if (n <= 0)
            return err_set(err, ERR_HOST, "the machine has gone");
        lines->used += (size_t)n;
        found = look_for(lines, device, err);
        if (found < 0 || lines->used == sizeof(lines->text))
            return -1;
    }
    return 0;
}

static int unplug(struct guests *guests, int64_t vmid, const char *device, struct err *err)
{
    char request[128];
    struct lines *lines = calloc(1, sizeof(*lines));
    if (!lines)
        abort();
    lines->fd = guest_connect(guests, vmid, "control", err);
    int length = snprintf(request, sizeof(request),
                          "{\"id\":1,\"do\":\"unplug\",\"device\":\"%.31s\"}\n", device);
    int result = -1;
    if (lines->fd >= 0 && os_unix_send_all(lines->fd, request, (size_t)length))
        err_set(err, ERR_HOST, "the machine has gone");
    else if (lines->fd >= 0)
        result = wait_unplugged(lines, device, err);
    os_file_close(&lines->fd);
    free(lines);
    return result;
}

// ---- Plugging.

struct passed {
    int fds[FILES_MAX];
    size_t count;
};

static int give(void *context, json_t *object, const char *member, int fd, struct err *err)
{
    struct passed *passed = context;
    if (fd < 0)
        return -1;
    if (passed->count == FILES_MAX) {
        os_file_close(&fd);
        return err_set(err, ERR_UNSUPPORTED,
                       "the disk stands on more images than a running machine takes at once");
    }
    json_object_set_new(object, member, json_integer((json_int_t)passed->count));
    passed->fds[passed->count++] = fd;
    return 0;
}

static int plug(struct guests *guests, int64_t vmid, const char *what, json_t *device,
                struct passed *passed, struct err *err)
{
    json_t *ok =
        guest_control_with(guests, vmid, json_pack("{s:s, s:O}", "do", "plug", what, device),
                           passed->fds, passed->count, ASK_SECONDS, err);
    json_decref(ok);
    return ok ? 0 : -1;
}

static int plug_disk(struct guests *guests, int64_t vmid, json_t *disk, struct err *err)
{
    struct passed passed = {.count = 0};
    const char **folders = storage_image_folders(guests->options.storage);
    struct launch_files to = {give, &passed, folders};
    int result = launch_open_disk(&to, disk, err);
    if (!result)
        result = plug(guests, vmid, "disk", disk, &passed, err);
    while (passed.count)
        os_file_close(&passed.fds[--passed.count]);
    free(folders);
    return result;
}

// Has it a card on the node's network?
static bool on_bridge(const json_t *running)
{
    const char *key;
    json_t *value;
    bool found = false;
    json_object_foreach((json_t *)(uintptr_t)running, key, value)
    {
        json_t *net = is_net(key) ? property_parse_net(json_string_value(value), NULL) : NULL;
        const char *bridge = json_string_value(json_object_get(net, "bridge"));
        found |= bridge && !strcmp(bridge, GUEST_BRIDGE);
        json_decref(net);
    }
    return found;
}

static int plug_net(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                    const json_t *running, json_t *net, struct err *err)
{
    const char *name = json_string_value(json_object_get(config, "name"));
    struct passed passed = {.count = 0};
    if (!name || on_bridge(running)) // one address is the name's
        name = "";
    int result = guest_open_net(guests, task, vmid, name, net, &passed.fds[0], err);
    if (!result && passed.fds[0] >= 0)
        json_object_set_new(net, "fd", json_integer((json_int_t)passed.count++));
    if (!result)
        result = plug(guests, vmid, "net", net, &passed, err);
    while (passed.count)
        os_file_close(&passed.fds[--passed.count]);
    return result;
}

// The device as the whole machine's description has it.
static json_t *describe_device(struct guests *guests, int64_t vmid, const json_t *config,
                               const char *key, struct err *err)
{
    char folder[4096];
    size_t index;
    json_t *device, *found = NULL;
    guest_folder(guests, vmid, folder);
    json_t *machine = guest_machine(guests, vmid, config, folder, err);
    json_array_foreach(json_object_get(machine, is_net(key) ? "nets" : "disks"), index, device)
    {
        const char *id = json_string_value(json_object_get(device, "id"));
        if (id && !strcmp(id, key))
            found = json_incref(device);
    }
    json_decref(machine);
    return found;
}

// 0 also when there is nothing to plug: an empty drive.
static int plug_key(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                    const json_t *running, const char *key, struct err *err)
{
    struct err failed = {0};
    json_t *device = describe_device(guests, vmid, config, key, &failed);
    if (!device)
        return failed.code ? err_set(err, failed.code, "%s", failed.text) : 0;
    int result = is_net(key) ? plug_net(guests, task, vmid, config, running, device, err)
                             : plug_disk(guests, vmid, device, err);
    json_decref(device);
    return result;
}

// ---- The change.

static bool same_text(const json_t *a, const json_t *b, const char *member)
{
    const char *left = json_string_value(json_object_get(a, member));
    const char *right = json_string_value(json_object_get(b, member));
    return left && right ? !strcmp(left, right) : !left && !right;
}

// Do both texts mean the same device? What else they say is for others to heed, or changes while it is plugged. A card's new text without an address keeps the old one.
static bool is_same_device(const char *key, const char *now, const char *next)
{
    static const char *const of_net[] = {"bridge", "macaddr"};
    static const char *const of_disk[] = {"file", "serial", "ro", "media"};
    bool net = is_net(key), same = true;
    json_t *a = net ? property_parse_net(now, NULL) : property_parse(now, "file", NULL);
    json_t *b = net ? property_parse_net(next, NULL) : property_parse(next, "file", NULL);
    if (net && b && !strchr(next, ':'))
        json_object_set(b, "macaddr", json_object_get(a, "macaddr"));
    for (size_t i = 0; net && i < ARRAY_LENGTH(of_net); i++)
        same &= same_text(a, b, of_net[i]);
    for (size_t i = 0; !net && i < ARRAY_LENGTH(of_disk); i++)
        same &= same_text(a, b, of_disk[i]);
    same &= a && b;
    json_decref(a);
    json_decref(b);
    return same;
}

// Does the change take this key's device away or make another of it?
static bool is_touched(const struct guest_change *change, const json_t *config, const char *key)
{
    size_t index;
    json_t *name;
    const char *now = json_string_value(json_object_get(config, key));
    const char *next = json_string_value(json_object_get(change->changes, key));
    json_array_foreach(change->remove, index,
                       name) if (!strcmp(json_string_value(name), key)) return true;
    return next && (!now || !is_same_device(key, now, next));
}

static bool concerns_devices(const struct guest_change *change)
{
    const char *key;
    size_t index;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)change->changes, key,
                        value) if (is_device(key)) return true;
    json_array_foreach(change->remove, index,
                       value) if (is_device(json_string_value(value))) return true;
    return false;
}

static bool has_device(const char *key, const char *text)
{
    char volid[VOLUME_ID_BYTES];
    bool cdrom;
    return is_net(key) || guest_disk_volume(text, volid, &cdrom);
}

// "network,disk", as it is by default; "1": the same, "0": nothing.
static bool may_plug(const json_t *config, const char *key)
{
    const char *text = json_string_value(json_object_get(config, "hotplug"));
    const char *wanted = is_net(key) ? "network" : "disk";
    if (!text || !strcmp(text, "1"))
        return true;
    for (size_t n; *text; text += n + (text[n] != 0)) {
        n = strcspn(text, ",;");
        if (n == strlen(wanted) && !strncmp(text, wanted, n))
            return true;
    }
    return false;
}

// Devices that go, or come back as something else. What is gone is taken off `running`.
static int unplug_all(struct guests *guests, int64_t vmid, const struct guest_change *change,
                      json_t *running, struct err *err)
{
    const char *key;
    void *next;
    json_t *value;
    json_object_foreach_safe(running, next, key, value)
    {
        if (!is_device(key) || !is_touched(change, running, key))
            continue;
        if (!may_plug(running, key) && is_net(key))
            continue; // it is pending
        if (!may_plug(running, key) && has_device(key, json_string_value(value)))
            return err_set(err, ERR_BUSY, "%s: hot plug of disks is off, stop the VM first", key);
        if (has_device(key, json_string_value(value)) && unplug(guests, vmid, key, err))
            return -1;
        json_object_del(running, key);
        if (guest_note_running(guests, vmid, running, err))
            return -1;
    }
    return 0;
}

// A device that stays as it is otherwise: the cable of a card, the limits of a disk.
static int adjust_disk(struct guests *guests, int64_t vmid, const char *key, const char *text,
                       struct err *err)
{
    if (!has_device(key, text))
        return 0;
    json_t *properties = property_parse(text, "file", NULL);
    json_t *request = json_pack("{s:s, s:s}", "do", "disk-limits", "device", key);
    int result = guest_disk_limits(properties, request, err);
    json_t *ok = result ? NULL : guest_control(guests, vmid, request, ASK_SECONDS, err);
    if (result)
        json_decref(request);
    json_decref(properties);
    json_decref(ok);
    return ok ? 0 : -1;
}

static int adjust(struct guests *guests, int64_t vmid, const char *key, const char *text,
                  struct err *err)
{
    if (!is_net(key))
        return adjust_disk(guests, vmid, key, text, err);
    json_t *net = property_parse_net(text, NULL);
    json_t *ok = guest_control(guests, vmid,
                               json_pack("{s:s, s:s, s:b}", "do", "net-link", "device", key, "up",
                                         !property_flag(net, "link_down")),
                               ASK_SECONDS, err);
    json_decref(net);
    json_decref(ok);
    return ok ? 0 : -1;
}

// Has the machine another device by this key than `text` says, and yet the same one?
static bool is_adjusted(const char *key, const char *now, const char *text)
{
    return text && now && strcmp(now, text) != 0 && is_same_device(key, now, text);
}

// Devices that it lacks are plugged, those that differ adjusted; the task's log says what has to wait.
static void fit_all(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                    json_t *running)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        struct err failed = {0};
        const char *text = json_string_value(value);
        const char *now = json_string_value(json_object_get(running, key));
        bool lacking = !json_object_get(running, key);
        int result;
        if (!is_device(key) || (!lacking && !is_adjusted(key, now, text)))
            continue;
        if (!lacking)
            result = adjust(guests, vmid, key, text, &failed);
        else if (may_plug(config, key))
            result = plug_key(guests, task, vmid, config, running, key, &failed);
        else
            result = err_set(&failed, ERR_BUSY, "hot plug is off");
        if (!result)
            json_object_set(running, key, value);
        else
            task_log(task, "%s %s with the next start: %s", key, lacking ? "comes" : "changes",
                     failed.text);
    }
}

// ---- What the machine has.

static bool has_id(const json_t *rows, const char *id)
{
    size_t index;
    json_t *row;
    json_array_foreach(rows, index, row)
    {
        const char *own = json_string_value(json_object_get(row, "id"));
        if (own && !strcmp(own, id))
            return true;
    }
    return false;
}

// Whoever changed it before may have died before that was noted, and a guest may let go of a device later than it was waited for: the machine itself tells
// which devices it has.
static void reconcile(struct guests *guests, int64_t vmid, const json_t *config, json_t *running)
{
    const char *key;
    void *next;
    json_t *value;
    json_t *has =
        guest_control(guests, vmid, json_pack("{s:s}", "do", "statistics"), ASK_SECONDS, NULL);
    const json_t *disks = json_object_get(has, "disks"), *nets = json_object_get(has, "nets");
    json_object_foreach_safe(running, next, key, value)
    {
        if (has && is_device(key) && has_device(key, json_string_value(value)) &&
            !has_id(is_net(key) ? nets : disks, key))
            json_object_del(running, key);
    }
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        if (has && is_device(key) && !json_object_get(running, key) &&
            has_id(is_net(key) ? nets : disks, key))
            json_object_set(running, key, value);
    }
    json_decref(has);
}

void guest_reconcile(struct guests *guests, int64_t vmid)
{
    json_t *record = guest_get(guests, vmid);
    const json_t *noted = json_object_get(record, "running");
    json_t *running = noted ? json_deep_copy(noted) : NULL;
    if (running) {
        reconcile(guests, vmid, json_object_get(record, "config"), running);
        if (!json_equal(noted, running))
            guest_note_running(guests, vmid, running, NULL);
    }
    json_decref(running);
    json_decref(record);
}

// Has what the configuration says of this key been done already?
static bool holds(const char *key, bool limited, bool ballooned)
{
    return !concerns_machine(key) || (limited && is_limit(key)) ||
           (ballooned && !strcmp(key, "balloon"));
}

// What holds at once is not pending.
static void take_over(const json_t *config, json_t *running, bool limited, bool ballooned)
{
    const char *key;
    void *next;
    json_t *value;
    json_object_foreach_safe(running, next, key, value)
    {
        if (holds(key, limited, ballooned) && !json_object_get(config, key))
            json_object_del(running, key);
    }
    json_object_foreach((json_t *)(uintptr_t)config, key, value) if (holds(key, limited, ballooned))
        json_object_set(running, key, value);
}

// The scope's limits follow the configuration. Where the host refuses, the machine keeps those that it has, and the change is pending.
static bool limit_running(struct guests *guests, struct task *task, int64_t vmid,
                          const json_t *config, const json_t *running)
{
    char scope[32];
    struct err failed = {0};
    struct guest_status status;
    json_t *wanted = json_copy((json_t *)(uintptr_t)running);
    for (size_t i = 0; i < ARRAY_LENGTH(limit_keys); i++) {
        json_object_del(wanted, limit_keys[i]);
        if (json_object_get(config, limit_keys[i]))
            json_object_set(wanted, limit_keys[i], json_object_get(config, limit_keys[i]));
    }
    bool same = json_equal(wanted, running);
    struct os_cgroup_limits limits = guest_limits(wanted); // of the RAM that it has
    json_decref(wanted);
    guest_status(guests, vmid, &status);
    snprintf(scope, sizeof(scope), "%lld", (long long)vmid);
    if (same || !status.running ||
        !helper_limit(guests->options.helper, scope, (pid_t)status.pid, &limits, &failed))
        return true;
    task_log(task, "limits come with the next start: %s", failed.text);
    return false;
}

// The guest is asked to keep another part of the memory that the machine has.
static bool balloon_running(struct guests *guests, struct task *task, int64_t vmid,
                            const json_t *config, const json_t *running)
{
    struct err failed = {0};
    if (guest_number(config, "balloon", 0) == guest_number(running, "balloon", 0) ||
        !guest_set_balloon(guests, vmid, config, guest_number(running, "memory", 512), &failed))
        return true;
    task_log(task, "balloon: with the next start: %s", failed.text);
    return false;
}

static int change_running(struct guests *guests, struct task *task, int64_t vmid,
                          const struct guest_change *change, json_t *running, struct err *err)
{
    json_t *record = guest_get(guests, vmid);
    if (concerns_devices(change))
        reconcile(guests, vmid, json_object_get(record, "config"), running);
    json_decref(record);
    int result = unplug_all(guests, vmid, change, running, err);
    if (!result)
        result = guest_configure(guests, vmid, change, err);
    record = guest_get(guests, vmid);
    const json_t *config = json_object_get(record, "config");
    fit_all(guests, task, vmid, config, running); // also what was taken off in vain
    bool ballooned = balloon_running(guests, task, vmid, config, running);
    take_over(config, running, limit_running(guests, task, vmid, config, running), ballooned);
    json_decref(record);
    struct err late = {0};
    return guest_note_running(guests, vmid, running, result ? &late : err) || result ? -1 : 0;
}

int guest_reconfigure(struct guests *guests, struct task *task, int64_t vmid,
                      const struct guest_change *change, struct err *err)
{
    json_t *record = guest_get(guests, vmid);
    json_t *running = guest_running_config(guests, vmid, record);
    json_decref(record);
    if (!running)
        return guest_configure(guests, vmid, change, err);
    json_t *copy = json_deep_copy(running);
    json_decref(running);
    int result = change_running(guests, task, vmid, change, copy, err);
    json_decref(copy);
    return result;
}
