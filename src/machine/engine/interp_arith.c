// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: integer arithmetic, logic, multiplication, division, decimal adjustment.
#include "machine/engine/interp_alu.h"
#include "machine/engine/interp_handlers.h"

ALU_BINARY(add, "add")
ALU_BINARY(or, "or")
ALU_BINARY(adc, "adc")
ALU_BINARY(sbb, "sbb")
ALU_BINARY(and, "and")
ALU_BINARY(sub, "sub")
ALU_BINARY(xor, "xor")
ALU_BINARY(cmp, "cmp")
ALU_BINARY(test, "test")
ALU_BINARY_WIDE(imul2, "imul")
ALU_UNARY(inc, "inc")
ALU_UNARY(dec, "dec")
ALU_UNARY(neg, "neg")

typedef uint64_t alu_function(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed);

// destination = destination <op> source
ALWAYS_INLINE int change(struct vcpu *vcpu, const struct bound_insn *bound, alu_function *alu,
                         bool has_source)
{
    struct open_operand open;
    uint64_t source = 0;
    if (has_source && operand_read(vcpu, bound, 1, &source))
        return INTERP_FAULT;
    if (operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    uint32_t flags_before = alu_flags_pack(vcpu->state.rflags), flags;
    int closed;
    do {
        flags = flags_before;
        uint64_t result = alu(open.value, source, open.operand->bytes, &flags);
        closed = operand_close(vcpu, &open, result);
    } while (closed > 0);
    if (closed < 0)
        return INTERP_FAULT;
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    return INTERP_DONE;
}

// Flags of destination <op> source, stored nowhere.
ALWAYS_INLINE int compare(struct vcpu *vcpu, const struct bound_insn *bound, alu_function *alu)
{
    uint64_t a, b;
    if (operand_read(vcpu, bound, 0, &a) || operand_read(vcpu, bound, 1, &b))
        return INTERP_FAULT;
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    alu(a, b, bound->operand[0].bytes, &flags);
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    return INTERP_DONE;
}

#define HANDLER_CHANGE(name, has_source)                                                           \
    int interp_##name(struct vcpu *vcpu, const struct bound_insn *bound)                           \
    {                                                                                              \
        return change(vcpu, bound, alu_##name, has_source);                                        \
    }

HANDLER_CHANGE(add, true)
HANDLER_CHANGE(or, true)
HANDLER_CHANGE(adc, true)
HANDLER_CHANGE(sbb, true)
HANDLER_CHANGE(and, true)
HANDLER_CHANGE(sub, true)
HANDLER_CHANGE(xor, true)
HANDLER_CHANGE(inc, false)
HANDLER_CHANGE(dec, false)
HANDLER_CHANGE(neg, false)

int interp_cmp(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return compare(vcpu, bound, alu_cmp);
}

int interp_test(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return compare(vcpu, bound, alu_test);
}

int interp_not(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct open_operand open;
    if (operand_open(vcpu, bound, 0, &open))
        return INTERP_FAULT;
    int closed;
    do
        closed = operand_close(vcpu, &open, ~open.value);
    while (closed > 0);
    return closed;
}

// ADCX and ADOX: the carry goes in and out through one flag, the others stay.
ALWAYS_INLINE int add_with_flag(struct vcpu *vcpu, const struct bound_insn *bound, uint64_t flag)
{
    uint64_t a, b;
    if (operand_read(vcpu, bound, 0, &a) || operand_read(vcpu, bound, 1, &b))
        return INTERP_FAULT;
    unsigned __int128 sum = (unsigned __int128)a + b + ((vcpu->state.rflags & flag) != 0);
    bool carry = (sum >> (8 * bound->operand[0].bytes)) & 1;
    operand_write_register(vcpu, &bound->operand[0], (uint64_t)sum);
    vcpu->state.rflags = (vcpu->state.rflags & ~flag) | (carry ? flag : 0);
    return INTERP_DONE;
}

int interp_adcx(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return add_with_flag(vcpu, bound, FLAG_CF);
}

int interp_adox(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return add_with_flag(vcpu, bound, FLAG_OF);
}

// ---- Multiplication and division of the accumulator pair ----

// The pair that MUL, IMUL, DIV and IDIV work on: AX, DX:AX, EDX:EAX, RDX:RAX.
struct pair {
    uint64_t low, high;
};

static struct pair pair_read(const struct vcpu *vcpu, unsigned bytes)
{
    if (bytes == 1)
        return (struct pair){vcpu->state.gpr[RAX] & 0xff, (vcpu->state.gpr[RAX] >> 8) & 0xff};
    return (struct pair){gpr_read(vcpu, RAX, bytes), gpr_read(vcpu, RDX, bytes)};
}

static void pair_write(struct vcpu *vcpu, unsigned bytes, struct pair pair)
{
    if (bytes == 1) {
        gpr_write(vcpu, RAX, 2, (pair.high & 0xff) << 8 | (pair.low & 0xff));
        return;
    }
    gpr_write(vcpu, RAX, bytes, pair.low);
    gpr_write(vcpu, RDX, bytes, pair.high);
}

// The host's instruction on RDX:RAX (or AX). The flags travel through RAX too, so that is loaded between and saved before.
#define PAIR_CASE(text)                                                                            \
    __asm__ volatile("movl %k[f], %%eax\n\t" ALU_FLAGS_IN "movq %[l], %%rax\n\t" text              \
                     "\n\tmovq %%rax, %[l]" ALU_FLAGS_OUT "\n\tmovzwl %%ax, %k[f]"                 \
                     : [l] "+r"(low), "+d"(high), [f] "+r"(flags)                                  \
                     : [s] "r"(source)                                                             \
                     : "rax", "cc");                                                               \
    break;

#define PAIR_OPERATION(name, op)                                                                   \
    static void pair_##name(struct vcpu *vcpu, struct pair *pair, uint64_t source, unsigned bytes) \
    {                                                                                              \
        uint64_t low = bytes == 1 ? pair->low | pair->high << 8 : pair->low, high = pair->high;    \
        uint32_t flags = alu_flags_pack(vcpu->state.rflags);                                       \
        switch (bytes) {                                                                           \
        case 1:                                                                                    \
            PAIR_CASE(op "b %b[s]")                                                                \
        case 2:                                                                                    \
            PAIR_CASE(op "w %w[s]")                                                                \
        case 4:                                                                                    \
            PAIR_CASE(op "l %k[s]")                                                                \
        default:                                                                                   \
            PAIR_CASE(op "q %[s]")                                                                 \
        }                                                                                          \
        pair->low = low;                                                                           \
        pair->high = bytes == 1 ? low >> 8 : high;                                                 \
        vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);                           \
    }

PAIR_OPERATION(mul, "mul")
PAIR_OPERATION(imul, "imul")
PAIR_OPERATION(div, "div")
PAIR_OPERATION(idiv, "idiv")

static int multiply(struct vcpu *vcpu, const struct bound_insn *bound,
                    void (*operation)(struct vcpu *, struct pair *, uint64_t, unsigned))
{
    unsigned bytes = bound->operand[0].bytes;
    uint64_t source;
    if (operand_read(vcpu, bound, 0, &source))
        return INTERP_FAULT;
    struct pair pair = pair_read(vcpu, bytes);
    operation(vcpu, &pair, source, bytes);
    pair_write(vcpu, bytes, pair);
    return INTERP_DONE;
}

int interp_mul(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return multiply(vcpu, bound, pair_mul);
}

int interp_imul(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return multiply(vcpu, bound, pair_imul);
}

int interp_div(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->operand[0].bytes;
    uint64_t divisor;
    if (operand_read(vcpu, bound, 0, &divisor))
        return INTERP_FAULT;
    struct pair pair = pair_read(vcpu, bytes);
    if (pair.high >= divisor) // zero, or a quotient that does not fit
        return raise_exception(vcpu, EXC_DE);
    pair_div(vcpu, &pair, divisor, bytes);
    pair_write(vcpu, bytes, pair);
    return INTERP_DONE;
}

static __int128 sign_extend(unsigned __int128 value, unsigned bits)
{
    return (__int128)(value << (128 - bits)) >> (128 - bits);
}

// Does the signed quotient fit into `bytes`?
static bool idiv_fits(struct pair pair, uint64_t divisor_bits, unsigned bytes)
{
    __int128 dividend =
        sign_extend((unsigned __int128)pair.high << (8 * bytes) | pair.low, 16 * bytes);
    __int128 divisor = sign_extend(divisor_bits, 8 * bytes);
    if (divisor == 0 ||
        (divisor == -1 && dividend == sign_extend((unsigned __int128)1 << 127, 128)))
        return false;
    __int128 quotient = dividend / divisor;
    return quotient == sign_extend((unsigned __int128)quotient, 8 * bytes);
}

int interp_idiv(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->operand[0].bytes;
    uint64_t divisor;
    if (operand_read(vcpu, bound, 0, &divisor))
        return INTERP_FAULT;
    struct pair pair = pair_read(vcpu, bytes);
    if (!idiv_fits(pair, divisor, bytes))
        return raise_exception(vcpu, EXC_DE);
    pair_idiv(vcpu, &pair, divisor, bytes);
    pair_write(vcpu, bytes, pair);
    return INTERP_DONE;
}

// Two operands: destination times source; three: second times third.
int interp_imul2(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned first = bound->insn.form->operands[2].kind != OPERAND_NONE ? 1 : 0;
    uint64_t a, b;
    if (operand_read(vcpu, bound, first, &a) || operand_read(vcpu, bound, first + 1, &b))
        return INTERP_FAULT;
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    uint64_t result = alu_imul2(a, b, bound->operand[0].bytes, &flags);
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
    operand_write_register(vcpu, &bound->operand[0], result);
    return INTERP_DONE;
}

// MULX: RDX times source; high half to operand 0, low half to operand 1 (high wins when they are the same).
int interp_mulx(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->operand[0].bytes;
    uint64_t source;
    if (operand_read(vcpu, bound, 2, &source))
        return INTERP_FAULT;
    unsigned __int128 product = (unsigned __int128)gpr_read(vcpu, RDX, bytes) * source;
    operand_write_register(vcpu, &bound->operand[1], (uint64_t)product);
    operand_write_register(vcpu, &bound->operand[0], (uint64_t)(product >> (8 * bytes)));
    return INTERP_DONE;
}

int interp_cbw(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size;
    uint64_t half = gpr_read(vcpu, RAX, bytes / 2);
    gpr_write(vcpu, RAX, bytes, (uint64_t)sign_extend(half, 4 * bytes));
    return INTERP_DONE;
}

int interp_cwd(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size;
    bool negative = (vcpu->state.gpr[RAX] >> (8 * bytes - 1)) & 1;
    gpr_write(vcpu, RDX, bytes, negative ? ~0ull : 0);
    return INTERP_DONE;
}

// ---- Decimal adjustment (SDM vol. 2; not in 64-bit mode, so the host cannot execute them) ----

static void flags_of_al(struct vcpu *vcpu, bool carry, bool adjust)
{
    uint64_t al = vcpu->state.gpr[RAX] & 0xff;
    uint32_t flags = 0;
    alu_test(al, al, 1, &flags);
    uint64_t kept = vcpu->state.rflags;
    kept = alu_flags_merge(kept, flags) & ~(uint64_t)(FLAG_CF | FLAG_AF);
    vcpu->state.rflags = kept | (carry ? FLAG_CF : 0) | (adjust ? FLAG_AF : 0);
}

static int decimal_adjust(struct vcpu *vcpu, bool subtract)
{
    uint8_t old = (uint8_t)vcpu->state.gpr[RAX], al = old;
    bool old_carry = vcpu->state.rflags & FLAG_CF;
    bool low = (old & 15) > 9 || (vcpu->state.rflags & FLAG_AF);
    bool high = old > 0x99 || old_carry;
    // DAS also sets CF when the low adjustment borrows out of AL.
    bool carry = high || (subtract && low && old < 6);
    uint8_t correction = (uint8_t)((low ? 6 : 0) + (high ? 0x60 : 0));
    al = (uint8_t)(subtract ? old - correction : old + correction);
    gpr_write(vcpu, RAX, 1, al);
    flags_of_al(vcpu, carry, low);
    return INTERP_DONE;
}

int interp_daa(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return decimal_adjust(vcpu, false);
}

int interp_das(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return decimal_adjust(vcpu, true);
}

static int ascii_adjust(struct vcpu *vcpu, bool subtract)
{
    uint16_t ax = (uint16_t)vcpu->state.gpr[RAX];
    bool adjust = (ax & 15) > 9 || (vcpu->state.rflags & FLAG_AF);
    if (adjust)
        ax = (uint16_t)(subtract ? ax - 0x106 : ax + 0x106);
    gpr_write(vcpu, RAX, 2, ax & 0xff0f);
    flags_of_al(vcpu, adjust, adjust);
    return INTERP_DONE;
}

int interp_aaa(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return ascii_adjust(vcpu, false);
}

int interp_aas(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return ascii_adjust(vcpu, true);
}

int interp_aam(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t al = (uint8_t)vcpu->state.gpr[RAX], base = (uint8_t)bound->insn.immediate;
    if (base == 0)
        return raise_exception(vcpu, EXC_DE);
    gpr_write(vcpu, RAX, 2, (uint64_t)(al / base) << 8 | al % base);
    flags_of_al(vcpu, false, false);
    return INTERP_DONE;
}

int interp_aad(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t ax = vcpu->state.gpr[RAX];
    uint8_t al = (uint8_t)(ax + (ax >> 8) % 256 * (uint8_t)bound->insn.immediate);
    gpr_write(vcpu, RAX, 2, al);
    flags_of_al(vcpu, false, false);
    return INTERP_DONE;
}

int interp_salc(struct vcpu *vcpu, const struct bound_insn *bound)
{
    gpr_write(vcpu, RAX, 1, vcpu->state.rflags & FLAG_CF ? 0xff : 0);
    return INTERP_DONE;
}

void interp_set_compare_flags(struct vcpu *vcpu, uint64_t a, uint64_t b, unsigned bytes)
{
    uint32_t flags = alu_flags_pack(vcpu->state.rflags);
    alu_cmp(a, b, bytes, &flags);
    vcpu->state.rflags = alu_flags_merge(vcpu->state.rflags, flags);
}
