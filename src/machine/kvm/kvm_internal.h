// SPDX-License-Identifier: Apache-2.0
//
// What the files of kvm/ share. Nobody else includes this.
#ifndef WIRT_MACHINE_KVM_KVM_INTERNAL_H
#define WIRT_MACHINE_KVM_KVM_INTERNAL_H

#include <stdatomic.h>

#include "machine/device/irq.h"
#include "machine/engine/engine.h"
#include "machine/kvm/kvm.h"
#include "os/kvm.h"

#define KVM_CPUID_ENTRIES 128u
#define KVM_MSRS_MAX      64u
#define KVM_ROUTES        512u // of messages; their numbers follow the lines'
#define KVM_BREAKPOINTS   4u

struct kvm_route {
    int fd; // owned: an event counter that sends the message; -1: free
    uint64_t address;
    uint32_t data;
    bool set;
};

// Why KVM_RUN came back, for --stats.
enum kvm_exit_reason {
    KVM_REASON_PORT,
    KVM_REASON_MMIO,
    KVM_REASON_SIGNAL,    // interrupted: somebody wants the thread
    KVM_REASON_EMULATION, // an instruction that KVM does not know
    KVM_REASON_OTHER,
    KVM_REASON_COUNT
};

struct kvm_machine {
    // Constant once the vCPUs run.
    int kvm_fd, vm_fd; // owned
    size_t run_bytes;
    unsigned slots; // in use, in the order of guest_memory_region()
    bool has_tsc_offset, has_x2apic_ids;
    bool can_hold_interrupts;     // while the debugger steps
    struct kvm_cpuid2 *supported; // owned: what KVM_GET_SUPPORTED_CPUID says
    // Any thread: levels of the interrupt lines as devices set them.
    _Atomic uint32_t levels;
    // Under the lock.
    pthread_mutex_t route_lock;
    struct kvm_route *routes; // owned, KVM_ROUTES of them
};

enum kvm_dirty { KVM_DIRTY_STATE = 1, KVM_DIRTY_APIC = 2 };

struct kvm_vcpu {
    int fd; // owned
    struct kvm_run *run;
    // Owned by the vCPU's thread while it runs, else by the main thread.
    unsigned dirty;  // enum kvm_dirty: the machine's form is newer than the kernel's
    bool has_tier0;  // the engine's context is made
    bool debugged;   // KVM knows breakpoints or a step
    bool passing;    // it stands on a breakpoint, and steps from there
    bool io_pending; // the exit's instruction is finished by the next KVM_RUN
    int injected; // vector of an interrupt that the kernel has acknowledged and not delivered; -1: none
    uint64_t exits[KVM_REASON_COUNT];
    uint64_t emulated;           // instructions, by tier 0
    uint32_t msrs[KVM_MSRS_MAX]; // those that this KVM has
    unsigned msr_count;
    // Any thread.
    _Atomic bool running; // `thread` is in the run loop and takes signals
    pthread_t thread;
};

// The engine's context comes first, where tier 0 looks for it. It is not touched, so it costs nothing, until KVM fails to emulate something.
struct kvm_context {
    struct engine_cpu engine;
    struct kvm_vcpu kvm __attribute__((aligned(4096)));
};

static inline struct kvm_vcpu *kvm_vcpu_of(const struct vcpu *vcpu)
{
    return &((struct kvm_context *)vcpu->backend_data)->kvm;
}

static inline struct kvm_machine *kvm_machine_of(const struct cpu_system *system)
{
    return system->backend_data;
}

// kvm_machine.c
int kvm_machine_init(struct cpu_system *system, struct err *err);
void kvm_machine_fini(struct cpu_system *system);
uint64_t kvm_tsc_hz(struct cpu_system *system);
int kvm_machine_start(struct cpu_system *system, struct err *err);
void kvm_machine_resume(struct cpu_system *system);

// kvm_cpuid.c
struct kvm_cpuid2 *kvm_supported_cpuid(int kvm_fd, struct err *err); // free() it
int kvm_set_cpuid(struct vcpu *vcpu, struct err *err);

// kvm_state.c, on the vCPU's thread or while it stands still. 0 or -errno, told in the log.
int kvm_fetch_state(struct vcpu *vcpu);
int kvm_put_state(struct vcpu *vcpu);

// kvm_msr.c
void kvm_find_msrs(struct vcpu *vcpu);
int kvm_fetch_msrs(struct vcpu *vcpu);
int kvm_put_msrs(struct vcpu *vcpu);
int kvm_filter_msrs(const struct kvm_machine *machine);
void kvm_answer_msr(struct vcpu *vcpu, struct kvm_run *run);

// kvm_apic.c
int kvm_fetch_apic(struct vcpu *vcpu);
int kvm_put_apic(struct vcpu *vcpu);
int kvm_unacknowledge(struct vcpu *vcpu);

// kvm_routes.c, kvm_chips.c
extern const struct irq_controller_ops kvm_interrupts;
int kvm_routes_init(struct kvm_machine *machine, struct err *err);
void kvm_routes_fini(struct kvm_machine *machine);
int kvm_route_open(void *system);
void kvm_route_close(void *system, int route);
int kvm_route_set(void *system, int route, uint64_t address, uint32_t data);
int kvm_route_fd(void *system, int route);
void kvm_fetch_chips(struct cpu_system *system);
void kvm_put_chips(struct cpu_system *system);

// kvm_run.c
enum vcpu_exit kvm_run(struct vcpu *vcpu);
void kvm_kick(struct vcpu *vcpu);

// kvm_emulate.c: the instruction at RIP by tier 0. `state` is fetched, and put back before the guest goes on. True: leave the run loop with *exit.
bool kvm_emulate_one(struct vcpu *vcpu, enum vcpu_exit *exit);
void kvm_emulate_fini(struct vcpu *vcpu);
bool kvm_make_tier0(struct vcpu *vcpu); // told in the log when it cannot

// kvm_debug.c: before the guest goes on; at KVM_EXIT_DEBUG, true: leave the run loop with *exit; before the debugger reads memory.
int kvm_debug_begin(struct vcpu *vcpu);
bool kvm_debug_exit(struct vcpu *vcpu, enum vcpu_exit *exit);
void kvm_inspect(struct vcpu *vcpu);

#endif
