// SPDX-License-Identifier: Apache-2.0
//
// What is done to many guests as one task: its status has a list of results, one for each.
#ifndef WIRT_NODE_REST_BULK_H
#define WIRT_NODE_REST_BULK_H

#include "node/rest/rest.h"

// The guests that a request means, into params["guests"]: those of the list `param`, whose permission the table asks for each, or all on which the
// caller has the privilege.
int bulk_choose(struct api_call *call, const char *param, const char *privilege, struct err *err);

// The same for `bulk_vms`, and VM.PowerMgmt.
extern const struct api_param bulk_vms[];
int bulk_choose_powered(struct api_call *call, struct err *err);

// Does it to each in turn, in what order they were named; tells how each went. -1 when one went wrong, though the others were done.
typedef int bulk_step(struct task *task, struct node *node, int64_t vmid, void *user,
                      struct err *err);
int bulk_run(struct task *task, struct node *node, const json_t *params, bulk_step *step,
             void *user, struct err *err);

#endif
