// SPDX-License-Identifier: Apache-2.0
//
// Memory operands through the soft TLB.
//
// With A and B scratch registers, where the status flags may be spoiled:
//
//     lea   A, [operand]              the linear address
//     rorx  B, A, 12                  page number,
//     and   B, TLB_ENTRIES - 1        index
//     add   A, gs:[tag + 8 B]         tags are negated addresses: the offset in the page if it hits
//     cmp   A, 4096 - size            so one comparison finds misses and accesses that cross the page
//     ja    miss
//     mov   B, gs:[addend + 8 B]
//     access [base + B + displacement]
//
// where they are needed (LEA, PEXT, JRCXZ leave them alone; A keeps the address):
//
//     lea   A, [operand]
//     pext  B, A, gs:[index_mask]
//     mov   rcx, gs:[tag + 8 B]
//     lea   rcx, [rcx + A + size - 1]
//     pext  rcx, rcx, gs:[page_mask]  0 if below 4096
//     jrcxz hit
//     jmp   miss
//     hit:
//     mov   B, gs:[addend + 8 B]
//     access [A + B]
//
// Constant addresses (RIP-relative and absolute ones) have their index computed now.
#include "base/bits.h"
#include "machine/engine/translate.h"

static uint64_t tlb_array(const struct translation *t, size_t member)
{
    return VCPU_CONTEXT_OFFSET + offsetof(struct engine_cpu, tlb) +
           t->tlb_mode * sizeof(struct tlb) + member;
}

static uint64_t tag_array(const struct translation *t, bool write)
{
    return tlb_array(t, write ? offsetof(struct tlb, write_tag) : offsetof(struct tlb, read_tag));
}

bool translate_address(const struct planned_insn *p, struct guest_address *address)
{
    const struct insn *insn = &p->insn;

    if (insn->address_size != 8)
        return false;
    *address = (struct guest_address){
        .base = insn->base < GPR_COUNT ? (int8_t)insn->base : (int8_t)HOST_NONE,
        .index = insn->index < GPR_COUNT ? (int8_t)insn->index : (int8_t)HOST_NONE,
        .scale = insn->scale,
        .segment =
            insn->segment == SEG_FS || insn->segment == SEG_GS ? insn->segment : (uint8_t)SEG_NONE,
        .displacement = insn->displacement,
    };
    if (insn->base == INSN_REG_RIP)
        address->displacement += (int64_t)p->next_rip;
    address->constant = address->base == HOST_NONE && address->index == HOST_NONE;
    return true;
}

static uint16_t address_registers(const struct guest_address *address)
{
    return (uint16_t)((address->base == HOST_NONE ? 0 : REGISTER_BIT(address->base)) |
                      (address->index == HOST_NONE ? 0 : REGISTER_BIT(address->index)));
}

// A = linear address. B is free to be spoiled.
static void emit_linear(struct translation *t, const struct guest_address *a, unsigned reg)
{
    struct emitter *e = &t->near;
    struct host_memory operand = {a->base, a->index, a->scale, false, (int32_t)a->displacement};

    if (a->constant)
        emit_constant(e, reg, (uint64_t)a->displacement);
    else
        emit_lea(e, true, reg, operand);
}

static void emit_index(struct translation *t, unsigned index, unsigned address, bool flags_live)
{
    if (flags_live) {
        emit_pext_memory(&t->near, index, address,
                         host_context(CONTEXT_ENGINE(translate.index_mask)));
    } else {
        emit_rorx(&t->near, index, address, 12);
        emit_and32_imm(&t->near, index, TLB_ENTRIES - 1);
    }
}

// The last scratch register may be one that the access overwrites: it need not be loaded again.
static unsigned last_scratch(struct translation *t, const struct look_up *l, uint16_t used)
{
    uint16_t allowed = l->allowed & (uint16_t)~used;
    uint16_t overwritten = allowed & l->overwritten & (uint16_t)~REGISTER_BIT(RSP);

    return translate_scratch(t, overwritten ? overwritten : allowed);
}

// Base and displacement alone say the address a second time, behind the index, so that no register need keep it.
static bool is_short(const struct look_up *l)
{
    const struct guest_address *address = &l->address;

    return address->index == HOST_NONE && address->base != HOST_NONE && address->base != RCX &&
           address->segment == SEG_NONE &&
           fits_i32((uint64_t)(address->displacement + (int64_t)l->size - 1));
}

// Flags live: A keeps the linear address, RCX is used and afterwards loaded again if it is needed.
static struct host_memory emit_careful(struct translation *t, const struct look_up *l,
                                       struct far_exit *miss)
{
    struct emitter *e = &t->near;
    uint16_t used = l->forbidden | address_registers(&l->address) | REGISTER_BIT(RCX);
    bool short_form = is_short(l);
    int8_t a = l->address.base;
    int32_t displacement = 0;
    unsigned b;

    if (short_form) {
        displacement = (int32_t)l->address.displacement;
        b = last_scratch(t, l, used);
        if (displacement)
            emit_lea(e, true, b, host_base((unsigned)a, displacement));
        emit_index(t, b, displacement ? b : (unsigned)a, true);
    } else {
        a = (int8_t)translate_scratch(t, l->allowed & (uint16_t) ~(used | l->overwritten));
        b = last_scratch(t, l, used | REGISTER_BIT(a));
        emit_linear(t, &l->address, (unsigned)a);
        if (l->address.segment != SEG_NONE) {
            emit_load(e, b,
                      host_context(CONTEXT_STATE(segment[0].base) +
                                   l->address.segment * sizeof(struct segment)));
            emit_lea(e, true, (unsigned)a, (struct host_memory){a, (int8_t)b, 0, false, 0});
        }
        emit_index(t, b, (unsigned)a, true);
    }
    bool rcx_needed = (l->forbidden & REGISTER_BIT(RCX)) && !(t->evicted & REGISTER_BIT(RCX));
    translate_evict(t, RCX);
    emit_load(e, RCX, host_context_array(tag_array(t, l->write), b));
    emit_lea(e, true, RCX,
             (struct host_memory){a, RCX, 0, false, displacement + (int32_t)l->size - 1});
    emit_pext_memory(e, RCX, RCX, host_context(CONTEXT_ENGINE(translate.page_mask)));
    uint8_t *hit = emit_jrcxz(e);
    miss->evicted = t->evicted;
    translate_exit_jump(miss, emit_jmp(e));
    emit_target8(e, hit);
    emit_load(e, b, host_context_array(tlb_array(t, offsetof(struct tlb, addend)), b));
    if (rcx_needed)
        translate_need(t, REGISTER_BIT(RCX));
    return (struct host_memory){a, (int8_t)b, 0, false, displacement};
}

static struct host_memory emit_quick(struct translation *t, const struct look_up *l,
                                     struct far_exit *miss)
{
    struct emitter *e = &t->near;
    const struct guest_address *address = &l->address;
    uint16_t used = l->forbidden | address_registers(address);
    unsigned a = translate_scratch(t, l->allowed & (uint16_t) ~(used | l->overwritten));
    unsigned b = last_scratch(t, l, used | REGISTER_BIT(a));
    struct host_memory segment =
        host_context(CONTEXT_STATE(segment[0].base) + address->segment * sizeof(struct segment));

    emit_linear(t, address, a);
    if (address->segment != SEG_NONE)
        emit_add_memory(e, a, segment);
    emit_index(t, b, a, false);
    emit_add_memory(e, a, host_context_array(tag_array(t, l->write), b));
    emit_cmp_imm(e, a, 4096 - l->size);
    miss->evicted = t->evicted;
    translate_exit_jump(miss, emit_jcc(e, HOST_A));
    emit_load(e, b, host_context_array(tlb_array(t, offsetof(struct tlb, addend)), b));
    if (address->segment != SEG_NONE)
        emit_add_memory(e, b, segment);
    if (address->index == HOST_NONE) {
        if (address->base == HOST_NONE)
            return host_base(b, (int32_t)address->displacement);
        return (struct host_memory){address->base, (int8_t)b, 0, false,
                                    (int32_t)address->displacement};
    }
    if (address->base != HOST_NONE)
        emit_lea(e, true, b, (struct host_memory){address->base, (int8_t)b, 0, false, 0});
    return (struct host_memory){(int8_t)b, address->index, address->scale, false,
                                (int32_t)address->displacement};
}

// The address is known now.
static struct host_memory emit_constant_look_up(struct translation *t, const struct look_up *l,
                                                struct far_exit *miss)
{
    struct emitter *e = &t->near;
    uint64_t linear = (uint64_t)l->address.displacement, page = align_down(linear, 4096);
    uint32_t index = tlb_index(linear);
    struct host_memory tag = host_context(tag_array(t, l->write) + 8u * index);
    struct host_memory addend =
        host_context(tlb_array(t, offsetof(struct tlb, addend)) + 8u * index);

    if (!l->flags_live && fits_i32(-page) && fits_i32(linear)) {
        unsigned b = last_scratch(t, l, l->forbidden);
        emit_cmp_memory_imm(e, true, tag, (uint32_t)-page);
        miss->evicted = t->evicted;
        translate_exit_jump(miss, emit_jcc(e, HOST_NE));
        emit_load(e, b, addend);
        return host_base(b, (int32_t)linear);
    }
    uint16_t used = l->forbidden | REGISTER_BIT(RCX);
    unsigned a = translate_scratch(t, l->allowed & (uint16_t) ~(used | l->overwritten));
    unsigned b = last_scratch(t, l, used | REGISTER_BIT(a));
    int32_t back = -(int32_t)(linear - page);
    bool rcx_needed = (l->forbidden & REGISTER_BIT(RCX)) && !(t->evicted & REGISTER_BIT(RCX));

    emit_constant(e, a, linear);
    if (l->flags_live) {
        translate_evict(t, RCX);
        emit_load(e, RCX, tag);
        emit_lea(e, true, RCX, (struct host_memory){RCX, (int8_t)a, 0, false, back});
        uint8_t *hit = emit_jrcxz(e);
        miss->evicted = t->evicted;
        translate_exit_jump(miss, emit_jmp(e));
        emit_target8(e, hit);
        if (rcx_needed)
            translate_need(t, REGISTER_BIT(RCX));
    } else {
        emit_load(e, b, tag);
        emit_lea(e, true, b, (struct host_memory){(int8_t)b, (int8_t)a, 0, false, back});
        emit_test(e, b);
        miss->evicted = t->evicted;
        translate_exit_jump(miss, emit_jcc(e, HOST_NE));
    }
    emit_load(e, b, addend);
    return (struct host_memory){(int8_t)a, (int8_t)b, 0, false, 0};
}

bool translate_look_up(struct translation *t, const struct look_up *l, struct far_exit *miss,
                       struct host_memory *host)
{
    const struct guest_address *address = &l->address;

    translate_need(t, address_registers(address) | l->forbidden);
    if (address->constant && address->segment == SEG_NONE) {
        if (((uint64_t)address->displacement & 4095) + l->size > 4096)
            return false;
        *host = emit_constant_look_up(t, l, miss);
    } else if (!fits_i32((uint64_t)address->displacement)) {
        return false;
    } else {
        *host = l->flags_live ? emit_careful(t, l, miss) : emit_quick(t, l, miss);
    }
    return true;
}

// ---- Instructions with a memory operand ----

// On the only CPU of a machine, one instruction is atomic as it is: an interrupt comes before or after it. LOCK costs some 8 ns and is left out, but
// where it serves as a barrier against devices, which are other threads: locked instructions that change nothing, or work on the stack. (Kernels
// leave LOCK out on one CPU, too, and XCHG, which always locks, is the other barrier they use.)
static bool keeps_lock(const struct translation *t, const struct insn *insn)
{
    return t->vcpu->system->vcpu_count > 1 || insn->base == RSP ||
           (insn->immediate_bytes && !insn->immediate);
}

static void emit_legacy_prefixes(struct translation *t, const struct planned_insn *p)
{
    for (unsigned i = 0; i < p->insn.opcode_at; i++) {
        uint8_t byte = p->bytes[i];
        if (byte == 0x66 || byte == 0xF2 || byte == 0xF3) {
            emit_u8(&t->near, byte);
        } else if (byte == 0xF0) {
            if (keeps_lock(t, &p->insn))
                emit_u8(&t->near, byte);
        } else if (byte != 0x67 && byte != 0x2E && byte != 0x36 && byte != 0x3E && byte != 0x26 &&
                   byte != 0x64 && byte != 0x65) {
            break; // REX or the opcode
        }
    }
}

static void emit_vex(struct emitter *e, const struct insn *insn, struct host_memory operand)
{
    unsigned xb = host_rex_xb(operand);

    emit_u8(e, 0xC4);
    emit_u8(e, (insn->rex & REX_R ? 0u : 0x80u) | (xb & 2 ? 0u : 0x40u) | (xb & 1 ? 0u : 0x20u) |
                   insn->map);
    emit_u8(e, (insn->rex & REX_W ? 0x80u : 0u) | (~insn->vex_vvvv & 15u) << 3 | insn->vex_l * 4u |
                   insn->vex_pp);
}

static void emit_opcode_map(struct emitter *e, unsigned map)
{
    if (map != MAP_ONE)
        emit_u8(e, 0x0F);
    if (map == MAP_0F38)
        emit_u8(e, 0x38);
    if (map == MAP_0F3A)
        emit_u8(e, 0x3A);
}

// The instruction again, with `operand` in place of its memory operand.
void translate_emit_with(struct translation *t, const struct planned_insn *p,
                         struct host_memory operand)
{
    struct emitter *e = &t->near;
    const struct insn *insn = &p->insn;
    bool moffs = !(insn->form->attributes & INSN_MODRM); // A0 to A3, as 8A, 8B, 88, 89
    unsigned opcode =
        moffs ? (insn->opcode < 0xA2 ? insn->opcode - 0xA0u + 0x8A : insn->opcode - 0xA2u + 0x88)
              : insn->opcode;

    if (insn->encoding == ENCODING_VEX) {
        emit_vex(e, insn, operand);
    } else {
        unsigned kept = moffs ? REX_W : REX_W | REX_R; // R means nothing to A0 to A3
        unsigned rex = (insn->rex & kept) | host_rex_xb(operand);
        emit_legacy_prefixes(t, p);
        if (rex || (insn->rex & REX_PRESENT))
            emit_u8(e, 0x40 | rex);
        emit_opcode_map(e, insn->map);
    }
    emit_u8(e, opcode);
    emit_modrm_memory(e, moffs ? 0 : (unsigned)insn->modrm >> 3, operand);
    emit_bytes(e, p->bytes + insn->immediate_at, insn->immediate_bytes);
    if (insn->immediate2_bytes)
        emit_bytes(e, p->bytes + insn->immediate2_at, insn->immediate2_bytes);
}

// AH, CH, DH and BH cannot be named beside a REX prefix.
static bool uses_high_byte(const struct insn *insn)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(insn->form->operands); i++) {
        if (insn->form->operands[i].kind == OPERAND_GPR &&
            insn_is_high_byte(insn, insn->reg, insn_operand_bytes(insn, i)))
            return true;
    }
    return false;
}

bool translate_memory_insn(struct translation *t, const struct planned_insn *p)
{
    struct insn_access access = insn_memory_access(&p->insn);
    struct look_up l = {
        .size = access.bytes,
        .write = (access.access & ACCESS_WRITE) != 0,
        .flags_live = p->flags_before != 0,
        .forbidden = p->reads,
        .overwritten = p->writes & (uint16_t)~p->reads,
        .allowed = uses_high_byte(&p->insn) ? NO_REX_REGISTERS : 0xFFFF,
    };
    struct host_memory operand;

    if (!translate_address(p, &l.address))
        return false;
    l.forbidden &= (uint16_t)~REGISTER_BIT(RSP);
    struct far_exit *miss = translate_miss(t);
    if (!translate_look_up(t, &l, miss, &operand))
        return false;
    translate_fault_site(t);
    translate_emit_with(t, p, operand);
    translate_wrote(t, p->writes);
    return true;
}
