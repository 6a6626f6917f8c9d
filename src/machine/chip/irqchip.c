// SPDX-License-Identifier: Apache-2.0
//
// Wiring only: which line goes where, and what carries the messages.
#include "machine/chip/irqchip.h"

#include <errno.h>
#include <stdlib.h>

#include "machine/chip/ioapic.h"
#include "machine/chip/pic.h"
#include "machine/cpu/vcpu.h"

#define PIC_LINES    16u
#define TIMER_LINE   0u
#define CASCADE_LINE 2u
#define TIMER_INPUT  2u

struct irqchip {
    struct cpu_system *system; // borrowed
    struct pic *pic;
    struct ioapic *ioapic;
    struct irq_controller controller;
};

static void set_line(void *context, unsigned line, bool level)
{
    struct irqchip *irqchip = context;
    if (line == CASCADE_LINE)
        return;
    if (line < PIC_LINES)
        pic_set_line(irqchip->pic, line, level);
    ioapic_set_line(irqchip->ioapic, line == TIMER_LINE ? TIMER_INPUT : line, level);
}

static void send_msi(void *context, uint64_t address, uint32_t data)
{
    struct irqchip *irqchip = context;
    apic_bus_send_msi(irqchip->system, address, data);
}

// The backend's own controllers, wired the same way; the chips here hold what is saved of them.
static void set_backend_line(void *context, unsigned line, bool level)
{
    struct irqchip *irqchip = context;
    if (line != CASCADE_LINE)
        irqchip->system->backend->interrupts->set_line(irqchip->system, line, level);
}

static void send_backend_msi(void *context, uint64_t address, uint32_t data)
{
    struct irqchip *irqchip = context;
    irqchip->system->backend->interrupts->send_msi(irqchip->system, address, data);
}

static int open_backend_route(void *context)
{
    struct irqchip *irqchip = context;
    const struct irq_controller_ops *ops = irqchip->system->backend->interrupts;
    return ops->route_open ? ops->route_open(irqchip->system) : -ENOSYS;
}

static void close_backend_route(void *context, int route)
{
    struct irqchip *irqchip = context;
    irqchip->system->backend->interrupts->route_close(irqchip->system, route);
}

static int set_backend_route(void *context, int route, uint64_t address, uint32_t data)
{
    struct irqchip *irqchip = context;
    return irqchip->system->backend->interrupts->route_set(irqchip->system, route, address, data);
}

static int backend_route_fd(void *context, int route)
{
    struct irqchip *irqchip = context;
    return irqchip->system->backend->interrupts->route_fd(irqchip->system, route);
}

static const struct irq_controller_ops backend_controller_ops = {
    .set_line = set_backend_line,
    .send_msi = send_backend_msi,
    .route_open = open_backend_route,
    .route_close = close_backend_route,
    .route_set = set_backend_route,
    .route_fd = backend_route_fd,
};
static const struct irq_controller_ops controller_ops = {.set_line = set_line,
                                                         .send_msi = send_msi};

// The bootstrap CPU's LINT0 is where INTR is wired to.
static void pic_changed(void *context, bool level)
{
    struct irqchip *irqchip = context;
    if (level && irqchip->system->vcpu_count)
        vcpu_raise(irqchip->system->vcpus[0], VCPU_EVENT_INTERRUPT);
}

static void send(void *context, const struct apic_message *message)
{
    struct irqchip *irqchip = context;
    apic_bus_send(irqchip->system, NULL, message);
}

struct irqchip *irqchip_create(struct cpu_system *system, struct err *err)
{
    struct irqchip *irqchip = calloc(1, sizeof(*irqchip));
    if (!irqchip) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    irqchip->system = system;
    bool own = !system->backend || !system->backend->interrupts;
    irqchip->controller =
        (struct irq_controller){own ? &controller_ops : &backend_controller_ops, irqchip};
    irqchip->pic = pic_create(system->ports, pic_changed, irqchip, err);
    irqchip->ioapic = irqchip->pic ? ioapic_create(system->mmio, send, irqchip, err) : NULL;
    if (!irqchip->ioapic) {
        irqchip_destroy(irqchip);
        return NULL;
    }
    system->pic = irqchip->pic;
    system->pic_vector = pic_acknowledge;
    system->pic_pending = pic_pending;
    system->eoi = ioapic_eoi;
    system->eoi_context = irqchip->ioapic;
    return irqchip;
}

void irqchip_destroy(struct irqchip *irqchip)
{
    if (!irqchip)
        return;
    ioapic_destroy(irqchip->ioapic);
    pic_destroy(irqchip->pic);
    free(irqchip);
}

const struct irq_controller *irqchip_controller(struct irqchip *irqchip)
{
    return &irqchip->controller;
}

struct device *irqchip_pic_device(struct irqchip *irqchip)
{
    return pic_device(irqchip->pic);
}

struct device *irqchip_ioapic_device(struct irqchip *irqchip)
{
    return ioapic_device(irqchip->ioapic);
}
