// SPDX-License-Identifier: Apache-2.0
//
// KVM's table of interrupt routes: the lines, wired as the machine's own chips are (chip/irqchip.h), and messages that an event counter sends (irqfd). KVM takes the
// table whole, so a copy of the messages is kept here.
#define LOG_MODULE "kvm"
#include <errno.h>
#include <stdlib.h>

#include "machine/kvm/kvm_internal.h"
#include "os/event_counter.h"
#include "os/file.h"

#define PIC_LINES   16u
#define TIMER_INPUT 2u
#define CASCADE     2u

struct table {
    uint32_t nr, flags; // as struct kvm_irq_routing, whose array has no length of its own
    struct kvm_irq_routing_entry entries[PIC_LINES + IRQ_LINES + KVM_ROUTES];
};
_Static_assert(offsetof(struct table, entries) == offsetof(struct kvm_irq_routing, entries),
               "one layout");

static void add_line(struct table *table, uint32_t line, uint32_t chip, uint32_t pin)
{
    table->entries[table->nr++] = (struct kvm_irq_routing_entry){
        .gsi = line, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {.irqchip = chip, .pin = pin}};
}

static void add_lines(struct table *table)
{
    for (unsigned line = 0; line < IRQ_LINES; line++) {
        if (line == CASCADE)
            continue;
        if (line < PIC_LINES)
            add_line(table, line, line < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                     line % 8);
        add_line(table, line, KVM_IRQCHIP_IOAPIC, line == 0 ? TIMER_INPUT : line);
    }
}

// With the lock held.
static int put_table(const struct kvm_machine *machine)
{
    struct table *table = calloc(1, sizeof(*table));
    if (!table)
        return -ENOMEM;
    add_lines(table);
    for (unsigned i = 0; i < KVM_ROUTES; i++) {
        const struct kvm_route *route = &machine->routes[i];
        if (route->fd >= 0 && route->set)
            table->entries[table->nr++] = (struct kvm_irq_routing_entry){
                .gsi = IRQ_LINES + i,
                .type = KVM_IRQ_ROUTING_MSI,
                .u.msi = {.address_lo = (uint32_t)route->address,
                          .address_hi = (uint32_t)(route->address >> 32),
                          .data = route->data},
            };
    }
    int failed = os_kvm(machine->vm_fd, KVM_SET_GSI_ROUTING, table);
    free(table);
    return failed;
}

int kvm_routes_init(struct kvm_machine *machine, struct err *err)
{
    pthread_mutex_init(&machine->route_lock, NULL);
    machine->routes = calloc(KVM_ROUTES, sizeof(*machine->routes));
    if (!machine->routes)
        return err_set(err, ERR_LIMIT, "out of memory");
    for (unsigned i = 0; i < KVM_ROUTES; i++)
        machine->routes[i].fd = -1;
    int failed = put_table(machine);
    return failed ? err_set_errno(err, -failed, "KVM does not take interrupt routes") : 0;
}

void kvm_routes_fini(struct kvm_machine *machine)
{
    for (unsigned i = 0; i < KVM_ROUTES && machine->routes; i++)
        os_file_close(&machine->routes[i].fd);
    free(machine->routes);
}

static int assign(const struct kvm_machine *machine, unsigned route, uint32_t flags)
{
    struct kvm_irqfd request = {
        .fd = (uint32_t)machine->routes[route].fd, .gsi = IRQ_LINES + route, .flags = flags};
    return os_kvm(machine->vm_fd, KVM_IRQFD, &request);
}

int kvm_route_open(void *system)
{
    struct kvm_machine *machine = kvm_machine_of(system);
    unsigned i = 0;
    int fd = os_event_counter_open();
    if (fd < 0)
        return fd;
    pthread_mutex_lock(&machine->route_lock);
    while (i < KVM_ROUTES && machine->routes[i].fd >= 0)
        i++;
    int result = i < KVM_ROUTES ? 0 : -ENOSPC;
    if (!result) {
        machine->routes[i] = (struct kvm_route){.fd = fd};
        result = assign(machine, i, 0);
        if (result)
            machine->routes[i].fd = -1;
    }
    pthread_mutex_unlock(&machine->route_lock);
    if (result)
        os_file_close(&fd);
    return result ? result : (int)i;
}

void kvm_route_close(void *system, int route)
{
    struct kvm_machine *machine = kvm_machine_of(system);
    pthread_mutex_lock(&machine->route_lock);
    assign(machine, (unsigned)route, KVM_IRQFD_FLAG_DEASSIGN);
    os_file_close(&machine->routes[route].fd);
    machine->routes[route].set = false;
    pthread_mutex_unlock(&machine->route_lock);
}

int kvm_route_set(void *system, int route, uint64_t address, uint32_t data)
{
    struct kvm_machine *machine = kvm_machine_of(system);
    pthread_mutex_lock(&machine->route_lock);
    struct kvm_route *entry = &machine->routes[route];
    entry->address = address;
    entry->data = data;
    entry->set = true;
    int failed = put_table(machine);
    pthread_mutex_unlock(&machine->route_lock);
    return failed;
}

int kvm_route_fd(void *system, int route)
{
    return kvm_machine_of(system)->routes[route].fd;
}
