// SPDX-License-Identifier: Apache-2.0
//
// Waiting for a node's task.
#ifndef WIRT_CLIENT_TASK_H
#define WIRT_CLIENT_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "client/client.h"

// Told about once a second, and at each new line of the task's log (NULL between lines). `done` is 0 to 1, or negative when it is not known.
typedef void client_task_tell(void *user, const char *line, double seconds, double done);

// Waits until the task has ended; its exit status, when that is not OK, is the error. `upid` names the node.
int client_task_wait(struct client *client, const char *upid, client_task_tell *tell, void *user,
                     struct err *err);

// "UPID:NODE:…": the node's name; false when it is none.
bool client_task_node(const char *upid, char *node, size_t size);

#endif
