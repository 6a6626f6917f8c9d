// SPDX-License-Identifier: Apache-2.0
//
// One case of the differential tests: an instruction, the state before it, and what came of it.
//
// The same case runs on the real processor (native.h) and under the engine's tiers (tier.h), at the same linear
// addresses: a page of code and some pages of data between pages that are not there. After the instruction the code
// page holds INT3, so that the real processor comes back.
#ifndef WIRT_TESTS_DIFF_DIFF_CASE_H
#define WIRT_TESTS_DIFF_DIFF_CASE_H

#include "machine/cpu/cpu_state.h"
#include "machine/engine/decode.h"

#define AREA_PAGE 4096u

// Linear addresses; whatever stands between them is not mapped. Below 2 GiB, so that every kind of displacement and
// 32-bit code reach them.
#define CODE_ADDRESS      0x40001000ull // one page, executable
#define DATA_ADDRESS      0x40011000ull // two pages, writable
#define DATA_BYTES        (2 * AREA_PAGE)
#define READ_ONLY_ADDRESS 0x40015000ull // one page

// Selectors of user code and data, as Linux has them; those of 16-bit code are in an LDT of our own.
enum {
    SELECTOR_CODE_16 = 0x07,
    SELECTOR_DATA_16 = 0x0F,
    SELECTOR_CODE_32 = 0x23,
    SELECTOR_DATA = 0x2B,
    SELECTOR_CODE_64 = 0x33,
};

// 16-bit code runs in segments of 64 KiB from here, so that its addresses reach the same pages.
#define CODE_BASE_16 0x40000000ull
#define DATA_BASE_16 0x40010000ull

struct diff_state {
    uint64_t gpr[GPR_COUNT];
    uint64_t rip;
    uint64_t rflags;
    uint8_t xsave[XSAVE_BYTES] __attribute__((aligned(64))); // standard format, x87, SSE and AVX
};

// Bytes to put into the data pages before the instruction, over what the seed fills them with.
struct diff_patch {
    uint64_t address;
    unsigned bytes; // 0: none
    uint8_t value[64];
};

struct diff_case {
    uint64_t seed; // makes the whole case again
    enum code_mode mode;
    unsigned length;
    uint8_t bytes[256];
    uint64_t
        code; // where the instruction stands, within the code page; it may run into the page behind
    struct insn insn;         // of a sequence: meaningless
    bool sequence;            // several instructions
    uint16_t undefined_flags; // after a sequence
    struct diff_state before;
    uint64_t data_seed;
    struct diff_patch patches[3];
    uint64_t fs_base, gs_base;
};

struct diff_result {
    bool
        endless; // a sequence jumped where it came from, by a value that it had computed; the rest is meaningless
    uint8_t vector; // EXC_NONE: the instruction completed
    uint32_t error;
    uint64_t cr2;            // with a page fault
    struct diff_state after; // with an exception: as the handler finds it; RIP is a linear address
    uint8_t data[DATA_BYTES];
};

static inline uint64_t diff_code_base(enum code_mode mode)
{
    return mode == CODE_16 ? CODE_BASE_16 : 0;
}

static inline uint64_t diff_data_base(enum code_mode mode)
{
    return mode == CODE_16 ? DATA_BASE_16 : 0;
}

// A case for one form of insn_forms[]. False: none can be made (the form does not run in user mode of `mode`, or is
// left out: diff_skip_reason() says why).
bool diff_case_make(struct diff_case *out, unsigned form, enum code_mode mode, uint64_t seed);

// A case of several instructions, of the forms for which `offered` says so.
bool diff_sequence_make(struct diff_case *out, uint64_t seed,
                        bool (*offered)(const void *context, const struct insn_form *form),
                        const void *context);

// Bytes that the decoder refuses: they must be #UD on the real processor, too.
bool diff_invalid_make(struct diff_case *out, enum code_mode mode, uint64_t seed);

// The same for each opcode and payload of VEX, one a number below DIFF_VEX_CASES. False: the table knows it.
enum { DIFF_VEX_CASES = 3 << 15 };
bool diff_invalid_vex(struct diff_case *out, uint32_t number);

// Why an operation takes no part, or NULL.
const char *diff_skip_reason(const struct insn_form *form);

// What the data pages hold before the instruction. Both sides fill theirs with this.
void diff_case_fill_data(const struct diff_case *c, uint8_t data[DATA_BYTES]);
void diff_fill_read_only(uint8_t page[AREA_PAGE]);

uint64_t diff_random(uint64_t *state);

#endif
