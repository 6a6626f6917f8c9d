// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <string.h>

#include "base/bits.h"
#include "cli/cli.h"
#include "cli/help.h"
#include "os/process.h"

// What must start at once. The rest is wirt-remote's.
static const struct cli_verb quick[] = {
    {"run", cli_run, NULL, help_run},
    {"ctl", cli_ctl, NULL, help_ctl},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < ARRAY_LENGTH(quick); i++)
        if (!strcmp(argv[1], quick[i].name))
            return cli_run_verb(&quick[i], argc - 1, argv + 1);
    char path[PATH_MAX];
    struct err err = {0};
    if (!os_process_find_program("wirt-remote", path, sizeof(path), &err))
        os_process_become_program(path, argv, &err);
    return cli_fail(argc > 1 ? argv[1] : "help", &err);
}
