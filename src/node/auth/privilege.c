// SPDX-License-Identifier: Apache-2.0
#include "node/auth/privilege.h"

#include <assert.h>
#include <string.h>

static const char *const names[] = {
    "Datastore.Allocate",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "Group.Allocate",
    "Mapping.Audit",
    "Mapping.Modify",
    "Mapping.Use",
    "Permissions.Modify",
    "Pool.Allocate",
    "Pool.Audit",
    "Realm.Allocate",
    "Realm.AllocateUser",
    "SDN.Allocate",
    "SDN.Audit",
    "SDN.Use",
    "Sys.AccessNetwork",
    "Sys.Audit",
    "Sys.Console",
    "Sys.Incoming",
    "Sys.Modify",
    "Sys.PowerMgmt",
    "Sys.Syslog",
    "User.Modify",
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.GuestAgent.Audit",
    "VM.GuestAgent.FileRead",
    "VM.GuestAgent.FileSystemMgmt",
    "VM.GuestAgent.FileWrite",
    "VM.GuestAgent.Unrestricted",
    "VM.Migrate",
    "VM.Monitor",
    "VM.PowerMgmt",
    "VM.Replicate",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
};
#define COUNT (sizeof(names) / sizeof(names[0]))
static_assert(COUNT <= 64, "a bit for each privilege");

// Roles as the privileges whose names begin with one of some words, without those that begin with one of others.
static const struct rule {
    const char *name;
    const char *with, *without; // words separated by spaces
} rules[] = {
    {"Administrator", "Datastore Group Mapping Permissions Pool Realm SDN Sys User VM", ""},
    {"NoAccess", "", ""},
    {"PVEAdmin",
     "Datastore Group Mapping.Audit Mapping.Use Pool Realm.AllocateUser SDN Sys User VM",
     "Sys.Modify Sys.PowerMgmt Sys.AccessNetwork Sys.Incoming"},
    {"PVEAuditor",
     "Datastore.Audit Mapping.Audit Pool.Audit SDN.Audit Sys.Audit VM.Audit VM.GuestAgent.Audit",
     ""},
    {"PVEDatastoreAdmin", "Datastore", ""},
    {"PVEDatastoreUser", "Datastore.AllocateSpace Datastore.Audit", ""},
    {"PVEMappingAdmin", "Mapping", ""},
    {"PVEMappingAuditor", "Mapping.Audit", ""},
    {"PVEMappingUser", "Mapping.Use", ""},
    {"PVEPoolAdmin", "Pool", ""},
    {"PVEPoolUser", "Pool.Audit", ""},
    {"PVESDNAdmin", "SDN", ""},
    {"PVESDNUser", "SDN.Audit SDN.Use", ""},
    {"PVESysAdmin", "Sys.Audit Sys.Console Sys.Syslog Permissions.Modify", ""},
    {"PVETemplateUser", "VM.Audit VM.Clone", ""},
    {"PVEUserAdmin", "Group.Allocate Realm.AllocateUser User.Modify", ""},
    {"PVEVMAdmin", "VM", ""},
    {"PVEVMUser",
     "VM.Audit VM.Backup VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.GuestAgent.Audit "
     "VM.PowerMgmt",
     ""},
};

unsigned privilege_count(void)
{
    return COUNT;
}

const char *privilege_name(unsigned number)
{
    assert(number < COUNT);
    return names[number];
}

privilege_set privilege_find(const char *name)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (!strcmp(names[i], name))
            return UINT64_C(1) << i;
    return 0;
}

int privilege_parse(const char *text, privilege_set *set, struct err *err)
{
    *set = 0;
    while (*text) {
        size_t length = strcspn(text, ",; ");
        char word[64];
        privilege_set bit = 0;
        if (length && length < sizeof(word)) {
            memcpy(word, text, length);
            word[length] = 0;
            bit = privilege_find(word);
        }
        if (length && !bit)
            return err_set(err, ERR_USAGE, "there is no privilege '%.*s'", (int)length, text);
        *set |= bit;
        text += length + (text[length] != 0);
    }
    return 0;
}

json_t *privilege_object(privilege_set set)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < COUNT; i++)
        if (set >> i & 1)
            json_object_set_new(object, names[i], json_integer(1));
    return object;
}

// Version 9 split VM.Monitor into Sys.Audit and VM.GuestAgent.*, and took VM.Snapshot.Rollback out of VM.Snapshot's shadow.
privilege_set privilege_widen(privilege_set set)
{
    privilege_set agent =
        privilege_find("VM.GuestAgent.Audit") | privilege_find("VM.GuestAgent.FileRead") |
        privilege_find("VM.GuestAgent.FileSystemMgmt") | privilege_find("VM.GuestAgent.FileWrite") |
        privilege_find("VM.GuestAgent.Unrestricted");
    if (set & privilege_find("VM.Monitor"))
        set |= agent;
    if (set & privilege_find("VM.GuestAgent.Unrestricted"))
        set |= agent | privilege_find("VM.Monitor");
    return set;
}

static bool begins_with_word(const char *name, const char *words)
{
    while (*words) {
        size_t length = strcspn(words, " ");
        if (!strncmp(name, words, length) && (name[length] == '.' || !name[length]))
            return true;
        words += length + (words[length] != 0);
    }
    return false;
}

unsigned role_builtin_count(void)
{
    return sizeof(rules) / sizeof(rules[0]);
}

void role_builtin(unsigned number, struct role *role)
{
    assert(number < role_builtin_count());
    const struct rule *rule = &rules[number];
    *role = (struct role){.name = rule->name};
    for (unsigned i = 0; i < COUNT; i++)
        if (begins_with_word(names[i], rule->with) && !begins_with_word(names[i], rule->without))
            role->privileges |= UINT64_C(1) << i;
}

bool role_builtin_find(const char *name, privilege_set *set)
{
    struct role role;
    for (unsigned i = 0; i < role_builtin_count(); i++)
        if (!strcmp(rules[i].name, name)) {
            role_builtin(i, &role);
            *set = role.privileges;
            return true;
        }
    return false;
}
