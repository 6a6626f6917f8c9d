// SPDX-License-Identifier: Apache-2.0
//
// Permission expressions: see api.h for what they say. An expression that cannot be read, and a path whose parameter was not given, hold for nobody.
#include <stdio.h>
#include <string.h>

#include "node/api/api_internal.h"

#define TERM_BYTES   512
#define NO_SUCH_PATH (-2) // of a term: its path names a parameter that was not given

// "/vms/{vmid}" with the parameters put in. False when one is missing or tries to be more than one segment would be.
static bool expand(const json_t *params, const char *from, size_t length, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < length;) {
        char value[128];
        size_t n = 1;
        const char *text = from + i;
        if (from[i] == '{') {
            const char *end = memchr(from + i, '}', length - i);
            char name[64];
            if (!end || (size_t)(end - from) - i - 1 >= sizeof(name))
                return false;
            snprintf(name, sizeof(name), "%.*s", (int)(end - from - (long)i - 1), from + i + 1);
            const json_t *param = json_object_get(params, name);
            if (json_is_integer(param))
                snprintf(value, sizeof(value), "%lld", (long long)json_integer_value(param));
            else if (json_is_string(param) && json_string_length(param) < sizeof(value))
                snprintf(value, sizeof(value), "%s", json_string_value(param));
            else
                return false;
            text = value;
            n = strlen(value);
            i = (size_t)(end - from) + 1;
        } else {
            i++;
        }
        if (used + n + 1 > size)
            return false;
        memcpy(to + used, text, n);
        used += n;
    }
    to[used] = 0;
    return used > 0;
}

// self(userid), task(upid): the parameter's value in `value`.
static bool argument(const struct api_call *call, const char *term, const char *word, char *value,
                     size_t size)
{
    size_t n = strlen(word);
    const char *end = strchr(term, ')');
    if (strncmp(term, word, n) != 0 || term[n] != '(' || !end)
        return false;
    char name[64];
    snprintf(name, sizeof(name), "%.*s", (int)(end - term - (long)n - 1), term + n + 1);
    const char *text = api_string(call, name);
    snprintf(value, size, "%s", text ? text : "");
    return true;
}

static bool is_me(const struct api_call *call, const char *user)
{
    char id[AUTH_ID_BYTES];
    // A token is not its user here: it would make itself another one that may do all.
    return !call->who.token && !auth_canonical(user, NULL, id, NULL) && !strcmp(id, call->who.user);
}

// Of the permissions of this user or token, which is the caller, or whose user is.
static bool is_own(const struct api_call *call, const char *whose)
{
    char user[AUTH_ID_BYTES], id[AUTH_ID_BYTES];
    size_t length = strcspn(whose, "!");
    if (length >= sizeof(user))
        return false;
    snprintf(user, sizeof(user), "%.*s", (int)length, whose);
    if (auth_canonical(user, NULL, id, NULL) || strlen(id) + strlen(whose + length) >= sizeof(id))
        return false;
    strncat(id, whose + length, sizeof(id) - strlen(id) - 1);
    return !strcmp(id, call->who.id) || !strcmp(id, call->who.user);
}

static bool changes_rights(const struct api_call *call, const struct auth_identity *who)
{
    struct auth *auth = call->api->options.auth;
    return auth_may(auth, who, "/", "Permissions.Modify") ||
           auth_may(auth, who, "/access", "Permissions.Modify");
}

// Whoever may set passwords must not become somebody by it who may give himself everything.
static bool is_below(const struct api_call *call, const char *user)
{
    struct auth_identity other = {0};
    if (call->who.superuser)
        return true;
    return !auth_canonical(user, NULL, other.id, NULL) && strcmp(other.id, "root@pam") != 0 &&
           (!changes_rights(call, &other) || changes_rights(call, &call->who));
}

static bool holds_word(const struct api_call *call, const char *term, bool *known)
{
    char value[TASK_UPID_BYTES], user[AUTH_ID_BYTES];
    *known = true;
    if (!strcmp(term, "world"))
        return true;
    if (call->anonymous)
        return false;
    if (!strcmp(term, "user"))
        return true;
    if (!strcmp(term, "root"))
        return call->who.superuser;
    if (argument(call, term, "self", value, sizeof(value)))
        return is_me(call, value);
    if (argument(call, term, "own", value, sizeof(value)))
        return is_own(call, value);
    if (argument(call, term, "below", value, sizeof(value)))
        return is_below(call, value);
    if (argument(call, term, "task", value, sizeof(value))) {
        if (!task_upid_user(value, user, sizeof(user)))
            return false;
        if (!call->who.token)
            user[strcspn(user, "!")] = 0;
        return !strcmp(user, call->who.id);
    }
    *known = false;
    return false;
}

static bool holds_privilege(struct api_call *call, const char *path, const char *names)
{
    privilege_set have = auth_privileges(call->api->options.auth, &call->who, path), want = 0;
    char list[TERM_BYTES];
    snprintf(list, sizeof(list), "%s", names);
    for (char *c = list; *c; c++)
        *c = *c == '|' ? ',' : *c;
    return !privilege_parse(list, &want, NULL) && (have & want);
}

static int check_term(struct api_call *call, const char *term, struct err *err)
{
    bool known;
    if (holds_word(call, term, &known))
        return 0;
    if (known)
        return call->anonymous
                   ? err_set(err, ERR_DENIED, "Authentication failed!")
                   : err_set(err, ERR_DENIED, "Permission check failed (%s, must be %s)",
                             call->who.id, term);
    const char *space = strchr(term, ' ');
    char path[TERM_BYTES];
    if (!space || !expand(call->params, term, (size_t)(space - term), path, sizeof(path))) {
        err_set(err, ERR_DENIED, "Permission check failed (%s, %s)", call->who.id, term);
        return NO_SUCH_PATH;
    }
    if (holds_privilege(call, path, space + 1))
        return 0;
    return err_set(err, ERR_DENIED, "Permission check failed (%s, %s, %s)", call->who.id, path,
                   space + 1);
}

// Terms joined by " & ".
static int check_all(struct api_call *call, const char *text, size_t length, struct err *err)
{
    const char *end = text + length;
    while (text < end) {
        const char *stop = strstr(text, " & ");
        if (!stop || stop > end)
            stop = end;
        char term[TERM_BYTES];
        if ((size_t)snprintf(term, sizeof(term), "%.*s", (int)(stop - text), text) >= sizeof(term))
            return err_set(err, ERR_DENIED, "Permission check failed");
        int result = check_term(call, term, err);
        if (result)
            return result;
        text = stop == end ? end : stop + 3;
    }
    return 0;
}

int api_check_permission(struct api_call *call, const char *expression, struct err *err)
{
    bool told = false;
    err_set(err, ERR_DENIED, "Permission check failed");
    while (expression && *expression) {
        struct err reason = {0};
        const char *stop = strstr(expression, " | ");
        size_t length = stop ? (size_t)(stop - expression) : strlen(expression);
        int result = check_all(call, expression, length, &reason);
        if (!result)
            return 0;
        if (err && (!told || result != NO_SUCH_PATH)) // what was not given helps nobody
            *err = reason;
        told = true;
        expression += length + (stop ? 3 : 0);
    }
    return -1;
}

bool api_permitted(struct api_call *call, const char *expression, struct err *err)
{
    return !api_check_permission(call, expression, err);
}
