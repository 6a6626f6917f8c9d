// SPDX-License-Identifier: Apache-2.0
//
// In place of layout.c in sanitizer builds: their shadow memory has places of its own.
#include "os/layout.h"

#include "os/process.h"

bool os_layout_enter(char **argv)
{
    (void)argv;
    return false;
}

int os_layout_start(const char *program, char *const arguments[], const int *fds, size_t fd_count,
                    const int standard[3], pid_t *pid, struct err *err)
{
    return os_process_start_with(program, arguments, fds, fd_count, standard, pid, err);
}
