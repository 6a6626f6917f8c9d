// SPDX-License-Identifier: Apache-2.0
//
// Interrupt wiring as a device sees it: lines with a level, and messages (MSI).
//
// Behind it stands either wirt's own chips (chip/pic.h, chip/ioapic.h, cpu/lapic.h) or KVM's;
// devices do not know which. Lines 0 to 15 are the ISA interrupts, 0 to 23 the I/O APIC's inputs
// (line 0 arrives at input 2, as the MADT tells the guest). Any thread may call; levels of one line
// that several devices share are ORed by the owner of the line (pci/), not here.
#ifndef WIRT_MACHINE_DEVICE_IRQ_H
#define WIRT_MACHINE_DEVICE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

#define IRQ_LINES 24

struct irq_controller_ops {
    void (*set_line)(void *controller, unsigned line, bool level);
    void (*send_msi)(void *controller, uint64_t address, uint32_t data);
    // A route: a message that is sent often, and which the host's kernel may send by itself when its event counter is raised (route_fd()), by whomever. NULL: there
    // are none, send_msi does. route_open() returns a route or -errno (no more); route_set() says what its message is, 0 or -errno.
    int (*route_open)(void *controller);
    void (*route_close)(void *controller, int route);
    int (*route_set)(void *controller, int route, uint64_t address, uint32_t data);
    int (*route_fd)(void *controller, int route);
};

struct irq_controller {
    const struct irq_controller_ops *ops;
    void *controller;
};

struct irq_line {
    const struct irq_controller *to; // borrowed, lives as long as the machine
    unsigned line;
};

static inline void irq_set(const struct irq_line *irq, bool level)
{
    irq->to->ops->set_line(irq->to->controller, irq->line, level);
}

// An edge on a line that is configured edge-triggered.
static inline void irq_pulse(const struct irq_line *irq)
{
    irq_set(irq, true);
    irq_set(irq, false);
}

static inline void irq_send_msi(const struct irq_controller *to, uint64_t address, uint32_t data)
{
    to->ops->send_msi(to->controller, address, data);
}

#endif
