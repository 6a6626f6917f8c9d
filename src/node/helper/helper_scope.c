// SPDX-License-Identifier: Apache-2.0
//
// Each machine in a scope of its own, outside the daemon's service: made by systemd where it rules (a transient scope unit, by systemd-run, which
// becomes the machine), else by ourselves in the control groups. Where neither can be, machines run without limits where the helper runs.
#define LOG_MODULE "helper"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/helper/helper_internal.h"
#include "os/clock.h"
#include "os/directory.h"

#define SYSTEMD_RUN "/usr/bin/systemd-run"
#define SYSTEMCTL   "/usr/bin/systemctl"
#define USUAL       100

static bool has_user_manager(void)
{
    const char *folder = getenv("XDG_RUNTIME_DIR");
    char path[512];
    snprintf(path, sizeof(path), "%.400s/systemd/private", folder ? folder : "/nowhere");
    return os_file_exists(path);
}

void scopes_open(struct scopes *scopes, const char *instance)
{
    struct err err = {0};
    bool root = os_process_is_root();
    *scopes = (struct scopes){.kind = SCOPES_NONE};
    snprintf(scopes->slice, sizeof(scopes->slice), "wirt-%s", instance);
    if (os_file_exists("/run/systemd/system") && os_file_exists(SYSTEMD_RUN) &&
        (root || has_user_manager())) {
        scopes->kind = root ? SCOPES_SYSTEMD : SCOPES_SYSTEMD_USER;
    } else if (!os_cgroups_open(&scopes->groups, "/proc/self/mountinfo", scopes->slice, &err)) {
        scopes->kind = SCOPES_GROUPS;
        os_cgroups_sweep(&scopes->groups);
    } else {
        log_warn("machines run without scopes of their own, so without limits on CPU and memory: "
                 "%s",
                 err.text);
    }
}

void scopes_close(struct scopes *scopes)
{
    if (scopes->kind != SCOPES_GROUPS)
        return;
    os_cgroups_sweep(&scopes->groups);
    os_cgroups_remove(&scopes->groups);
}

const char *scopes_name(const struct scopes *scopes)
{
    static const char *const names[] = {[SCOPES_NONE] = "none",
                                        [SCOPES_GROUPS] = "control group",
                                        [SCOPES_SYSTEMD] = "systemd",
                                        [SCOPES_SYSTEMD_USER] = "systemd"};
    return names[scopes->kind];
}

int scopes_make(const struct scopes *scopes, const char *name,
                const struct os_cgroup_limits *limits, struct err *err)
{
    return scopes->kind == SCOPES_GROUPS ? os_cgroup_make(&scopes->groups, name, limits, err) : 0;
}

// The words that both of systemd's programs have for limits.
struct limit_words {
    char weight[48], quota[48], memory[64];
};

static void write_limits(const struct os_cgroup_limits *limits, struct limit_words *words)
{
    unsigned weight = limits->cpu_weight ? limits->cpu_weight : USUAL;
    snprintf(words->weight, sizeof(words->weight), "CPUWeight=%u", weight);
    snprintf(words->quota, sizeof(words->quota), "CPUQuota="); // none
    snprintf(words->memory, sizeof(words->memory), "MemoryMax=infinity");
    if (limits->cpu_percent)
        snprintf(words->quota, sizeof(words->quota), "CPUQuota=%u%%", limits->cpu_percent);
    if (limits->memory_bytes)
        snprintf(words->memory, sizeof(words->memory), "MemoryMax=%llu",
                 (unsigned long long)limits->memory_bytes);
}

int scopes_limit(const struct scopes *scopes, const char *name, pid_t pid,
                 const struct os_cgroup_limits *limits, struct err *err)
{
    struct limit_words words;
    char unit[OS_CGROUP_NAME_BYTES];
    if (scopes->kind == SCOPES_NONE)
        return 0;
    if (scopes->kind == SCOPES_GROUPS)
        return os_cgroup_make(&scopes->groups, name, limits, err);
    if (!os_cgroup_name(pid, scopes->slice, unit))
        return err_set(err, ERR_NOT_FOUND, "process %d is in no scope of ours", (int)pid);
    write_limits(limits, &words);
    bool user = scopes->kind == SCOPES_SYSTEMD_USER;
    const char *const arguments[] = {"systemctl", user ? "--user" : "--system",
                                     "--runtime", "set-property",
                                     unit,        words.weight,
                                     words.quota, words.memory,
                                     NULL};
    const struct os_process_command command = {.program = SYSTEMCTL,
                                               .arguments = (char *const *)(uintptr_t)arguments};
    return os_process_run(&command, err);
}

void scopes_release(const struct scopes *scopes, const char *name)
{
    if (scopes->kind == SCOPES_GROUPS)
        os_cgroup_remove(&scopes->groups, name);
}

void scopes_enter(const struct scopes *scopes, const char *name)
{
    if (scopes->kind == SCOPES_GROUPS)
        os_cgroup_enter(&scopes->groups, name);
}

// systemd-run's words before those of the program. It asks for the scope with itself inside, waits for it, and executes the program.
const char *scopes_wrap(const struct scopes *scopes, const char *name,
                        const struct os_cgroup_limits *limits, const char *program,
                        struct scope_words *words)
{
    if (scopes->kind != SCOPES_SYSTEMD && scopes->kind != SCOPES_SYSTEMD_USER)
        return program;
    size_t n = 0;
    // Units of a machine that was there before may be on their way out: no name is used twice.
    unsigned serial = (unsigned)(os_clock_wall_ns() / 1000);
    unsigned weight = limits->cpu_weight ? limits->cpu_weight : USUAL;
    snprintf(words->unit, sizeof(words->unit), "--unit=%.40s-%.40s-%u", scopes->slice, name,
             serial);
    snprintf(words->slice, sizeof(words->slice), "--slice=%.40s", scopes->slice);
    snprintf(words->weight, sizeof(words->weight), "--property=CPUWeight=%u", weight);
    words->words[n++] = "systemd-run";
    if (scopes->kind == SCOPES_SYSTEMD_USER)
        words->words[n++] = "--user";
    words->words[n++] = "--scope";
    words->words[n++] = "--quiet";
    words->words[n++] = "--collect";
    words->words[n++] = words->unit;
    words->words[n++] = words->slice;
    words->words[n++] = words->weight;
    // Guests are shut down by this unit before their scopes are stopped.
    words->words[n++] = "--property=Before=wirt-guests.service";
    if (limits->cpu_percent) {
        snprintf(words->quota, sizeof(words->quota), "--property=CPUQuota=%u%%",
                 limits->cpu_percent);
        words->words[n++] = words->quota;
    }
    if (limits->memory_bytes) {
        snprintf(words->memory, sizeof(words->memory), "--property=MemoryMax=%llu",
                 (unsigned long long)limits->memory_bytes);
        words->words[n++] = words->memory;
    }
    words->words[n++] = "--";
    words->words[n++] = program;
    words->count = n;
    return SYSTEMD_RUN;
}
