// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: bit tests, scans, counts, BMI, CRC32, byte order, random numbers.
#include <immintrin.h>

#include "machine/cpu/cpu_model.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/interp_alu.h"
#include "machine/engine/interp_handlers.h"

ALU_BINARY_WIDE(bt, "bt")
ALU_BINARY_WIDE(bts, "bts")
ALU_BINARY_WIDE(btr, "btr")
ALU_BINARY_WIDE(btc, "btc")

typedef uint64_t alu_function(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed);

// With a register as bit number and memory as bit string, the number selects the word (SDM vol. 2, BT).
static uint64_t bit_string_word(const struct vcpu *vcpu, const struct bound_insn *bound,
                                uint64_t number)
{
    const struct insn *insn = &bound->insn;
    unsigned bytes = bound->operand[0].bytes, bits = 8 * bytes;
    int64_t signed_number = (int64_t)(number << (64 - bits)) >> (64 - bits);
    uint64_t moved =
        effective_address(vcpu, bound) + (uint64_t)((signed_number >> (bytes == 2   ? 4
                                                                       : bytes == 4 ? 5
                                                                                    : 6)) *
                                                    (int64_t)bytes);
    return moved & size_mask(insn->address_size);
}

ALWAYS_INLINE int bit_operation(struct vcpu *vcpu, const struct bound_insn *bound,
                                alu_function *alu, bool store)
{
    const struct bound_operand *operand = &bound->operand[0];
    struct open_memory memory;
    uint64_t number, value;
    if (operand_read(vcpu, bound, 1, &number))
        return INTERP_FAULT;
    bool in_memory = operand->place == PLACE_MEMORY;
    if (!in_memory) {
        value = gpr_read(vcpu, operand->number, operand->bytes);
    } else {
        uint64_t at = bound->operand[1].place == PLACE_REGISTER
                          ? bit_string_word(vcpu, bound, number)
                          : effective_address(vcpu, bound);
        bool locked = bound->insn.prefixes & PREFIX_LOCK;
        int result = store ? memory_open(vcpu, bound->insn.segment, at, operand->bytes, locked,
                                         &memory, &value)
                           : memory_read(vcpu, bound->insn.segment, at, operand->bytes, &value);
        if (result)
            return INTERP_FAULT;
    }
    uint32_t flags_before = alu_flags_pack(vcpu->state.rflags), flags;
    int closed = 0;
    do {
        flags = flags_before;
        uint64_t result = alu(value, number & (8u * operand->bytes - 1), operand->bytes, &flags);
        if (store && in_memory)
            closed = memory_close(vcpu, &memory, &value, result);
        else if (store)
            operand_write_register(vcpu, operand, result);
    } while (closed > 0);
    if (closed < 0)
        return INTERP_FAULT;
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    return INTERP_DONE;
}

#define HANDLER_BIT(name, store)                                                                   \
    int interp_##name(struct vcpu *vcpu, const struct bound_insn *bound)                           \
    {                                                                                              \
        return bit_operation(vcpu, bound, alu_##name, store);                                      \
    }

HANDLER_BIT(bt, false)
HANDLER_BIT(bts, true)
HANDLER_BIT(btr, true)
HANDLER_BIT(btc, true)

// ---- Scans and counts ----

ALU_BINARY_WIDE(bsf, "bsf")
ALU_BINARY_WIDE(bsr, "bsr")
ALU_BINARY_WIDE(tzcnt, "tzcnt")
ALU_BINARY_WIDE(lzcnt, "lzcnt")
ALU_BINARY_WIDE(popcnt, "popcnt")

// destination = f(source). The old destination goes in: BSF and BSR of zero leave it alone, all 64 bits of it.
ALWAYS_INLINE int from_source(struct vcpu *vcpu, const struct bound_insn *bound, alu_function *alu,
                              bool scan)
{
    const struct bound_operand *to = &bound->operand[0];
    uint64_t source;
    if (operand_read(vcpu, bound, 1, &source))
        return INTERP_FAULT;
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    uint64_t result = alu(vcpu->state.gpr[to->number], source, to->bytes, &flags);
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    if (scan && source == 0)
        vcpu->state.gpr[to->number] = result; // as the host leaves it
    else
        operand_write_register(vcpu, to, result);
    return INTERP_DONE;
}

#define HANDLER_SOURCE(name, scan)                                                                 \
    int interp_##name(struct vcpu *vcpu, const struct bound_insn *bound)                           \
    {                                                                                              \
        return from_source(vcpu, bound, alu_##name, scan);                                         \
    }

HANDLER_SOURCE(bsf, true)
HANDLER_SOURCE(bsr, true)
HANDLER_SOURCE(tzcnt, false)
HANDLER_SOURCE(lzcnt, false)
HANDLER_SOURCE(popcnt, false)

// ---- BMI1 and BMI2 ----
// A model offers them only where the host has them, so the host's instruction gives results and flags.

#define ALU_BMI(name, instruction)                                                                 \
    ALU_INLINE uint64_t alu_##name(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed)       \
    {                                                                                              \
        uint64_t result;                                                                           \
        if (bytes == 4)                                                                            \
            __asm__(ALU_FLAGS_IN instruction("k") ALU_FLAGS_OUT                                    \
                    : [r] "=&r"(result), "+a"(*packed)                                             \
                    : [a] "r"(a), [b] "r"(b)                                                       \
                    : "cc");                                                                       \
        else                                                                                       \
            __asm__(ALU_FLAGS_IN instruction("q") ALU_FLAGS_OUT                                    \
                    : [r] "=&r"(result), "+a"(*packed)                                             \
                    : [a] "r"(a), [b] "r"(b)                                                       \
                    : "cc");                                                                       \
        return result;                                                                             \
    }

// In AT&T order, of destination r, first source a, second source b.
#define BMI_ANDN(m)   "andn %" m "[b], %" m "[a], %" m "[r]"
#define BMI_BLSR(m)   "blsr %" m "[a], %" m "[r]"
#define BMI_BLSMSK(m) "blsmsk %" m "[a], %" m "[r]"
#define BMI_BLSI(m)   "blsi %" m "[a], %" m "[r]"
#define BMI_BEXTR(m)  "bextr %" m "[b], %" m "[a], %" m "[r]"
#define BMI_BZHI(m)   "bzhi %" m "[b], %" m "[a], %" m "[r]"
#define BMI_PDEP(m)   "pdep %" m "[b], %" m "[a], %" m "[r]"
#define BMI_PEXT(m)   "pext %" m "[b], %" m "[a], %" m "[r]"

ALU_BMI(andn, BMI_ANDN)
ALU_BMI(blsr, BMI_BLSR)
ALU_BMI(blsmsk, BMI_BLSMSK)
ALU_BMI(blsi, BMI_BLSI)
ALU_BMI(bextr, BMI_BEXTR)
ALU_BMI(bzhi, BMI_BZHI)
ALU_BMI(pdep, BMI_PDEP)
ALU_BMI(pext, BMI_PEXT)

ALWAYS_INLINE int bmi(struct vcpu *vcpu, const struct bound_insn *bound, alu_function *alu,
                      bool two_sources)
{
    uint64_t a, b = 0;
    if (operand_read(vcpu, bound, 1, &a) || (two_sources && operand_read(vcpu, bound, 2, &b)))
        return INTERP_FAULT;
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    uint64_t result = alu(a, b, bound->operand[0].bytes, &flags);
    operand_write_register(vcpu, &bound->operand[0], result);
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    return INTERP_DONE;
}

#define HANDLER_BMI(name, two_sources)                                                             \
    int interp_##name(struct vcpu *vcpu, const struct bound_insn *bound)                           \
    {                                                                                              \
        return bmi(vcpu, bound, alu_##name, two_sources);                                          \
    }

HANDLER_BMI(andn, true)
HANDLER_BMI(blsr, false)
HANDLER_BMI(blsmsk, false)
HANDLER_BMI(blsi, false)
HANDLER_BMI(bextr, true)
HANDLER_BMI(bzhi, true)
HANDLER_BMI(pdep, true)
HANDLER_BMI(pext, true)

// ---- Others ----

int interp_bswap(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct bound_operand *operand = &bound->operand[0];
    uint64_t value = vcpu->state.gpr[operand->number];
    // Of 16 bits it is undefined; processors give zero.
    uint64_t swapped = operand->bytes == 8   ? __builtin_bswap64(value)
                       : operand->bytes == 4 ? __builtin_bswap32((uint32_t)value)
                                             : 0;
    operand_write_register(vcpu, operand, swapped);
    return INTERP_DONE;
}

int interp_movbe(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->operand[0].bytes;
    uint64_t value;
    if (operand_read(vcpu, bound, 1, &value))
        return INTERP_FAULT;
    return operand_write(vcpu, bound, 0, __builtin_bswap64(value) >> (64 - 8 * bytes));
}

__attribute__((target("sse4.2"))) int interp_crc32(struct vcpu *vcpu,
                                                   const struct bound_insn *bound)
{
    uint64_t source, crc = vcpu->state.gpr[bound->operand[0].number];
    if (operand_read(vcpu, bound, 1, &source))
        return INTERP_FAULT;
    switch (bound->operand[1].bytes) {
    case 1:
        crc = _mm_crc32_u8((uint32_t)crc, (uint8_t)source);
        break;
    case 2:
        crc = _mm_crc32_u16((uint32_t)crc, (uint16_t)source);
        break;
    case 4:
        crc = _mm_crc32_u32((uint32_t)crc, (uint32_t)source);
        break;
    default:
        crc = _mm_crc32_u64(crc, source);
        break;
    }
    operand_write_register(vcpu, &bound->operand[0], crc);
    return INTERP_DONE;
}

// A deterministic machine has no random numbers but a sequence that depends on its instruction count alone (splitmix64).
static bool random_word(struct vcpu *vcpu, bool seed, uint64_t *word)
{
    unsigned char valid;
    if (vm_clock_is_deterministic(vcpu->system->clock)) {
        engine_sync_clock(vcpu);
        uint64_t x = vm_clock_tsc(vcpu->system->clock) * 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        *word = x ^ x >> 31;
        return true;
    }
    if (seed)
        __asm__ volatile("rdseed %0; setc %1" : "=r"(*word), "=qm"(valid) : : "cc");
    else
        __asm__ volatile("rdrand %0; setc %1" : "=r"(*word), "=qm"(valid) : : "cc");
    return valid;
}

static int random_instruction(struct vcpu *vcpu, const struct bound_insn *bound, bool seed)
{
    uint64_t word = 0;
    bool valid = random_word(vcpu, seed, &word);
    operand_write_register(vcpu, &bound->operand[0], valid ? word : 0);
    vcpu->state.rflags = (vcpu->state.rflags & ~(uint64_t)FLAGS_STATUS) | (valid ? FLAG_CF : 0);
    return INTERP_DONE;
}

int interp_rdrand(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return random_instruction(vcpu, bound, false);
}

int interp_rdseed(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return random_instruction(vcpu, bound, true);
}
