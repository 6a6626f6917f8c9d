// SPDX-License-Identifier: Apache-2.0
//
// A vCPU's thread: runs its backend, sleeps while halted, and parks when the machine is paused, reset or ended.
//
// Parking: the main thread sets `park` and raises VCPU_EVENT_PAUSE; each thread leaves its backend, counts itself as parked and waits
// for `park` to fall, and longer when the debugger holds it (`held`). While all are parked the main thread may touch the CPUs' state.
#define LOG_MODULE "vcpu"
#include <stdio.h>

#include "base/log.h"
#include "machine/vm/vm_internal.h"
#include "os/clock.h"
#include "os/sandbox.h"
#include "os/thread.h"

struct thread_start {
    struct vm *vm;
    struct vcpu *vcpu;
};

// Returns false when the thread shall end.
static bool park_here(struct vm *vm, struct vcpu *vcpu)
{
    pthread_mutex_lock(&vm->park_lock);
    vm->parked++;
    pthread_cond_broadcast(&vm->parked_changed);
    while ((vm->park || vcpu->held) && !vm->finish)
        pthread_cond_wait(&vm->parked_changed, &vm->park_lock);
    vm->parked--;
    atomic_fetch_and(&vcpu->events, ~(uint32_t)VCPU_EVENT_PAUSE);
    bool go_on = !vm->finish;
    pthread_mutex_unlock(&vm->park_lock);
    return go_on;
}

// In a deterministic machine nothing happens while the CPU is halted but the next timer: time jumps there.
static void skip_to_next_timer(struct vm *vm, struct vcpu *vcpu)
{
    uint64_t deadline = vm_clock_next_deadline_ns(vm->clock);
    if (deadline == VM_CLOCK_NEVER) {
        vcpu_wait(vcpu);
        return;
    }
    uint64_t now = vm_clock_now_ns(vm->clock);
    if (deadline > now)
        vm_clock_advance(vm->clock, (deadline - now + VM_CLOCK_NS_PER_INSTRUCTION - 1) /
                                        VM_CLOCK_NS_PER_INSTRUCTION);
    vm_clock_run_timers(vm->clock);
}

static void wait_halted(struct vm *vm, struct vcpu *vcpu)
{
    if (vm_clock_is_deterministic(vm->clock) && !atomic_load(&vcpu->events))
        skip_to_next_timer(vm, vcpu);
    else
        vcpu_wait(vcpu);
}

static void handle_exit(struct vm *vm, struct vcpu *vcpu, enum vcpu_exit exit)
{
    switch (exit) {
    case VCPU_EXIT_EVENT:
    case VCPU_EXIT_LIMIT:
        break;
    case VCPU_EXIT_BREAKPOINT:
        vm_gdb_stopped(vm, vcpu);
        break;
    case VCPU_EXIT_HALT:
        wait_halted(vm, vcpu);
        break;
    case VCPU_EXIT_SHUTDOWN:
        if (vm->config->exit_on_reboot)
            vm_request_end(vm, VM_END_TRIPLE_FAULT, 0);
        else
            vm_request_reset(vm);
        break;
    case VCPU_EXIT_HOST_FAILURE:
        log_error("vCPU %u cannot go on", vcpu->index);
        vm_request_end(vm, VM_END_FAILURE, 0);
        break;
    case VCPU_EXIT_COUNT:
        break;
    }
}

static void *vcpu_main(void *argument)
{
    struct vcpu *vcpu = argument;
    struct vm *vm = vcpu->system->owner;
    struct err err;
    char name[16];
    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    os_thread_set_name(name);
    if (os_sandbox_thread(vm->system.backend->sandbox, &err)) {
        log_error("vCPU %u: %s", vcpu->index, err.text);
        vm_request_end(vm, VM_END_FAILURE, 0);
    }
    for (;;) {
        if (atomic_load(&vcpu->events) & VCPU_EVENT_PAUSE) {
            if (!park_here(vm, vcpu))
                break;
            continue;
        }
        if (!vm->system.backend->owns_apic && vcpu->state.run_state == CPU_WAIT_FOR_SIPI &&
            !atomic_load(&vcpu->events))
            vcpu_wait(vcpu);
        else
            handle_exit(vm, vcpu, vm->system.backend->run(vcpu));
    }
    return NULL;
}

int vm_threads_start(struct vm *vm, struct err *err)
{
    const struct vcpu_backend_ops *backend = vm->system.backend;
    if (backend->machine_start && backend->machine_start(&vm->system, err))
        return -1;
    vm->park = true;
    for (unsigned i = 0; i < vm->config->cpus; i++) {
        vcpu_raise(vm->vcpus[i], VCPU_EVENT_PAUSE);
        if (os_thread_start(&vm->vcpus[i]->thread, "of a vCPU", vcpu_main, vm->vcpus[i], err))
            return -1;
        vm->threads_started++;
    }
    vm_threads_park(vm);
    return 0;
}

void vm_threads_park(struct vm *vm)
{
    pthread_mutex_lock(&vm->park_lock);
    vm->park = true;
    pthread_mutex_unlock(&vm->park_lock);
    vcpu_raise_all(&vm->system, VCPU_EVENT_PAUSE);
    pthread_mutex_lock(&vm->park_lock);
    while (vm->parked < vm->threads_started)
        pthread_cond_wait(&vm->parked_changed, &vm->park_lock);
    pthread_mutex_unlock(&vm->park_lock);
}

void vm_threads_release(struct vm *vm)
{
    if (!vm->first_instruction_ns)
        vm->first_instruction_ns = os_clock_monotonic_ns() - vm->start_ns;
    if (vm->system.backend->resume)
        vm->system.backend->resume(&vm->system);
    pthread_mutex_lock(&vm->park_lock);
    vm->park = false;
    pthread_cond_broadcast(&vm->parked_changed);
    pthread_mutex_unlock(&vm->park_lock);
}

void vm_threads_finish(struct vm *vm)
{
    vm_threads_park(vm);
    pthread_mutex_lock(&vm->park_lock);
    vm->finish = true;
    pthread_cond_broadcast(&vm->parked_changed);
    pthread_mutex_unlock(&vm->park_lock);
    for (unsigned i = 0; i < vm->threads_started; i++)
        pthread_join(vm->vcpus[i]->thread, NULL);
    vm->threads_started = 0;
}
