// SPDX-License-Identifier: Apache-2.0
//
// User-mode networking on libslirp: the other side of net_user_create(), run by the wirt-net process.
//
// The guest is on 10.0.2.0/24 and fec0::/64: the host is .2, names are served at .3, DHCP gives .15. The socket carries
// packets of a net_header and a frame each; the first packet from here is one byte long and says that all forwards stand, or
// it is a byte, the number of an error's code, and the error's text. A packet of one byte to here says what the guest accepts (enum net_offload):
// with NET_OFFLOAD_TSO4 consecutive TCP segments come joined (merge.h).
//
// Threads: one. slirp_host_run() returns when the other side of the socket is gone.
#ifndef WIRT_MACHINE_NET_SLIRP_HOST_H
#define WIRT_MACHINE_NET_SLIRP_HOST_H

#include <stdbool.h>

#include "base/err.h"

struct slirp_host;

struct slirp_host *slirp_host_create(int socket, struct err *err); // the socket is borrowed
void slirp_host_destroy(struct slirp_host *host);

// Connections to 127.0.0.1:host_port reach the guest's guest_port.
int slirp_host_forward(struct slirp_host *host, bool udp, unsigned host_port, unsigned guest_port,
                       struct err *err);

// Instead of slirp_host_run(): why not. 0, or -1 when nobody is there to hear it.
int slirp_host_refuse(int socket, const struct err *why);

int slirp_host_run(struct slirp_host *host, struct err *err);

#endif
