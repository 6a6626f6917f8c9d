// SPDX-License-Identifier: Apache-2.0
//
// Is KVM here fit to run a kernel? Many hosts answer every capability and cannot: paravirtual hosts, nested ones that are too slow or wrong. A guest of a few
// instructions (probe_guest.S) does what a kernel needs, in a process of its own; it has 200 ms of processor time, then it is killed, and no answer is an answer.
//
// The verdict holds for this boot, kernel and CPU (os/kvm.h) and is kept in a file of the user's own, so that later starts pay one read. A file that
// anybody else could have written is not believed.
#ifndef WIRT_MACHINE_KVM_KVM_PROBE_H
#define WIRT_MACHINE_KVM_KVM_PROBE_H

#include <stdbool.h>
#include <stddef.h>

#define KVM_PROBE_LIMIT_MS 200

struct kvm_verdict {
    bool usable;
    char text[256]; // why, as the end of a sentence: "KVM is not usable: …"
};

// The verdict, remembered or made anew. `fresh`: do not believe what is remembered.
void kvm_probe(bool fresh, struct kvm_verdict *verdict);

#endif
