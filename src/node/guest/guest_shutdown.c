// SPDX-License-Identifier: Apache-2.0
//
// Asking a guest to end. One whose configuration has the agent is told by it (guest-shutdown); the power button is pressed when no agent is there, when it refuses, and
// for all other guests.
//
// A guest that is on its way up hears neither: a press is lost before somebody in the guest listens for it, and nothing tells who does. So nothing is asked once
// only. The agent's greeting waits in its port until the agent opens that, whenever that is, and its answer is the moment to tell it; meanwhile the button is pressed
// again and again, which a guest that has begun to end passes over. The machine's end is seen by its process, within the time or not.
#include <string.h>

#include "node/guest/guest_internal.h"
#include "os/clock.h"
#include "os/detach.h"
#include "os/file.h"
#include "os/poll_set.h"

#define SECOND_NS         UINT64_C(1000000000)
#define PRESS_SECONDS     3    // between two presses
#define GREET_SECONDS_MAX 60   // between two greetings
#define TOLD_SECONDS      30   // an agent that was told has this long before the button is pressed
#define LOOK_MS           1000 // whether anybody wants this to stop
#define LEAVE_SECONDS     20   // a process that has ended is taken note of within
#define BUTTON_SECONDS    5

enum agent_state { AGENT_UNKNOWN, AGENT_GREETED, AGENT_TOLD };

struct ending {
    struct guests *guests;
    struct task *task;
    int64_t vmid;
    uint64_t end_ns;   // the time is over
    uint64_t press_ns; // when the button is pressed next
    uint64_t greet_ns; // when the agent is greeted next, if it is to be
    uint64_t greet_seconds;
    uint64_t told_ns; // an agent that was told is greeted again
    bool wants_agent;
    enum agent_state state;
    struct agent_port port; // open while it is greeted or told
    bool pressed;
    int process;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// ---- The button.

static void press(struct ending *e, uint64_t now_ns)
{
    struct err err = {0};
    json_t *ok = guest_control(e->guests, e->vmid, json_pack("{s:s}", "do", "power-button"),
                               BUTTON_SECONDS, &err);
    if (!ok)
        task_log(e->task, "the power button cannot be pressed: %s", err.text);
    else if (!e->pressed)
        task_log(e->task, "the power button is pressed, every %d s until it is heard",
                 PRESS_SECONDS);
    e->pressed |= ok != NULL;
    json_decref(ok);
    e->press_ns = now_ns + PRESS_SECONDS * SECOND_NS;
}

// ---- The agent.

static void lose_agent(struct ending *e, uint64_t now_ns)
{
    agent_port_close(&e->port);
    if (e->state == AGENT_GREETED)
        e->state = AGENT_UNKNOWN;
    e->greet_ns = now_ns + SECOND_NS; // somebody else may have its port now
}

// An agent that ends, as for an upgrade, takes with it what it has not answered: it is greeted again, at ever longer intervals, as greetings may wait for long.
static void greet_agent(struct ending *e, uint64_t now_ns)
{
    if (e->state == AGENT_UNKNOWN) {
        e->greet_ns = now_ns + SECOND_NS;
        e->greet_seconds = AGENT_SYNC_SECONDS;
        if (agent_port_open(e->guests, e->vmid, &e->port))
            return;
        e->state = AGENT_GREETED;
    }
    if (agent_port_sync(&e->port)) {
        lose_agent(e, now_ns);
        return;
    }
    e->greet_ns = now_ns + e->greet_seconds * SECOND_NS;
    e->greet_seconds = least(2 * e->greet_seconds, GREET_SECONDS_MAX);
}

static void heed_answer(struct ending *e, const json_t *answer, uint64_t now_ns)
{
    const json_t *error = json_object_get(answer, "error");
    if (e->state == AGENT_GREETED && agent_port_is_synced(&e->port, answer)) {
        if (agent_port_send(&e->port, "guest-shutdown", NULL))
            return; // which the port's end tells
        task_log(e->task, "the guest's agent shuts it down");
        e->state = AGENT_TOLD;
        e->press_ns = e->told_ns = now_ns + TOLD_SECONDS * SECOND_NS;
    } else if (e->state == AGENT_TOLD && error) {
        const char *text = json_string_value(json_object_get(error, "desc"));
        task_log(e->task, "the agent refuses: %s", text ? text : "unknown");
        e->press_ns = now_ns;
    }
}

static void hear_agent(struct ending *e, uint64_t now_ns)
{
    bool open = agent_port_receive(&e->port);
    json_t *answer;
    while ((answer = agent_port_next(&e->port))) {
        heed_answer(e, answer, now_ns);
        json_decref(answer);
    }
    if (!open)
        lose_agent(e, now_ns);
}

// ---- Until it has ended.

static bool is_overruled(const struct ending *e)
{
    pthread_mutex_lock(&e->guests->lock);
    bool overruled = guest_live(e->guests, e->vmid)->overruled;
    pthread_mutex_unlock(&e->guests->lock);
    return overruled;
}

static int why_not(const struct ending *e, struct err *err)
{
    if (!task_wanted(e->task))
        return task_cancelled(err);
    if (is_overruled(e))
        return err_set(err, ERR_CANCELLED, "a stop of VM %lld overruled it", (long long)e->vmid);
    return err_set(err, ERR_BUSY, "VM quit/powerdown failed - got timeout");
}

static void act(struct ending *e, uint64_t now_ns)
{
    if (e->state == AGENT_TOLD && now_ns >= e->told_ns) { // it has ended since, or could not do it
        e->state = e->port.fd < 0 ? AGENT_UNKNOWN : AGENT_GREETED;
        e->greet_ns = now_ns;
    }
    if (e->wants_agent && e->state != AGENT_TOLD && now_ns >= e->greet_ns)
        greet_agent(e, now_ns);
    if (now_ns >= e->press_ns)
        press(e, now_ns);
}

// Waits for whatever comes first. Has it ended?
static bool wait(struct ending *e, uint64_t now_ns)
{
    uint64_t until_ns = least(e->end_ns, e->press_ns);
    if (e->wants_agent && e->state != AGENT_TOLD)
        until_ns = least(until_ns, e->greet_ns);
    int ms = until_ns > now_ns ? (int)least((until_ns - now_ns) / 1000000 + 1, LOOK_MS) : 0;
    struct pollfd polls[] = {{.fd = e->process, .events = POLLIN},
                             {.fd = e->port.fd, .events = POLLIN}};
    os_poll(polls, 2, ms);
    if (polls[1].revents)
        hear_agent(e, os_clock_monotonic_ns());
    return polls[0].revents != 0;
}

static int end_it(struct ending *e, struct err *err)
{
    bool ended = e->process < 0;
    while (!ended) {
        uint64_t now_ns = os_clock_monotonic_ns();
        if (now_ns >= e->end_ns || !task_wanted(e->task) || is_overruled(e))
            return why_not(e, err);
        act(e, now_ns);
        ended = wait(e, now_ns);
    }
    return guest_wait_end(e->guests, NULL, e->vmid, LEAVE_SECONDS)
               ? 0
               : err_set(err, ERR_HOST, "VM %lld does not end", (long long)e->vmid);
}

static void set_ending(struct guests *guests, int64_t vmid, bool ending)
{
    pthread_mutex_lock(&guests->lock);
    struct live *live = guest_live(guests, vmid);
    live->ending = ending;
    live->overruled = false;
    pthread_mutex_unlock(&guests->lock);
}

int guest_end_gently(struct guests *guests, struct task *task, int64_t vmid, unsigned timeout_s,
                     struct err *err)
{
    uint64_t now_ns = os_clock_monotonic_ns();
    struct guest_status status;
    json_t *record = guest_get(guests, vmid);
    guest_status(guests, vmid, &status);
    struct ending e = {.guests = guests,
                       .task = task,
                       .vmid = vmid,
                       .end_ns = now_ns + timeout_s * SECOND_NS,
                       .press_ns = now_ns,
                       .greet_ns = now_ns,
                       .wants_agent = guest_wants_agent(json_object_get(record, "config")),
                       .port = {.fd = -1},
                       .process = os_process_watch((pid_t)status.pid)};
    json_decref(record);
    if (e.wants_agent)
        e.press_ns += AGENT_SYNC_SECONDS * SECOND_NS;
    set_ending(guests, vmid, true);
    int result = end_it(&e, err);
    set_ending(guests, vmid, false);
    agent_port_close(&e.port);
    os_file_close(&e.process);
    return result;
}

void guest_overrule(struct guests *guests, int64_t vmid)
{
    pthread_mutex_lock(&guests->lock);
    struct live *live = guest_live(guests, vmid);
    live->overruled = live->ending;
    pthread_mutex_unlock(&guests->lock);
}
