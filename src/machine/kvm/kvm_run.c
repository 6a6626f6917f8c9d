// SPDX-License-Identifier: Apache-2.0
//
// The run loop. Who wants the thread sets a bit in `events`, then immediate_exit in the shared page, then sends a signal. The loop clears immediate_exit
// before it looks at `events`, so that one of the three is always seen: the bit, the flag that makes the next KVM_RUN return at once, or the signal that
// ends the present one.
//
// The instruction of a port or MMIO exit is finished by the next KVM_RUN; so before anybody looks at the registers, KVM is entered once more with
// immediate_exit set, and again as long as the instruction has more to access: KVM asks for eight bytes at a time.
#define LOG_MODULE "kvm"
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "machine/device/bus.h"
#include "machine/kvm/kvm_internal.h"
#include "os/file.h"

#define LEAVE (VCPU_EVENT_PAUSE | VCPU_EVENT_STOP | VCPU_EVENT_DEBUG)

static const char *const reason_names[] = {"port", "mmio", "signal", "emulation", "other"};
_Static_assert(sizeof(reason_names) / sizeof(reason_names[0]) == KVM_REASON_COUNT,
               "a name for each reason");

// ---- Exits

static void port_access(struct vcpu *vcpu, const struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)(uintptr_t)run + run->io.data_offset;
    unsigned size = run->io.size;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint64_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, size);
            bus_write(vcpu->system->ports, run->io.port, value, size);
        } else {
            bus_read(vcpu->system->ports, run->io.port, size, &value);
            memcpy(data, &value, size);
        }
    }
}

// KVM splits what crosses a page, but not odd lengths (an unaligned access to a register): byte by byte then.
static void mmio_access(struct vcpu *vcpu, struct kvm_run *run)
{
    unsigned length = run->mmio.len, step = length & (length - 1) ? 1 : length;
    for (unsigned at = 0; at < length; at += step) {
        uint64_t value = 0;
        if (run->mmio.is_write) {
            memcpy(&value, run->mmio.data + at, step);
            bus_write(vcpu->system->mmio, run->mmio.phys_addr + at, value, step);
        } else {
            bus_read(vcpu->system->mmio, run->mmio.phys_addr + at, step, &value);
            memcpy(run->mmio.data + at, &value, step);
        }
    }
}

static enum kvm_exit_reason reason_of(const struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return KVM_REASON_PORT;
    case KVM_EXIT_MMIO:
        return KVM_REASON_MMIO;
    case KVM_EXIT_INTR:
        return KVM_REASON_SIGNAL;
    case KVM_EXIT_INTERNAL_ERROR:
        return KVM_REASON_EMULATION;
    default:
        return KVM_REASON_OTHER;
    }
}

static bool cannot_go_on(struct vcpu *vcpu, const char *why, enum vcpu_exit *exit)
{
    const struct kvm_run *run = kvm_vcpu_of(vcpu)->run;
    kvm_fetch_state(vcpu);
    log_error("vCPU %u at 0x%llx: %s (KVM exit %u, %llu)", vcpu->index,
              (unsigned long long)vcpu->state.rip, why, run->exit_reason,
              (unsigned long long)run->hw.hardware_exit_reason);
    *exit = VCPU_EXIT_HOST_FAILURE;
    return true;
}

// True: leave the run loop with *exit.
static bool handle(struct vcpu *vcpu, struct kvm_run *run, enum vcpu_exit *exit)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        port_access(vcpu, run);
        kvm->io_pending = true;
        return false;
    case KVM_EXIT_MMIO:
        mmio_access(vcpu, run);
        kvm->io_pending = true;
        return false;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        kvm_answer_msr(vcpu, run);
        kvm->io_pending = true;
        return false;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return false;
    case KVM_EXIT_DEBUG:
        return kvm_debug_exit(vcpu, exit);
    case KVM_EXIT_SHUTDOWN:
        *exit = VCPU_EXIT_SHUTDOWN;
        return true;
    case KVM_EXIT_INTERNAL_ERROR:
        if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
            return cannot_go_on(vcpu, "KVM failed inside", exit);
        return kvm_emulate_one(vcpu, exit);
    case KVM_EXIT_FAIL_ENTRY:
        return cannot_go_on(vcpu, "the CPU refused the guest's state", exit);
    default:
        return cannot_go_on(vcpu, "an exit that is not known", exit);
    }
}

// Only finishes the last exit's instruction.
static void finish_access(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    bool leave = false;
    while (kvm->io_pending && !leave) {
        kvm->io_pending = false;
        __atomic_store_n(&kvm->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        if (os_kvm_value(kvm->fd, KVM_RUN, 0) == 0)
            leave = handle(vcpu, kvm->run, exit);
    }
}

static bool enter(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    if ((kvm->dirty & KVM_DIRTY_STATE) && kvm_put_state(vcpu))
        return cannot_go_on(vcpu, "the state cannot be loaded", exit);
    int result = os_kvm_value(kvm->fd, KVM_RUN, 0);
    kvm->io_pending = false;
    if (result == -EINTR || result == -EAGAIN) {
        kvm->exits[KVM_REASON_SIGNAL]++;
        return false;
    }
    if (result < 0) {
        log_error("vCPU %u: KVM_RUN: %s", vcpu->index, strerror(-result));
        *exit = VCPU_EXIT_HOST_FAILURE;
        return true;
    }
    kvm->exits[reason_of(kvm->run)]++;
    return handle(vcpu, kvm->run, exit);
}

enum vcpu_exit kvm_run(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    enum vcpu_exit exit = VCPU_EXIT_EVENT;
    if (!atomic_load(&kvm->running)) {
        os_kvm_kick_accept();
        kvm->thread = pthread_self();
    }
    if (kvm_debug_begin(vcpu)) {
        log_error("vCPU %u: KVM does not take the debugger's wishes", vcpu->index);
        return VCPU_EXIT_HOST_FAILURE;
    }
    atomic_store(&kvm->running, true);
    do {
        __atomic_store_n(&kvm->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        atomic_fetch_and(&vcpu->events, (uint32_t)LEAVE); // the rest is the kernel's business
        if (atomic_load(&vcpu->events) & LEAVE)
            break;
    } while (!enter(vcpu, &exit));
    finish_access(vcpu, &exit);
    atomic_store(&kvm->running, false);
    if (exit != VCPU_EXIT_HOST_FAILURE && !(kvm->dirty & KVM_DIRTY_STATE) && kvm_fetch_state(vcpu))
        exit = VCPU_EXIT_HOST_FAILURE;
    return exit;
}

void kvm_kick(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    if (!(atomic_load(&vcpu->events) & LEAVE))
        return;
    __atomic_store_n(&kvm->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (atomic_load(&kvm->running))
        os_kvm_kick(kvm->thread);
}

// ---- Making

static void vcpu_fini(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    kvm_emulate_fini(vcpu);
    os_kvm_unmap_run(kvm->run, kvm_machine_of(vcpu->system)->run_bytes);
    kvm->run = NULL;
    os_file_close(&kvm->fd);
}

static int vcpu_init(struct vcpu *vcpu, struct err *err)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    const struct kvm_machine *machine = kvm_machine_of(vcpu->system);
    kvm->dirty = KVM_DIRTY_STATE | KVM_DIRTY_APIC;
    kvm->injected = -1;
    kvm->fd = os_kvm_value(machine->vm_fd, KVM_CREATE_VCPU, vcpu->index);
    if (kvm->fd < 0)
        return err_set_errno(err, -kvm->fd, "KVM cannot make vCPU %u", vcpu->index);
    kvm->run = os_kvm_map_run(kvm->fd, machine->run_bytes);
    int failed = kvm->run ? kvm_set_cpuid(vcpu, err)
                          : err_set(err, ERR_LIMIT, "vCPU %u: out of memory", vcpu->index);
    if (failed)
        vcpu_fini(vcpu);
    else
        kvm_find_msrs(vcpu);
    return failed;
}

static void state_changed(struct vcpu *vcpu)
{
    kvm_vcpu_of(vcpu)->dirty |= KVM_DIRTY_STATE;
}

static void lapic_changed(struct vcpu *vcpu)
{
    kvm_vcpu_of(vcpu)->dirty |= KVM_DIRTY_APIC;
}

static const char *exit_name(unsigned reason)
{
    return reason_names[reason];
}

static uint64_t exits(const struct vcpu *vcpu, unsigned reason)
{
    return kvm_vcpu_of(vcpu)->exits[reason];
}

static uint64_t instructions(const struct vcpu *vcpu, enum vcpu_tier tier)
{
    return tier == TIER_INTERPRETED ? kvm_vcpu_of(vcpu)->emulated : INSTRUCTIONS_NOT_COUNTED;
}

const struct vcpu_backend_ops kvm_backend = {
    .name = "kvm",
    .owns_apic = true,
    .sandbox = OS_SANDBOX_VCPU_KVM,
    .machine_init = kvm_machine_init,
    .machine_fini = kvm_machine_fini,
    .tsc_hz = kvm_tsc_hz,
    .machine_start = kvm_machine_start,
    .save_begin = kvm_fetch_chips,
    .chips_changed = kvm_put_chips,
    .resume = kvm_machine_resume,
    .interrupts = &kvm_interrupts,
    .context_bytes = sizeof(struct kvm_context),
    .vcpu_init = vcpu_init,
    .vcpu_fini = vcpu_fini,
    .run = kvm_run,
    .state_changed = state_changed,
    .lapic_changed = lapic_changed,
    .kick = kvm_kick,
    .breakpoints = KVM_BREAKPOINTS,
    .inspect = kvm_inspect,
    .exit_reasons = KVM_REASON_COUNT,
    .exit_name = exit_name,
    .exits = exits,
    .instructions = instructions,
};
