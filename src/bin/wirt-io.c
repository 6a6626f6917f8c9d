// SPDX-License-Identifier: Apache-2.0
//
// wirt-io-nbd, wirt-io-iscsi, wirt-io-nfs: a remote disk for one machine, in a process of its own. It ends when the machine does.
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "io/io.h"
#include "os/sandbox.h"

static const char usage[] =
    "usage: wirt-io-SCHEME --fd N --status-fd N URL [--readonly]\n"
    "The descriptors are sockets to who uses the disk; `wirt run --disk SCHEME://…` makes them.\n";

int main(int argc, char *argv[])
{
    struct err err = {0};
    uint64_t fd, status_fd;
    bool read_only = argc == 7 && !strcmp(argv[6], "--readonly");
    if ((argc != 6 && !read_only) || strcmp(argv[1], "--fd") || strcmp(argv[3], "--status-fd") ||
        !units_parse_number(argv[2], 3, INT32_MAX, &fd) ||
        !units_parse_number(argv[4], 3, INT32_MAX, &status_fd)) {
        bool help = argc > 1 && !strcmp(argv[1], "--help");
        fputs(usage, help ? stdout : stderr);
        return help ? 0 : 2;
    }
    int status = os_sandbox_enter_storage(&err)
                     ? -1
                     : io_run((int)fd, (int)status_fd, argv[5], read_only, &err);
    if (status >= 0)
        return status;
    fprintf(stderr, "wirt-io: %s: %s\n", argv[5], err.text);
    return err_exit_status(err.code);
}
