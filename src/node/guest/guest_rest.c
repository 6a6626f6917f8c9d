// SPDX-License-Identifier: Apache-2.0
//
// A guest at rest for an instant, at which its disks are whole: its agent freezes its file systems, or the machine stands still.
//
// A guest that is left frozen hangs, so it is thawed whatever happens: when the freeze got no answer (it may come later), when what was to be done failed, and when
// the daemon died meanwhile. A file in the machine's folder stands from before the freeze until the thaw was answered; who finds a machine with it thaws it.
#define LOG_MODULE "guest"
#include <string.h>

#include "base/log.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"

#define ASK_SECONDS    10
#define FREEZE_SECONDS 60 // what is to be written then is written first
#define THAW_SECONDS   60
#define AGAIN_SECONDS  1
#define LEFT_SECONDS   10 // of a daemon's start

// Its configuration may keep the agent, and forbid this.
static bool may_freeze(const json_t *config)
{
    const char *text = json_string_value(json_object_get(config, "agent"));
    json_t *agent = text ? property_parse(text, "enabled", NULL) : NULL;
    bool may = guest_wants_agent(config) && guest_number(agent, "freeze-fs-on-backup", 1) != 0;
    json_decref(agent);
    return may;
}

// Until the agent has answered, at most so long; it may have been busy, or its port somebody else's.
static int thaw(struct guests *guests, int64_t vmid, double seconds, struct err *err)
{
    char path[4096];
    json_t *answer = NULL;
    uint64_t end_ns = os_clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
    for (;;) {
        answer = guest_agent(guests, vmid, "guest-fsfreeze-thaw", NULL, ASK_SECONDS, err);
        if (answer || os_clock_monotonic_ns() >= end_ns || !guest_is_running(guests, vmid))
            break;
        if (guest_wait_end(guests, NULL, vmid, AGAIN_SECONDS))
            break;
    }
    guest_run_file(guests, vmid, GUEST_FROZEN_FILE, path);
    if (answer)
        os_file_remove(path);
    json_decref(answer);
    return answer ? 0 : -1;
}

// Is it frozen? Where it is not, it is thawed, or nobody was there to freeze it.
static bool freeze(struct guests *guests, struct task *task, int64_t vmid)
{
    char path[4096];
    struct err err = {0}, late = {0};
    guest_run_file(guests, vmid, GUEST_FROZEN_FILE, path);
    if (os_file_write_whole(path, "", 0, 0600, &err)) {
        task_log(task, "not frozen by its agent: %s", err.text);
        return false;
    }
    json_t *answer = guest_agent(guests, vmid, "guest-fsfreeze-freeze", NULL, FREEZE_SECONDS, &err);
    task_log(task, "%s", answer ? "the guest's agent froze its file systems" : err.text);
    if (!answer && err.code == ERR_NOT_FOUND) // it was told nothing
        os_file_remove(path);
    else if (!answer && thaw(guests, vmid, THAW_SECONDS, &late))
        task_log(task, "it may be frozen still: %s", late.text);
    json_decref(answer);
    return answer != NULL;
}

static int act_paused(struct guests *guests, int64_t vmid, int (*act)(void *user, struct err *err),
                      void *user, struct err *err)
{
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", "pause"), ASK_SECONDS, err);
    json_decref(ok);
    if (!ok)
        return -1;
    int result = act(user, err);
    json_decref(guest_control(guests, vmid, json_pack("{s:s}", "do", "resume"), ASK_SECONDS, NULL));
    return result;
}

int guest_at_rest(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                  int (*act)(void *user, struct err *err), void *user, struct err *err)
{
    struct err late = {0};
    struct guest_status status;
    guest_status(guests, vmid, &status);
    if (!strcmp(status.state, "paused"))
        return act(user, err);
    if (!may_freeze(config) || !freeze(guests, task, vmid))
        return act_paused(guests, vmid, act, user, err);
    int result = act(user, err);
    if (thaw(guests, vmid, THAW_SECONDS, &late))
        task_log(task, "it may be frozen still: %s", late.text);
    else
        task_log(task, "and thawed them");
    return result;
}

void guest_thaw_left(struct guests *guests, int64_t vmid)
{
    char path[4096];
    struct err err = {0};
    guest_run_file(guests, vmid, GUEST_FROZEN_FILE, path);
    if (!os_file_exists(path))
        return;
    if (thaw(guests, vmid, LEFT_SECONDS, &err))
        log_warn("VM %lld may be frozen still: %s", (long long)vmid, err.text);
    else
        log_info("VM %lld was left frozen, and is thawed", (long long)vmid);
}
