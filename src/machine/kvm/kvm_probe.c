// SPDX-License-Identifier: Apache-2.0
#include "machine/kvm/kvm_probe.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/cpu/cpu_state.h"
#include "machine/kvm/kvm.h"
#include "machine/kvm/kvm_internal.h"
#include "machine/kvm/probe_guest.h"
#include "os/cache_file.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/memory.h"

#define CACHE_NAME "kvm-verdict"
// Making and preparing a VM is not the guest's time, but must end, too.
#define PROCESS_LIMIT_MS 1500
#define FORMAT           "2" // of the file; a changed probe gets another
// The slowest turn of the loop of privileged operations that is still worth it: hardware takes under 1 µs, an emulated SVM 10, the engine 3.
#define SLOWEST_NS 40000u

extern const uint8_t kvm_probe_guest[];
extern const uint64_t kvm_probe_guest_bytes, kvm_probe_page_fault, kvm_probe_timer;

static const char *const steps[PROBE_STEPS + 1] = {
    "entering the guest", "long mode", "paging and a page fault", "CPUID",
    "CMPXCHG16B",         "XSAVE",     "a timer interrupt",       "privileged instructions"};

struct probe {
    int kvm, vm, vcpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_bytes;
};

static void put_gate(uint8_t *memory, unsigned vector, uint64_t handler)
{
    uint8_t *gate = memory + PROBE_IDT + 16 * vector;
    store_le16(gate, (uint16_t)handler);
    store_le16(gate + 2, 0x08);
    store_le16(gate + 4, 0x8E00);
    store_le16(gate + 6, (uint16_t)(handler >> 16));
}

// Identity: the first 2 MiB, and the 2 MiB that hold the local APIC.
static void fill_memory(uint8_t *memory)
{
    store_le64(memory + PROBE_PML4, PROBE_PDPT | 3);
    store_le64(memory + PROBE_PDPT, PROBE_PD_LOW | 3);
    store_le64(memory + PROBE_PDPT + 8 * (PROBE_APIC >> 30), PROBE_PD_APIC | 3);
    store_le64(memory + PROBE_PD_LOW, 0x83);
    store_le64(memory + PROBE_PD_APIC + 8 * (PROBE_APIC >> 21 & 511),
               PROBE_APIC | 0x93);                           // uncached
    store_le64(memory + PROBE_GDT + 8, 0x00AF9B000000FFFF);  // 64-bit code
    store_le64(memory + PROBE_GDT + 16, 0x00CF93000000FFFF); // data
    memcpy(memory + PROBE_CODE, kvm_probe_guest, kvm_probe_guest_bytes);
    put_gate(memory, EXC_PF, kvm_probe_page_fault);
    put_gate(memory, PROBE_TIMER_VECTOR, kvm_probe_timer);
}

static int failed_call(struct err *err, int result, const char *what)
{
    return err_set_errno(err, -result, "%s", what);
}

static int make_vm(struct probe *probe, struct err *err)
{
    uint64_t identity = 0xFEFFC000;
    probe->vm = os_kvm_create_vm(probe->kvm);
    if (probe->vm < 0)
        return failed_call(err, probe->vm, "making a virtual machine");
    os_kvm(probe->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity); // Intel's
    os_kvm_value(probe->vm, KVM_SET_TSS_ADDR, 0xFEFFD000);
    int result = os_kvm_value(probe->vm, KVM_CREATE_IRQCHIP, 0);
    if (result)
        return failed_call(err, result, "making interrupt controllers");
    probe->memory = os_memory_reserve(PROBE_BYTES, err);
    if (!probe->memory ||
        os_memory_place_zeroed(probe->memory, PROBE_BYTES, OS_MEMORY_READ | OS_MEMORY_WRITE, err))
        return -1;
    fill_memory(probe->memory);
    struct kvm_userspace_memory_region slot = {
        .memory_size = PROBE_BYTES, .userspace_addr = (uint64_t)(uintptr_t)probe->memory};
    result = os_kvm(probe->vm, KVM_SET_USER_MEMORY_REGION, &slot);
    return result ? failed_call(err, result, "giving it memory") : 0;
}

static int set_registers(struct probe *probe)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = PROBE_CODE, .rsp = PROBE_STACK, .rflags = FLAG_FIXED1};
    int result = os_kvm(probe->vcpu, KVM_GET_SREGS, &sregs);
    if (result)
        return result;
    struct kvm_segment code = {
        .limit = UINT32_MAX, .selector = 0x08, .type = 0xB, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_segment data = code;
    data.selector = 0x10;
    data.type = 3;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
    sregs.gdt.base = PROBE_GDT;
    sregs.gdt.limit = 23;
    sregs.cr0 |= CR0_PE;
    result = os_kvm(probe->vcpu, KVM_SET_SREGS, &sregs);
    return result ? result : os_kvm(probe->vcpu, KVM_SET_REGS, &regs);
}

static int make_vcpu(struct probe *probe, struct err *err)
{
    int bytes = os_kvm_value(probe->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    probe->vcpu = os_kvm_value(probe->vm, KVM_CREATE_VCPU, 0);
    if (probe->vcpu < 0)
        return failed_call(err, probe->vcpu, "making a vCPU");
    probe->run_bytes = bytes > 0 ? (size_t)bytes : 0;
    probe->run = os_kvm_map_run(probe->vcpu, probe->run_bytes);
    struct kvm_cpuid2 *cpuid = kvm_supported_cpuid(probe->kvm, err);
    if (!probe->run || !cpuid) {
        free(cpuid);
        return err_set(err, ERR_HOST, "the vCPU's page cannot be mapped");
    }
    int result = os_kvm(probe->vcpu, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    // The guest sets it again; where a CPU under emulation does not tell KVM of that, it is not lost at the next exit.
    struct kvm_xcrs extended = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = PROBE_XCR0}}};
    if (!result)
        result = os_kvm(probe->vcpu, KVM_SET_XCRS, &extended);
    if (!result)
        result = set_registers(probe);
    return result ? failed_call(err, result, "setting registers") : 0;
}

// Runs until the guest has told the next step.
static int run_step(struct probe *probe, unsigned step, struct err *err)
{
    struct kvm_run *run = probe->run;
    assert(run); // make_vcpu() has mapped it
    int result = os_kvm_value(probe->vcpu, KVM_RUN, 0);
    if (result)
        return failed_call(err, result, steps[step]);
    if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
        return err_set(err, ERR_HOST,
                       "%s: KVM fails inside (error %u): it does not run what every kernel needs, "
                       "as on hosts that only look as if they had virtualization",
                       steps[step], run->internal.suberror);
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != PROBE_PORT)
        return err_set(err, ERR_HOST, "%s: KVM gives up with exit %u", steps[step],
                       run->exit_reason);
    unsigned told = ((const uint8_t *)run)[run->io.data_offset];
    return told == step ? 0 : err_set(err, ERR_HOST, "%s: the result is wrong", steps[step]);
}

// Nanoseconds of a turn in the fastest round; 0 and *err.
static uint64_t time_loop(struct probe *probe, struct err *err)
{
    uint64_t least = UINT64_MAX;
    for (unsigned round = 0; round < PROBE_ROUNDS; round++) {
        uint64_t start = os_clock_monotonic_ns();
        if (run_step(probe, PROBE_PRIVILEGED, err))
            return 0;
        uint64_t each = (os_clock_monotonic_ns() - start) / PROBE_LOOPS + 1;
        least = each < least ? each : least;
    }
    return least;
}

static int run_guest(struct probe *probe, char *told, size_t bytes, struct err *err)
{
    uint64_t first = os_clock_process_ns();
    os_child_limit(KVM_PROBE_LIMIT_MS);
    for (unsigned step = 1; step < PROBE_PRIVILEGED; step++)
        if (run_step(probe, step, err))
            return -1;
    uint64_t each = time_loop(probe, err), end = os_clock_process_ns();
    if (!each)
        return -1;
    if (each > SLOWEST_NS)
        return err_set(
            err, ERR_HOST,
            "%s: a turn of the loop takes %llu us, more than %u make KVM slower than the engine",
            steps[PROBE_PRIVILEGED], (unsigned long long)each / 1000, SLOWEST_NS / 1000);
    snprintf(
        told, bytes,
        "a guest proved it in %.1f ms of processor time, %.2f us a turn of privileged instructions",
        (double)(end - first) / 1e6, (double)each / 1e3);
    return 0;
}

// What is made goes with the process, which ends now; that can take longer than all the rest.
static int run_probe(char *told, size_t bytes, struct err *err)
{
    struct probe probe = {.kvm = os_kvm_open(err), .vm = -1, .vcpu = -1};
    return probe.kvm < 0 || kvm_check_capabilities(probe.kvm, err) || make_vm(&probe, err) ||
                   make_vcpu(&probe, err) || run_guest(&probe, told, bytes, err)
               ? -1
               : 0;
}

// In the child: yes or no, and why.
static void answer_in_child(void *context, char *answer, size_t bytes)
{
    struct err err = {0};
    char told[sizeof(((struct kvm_verdict *)0)->text)];
    (void)context;
    if (run_probe(told, sizeof(told), &err))
        snprintf(answer, bytes, "no %s", err.text);
    else
        snprintf(answer, bytes, "yes %s", told);
}

// False: there was no answer, which may be a busy host's fault and is not worth remembering.
static bool prove(struct kvm_verdict *verdict)
{
    char answer[sizeof(verdict->text)] = "";
    int result = os_child_answer(answer_in_child, NULL, PROCESS_LIMIT_MS, answer, sizeof(answer));
    verdict->usable = !result && !strncmp(answer, "yes ", 4);
    if (verdict->usable)
        snprintf(verdict->text, sizeof(verdict->text), "%.250s", answer + 4);
    else if (!result && !strncmp(answer, "no ", 3))
        snprintf(verdict->text, sizeof(verdict->text), "%.250s", answer + 3);
    else
        snprintf(verdict->text, sizeof(verdict->text),
                 "a guest of a few instructions did not come to its end in %d ms",
                 KVM_PROBE_LIMIT_MS);
    return !result;
}

// FORMAT, the host's identity, "yes" or "no", the text: a line each.
static bool recall(const char *identity, struct kvm_verdict *verdict)
{
    char bytes[1024];
    char *rest = bytes;
    if (os_cache_read(CACHE_NAME, bytes, sizeof(bytes)))
        return false;
    const char *format = strsep(&rest, "\n"), *host = rest ? strsep(&rest, "\n") : NULL;
    const char *answer = rest ? strsep(&rest, "\n") : NULL,
               *text = rest ? strsep(&rest, "\n") : NULL;
    if (!text || strcmp(format, FORMAT) || strcmp(host, identity) ||
        (strcmp(answer, "yes") && strcmp(answer, "no")))
        return false;
    verdict->usable = answer[0] == 'y';
    snprintf(verdict->text, sizeof(verdict->text), "%s", text);
    return true;
}

void kvm_probe(bool fresh, struct kvm_verdict *verdict)
{
    char identity[256], bytes[1024];
    struct err err;
    int fd = os_kvm_open(&err);
    if (fd < 0) { // nothing to remember: rights and modules change
        *verdict = (struct kvm_verdict){0};
        snprintf(verdict->text, sizeof(verdict->text), "%.250s", err.text);
        return;
    }
    os_file_close(&fd);
    bool known = !os_kvm_host_identity(identity, sizeof(identity));
    if (known && !fresh && recall(identity, verdict))
        return;
    known = prove(verdict) && known;
    snprintf(bytes, sizeof(bytes), "%s\n%s\n%s\n%s\n", FORMAT, known ? identity : "",
             verdict->usable ? "yes" : "no", verdict->text);
    if (known)
        os_cache_write(CACHE_NAME, bytes);
}
