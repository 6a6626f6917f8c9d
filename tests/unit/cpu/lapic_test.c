// SPDX-License-Identifier: Apache-2.0
//
// The local APIC on a deterministic clock, four CPUs without a backend: priorities, end of interrupt, timer modes, who receives a message,
// the modes of IA32_APIC_BASE, paravirtual EOI.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/lapic.h"
#include "machine/cpu/vcpu.h"
#include "machine/device/vm_clock.h"
#include "machine/memory/guest_memory.h"

#define CPUS   4
#define TSC_HZ 2000000000ull // two ticks a nanosecond

#define APIC_ID      0x20
#define APIC_TPR     0x80
#define APIC_PPR     0xA0
#define APIC_EOI     0xB0
#define APIC_LDR     0xD0
#define APIC_DFR     0xE0
#define APIC_SVR     0xF0
#define APIC_ISR     0x100
#define APIC_IRR     0x200
#define APIC_ESR     0x280
#define APIC_ICR     0x300
#define APIC_ICR2    0x310
#define APIC_LVTT    0x320
#define APIC_LINT0   0x350
#define APIC_INITIAL 0x380
#define APIC_CURRENT 0x390
#define APIC_DIVIDE  0x3E0

#define LVT_MASKED   0x10000u
#define PERIODIC     0x20000u
#define TSC_DEADLINE 0x40000u
#define DIVIDE_BY_1  0xBu
#define DIVIDE_BY_16 0x3u

#define MSR_BASE     0x1B
#define MSR_DEADLINE 0x6E0
#define BASE_ENABLE  0x800u
#define BASE_X2APIC  0x400u

static struct {
    struct cpu_system system;
    struct vcpu *vcpus[CPUS];
    int eoi_vector; // of the last broadcast, -1 none
} m;

static int vcpu_init(struct vcpu *vcpu, struct err *err)
{
    return 0;
}

static void vcpu_fini(struct vcpu *vcpu)
{
}

static const struct vcpu_backend_ops no_backend = {
    .name = "none", .vcpu_init = vcpu_init, .vcpu_fini = vcpu_fini};

static void eoi(void *context, uint8_t vector)
{
    m.eoi_vector = vector;
}

static struct lapic *lapic(unsigned i)
{
    return m.vcpus[i]->lapic;
}

static void set_up_machine(void)
{
    struct err err = {0};

    memset(&m, 0, sizeof(m));
    m.eoi_vector = -1;
    m.system = (struct cpu_system){
        .vcpus = m.vcpus, .vcpu_count = CPUS, .backend = &no_backend, .eoi = eoi};
    m.system.memory = guest_memory_create(2 * MIB, -1, &err);
    m.system.clock = vm_clock_create(true, TSC_HZ, NULL, NULL);
    m.system.model = cpu_model_create("x86-64", NULL, CPUS, TSC_HZ, NULL, &err);
    assert_non_null(m.system.model);
    for (unsigned i = 0; i < CPUS; i++) {
        m.vcpus[i] = vcpu_create(&m.system, i, &err);
        assert_non_null(m.vcpus[i]);
        lapic_mmio_write(lapic(i), APIC_SVR, 0x1FF);
        m.vcpus[i]->events = 0;
    }
}

static int set_up(void **state)
{
    set_up_machine();
    return 0;
}

static int tear_down(void **state)
{
    for (unsigned i = 0; i < CPUS; i++)
        vcpu_destroy(m.vcpus[i]);
    cpu_model_destroy((struct cpu_model *)(uintptr_t)m.system.model);
    vm_clock_destroy(m.system.clock);
    guest_memory_destroy(m.system.memory);
    return 0;
}

static uint32_t get(uint32_t offset)
{
    return lapic_mmio_read(lapic(0), offset);
}

static void set(uint32_t offset, uint32_t value)
{
    lapic_mmio_write(lapic(0), offset, value);
}

static void interrupt(unsigned cpu, uint8_t vector, bool level)
{
    const struct apic_message message = {
        .vector = vector, .level_triggered = level, .level_asserted = true};
    lapic_accept(lapic(cpu), &message);
}

static void advance_ns(uint64_t ns)
{
    vm_clock_advance(m.system.clock, ns / VM_CLOCK_NS_PER_INSTRUCTION);
    vm_clock_run_timers(m.system.clock);
}

// Did the CPU get this vector (and nothing else before)? Ends it.
static bool took(unsigned cpu, int vector)
{
    if (lapic_pending_vector(lapic(cpu)) != vector || lapic_acknowledge(lapic(cpu)) != vector)
        return false;
    lapic_mmio_write(lapic(cpu), APIC_EOI, 0);
    return true;
}

static void highest_vector_first(void **state)
{
    interrupt(0, 0x31, false);
    interrupt(0, 0x92, false);
    interrupt(0, 0x45, false);
    assert_true(m.vcpus[0]->events & VCPU_EVENT_INTERRUPT);
    assert_int_equal(get(APIC_IRR + 0x40), 1u << (0x92 - 0x80));
    assert_true(took(0, 0x92));
    assert_true(took(0, 0x45));
    assert_true(took(0, 0x31));
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    assert_int_equal(lapic_acknowledge(lapic(0)), -1);
}

static void only_a_higher_class_nests(void **state)
{
    interrupt(0, 0x51, false);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x51);
    assert_int_equal(get(APIC_PPR), 0x50);
    interrupt(0, 0x5F, false); // the same class waits
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    interrupt(0, 0x60, false);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x60);
    assert_int_equal(get(APIC_ISR + 0x20), 1u << 17);
    assert_int_equal(get(APIC_ISR + 0x30), 1u << 0);
    m.vcpus[0]->events = 0;
    set(APIC_EOI, 0); // ends 0x60
    assert_int_equal(get(APIC_ISR + 0x30), 0);
    set(APIC_EOI, 0);                                       // ends 0x51
    assert_true(m.vcpus[0]->events & VCPU_EVENT_INTERRUPT); // somebody must look again
    assert_true(took(0, 0x5F));
}

static void task_priority_holds_back(void **state)
{
    set(APIC_TPR, 0x45);
    assert_int_equal(lapic_get_tpr(lapic(0)), 4);
    interrupt(0, 0x4F, false);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    interrupt(0, 0x50, false);
    assert_int_equal(lapic_pending_vector(lapic(0)), 0x50);
    assert_true(took(0, 0x50));
    m.vcpus[0]->events = 0;
    lapic_set_tpr(lapic(0), 3);
    assert_true(m.vcpus[0]->events & VCPU_EVENT_INTERRUPT);
    assert_int_equal(get(APIC_TPR), 0x30);
    assert_true(took(0, 0x4F));
}

static void eoi_is_broadcast_for_levels_only(void **state)
{
    interrupt(0, 0x40, false);
    assert_true(took(0, 0x40));
    assert_int_equal(m.eoi_vector, -1);
    interrupt(0, 0x40, true);
    assert_true(took(0, 0x40));
    assert_int_equal(m.eoi_vector, 0x40);
    m.eoi_vector = -1;
    set(APIC_EOI, 0); // nothing in service
    assert_int_equal(m.eoi_vector, -1);
}

static void a_disabled_apic_takes_nothing(void **state)
{
    set(APIC_LVTT, 0x40);
    set(APIC_SVR, 0xFF);
    assert_true(get(APIC_LVTT) & LVT_MASKED);
    set(APIC_LVTT, 0x40);
    assert_true(get(APIC_LVTT) & LVT_MASKED);
    interrupt(0, 0x40, false);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
}

static void illegal_vectors_are_errors(void **state)
{
    set(APIC_ICR, 0x0400Fu & ~0xF0u); // vector 15 to itself by id 0
    assert_int_equal(get(APIC_ESR), 0);
    set(APIC_ESR, 0);
    assert_int_equal(get(APIC_ESR), 0x20);
    set(APIC_ESR, 0);
    assert_int_equal(get(APIC_ESR), 0);
    interrupt(0, 5, false);
    set(APIC_ESR, 0);
    assert_int_equal(get(APIC_ESR), 0x40);
}

// ---- Timer ----

static void one_shot(void **state)
{
    set(APIC_DIVIDE, DIVIDE_BY_16);
    set(APIC_LVTT, 0x40);
    set(APIC_INITIAL, 1000);
    assert_int_equal(get(APIC_CURRENT), 1000);
    advance_ns(8000);
    assert_int_equal(get(APIC_CURRENT), 500);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    advance_ns(7999);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    advance_ns(1);
    assert_true(took(0, 0x40));
    assert_int_equal(get(APIC_CURRENT), 0);
    advance_ns(100000);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
}

static void periodic(void **state)
{
    set(APIC_DIVIDE, DIVIDE_BY_1);
    set(APIC_LVTT, 0x41 | PERIODIC);
    set(APIC_INITIAL, 100000);
    for (unsigned i = 0; i < 5; i++) {
        advance_ns(99999);
        assert_int_equal(lapic_pending_vector(lapic(0)), -1);
        advance_ns(1);
        assert_true(took(0, 0x41));
        assert_int_equal(get(APIC_CURRENT), 100000);
    }
    advance_ns(350000); // three and a half periods at once are one interrupt
    assert_true(took(0, 0x41));
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    advance_ns(50000);
    assert_true(took(0, 0x41));
    set(APIC_INITIAL, 0);
    advance_ns(1000000);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
}

static void the_shortest_period_does_not_hang_the_host(void **state)
{
    set(APIC_DIVIDE, DIVIDE_BY_1);
    set(APIC_LVTT, 0x41 | PERIODIC);
    set(APIC_INITIAL, 1);
    advance_ns(1000);
    assert_true(took(0, 0x41));
    assert_true(vm_clock_next_deadline_ns(m.system.clock) >=
                vm_clock_now_ns(m.system.clock) + 10000);
}

static void a_masked_timer_counts_in_silence(void **state)
{
    set(APIC_DIVIDE, DIVIDE_BY_1);
    set(APIC_LVTT, 0x40 | LVT_MASKED);
    set(APIC_INITIAL, 1000);
    advance_ns(400);
    assert_int_equal(get(APIC_CURRENT), 600);
    advance_ns(1000);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
}

static void tsc_deadline(void **state)
{
    uint64_t value, now = vm_clock_tsc(m.system.clock);

    assert_true(lapic_msr_write(lapic(0), MSR_DEADLINE, now + 1000)); // ignored in another mode
    assert_true(lapic_msr_read(lapic(0), MSR_DEADLINE, &value));
    assert_int_equal(value, 0);
    set(APIC_LVTT, 0x42 | TSC_DEADLINE);
    set(APIC_INITIAL, 500);
    assert_int_equal(get(APIC_INITIAL), 0);
    lapic_msr_write(lapic(0), MSR_DEADLINE, now + 1000);
    lapic_msr_read(lapic(0), MSR_DEADLINE, &value);
    assert_int_equal(value, now + 1000);
    advance_ns(499);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    advance_ns(1);
    assert_true(took(0, 0x42));
    lapic_msr_read(lapic(0), MSR_DEADLINE, &value);
    assert_int_equal(value, 0);
    lapic_msr_write(lapic(0), MSR_DEADLINE, now + 1); // in the past: at once
    advance_ns(0);
    assert_true(took(0, 0x42));
    lapic_msr_write(lapic(0), MSR_DEADLINE, now + 100000);
    lapic_msr_write(lapic(0), MSR_DEADLINE, 0); // disarms
    advance_ns(1000000);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
}

static void tsc_deadline_follows_the_offset(void **state)
{
    m.vcpus[0]->state.tsc_offset = (uint64_t)-1000000; // the guest's TSC is behind
    advance_ns(1000000);
    set(APIC_LVTT, 0x42 | TSC_DEADLINE);
    uint64_t now = vm_clock_tsc(m.system.clock) - 1000000;
    lapic_msr_write(lapic(0), MSR_DEADLINE, now + 2000);
    advance_ns(999);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    advance_ns(1);
    assert_true(took(0, 0x42));
}

// ---- Messages ----

// Which CPUs have the vector pending, as a bit mask; clears them.
static unsigned receivers(uint8_t vector)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < CPUS; i++)
        mask |= took(i, vector) ? 1u << i : 0;
    return mask;
}

static void send(uint32_t destination, uint32_t low)
{
    set(APIC_ICR2, destination << 24);
    set(APIC_ICR, low);
}

static void physical_destinations(void **state)
{
    send(2, 0x40);
    assert_int_equal(receivers(0x40), 1 << 2);
    send(0xFF, 0x40);
    assert_int_equal(receivers(0x40), 15);
    send(9, 0x40);
    assert_int_equal(receivers(0x40), 0);
    lapic_mmio_write(lapic(3), APIC_ID, 9u << 24);
    send(9, 0x40);
    assert_int_equal(receivers(0x40), 1 << 3);
}

static void shorthands(void **state)
{
    send(3, 0x40 | 1 << 18);
    assert_int_equal(receivers(0x40), 1 << 0);
    send(3, 0x40 | 2 << 18);
    assert_int_equal(receivers(0x40), 15);
    send(3, 0x40 | 3 << 18);
    assert_int_equal(receivers(0x40), 14);
}

static void flat_logical_destinations(void **state)
{
    for (unsigned i = 0; i < CPUS; i++)
        lapic_mmio_write(lapic(i), APIC_LDR, 1u << (24 + i));
    send(6, 0x40 | 1 << 11);
    assert_int_equal(receivers(0x40), 6);
    send(0xFF, 0x40 | 1 << 11);
    assert_int_equal(receivers(0x40), 15);
}

static void cluster_logical_destinations(void **state)
{
    for (unsigned i = 0; i < CPUS; i++) {
        lapic_mmio_write(lapic(i), APIC_DFR, 0);
        lapic_mmio_write(lapic(i), APIC_LDR, (i / 2) << 28 | 1u << (24 + i % 2));
    }
    send(0x13, 0x40 | 1 << 11);
    assert_int_equal(receivers(0x40), 12);
    send(0x01, 0x40 | 1 << 11);
    assert_int_equal(receivers(0x40), 1);
    send(0xF2, 0x40 | 1 << 11); // every cluster
    assert_int_equal(receivers(0x40), 10);
}

static void lowest_priority_is_one_receiver(void **state)
{
    for (unsigned i = 0; i < CPUS; i++)
        lapic_mmio_write(lapic(i), APIC_TPR, i == 2 ? 0x10 : 0x20);
    send(0xFF, 0x40 | 1 << 8);
    assert_int_equal(receivers(0x40), 4);
    lapic_mmio_write(lapic(2), APIC_SVR, 0xFF); // switched off, it cannot be the one
    send(0xFF, 0x40 | 1 << 8);
    unsigned mask = receivers(0x40);
    assert_true(is_power_of_two(mask) && mask != 4);
}

static void nmi_init_and_sipi_are_events(void **state)
{
    send(1, 4 << 8);
    assert_int_equal(m.vcpus[1]->events, VCPU_EVENT_NMI);
    send(2, 5 << 8 | 1 << 14);
    assert_int_equal(m.vcpus[2]->events, VCPU_EVENT_INIT);
    send(3, 5 << 8 | 1 << 15); // the level de-assert does nothing
    assert_int_equal(m.vcpus[3]->events, 0);
    send(3, 6 << 8 | 0x9A);
    assert_int_equal(m.vcpus[3]->events, VCPU_EVENT_SIPI);
    assert_int_equal(m.vcpus[3]->state.run_state, CPU_WAIT_FOR_SIPI);
    assert_true(vcpu_startup_signal(m.vcpus[3]));
    assert_int_equal(m.vcpus[3]->state.segment[SEG_CS].base, 0x9A000);
    assert_int_equal(m.vcpus[3]->state.segment[SEG_CS].selector, 0x9A00);
    assert_int_equal(m.vcpus[3]->state.run_state, CPU_RUNNING);
    assert_false(vcpu_startup_signal(m.vcpus[3])); // the second SIPI of the usual pair
}

static void msis_go_where_their_address_says(void **state)
{
    apic_bus_send_msi(&m.system, 0xFEE01000, 0x4055);
    assert_int_equal(receivers(0x55), 1 << 1);
    apic_bus_send_msi(&m.system, 0xFEE03000, 0xC056); // level
    assert_int_equal(receivers(0x56), 1 << 3);
    assert_int_equal(m.eoi_vector, 0x56);
    apic_bus_send_msi(&m.system, 0xFED01000, 0x4055);
    apic_bus_send_msi(&m.system, 0x1FEE01000, 0x4055);
    assert_int_equal(receivers(0x55), 0);
}

// ---- Modes ----

static bool write_base(uint64_t mode)
{
    return lapic_msr_write(lapic(0), MSR_BASE, APIC_DEFAULT_BASE | 0x100 | mode);
}

static void mode_changes(void **state)
{
    uint64_t value;

    assert_false(lapic_msr_read(lapic(0), 0x802, &value)); // not in xAPIC mode
    assert_false(write_base(BASE_X2APIC));
    assert_true(write_base(BASE_ENABLE | BASE_X2APIC));
    assert_true(lapic_msr_read(lapic(0), 0x802, &value));
    assert_false(lapic_answers_at(lapic(0), APIC_DEFAULT_BASE));
    assert_false(write_base(BASE_ENABLE));
    assert_true(write_base(0));
    assert_false(write_base(BASE_ENABLE | BASE_X2APIC));
    assert_true(lapic_accepts_pic(lapic(0)));
    assert_true(write_base(BASE_ENABLE));
    assert_true(lapic_answers_at(lapic(0), APIC_DEFAULT_BASE));
    assert_false(lapic_msr_write(lapic(0), MSR_BASE, 1ull << 45 | BASE_ENABLE));
    assert_true(lapic_msr_write(lapic(0), MSR_BASE, 0x80000000ull | BASE_ENABLE));
    assert_true(lapic_answers_at(lapic(0), 0x80000000));
}

static void x2apic_registers(void **state)
{
    uint64_t value;

    for (unsigned i = 0; i < CPUS; i++)
        assert_true(
            lapic_msr_write(lapic(i), MSR_BASE, APIC_DEFAULT_BASE | BASE_ENABLE | BASE_X2APIC));
    assert_true(lapic_msr_read(lapic(2), 0x802, &value));
    assert_int_equal(value, 2);
    assert_true(lapic_msr_read(lapic(2), 0x80D, &value));
    assert_int_equal(value, 1 << 2);
    assert_true(lapic_msr_write(lapic(0), 0x830, 3ull << 32 | 0x40)); // physical
    assert_int_equal(receivers(0x40), 8); // its EOI by MMIO is not heard in this mode
    assert_int_equal(lapic_pending_vector(lapic(3)), -1);
    assert_true(lapic_msr_read(lapic(3), 0x812, &value));
    assert_int_equal(value, 1);
    assert_true(lapic_msr_write(lapic(3), 0x80B, 0));
    assert_false(lapic_msr_write(lapic(3), 0x80B, 1));
    assert_true(
        lapic_msr_write(lapic(0), 0x830, 0xAull << 32 | 1 << 11 | 0x41)); // logical: 1 and 3
    assert_int_equal(lapic_pending_vector(lapic(1)), 0x41);
    assert_int_equal(lapic_pending_vector(lapic(2)), -1);
    assert_int_equal(lapic_pending_vector(lapic(3)), 0x41);
    assert_true(lapic_msr_write(lapic(2), 0x83F, 0x77)); // to itself
    assert_int_equal(lapic_pending_vector(lapic(2)), 0x77);
    assert_false(lapic_msr_write(lapic(0), 0x80D, 1));     // LDR is read-only
    assert_false(lapic_msr_write(lapic(0), 0x80E, 1));     // DFR is gone
    assert_false(lapic_msr_read(lapic(0), 0x83F, &value)); // write-only
    assert_false(lapic_msr_write(lapic(0), 0x808, 1ull << 32));
}

// ---- Paravirtual EOI ----

#define EOI_WORD 0x5000ull

static uint32_t eoi_word(void)
{
    uint32_t word = 0;
    guest_memory_read(m.system.memory, gpa(EOI_WORD), &word, 4);
    return word;
}

static void clear_eoi_word(void)
{
    uint32_t word = 0;
    guest_memory_write(m.system.memory, gpa(EOI_WORD), &word, 4);
}

static void paravirtual_eoi(void **state)
{
    m.vcpus[0]->state.kvm_eoi = EOI_WORD | 1;
    interrupt(0, 0x40, false);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x40);
    assert_int_equal(eoi_word(), 1);
    clear_eoi_word(); // the guest's EOI
    interrupt(0, 0x41, false);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x41); // the same class: 0x40 must be over
    assert_int_equal(get(APIC_ISR + 0x20), 2);
}

// A vCPU looks for interrupts between the delivery and the handler's end: what it finds then must leave the offer alone.
static void paravirtual_eoi_stays_offered_while_nothing_waits(void **state)
{
    m.vcpus[0]->state.kvm_eoi = EOI_WORD | 1;
    interrupt(0, 0x40, false);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x40);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    assert_int_equal(eoi_word(), 1);
}

static void paravirtual_eoi_is_taken_back_when_the_word_moves(void **state)
{
    m.vcpus[0]->state.kvm_eoi = EOI_WORD | 1;
    interrupt(0, 0x40, false);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x40);
    lapic_eoi_word_moves(lapic(0));
    assert_int_equal(eoi_word(), 0);
    m.vcpus[0]->state.kvm_eoi = (EOI_WORD + 64) | 1;
    assert_int_equal(get(APIC_ISR + 0x20), 1); // not ended by the other word, which is clear
}

static void paravirtual_eoi_is_not_offered_for_levels(void **state)
{
    m.vcpus[0]->state.kvm_eoi = EOI_WORD | 1;
    interrupt(0, 0x40, true);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x40);
    assert_int_equal(eoi_word(), 0);
}

static void paravirtual_eoi_is_taken_back_when_something_waits(void **state)
{
    m.vcpus[0]->state.kvm_eoi = EOI_WORD | 1;
    interrupt(0, 0x40, false);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x40);
    interrupt(0, 0x41, false);
    assert_int_equal(lapic_pending_vector(lapic(0)), -1);
    assert_int_equal(eoi_word(), 0); // so the guest writes the register
    m.vcpus[0]->events = 0;
    set(APIC_EOI, 0);
    assert_true(m.vcpus[0]->events & VCPU_EVENT_INTERRUPT);
    assert_int_equal(lapic_acknowledge(lapic(0)), 0x41);
}

static void a_bad_eoi_address_harms_nobody(void **state)
{
    m.vcpus[0]->state.kvm_eoi = 0xFFFFFFFFFFFFF001ull;
    interrupt(0, 0x40, false);
    assert_true(took(0, 0x40));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(highest_vector_first),
        TEST(only_a_higher_class_nests),
        TEST(task_priority_holds_back),
        TEST(eoi_is_broadcast_for_levels_only),
        TEST(a_disabled_apic_takes_nothing),
        TEST(illegal_vectors_are_errors),
        TEST(one_shot),
        TEST(periodic),
        TEST(the_shortest_period_does_not_hang_the_host),
        TEST(a_masked_timer_counts_in_silence),
        TEST(tsc_deadline),
        TEST(tsc_deadline_follows_the_offset),
        TEST(physical_destinations),
        TEST(shorthands),
        TEST(flat_logical_destinations),
        TEST(cluster_logical_destinations),
        TEST(lowest_priority_is_one_receiver),
        TEST(nmi_init_and_sipi_are_events),
        TEST(msis_go_where_their_address_says),
        TEST(mode_changes),
        TEST(x2apic_registers),
        TEST(paravirtual_eoi),
        TEST(paravirtual_eoi_stays_offered_while_nothing_waits),
        TEST(paravirtual_eoi_is_taken_back_when_the_word_moves),
        TEST(paravirtual_eoi_is_not_offered_for_levels),
        TEST(paravirtual_eoi_is_taken_back_when_something_waits),
        TEST(a_bad_eoi_address_harms_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
