// SPDX-License-Identifier: Apache-2.0
//
// The CPU's state: reset, saving and loading with the refusal of states that cannot be, kvmclock's records, and waiting for events.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/pvclock.h"
#include "machine/cpu/vcpu.h"
#include "machine/device/vm_clock.h"
#include "machine/memory/guest_memory.h"
#include "machine/state/state.h"

#define TSC_HZ 2500000000ull

static struct cpu_system machine;
static struct vcpu *vcpu;
static unsigned told; // state_changed calls

static int backend_init(struct vcpu *cpu, struct err *err)
{
    return 0;
}

static void backend_fini(struct vcpu *cpu)
{
}

static void backend_changed(struct vcpu *cpu)
{
    told++;
}

static const struct vcpu_backend_ops backend = {.name = "none",
                                                .vcpu_init = backend_init,
                                                .vcpu_fini = backend_fini,
                                                .state_changed = backend_changed};

static int set_up(void **state)
{
    struct err err = {0};

    machine = (struct cpu_system){.vcpus = &vcpu, .vcpu_count = 1, .backend = &backend};
    machine.memory = guest_memory_create(2 * MIB, -1, &err);
    machine.clock = vm_clock_create(true, TSC_HZ, NULL, NULL);
    machine.model = cpu_model_create("host", NULL, 1, TSC_HZ, NULL, &err);
    vcpu = vcpu_create(&machine, 0, &err);
    assert_non_null(vcpu);
    told = 0;
    return 0;
}

static int tear_down(void **state)
{
    vcpu_destroy(vcpu);
    cpu_model_destroy((struct cpu_model *)(uintptr_t)machine.model);
    vm_clock_destroy(machine.clock);
    guest_memory_destroy(machine.memory);
    return 0;
}

static void power_on(void **state)
{
    const struct cpu_state *cpu = &vcpu->state;

    assert_int_equal(cpu->segment[SEG_CS].base + cpu->rip, 0xFFFFFFF0);
    assert_int_equal(cpu->segment[SEG_CS].selector, 0xF000);
    assert_int_equal(cpu->cr0, 0x60000010);
    assert_int_equal(cpu->rflags, 2);
    assert_int_equal(cpu->dr6, 0xFFFF0FF0);
    assert_int_equal(cpu->dr7, 0x400);
    assert_int_equal(cpu->xcr0, 1);
    assert_int_equal(cpu->pat, 0x0007040600070406);
    assert_int_equal(cpu->pending_exception, EXC_NONE);
    assert_int_equal(load_le32(cpu->xsave + 24), 0x1F80);
    assert_int_equal(cpu_cpl(cpu), 0);
}

static void init_keeps_what_it_must(void **state)
{
    struct cpu_state *cpu = &vcpu->state;

    cpu->pat = 0x0606060606060606;
    cpu->mtrr_def_type = 0xC06;
    cpu->xsave[160] = 77; // an XMM register
    cpu->tsc_offset = 5;
    cpu->cr0 = CR0_PE | CR0_PG | CR0_CD;
    cpu->efer = EFER_LME | EFER_LMA;
    cpu->gpr[RAX] = 1;
    cpu_state_reset(cpu, true, false);
    assert_int_equal(cpu->pat, 0x0606060606060606);
    assert_int_equal(cpu->mtrr_def_type, 0xC06);
    assert_int_equal(cpu->xsave[160], 77);
    assert_int_equal(cpu->tsc_offset, 5);
    assert_int_equal(cpu->cr0, CR0_CD | CR0_ET);
    assert_int_equal(cpu->efer, 0);
    assert_int_equal(cpu->gpr[RAX], 0);
    assert_int_equal(cpu->run_state, CPU_WAIT_FOR_SIPI);
}

// A state in which each byte of each field is something else.
static void fill(struct cpu_state *cpu)
{
    for (unsigned i = 0; i < GPR_COUNT; i++)
        cpu->gpr[i] = 0x0101010101010101ull * (i + 1);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->segment[i] = (struct segment){.base = 0x1000 * i,
                                           .limit = 0xFFFF + i,
                                           .attributes = 0x93,
                                           .selector = (uint16_t)(8 * i)};
    cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET;
    cpu->cr4 = CR4_PAE | CR4_OSXSAVE;
    cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
    cpu->cr3 = 0x123000;
    cpu->xcr0 = 7;
    cpu->lstar = 0xFFFFFFFF81000000;
    cpu->kernel_gs_base = 0xFFFF888000000000;
    cpu->mtrr_mask[7] = 9;
    cpu->kvm_system_time = 0x5001;
    cpu->run_state = CPU_HALTED;
    cpu->interrupt_shadow = SHADOW_STI;
    cpu->nmi_blocked = true;
    for (unsigned i = 0; i < 512; i++)
        cpu->xsave[i] = (uint8_t)i;
    store_le32(cpu->xsave + 24, 0x1FA0);
    memset(cpu->xsave + 576, 0x5A, 256);
}

static void save_and_load(void **state)
{
    struct state_buffer buffer = {0};
    struct err err = {0};
    size_t used = 0;

    fill(&vcpu->state);
    struct cpu_state before = vcpu->state;
    assert_int_equal(state_save_device(&vcpu->device, &buffer, &err), 0);
    cpu_state_reset(&vcpu->state, false, true);
    if (state_load_device(&vcpu->device, buffer.bytes, buffer.length, &used, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(used, buffer.length);
    assert_memory_equal(&vcpu->state, &before, sizeof(before));
    assert_int_equal(told, 1);
    state_buffer_fini(&buffer);
}

// A state is changed, saved, and must not load; nor may it change anything.
static void expect_refusal(void (*change)(struct cpu_state *cpu), const char *text)
{
    struct state_buffer buffer = {0};
    struct err err = {0};
    size_t used;

    cpu_state_reset(&vcpu->state, false, true);
    fill(&vcpu->state);
    change(&vcpu->state);
    assert_int_equal(state_save_device(&vcpu->device, &buffer, &err), 0);
    cpu_state_reset(&vcpu->state, false, true);
    struct cpu_state before = vcpu->state;
    assert_int_equal(state_load_device(&vcpu->device, buffer.bytes, buffer.length, &used, &err),
                     -1);
    assert_memory_equal(&vcpu->state, &before, sizeof(before));
    if (!strstr(err.text, text))
        fail_msg("\"%s\" does not mention %s", err.text, text);
    state_buffer_fini(&buffer);
}

static void no_protection(struct cpu_state *cpu)
{
    cpu->cr0 &= ~(uint64_t)CR0_PE;
}

static void no_lme(struct cpu_state *cpu)
{
    cpu->efer &= ~(uint64_t)EFER_LME;
}

static void no_pae(struct cpu_state *cpu)
{
    cpu->cr4 &= ~(uint64_t)CR4_PAE;
}

static void vm_in_long_mode(struct cpu_state *cpu)
{
    cpu->rflags |= FLAG_VM;
}

static void bad_mxcsr(struct cpu_state *cpu)
{
    store_le32(cpu->xsave + 24, 0x10000);
}

static void bad_component(struct cpu_state *cpu)
{
    store_le64(cpu->xsave + 512, 0x207);
}

static void bad_run_state(struct cpu_state *cpu)
{
    cpu->run_state = CPU_RUN_STATE_COUNT;
}

static void bad_xcr0(struct cpu_state *cpu)
{
    cpu->xcr0 = 0x1F;
}

static void impossible_states_are_refused(void **state)
{
    expect_refusal(no_protection, "CR0");
    expect_refusal(no_lme, "EFER");
    expect_refusal(no_pae, "CR4");
    expect_refusal(vm_in_long_mode, "RFLAGS");
    expect_refusal(bad_mxcsr, "MXCSR");
    expect_refusal(bad_component, "components");
    expect_refusal(bad_run_state, "run_state");
    expect_refusal(bad_xcr0, "xcr0");
}

// ---- kvmclock ----

#define RECORD 0x5000ull

struct record {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, pad[2];
};

static struct record read_record(void)
{
    struct record record;
    assert_int_equal(guest_memory_read(machine.memory, gpa(RECORD), &record, sizeof(record)), 0);
    return record;
}

// As the guest computes it (Documentation/virt/kvm/x86/msr.rst).
static uint64_t guest_time(const struct record *record, uint64_t tsc)
{
    uint64_t delta = tsc - record->tsc_timestamp;
    delta = record->shift < 0 ? delta >> -record->shift : delta << record->shift;
    return record->system_time + (uint64_t)(((unsigned __int128)delta * record->multiplier) >> 32);
}

static uint64_t guest_tsc(void)
{
    return vm_clock_tsc(machine.clock) + vcpu->state.tsc_offset;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static void the_guest_computes_our_time(void **state)
{
    vcpu->state.tsc_offset = 123456789;
    vm_clock_advance(machine.clock, 1000000000);
    assert_true(pvclock_msr_write(vcpu, 0x4B564D01, RECORD | 1));
    struct record record = read_record();
    assert_false(record.version & 1);
    assert_true(record.version > 0);
    assert_int_equal(record.flags, 1);
    assert_true(record.multiplier >> 31);
    for (unsigned i = 0; i < 10; i++) {
        assert_in_range(distance(guest_time(&record, guest_tsc()), vm_clock_now_ns(machine.clock)),
                        0, 300); // the multiplier has 32 bits
        vm_clock_advance(machine.clock, 60000000000);
    }
    uint64_t value;
    assert_true(pvclock_msr_read(vcpu, 0x12, &value)); // the old number of the same
    assert_int_equal(value, RECORD | 1);
    uint32_t version = record.version;
    pvclock_update(vcpu);
    assert_true(read_record().version > version);
}

// The stable bit promises it: a record that another CPU asks for an hour later says the same of any instant.
static void records_of_different_ages_agree(void **state)
{
    assert_true(pvclock_msr_write(vcpu, 0x4B564D01, RECORD | 1));
    struct record first = read_record();
    vm_clock_advance(machine.clock, 3600 * 1000000000ull);
    pvclock_update(vcpu);
    struct record second = read_record();
    for (unsigned shift = 0; shift < 50; shift++) {
        uint64_t at = guest_tsc() + (1ull << shift);
        assert_int_equal(guest_time(&first, at), guest_time(&second, at));
    }
    vm_clock_pause(machine.clock);
    vm_clock_resume(machine.clock);
    pvclock_update(vcpu);
    second = read_record();
    assert_int_equal(guest_time(&second, guest_tsc()), vm_clock_now_ns(machine.clock));
}

static void init_forgets_the_record_and_the_eoi_word(void **state)
{
    assert_true(pvclock_msr_write(vcpu, 0x4B564D01, RECORD | 1));
    assert_true(pvclock_msr_write(vcpu, 0x4B564D04, RECORD | 1));
    vcpu_init_signal(vcpu);
    uint64_t value;
    assert_true(pvclock_msr_read(vcpu, 0x4B564D01, &value) && value == 0);
    assert_true(pvclock_msr_read(vcpu, 0x4B564D04, &value) && value == 0);
}

static void the_wall_clock_is_the_time_at_zero(void **state)
{
    uint32_t wall[3];

    vm_clock_advance(machine.clock, 5000000000);
    assert_true(pvclock_msr_write(vcpu, 0x4B564D00, RECORD));
    guest_memory_read(machine.memory, gpa(RECORD), wall, sizeof(wall));
    assert_false(wall[0] & 1);
    uint64_t at_zero = wall[1] * 1000000000ull + wall[2];
    assert_int_equal(at_zero + vm_clock_now_ns(machine.clock), vm_clock_wall_ns(machine.clock));
}

static void addresses_outside_memory_are_harmless(void **state)
{
    assert_true(pvclock_msr_write(vcpu, 0x4B564D01, 0xFFFFFFFFFFFFF001ull));
    assert_true(pvclock_msr_write(vcpu, 0x4B564D01, (2 * MIB - 4) | 1));
    assert_true(pvclock_msr_write(vcpu, 0x4B564D00, 1ull << 50));
    assert_false(
        pvclock_msr_write(vcpu, 0x4B564D02, 1)); // asynchronous page faults are not offered
    assert_false(pvclock_msr_write(vcpu, 0x4B564D03, 1)); // nor is steal time
}

// ---- Events ----

static void *sleeper(void *argument)
{
    vcpu_wait(vcpu);
    return NULL;
}

static void a_raised_event_wakes(void **state)
{
    for (unsigned i = 0; i < 100; i++) {
        pthread_t thread;
        atomic_store(&vcpu->events, 0);
        assert_int_equal(pthread_create(&thread, NULL, sleeper, NULL), 0);
        vcpu_raise(vcpu, VCPU_EVENT_NMI);
        pthread_join(thread, NULL);
        assert_int_equal(vcpu->asleep, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(power_on),
        TEST(init_keeps_what_it_must),
        TEST(save_and_load),
        TEST(impossible_states_are_refused),
        TEST(the_guest_computes_our_time),
        TEST(records_of_different_ages_agree),
        TEST(init_forgets_the_record_and_the_eoi_word),
        TEST(the_wall_clock_is_the_time_at_zero),
        TEST(addresses_outside_memory_are_harmless),
        TEST(a_raised_event_wakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
