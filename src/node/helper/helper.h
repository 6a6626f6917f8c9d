// SPDX-License-Identifier: Apache-2.0
//
// The helper: a process that keeps the rights that wirtd gives up, and the few things that it does with them.
//
// wirtd forks it before it has threads. When wirtd was started as root the helper stays root and wirtd becomes somebody else; otherwise both
// are the same user, and the helper only starts processes. A request is one packet on a socket pair: a JSON object, with descriptors beside it,
// the first of which is where the answer goes. The helper believes none of it: requests are checked against a table, it starts two
// programs only, which it finds itself, and kills none but those. It ends when wirtd does; what it started does not.
//
//     {"do": "spawn", "program": "wirt-vm", "words": […], "numbers": […], "scope": "100"}  ->  {"pid": N}
//     {"do": "kill", "pid": N}                                                             ->  {}
//     {"do": "pam", "user": "root", "password": "…"}                                       ->  {}
//     any failure                                                                          ->  {"error": {"code": "denied", "text": "…"}}
//
// Threads: the client's functions from any; each request has its own answering socket.
#ifndef WIRT_NODE_HELPER_HELPER_H
#define WIRT_NODE_HELPER_HELPER_H

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define HELPER_MESSAGE_BYTES 65536

struct helper;

// Forks the helper. Before any thread exists.
struct helper *helper_start(struct err *err);
void helper_stop(struct helper *helper);

struct helper_spawn {
    const char *program; // "wirt-vm" or "wirt-net"
    char *const *words;  // words[0] is its name; ends with NULL
    const int *fds, *numbers;
    size_t count;
    const char *scope; // name of its cgroup
};
int helper_spawn(struct helper *helper, const struct helper_spawn *spawn, pid_t *pid,
                 struct err *err);
int helper_kill(struct helper *helper, pid_t pid, struct err *err);
int helper_pam(void *helper, const char *user, const char *password, struct err *err);

// ---- The other side. One packet, answered on fds[0]; for the helper's loop and for fuzzing.
struct helper_server {
    char vm_program[4096], net_program[4096]; // paths, found at the start
};
// Checks a packet against the table. NULL and *err for what is no request.
json_t *helper_parse(const char *packet, size_t length, size_t fd_count, struct err *err);

#endif
