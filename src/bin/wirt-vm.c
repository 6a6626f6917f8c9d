// SPDX-License-Identifier: Apache-2.0
//
// wirt-vm: runs one virtual machine. Started by `wirt run` and wirtd, which open all that it uses.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "machine/vm/vm.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/file_load.h"
#include "os/layout.h"
#include "os/sandbox.h"
#include "os/self.h"
#include "os/signals.h"

#define CONFIG_LIMIT (16 * MIB)

static const char usage[] = "usage: wirt-vm --config-fd N\n"
                            "Runs the virtual machine whose JSON configuration is in descriptor N. "
                            "People use `wirt run`.\n";

static json_t *read_config(int fd, struct err *err)
{
    uint8_t *bytes;
    size_t length;
    json_error_t error;
    if (os_file_load(fd, CONFIG_LIMIT, &bytes, &length, err)) {
        err_wrap(err, "the configuration");
        return NULL;
    }
    json_t *json = json_loadb((const char *)bytes, length, JSON_REJECT_DUPLICATES, &error);
    free(bytes);
    os_file_close(&fd);
    if (!json)
        err_set(err, ERR_USAGE, "the configuration is no JSON: line %d: %s", error.line,
                error.text);
    return json;
}

static int run(int config_fd, struct err *err)
{
    struct vm_config config;
    json_t *json = read_config(config_fd, err);
    if (!json)
        return -1;
    int status = vm_config_parse(&config, json, err);
    json_decref(json);
    if (status)
        return -1;
    os_clock_start((struct os_clock_reading){config.launched_tsc, config.launched_ns});
    os_self_open();
    struct vm *vm = os_sandbox_enter(err) ? NULL : vm_create(&config, err);
    status = vm ? vm_run(vm, err) : -1;
    if (vm && config.stats)
        vm_print_statistics(vm, config.stats_json);
    vm_destroy(vm);
    vm_config_fini(&config);
    return status;
}

int main(int argc, char **argv)
{
    uint64_t fd;
    struct err err = {0};
    os_layout_enter(argv);
    os_signals_ignore_pipe();
    if (argc != 3 || strcmp(argv[1], "--config-fd") || !units_parse_number(argv[2], 3, 1023, &fd)) {
        fputs(usage, stderr);
        return err_exit_status(ERR_USAGE);
    }
    int status = run((int)fd, &err);
    if (status >= 0)
        return status;
    fprintf(stderr, "wirt run: %s\n", err.text);
    return err_input_status(err.code);
}
