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
//
// Where instructions ahead use the same base register with other displacements, the first keeps the tag and the addend in registers, T and B, and the
// others ask only whether they are in the same page (known_page):
//
//     lea   A, [operand + T]          or rcx, as above, where flags are needed
//     cmp   A, 4096 - size
//     ja    renewal                   far: the whole look-up for T and B, then back
//     access [base + B + displacement]
//
// What misses looks among the victims (engine.h) in far code, by the same instructions on their arrays, and comes back to the access; only then does it leave.
//
// T and B are lost where tier 0 executes an instruction: it does not come back into the block while they are held. That they outlive a flush of the TLB by
// another vCPU until the block's end is as it is with any TLB: flushes are asked for by events, which are looked for between blocks.
#include <assert.h>

#include "base/bits.h"
#include "machine/engine/interp_vector.h"
#include "machine/engine/translate.h"
#include "machine/engine/vectors.h"

static uint64_t tlb_array(const struct translation *t, size_t member)
{
    return VCPU_CONTEXT_OFFSET + offsetof(struct engine_cpu, tlb) +
           t->tlb_mode * sizeof(struct tlb) + member;
}

static uint64_t tag_array(const struct translation *t, bool write)
{
    return tlb_array(t, write ? offsetof(struct tlb, write_tag) : offsetof(struct tlb, read_tag));
}

static uint64_t victim_tags(const struct translation *t, bool write)
{
    return tlb_array(t, write ? offsetof(struct tlb, victims.write_tag)
                              : offsetof(struct tlb, victims.read_tag));
}

static uint64_t victim_addends(const struct translation *t)
{
    return tlb_array(t, offsetof(struct tlb, victims.addend));
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
static void emit_linear(struct emitter *e, const struct guest_address *a, unsigned reg)
{
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

static struct host_memory segment_base(const struct guest_address *address)
{
    return host_context(CONTEXT_STATE(segment[0].base) + address->segment * sizeof(struct segment));
}

// Far code for a look-up whose miss jumps by `jump`; the caller says the rest.
static struct renewal *add_renewal(struct translation *t, enum renewal_kind kind,
                                   const struct look_up *l, struct far_exit *miss, uint8_t *jump)
{
    assert(t->renewal_count < RENEWALS_MAX);
    struct renewal *r = &t->renewals[t->renewal_count++];

    miss->evicted = t->evicted;
    *r = (struct renewal){
        .kind = (uint8_t)kind,
        .jump = jump,
        .back = t->near.at,
        .miss = miss,
        .address = l->address,
        .displacement = (int32_t)l->address.displacement,
        .size = (uint8_t)l->size,
        .tlb_mode = (uint8_t)t->tlb_mode,
        .write = l->write,
        .flags_live = l->flags_live,
    };
    return r;
}

// ---- Known pages ----

static bool plain_base(const struct guest_address *address)
{
    return address->base != HOST_NONE && address->index == HOST_NONE &&
           address->segment == SEG_NONE;
}

// The base register of an instruction's access, and whether it writes; HOST_NONE: it has none of that kind.
static int base_of(const struct planned_insn *p, bool *write)
{
    struct guest_address address;

    *write = p->insn.form->op == OP_PUSH || p->insn.form->op == OP_CALL;
    if (p->plan == PLAN_STACK)
        return RSP;
    if (p->plan == PLAN_BRANCH)
        return *write || p->insn.form->op == OP_RET ? RSP : HOST_NONE;
    if (p->plan != PLAN_MEMORY || !translate_address(p, &address) || !plain_base(&address))
        return HOST_NONE;
    *write = (insn_memory_access(&p->insn).access & ACCESS_WRITE) != 0;
    return address.base;
}

// How far ahead the next access by `base` is to which a look-up for reading, or writing, would be of use; 0: none.
static unsigned next_access(const struct translation *t, int base, bool write)
{
    for (unsigned i = t->current; i < t->count; i++) {
        const struct planned_insn *p = &t->insns[i];
        bool writes;
        if (i > t->current) {
            if (p->plan >= PLAN_INTERPRET)
                return 0;
            if (base_of(p, &writes) == base)
                return write || !writes ? i - t->current : 0;
        }
        enum insn_op op = p->insn.form->op;
        bool moves_on = op == OP_ADD || op == OP_SUB || op == OP_LEA || op == OP_INC ||
                        op == OP_DEC || p->plan == PLAN_STACK;
        if ((p->writes & REGISTER_BIT(base)) && !moves_on)
            return 0; // it points somewhere else then
    }
    return 0;
}

static struct known_page *find_known(struct translation *t, const struct look_up *l)
{
    if (!plain_base(&l->address) || l->address.base == RCX || (l->size & (l->size - 1)))
        return NULL;
    for (unsigned i = 0; i < KNOWN_PAGES; i++) {
        struct known_page *page = &t->pages[i];
        if (page->valid && page->base == l->address.base && (page->write || !l->write) &&
            (l->allowed & REGISTER_BIT(page->addend)) &&
            fits_i32((uint64_t)(l->address.displacement + (int64_t)l->size - 1)))
            return page;
    }
    return NULL;
}

// Registers for a page that this look-up finds and later ones use. NULL: not worth it, or none free.
static struct known_page *begin_known(struct translation *t, const struct look_up *l,
                                      struct known_page *room)
{
    int base = l->address.base;

    if (!plain_base(&l->address) || base == RCX || l->allowed != 0xFFFF)
        return NULL;
    unsigned distance = next_access(t, base, l->write);
    if (!distance || t->insns[t->current].plan == PLAN_STRING)
        return NULL;
    uint16_t busy = l->forbidden | l->overwritten | t->insns[t->current].reads |
                    t->insns[t->current].writes | REGISTER_BIT(base) | REGISTER_BIT(RCX);
    int tag = translate_spare(t, (uint16_t)~busy, distance);
    if (tag == HOST_NONE)
        return NULL;
    int addend = translate_spare(t, (uint16_t) ~(busy | REGISTER_BIT(tag)), distance);
    if (addend == HOST_NONE)
        return NULL;
    *room = (struct known_page){true, l->write, (uint8_t)base, (uint8_t)tag, (uint8_t)addend};
    return room;
}

static void remember_known(struct translation *t, const struct known_page *page)
{
    unsigned slot = t->next_page;

    for (unsigned i = 0; i < KNOWN_PAGES; i++) {
        if (!t->pages[i].valid || t->pages[i].base == page->base) {
            slot = i;
            break;
        }
    }
    t->next_page = (slot + 1) % KNOWN_PAGES;
    t->pages[slot] = *page;
}

// Jump by the displacement returned unless `size` bytes at the base's address lie in the known page. `scratch` is RCX where flags are live. Then one
// PEXT has to see both ends. If the tag is that of the address's own entry (`fresh`), the first byte cannot lie before the page, so the last is looked at; else
// only aligned addresses pass.
static uint8_t *emit_is_known(struct emitter *e, const struct known_page *page,
                              int32_t displacement, unsigned size, unsigned scratch,
                              bool flags_live, bool fresh)
{
    struct host_memory sum = {(int8_t)page->base, (int8_t)page->tag, 0, false, displacement};
    unsigned shift = (unsigned)__builtin_ctz(size);

    if (!flags_live) {
        emit_lea(e, true, scratch, sum);
        emit_cmp_imm(e, scratch, 4096 - size);
        return emit_jcc(e, HOST_A);
    }
    if (fresh)
        sum.displacement += (int32_t)size - 1;
    emit_lea(e, true, RCX, sum);
    emit_pext_memory(e, RCX, RCX,
                     fresh ? host_context(CONTEXT_ENGINE(translate.page_mask))
                           : host_context(CONTEXT_ENGINE(translate.aligned_masks) + 8u * shift));
    uint8_t *known = emit_jrcxz(e);
    uint8_t *other = emit_jmp(e);
    emit_target8(e, known);
    return other;
}

// The look-up for a known page's registers, also among the victims.
static void emit_find_page(struct translation *t, struct emitter *e, const struct known_page *page,
                           int32_t displacement, bool flags_live, bool victim)
{
    uint64_t tags = victim ? victim_tags(t, page->write) : tag_array(t, page->write);
    uint64_t addends = victim ? victim_addends(t) : tlb_array(t, offsetof(struct tlb, addend));

    if (displacement || flags_live)
        emit_lea(e, true, page->addend, host_base(page->base, displacement));
    if (flags_live) {
        emit_pext_memory(e, page->addend, page->addend,
                         host_context(CONTEXT_ENGINE(translate.index_mask)));
    } else {
        emit_rorx(e, page->addend, displacement ? page->addend : page->base, 12);
        if (!victim)
            emit_and32_imm(e, page->addend, TLB_ENTRIES - 1);
    }
    if (victim)
        emit_movzx8(e, page->addend, page->addend);
    emit_load(e, page->tag, host_context_array(tags, page->addend));
    emit_load(e, page->addend, host_context_array(addends, page->addend));
}

// By a page that is known or will be; its registers are among the evicted ones.
static struct host_memory emit_by_page(struct translation *t, const struct look_up *l,
                                       const struct known_page *page, bool known,
                                       struct far_exit *miss)
{
    struct emitter *e = &t->near;
    int32_t displacement = (int32_t)l->address.displacement;
    unsigned scratch = RCX;
    bool rcx_needed = false;

    if (l->flags_live) {
        rcx_needed = (l->forbidden & REGISTER_BIT(RCX)) && !(t->evicted & REGISTER_BIT(RCX));
        translate_evict(t, RCX);
    } else {
        uint16_t pair = (uint16_t)(REGISTER_BIT(page->tag) | REGISTER_BIT(page->addend));
        scratch = last_scratch(t, l, l->forbidden | REGISTER_BIT(page->base) | pair);
    }
    if (!known)
        emit_find_page(t, e, page, displacement, l->flags_live, false);
    uint8_t *other = emit_is_known(e, page, displacement, l->size, scratch, l->flags_live, !known);
    struct renewal *r = add_renewal(t, known ? RENEWAL_PAGE : RENEWAL_VICTIM, l, miss, other);
    r->page = *page;
    r->scratch = (uint8_t)scratch;
    if (!known)
        remember_known(t, page);
    if (rcx_needed)
        translate_need(t, REGISTER_BIT(RCX));
    return (struct host_memory){(int8_t)page->base, (int8_t)page->addend, 0, false, displacement};
}

// Look for the page in its entry, or among the victims. Returns where the jump stands for when it is not there.
static uint8_t *emit_find_other(struct translation *t, const struct renewal *r, bool victim)
{
    struct emitter *e = &t->far;

    emit_find_page(t, e, &r->page, r->displacement, r->flags_live, victim);
    uint8_t *absent =
        emit_is_known(e, &r->page, r->displacement, r->size, r->scratch, r->flags_live, true);
    emit_target(e, emit_jmp(e), r->back);
    return absent;
}

// ---- Look-ups ----

// Base and displacement alone say the address a second time, behind the index, so that no register need keep it.
static bool is_short(const struct look_up *l)
{
    const struct guest_address *address = &l->address;

    return address->index == HOST_NONE && address->base != HOST_NONE && address->base != RCX &&
           address->segment == SEG_NONE &&
           fits_i32((uint64_t)(address->displacement + (int64_t)l->size - 1));
}

// Jump by what is returned unless A plus displacement lies in the page of the tag that B is the index of.
static uint8_t *emit_careful_check(struct emitter *e, int8_t a, unsigned b, int32_t displacement,
                                   uint64_t tags)
{
    emit_load(e, RCX, host_context_array(tags, b));
    emit_lea(e, true, RCX, (struct host_memory){a, RCX, 0, false, displacement});
    emit_pext_memory(e, RCX, RCX, host_context(CONTEXT_ENGINE(translate.page_mask)));
    uint8_t *hit = emit_jrcxz(e);
    uint8_t *other = emit_jmp(e);
    emit_target8(e, hit);
    return other;
}

static uint8_t *emit_careful_victim(struct translation *t, const struct renewal *r)
{
    struct emitter *e = &t->far;

    emit_movzx8(e, r->b, r->b);
    uint8_t *absent =
        emit_careful_check(e, r->a, r->b, r->displacement + r->size - 1, victim_tags(t, r->write));
    emit_load(e, r->b, host_context_array(victim_addends(t), r->b));
    return absent;
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
        emit_linear(e, &l->address, (unsigned)a);
        if (l->address.segment != SEG_NONE) {
            emit_load(e, b, segment_base(&l->address));
            emit_lea(e, true, (unsigned)a, (struct host_memory){a, (int8_t)b, 0, false, 0});
        }
        emit_index(t, b, (unsigned)a, true);
    }
    bool rcx_needed = (l->forbidden & REGISTER_BIT(RCX)) && !(t->evicted & REGISTER_BIT(RCX));
    translate_evict(t, RCX);
    uint8_t *other =
        emit_careful_check(e, a, b, displacement + (int32_t)l->size - 1, tag_array(t, l->write));
    emit_load(e, b, host_context_array(tlb_array(t, offsetof(struct tlb, addend)), b));
    struct renewal *r = add_renewal(t, RENEWAL_CAREFUL, l, miss, other);
    r->a = a;
    r->b = (uint8_t)b;
    r->displacement = displacement;
    if (rcx_needed)
        translate_need(t, REGISTER_BIT(RCX));
    return (struct host_memory){a, (int8_t)b, 0, false, displacement};
}

// As emit_careful_check(); A is spoiled.
static uint8_t *emit_quick_check(struct emitter *e, unsigned a, unsigned b, unsigned size,
                                 uint64_t tags)
{
    emit_add_memory(e, a, host_context_array(tags, b));
    emit_cmp_imm(e, a, 4096 - size);
    return emit_jcc(e, HOST_A);
}

// The registers of the address have not been touched: the access is yet to come.
static uint8_t *emit_quick_victim(struct translation *t, const struct renewal *r)
{
    struct emitter *e = &t->far;

    emit_linear(e, &r->address, (unsigned)r->a);
    if (r->address.segment != SEG_NONE)
        emit_add_memory(e, (unsigned)r->a, segment_base(&r->address));
    emit_movzx8(e, r->b, r->b);
    uint8_t *absent = emit_quick_check(e, (unsigned)r->a, r->b, r->size, victim_tags(t, r->write));
    emit_load(e, r->b, host_context_array(victim_addends(t), r->b));
    return absent;
}

static struct host_memory emit_quick(struct translation *t, const struct look_up *l,
                                     struct far_exit *miss)
{
    struct emitter *e = &t->near;
    const struct guest_address *address = &l->address;
    uint16_t used = l->forbidden | address_registers(address);
    unsigned a = translate_scratch(t, l->allowed & (uint16_t) ~(used | l->overwritten));
    unsigned b = last_scratch(t, l, used | REGISTER_BIT(a));

    emit_linear(e, address, a);
    if (address->segment != SEG_NONE)
        emit_add_memory(e, a, segment_base(address));
    emit_index(t, b, a, false);
    uint8_t *other = emit_quick_check(e, a, b, l->size, tag_array(t, l->write));
    emit_load(e, b, host_context_array(tlb_array(t, offsetof(struct tlb, addend)), b));
    struct renewal *r = add_renewal(t, RENEWAL_QUICK, l, miss, other);
    r->a = (int8_t)a;
    r->b = (uint8_t)b;
    if (address->segment != SEG_NONE)
        emit_add_memory(e, b, segment_base(address));
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

// The address is known now. Three ways to compare a tag with it: by a constant, by RCX, by B.
static uint8_t *emit_constant_check(struct emitter *e, const struct renewal *r,
                                    struct host_memory tag)
{
    uint64_t linear = (uint64_t)r->address.displacement, page = align_down(linear, 4096);
    unsigned reg = r->flags_live ? RCX : r->b;

    if (r->a == HOST_NONE) {
        emit_cmp_memory_imm(e, true, tag, (uint32_t)-page);
        return emit_jcc(e, HOST_NE);
    }
    emit_load(e, reg, tag);
    emit_lea(e, true, reg,
             (struct host_memory){(int8_t)reg, r->a, 0, false, -(int32_t)(linear - page)});
    if (!r->flags_live) {
        emit_test(e, reg);
        return emit_jcc(e, HOST_NE);
    }
    uint8_t *hit = emit_jrcxz(e);
    uint8_t *other = emit_jmp(e);
    emit_target8(e, hit);
    return other;
}

static uint8_t *emit_constant_victim(struct translation *t, const struct renewal *r)
{
    uint32_t at = 8u * ((uint32_t)((uint64_t)r->address.displacement >> 12) % TLB_VICTIMS);
    uint8_t *absent = emit_constant_check(&t->far, r, host_context(victim_tags(t, r->write) + at));

    emit_load(&t->far, r->b, host_context(victim_addends(t) + at));
    return absent;
}

static struct host_memory emit_constant_look_up(struct translation *t, const struct look_up *l,
                                                struct far_exit *miss)
{
    struct emitter *e = &t->near;
    uint64_t linear = (uint64_t)l->address.displacement, page = align_down(linear, 4096);
    uint32_t at = 8u * tlb_index(linear);
    bool by_constant = !l->flags_live && fits_i32(-page) && fits_i32(linear);
    uint16_t used = l->forbidden | (by_constant ? 0 : REGISTER_BIT(RCX));
    bool rcx_needed =
        l->flags_live && (l->forbidden & REGISTER_BIT(RCX)) && !(t->evicted & REGISTER_BIT(RCX));
    struct renewal how = {.address = l->address, .flags_live = l->flags_live, .a = HOST_NONE};

    if (!by_constant) {
        how.a = (int8_t)translate_scratch(t, l->allowed & (uint16_t) ~(used | l->overwritten));
        used |= REGISTER_BIT(how.a);
    }
    how.b = (uint8_t)last_scratch(t, l, used);
    if (!by_constant)
        emit_constant(e, (unsigned)how.a, linear);
    if (l->flags_live)
        translate_evict(t, RCX);
    uint8_t *other = emit_constant_check(e, &how, host_context(tag_array(t, l->write) + at));
    emit_load(e, how.b, host_context(tlb_array(t, offsetof(struct tlb, addend)) + at));
    struct renewal *r = add_renewal(t, RENEWAL_CONSTANT, l, miss, other);
    r->a = how.a;
    r->b = how.b;
    if (rcx_needed)
        translate_need(t, REGISTER_BIT(RCX));
    if (by_constant)
        return host_base(how.b, (int32_t)linear);
    return (struct host_memory){how.a, (int8_t)how.b, 0, false, 0};
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
        struct known_page room, *page = find_known(t, l);
        bool known = page != NULL;
        if (known)
            room = *page;
        else
            page = begin_known(t, l, &room);
        if (page)
            *host = emit_by_page(t, l, &room, known, miss);
        else
            *host = l->flags_live ? emit_careful(t, l, miss) : emit_quick(t, l, miss);
    }
    return true;
}

static uint8_t *emit_victim(struct translation *t, const struct renewal *r)
{
    uint8_t *absent = NULL;

    switch ((enum renewal_kind)r->kind) {
    case RENEWAL_PAGE:
    case RENEWAL_VICTIM:
        return emit_find_other(t, r, true);
    case RENEWAL_QUICK:
        absent = emit_quick_victim(t, r);
        break;
    case RENEWAL_CAREFUL:
        absent = emit_careful_victim(t, r);
        break;
    case RENEWAL_CONSTANT:
        absent = emit_constant_victim(t, r);
        break;
    }
    emit_target(&t->far, emit_jmp(&t->far), r->back);
    return absent;
}

void translate_emit_renewals(struct translation *t)
{
    struct emitter *e = &t->far;

    for (unsigned i = 0; i < t->renewal_count; i++) {
        const struct renewal *r = &t->renewals[i];
        t->tlb_mode = (enum tlb_mode)r->tlb_mode;
        emit_target(&t->near, r->jump, e->at);
        if (r->kind == RENEWAL_PAGE) {
            uint8_t *absent = emit_find_other(t, r, false);
            emit_target(e, absent, e->at);
        }
        translate_exit_jump(r->miss, emit_victim(t, r));
    }
}

// ---- Instructions with a memory operand ----

// On the only CPU of a machine, one instruction is atomic as it is: an interrupt comes before or after it, and LOCK (SDM vol. 3, 9.1.2) is for
// other agents on the bus; ours never do an atomic read and write of what the guest does, too. LOCK costs some 8 ns and is left out, but
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

// The host's pointers to the last x87 instruction and its operand are of the host's code and memory, if they are kept at all: what the guest shall see of
// its own is written down (vectors.h). Behind the instruction, which has changed no general register.
void translate_note_x87(struct translation *t, const struct planned_insn *p)
{
    const struct code_cache *cache = &t->translator->cache;
    struct guest_address address;

    if (p->insn.form->class != CLASS_X87 || interp_is_x87_control(p->insn.form->op))
        return;
    if (insn_has_memory(&p->insn) && translate_address(p, &address)) {
        uint16_t used = address_registers(&address);
        translate_need(t, used);
        unsigned scratch = translate_scratch(t, (uint16_t)~used);
        emit_linear(&t->near, &address, scratch);
        emit_store(&t->near, host_context(CONTEXT_ENGINE(translate.x87_data)), scratch);
    }
    emit_store_imm32(&t->near, false, host_context(CONTEXT_ENGINE(translate.x87_last)),
                     code_cache_number(cache, t->block) << X87_SITE_BITS | (t->site_count - 1));
}

bool translate_memory_insn(struct translation *t, const struct planned_insn *p)
{
    struct insn_access access = insn_memory_access(&p->insn);
    struct look_up l = {
        .size = access.bytes,
        .write = (access.access & ACCESS_WRITE) != 0,
        .flags_live = !translate_may_spoil_flags(t),
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
    translate_note_x87(t, p);
    return true;
}
