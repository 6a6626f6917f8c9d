// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "vm"
#include "machine/vm/vm_chips.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/vm/vm_console.h"
#include "machine/vm/vm_internal.h"

// ---- What chips ask of the machine.

static void on_power_off(void *context)
{
    vm_request_end(context, VM_END_POWER_OFF, 0);
}

static void on_reset(void *context)
{
    vm_request_reset(context);
}

static void on_debug_exit(void *context, uint32_t value)
{
    vm_request_end(context, VM_END_DEBUG_EXIT, value);
}

// A guest that handles its crash itself (kdump) goes on; else the machine ends where the guest's kernel did.
static void on_panicked(void *context, bool crash_handled)
{
    struct vm *vm = context;
    log_warn("the guest reported a panic%s", crash_handled ? " and handles it" : "");
    os_loop_post(vm->loop, &vm->panic_post);
    if (!crash_handled)
        vm_request_end(context, VM_END_PANIC, 0);
}

static const struct machine_events_ops events_ops = {
    .power_off = on_power_off,
    .reset = on_reset,
    .debug_exit = on_debug_exit,
    .panicked = on_panicked,
};

// The HPET's legacy replacement takes the lines of PIT and RTC over.
static void hpet_takes_lines(void *context, bool on)
{
    struct vm_chips *chips = context;
    pit_set_disconnected(chips->pit, on);
    rtc_set_disconnected(chips->rtc, on);
}

static int create_timers(struct vm *vm, struct vm_chips *chips, struct err *err)
{
    const struct irq_controller *irq = &vm->irq;
    if (!(chips->pit = pit_create(vm->ports, vm->clock, (struct irq_line){irq, 0}, err)))
        return -1;
    if (!(chips->rtc = rtc_create(vm->ports, vm->clock, (struct irq_line){irq, 8}, err)))
        return -1;
    rtc_set_memory(chips->rtc, guest_memory_low_bytes(vm->memory),
                   guest_memory_high_bytes(vm->memory));
    rtc_set_cpus(chips->rtc, vm->config->cpus);
    chips->hpet = hpet_create(vm->mmio, vm->clock, irq, hpet_takes_lines, chips, err);
    return chips->hpet ? 0 : -1;
}

static int create_others(struct vm *vm, struct vm_chips *chips, struct err *err)
{
    const struct irq_controller *irq = &vm->irq;
    struct machine_events events = {&events_ops, vm};
    struct char_backend none = {0};
    if (!(chips->acpi_pm =
              acpi_pm_create(vm->ports, vm->clock, (struct irq_line){irq, 9}, events, err)) ||
        !(chips->i8042 = i8042_create(vm->ports, (struct irq_line){irq, 1},
                                      (struct irq_line){irq, 12}, false, events, err)) ||
        !(chips->fw_cfg = fw_cfg_create(vm->ports, vm->memory, err)) ||
        !(chips->debug_ports =
              debug_ports_create(vm->ports, vm_console_debug_backend(vm), none, events, err)))
        return -1;
    chips->uart = uart_create("uart0", vm->ports, UART_COM1_PORT,
                              (struct irq_line){irq, UART_COM1_IRQ}, vm_console_backend(vm), err);
    return chips->uart ? 0 : -1;
}

int vm_chips_create(struct vm *vm, struct err *err)
{
    struct vm_chips *chips = vm->chips = calloc(1, sizeof(*chips));
    if (!chips)
        return err_set(err, ERR_LIMIT, "out of memory");
    if (!(chips->irqchip = irqchip_create(&vm->system, err)))
        return -1;
    vm->irq = *irqchip_controller(chips->irqchip);
    if (create_timers(vm, chips, err) || create_others(vm, chips, err))
        return -1;
    struct device *devices[] = {
        irqchip_pic_device(chips->irqchip),
        irqchip_ioapic_device(chips->irqchip),
        pit_device(chips->pit),
        rtc_device(chips->rtc),
        hpet_device(chips->hpet),
        acpi_pm_device(chips->acpi_pm),
        i8042_device(chips->i8042),
        fw_cfg_device(chips->fw_cfg),
        uart_device(chips->uart),
    };
    _Static_assert(ARRAY_LENGTH(devices) == VM_CHIP_DEVICES, "every chip with state");
    for (unsigned i = 0; i < VM_CHIP_DEVICES; i++)
        chips->devices[i] = devices[i];
    return 0;
}

void vm_chips_destroy(struct vm *vm)
{
    struct vm_chips *chips = vm->chips;
    if (!chips)
        return;
    uart_destroy(chips->uart);
    debug_ports_destroy(chips->debug_ports);
    fw_cfg_destroy(chips->fw_cfg);
    i8042_destroy(chips->i8042);
    acpi_pm_destroy(chips->acpi_pm);
    hpet_destroy(chips->hpet);
    rtc_destroy(chips->rtc);
    pit_destroy(chips->pit);
    irqchip_destroy(chips->irqchip);
    free(chips);
    vm->chips = NULL;
}

void vm_chips_reset(struct vm *vm)
{
    for (unsigned i = 0; i < VM_CHIP_DEVICES; i++) {
        struct device *device = vm->chips->devices[i];
        if (device->ops->reset)
            device->ops->reset(device->self);
    }
}

void vm_chips_power_button(struct vm *vm)
{
    acpi_pm_press_power_button(vm->chips->acpi_pm);
}
