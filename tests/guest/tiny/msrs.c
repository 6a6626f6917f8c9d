// SPDX-License-Identifier: Apache-2.0
//
// Which MSRs there are, and what those say that hold nothing of the guest's: the same machine whatever executes it. Those that go with a CPU feature which
// not every host has (SPEC_CTRL and PRED_CMD, AutoIBRS and FFXSR in EFER) are left out.
#include "tiny.h"

enum { EFER_FFXSR = 14, EFER_AUTOIBRS = 21 };

struct range {
    uint32_t first, last;
};

static uint64_t value_read;

static void read(void *argument)
{
    value_read = rdmsr(*(uint32_t *)argument);
}

static void write_zero(void *argument)
{
    wrmsr(*(uint32_t *)argument, 0);
}

static void write_efer(void *argument)
{
    wrmsr(EFER, *(uint64_t *)argument);
}

static void tell_run(uint32_t first, uint32_t end)
{
    print("readable: ");
    print_hex(first);
    print(" to ");
    print_hex(end - 1);
    print("\n");
}

static bool varies(uint32_t msr)
{
    return msr == 0x48 || msr == 0x49;
}

static void look_through(struct range range)
{
    uint32_t first = 0;
    bool run = false;
    for (uint32_t msr = range.first; msr <= range.last; msr++) {
        bool readable = !varies(msr) && !catches(read, &msr);
        if (readable && !run)
            first = msr;
        if (!readable && run)
            tell_run(first, msr);
        run = readable;
        if (!readable && !varies(msr) && !catches(write_zero, &msr))
            tell("only written", msr);
    }
    if (run)
        tell_run(first, range.last + 1);
}

void guest(void)
{
    static const struct range ranges[] = {{0, 0x8FF},
                                          {0x40000000, 0x4000001F},
                                          {0x4B564D00, 0x4B564D0F},
                                          {0xC0000000, 0xC00001FF},
                                          {0xC0010000, 0xC001021F},
                                          {0xC0011010, 0xC0011040}};
    static const uint32_t constant[] = {0x8B,  0xFE,       0x179,      0x1D9,
                                        0x1DB, 0xC0010015, 0xC001001F, 0xC0011029};
    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        look_through(ranges[i]);
    for (unsigned i = 0; i < sizeof(constant) / sizeof(constant[0]); i++) {
        uint32_t msr = constant[i];
        print_hex(msr);
        tell(" reads", catches(read, &msr) ? 0xDEAD : value_read);
        print_hex(msr);
        tell_trap(" written", catches(write_zero, &msr), &last_trap);
    }
    uint64_t efer = rdmsr(EFER), allowed = 0;
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t value = efer ^ 1ull << bit;
        if (bit != EFER_AUTOIBRS && bit != EFER_FFXSR && !catches(write_efer, &value))
            allowed |= 1ull << bit;
        wrmsr(EFER, efer);
    }
    tell("EFER", efer);
    tell("bits of EFER that may change", allowed);
    finish(0);
}
