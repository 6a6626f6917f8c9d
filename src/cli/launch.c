// SPDX-License-Identifier: Apache-2.0
#include "cli/launch.h"

#include <stdio.h>
#include <string.h>

#include "cli/keeper.h"
#include "launch/launch.h"
#include "machine/vm/vm_status.h"
#include "os/file.h"
#include "os/layout.h"
#include "os/process.h"
#include "os/signals.h"
#include "os/unix_socket.h"

#define PATH_BYTES 4096

struct foreground {
    struct launch_seat *seat; // borrowed, or NULL
    struct keeper keeper;
    int standard[3]; // standard input, output and error output of what is started; -1: ours
};

// launch_how.start: as children of ours, which end when we do.
static int start(void *user, const char *program, char *const words[], const int *fds, size_t count,
                 pid_t *pid, struct err *err)
{
    const struct foreground *foreground = user;
    char path[PATH_BYTES];
    if (os_process_find_program(program, path, sizeof(path), err))
        return -1;
    bool vm = !strcmp(program, "wirt-vm");
    return (vm ? os_layout_start : os_process_start_with)(path, words, fds, count,
                                                          foreground->standard, pid, err);
}

// At a terminal: the machine and its helpers have nothing of it but what the keeper passes on.
static int take_seat(struct foreground *foreground, struct err *err)
{
    int messages[2];
    if (os_unix_pair(messages, false, err))
        return -1;
    foreground->keeper.messages = messages[0];
    foreground->standard[2] = messages[1];
    foreground->standard[0] = os_file_open("/dev/null", OS_FILE_WRITE, err);
    foreground->standard[1] = foreground->standard[0];
    return foreground->standard[0] < 0 ? -1 : 0;
}

static void close_standard(struct foreground *foreground)
{
    os_file_close(&foreground->standard[0]);
    os_file_close(&foreground->standard[2]);
}

// A machine that was killed is a failure of the host, whatever its guest did.
static int exit_status(const struct keeper *keeper, int status)
{
    if (status >= 0)
        return status;
    if (keeper->ended_by)
        return VM_STATUS_FAILURE;
    fprintf(stderr, "wirt run: wirt-vm was killed by signal %d\n", -status);
    return VM_STATUS_FAILURE;
}

static int keep(struct foreground *foreground, struct launch *launch, pid_t pid)
{
    const char word = KEEPER_STARTED;
    launch_release(launch);
    close_standard(foreground);
    if (foreground->seat)
        os_unix_send(foreground->seat->channel, &word, 1, NULL, 0);
    return exit_status(&foreground->keeper, keeper_wait(&foreground->keeper, pid));
}

static int run(struct foreground *foreground, struct launch *launch, struct err *err)
{
    pid_t pid;
    if (launch_open(launch, err) || launch_start(launch, &pid, err))
        return -1;
    return keep(foreground, launch, pid);
}

static void clean_up(struct foreground *foreground, struct launch *launch)
{
    size_t count;
    launch_release(launch);
    close_standard(foreground);
    const pid_t *helpers = launch_helpers(launch, &count);
    for (size_t i = 0; i < count; i++)
        os_process_wait(helpers[i]);
    launch_remove_sockets(launch);
    launch_destroy(launch);
}

int launch_vm(json_t *config, struct launch_seat *seat, struct err *err)
{
    struct foreground foreground = {.seat = seat, .standard = {-1, -1, -1}};
    struct launch_how how = {.start = start, .user = &foreground};
    struct keeper *keeper = &foreground.keeper;
    if (keeper_init(keeper, seat ? seat->channel : KEEPER_NOTHING, err))
        return -1;
    int status = seat ? take_seat(&foreground, err) : 0;
    if (seat)
        how.console = seat->console;
    struct launch *launch = launch_create(config, &how);
    if (!status)
        status = run(&foreground, launch, err);
    clean_up(&foreground, launch);
    if (seat) {
        seat->channel = keeper->channel;
        seat->ended_by = keeper->ended_by;
    } else if (keeper->ended_by) {
        os_signals_die(keeper->ended_by);
    }
    keeper_fini(keeper);
    return status;
}
