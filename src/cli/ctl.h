// SPDX-License-Identifier: Apache-2.0
//
// `wirt ctl`: what its files share. The machine opens nothing: the files that a request names are opened, locked and, where they are new, made
// here (ctl_files.c), and their descriptors go beside the request.
#ifndef WIRT_CLI_CTL_H
#define WIRT_CLI_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define CTL_FILES_MAX 72 // a disk with all that it stands on

struct ctl_files {
    int fds[CTL_FILES_MAX]; // owned
    size_t count;
    char *made; // owned: the path of a file that was made for this request; NULL: none
};

// Open what the request names, and put the descriptors' numbers into it. 0 or -1; ctl_close_files() in either case.
int ctl_open_files(int socket, json_t *request, struct ctl_files *files, struct err *err);
// With `failed`, what was made is removed.
void ctl_close_files(struct ctl_files *files, bool failed);

// Send a request and receive its answer, a new reference; NULL and *err when the machine does not answer. `files` may be NULL.
json_t *ctl_ask(int socket, json_t *request, const struct ctl_files *files, struct err *err);

// A command without members: its answer goes to standard output. -1 and *err when it was refused or nobody listens.
int ctl_send(const char *path, const char *name, struct err *err);

// `wirt ctl SOCKET console` (ctl_console.c): attaches until the machine ends or the person detaches. 0, or -1 and *err.
int ctl_console(const char *path, struct err *err);

#endif
