// SPDX-License-Identifier: Apache-2.0
//
// How it works: the access list's entries stand in one array sorted by path, so that a level's entries are found by bisection; a walk
// from the root to a path of n parts is n look-ups. Roles are resolved to sets, and groups to the entries' own names, when it is made.
#include "node/auth/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUPERUSER  "root@pam"
#define PATH_BYTES 256

struct acl {
    char *path, *who;
    char kind; // 'u'ser, 'g'roup, 't'oken
    bool propagate, no_access;
    privilege_set privileges;
};

struct rules {
    struct acl *acls; // by path
    size_t acl_count;
    json_t *groups; // {"user@realm": {"group": true}}
    json_t *tokens; // {"user@realm!token": separated}
    json_t *pools;  // {"100": "poolid"}
    char **paths;   // unique, ends with NULL
    privilege_set superuser;
};

static privilege_set role_privileges(struct store *store, const char *role)
{
    privilege_set set = 0;
    char key[PATH_BYTES];
    if (role_builtin_find(role, &set))
        return privilege_widen(set);
    snprintf(key, sizeof(key), "/role/%s", role);
    json_t *value = store_get(store, key, NULL);
    const char *names = json_string_value(json_object_get(value, "privs"));
    if (!names || privilege_parse(names, &set, NULL))
        set = 0;
    json_decref(value);
    return privilege_widen(set);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct acl *)a)->path, ((const struct acl *)b)->path);
}

static void load_acls(struct rules *rules, struct store *store)
{
    struct store_list list;
    store_list(store, "/acl/", &list);
    rules->acls = calloc(list.count + 1, sizeof(*rules->acls));
    for (size_t i = 0; rules->acls && i < list.count; i++) {
        const json_t *value = list.entries[i].value;
        const char *path = json_string_value(json_object_get(value, "path"));
        const char *who = json_string_value(json_object_get(value, "ugid"));
        const char *role = json_string_value(json_object_get(value, "roleid"));
        const char *kind = json_string_value(json_object_get(value, "type"));
        if (!path || !who || !role || !kind)
            continue;
        rules->acls[rules->acl_count++] =
            (struct acl){.path = strdup(path),
                         .who = strdup(who),
                         .kind = kind[0],
                         .propagate = json_integer_value(json_object_get(value, "propagate")) != 0,
                         .no_access = !strcmp(role, "NoAccess"),
                         .privileges = role_privileges(store, role)};
    }
    if (rules->acl_count)
        qsort(rules->acls, rules->acl_count, sizeof(*rules->acls), by_path);
    store_list_free(&list);
}

static void load_groups(struct rules *rules, struct store *store)
{
    struct store_list list;
    store_list(store, "/user/", &list);
    for (size_t i = 0; i < list.count; i++) {
        json_t *groups = json_object();
        size_t index;
        json_t *group;
        json_array_foreach(json_object_get(list.entries[i].value, "groups"), index, group)
            json_object_set_new(groups, json_string_value(group), json_true());
        json_object_set_new(rules->groups, list.entries[i].key + strlen("/user/"), groups);
    }
    store_list_free(&list);
    store_list(store, "/token/", &list);
    for (size_t i = 0; i < list.count; i++) {
        bool separated = json_integer_value(json_object_get(list.entries[i].value, "privsep")) != 0;
        json_object_set_new(rules->tokens, list.entries[i].key + strlen("/token/"),
                            json_boolean(separated));
    }
    store_list_free(&list);
}

static void load_pools(struct rules *rules, struct store *store)
{
    struct store_list list;
    store_list(store, "/pool/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *pool = list.entries[i].key + strlen("/pool/");
        size_t index;
        json_t *member;
        json_array_foreach(json_object_get(list.entries[i].value, "members"), index, member)
            json_object_set_new(rules->pools, json_string_value(member), json_string(pool));
    }
    store_list_free(&list);
}

static void list_paths(struct rules *rules)
{
    size_t count = 0;
    rules->paths = calloc(rules->acl_count + 2, sizeof(*rules->paths));
    if (!rules->paths)
        return;
    rules->paths[count++] = strdup("/");
    for (size_t i = 0; i < rules->acl_count; i++)
        if (strcmp(rules->acls[i].path, rules->paths[count - 1]) != 0)
            rules->paths[count++] = strdup(rules->acls[i].path);
}

struct rules *rules_load(struct store *store)
{
    struct rules *rules = calloc(1, sizeof(*rules));
    if (!rules)
        abort();
    rules->groups = json_object();
    rules->tokens = json_object();
    rules->pools = json_object();
    load_acls(rules, store);
    load_groups(rules, store);
    load_pools(rules, store);
    list_paths(rules);
    role_builtin_find("Administrator", &rules->superuser);
    rules->superuser = privilege_widen(rules->superuser);
    return rules;
}

void rules_destroy(struct rules *rules)
{
    if (!rules)
        return;
    for (size_t i = 0; i < rules->acl_count; i++) {
        free(rules->acls[i].path);
        free(rules->acls[i].who);
    }
    for (char **path = rules->paths; path && *path; path++)
        free(*path);
    free(rules->paths);
    free(rules->acls);
    json_decref(rules->groups);
    json_decref(rules->tokens);
    json_decref(rules->pools);
    free(rules);
}

const char *const *rules_paths(const struct rules *rules)
{
    return (const char *const *)rules->paths;
}

// What the entries at one level say, or false when none is about this identity.
static bool level(const struct rules *rules, const char *path, const char *id, char kind,
                  bool is_last, privilege_set *set)
{
    size_t low = 0, high = rules->acl_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(rules->acls[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const json_t *groups = kind == 'g' ? json_object_get(rules->groups, id) : NULL;
    bool any = false, none = false;
    privilege_set sum = 0;
    for (size_t i = low; i < rules->acl_count && !strcmp(rules->acls[i].path, path); i++) {
        const struct acl *acl = &rules->acls[i];
        if (acl->kind != kind || (!acl->propagate && !is_last))
            continue;
        if (kind == 'g' ? !json_object_get(groups, acl->who) : strcmp(acl->who, id) != 0)
            continue;
        any = true;
        none |= acl->no_access;
        sum |= acl->privileges;
    }
    if (any)
        *set = none ? 0 : sum;
    return any;
}

// The walk from "/" to the path, for a user with its groups ('u') or a token alone ('t').
static privilege_set walk(const struct rules *rules, const char *id, char kind, const char *path)
{
    char part[PATH_BYTES];
    privilege_set set = 0;
    size_t length = strlen(path);
    if (length >= sizeof(part) || path[0] != '/')
        return 0;
    for (size_t end = 0; end <= length; end++) {
        if (end && path[end] && path[end] != '/')
            continue;
        if (end && end == length && length == 1)
            break; // "/" was looked at already
        memcpy(part, path, end ? end : 1);
        part[end ? end : 1] = 0;
        bool is_last = end == length || length == 1;
        if (!level(rules, part, id, kind, is_last, &set) && kind == 'u')
            level(rules, part, id, 'g', is_last, &set);
    }
    return set;
}

static privilege_set with_pool(const struct rules *rules, const char *id, char kind,
                               const char *path)
{
    privilege_set set = walk(rules, id, kind, path);
    const char *member = NULL;
    if (!strncmp(path, "/vms/", 5))
        member = path + 5;
    else if (!strncmp(path, "/storage/", 9))
        member = path + 1; // "storage/local": a number and a name cannot meet
    const char *pool = member ? json_string_value(json_object_get(rules->pools, member)) : NULL;
    if (pool) {
        char pool_path[PATH_BYTES];
        snprintf(pool_path, sizeof(pool_path), "/pool/%s", pool);
        set |= walk(rules, id, kind, pool_path);
    }
    return set;
}

privilege_set rules_privileges(const struct rules *rules, const char *id, const char *path)
{
    char user[AUTH_ID_BYTES];
    snprintf(user, sizeof(user), "%s", id);
    char *mark = strchr(user, '!');
    if (mark)
        *mark = 0;
    privilege_set of_user =
        strcmp(user, SUPERUSER) ? with_pool(rules, user, 'u', path) : rules->superuser;
    if (!mark)
        return of_user;
    const json_t *separated = json_object_get(rules->tokens, id);
    if (!separated)
        return 0;
    return json_is_true(separated) ? of_user & with_pool(rules, id, 't', path) : of_user;
}
