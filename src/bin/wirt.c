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
    {"disk", cli_disk, NULL, help_disk},
};

// `wirt disk attach` and its like speak to a node.
static bool is_meant(const struct cli_verb *verb, int argc, char **argv)
{
    return !strcmp(argv[1], verb->name) &&
           (verb->run != cli_disk || (argc > 2 && cli_disk_has(argv[2])));
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < ARRAY_LENGTH(quick); i++)
        if (is_meant(&quick[i], argc, argv))
            return cli_run_verb(&quick[i], argc - 1, argv + 1);
    char path[PATH_MAX];
    struct err err = {0};
    if (!os_process_find_program("wirt-remote", path, sizeof(path), &err))
        os_process_become_program(path, argv, &err);
    return cli_fail(argc > 1 ? argv[1] : "help", &err);
}
