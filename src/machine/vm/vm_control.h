// SPDX-License-Identifier: Apache-2.0
//
// Commands of the control protocol that live beside what they act on.
#ifndef WIRT_MACHINE_VM_VM_CONTROL_H
#define WIRT_MACHINE_VM_VM_CONTROL_H

#include <jansson.h>

#include "machine/vm/vm.h"

// Descriptors that came beside the request, oldest first. A command that takes one over sets it to -1.
struct vm_passed {
    int *fds;
    size_t *count;
    const char *command; // its name, for handlers of several
};
// The descriptor under this member's number, which it takes; -1 and *err when none came under it.
int vm_passed_take(struct vm_passed *passed, const json_t *request, const char *member,
                   struct err *err);

// vm_devices.c. A new reference, or NULL and *err.
json_t *vm_do_plug(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err);
json_t *vm_do_unplug(struct vm *vm, const json_t *request, struct vm_passed *passed,
                     struct err *err);
// vm_disks.c
json_t *vm_do_disk_resize(struct vm *vm, const json_t *request, struct vm_passed *passed,
                          struct err *err);
json_t *vm_do_disk_limits(struct vm *vm, const json_t *request, struct vm_passed *passed,
                          struct err *err);
json_t *vm_do_net_link(struct vm *vm, const json_t *request, struct vm_passed *passed,
                       struct err *err);
json_t *vm_do_balloon(struct vm *vm, const json_t *request, struct vm_passed *passed,
                      struct err *err);

// vm_helpers.c: what the guest has told of its memory; a new reference. vm_balloon_ask() asks for it anew: false where the guest will not answer.
json_t *vm_balloon_statistics(struct vm *vm);
bool vm_balloon_ask(struct vm *vm);
// vm_control.c: the guest has told, or will not any more.
void vm_control_memory_told(struct vm *vm, bool told);

// vm_jobs.c
json_t *vm_do_disks(struct vm *vm, const json_t *request, struct vm_passed *passed,
                    struct err *err);
json_t *vm_do_disk_job(struct vm *vm, const json_t *request, struct vm_passed *passed,
                       struct err *err);
json_t *vm_do_jobs(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err);
json_t *vm_do_job_order(struct vm *vm, const json_t *request, struct vm_passed *passed,
                        struct err *err);
json_t *vm_do_bitmap_create(struct vm *vm, const json_t *request, struct vm_passed *passed,
                            struct err *err);
json_t *vm_do_bitmap_remove(struct vm *vm, const json_t *request, struct vm_passed *passed,
                            struct err *err);
json_t *vm_do_bitmap_clear(struct vm *vm, const json_t *request, struct vm_passed *passed,
                           struct err *err);
// What one may wait for: a backup holds its instant; a job has ended, or is ready.
enum vm_job_stage { VM_JOB_BEGINS, VM_JOB_HOLDS, VM_JOB_SETTLED };
// A job as `job-wait` tells it, a new reference. NULL and *err when there is none.
json_t *vm_job_status(struct vm *vm, const char *id, enum vm_job_stage *stage, struct err *err);
// vm_control.c: answers those who wait for the job to come so far.
void vm_control_job_told(struct vm *vm, const char *id, const json_t *status,
                         enum vm_job_stage stage);

#endif
