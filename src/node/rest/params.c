// SPDX-License-Identifier: Apache-2.0
//
// Parameters that several endpoints take: those of paths, and the keys of a guest's configuration with the privilege that each one needs.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_cloudinit.h"
#include "node/guest/property.h"
#include "node/rest/rest.h"

// ---- Formats.

static int all_of(const char *text, const char *extra, const char *what, struct err *err)
{
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(extra, *c))
            return err_set(err, ERR_USAGE, "value does not look like a valid %s", what);
    return *text ? 0 : err_set(err, ERR_USAGE, "value does not look like a valid %s", what);
}

static int check_name(const char *text, struct err *err)
{
    return text[0] == '-' || text[0] == '.'
               ? err_set(err, ERR_USAGE, "value does not look like a valid DNS name")
               : all_of(text, "-.", "DNS name", err);
}
const struct api_format rest_format_name = {"dns-name", "letters, digits, - and .", check_name};

// As groups, roles and tokens are called.
static int check_id(const char *text, struct err *err)
{
    return isalnum((unsigned char)text[0])
               ? all_of(text, "-_.", "ID", err)
               : err_set(err, ERR_USAGE, "an ID begins with a letter or digit");
}
const struct api_format rest_format_id = {"id", "letters, digits, -, _ and .", check_id};

// "a/b/c": IDs, one in another.
static int check_pool(const char *text, struct err *err)
{
    unsigned levels = 0;
    for (const char *at = text;; at++) {
        char part[64];
        size_t n = strcspn(at, "/");
        snprintf(part, sizeof(part), "%.*s", (int)n, at);
        if (++levels > 3 || n >= sizeof(part))
            return err_set(err, ERR_USAGE, "pools stand in one another at most three deep");
        if (check_id(part, err))
            return -1;
        at += n;
        if (!*at)
            return 0;
    }
}
const struct api_format rest_format_pool = {"pool-id", "an ID, or IDs separated by /", check_pool};

// As numbers are written: the text becomes a path, and a member of a pool.
static int check_vmid(const char *text, struct err *err)
{
    size_t length = strlen(text);
    return length >= 3 && length < 10 && text[0] != '0' && strspn(text, "0123456789") == length
               ? 0
               : err_set(err, ERR_USAGE, "value does not look like a valid VM ID");
}
const struct api_format rest_format_vmid = {"vmid", "a guest's number", check_vmid};

static int check_userid(const char *text, struct err *err)
{
    char id[AUTH_ID_BYTES];
    return strchr(text, '@') ? auth_canonical(text, NULL, id, err)
                             : err_set(err, ERR_USAGE, "value '%.60s' has no realm", text);
}
const struct api_format rest_format_userid = {"userid", "name@realm", check_userid};

static int check_storage(const char *text, struct err *err)
{
    return isalpha((unsigned char)text[0])
               ? all_of(text, "-_.", "storage ID", err)
               : err_set(err, ERR_USAGE, "a storage ID begins with a letter");
}
const struct api_format rest_format_storage = {"storage-id", "letter, then letters, digits and -_.",
                                               check_storage};

static int check_volume(const char *text, struct err *err)
{
    return strchr(text, ':') && !strstr(text, "..")
               ? all_of(text, ":/-_.+=@", "volume ID", err)
               : err_set(err, ERR_USAGE, "value does not look like a valid volume ID");
}
const struct api_format rest_format_volume = {"volume-id", "store:name", check_volume};

static int check_snapshot(const char *text, struct err *err)
{
    if (!isalpha((unsigned char)text[0]) || !strcmp(text, "current"))
        return err_set(err, ERR_USAGE,
                       "a snapshot's name begins with a letter and is not 'current'");
    return all_of(text, "-_", "configuration ID", err);
}
const struct api_format rest_format_snapshot = {
    "snapshot-name", "letter, then letters, digits, - and _", check_snapshot};

static int check_path(const char *text, struct err *err)
{
    size_t length = strlen(text);
    bool ends = length < 2 || text[length - 1] != '/';
    return text[0] == '/' && ends && !strstr(text, "//") && !strstr(text, "..")
               ? all_of(text, "/-_.+@!", "access control path", err)
               : err_set(err, ERR_USAGE, "value does not look like a valid access control path");
}
const struct api_format rest_format_path = {"acl-path", "/, /vms/100, /storage/local, …",
                                            check_path};

// The datastore's name becomes a part of the permission that is asked for: nothing but a name may stand there.
static bool names_storage(const char *volume)
{
    return !volume || !strchr(volume, ':') || volume_names_storage(volume);
}

static int check_disk(const char *text, struct err *err)
{
    json_t *disk = property_parse(text, "file", err);
    const char *file = api_param_string(disk, "file");
    const char *from = api_param_string(disk, "import-from");
    int result = disk ? 0 : -1;
    if (disk && !file)
        result = err_set(err, ERR_USAGE, "it must begin with a volume, or STORE:GIB");
    else if (disk && !(names_storage(file) && (!from || from[0] == '/' || names_storage(from))))
        result = err_set(err, ERR_USAGE, "what stands before the ':' is no name of a storage");
    json_decref(disk);
    return result;
}
static const struct api_format disk_format = {"disk", "VOLUME or STORE:GIB, then options",
                                              check_disk};

static int check_net(const char *text, struct err *err)
{
    json_t *net = property_parse_net(text, err);
    const char *bridge = api_param_string(net, "bridge");
    // It becomes a part of the permission that is asked for: nothing but a name may stand there.
    int result = net ? 0 : -1;
    if (bridge)
        result = all_of(bridge, "-_.", "bridge", err);
    json_decref(net);
    return result;
}
static const struct api_format net_format = {"net", "MODEL[=MAC][,bridge=vmbr0]…", check_net};

static int check_property(const char *text, struct err *err)
{
    json_t *object = property_parse(text, "value", err);
    json_decref(object);
    return object ? 0 : -1;
}
static const struct api_format property_format = {"property-string", "KEY=VALUE,…", check_property};

static const struct api_format address_format = {
    "ipconfig", "ip=dhcp or ADDRESS/BITS,gw=ADDRESS,ip6=…,gw6=…", cloudinit_check_address};
static const struct api_format custom_format = {
    "cicustom", "user=STORE:snippets/FILE,network=…,meta=…,vendor=…", cloudinit_check_custom};

// Whoever has the guest read a snippet must be able to see it.
static void custom_permission(const char *value, char *expression, size_t size)
{
    const char *key;
    json_t *volid, *given = property_parse(value, NULL, NULL);
    size_t used = 0;
    expression[0] = 0;
    json_object_foreach(given, key, volid)
    {
        const char *text = json_string_value(volid);
        if (used < size)
            used += (size_t)snprintf(expression + used, size - used,
                                     "%s/storage/%.*s Datastore.Audit|Datastore.AllocateSpace",
                                     used ? " & " : "", (int)strcspn(text, ":"), text);
    }
    json_decref(given);
}

// New volumes take space; those that are there must be seen; what is imported must be readable for whoever imports it. What the key itself needs is
// said by rest_check_disks().
static void disk_permission(const char *value, char *expression, size_t size)
{
    json_t *disk = property_parse(value, "file", NULL);
    const char *file = api_param_string(disk, "file");
    const char *from = api_param_string(disk, "import-from");
    const char *name = file && strchr(file, ':') ? strchr(file, ':') + 1 : NULL;
    expression[0] = 0;
    if (name) {
        bool number = *name && strspn(name, "0123456789.") == strlen(name);
        bool cloudinit = !strcmp(name, "cloudinit");
        snprintf(expression, size, "/storage/%.*s %s", (int)(name - 1 - file), file,
                 number || cloudinit || from ? "Datastore.AllocateSpace"
                                             : "Datastore.AllocateSpace|Datastore.Audit");
    }
    size_t used = strlen(expression);
    const char *colon = from ? strchr(from, ':') : NULL;
    if (from && colon && from[0] != '/') {
        long long owner = strtoll(colon + 1, NULL, 10);
        used += (size_t)snprintf(expression + used, size - used,
                                 "%s/storage/%.*s Datastore.AllocateSpace|Datastore.Audit",
                                 used ? " & " : "", (int)(colon - from), from);
        if (owner && used < size)
            snprintf(expression + used, size - used, " & /vms/%lld VM.Clone", owner);
    } else if (from) {
        snprintf(expression, size, "root");
    }
    json_decref(disk);
}

// A card's bridge is somebody's network.
static void net_permission(const char *value, char *expression, size_t size)
{
    json_t *net = property_parse_net(value, NULL);
    const char *bridge = api_param_string(net, "bridge");
    expression[0] = 0;
    if (bridge)
        snprintf(expression, size, "/sdn/zones/localnetwork/%s SDN.Use", bridge);
    json_decref(net);
}

void rest_power_permission(const char *value, char *expression, size_t size)
{
    snprintf(expression, size, "%s", value[0] == '1' ? ON_GUEST("VM.PowerMgmt") : "");
}

// ---- Of paths.

const struct api_param rest_common[] = {
    {.name = "node",
     .type = API_STRING,
     .min = 1,
     .max = 63,
     .format = &rest_format_name,
     .about = "the node's name"},
    {.name = "vmid",
     .type = API_INTEGER,
     .min = GUEST_ID_MIN,
     .max = GUEST_ID_MAX,
     .about = "the guest's number"},
    {.name = "storage",
     .type = API_STRING,
     .max = 63,
     .format = &rest_format_storage,
     .about = "a datastore"},
    {.name = "upid", .type = API_STRING, .max = TASK_UPID_BYTES - 1, .about = "a task's id"},
    {.name = "userid",
     .type = API_STRING,
     .max = 120,
     .format = &rest_format_userid,
     .about = "a user, as name@realm"},
    {.name = "tokenid",
     .type = API_STRING,
     .max = 60,
     .format = &rest_format_id,
     .about = "the token's name"},
    {.name = "groupid",
     .type = API_STRING,
     .max = 60,
     .format = &rest_format_id,
     .about = "a group"},
    {.name = "roleid", .type = API_STRING, .max = 60, .format = &rest_format_id, .about = "a role"},
    {.name = "realm",
     .type = API_STRING,
     .max = 60,
     .format = &rest_format_name,
     .about = "a realm"},
    {.name = "poolid",
     .type = API_STRING,
     .max = 60,
     .format = &rest_format_pool,
     .about = "a pool"},
    {.name = "snapname",
     .type = API_STRING,
     .max = 40,
     .format = &rest_format_snapshot,
     .about = "a snapshot"},
    {.name = "volume",
     .type = API_STRING,
     .max = 250,
     .format = &rest_format_volume,
     .about = "a volume"},
    {.name = NULL},
};

// ---- Keys of a configuration.

// On the guest, or, of one that is being made in a pool, on the pool.
#define OPTIONS ON_GUEST("VM.Config.Options")
#define HWTYPE  ON_GUEST("VM.Config.HWType")
#define CPU     ON_GUEST("VM.Config.CPU")
#define MEMORY  ON_GUEST("VM.Config.Memory")
#define DISK    ON_GUEST("VM.Config.Disk")
#define MEDIUM  ON_GUEST("VM.Config.Disk|VM.Config.CDROM")
#define NET     ON_GUEST("VM.Config.Network")
#define CLOUD   ON_GUEST("VM.Config.Cloudinit|VM.Config.Network")
#define KEY(NAME, TYPE, PERMISSION, ABOUT)                                                         \
    {                                                                                              \
        .name = NAME, .type = TYPE, .optional = true, .about = ABOUT, .permission = PERMISSION     \
    }
#define BOUNDED(NAME, MIN, MAX, PERMISSION, ABOUT)                                                 \
    {                                                                                              \
        .name = NAME, .type = API_INTEGER, .optional = true, .min = MIN, .max = MAX,               \
        .about = ABOUT, .permission = PERMISSION                                                   \
    }
#define DISK_TOLD                                                                                  \
    "VM.Config.Disk, but for a CD-ROM in the place of a CD-ROM; /storage/STORE "                   \
    "Datastore.AllocateSpace for a new volume, or Datastore.Audit for one that is there; "         \
    "Datastore.Audit and /vms/OWNER VM.Clone for what is imported, root@pam for a path"
#define DISKS(NAME)                                                                                \
    {                                                                                              \
        .name = NAME, .type = API_STRING, .optional = true, .max = 1024, .format = &disk_format,   \
        .about = "a disk or CD-ROM; every bus is presented as virtio", .permission = MEDIUM,       \
        .permission_of = disk_permission, .permission_told = DISK_TOLD                             \
    }

const struct api_param rest_guest_keys[] = {
    {.name = "name",
     .type = API_STRING,
     .optional = true,
     .max = 63,
     .format = &rest_format_name,
     .about = "the guest's name",
     .permission = OPTIONS},
    KEY("description", API_STRING, OPTIONS, "notes"),
    KEY("tags", API_STRING, OPTIONS, "words, separated by semicolons"),
    BOUNDED("memory", 16, 65536, MEMORY, "RAM in MiB"),
    BOUNDED("balloon", 0, 65536, MEMORY, "RAM in MiB that the guest shall keep; 0: all of it"),
    BOUNDED("shares", 0, 50000, MEMORY, "passed over"),
    BOUNDED("cores", 1, 128, CPU, "cores of a socket"),
    BOUNDED("sockets", 1, 4, CPU, "sockets"),
    BOUNDED("vcpus", 1, 128, CPU, "CPUs that it has, if fewer"),
    {.name = "cpu",
     .type = API_STRING,
     .optional = true,
     .max = 256,
     .format = &property_format,
     .about = "CPU model and flags: passed over, the guest has the host's",
     .permission = CPU},
    {.name = "cpulimit",
     .type = API_NUMBER,
     .optional = true,
     .min = 0,
     .max = 128,
     .about = "CPUs that it may use at most; 0: no limit",
     .permission = CPU},
    BOUNDED("cpuunits", 1, 262144, CPU, "weight for CPU time"),
    KEY("numa", API_BOOLEAN, CPU, "passed over"),
    KEY("numa[8]", API_STRING, CPU, "passed over"),
    KEY("affinity", API_STRING, CPU, "passed over"),
    DISKS("virtio[16]"),
    DISKS("scsi[31]"),
    DISKS("sata[6]"),
    DISKS("ide[4]"),
    DISKS("efidisk0"),
    DISKS("tpmstate0"),
    {.name = "unused[256]",
     .type = API_STRING,
     .optional = true,
     .max = 250,
     .format = &rest_format_volume,
     .about = "a volume that no disk uses",
     .permission = DISK},
    {.name = "net[32]",
     .type = API_STRING,
     .optional = true,
     .max = 512,
     .format = &net_format,
     .about = "a network card",
     .permission = NET,
     .permission_of = net_permission,
     .permission_told = "/sdn/zones/localnetwork/BRIDGE SDN.Use"},
    KEY("boot", API_STRING, OPTIONS, "order=DEVICE;DEVICE"),
    KEY("bootdisk", API_STRING, DISK, "the disk to boot from, in the old way"),
    KEY("bios", API_STRING, OPTIONS, "firmware; it is SeaBIOS"),
    KEY("machine", API_STRING, HWTYPE, "machine type; there is one"),
    KEY("ostype", API_STRING, OPTIONS, "what the guest is: l26, win11, other"),
    KEY("scsihw", API_STRING, HWTYPE, "SCSI controller; disks are virtio-blk"),
    KEY("agent", API_STRING, OPTIONS, "1 or enabled=1: the guest has QEMU's agent"),
    KEY("onboot", API_BOOLEAN, OPTIONS, "start it with the node"),
    KEY("startup", API_STRING, OPTIONS, "order=N,up=SECONDS,down=SECONDS"),
    KEY("autostart", API_BOOLEAN, OPTIONS, "passed over"),
    KEY("protection", API_BOOLEAN, OPTIONS, "neither it nor its disks can be removed"),
    KEY("tablet", API_BOOLEAN, HWTYPE, "passed over"),
    KEY("vga", API_STRING, HWTYPE, "passed over"),
    KEY("serial[4]", API_STRING, HWTYPE, "socket: the serial console, which is always there"),
    KEY("parallel[3]", API_STRING, HWTYPE, "passed over"),
    KEY("usb[5]", API_STRING, HWTYPE, "passed over"),
    KEY("hostpci[16]", API_STRING, "root", "passed over"),
    KEY("hugepages", API_STRING, MEMORY, "passed over"),
    KEY("keyboard", API_STRING, OPTIONS, "passed over"),
    KEY("localtime", API_BOOLEAN, OPTIONS, "passed over"),
    KEY("lock", API_STRING, "root", "passed over"),
    {.name = "args",
     .type = API_STRING,
     .optional = true,
     .max = 8192,
     .permission = "root | / Sys.Modify",
     .about =
         "words for QEMU: of them -kernel, -initrd and -append are heeded, others passed over"},
    KEY("kvm", API_BOOLEAN, HWTYPE, "0: no hardware virtualization"),
    KEY("acpi", API_BOOLEAN, HWTYPE, "ACPI is always there"),
    KEY("hotplug", API_STRING, OPTIONS,
        "network,disk: what may be plugged while it runs; 0: nothing"),
    KEY("freeze", API_BOOLEAN, OPTIONS, "passed over"),
    KEY("tdf", API_BOOLEAN, OPTIONS, "passed over"),
    KEY("watchdog", API_STRING, OPTIONS, "passed over"),
    KEY("rng0", API_STRING, HWTYPE, "a virtio-rng is always there"),
    KEY("smbios1", API_STRING, HWTYPE, "passed over"),
    KEY("vmgenid", API_STRING, HWTYPE, "passed over"),
    KEY("hookscript", API_STRING, "root", "passed over"),
    KEY("migrate_downtime", API_NUMBER, OPTIONS, "passed over"),
    BOUNDED("migrate_speed", 0, 1000000, OPTIONS, "passed over"),
    KEY("startdate", API_STRING, OPTIONS, "passed over"),
    KEY("reboot", API_BOOLEAN, OPTIONS, "0: it ends when the guest restarts"),
    KEY("audio0", API_STRING, HWTYPE, "passed over"),
    KEY("ivshmem", API_STRING, HWTYPE, "passed over"),
    KEY("spice_enhancements", API_STRING, OPTIONS, "passed over"),
    KEY("vmstatestorage", API_STRING, OPTIONS, "passed over"),
    KEY("ciuser", API_STRING, CLOUD, "cloud-init: user"),
    {.name = "cipassword",
     .type = API_STRING,
     .optional = true,
     .max = 1024,
     .secret = true,
     .about = "cloud-init: password, or what crypt(3) makes of it",
     .permission = CLOUD},
    {.name = "citype",
     .type = API_STRING,
     .optional = true,
     .values = "nocloud",
     .about = "cloud-init: how the guest gets it",
     .permission = CLOUD},
    {.name = "cicustom",
     .type = API_STRING,
     .optional = true,
     .max = 1024,
     .format = &custom_format,
     .about = "cloud-init: snippets instead of what the other keys make",
     .permission = CLOUD,
     .permission_of = custom_permission,
     .permission_told = "/storage/STORE Datastore.Audit of each snippet"},
    KEY("ciupgrade", API_BOOLEAN, CLOUD, "cloud-init: upgrade packages"),
    KEY("sshkeys", API_STRING, CLOUD, "cloud-init: keys, URL-encoded"),
    KEY("nameserver", API_STRING, CLOUD, "cloud-init: DNS servers"),
    KEY("searchdomain", API_STRING, CLOUD, "cloud-init: DNS search domain"),
    {.name = "ipconfig[32]",
     .type = API_STRING,
     .optional = true,
     .max = 256,
     .format = &address_format,
     .about = "cloud-init: addresses of netN",
     .permission = CLOUD},
    {.name = NULL},
};

static const struct api_param *param_of(const char *key)
{
    for (const struct api_param *param = rest_guest_keys; param->name; param++) {
        size_t n = strcspn(param->name, "[");
        bool indexed = param->name[n] == '[';
        if (strncmp(param->name, key, n) != 0)
            continue;
        if (indexed ? key[n] && strspn(key + n, "0123456789") == strlen(key + n) : !key[n])
            return param;
    }
    return NULL;
}

const char *rest_guest_permission(const char *key)
{
    const struct api_param *param = param_of(key);
    return param ? param->permission : NULL;
}

void rest_value_permission(const char *key, const json_t *value, char *expression, size_t size)
{
    const struct api_param *param = param_of(key);
    expression[0] = 0;
    if (param && param->permission_of && json_is_string(value) &&
        api_value_fits(rest_guest_keys, key, value))
        param->permission_of(json_string_value(value), expression, size);
}

// ---- Disks and CD-ROMs.

static bool is_medium(const char *text)
{
    json_t *disk = text ? property_parse(text, "file", NULL) : NULL;
    const char *file = api_param_string(disk, "file"), *media = api_param_string(disk, "media");
    bool medium = file && ((media && !strcmp(media, "cdrom")) || !strcmp(file, "none"));
    json_decref(disk);
    return medium;
}

// Is this change of a disk's key one of CD-ROMs alone? `text` is NULL for one that goes.
static bool only_media(const json_t *config, const char *key, const char *text)
{
    const char *before = json_string_value(json_object_get(config, key));
    return (!before || is_medium(before)) && (!text || is_medium(text));
}

static bool changes_disks(struct api_call *call, const json_t *config)
{
    const char *key;
    json_t *value;
    size_t index;
    json_object_foreach(call->params, key, value)
    {
        const char *permission = rest_guest_permission(key);
        if (permission && !strcmp(permission, MEDIUM) &&
            !only_media(config, key, json_string_value(value)))
            return true;
    }
    json_array_foreach(json_object_get(call->params, "delete"), index, value)
    {
        const char *permission = rest_guest_permission(json_string_value(value));
        if (permission && !strcmp(permission, MEDIUM) &&
            !only_media(config, json_string_value(value), NULL))
            return true;
    }
    return false;
}

int rest_check_disks(struct api_call *call, struct err *err)
{
    json_t *record = guest_get(rest_node(call)->guests, api_integer(call, "vmid", 0));
    bool disks = changes_disks(call, json_object_get(record, "config"));
    json_decref(record);
    return disks && !api_permitted(call, DISK, err) ? -1 : 0;
}

// What is deleted needs what setting it would.
static int check_setting(const char *text, struct err *err)
{
    return rest_guest_permission(text)
               ? 0
               : err_set(err, ERR_USAGE, "there is no setting '%.60s'", text);
}
const struct api_format rest_format_setting = {"setting", "a key of a configuration",
                                               check_setting};

void rest_setting_permission(const char *value, char *expression, size_t size)
{
    const char *permission = rest_guest_permission(value);
    snprintf(expression, size, "%s", permission ? permission : "root");
}

json_t *rest_guest_values(const json_t *params)
{
    json_t *values = json_object();
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)params, name, value) if (rest_guest_permission(name))
        json_object_set(values, name, value);
    return values;
}

bool rest_may(struct api_call *call, const char *path, const char *privileges)
{
    char expression[512];
    snprintf(expression, sizeof(expression), "%s %s", path, privileges);
    return api_permitted(call, expression, NULL);
}

int rest_no_guest(struct api_call *call, struct err *err)
{
    int64_t vmid = api_integer(call, "vmid", 0);
    return guest_exists(rest_node(call)->guests, vmid)
               ? 0
               : guest_missing(rest_node(call)->guests, vmid, err);
}
