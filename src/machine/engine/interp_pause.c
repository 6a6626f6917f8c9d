// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: PAUSE, by which a guest says that it spins.
//
// What it waits for is another vCPU's to do, which may want this very CPU of the host. A lock's holder is through after some hundred nanoseconds, and
// as long this vCPU spins too. After that its thread lets others go first; and when the guest still spins after many such turns, somebody who does not run
// is waited for, and the thread sleeps for moments, until an event at the latest. Generated code counts the pauses down (translate_system.c).
#include "machine/device/vm_clock.h"
#include "machine/engine/interp_handlers.h"
#include "os/thread.h"

#define PAUSES   256 // some microseconds
#define YIELDS   8
#define REST_NS  50000u
#define APART_NS 100000u // what spins once now and then does not spin for long

int interp_pause(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct spin *spin = &engine_cpu_of(vcpu)->spin;
    if (spin->pauses_left > 0) {
        spin->pauses_left--;
        return INTERP_DONE;
    }
    uint64_t now_ns = vm_clock_now_ns(vcpu->system->clock);
    spin->pauses_left = PAUSES;
    spin->yields = now_ns - spin->last_ns < APART_NS ? spin->yields + 1 : 0;
    if (spin->yields > YIELDS && vcpu->system->vcpu_count > 1)
        vcpu_rest(vcpu, REST_NS);
    else
        os_thread_yield();
    spin->last_ns = vm_clock_now_ns(vcpu->system->clock);
    return INTERP_DONE;
}
