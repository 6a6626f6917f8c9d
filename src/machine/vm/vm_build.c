// SPDX-License-Identifier: Apache-2.0
//
// From the configuration to the machine, bottom first: memory, clock, buses, CPUs, chips, devices; then what boots.
#include <stdlib.h>

#include "machine/engine/engine.h"
#include "machine/kvm/kvm.h"
#include "machine/vm/vm_console.h"
#include "machine/vm/vm_internal.h"
#include "os/clock.h"

#define DETERMINISTIC_TSC_HZ 1000000000ull // a tick an instruction

// Whoever started us has proved KVM before it was chosen, and handed /dev/kvm over.
static const struct vcpu_backend_ops *choose_backend(const struct vm_config *config)
{
    switch (config->accel) {
    case VM_ACCEL_KVM:
        return &kvm_backend;
    case VM_ACCEL_INTERPRETER:
        return &interpreter_backend;
    case VM_ACCEL_AUTO:
    case VM_ACCEL_ENGINE:
    case VM_ACCEL_COUNT:
        break;
    }
    return &engine_backend;
}

static int build_board(struct vm *vm, struct err *err)
{
    const struct vm_config *config = vm->config;
    if (!(vm->loop = os_loop_create(err)) || vm_clock_alarm_open(vm, err) ||
        !(vm->memory = guest_memory_create(config->memory_bytes, -1, err)))
        return -1;
    vm->ports = bus_create(BUS_PORT);
    vm->mmio = bus_create(BUS_MMIO);
    return vm->ports && vm->mmio ? 0 : err_set(err, ERR_LIMIT, "out of memory");
}

// A backend that lets the guest read the TSC by itself, and tells it the time in terms of it, knows its frequency best.
static int build_clock(struct vm *vm, struct err *err)
{
    const struct vm_config *config = vm->config;
    const struct vcpu_backend_ops *backend = vm->system.backend;
    vm->tsc_hz = config->deterministic ? DETERMINISTIC_TSC_HZ
                 : backend->tsc_hz     ? backend->tsc_hz(&vm->system)
                                       : 0;
    if (!vm->tsc_hz)
        vm->tsc_hz = os_clock_tsc_hz();
    vm->system.clock = vm->clock =
        vm_clock_create(config->deterministic, vm->tsc_hz, vm_clock_woken, vm);
    if (!vm->clock)
        return err_set(err, ERR_LIMIT, "out of memory");
    vm_clock_pause(vm->clock);
    return 0;
}

static int build_model(struct vm *vm, struct err *err)
{
    const struct vm_config *config = vm->config;
    struct cpu_offer *offer = NULL;
    if (config->accel == VM_ACCEL_KVM && !(offer = kvm_offer_create(config->kvm_fd, err)))
        return -1;
    vm->system.model = vm->model =
        cpu_model_create(config->cpu, NULL, config->cpus, vm->tsc_hz, offer, err);
    kvm_offer_destroy(offer);
    return vm->model ? 0 : err_wrap(err, "--cpu %s", config->cpu);
}

static int build_cpus(struct vm *vm, struct err *err)
{
    const struct vm_config *config = vm->config;
    const struct vcpu_backend_ops *backend = choose_backend(config);
    vm->system = (struct cpu_system){
        .owner = vm,
        .memory = vm->memory,
        .count_instructions = config->stats,
        .cold_runs = config->cold_runs,
        .code_cache_bytes = config->code_cache_bytes,
        .ports = vm->ports,
        .mmio = vm->mmio,
        .vcpus = vm->vcpus,
        .backend = backend,
        .accel_fd = config->kvm_fd,
    };
    if ((backend->machine_init && backend->machine_init(&vm->system, err)) ||
        build_clock(vm, err) || build_model(vm, err))
        return -1;
    for (unsigned i = 0; i < config->cpus; i++) {
        if (!(vm->vcpus[i] = vcpu_create(&vm->system, i, err)))
            return -1;
        vm->system.vcpu_count = i + 1;
    }
    return 0;
}

struct vm *vm_create(const struct vm_config *config, struct err *err)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    if (!vm) {
        err_set(err, ERR_LIMIT, "out of memory");
        return NULL;
    }
    vm->config = config;
    vm->start_ns = os_clock_monotonic_ns();
    if (config->launched_ns && config->launched_ns < vm->start_ns)
        vm->start_ns = config->launched_ns;
    vm_run_init(vm);
    if (build_board(vm, err) || build_cpus(vm, err) || vm_console_create(vm, err) ||
        vm_chips_create(vm, err) || vm_firmware_offer(vm, err) || vm_devices_create(vm, err) ||
        vm_control_create(vm, err) || vm_gdb_create(vm, err) || vm_boot_prepare(vm, err) ||
        vm_boot(vm, err)) {
        vm_destroy(vm);
        return NULL;
    }
    vm_devices_pause(vm); // until it runs
    vm_trace_start(vm);
    vm_console_start(vm);
    return vm;
}

void vm_destroy(struct vm *vm)
{
    if (!vm)
        return;
    vm_boot_finish(vm);
    vm_gdb_destroy(vm);
    vm_control_destroy(vm);
    vm_devices_destroy(vm);
    vm_console_destroy(vm);
    vm_chips_destroy(vm);
    for (unsigned i = 0; i < VM_MAX_CPUS; i++)
        vcpu_destroy(vm->vcpus[i]);
    if (vm->system.backend && vm->system.backend->machine_fini)
        vm->system.backend->machine_fini(&vm->system);
    cpu_model_destroy(vm->model);
    bus_destroy(vm->mmio);
    bus_destroy(vm->ports);
    vm_clock_destroy(vm->clock);
    guest_memory_destroy(vm->memory);
    os_alarm_close(&vm->clock_alarm);
    os_loop_destroy(vm->loop);
    pthread_mutex_destroy(&vm->clock_alarm_lock);
    pthread_cond_destroy(&vm->parked_changed);
    pthread_mutex_destroy(&vm->park_lock);
    free(vm);
}
