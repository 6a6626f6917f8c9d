// SPDX-License-Identifier: Apache-2.0
//
// The kernel's PIC and I/O APIC. Lines are wired as the machine's own chips are (chip/irqchip.h): line n to input n of both, the PIT's line 0 to
// input 2 of the I/O APIC. The levels that devices drive are kept here too, because KVM does not give them back.
#define LOG_MODULE "kvm"
#include "base/bits.h"
#include "base/log.h"
#include "machine/chip/ioapic.h"
#include "machine/chip/pic.h"
#include "machine/kvm/kvm_internal.h"

#define TIMER_INPUT 2u
#define CASCADE     2u

static void set_line(void *controller, unsigned line, bool level)
{
    struct cpu_system *system = controller;
    struct kvm_machine *machine = kvm_machine_of(system);
    struct kvm_irq_level request = {.irq = line, .level = level};
    if (level)
        atomic_fetch_or(&machine->levels, 1u << line);
    else
        atomic_fetch_and(&machine->levels, ~(1u << line));
    os_kvm(machine->vm_fd, KVM_IRQ_LINE, &request);
}

static void send_msi(void *controller, uint64_t address, uint32_t data)
{
    struct cpu_system *system = controller;
    struct kvm_msi message = {
        .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
    if (os_kvm(kvm_machine_of(system)->vm_fd, KVM_SIGNAL_MSI, &message) < 0)
        log_guest("a message signalled interrupt to 0x%llx with 0x%x went nowhere",
                  (unsigned long long)address, data);
}

const struct irq_controller_ops kvm_interrupts = {
    .set_line = set_line,
    .send_msi = send_msi,
    .route_open = kvm_route_open,
    .route_close = kvm_route_close,
    .route_set = kvm_route_set,
    .route_fd = kvm_route_fd,
};

// ---- Saved state

static void fetch_pic(const struct kvm_machine *machine, struct pic *pic, unsigned which)
{
    struct kvm_irqchip chip = {.chip_id = which ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER};
    if (os_kvm(machine->vm_fd, KVM_GET_IRQCHIP, &chip))
        return;
    const struct kvm_pic_state *from = &chip.chip.pic;
    struct pic_registers to = {
        .lines = (uint8_t)(machine->levels >> 8 * which),
        .irr = from->irr,
        .isr = from->isr,
        .imr = from->imr,
        .elcr = from->elcr,
        .vector_base = from->irq_base,
        .lowest = (from->priority_add + 7) & 7,
        .step = from->init_state,
        .wants_icw4 = from->init4,
        .read_isr = from->read_reg_select,
        .poll = from->poll,
        .special_mask = from->special_mask,
        .auto_eoi = from->auto_eoi,
        .rotate_on_auto_eoi = from->rotate_on_auto_eoi,
        .special_fully_nested = from->special_fully_nested_mode,
    };
    pic_set_registers(pic, which, &to);
}

static void put_pic(const struct kvm_machine *machine, struct pic *pic, unsigned which)
{
    struct pic_registers from;
    pic_get_registers(pic, which, &from);
    struct kvm_irqchip chip = {
        .chip_id = which ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER,
        .chip.pic =
            {
                .last_irr = from.lines,
                .irr = from.irr,
                .imr = from.imr,
                .isr = from.isr,
                .priority_add = (from.lowest + 1) & 7,
                .irq_base = from.vector_base,
                .read_reg_select = from.read_isr,
                .poll = from.poll,
                .special_mask = from.special_mask,
                .init_state = from.step,
                .auto_eoi = from.auto_eoi,
                .rotate_on_auto_eoi = from.rotate_on_auto_eoi,
                .special_fully_nested_mode = from.special_fully_nested,
                .init4 = from.wants_icw4,
                .elcr = from.elcr,
                .elcr_mask = from.elcr_mask,
            },
    };
    if (os_kvm(machine->vm_fd, KVM_SET_IRQCHIP, &chip))
        log_warn("KVM does not take the PIC's state");
}

static void fetch_ioapic(const struct kvm_machine *machine, struct ioapic *ioapic)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    if (os_kvm(machine->vm_fd, KVM_GET_IRQCHIP, &chip))
        return;
    struct ioapic_registers to = {
        .select = chip.chip.ioapic.ioregsel & 0xFF,
        .id = (chip.chip.ioapic.id & 0xF) << 24,
        .levels = ioapic_levels_of_lines(machine->levels),
    };
    for (unsigned i = 0; i < IOAPIC_INPUTS; i++)
        to.entries[i] = chip.chip.ioapic.redirtbl[i].bits;
    ioapic_set_registers(ioapic, &to);
}

// KVM remembers edges that came while an input was masked; the machine's I/O APIC forgets them: only levels are handed over.
static void put_ioapic(const struct kvm_machine *machine, struct ioapic *ioapic)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct ioapic_registers from;
    ioapic_get_registers(ioapic, &from);
    chip.chip.ioapic.base_address = 0xFEC00000;
    chip.chip.ioapic.ioregsel = from.select;
    chip.chip.ioapic.id = from.id >> 24;
    for (unsigned i = 0; i < IOAPIC_INPUTS; i++) {
        chip.chip.ioapic.redirtbl[i].bits = from.entries[i];
        if (chip.chip.ioapic.redirtbl[i].fields.trig_mode && from.levels >> i & 1)
            chip.chip.ioapic.irr |= 1u << i;
    }
    if (os_kvm(machine->vm_fd, KVM_SET_IRQCHIP, &chip))
        log_warn("KVM does not take the I/O APIC's state");
}

void kvm_fetch_chips(struct cpu_system *system)
{
    const struct kvm_machine *machine = kvm_machine_of(system);
    fetch_pic(machine, system->pic, 0);
    fetch_pic(machine, system->pic, 1);
    fetch_ioapic(machine, system->eoi_context);
    for (unsigned i = 0; i < system->vcpu_count; i++)
        if (!(kvm_vcpu_of(system->vcpus[i])->dirty & KVM_DIRTY_APIC) &&
            !kvm_unacknowledge(system->vcpus[i]))
            kvm_fetch_apic(system->vcpus[i]);
}

// The levels come from the chips, which have them saved; the kernel hears of each anew.
void kvm_put_chips(struct cpu_system *system)
{
    struct kvm_machine *machine = kvm_machine_of(system);
    struct ioapic_registers ioapic;
    ioapic_get_registers(system->eoi_context, &ioapic);
    uint32_t levels = ioapic_lines_of_levels(ioapic.levels);
    put_pic(machine, system->pic, 0);
    put_pic(machine, system->pic, 1);
    put_ioapic(machine, system->eoi_context);
    for (unsigned line = 0; line < IRQ_LINES; line++) {
        struct kvm_irq_level request = {.irq = line, .level = levels >> line & 1};
        bool edge = !(ioapic.entries[line == 0 ? TIMER_INPUT : line] & BIT(15));
        // An edge-triggered line that is high has been seen: saying so again would be another edge.
        if (line != CASCADE && !(edge && request.level))
            os_kvm(machine->vm_fd, KVM_IRQ_LINE, &request);
    }
    machine->levels = levels;
    for (unsigned i = 0; i < system->vcpu_count; i++)
        kvm_vcpu_of(system->vcpus[i])->injected = -1; // of what was there before
}
