// SPDX-License-Identifier: Apache-2.0
//
// `wirt api METHOD PATH [NAME=VALUE]…`: any request of the node's interface; and what may stand next in such a line, for the shell. That comes from
// the interface's own table, which the node hands out ("/describe"): the words are those of the node that is spoken to, whatever its version.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/bits.h"
#include "cli/remote/remote.h"

static const struct method {
    const char *word, *name;
} methods[] = {{"get", "GET"}, {"post", "POST"}, {"put", "PUT"}, {"delete", "DELETE"}};

static const char *method_of(const char *word, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LENGTH(methods); i++)
        if (!strcasecmp(word, methods[i].word))
            return methods[i].name;
    err_set(err, ERR_USAGE, "%s: a request is get, post, put or delete", word);
    return NULL;
}

// ---- What may stand next

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static size_t segment(const char *path)
{
    return strcspn(path, "/");
}

static bool is_variable(const char *template)
{
    return template[0] == '{';
}

// The values of a variable that the folder above it lists: in the member of its name, or the one that names things there.
static void print_values(struct remote *remote, const char *template, const char *path,
                         size_t folder, const char *rest)
{
    char name[NAME_BYTES];
    json_t *rows = NULL, *row;
    size_t index;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(template + 1, "}*"), template + 1);
    if (remote_call(remote, "GET", NULL, &rows, NULL, "%.*s", (int)folder - 1, path))
        return;
    json_array_foreach(rows, index, row)
    {
        const char *const members[] = {name, "name", "id", "volid"};
        json_t *value = NULL;
        for (size_t i = 0; i < 4 && !value; i++)
            value = json_object_get(row, members[i]);
        if (json_is_string(value))
            printf("%.*s%s%s\n", (int)folder, path, json_string_value(value), rest);
        else if (json_is_integer(value))
            printf("%.*s%lld%s\n", (int)folder, path, (long long)json_integer_value(value), rest);
    }
    json_decref(rows);
}

// Where the two part: as many whole segments as the path has fit the template. False: they do not.
static bool follow(const char **template, const char **path)
{
    for (size_t n; n = segment(*path), (*path)[n] == '/'; *path += n + 1) {
        size_t m = segment(*template);
        bool same = m == n && !strncmp(*template, *path, n);
        if ((!same && !is_variable(*template)) || !(*template)[m])
            return false;
        *template += m + 1;
    }
    return true;
}

static void print_paths(struct remote *remote, const json_t *table, const char *method,
                        const char *path)
{
    size_t index;
    json_t *endpoint, *asked = json_object();
    json_array_foreach(table, index, endpoint)
    {
        const char *template = text_of(endpoint, "path") + 1, *at = path + 1;
        if (strcmp(text_of(endpoint, "method"), method) != 0 || !follow(&template, &at))
            continue;
        size_t n = segment(template), folder = (size_t)(at - path);
        const char *rest = template[n] ? "/" : "";
        char key[PATH_BYTES];
        snprintf(key, sizeof(key), "%.*s%s", (int)n, template, rest);
        if (json_object_get(asked, key))
            continue;
        json_object_set_new(asked, key, json_true());
        if (is_variable(template))
            print_values(remote, template, path, folder, rest);
        else
            printf("%.*s%s\n", (int)folder, path, key);
    }
    json_decref(asked);
}

static bool fits(const char *template, const char *path)
{
    if (!follow(&template, &path))
        return false;
    size_t n = segment(template);
    return !template[n] && *path &&
           (is_variable(template) || (strlen(path) == n && !strncmp(template, path, n)));
}

static void print_parameters(const json_t *table, const char *method, const char *path)
{
    size_t index, i;
    json_t *endpoint, *parameter;
    json_array_foreach(table, index, endpoint)
    {
        const char *template = text_of(endpoint, "path");
        if (strcmp(text_of(endpoint, "method"), method) != 0 || !fits(template + 1, path + 1))
            continue;
        json_array_foreach(json_object_get(endpoint, "parameters"), i, parameter)
        {
            const char *name = text_of(parameter, "name");
            size_t n = strcspn(name, "[");
            char variable[NAME_BYTES];
            snprintf(variable, sizeof(variable), "{%s}", name);
            if (!strstr(template, variable))
                printf("%.*s%s=\n", (int)n, name, name[n] ? "0" : "");
        }
    }
}

static int complete(struct remote *remote, struct err *err)
{
    const struct cli_words *words = remote->words;
    const char *last = words->operand[words->operands - 1];
    json_t *table = NULL;
    remote->printed = true;
    if (words->operands == 1) {
        for (size_t i = 0; i < ARRAY_LENGTH(methods); i++)
            puts(methods[i].word);
        return 0;
    }
    const char *method = method_of(words->operand[0], err);
    if (!method || remote_call(remote, "GET", NULL, &table, err, "/describe"))
        return -1;
    if (words->operands == 2)
        print_paths(remote, table, method, *last == '/' ? last : "/");
    else
        print_parameters(table, method, words->operand[1]);
    json_decref(table);
    return 0;
}

// ---- The request

int remote_api(struct remote *remote, struct err *err)
{
    const struct cli_words *words = remote->words;
    if (cli_word(words, "complete"))
        return complete(remote, err);
    const char *method = method_of(words->operand[0], err);
    const char *path = words->operands > 1 ? words->operand[1] : "";
    if (!method)
        return -1;
    if (*path != '/')
        return err_set(err, ERR_USAGE, "\"%s\": a path begins with a slash, as /nodes", path);
    if (strlen(path) >= PATH_BYTES)
        return err_set(err, ERR_USAGE, "a path has less than %d bytes", PATH_BYTES);
    json_t *parameters = remote_pairs(words, 2, "NAME", err), *data = NULL;
    if (!parameters || remote_call(remote, method, parameters, &data, err, "%s", path))
        return -1;
    const char *text = json_string_value(data);
    int result = 0;
    if (text && !strncmp(text, "UPID:", 5))
        result = remote_wait(remote, path, text, false, err);
    else if (data && !json_is_null(data))
        remote_json(remote, data);
    json_decref(data);
    return result;
}
