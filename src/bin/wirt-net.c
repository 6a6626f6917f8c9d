// SPDX-License-Identifier: Apache-2.0
//
// wirt-net: user-mode networking for one card of one VM, in a process of its own. It ends when the VM does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "machine/net/slirp_host.h"
#include "os/sandbox.h"

static const char usage[] =
    "usage: wirt-net --fd N [--forward=tcp:HOSTPORT:GUESTPORT | "
    "--forward=udp:HOSTPORT:GUESTPORT]...\n"
    "N is a packet socket to the VM's network card; `wirt run --net user` makes it.\n";

// Who started us waits for the first packet and tells people; nobody else can when we have no standard error.
static int fail(int fd, bool ready, const struct err *err)
{
    if (ready || slirp_host_refuse(fd, err))
        fprintf(stderr, "wirt-net: %s\n", err->text);
    return err_exit_status(err->code);
}

static int parse_port(const char **text, char end)
{
    char *stop;
    unsigned long port = strtoul(*text, &stop, 10);
    if (stop == *text || *stop != end || port < 1 || port > 65535)
        return -1;
    *text = stop + (end ? 1 : 0);
    return (int)port;
}

static int add_forward(struct slirp_host *host, const char *words, struct err *err)
{
    bool udp = !strncmp(words, "udp:", 4);
    const char *text = words + 4;
    if (!udp && strncmp(words, "tcp:", 4))
        return err_set(err, ERR_USAGE, "--forward=%s: it begins with tcp: or udp:", words);
    int host_port = parse_port(&text, ':');
    int guest_port = host_port < 0 ? -1 : parse_port(&text, 0);
    if (guest_port < 0)
        return err_set(err, ERR_USAGE, "--forward=%s: ports are 1 to 65535, as in tcp:2222:22",
                       words);
    return slirp_host_forward(host, udp, (unsigned)host_port, (unsigned)guest_port, err);
}

// Forwards first: their ports may need rights that the sandbox gives up.
static int prepare(struct slirp_host *host, int count, char *words[], struct err *err)
{
    for (int i = 0; i < count; i++) {
        if (strncmp(words[i], "--forward=", 10))
            return err_set(err, ERR_USAGE, "%s: unknown", words[i]);
        if (add_forward(host, words[i] + 10, err) < 0)
            return -1;
    }
    return os_sandbox_enter_network(err);
}

int main(int argc, char *argv[])
{
    struct err err = {0};
    uint64_t fd;
    if (argc < 3 || strcmp(argv[1], "--fd") || !units_parse_number(argv[2], 3, INT32_MAX, &fd)) {
        bool help = argc > 1 && !strcmp(argv[1], "--help");
        fputs(usage, help ? stdout : stderr);
        return help ? 0 : 2;
    }
    struct slirp_host *host = slirp_host_create((int)fd, &err);
    bool ready = host && prepare(host, argc - 3, argv + 3, &err) >= 0;
    int result = ready ? slirp_host_run(host, &err) : -1;
    slirp_host_destroy(host);
    return result < 0 ? fail((int)fd, ready, &err) : 0;
}
