// SPDX-License-Identifier: Apache-2.0
//
// `wirt set` and `wirt edit`: the configuration by words, or as text in an editor. Both send the digest of what they saw, so that a change
// by somebody else meanwhile is not lost.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/process.h"
#include "os/random.h"
#include "os/tty.h"

#define TEXT_BYTES_MAX (1u << 20)

int remote_set(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    json_t *changes = remote_pairs(remote->words, 1, "KEY", err);
    const char *gone = cli_word(remote->words, "delete");
    const char *back = cli_word(remote->words, "revert");
    if (!changes)
        return -1;
    if (gone)
        json_object_set_new(changes, "delete", json_string(gone));
    if (back)
        json_object_set_new(changes, "revert", json_string(back));
    if (!json_object_size(changes) || remote_find(remote, remote->words->operand[0], &guest, err)) {
        bool none = !json_object_size(changes);
        json_decref(changes);
        return none ? err_set(err, ERR_USAGE,
                              "nothing to change: give KEY=VALUE, --delete KEY or --revert KEY")
                    : -1;
    }
    return remote_call(remote, "PUT", changes, NULL, err, "%s/config", guest.path);
}

// ---- edit

// "key: value" lines, as the node keeps them; values that are not text are not for editing.
static char *config_text(const json_t *config, const struct remote_guest *guest)
{
    char *text = NULL;
    size_t size = 0;
    const char *key;
    json_t *value;
    FILE *out = open_memstream(&text, &size);
    fprintf(out, "# %s (%d). One \"key: value\" a line; a line taken out deletes the key.\n",
            guest->name, guest->vmid);
    json_object_foreach((json_t *)config, key, value)
    {
        if (!strcmp(key, "digest"))
            continue;
        if (json_is_string(value) && !strchr(json_string_value(value), '\n'))
            fprintf(out, "%s: %s\n", key, json_string_value(value));
        else if (json_is_integer(value))
            fprintf(out, "%s: %lld\n", key, (long long)json_integer_value(value));
    }
    fclose(out);
    return text;
}

static json_t *parse_text(char *text, struct err *err)
{
    json_t *config = json_object();
    int number = 0;
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        number++;
        if (!*line || *line == '#')
            continue;
        char *colon = strstr(line, ": ");
        if (!colon) {
            err_set(err, ERR_INPUT, "line %d: \"%.60s\" is not \"key: value\"", number, line);
            json_decref(config);
            return NULL;
        }
        *colon = 0;
        json_object_set_new(config, line, json_string(colon + 2));
    }
    return config;
}

static bool same(const json_t *before, const char *key, const char *now)
{
    const json_t *value = json_object_get(before, key);
    char number[32];
    if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        return !strcmp(number, now);
    }
    return json_is_string(value) && !strcmp(json_string_value(value), now);
}

// What has to be sent so that `before` becomes `now`.
static json_t *difference(const json_t *before, const json_t *shown, const json_t *now)
{
    json_t *changes = json_object();
    char gone[2048] = "";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)now, key, value)
    {
        if (!same(before, key, json_string_value(value)))
            json_object_set(changes, key, value);
    }
    json_object_foreach((json_t *)shown, key, value)
    {
        size_t used = strlen(gone);
        if (!json_object_get(now, key))
            snprintf(gone + used, sizeof(gone) - used, "%s%s", used ? "," : "", key);
    }
    if (*gone)
        json_object_set_new(changes, "delete", json_string(gone));
    return changes;
}

static int run_editor(const char *path, struct err *err)
{
    const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");
    const char *command = visual && *visual ? visual : editor && *editor ? editor : "editor";
    char line[1024];
    pid_t pid;
    // The variable may carry words of its own ("code --wait"): the shell takes them apart, the path comes as its argument.
    snprintf(line, sizeof(line), "%s \"$1\"", command);
    char *const arguments[] = {(char[]){"sh"}, (char[]){"-c"}, line,
                               (char[]){"sh"}, (char *)path,   NULL};
    if (os_process_start("/bin/sh", arguments, NULL, 0, &pid, err))
        return -1;
    int status = os_process_wait(pid);
    return status ? err_set(err, ERR_CANCELLED,
                            "the editor (%s) ended with status %d; nothing is changed", command,
                            status)
                  : 0;
}

// ---- what is edited lies in a file until the node has taken it

struct editing {
    const struct remote_guest *guest;
    const json_t *before; // the configuration as the node told it
    const char *shown;    // the same as text
    char path[64];
};

// Sends what the file changes; says whether that is anything.
static int apply(struct remote *remote, const struct editing *editing, const char *path,
                 struct err *err)
{
    size_t length;
    char *copy = strdup(editing->shown);
    json_t *shown = parse_text(copy, err);
    char *text = os_file_read_all(path, TEXT_BYTES_MAX, &length, err);
    json_t *now = text ? parse_text(text, err) : NULL;
    int result = now ? 0 : -1;
    if (now) {
        json_t *changes = difference(editing->before, shown, now);
        bool any = json_object_size(changes) > 0;
        json_object_set(changes, "digest", json_object_get(editing->before, "digest"));
        if (any)
            result =
                remote_call(remote, "PUT", changes, NULL, err, "%s/config", editing->guest->path);
        else
            json_decref(changes);
        if (!result)
            fputs(any ? "changed\n" : "nothing is changed\n", stderr);
    }
    json_decref(shown);
    json_decref(now);
    free(text);
    free(copy);
    return result;
}

static bool edits_again(const struct err *err)
{
    char answer[16];
    if (!os_tty_is_terminal(0))
        return false;
    fprintf(stderr, "wirt edit: %s\nEdit it again? [Y/n] ", err->text);
    return fgets(answer, sizeof(answer), stdin) && *answer != 'n' && *answer != 'N';
}

// What was typed is not lost when it is refused: it is edited again, or stays where it is.
static int edit(struct remote *remote, const struct editing *editing, struct err *err)
{
    if (os_file_write_whole(editing->path, editing->shown, strlen(editing->shown), 0600, err))
        return -1;
    int result;
    do {
        if (run_editor(editing->path, err)) {
            os_file_remove(editing->path);
            return -1;
        }
        result = apply(remote, editing, editing->path, err);
    } while (result && edits_again(err));
    if (!result) {
        os_file_remove(editing->path);
        return 0;
    }
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof(err->text) - used,
             "; your text is kept: mend it, then wirt edit %s --file %s", editing->guest->name,
             editing->path);
    return -1;
}

int remote_edit(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    json_t *before = NULL;
    if (remote_find(remote, remote->words->operand[0], &guest, err) ||
        remote_call(remote, "GET", NULL, &before, err, "%s/config", guest.path))
        return -1;
    char *text = config_text(before, &guest);
    const char *file = cli_word(remote->words, "file");
    struct editing editing = {&guest, before, text, ""};
    uint64_t random;
    os_random_bytes(&random, sizeof(random));
    snprintf(editing.path, sizeof(editing.path), "/tmp/wirt-edit-%016llx.conf",
             (unsigned long long)random);
    int result = file ? apply(remote, &editing, file, err) : edit(remote, &editing, err);
    free(text);
    json_decref(before);
    return result;
}
