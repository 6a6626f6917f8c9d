// SPDX-License-Identifier: Apache-2.0
//
// Changing the configuration of a machine that runs: disks and networks are plugged and unplugged, a card's cable pulled, limits on its CPU time set at once; what else the machine was started
// with stays as it is until its next start, and is shown as pending until then.
//
// The record's member `running` is what the machine runs with. What it holds and the configuration does not, or differently, is pending.
#ifndef WIRT_NODE_GUEST_GUEST_PLUG_H
#define WIRT_NODE_GUEST_GUEST_PLUG_H

#include "node/guest/guest.h"

// guest_configure(), and then the same to the machine if it runs. A device that the guest does not let go of is an error, and nothing is
// changed. The lock is the caller's.
int guest_reconfigure(struct guests *guests, struct task *task, int64_t vmid,
                      const struct guest_change *change, struct err *err);
// The machine runs with this configuration now. At the start.
int guest_note_running(struct guests *guests, int64_t vmid, const json_t *config, struct err *err);
// The record follows what the machine itself tells of its devices. At the daemon's start.
void guest_reconcile(struct guests *guests, int64_t vmid);
// What the machine runs with, a new reference; NULL when it does not run.
json_t *guest_running_config(struct guests *guests, int64_t vmid, const json_t *record);

#endif
