// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: shifts, rotates, double shifts and their BMI2 forms.
#include "machine/engine/interp_alu.h"
#include "machine/engine/interp_handlers.h"

ALU_SHIFT(rol, "rol")
ALU_SHIFT(ror, "ror")
ALU_SHIFT(rcl, "rcl")
ALU_SHIFT(rcr, "rcr")
ALU_SHIFT(shl, "shl")
ALU_SHIFT(shr, "shr")
ALU_SHIFT(sar, "sar")

typedef uint64_t alu_function(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed);

ALWAYS_INLINE int shift(struct vcpu *vcpu, const struct bound_insn *bound, alu_function *alu)
{
    struct open_operand open;
    uint64_t count;
    if (bound->insn.form->operands[1].kind == OPERAND_ONE)
        count = 1;
    else if (operand_read(vcpu, bound, 1, &count))
        return INTERP_FAULT;
    if (operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    uint64_t result = alu(open.value, count, open.operand->bytes, &flags);
    if (operand_close(vcpu, &open, result))
        return INTERP_FAULT;
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    return INTERP_DONE;
}

#define HANDLER_SHIFT(name)                                                                        \
    int interp_##name(struct vcpu *vcpu, const struct bound_insn *bound)                           \
    {                                                                                              \
        return shift(vcpu, bound, alu_##name);                                                     \
    }

HANDLER_SHIFT(rol)
HANDLER_SHIFT(ror)
HANDLER_SHIFT(rcl)
HANDLER_SHIFT(rcr)
HANDLER_SHIFT(shl)
HANDLER_SHIFT(shr)
HANDLER_SHIFT(sar)

#define DOUBLE_CASE(suffix, modifier)                                                              \
    if (left)                                                                                      \
        __asm__(ALU_FLAGS_IN "shld" suffix " %%cl, %" modifier "[b], %" modifier                   \
                             "[a]" ALU_FLAGS_OUT                                                   \
                : [a] "+r"(a), "+a"(*packed)                                                       \
                : [b] "r"(b), "c"(count)                                                           \
                : "cc");                                                                           \
    else                                                                                           \
        __asm__(ALU_FLAGS_IN "shrd" suffix " %%cl, %" modifier "[b], %" modifier                   \
                             "[a]" ALU_FLAGS_OUT                                                   \
                : [a] "+r"(a), "+a"(*packed)                                                       \
                : [b] "r"(b), "c"(count)                                                           \
                : "cc");                                                                           \
    break;

static uint64_t alu_double(uint64_t a, uint64_t b, uint64_t count, bool left, unsigned bytes,
                           uint32_t *packed)
{
    switch (bytes) {
    case 2:
        DOUBLE_CASE("w", "w")
    case 4:
        DOUBLE_CASE("l", "k")
    default:
        DOUBLE_CASE("q", "q")
    }
    return a;
}

static int double_shift(struct vcpu *vcpu, const struct bound_insn *bound, bool left)
{
    struct open_operand open;
    uint64_t source, count;
    if (operand_read(vcpu, bound, 1, &source) || operand_read(vcpu, bound, 2, &count) ||
        operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    uint64_t result = alu_double(open.value, source, count, left, open.operand->bytes, &flags);
    if (operand_close(vcpu, &open, result))
        return INTERP_FAULT;
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    return INTERP_DONE;
}

int interp_shld(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return double_shift(vcpu, bound, true);
}

int interp_shrd(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return double_shift(vcpu, bound, false);
}

// ---- BMI2: no flags, counts taken modulo the width ----

enum flagless { FLAGLESS_RIGHT, FLAGLESS_LEFT, FLAGLESS_ARITHMETIC, FLAGLESS_ROTATE };

ALWAYS_INLINE int shift_flagless(struct vcpu *vcpu, const struct bound_insn *bound,
                                 enum flagless kind)
{
    unsigned bytes = bound->operand[0].bytes, bits = 8 * bytes;
    uint64_t value, count;
    if (operand_read(vcpu, bound, 1, &value) || operand_read(vcpu, bound, 2, &count))
        return INTERP_FAULT;
    count &= bits - 1;
    switch (kind) {
    case FLAGLESS_RIGHT:
        value >>= count;
        break;
    case FLAGLESS_LEFT:
        value <<= count;
        break;
    case FLAGLESS_ARITHMETIC:
        value = (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits) >> count);
        break;
    case FLAGLESS_ROTATE:
        value = value >> count | value << ((bits - count) & (bits - 1));
        break;
    }
    operand_write_register(vcpu, &bound->operand[0], value);
    return INTERP_DONE;
}

int interp_shrx(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return shift_flagless(vcpu, bound, FLAGLESS_RIGHT);
}

int interp_shlx(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return shift_flagless(vcpu, bound, FLAGLESS_LEFT);
}

int interp_sarx(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return shift_flagless(vcpu, bound, FLAGLESS_ARITHMETIC);
}

int interp_rorx(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return shift_flagless(vcpu, bound, FLAGLESS_ROTATE);
}
