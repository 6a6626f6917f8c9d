// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

int cli_fail(const char *verb, const struct err *err)
{
    fprintf(stderr, "wirt %s: %s\n", verb, err->text);
    return err_exit_status(err->code);
}

int cli_run_verb(const struct cli_verb *verb, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help")) {
            fputs(verb->help, stdout);
            return 0;
        }
    return verb->run(argc, argv);
}
