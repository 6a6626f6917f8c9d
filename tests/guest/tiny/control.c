// SPDX-License-Identifier: Apache-2.0
//
// Values that control registers and MSRs refuse.
#include "tiny.h"

static void set_cr0(void *value)
{
    write_cr0((uint64_t)value);
}

static void set_cr3(void *value)
{
    write_cr3((uint64_t)value);
}

static void set_cr4(void *value)
{
    write_cr4((uint64_t)value);
}

static void set_cr8(void *value)
{
    write_cr8((uint64_t)value);
}

static void set_lstar(void *value)
{
    wrmsr(0xC0000082, (uint64_t)value);
}

static void set_efer(void *value)
{
    wrmsr(EFER, (uint64_t)value);
}

static void odd_msr(void *value)
{
    rdmsr((uint32_t)(uint64_t)value);
}

// QEMU's TCG takes these bits, and then refuses to enter the guest.
static void try_reserved(const char *name, void (*set)(void *value), uint64_t value)
{
    if (!IN_BED) {
        tell_trap(name, catches(set, (void *)value), &last_trap);
        return;
    }
    print(name);
    print(": left out\n");
}

void guest(void)
{
    TELL_CATCH("CR0: PG without PE", set_cr0, (void *)(read_cr0() & ~1ull));
    TELL_CATCH("CR0: NW without CD", set_cr0, (void *)((read_cr0() | 1ull << 29) & ~(1ull << 30)));
    try_reserved("CR0: bit 32", set_cr0, read_cr0() | 1ull << 32);
    TELL_CATCH("CR0: PG off in 64-bit code", set_cr0, (void *)(read_cr0() & ~(1ull << 31)));
    try_reserved("CR3: high bits", set_cr3, read_cr3() | 1ull << 60);
    TELL_CATCH("CR4: PAE off", set_cr4, (void *)(read_cr4() & ~(1ull << 5)));
    TELL_CATCH("CR4: bit 31", set_cr4, (void *)(read_cr4() | 1ull << 31));
    TELL_CATCH("CR8: 16", set_cr8, (void *)16);
    TELL_CATCH("CR8: 15", set_cr8, (void *)15);
    tell("  cr8", read_cr8());
    write_cr8(0);
    TELL_CATCH("LSTAR: not canonical", set_lstar, (void *)0x800000000000);
    TELL_CATCH("EFER: LME off", set_efer, (void *)(rdmsr(EFER) & ~0x100ull));
    TELL_CATCH("EFER: bit 1", set_efer, (void *)(rdmsr(EFER) | 2));
    TELL_CATCH("MSR 12345678", odd_msr, (void *)0x12345678);
}
