// SPDX-License-Identifier: Apache-2.0
#include "client/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"

#define POLL_FIRST_NS 50000000u // most tasks are short: ask soon, then less and less often
#define POLL_LAST_NS  1000000000u

bool client_task_node(const char *upid, char *node, size_t size)
{
    if (strncmp(upid, "UPID:", 5) != 0)
        return false;
    size_t length = strcspn(upid + 5, ":");
    if (!length || length >= size)
        return false;
    memcpy(node, upid + 5, length);
    node[length] = 0;
    return true;
}

// The lines from *next on; tells them and moves *next behind them.
static int tell_lines(struct client *client, const char *path, int *next, client_task_tell *tell,
                      void *user, double seconds, double done, struct err *err)
{
    json_t *query = json_pack("{s:i, s:i}", "start", *next, "limit", 500);
    json_t *lines = NULL, *line;
    size_t i;
    int result = client_call(client, "GET", path, query, &lines, err);
    json_decref(query);
    json_array_foreach(lines, i, line)
    {
        tell(user, json_string_value(json_object_get(line, "t")), seconds, done);
        ++*next;
    }
    json_decref(lines);
    return result;
}

static int outcome(const json_t *status, struct err *err)
{
    const char *exit = json_string_value(json_object_get(status, "exitstatus"));
    if (exit && !strcmp(exit, "OK"))
        return 0;
    return err_set(err, exit && strstr(exit, "abort") ? ERR_CANCELLED : ERR_IO, "%s",
                   exit ? exit : "the task ended without telling how");
}

int client_task_wait(struct client *client, const char *upid, client_task_tell *tell, void *user,
                     struct err *err)
{
    char node[128], path[512], log[512];
    if (!client_task_node(upid, node, sizeof(node)))
        return err_set(err, ERR_INPUT, "\"%s\" is no task's id", upid);
    snprintf(path, sizeof(path), "/nodes/%s/tasks/%s/status", node, upid);
    snprintf(log, sizeof(log), "/nodes/%s/tasks/%s/log", node, upid);
    uint64_t start = os_clock_monotonic_ns(), pause = POLL_FIRST_NS;
    for (int next = 0;;) {
        json_t *status = NULL;
        if (client_call(client, "GET", path, NULL, &status, err))
            return -1;
        double seconds = (double)(os_clock_monotonic_ns() - start) / 1e9;
        const json_t *progress = json_object_get(status, "progress");
        double done = progress ? json_number_value(progress) : -1;
        const char *state = json_string_value(json_object_get(status, "status"));
        bool ended = state && !strcmp(state, "stopped");
        if (tell && tell_lines(client, log, &next, tell, user, seconds, done, err)) {
            json_decref(status);
            return -1;
        }
        int result = ended ? outcome(status, err) : 0;
        json_decref(status);
        if (ended)
            return result;
        if (tell)
            tell(user, NULL, seconds, done);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + pause);
        pause = pause * 3 / 2 < POLL_LAST_NS ? pause * 3 / 2 : POLL_LAST_NS;
    }
}
