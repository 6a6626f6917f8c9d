// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"
#include "cli/launch.h"
#include "cli/run_options.h"
#include "cli/session.h"

int cli_run(int argc, char **argv)
{
    struct err err = {0};
    json_t *config = run_options_parse(argc, argv, &err);
    if (!config)
        return cli_fail("run", &err);
    int status = session_wanted(config) ? session_run(config, &err) : launch_vm(config, NULL, &err);
    json_decref(config);
    if (status >= 0)
        return status;
    cli_fail("run", &err);
    return err_input_status(err.code);
}
