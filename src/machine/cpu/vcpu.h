// SPDX-License-Identifier: Apache-2.0
//
// A virtual CPU: its architectural state, its local APIC, its thread, and the events that others send it.
//
// Threads. `state` belongs to the vCPU's thread while it runs; others may touch it only after vcpu_pause() has
// returned (or before the thread is started). Everything that other threads do to a vCPU goes through `events`,
// an atomic word: vcpu_raise() sets bits and makes the CPU look soon: the engine polls the word at block boundaries,
// a halted vCPU waits on it with a futex. The engine's translated code addresses `events` through GS, so it stands in the engine's
// context; the pointer here leads to it.
#ifndef WIRT_MACHINE_CPU_VCPU_H
#define WIRT_MACHINE_CPU_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "machine/cpu/cpu_state.h"
#include "machine/device/device.h"
#include "machine/device/irq.h"
#include "os/sandbox.h"

struct bus;
struct cpu_model;
struct cpu_system;
struct guest_memory;
struct lapic;
struct vcpu;
struct vm_clock;

enum vcpu_event {
    VCPU_EVENT_INTERRUPT =
        1 << 0, // the LAPIC or the PIC may have a vector: ask vcpu_pending_interrupt()
    VCPU_EVENT_NMI = 1 << 1,
    VCPU_EVENT_INIT = 1 << 2,
    VCPU_EVENT_SIPI = 1 << 3,
    VCPU_EVENT_PAUSE = 1 << 4,     // leave the run loop until vcpu_resume()
    VCPU_EVENT_STOP = 1 << 5,      // leave for good
    VCPU_EVENT_TLB_FLUSH = 1 << 6, // drop all soft TLB entries
    VCPU_EVENT_CODE =
        1 << 7, // the engine's: a page got its first translation, or translations were dropped
    VCPU_EVENT_DEBUG = 1 << 8, // the debugger has changed what it watches
};

// Why a backend's run() returned.
enum vcpu_exit {
    VCPU_EXIT_EVENT,      // events pending that the generic loop handles (pause, stop, INIT, SIPI)
    VCPU_EXIT_HALT,       // HLT (or MWAIT): state.run_state is CPU_HALTED
    VCPU_EXIT_SHUTDOWN,   // triple fault
    VCPU_EXIT_BREAKPOINT, // of the debugger, or a single step done
    VCPU_EXIT_LIMIT,      // the instruction budget is used up (deterministic runs, lockstep)
    VCPU_EXIT_HOST_FAILURE, // the backend cannot go on; the reason was logged
    VCPU_EXIT_COUNT
};

// What a backend counts for --stats. Where nobody asked for it before the start (cpu_system.count_instructions), a tier may not be counted.
enum vcpu_tier { TIER_INTERPRETED, TIER_TRANSLATED, TIER_COUNT };
#define INSTRUCTIONS_NOT_COUNTED UINT64_MAX

// A way to execute vCPUs; the machine around it does not know which it has. NULL: nothing to do. `vcpu->backend_data` is the backend's per vCPU,
// `system->backend_data` per machine.
struct vcpu_backend_ops {
    const char *name; // "interpreter", "engine", "kvm"
    // Local APICs, the paravirtual clock and waiting (HLT, for a SIPI) are the backend's; what cpu/ has of them holds what is saved.
    bool owns_apic;
    enum os_sandbox_thread sandbox; // what the vCPUs' threads may call

    // ---- The machine, on the main thread.
    // Before clock, CPU model and vCPUs are made; `accel_fd` of the system is taken over.
    int (*machine_init)(struct cpu_system *system, struct err *err);
    void (*machine_fini)(struct cpu_system *system); // after the vCPUs have gone
    uint64_t (*tsc_hz)(
        struct cpu_system
            *system); // what the guest's TSC counts in a second; 0 or NULL: to be measured
    // All memory is there; before the first vCPU's thread is started.
    int (*machine_start)(struct cpu_system *system, struct err *err);
    // The vCPUs stand still. save_begin: bring the state of interrupt controllers that the backend keeps into the machine's own.
    // chips_changed: that was reset or loaded. resume: they are about to go on.
    void (*save_begin)(struct cpu_system *system);
    void (*chips_changed)(struct cpu_system *system);
    void (*resume)(struct cpu_system *system);
    // Interrupt controllers of the backend's own; the system is their `controller`. NULL: the machine's chips, which raise VCPU_EVENT_INTERRUPT.
    const struct irq_controller_ops *interrupts;

    // ---- A vCPU.
    size_t
        context_bytes; // vcpu_create() places this many zeroed bytes, 64-byte aligned, in the same block as struct
                       // vcpu, right behind it (VCPU_CONTEXT_OFFSET), and sets backend_data to them
    int (*vcpu_init)(struct vcpu *vcpu, struct err *err);
    void (*vcpu_fini)(struct vcpu *vcpu);
    // Runs guest code until there is something for the caller. On the vCPU's thread; `state` is up to date on return.
    enum vcpu_exit (*run)(struct vcpu *vcpu);
    // `state` was changed from outside while stopped (load, debugger, INIT): caches derived from it are stale.
    void (*state_changed)(struct vcpu *vcpu);
    void (*lapic_changed)(struct vcpu *vcpu); // likewise the local APIC (load, reset)
    // Make a running vcpu notice its events soon. Any thread. NULL: it polls.
    void (*kick)(struct vcpu *vcpu);

    // ---- The debugger. How many breakpoints there may be at a time, and no watches then; 0: as many as it likes. inspect: it is about to read memory through the vCPU's page
    // tables, which the engine does (engine/mmu.h). While the vCPU stands still.
    unsigned breakpoints;
    void (*inspect)(struct vcpu *vcpu);

    // ---- Counters of a vCPU: exits by reason, and the instructions that a tier of the engine has executed.
    unsigned exit_reasons;
    const char *(*exit_name)(unsigned reason);
    uint64_t (*exits)(const struct vcpu *vcpu, unsigned reason);
    uint64_t (*instructions)(const struct vcpu *vcpu, enum vcpu_tier tier);
};

// What all vCPUs of a machine share. Filled in by vm/ before the vCPUs are made; borrowed pointers.
struct cpu_system {
    void *owner; // the machine, for its own threads
    struct guest_memory *memory;
    struct bus *ports;
    struct bus *mmio;
    struct vm_clock *clock;
    const struct cpu_model *model;
    struct vcpu **vcpus;
    unsigned vcpu_count;
    const struct vcpu_backend_ops *backend;
    void *backend_data;        // the backend's per-machine part
    int accel_fd;              // /dev/kvm for the backend that needs it
    bool count_instructions;   // for --stats, where counting costs something
    unsigned cold_runs;        // how often the engine interprets code before it translates it
    uint32_t code_cache_bytes; // of the engine's translations; 0: as it likes
    // The legacy PIC, asked by the bootstrap CPU when LINT0 is ExtINT: next vector or -1; acknowledging.
    int (*pic_vector)(void *pic);
    bool (*pic_pending)(void *pic);
    void *pic;
    // The I/O APIC hears of the end of a level-triggered interrupt.
    void (*eoi)(void *context, uint8_t vector);
    void *eoi_context;
};

// Data that the debugger watches: an access stops the CPU behind the instruction that made it.
struct vcpu_watch {
    uint64_t start, length; // linear addresses; length 0: none
    bool read, write;
};

struct vcpu {
    struct cpu_state state;
    struct lapic *lapic; // owned
    struct cpu_system *system;
    unsigned index; // and initial APIC id
    _Atomic uint32_t events;
    _Atomic uint32_t asleep; // waiting in vcpu_wait()
    void *backend_data;
    struct device device; // saves `state`
    char name[16];        // "cpu0"
    pthread_t thread;

    // Debugger and deterministic runs: owned by the vCPU's thread, changed while it is paused.
    bool single_step;
    bool held; // stays parked when the machine goes on
    unsigned breakpoint_count;
    unsigned watch_count;
    const struct vcpu_watch *watches; // raise VCPU_EVENT_DEBUG when they have changed
    struct vcpu_watch watch_hit;      // which of them run() has stopped for
    uint64_t
        instruction_limit; // run() returns VCPU_EXIT_LIMIT when `instructions` reaches it; UINT64_MAX: none
    _Atomic uint64_t
        instructions; // retired in all (exact with --deterministic, else per tier and approximate)
    const uint64_t *breakpoints; // linear addresses, sorted
};

// Where the backend's context starts, from the start of struct vcpu: the engine reaches both through one GS base.
#define VCPU_CONTEXT_OFFSET ((sizeof(struct vcpu) + 63) & ~63ull)

struct vcpu *vcpu_create(struct cpu_system *system, unsigned index, struct err *err);
void vcpu_destroy(struct vcpu *vcpu);

// `state` was changed from outside while the vCPU does not run: tells the backend.
void vcpu_state_changed(struct vcpu *vcpu);
void vcpu_lapic_changed(struct vcpu *vcpu); // likewise

// Guest time stood still while the TSC went on (the machine was paused), or the guest's TSC was written: its time record and the APIC's timer follow. While
// the vCPU does not run, or on its thread.
void vcpu_clock_resumed(struct vcpu *vcpu);

// Set event bits and make the vCPU look. Any thread.
void vcpu_raise(struct vcpu *vcpu, uint32_t events);
void vcpu_raise_all(struct cpu_system *system, uint32_t events);

// On the vCPU's thread, halted: returns when any event bit is set.
void vcpu_wait(struct vcpu *vcpu);
// Likewise, or when so many nanoseconds have passed; less than a second.
void vcpu_rest(struct vcpu *vcpu, uint32_t ns);

// On the vCPU's thread, for backends: INIT and SIPI as events ask for them. startup: false when the CPU does not wait for one.
void vcpu_init_signal(struct vcpu *vcpu);
bool vcpu_startup_signal(struct vcpu *vcpu);

// On the vCPU's thread: is there a vector to deliver now (priority above TPR and in-service)? Does not look at IF.
bool vcpu_interrupt_pending(struct vcpu *vcpu);
// Acknowledge it (LAPIC IRR to ISR, or PIC INTA): the vector, or -1 when it has gone.
int vcpu_interrupt_acknowledge(struct vcpu *vcpu);

#endif
