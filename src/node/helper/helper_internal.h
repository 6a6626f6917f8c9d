// SPDX-License-Identifier: Apache-2.0
#ifndef WIRT_NODE_HELPER_HELPER_INTERNAL_H
#define WIRT_NODE_HELPER_HELPER_INTERNAL_H

#include "node/helper/helper.h"
#include "os/bridge.h"
#include "os/cgroup.h"
#include "os/detach.h"

// Serves packets until the other end is closed. `instance` tells this node's scopes and interfaces from those of others on the machine.
void helper_serve(int socket, const char *instance, int lock);

// helper_pam.c: is this the user's password, says PAM? Takes seconds when it is not.
int helper_pam_check(const char *user, const char *password, struct err *err);

// ---- helper_scope.c
struct scopes {
    enum { SCOPES_NONE, SCOPES_GROUPS, SCOPES_SYSTEMD, SCOPES_SYSTEMD_USER } kind;
    struct os_cgroups groups;
    char slice[48];
};
void scopes_open(struct scopes *scopes, const char *instance);
void scopes_close(struct scopes *scopes); // removes what is empty
const char *scopes_name(const struct scopes *scopes);
int scopes_make(const struct scopes *scopes, const char *name,
                const struct os_cgroup_limits *limits, struct err *err);
// Of a machine that runs in it as this process.
int scopes_limit(const struct scopes *scopes, const char *name, pid_t pid,
                 const struct os_cgroup_limits *limits, struct err *err);
void scopes_release(const struct scopes *scopes, const char *name);
// In the child.
void scopes_enter(const struct scopes *scopes, const char *name);
// The program to execute so that `program` runs in the scope, and the words to put before its own (none of its own name).
struct scope_words {
    const char *words[16];
    size_t count;
    char unit[112], slice[64], weight[48], quota[48], memory[64];
};
const char *scopes_wrap(const struct scopes *scopes, const char *name,
                        const struct os_cgroup_limits *limits, const char *program,
                        struct scope_words *words);

// ---- helper_net.c
#define HELPER_PATH_BYTES 256
struct helper_net {
    char instance[12];
    char bridge[OS_INTERFACE_BYTES], tap[OS_INTERFACE_BYTES]; // tap: how their names begin
    char folder[32];
    uint32_t address;   // the bridge's own, the first of its subnet; 0: it is down
    int server;         // dnsmasq's end is seen here; -1: it does not serve
    uint64_t served_ns; // when we started it
};
void helper_net_init(struct helper_net *net, const char *instance);
bool helper_net_parse_address(const char *text, uint32_t *address);
// Makes it, or takes over what is there. ERR_BUSY: something else has addresses of the subnet.
int helper_net_up(struct helper_net *net, const struct scopes *scopes, const char *subnet,
                  struct err *err);
void helper_net_down(struct helper_net *net); // unless machines are on it
// `server` has become readable: it is started again.
void helper_net_mend(struct helper_net *net, const struct scopes *scopes);
// A card's interface, and its address and name made known. The descriptor, or -1 and *err.
struct helper_card {
    const char *mac, *address, *name; // checked with the request; name "": none
};
int helper_net_tap(struct helper_net *net, const struct scopes *scopes,
                   const struct helper_card *card, char interface[OS_INTERFACE_BYTES],
                   struct err *err);

// What the server knows.
struct helper_server {
    char vm_program[4096], net_program[4096]; // paths, found at the start
    struct scopes scopes;
    struct helper_net net;
};

#endif
