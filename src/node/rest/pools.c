// SPDX-License-Identifier: Apache-2.0
//
// /pools: guests and datastores under one name, to which rights can be given. In the old way (/pools/ID) and the new one (?poolid=ID).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/rest/rest.h"

static void pool_key(const char *pool, char key[128])
{
    snprintf(key, 128, "/pool/%.100s", pool);
}

static json_t *find_pool(struct api_call *call, int64_t *revision, struct err *err)
{
    char key[128];
    pool_key(api_string(call, "poolid"), key);
    json_t *pool = store_get(rest_node(call)->store, key, revision);
    if (!pool)
        err_set(err, ERR_NOT_FOUND, "pool '%s' does not exist", api_string(call, "poolid"));
    return pool;
}

static json_t *member_row(struct node *node, const char *member)
{
    char id[160];
    if (strncmp(member, "storage/", 8) != 0) {
        int64_t vmid = strtoll(member, NULL, 10);
        json_t *record = guest_get(node->guests, vmid);
        if (!record)
            return NULL;
        json_t *row = guest_row(node->guests, vmid, record);
        snprintf(id, sizeof(id), "qemu/%s", member);
        json_object_set_new(row, "id", json_string(id));
        json_object_set_new(row, "type", json_string("qemu"));
        json_object_set_new(row, "node", json_string(node->name));
        json_decref(record);
        return row;
    }
    snprintf(id, sizeof(id), "storage/%.60s/%.60s", node->name, member + 8);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", id, "type", "storage", "storage",
                     member + 8, "node", node->name, "status", "available");
}

static json_t *pool_row(struct node *node, const char *name, const json_t *pool, bool members)
{
    json_t *row = json_pack("{s:s}", "poolid", name);
    if (json_object_get(pool, "comment"))
        json_object_set(row, "comment", json_object_get(pool, "comment"));
    json_t *list = json_array(), *member;
    size_t index;
    json_array_foreach(json_object_get(pool, "members"), index, member)
    {
        json_t *found = members ? member_row(node, json_string_value(member)) : NULL;
        if (found)
            json_array_append_new(list, found);
    }
    if (members)
        json_object_set(row, "members", list);
    json_decref(list);
    return row;
}

static int get_pools(struct api_call *call, struct err *err)
{
    struct store_list list;
    const char *only = api_string(call, "poolid");
    (void)err;
    call->data = json_array();
    store_list(rest_node(call)->store, "/pool/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.entries[i].key + strlen("/pool/");
        char path[128];
        snprintf(path, sizeof(path), "/pool/%s", name);
        if ((!only || !strcmp(only, name)) && rest_may(call, path, "Pool.Audit|Pool.Allocate"))
            json_array_append_new(
                call->data, pool_row(rest_node(call), name, list.entries[i].value, only != NULL));
    }
    store_list_free(&list);
    return 0;
}

static int get_pool(struct api_call *call, struct err *err)
{
    json_t *pool = find_pool(call, NULL, err);
    if (!pool)
        return -1;
    call->data = pool_row(rest_node(call), api_string(call, "poolid"), pool, true);
    json_object_del(call->data, "poolid");
    json_decref(pool);
    return 0;
}

static int post_pool(struct api_call *call, struct err *err)
{
    char key[128];
    struct store_txn txn;
    pool_key(api_string(call, "poolid"), key);
    store_txn_begin(&txn);
    store_expect(&txn, key, 0);
    store_put(&txn, key,
              json_pack("{s:s*, s:[]}", "comment", api_string(call, "comment"), "members"));
    if (!store_commit(rest_node(call)->store, &txn, err))
        return 0;
    return err->code == ERR_BUSY
               ? err_set(err, ERR_EXISTS, "pool '%s' already exists", api_string(call, "poolid"))
               : -1;
}

static bool has(const json_t *members, const char *name, size_t *at)
{
    for (*at = 0; *at < json_array_size(members); (*at)++)
        if (!strcmp(json_string_value(json_array_get(members, *at)), name))
            return true;
    return false;
}

// A guest is in one pool; from another it is taken only when told so.
static int take_from_others(struct api_call *call, struct store_txn *txn, const char *name,
                            struct err *err)
{
    struct store_list list;
    int result = 0;
    store_list(rest_node(call)->store, "/pool/", &list);
    for (size_t i = 0; i < list.count && !result; i++) {
        size_t at;
        const char *pool = list.entries[i].key + strlen("/pool/");
        if (!strcmp(pool, api_string(call, "poolid")) ||
            !has(json_object_get(list.entries[i].value, "members"), name, &at))
            continue;
        if (!api_boolean(call, "allow-move")) {
            result = err_set(err, ERR_EXISTS,
                             "VM %s belongs already to pool '%s' and allow-move "
                             "is not set",
                             name, pool);
            break;
        }
        char expression[128];
        snprintf(expression, sizeof(expression), "/pool/%.60s Pool.Allocate", pool);
        if (!api_permitted(call, expression, err)) {
            result = -1;
            break;
        }
        json_t *changed = json_deep_copy(list.entries[i].value);
        json_array_remove(json_object_get(changed, "members"), at);
        store_expect(txn, list.entries[i].key, list.entries[i].revision);
        store_put(txn, list.entries[i].key, changed);
    }
    store_list_free(&list);
    return result;
}

static int change_member(struct api_call *call, struct store_txn *txn, json_t *members,
                         const char *name, struct err *err)
{
    size_t at;
    bool there = has(members, name, &at), remove = api_boolean(call, "delete");
    if (remove && !there)
        return err_set(err, ERR_NOT_FOUND, "'%s' is not in the pool", name);
    if (remove)
        return json_array_remove(members, at);
    if (strncmp(name, "storage/", 8) != 0 &&
        !guest_exists(rest_node(call)->guests, strtoll(name, NULL, 10)))
        return err_set(err, ERR_NOT_FOUND, "VM %s does not exist", name);
    if (there)
        return 0;
    if (strncmp(name, "storage/", 8) != 0 && take_from_others(call, txn, name, err))
        return -1;
    return json_array_append_new(members, json_string(name));
}

static int change_members(struct api_call *call, struct store_txn *txn, json_t *pool,
                          struct err *err)
{
    size_t index;
    json_t *one, *members = json_object_get(pool, "members");
    json_array_foreach(json_object_get(call->params, "vms"), index, one)
    {
        if (change_member(call, txn, members, json_string_value(one), err))
            return -1;
    }
    json_array_foreach(json_object_get(call->params, "storage"), index, one)
    {
        char name[80];
        snprintf(name, sizeof(name), "storage/%.63s", json_string_value(one));
        if (change_member(call, txn, members, name, err))
            return -1;
    }
    return 0;
}

static int put_pool(struct api_call *call, struct err *err)
{
    char key[128];
    int64_t revision;
    struct store_txn txn;
    json_t *pool = find_pool(call, &revision, err);
    if (!pool)
        return -1;
    json_t *changed = json_deep_copy(pool);
    json_decref(pool);
    if (api_string(call, "comment"))
        json_object_set(changed, "comment", json_object_get(call->params, "comment"));
    store_txn_begin(&txn);
    if (change_members(call, &txn, changed, err)) {
        json_decref(changed);
        store_txn_abandon(&txn);
        return -1;
    }
    pool_key(api_string(call, "poolid"), key);
    store_expect(&txn, key, revision);
    store_put(&txn, key, changed);
    return store_commit(rest_node(call)->store, &txn, err);
}

static int delete_pool(struct api_call *call, struct err *err)
{
    char key[128];
    json_t *pool = find_pool(call, NULL, err);
    if (!pool)
        return -1;
    bool empty = !json_array_size(json_object_get(pool, "members"));
    json_decref(pool);
    if (!empty)
        return err_set(err, ERR_BUSY, "pool '%s' is not empty", api_string(call, "poolid"));
    pool_key(api_string(call, "poolid"), key);
    if (rest_forget_rights(rest_node(call), NULL, "path", key, err))
        return -1;
    return store_delete_now(rest_node(call)->store, key, err);
}

#define POOLID                                                                                     \
    {                                                                                              \
        .name = "poolid", .type = API_STRING, .max = 60, .format = &rest_format_pool,              \
        .about = "the pool's name"                                                                 \
    }
static void vmid_permission(const char *value, char *expression, size_t size)
{
    snprintf(expression, size, "/vms/%s VM.Allocate", value);
}

static void storage_permission(const char *value, char *expression, size_t size)
{
    snprintf(expression, size, "/storage/%s Datastore.Allocate", value);
}

#define MEMBERS(name_, max_, what_, needs_, about_)                                                \
    {                                                                                              \
        .name = name_, .type = API_LIST, .optional = true, .max = max_,                            \
        .format = &rest_format_##what_, .permission_of = what_##_permission,                       \
        .permission_told = needs_ " of each", .about = about_                                      \
    }
#define CHANGES                                                                                    \
    {.name = "comment", .type = API_STRING, .optional = true, .max = 2048, .about = "a note"},     \
        MEMBERS("vms", 20, vmid, "/vms/VMID VM.Allocate", "guests"),                               \
        MEMBERS("storage", 63, storage, "/storage/STORE Datastore.Allocate", "datastores"),        \
        {.name = "delete", .type = API_BOOLEAN, .optional = true, .about = "take them out"},       \
    {                                                                                              \
        .name = "allow-move", .type = API_BOOLEAN, .optional = true, .about = "from another pool", \
        .permission_told = "/pool/POOL Pool.Allocate of the pool that it leaves"                   \
    }
#define ALLOCATE "/pool/{poolid} Pool.Allocate"

const struct endpoint rest_pools[] = {
    {.method = "GET",
     .path = "/pools",
     .about = "Pools; one with its members.",
     .permission = "user",
     .filter = "/pool/{poolid} Pool.Audit|Pool.Allocate",
     .returns = "[{poolid:string, comment?:string, members?:[any]}]",
     .handler = get_pools,
     .params =
         (const struct api_param[]){
             {.name = "poolid",
              .type = API_STRING,
              .optional = true,
              .max = 60,
              .about = "only this one"},
             {.name = "type", .type = API_STRING, .optional = true, .max = 20, .about = "accepted"},
             {.name = NULL}}},
    {.method = "POST",
     .path = "/pools",
     .about = "Make a pool.",
     .permission = ALLOCATE,
     .returns = "null",
     .handler = post_pool,
     .params = (const struct api_param[]){POOLID,
                                          {.name = "comment",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 2048,
                                           .about = "a note"},
                                          {.name = NULL}}},
    {.method = "PUT",
     .path = "/pools",
     .about = "Change a pool.",
     .permission = ALLOCATE,
     .returns = "null",
     .handler = put_pool,
     .params = (const struct api_param[]){POOLID, CHANGES, {.name = NULL}}},
    {.method = "DELETE",
     .path = "/pools",
     .about = "Remove an empty pool, and the rights on it.",
     .permission = ALLOCATE,
     .returns = "null",
     .handler = delete_pool,
     .params = (const struct api_param[]){POOLID, {.name = NULL}}},
    {.method = "GET",
     .path = "/pools/{poolid}",
     .about = "A pool with its members.",
     .permission = "/pool/{poolid} Pool.Audit|Pool.Allocate",
     .returns = "{comment?:string, members:[any]}",
     .handler = get_pool},
    {.method = "PUT",
     .path = "/pools/{poolid}",
     .about = "Change a pool.",
     .permission = ALLOCATE,
     .returns = "null",
     .handler = put_pool,
     .params = (const struct api_param[]){CHANGES, {.name = NULL}}},
    {.method = "DELETE",
     .path = "/pools/{poolid}",
     .about = "Remove an empty pool, and the rights on it.",
     .permission = ALLOCATE,
     .returns = "null",
     .handler = delete_pool},
    {.method = NULL},
};
