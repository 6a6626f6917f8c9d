// SPDX-License-Identifier: Apache-2.0
//
// A guest at rest for an instant, at which its disks are whole: its agent freezes its file systems, or the machine stands still.
//
// A guest that is left so hangs, so it goes on whatever happens: it is thawed when the freeze got no answer (it may come later), when what was to be done failed, and
// when the daemon died meanwhile. A file in the machine's folder stands from before its rest until after it, and says which; who finds a machine with it ends that.
#define LOG_MODULE "guest"
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"

#define FROZEN         "frozen"
#define PAUSED         "paused"
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

static void mark(struct guests *guests, int64_t vmid, const char *how)
{
    char path[4096];
    guest_run_file(guests, vmid, GUEST_REST_FILE, path);
    if (!how)
        os_file_remove(path);
    else if (os_file_write_whole(path, how, strlen(how), 0600, NULL))
        log_warn("VM %lld: %s cannot be written", (long long)vmid, path); // it rests all the same
}

// Until the agent has answered, at most so long; it may have been busy, or its port somebody else's.
static int thaw(struct guests *guests, int64_t vmid, double seconds, struct err *err)
{
    json_t *answer = NULL;
    uint64_t end_ns = os_clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
    for (;;) {
        answer = guest_agent(guests, vmid, "guest-fsfreeze-thaw", NULL, ASK_SECONDS, err);
        if (answer || os_clock_monotonic_ns() >= end_ns || !guest_is_running(guests, vmid))
            break;
        if (guest_wait_end(guests, NULL, vmid, AGAIN_SECONDS))
            break;
    }
    if (answer)
        mark(guests, vmid, NULL);
    json_decref(answer);
    return answer ? 0 : -1;
}

// Is it frozen? Where it is not, it is thawed, or nobody was there to freeze it.
static bool freeze(struct guests *guests, struct task *task, int64_t vmid)
{
    struct err err = {0}, late = {0};
    mark(guests, vmid, FROZEN);
    json_t *answer = guest_agent(guests, vmid, "guest-fsfreeze-freeze", NULL, FREEZE_SECONDS, &err);
    task_log(task, "%s", answer ? "the guest's agent froze its file systems" : err.text);
    if (!answer && err.code == ERR_NOT_FOUND) // it was told nothing
        mark(guests, vmid, NULL);
    else if (!answer && thaw(guests, vmid, THAW_SECONDS, &late))
        task_log(task, "it may be frozen still: %s", late.text);
    json_decref(answer);
    return answer != NULL;
}

static bool go_on(struct guests *guests, int64_t vmid)
{
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", "resume"), ASK_SECONDS, NULL);
    if (ok)
        mark(guests, vmid, NULL);
    json_decref(ok);
    return ok != NULL;
}

static int act_paused(struct guests *guests, int64_t vmid, int (*act)(void *user, struct err *err),
                      void *user, struct err *err)
{
    mark(guests, vmid, PAUSED);
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", "pause"), ASK_SECONDS, err);
    json_decref(ok);
    int result = ok ? act(user, err) : -1;
    go_on(guests, vmid); // also where the answer came late
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

void guest_wake_left(struct guests *guests, int64_t vmid, bool paused)
{
    char path[4096];
    struct err err = {0};
    guest_run_file(guests, vmid, GUEST_REST_FILE, path);
    char *how = os_file_read_all(path, sizeof(path), NULL, NULL);
    if (!how)
        return;
    bool frozen = !strcmp(how, FROZEN);
    free(how);
    if (frozen && thaw(guests, vmid, LEFT_SECONDS, &err))
        log_warn("VM %lld may be frozen still: %s", (long long)vmid, err.text);
    else if (frozen)
        log_info("VM %lld was left frozen, and is thawed", (long long)vmid);
    else if (!paused)
        mark(guests, vmid, NULL);
    else if (go_on(guests, vmid))
        guest_note_paused(guests, vmid, false);
}
