// SPDX-License-Identifier: Apache-2.0
//
// The PC's chips: what all of them share.
//
// Each chip is an opaque struct with X_create(), X_destroy() (NULL is fine) and X_device(), whose
// field table saves and loads it. Creating one registers its ports or MMIO on the buses; destroying
// it takes them off, which waits for handlers that run. X_create() returns NULL and fills *err.
//
// Threads and locks. A chip has a mutex of its own, taken in its bus handlers, timer callbacks and
// calls. With it held it may raise interrupt lines; nothing else outside is called with it. Lock
// order: chip, interrupt controller (pic, ioapic), local APIC. Reset, save and load happen while
// the vCPUs are paused. The order of destruction: vCPUs stop, the chips, the interrupt controllers,
// clock and buses last.
#ifndef WIRT_MACHINE_CHIP_CHIP_H
#define WIRT_MACHINE_CHIP_CHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/device/bus.h"
#include "machine/device/device.h"
#include "machine/device/irq.h"
#include "machine/device/vm_clock.h"

// What chips tell the machine. Called on a vCPU's thread inside an access, without the chip's lock.
// The machine notes the wish, makes the vCPUs leave their loops, and acts on its own thread. NULL:
// the wish is ignored.
struct machine_events_ops {
    void (*power_off)(void *context); // ACPI S5
    void (*reset)(void *context);     // port 0xCF9, port 0x92, the keyboard controller
    void (*debug_exit)(void *context, uint32_t value); // port 0xF4
    void (*panicked)(
        void *context,
        bool crash_handled); // pvpanic; crash_handled: the guest will dump and reboot itself
};

struct machine_events {
    const struct machine_events_ops *ops;
    void *context;
};

#endif
