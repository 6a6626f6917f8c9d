// SPDX-License-Identifier: Apache-2.0
//
// The machine's parts, for the files of this folder.
#ifndef WIRT_MACHINE_VM_VM_INTERNAL_H
#define WIRT_MACHINE_VM_VM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "machine/cpu/cpu_model.h"
#include "machine/cpu/lapic.h"
#include "machine/cpu/vcpu.h"
#include "machine/device/bus.h"
#include "machine/device/irq.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/trace.h"
#include "machine/memory/guest_memory.h"
#include "machine/vm/vm.h"
#include "os/alarm.h"
#include "os/loop.h"

struct vm_chips;
struct vm_console;
struct vm_control;
struct vm_devices;
struct vm_gdb;
struct vm_job;
struct vm_remote;

struct vm {
    // Constant once built.
    const struct vm_config *config; // borrowed
    struct os_loop *loop;           // owned, as all below
    struct guest_memory *memory;
    struct bus *ports, *mmio;
    struct vm_clock *clock;
    struct cpu_model *model;
    struct cpu_system system;
    struct engine_trace trace;
    struct vcpu *vcpus[VM_MAX_CPUS];
    struct irq_controller irq;
    struct vm_chips *chips;
    struct vm_devices *devices;
    struct vm_console *console;
    struct vm_control *control;
    struct vm_gdb *gdb; // NULL without --gdb
    uint8_t *tables;    // ACPI, for a kernel that is started without firmware
    size_t tables_bytes;
    size_t firmware_low_bytes; // of it below 1 MiB; 0: not loaded
    uint64_t tsc_hz;
    uint64_t start_ns; // host monotonic, when the machine was launched

    // Main thread.
    struct vm_job *jobs;       // owned: the newest first
    unsigned job_number;       // of the next
    struct vm_remote *remotes; // owned
    enum vm_state state;
    struct os_loop_timer timeout_timer;
    struct os_loop_post request_post;
    unsigned threads_started;
    uint64_t first_instruction_ns; // after start_ns; 0: none yet

    // Any thread.
    struct os_loop_post panic_post; // to the main loop: the guest's kernel reported a panic
    atomic_uint requests;           // enum vm_request
    _Atomic enum vm_end end;
    atomic_uint debug_value;
    _Atomic uint64_t first_output_ns;
    struct os_alarm clock_alarm;      // at the clock's next deadline; set under its lock
    pthread_mutex_t clock_alarm_lock; // before the clock's own

    // Parking of vCPU threads; under park_lock.
    pthread_mutex_t park_lock;
    pthread_cond_t parked_changed; // a thread parked, or may go on
    unsigned parked;
    bool park;   // threads shall park
    bool finish; // threads shall end
};

// vm_run.c
void vm_run_init(struct vm *vm);
int vm_clock_alarm_open(struct vm *vm, struct err *err);
void vm_clock_woken(void *vm); // vm_clock_wake

// vcpu_thread.c
int vm_threads_start(struct vm *vm, struct err *err); // they park at once
void vm_threads_park(struct vm *vm);                  // returns when all are parked
void vm_threads_release(struct vm *vm);
void vm_threads_finish(struct vm *vm); // and joins them

// vm_chips.c: the fixed chips of a PC.
int vm_chips_create(struct vm *vm, struct err *err);
void vm_chips_destroy(struct vm *vm);
void vm_chips_reset(struct vm *vm);
void vm_chips_power_button(struct vm *vm);

// vm_devices.c: PCI and what is plugged into it.
int vm_devices_create(struct vm *vm, struct err *err);
void vm_devices_destroy(struct vm *vm);
void vm_devices_reset(struct vm *vm);
void vm_devices_assign(struct vm *vm);
void vm_devices_pause(struct vm *vm);
void vm_devices_resume(struct vm *vm);
json_t *vm_devices_statistics(struct vm *vm, const char *kind); // a list, a new reference

// vm_boot.c: what is the same at each reset (ACPI tables) is made once.
int vm_boot_prepare(struct vm *vm, struct err *err);
void vm_boot_finish(struct vm *vm);
// Put kernel or firmware into memory and the bootstrap CPU at its start; again at each reset.
int vm_boot(struct vm *vm, struct err *err);

// vm_firmware.c: tell fw_cfg about the machine, once; put the firmware into memory, at each reset.
int vm_firmware_offer(struct vm *vm, struct err *err);
int vm_firmware_load(struct vm *vm, struct err *err);

// vm_gdb.c: --gdb; nothing without it.
int vm_gdb_create(struct vm *vm, struct err *err);
void vm_gdb_destroy(struct vm *vm);
void vm_gdb_stopped(struct vm *vm, struct vcpu *vcpu); // on the vCPU's thread, which parks next

// vm_trace.c: --trace, to standard error.
void vm_trace_start(struct vm *vm);

// vm_console.c
int vm_console_create(struct vm *vm, struct err *err);
void vm_console_destroy(struct vm *vm);

// vm_control.c
int vm_control_create(struct vm *vm, struct err *err);
void vm_control_destroy(struct vm *vm);
// Tell every connection; `members` is stolen and may be NULL. Main thread.
void vm_control_event(struct vm *vm, const char *event, json_t *members);

#endif
