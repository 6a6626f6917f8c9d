// SPDX-License-Identifier: Apache-2.0
//
// What is compared: the exception with its error code and address, general registers, RIP, flags, the x87 and vector
// registers with their control words, and the data pages. What is not, because the manuals leave it open:
//  - flags that are undefined after an instruction (insn_flags_undefined(); APM 3, each instruction's table), and
//    after one that faulted RF (APM 2, "RF");
//  - x87 instruction and data pointers and opcode (APM 2, "FXSAVE": AMD keeps them only with a pending exception);
//  - which address CR2 names, and whether its page is there, when an instruction accesses more than 32 bytes in parts
//    (FXSAVE, FNSTENV and their like): the order of the parts is the processor's;
//  - a MASKMOV that faults on the real processor: it may do so for bytes that the mask does not select (APM 4, MASKMOVDQU);
//  - which comes first when a CALL's target is not canonical and its stack faults;
//  - loading MXCSR with AMD's misaligned mode, which wirt's CPU models do not have;
//  - registers that a faulting POPA has loaded before the fault (RSP is not, so it begins again);
//  - whether an address in the kernel's half or on the host's stack is mapped (P in the error code);
//  - register halves beyond 32 bits after 32-bit code (APM 1, "64-bit mode": undefined after a mode switch).
#include "compare.h"

#include "base/bits.h"
#include "decode_zydis.h"
#include <stdio.h>

#define FLAG_RF_BIT 0x10000ull

enum { FCW_AT = 0, FSW_AT = 2, FTW_AT = 4, MXCSR_AT = 24, ST_AT = 32, XMM_AT = 160, YMMH_AT = 576 };
enum { XSTATE_X87 = 1, XSTATE_SSE = 2, XSTATE_AVX = 4 };

// The instruction that a result is about: of a sequence the one that faulted, or a NOP when it completed.
static struct insn subject_of(const struct diff_case *c, const struct diff_result *native)
{
    static const uint8_t nop = 0x90;
    struct insn insn;
    if (!c->sequence)
        return c->insn;
    uint64_t at = native->after.rip - c->code;
    bool inside = native->vector != EXC_NONE && at < c->length;
    if (!inside || decode(c->bytes + at, c->length - at, c->mode, &insn) < 0)
        decode(&nop, 1, c->mode, &insn);
    return insn;
}

// Flags that any instruction of a sequence leaves undefined: it may have been executed before the one that faults.
static uint64_t undefined_anywhere(const struct diff_case *c)
{
    uint64_t undefined = 0;
    struct insn insn;
    int length;
    for (unsigned at = 0; at < c->length; at += (unsigned)length) {
        length = decode(c->bytes + at, c->length - at, c->mode, &insn);
        if (length <= 0)
            break;
        undefined |= insn_flags_undefined(&insn);
        if (insn.form->attributes & INSN_FLAGS_MAYBE)
            undefined |= insn.form->flags_undefined;
    }
    return undefined;
}

static uint64_t flags_to_ignore(const struct diff_case *c, const struct insn *insn, bool faulted)
{
    if (faulted)
        return FLAG_RF_BIT | (c->sequence ? undefined_anywhere(c) : 0);
    uint64_t ignored = FLAG_RF_BIT | c->undefined_flags | insn_flags_undefined(insn);
    // A shift by CL: OF is undefined unless by 1; by CL beyond the operand, CF, too (APM 3, SHL).
    const struct insn_form *form = insn->form;
    if ((form->attributes & INSN_FLAGS_MAYBE) && form->op >= OP_ROL && form->op <= OP_SHRD)
        ignored |= form->flags_undefined;
    return ignored;
}

static bool state_present(const struct diff_state *state, unsigned component)
{
    return load_le64(state->xsave + 512) & component;
}

// A component whose XSTATE_BV bit is clear has its initial value, whatever the area holds.
static void normalize(const struct diff_state *state, uint8_t out[XSAVE_BYTES])
{
    memcpy(out, state->xsave, XSAVE_BYTES);
    memset(out + 5, 0, MXCSR_AT - 5); // FOP, FIP, FDP
    memset(out + 28, 0, 4);           // MXCSR_MASK
    memset(out + 416, 0, 576 - 416);  // reserved, header
    if (!state_present(state, XSTATE_X87)) {
        store_le16(out + FCW_AT, 0x037F);
        store_le16(out + FSW_AT, 0);
        out[FTW_AT] = 0;
        memset(out + ST_AT, 0, XMM_AT - ST_AT);
    }
    if (!state_present(state, XSTATE_SSE))
        memset(out + XMM_AT, 0, 256);
    if (!state_present(state, XSTATE_AVX))
        memset(out + YMMH_AT, 0, 256);
    for (unsigned i = 0; i < 8; i++)
        memset(out + ST_AT + 16 * i + 10, 0, 6);
}

static const char *compare_xsave(const struct diff_state *a, const struct diff_state *b)
{
    uint8_t x[XSAVE_BYTES], y[XSAVE_BYTES];
    normalize(a, x);
    normalize(b, y);
    if (memcmp(x + FCW_AT, y + FCW_AT, 2))
        return "FCW";
    if (memcmp(x + FSW_AT, y + FSW_AT, 2))
        return "FSW";
    if (x[FTW_AT] != y[FTW_AT])
        return "FTW";
    if (memcmp(x + MXCSR_AT, y + MXCSR_AT, 4))
        return "MXCSR";
    if (memcmp(x + ST_AT, y + ST_AT, XMM_AT - ST_AT))
        return "x87 registers";
    if (memcmp(x + XMM_AT, y + XMM_AT, 256))
        return "XMM registers";
    return memcmp(x + YMMH_AT, y + YMMH_AT, 256) ? "YMM registers" : NULL;
}

// FXSAVE writes MXCSR_MASK, which is the model's, and pointers as above.
static bool same_data(const struct diff_case *c, const struct insn *insn,
                      const struct diff_result *native, const struct diff_result *tier)
{
    if (memcmp(native->data, tier->data, DATA_BYTES) == 0)
        return true;
    if (insn->form->op != OP_FXSAVE)
        return false;
    static struct diff_result copy;
    memcpy(copy.data, tier->data, DATA_BYTES);
    uint64_t at = (c->patches[0].address - DATA_ADDRESS) & ~15ull;
    if (at > DATA_BYTES - 512)
        return false;
    memcpy(copy.data + at + 28, native->data + at + 28, 4);
    return memcmp(native->data, copy.data, DATA_BYTES) == 0;
}

#define HOST_STACK_AND_KERNEL 0x00007FFFFF000000ull

static bool is_masked_store(const struct insn *insn)
{
    unsigned op = insn->form->op;
    return op == OP_MASKMOVQ || op == OP_MASKMOVDQU || op == OP_VMASKMOVDQU;
}

#define MXCSR_MISALIGNED 0x20000u

static bool loads_hosts_mxcsr(const struct diff_result *native)
{
    return load_le32(native->after.xsave + MXCSR_AT) & MXCSR_MISALIGNED;
}

// Of several faults that an instruction may have, is the choice the processor's?
static bool order_is_open(const struct insn *insn, const struct diff_result *native,
                          const struct diff_result *tier)
{
    if (is_masked_store(insn) && native->vector != EXC_NONE)
        return true;
    if (native->vector == EXC_NONE || tier->vector == EXC_NONE)
        return false;
    return insn->form->class == CLASS_CALL && native->vector != tier->vector;
}

static const char *compare_faults(const struct insn *insn, const struct diff_result *native,
                                  const struct diff_result *tier)
{
    bool page_fault = native->vector == EXC_PF;
    bool has_error = page_fault || native->vector == EXC_GP || native->vector == EXC_SS;
    bool in_parts = insn->form->class == CLASS_X87 || insn_memory_access(insn).bytes > 32;
    bool hidden = native->cr2 >= HOST_STACK_AND_KERNEL;
    uint32_t ignored = page_fault && (hidden || in_parts) ? 1 : 0;
    if (has_error && ((native->error ^ tier->error) & ~ignored))
        return "error code";
    uint64_t distance = native->cr2 > tier->cr2 ? native->cr2 - tier->cr2 : tier->cr2 - native->cr2;
    return page_fault && distance >= (in_parts ? 1024 : 1) ? "CR2" : NULL;
}

const char *compare_results(const struct diff_case *c, const struct diff_result *native,
                            const struct diff_result *tier)
{
    const struct diff_state *a = &native->after, *b = &tier->after;
    uint64_t mask = c->mode == CODE_64 ? ~0ull : 0xFFFFFFFF;
    const struct insn insn = subject_of(c, native);
    bool faulted = native->vector != EXC_NONE;
    if (order_is_open(&insn, native, tier) || loads_hosts_mxcsr(native))
        return NULL;
    if (native->vector != tier->vector)
        return "exception";
    const char *fault = compare_faults(&insn, native, tier);
    if (fault)
        return fault;
    if ((a->rip ^ b->rip) & mask)
        return "RIP";
    bool open = insn.form->op == OP_POPA && faulted;
    for (unsigned i = 0; i < (c->mode == CODE_64 ? 16u : 8u) && !open; i++) {
        if ((a->gpr[i] ^ b->gpr[i]) & mask)
            return "general registers";
    }
    if ((a->rflags ^ b->rflags) & ~flags_to_ignore(c, &insn, faulted))
        return "flags";
    if (!same_data(c, &insn, native, tier))
        return "memory";
    return compare_xsave(a, b);
}

// ---- Printing ----

static void print_registers(const struct diff_case *c, const struct diff_result *native,
                            const struct diff_result *tier)
{
    static const char *const names[GPR_COUNT] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP",
                                                 "RSI", "RDI", "R8",  "R9",  "R10", "R11",
                                                 "R12", "R13", "R14", "R15"};
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        uint64_t before = c->before.gpr[i], a = native->after.gpr[i], b = tier->after.gpr[i];
        printf("    %-6s %016llx", names[i], (unsigned long long)before);
        if (a != before || b != before)
            printf(" -> %016llx, tier %016llx%s", (unsigned long long)a, (unsigned long long)b,
                   a == b ? "" : "  <--");
        printf("\n");
    }
    printf("    RFLAGS %llx -> %llx, tier %llx\n    RIP    %llx -> %llx, tier %llx\n",
           (unsigned long long)c->before.rflags, (unsigned long long)native->after.rflags,
           (unsigned long long)tier->after.rflags, (unsigned long long)c->before.rip,
           (unsigned long long)native->after.rip, (unsigned long long)tier->after.rip);
}

static void print_bytes(const char *name, const uint8_t *bytes, unsigned count)
{
    printf("%s", name);
    for (unsigned i = 0; i < count; i++)
        printf("%02x", bytes[count - 1 - i]);
}

static void print_row(const char *name, unsigned number, const uint8_t *before,
                      const uint8_t *native, const uint8_t *tier, unsigned count)
{
    if (memcmp(native, tier, count) == 0 && memcmp(native, before, count) == 0)
        return;
    printf("    %s%u", name, number);
    print_bytes(" ", before, count);
    print_bytes(" -> ", native, count);
    print_bytes(", tier ", tier, count);
    printf("%s\n", memcmp(native, tier, count) ? "  <--" : "");
}

static void print_xsave(const struct diff_case *c, const struct diff_result *native,
                        const struct diff_result *tier)
{
    uint8_t before[XSAVE_BYTES], a[XSAVE_BYTES], b[XSAVE_BYTES];
    normalize(&c->before, before);
    normalize(&native->after, a);
    normalize(&tier->after, b);
    printf("    FCW %04x FSW %04x FTW %02x MXCSR %x\n", load_le16(before),
           load_le16(before + FSW_AT), before[FTW_AT], load_le32(before + MXCSR_AT));
    print_row("FCW", 0, before + FCW_AT, a + FCW_AT, b + FCW_AT, 2);
    print_row("FSW", 0, before + FSW_AT, a + FSW_AT, b + FSW_AT, 2);
    print_row("FTW", 0, before + FTW_AT, a + FTW_AT, b + FTW_AT, 1);
    print_row("MXCSR", 0, before + MXCSR_AT, a + MXCSR_AT, b + MXCSR_AT, 4);
    for (unsigned i = 0; i < 8; i++)
        print_row("ST", i, before + ST_AT + 16 * i, a + ST_AT + 16 * i, b + ST_AT + 16 * i, 10);
    for (unsigned i = 0; i < 16; i++)
        print_row("XMM", i, before + XMM_AT + 16 * i, a + XMM_AT + 16 * i, b + XMM_AT + 16 * i, 16);
    for (unsigned i = 0; i < 16; i++)
        print_row("YMM upper ", i, before + YMMH_AT + 16 * i, a + YMMH_AT + 16 * i,
                  b + YMMH_AT + 16 * i, 16);
}

static void print_data(const struct diff_case *c, const struct diff_result *native,
                       const struct diff_result *tier)
{
    static uint8_t before[DATA_BYTES];
    unsigned rows = 0;
    diff_case_fill_data(c, before);
    for (unsigned at = 0; at < DATA_BYTES && rows < 16; at += 16) {
        if (memcmp(native->data + at, tier->data + at, 16) == 0)
            continue;
        printf("    memory %llx", (unsigned long long)(DATA_ADDRESS + at));
        print_bytes(" ", before + at, 16);
        print_bytes(" -> ", native->data + at, 16);
        print_bytes(", tier ", tier->data + at, 16);
        printf("  <--\n");
        rows++;
    }
}

static void print_outcome(const char *who, const struct diff_result *result)
{
    if (result->vector == EXC_NONE)
        printf("    %s: completed\n", who);
    else
        printf("    %s: exception %u, error %x, CR2 %llx\n", who, result->vector, result->error,
               (unsigned long long)result->cr2);
}

void print_difference(const struct diff_case *c, const struct diff_result *native,
                      const struct diff_result *tier, const char *tier_name, const char *what)
{
    printf("%s differs in %s: %u-bit, seed %llx\n", tier_name, what, (unsigned)c->mode,
           (unsigned long long)c->seed);
    for (unsigned at = 0; at < c->length;) {
        char text[120];
        struct insn insn;
        int length = decode(c->bytes + at, c->length - at, c->mode, &insn);
        disassemble(c->bytes + at, c->length - at, c->mode, text, sizeof(text));
        printf("    %llx %-48s", (unsigned long long)(c->code + at), text);
        unsigned shown = length > 0 ? (unsigned)length : c->length - at;
        for (unsigned i = 0; i < shown; i++)
            printf(" %02x", c->bytes[at + i]);
        printf("\n");
        at += shown;
    }
    print_outcome("native", native);
    print_outcome("tier  ", tier);
    print_registers(c, native, tier);
    print_xsave(c, native, tier);
    print_data(c, native, tier);
}
