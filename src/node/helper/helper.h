// SPDX-License-Identifier: Apache-2.0
//
// The helper: a process that keeps the rights that wirtd gives up, and the few things that it does with them.
//
// wirtd forks it before it has threads. When wirtd was started as root the helper stays root and wirtd becomes somebody else; otherwise both
// are the same user, and the helper only starts processes. A request is one packet on a socket pair: a JSON object, with descriptors beside it,
// the first of which is where the answer goes. The helper believes none of it: requests are checked against a table, it starts two
// programs only, which it finds itself, and kills none but those. It ends when wirtd does; what it started does not.
//
//     {"do": "spawn", "program": "wirt-vm", "words": […], "numbers": […], "scope": "100",
//      "cpu_weight": 100, "cpu_percent": 0, "memory": 0}                                   ->  {"pid": N, "scope": "control group"}
//     {"do": "bridge", "subnet": "10.64.16.0"}                                             ->  {"interface": "wbr-1a2b3c"}
//     {"do": "tap", "mac": "bc:24:11:00:00:01", "address": "10.64.16.9", "name": "web1"}   ->  {"interface": "w1a2b3ct0"}, the descriptor beside it
//     {"do": "limit", "scope": "100", "pid": N, "cpu_weight": 100, "cpu_percent": 0, "memory": 0}  ->  {}
//     {"do": "release", "scope": "100"}                                                    ->  {}
//     {"do": "kill", "pid": N}                                                             ->  {}
//     {"do": "pam", "user": "root", "password": "…"}                                       ->  {}
//     any failure                                                                          ->  {"error": {"code": "denied", "text": "…"}}
//
// Threads: the client's functions from any; each request has its own answering socket.
#ifndef WIRT_NODE_HELPER_HELPER_H
#define WIRT_NODE_HELPER_HELPER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "os/cgroup.h"

#define HELPER_MESSAGE_BYTES 65536

struct helper;

// Forks the helper. Before any thread exists. `instance` (letters and digits) is what this node's scopes and interfaces are told by from others'.
// `lock_path` is a file that the helper holds a lock on until its end, also when wirtd is killed: the next one serves nobody before, so that what its predecessor
// was asked has been done when it answers.
struct helper *helper_start(const char *instance, const char *lock_path, struct err *err);
// Waits for its end, after which nothing of this node is left of what it makes (a network without machines).
void helper_stop(struct helper *helper);

struct helper_spawn {
    const char *program; // "wirt-vm" or "wirt-net"
    char *const *words;  // words[0] is its name; ends with NULL
    const int *fds, *numbers;
    size_t count;
    const char *scope; // name of its scope (helper_scope.c), made with these limits
    struct os_cgroup_limits limits;
};
struct helper_spawned {
    pid_t pid;
    char scope[24]; // "systemd", "control group", "none"
};
int helper_spawn(struct helper *helper, const struct helper_spawn *spawn,
                 struct helper_spawned *spawned, struct err *err);
// Nobody runs in the scope any more. Does not wait.
void helper_release(struct helper *helper, const char *scope);
// The node's network (helper_net.c): made in this subnet, or taken over. ERR_BUSY: its addresses are in use.
#define HELPER_NET_PREFIX 20
const char *helper_address_text(uint32_t address, char text[16]); // "10.64.16.9"
int helper_bridge(struct helper *helper, const char *subnet, char interface[16], struct err *err);
// A card on it: the TAP interface's descriptor, or -1 and *err. The machine with this hardware address gets the address and is known by the name ("": by none).
int helper_tap(struct helper *helper, const char *mac, const char *address, const char *name,
               struct err *err);
// A machine's scope gets other limits while it runs; nothing is done where there are no scopes.
int helper_limit(struct helper *helper, const char *scope, pid_t pid,
                 const struct os_cgroup_limits *limits, struct err *err);
int helper_kill(struct helper *helper, pid_t pid, struct err *err);
int helper_pam(void *helper, const char *user, const char *password, struct err *err);

// ---- The other side.
// Checks a packet against the table. NULL and *err for what is no request.
json_t *helper_parse(const char *packet, size_t length, size_t fd_count, struct err *err);

#endif
