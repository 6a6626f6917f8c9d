// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "kvm"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/device/bus.h"
#include "machine/device/vm_clock.h"
#include "machine/kvm/kvm_internal.h"
#include "machine/memory/guest_memory.h"
#include "os/file.h"

// Two places between the BARs and the firmware that Intel's KVM wants for its own: a page table and a task state of real mode.
#define IDENTITY_MAP 0xFEFFC000ull
#define TSS_PAGES    0xFEFFD000ull

// Writes of any length and value to the address raise the event counter. A failure costs an exit for each notification, no more.
static void set_doorbell(void *context, uint64_t address, int fd, bool on)
{
    const struct kvm_machine *machine = kvm_machine_of(context);
    struct kvm_ioeventfd bell = {
        .addr = address, .fd = fd, .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};
    int failed = os_kvm(machine->vm_fd, KVM_IOEVENTFD, &bell);
    if (failed && on)
        log_debug("no doorbell at 0x%llx: %s", (unsigned long long)address, strerror(-failed));
}

static int enable(const struct kvm_machine *machine, uint32_t capability, uint64_t argument)
{
    struct kvm_enable_cap cap = {.cap = capability, .args = {argument}};
    return os_kvm(machine->vm_fd, KVM_ENABLE_CAP, &cap);
}

static int create_vm(struct kvm_machine *machine, struct err *err)
{
    uint64_t identity = IDENTITY_MAP;
    int fd = os_kvm_create_vm(machine->kvm_fd);
    if (fd < 0)
        return err_set_errno(err, -fd, "KVM cannot make a virtual machine");
    machine->vm_fd = fd;
    // Only Intel's has these two.
    os_kvm(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    os_kvm_value(fd, KVM_SET_TSS_ADDR, TSS_PAGES);
    int failed = os_kvm_value(fd, KVM_CREATE_IRQCHIP, 0);
    if (failed)
        return err_set_errno(err, -failed, "KVM cannot make interrupt controllers");
    // Also for user code, which an older KVM gives #UD instead.
    enable(machine, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
    machine->has_x2apic_ids = !enable(machine, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS);
    machine->can_hold_interrupts =
        os_kvm_value(fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ;
    failed = kvm_filter_msrs(machine);
    if (failed)
        return err_set_errno(err, -failed, "KVM does not take the MSR filter");
    return kvm_routes_init(machine, err);
}

int kvm_machine_init(struct cpu_system *system, struct err *err)
{
    struct kvm_machine *machine = calloc(1, sizeof(*machine));
    if (!machine) {
        os_file_close(&system->accel_fd);
        return err_set(err, ERR_LIMIT, "out of memory");
    }
    machine->kvm_fd = system->accel_fd;
    machine->vm_fd = -1;
    system->accel_fd = -1;
    system->backend_data = machine;
    if (kvm_check_capabilities(machine->kvm_fd, err))
        return -1;
    int bytes = os_kvm_value(machine->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes < (int)sizeof(struct kvm_run))
        return err_set(err, ERR_HOST, "KVM does not tell the size of a vCPU's page");
    machine->run_bytes = (size_t)bytes;
    machine->supported = kvm_supported_cpuid(machine->kvm_fd, err);
    if (!machine->supported)
        return -1;
    os_kvm_kick_prepare();
    bus_set_doorbells(system->mmio, set_doorbell, system);
    return create_vm(machine, err);
}

void kvm_machine_fini(struct cpu_system *system)
{
    struct kvm_machine *machine = system->backend_data;
    if (!machine)
        return;
    guest_memory_set_dirty_source(system->memory, NULL, NULL);
    kvm_routes_fini(machine);
    os_file_close(&machine->vm_fd);
    os_file_close(&machine->kvm_fd);
    free(machine->supported);
    free(machine);
    system->backend_data = NULL;
}

// The kernel scales the guest's clock by this: measured anew it would be another, and the guest would see its clocks drift apart. Older kernels than 5.16 do not
// tell.
uint64_t kvm_tsc_hz(struct cpu_system *system)
{
    int khz = os_kvm_value(kvm_machine_of(system)->vm_fd, KVM_GET_TSC_KHZ, 0);
    return khz > 0 ? (uint64_t)khz * 1000 : 0;
}

static int set_slot(const struct kvm_machine *machine, unsigned slot,
                    const struct guest_region *region, bool log)
{
    struct kvm_userspace_memory_region memory = {
        .slot = slot,
        .flags = region->rom ? KVM_MEM_READONLY
                 : log       ? KVM_MEM_LOG_DIRTY_PAGES
                             : 0,
        .guest_phys_addr = region->start.at,
        .memory_size = region->length,
        .userspace_addr = (uint64_t)(uintptr_t)region->host,
    };
    return os_kvm(machine->vm_fd, KVM_SET_USER_MEMORY_REGION, &memory);
}

// ---- Dirty tracking: the slots of RAM are logged while it is on.

static int track_dirty(void *context, bool on)
{
    struct cpu_system *system = context;
    const struct kvm_machine *machine = kvm_machine_of(system);
    struct guest_region region;
    int failed = 0;
    for (unsigned i = 0; i < machine->slots && guest_memory_region(system->memory, i, &region); i++)
        if (!region.rom && !failed)
            failed = set_slot(machine, i, &region, on);
    return failed;
}

// The log of a slot starts at a multiple of 64 pages of RAM's order: low RAM ends at a whole MiB.
static int collect_dirty(void *context, uint64_t *bitmap)
{
    struct cpu_system *system = context;
    const struct kvm_machine *machine = kvm_machine_of(system);
    struct guest_region region;
    for (unsigned i = 0; i < machine->slots && guest_memory_region(system->memory, i, &region);
         i++) {
        if (region.rom)
            continue;
        size_t words = align_up(region.length >> PAGE_SHIFT, 64) / 64;
        uint64_t *log = calloc(words, sizeof(*log));
        struct kvm_dirty_log request = {.slot = i, .dirty_bitmap = log};
        int failed = log ? os_kvm(machine->vm_fd, KVM_GET_DIRTY_LOG, &request) : -ENOMEM;
        assert((region.ram_offset >> PAGE_SHIFT) % 64 == 0);
        for (size_t w = 0; w < words && !failed; w++)
            bitmap[(region.ram_offset >> PAGE_SHIFT) / 64 + w] |= log[w];
        free(log);
        if (failed)
            return failed;
    }
    return 0;
}

static const struct guest_dirty_ops dirty_ops = {track_dirty, collect_dirty};

int kvm_machine_start(struct cpu_system *system, struct err *err)
{
    struct kvm_machine *machine = kvm_machine_of(system);
    struct guest_region region;
    bool log = guest_memory_tracks_dirty(system->memory);
    for (unsigned i = machine->slots; guest_memory_region(system->memory, i, &region); i++) {
        int failed = set_slot(machine, i, &region, log);
        if (failed)
            return err_set_errno(err, -failed, "KVM does not take guest memory at 0x%llx",
                                 (unsigned long long)region.start.at);
        machine->slots = i + 1;
    }
    guest_memory_set_dirty_source(system->memory, &dirty_ops, system);
    return 0;
}

// The guest's clock goes on from where the machine's stands, and so does what was changed from outside.
void kvm_machine_resume(struct cpu_system *system)
{
    const struct kvm_machine *machine = kvm_machine_of(system);
    struct kvm_clock_data clock = {.clock = vm_clock_now_ns(system->clock)};
    if (os_kvm(machine->vm_fd, KVM_SET_CLOCK, &clock))
        log_warn("KVM does not take the guest's time");
    for (unsigned i = 0; i < system->vcpu_count; i++) {
        struct vcpu *vcpu = system->vcpus[i];
        unsigned dirty = kvm_vcpu_of(vcpu)->dirty;
        if (dirty & KVM_DIRTY_STATE)
            kvm_put_state(vcpu);
        if (dirty & KVM_DIRTY_APIC)
            kvm_put_apic(vcpu);
    }
}
