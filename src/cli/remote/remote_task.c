// SPDX-License-Identifier: Apache-2.0
//
// Tasks: listed, read, stopped, and told as they come and go.
#include <stdio.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "cli/table.h"
#include "client/task.h"
#include "os/clock.h"

#define EVENTS_EVERY_NS 1000000000u

int remote_task_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"START", "starttime", CELL_TIME}, {"END", "endtime", CELL_TIME},
        {"WHAT", "type", CELL_TEXT},       {"OF", "id", CELL_TEXT},
        {"USER", "user", CELL_TEXT},       {"DONE", "progress", CELL_FRACTION},
        {"RESULT", "status", CELL_STATE},  {"UPID", "upid", CELL_TEXT},
        {NULL, NULL, CELL_TEXT},
    };
    struct remote_guest guest;
    char node[NAME_BYTES];
    const char *vm = cli_word(remote->words, "vm"), *limit = cli_word(remote->words, "limit");
    if (vm ? remote_find(remote, vm, &guest, err) : remote_node(remote, node, err))
        return -1;
    json_t *query = json_pack("{s:s, s:s}", "limit", limit ? limit : "50", "source", "all");
    if (vm)
        json_object_set_new(query, "vmid", json_integer(guest.vmid));
    return remote_print_list(remote, query, columns, err, "/nodes/%s/tasks",
                             vm ? guest.node : node);
}

// The task that is meant: its id, or the last one of a VM (of those that run, with `running`). Returns 0 with its node.
static int find_task(struct remote *remote, bool running, char upid[PATH_BYTES],
                     char node[NAME_BYTES], struct err *err)
{
    const char *word = remote->words->operand[0];
    struct remote_guest guest;
    json_t *tasks = NULL;
    snprintf(upid, PATH_BYTES, "%s", word);
    if (client_task_node(upid, node, NAME_BYTES))
        return 0;
    if (!strncmp(word, "UPID:", 5))
        return err_set(err, ERR_USAGE, "%s: that is no whole id; `wirt task list --json` has them",
                       word);
    json_t *query = json_pack("{s:i, s:s}", "limit", 1, "source", running ? "active" : "all");
    if (remote_find(remote, word, &guest, err)) {
        json_decref(query);
        return err_wrap(err, "give a task's id (UPID:…) or a VM");
    }
    json_object_set_new(query, "vmid", json_integer(guest.vmid));
    if (remote_call(remote, "GET", query, &tasks, err, "/nodes/%s/tasks", guest.node))
        return -1;
    const char *last = json_string_value(json_object_get(json_array_get(tasks, 0), "upid"));
    snprintf(upid, PATH_BYTES, "%s", last ? last : "");
    snprintf(node, NAME_BYTES, "%s", guest.node);
    json_decref(tasks);
    return last ? 0
                : err_set(err, ERR_NOT_FOUND, "%s has no task%s; `wirt task list` shows them",
                          guest.name, running ? " that runs" : "");
}

int remote_task_log(struct remote *remote, struct err *err)
{
    char node[NAME_BYTES], upid[PATH_BYTES];
    json_t *lines = NULL, *line;
    size_t i;
    if (find_task(remote, false, upid, node, err))
        return -1;
    if (cli_has(remote->words, "follow"))
        return remote_wait(remote, "the task", upid, true, err);
    if (remote_call(remote, "GET", json_pack("{s:i}", "limit", 100000), &lines, err,
                    "/nodes/%s/tasks/%s/log", node, upid))
        return -1;
    if (remote->json)
        remote_json(remote, lines);
    json_array_foreach(lines, i, line) if (!remote->json)
        printf("%s\n", json_string_value(json_object_get(line, "t")));
    json_decref(lines);
    return 0;
}

int remote_task_stop(struct remote *remote, struct err *err)
{
    char node[NAME_BYTES], upid[PATH_BYTES];
    if (find_task(remote, true, upid, node, err))
        return -1;
    return remote_call(remote, "DELETE", NULL, NULL, err, "/nodes/%s/tasks/%s", node, upid);
}

// ---- events: what changed in the list of tasks since it was last asked for

static void tell_event(const struct remote *remote, const json_t *task, bool ended)
{
    char when[CLI_CELL_BYTES], result[CLI_CELL_BYTES];
    if (remote->json) {
        json_dumpf(task, stdout, JSON_COMPACT);
        putchar('\n');
        return;
    }
    cli_cell_text(json_object_get(task, ended ? "endtime" : "starttime"), CELL_TIME, when);
    cli_cell_text(json_object_get(task, "status"), CELL_TEXT, result);
    printf("%s  %s %s by %s: %s\n", when, json_string_value(json_object_get(task, "type")),
           json_string_value(json_object_get(task, "id")),
           json_string_value(json_object_get(task, "user")), ended ? result : "begins");
}

// Tells the tasks that are new or have ended and notes them in `seen`: UPID to "has it ended?".
static void tell_changes(const struct remote *remote, const json_t *tasks, json_t *seen, bool quiet)
{
    for (size_t i = json_array_size(tasks); i-- > 0;) { // the oldest first
        const json_t *task = json_array_get(tasks, i);
        const char *upid = json_string_value(json_object_get(task, "upid"));
        bool ended = json_object_get(task, "endtime") != NULL;
        const json_t *before = upid ? json_object_get(seen, upid) : NULL;
        if (!upid || (before && json_is_true(before) == ended))
            continue;
        if (!quiet)
            tell_event(remote, task, ended);
        json_object_set_new(seen, upid, json_boolean(ended));
    }
    fflush(stdout);
}

int remote_events(struct remote *remote, struct err *err)
{
    json_t *seen = json_object();
    for (bool first = true;; first = false) {
        json_t *tasks = NULL;
        if (remote_call(remote, "GET", NULL, &tasks, err, "/cluster/tasks"))
            break;
        tell_changes(remote, tasks, seen, first);
        json_decref(tasks);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + EVENTS_EVERY_NS);
    }
    json_decref(seen);
    return -1;
}
