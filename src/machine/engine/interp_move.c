// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: moves, exchanges, conditional moves, flags.
#include "machine/engine/interp_alu.h"
#include "machine/engine/interp_handlers.h"

ALU_BINARY(cmp, "cmp")
ALU_BINARY(add, "add")

int interp_mov(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    if (operand_read(vcpu, bound, 1, &value))
        return INTERP_FAULT;
    return operand_write(vcpu, bound, 0, value);
}

int interp_movsx(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned unused_bits = 64 - 8 * bound->operand[1].bytes;
    uint64_t value;
    if (operand_read(vcpu, bound, 1, &value))
        return INTERP_FAULT;
    operand_write_register(vcpu, &bound->operand[0],
                           (uint64_t)((int64_t)(value << unused_bits) >> unused_bits));
    return INTERP_DONE;
}

int interp_lea(struct vcpu *vcpu, const struct bound_insn *bound)
{
    gpr_write(vcpu, bound->operand[0].number, bound->operand[0].bytes,
              effective_address(vcpu, bound));
    return INTERP_DONE;
}

int interp_nop(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return INTERP_DONE;
}

int interp_xchg(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct open_operand open;
    uint64_t other;
    if (operand_read(vcpu, bound, 1, &other) || operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    uint64_t old;
    int closed;
    do {
        old = open.value;
        closed = operand_close(vcpu, &open, other);
    } while (closed > 0);
    if (closed < 0)
        return INTERP_FAULT;
    operand_write_register(vcpu, &bound->operand[1], old);
    return INTERP_DONE;
}

int interp_xadd(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct open_operand open;
    uint64_t addend, old;
    if (operand_read(vcpu, bound, 1, &addend) || operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    uint32_t flags;
    int closed;
    // The source register is written first, so that XADD of a register with itself leaves the sum.
    bool in_memory = bound->operand[0].place == PLACE_MEMORY;
    do {
        old = open.value;
        flags = alu_flags_pack(vcpu->state.rflags);
        uint64_t sum = alu_add(old, addend, open.operand->bytes, &flags);
        if (!in_memory)
            operand_write_register(vcpu, &bound->operand[1], old);
        closed = operand_close(vcpu, &open, sum);
    } while (closed > 0);
    if (closed < 0)
        return INTERP_FAULT;
    if (in_memory)
        operand_write_register(vcpu, &bound->operand[1], old);
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    return INTERP_DONE;
}

int interp_cmpxchg(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct open_operand open;
    uint64_t source;
    unsigned bytes = bound->operand[0].bytes;
    if (operand_read(vcpu, bound, 1, &source) || operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    uint64_t expected = gpr_read(vcpu, RAX, bytes), old;
    int closed;
    // An unequal destination in memory is written back unchanged, as the processor does it; one in a register keeps even
    // the half beyond 32 bits.
    do {
        old = open.value;
        bool keeps = old != expected && bound->operand[0].place == PLACE_REGISTER;
        closed = keeps ? 0 : operand_close(vcpu, &open, old == expected ? source : old);
    } while (closed > 0);
    if (closed < 0)
        return INTERP_FAULT;
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    alu_cmp(expected, old, bytes, &flags);
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    if (old != expected)
        gpr_write(vcpu, RAX, bytes, old);
    return INTERP_DONE;
}

int interp_cmpxchg8b(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct open_operand open;
    if (operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    uint64_t *gpr = vcpu->state.gpr;
    uint64_t expected = (uint32_t)gpr[RAX] | gpr[RDX] << 32, old;
    uint64_t desired = (uint32_t)gpr[RBX] | gpr[RCX] << 32;
    int closed;
    do {
        old = open.value;
        closed = operand_close(vcpu, &open, old == expected ? desired : old);
    } while (closed > 0);
    if (closed < 0)
        return INTERP_FAULT;
    vcpu->state.rflags &= ~(uint64_t)FLAG_ZF;
    if (old == expected) {
        vcpu->state.rflags |= FLAG_ZF;
    } else {
        gpr[RAX] = (uint32_t)old;
        gpr[RDX] = old >> 32;
    }
    return INTERP_DONE;
}

struct quad_pair {
    uint64_t low, high;
};

// On RAM, a host LOCK CMPXCHG16B; elsewhere under the global lock. `expected` becomes what was found. 0 or -1.
static int exchange_16_bytes(struct vcpu *vcpu, struct gva at, struct quad_pair *expected,
                             const struct quad_pair *desired)
{
    void *host = mmu_pointer(vcpu, at, 16, MMU_READ_WRITE);
    if (host != NULL) {
        __asm__ volatile("lock cmpxchg16b (%[p])"
                         : "+a"(expected->low), "+d"(expected->high)
                         : [p] "r"(host), "b"(desired->low), "c"(desired->high)
                         : "memory", "cc");
        return 0;
    }
    if (engine_cpu_of(vcpu)->exception.vector != EXC_NONE ||
        mmu_probe(vcpu, at, 16, MMU_READ_WRITE, MMU_NORMAL))
        return -1;
    memory_lock_globally();
    struct quad_pair found;
    int result = mmu_read(vcpu, at, &found, 16, MMU_NORMAL);
    if (!result) {
        bool equal = found.low == expected->low && found.high == expected->high;
        result = mmu_write(vcpu, at, equal ? desired : &found, 16, MMU_NORMAL);
        *expected = found;
    }
    memory_unlock_globally();
    return result;
}

int interp_cmpxchg16b(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t *gpr = vcpu->state.gpr;
    struct gva at;
    uint64_t offset = effective_address(vcpu, bound);
    if ((vcpu->state.segment[bound->insn.segment].base + offset) &
        15) // before anything else about the address
        return raise_gp(vcpu, 0);
    if (memory_linear(vcpu, bound->insn.segment, offset, 16, true, &at))
        return INTERP_FAULT;
    struct quad_pair found = {gpr[RAX], gpr[RDX]}, desired = {gpr[RBX], gpr[RCX]};
    if (exchange_16_bytes(vcpu, at, &found, &desired))
        return INTERP_FAULT;
    bool equal = found.low == gpr[RAX] && found.high == gpr[RDX];
    vcpu->state.rflags = (vcpu->state.rflags & ~(uint64_t)FLAG_ZF) | (equal ? FLAG_ZF : 0);
    gpr[RAX] = found.low;
    gpr[RDX] = found.high;
    return INTERP_DONE;
}

int interp_setcc(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return operand_write(vcpu, bound, 0, condition_holds(vcpu->state.rflags, bound->insn.opcode));
}

// The source is read, and a 32-bit destination's upper half cleared, whatever the condition.
int interp_cmovcc(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct bound_operand *to = &bound->operand[0];
    uint64_t value;
    if (operand_read(vcpu, bound, 1, &value))
        return INTERP_FAULT;
    if (!condition_holds(vcpu->state.rflags, bound->insn.opcode))
        value = gpr_read(vcpu, to->number, to->bytes);
    operand_write_register(vcpu, to, value);
    return INTERP_DONE;
}

int interp_xlat(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct insn *insn = &bound->insn;
    unsigned segment = insn->segment_override != SEG_NONE ? insn->segment_override : SEG_DS;
    uint64_t offset =
        (vcpu->state.gpr[RBX] + (vcpu->state.gpr[RAX] & 0xff)) & size_mask(insn->address_size);
    uint64_t value;
    if (memory_read(vcpu, segment, offset, 1, &value))
        return INTERP_FAULT;
    gpr_write(vcpu, RAX, 1, value);
    return INTERP_DONE;
}

// ---- Flags ----

int interp_lahf(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t ah = (vcpu->state.rflags & 0xd5) | FLAG_FIXED1;
    vcpu->state.gpr[RAX] = (vcpu->state.gpr[RAX] & ~0xff00ull) | ah << 8;
    return INTERP_DONE;
}

int interp_sahf(struct vcpu *vcpu, const struct bound_insn *bound)
{
    vcpu->state.rflags = (vcpu->state.rflags & ~0xd5ull) | ((vcpu->state.gpr[RAX] >> 8) & 0xd5);
    return INTERP_DONE;
}

#define HANDLER_FLAG(name, statement)                                                              \
    int interp_##name(struct vcpu *vcpu, const struct bound_insn *bound)                           \
    {                                                                                              \
        statement;                                                                                 \
        return INTERP_DONE;                                                                        \
    }

HANDLER_FLAG(cmc, vcpu->state.rflags ^= FLAG_CF)
HANDLER_FLAG(clc, vcpu->state.rflags &= ~(uint64_t)FLAG_CF)
HANDLER_FLAG(stc, vcpu->state.rflags |= FLAG_CF)
HANDLER_FLAG(cld, vcpu->state.rflags &= ~(uint64_t)FLAG_DF)
HANDLER_FLAG(std, vcpu->state.rflags |= FLAG_DF)
