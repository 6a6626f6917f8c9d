// SPDX-License-Identifier: Apache-2.0
//
// wirtd, put together: what it owns is made here in order and taken apart in the opposite one; the folders above know nothing of each other but
// through what this gives them.
//
// In the state directory: `lock` (held while wirtd runs), `helper.lock` (while its helper does), store.db, auth.key, cert.pem and key.pem, audit.log, tasks/, run/, storage/local/.
#ifndef WIRT_NODE_DAEMON_DAEMON_H
#define WIRT_NODE_DAEMON_DAEMON_H

#include <stdbool.h>

#include "base/err.h"

struct daemon_options {
    const char *state;   // folder
    const char *address; // NULL: all
    int port;
    const char *socket;            // NULL: STATE/wirtd.sock
    const char *certificate, *key; // NULL: STATE/cert.pem, STATE/key.pem
    const char *web;               // folder of the page, or NULL
    const char *accel;             // for machines
    const char *node;              // name, or NULL: the host's
    bool check_replies;
};
// Runs until a signal asks it to end. 0, or -1 and *err when it could not start.
int daemon_run(const struct daemon_options *options, struct err *err);

// `wirt init`: makes the first administrator, in the state directory while nobody runs on it, else by asking who does.
int daemon_init(const char *state, const char *socket, const char *admin, const char *password,
                struct err *err);
// Asks the wirtd of the state directory to shut all guests down and waits for it: before the machine itself goes down.
int daemon_stop_guests(const char *state, const char *socket, struct err *err);
// The folder that is meant when none is named: /var/lib/wirt for root, else below the user's data.
void daemon_default_state(char *path, unsigned long size);

#endif
