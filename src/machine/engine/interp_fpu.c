// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: the extended state as a whole, to and from guest memory: FXSAVE, XSAVE and their like, the x87 environment.
//
// These are not executed on the guest's memory but emulated, because pointers in them are guest addresses, and because what a
// guest loads must be checked before any host instruction sees it. All read or write the image in cpu_state.xsave.
#include "machine/cpu/cpu_model.h"
#include "machine/engine/interp_handlers.h"
#include "machine/engine/interp_vector.h"

// ---- Access to the guest's area ----

// An area of up to XSAVE_BYTES at the memory operand, checked as a whole before its pieces are touched.
struct area {
    uint64_t offset;
    unsigned segment;
};

static int area_open(struct vcpu *vcpu, const struct bound_insn *bound, unsigned bytes,
                     unsigned alignment, bool write, struct area *area)
{
    struct gva linear;
    area->segment = bound->insn.segment;
    area->offset = effective_address(vcpu, bound);
    if (segment_linear(vcpu, (enum segment_name)area->segment, area->offset, bytes,
                       write ? SEGMENT_WRITE : SEGMENT_READ, &linear))
        return -1;
    if (linear.at & (alignment - 1))
        return raise_gp(vcpu, 0);
    return mmu_probe(vcpu, linear, bytes, write ? MMU_WRITE : MMU_READ, MMU_NORMAL);
}

// Pieces of at most 64 bytes, so that none crosses more than one page.
static int area_read(struct vcpu *vcpu, const struct area *area, unsigned at, void *buffer,
                     unsigned bytes)
{
    for (unsigned done = 0; done < bytes; done += 64) {
        unsigned piece = bytes - done < 64 ? bytes - done : 64;
        if (memory_read_bytes(vcpu, area->segment, area->offset + at + done,
                              (uint8_t *)buffer + done, piece))
            return -1;
    }
    return 0;
}

static int area_write(struct vcpu *vcpu, const struct area *area, unsigned at, const void *buffer,
                      unsigned bytes)
{
    for (unsigned done = 0; done < bytes; done += 64) {
        unsigned piece = bytes - done < 64 ? bytes - done : 64;
        if (memory_write_bytes(vcpu, area->segment, area->offset + at + done,
                               (const uint8_t *)buffer + done, piece))
            return -1;
    }
    return 0;
}

static int check_available(struct vcpu *vcpu, bool with_em)
{
    uint64_t blocked = with_em ? CR0_TS | CR0_EM : CR0_TS;
    return vcpu->state.cr0 & blocked ? raise_exception(vcpu, EXC_NM) : 0;
}

static unsigned xmm_bytes(const struct bound_insn *bound)
{
    return bound->insn.mode == CODE_64 ? 256 : 128; // 16 or 8 registers
}

// The x87 part's header as the guest sees it: without REX.W, FIP and FDP have 32 bits and a selector (always 0 here).
static void legacy_header(struct vcpu *vcpu, const struct bound_insn *bound, uint8_t header[24])
{
    memcpy(header, interp_xsave_image(vcpu), 24);
    if (!(bound->insn.rex & REX_W)) {
        store_le32(header + XSAVE_FIP + 4, 0);
        store_le32(header + XSAVE_FDP + 4, 0);
    }
}

// ES and B follow from the exceptions and their masks whenever either is loaded.
static void settle_status(uint8_t *image)
{
    unsigned status = load_le16(image + XSAVE_FSW) & ~0x8080u;
    if (status & ~(unsigned)load_le16(image + XSAVE_FCW) & 0x3f)
        status |= 0x8080;
    store_le16(image + XSAVE_FSW, (uint16_t)status);
}

static void take_control_word(uint8_t *image, uint16_t control)
{
    store_le16(image + XSAVE_FCW, (control & 0x1f3f) | 0x40); // the rest is reserved
}

// The image has the registers in stack order: another TOP puts them elsewhere, though none changes.
static void take_status_word(uint8_t *image, uint16_t status)
{
    uint8_t turned[128];
    unsigned by = (status >> 11) - (load_le16(image + XSAVE_FSW) >> 11);
    for (unsigned i = 0; i < 8; i++)
        memcpy(turned + 16 * i, image + XSAVE_ST + 16 * ((i + by) & 7), 16);
    memcpy(image + XSAVE_ST, turned, sizeof(turned));
    store_le16(image + XSAVE_FSW, status);
    settle_status(image);
}

static void take_legacy_header(struct vcpu *vcpu, const struct bound_insn *bound,
                               const uint8_t header[24])
{
    uint8_t *image = interp_xsave_image(vcpu);
    memcpy(image, header, 24);
    image[5] = 0;
    take_control_word(image, load_le16(header + XSAVE_FCW));
    settle_status(image);
    store_le16(image + XSAVE_FOP, load_le16(header + XSAVE_FOP) & 0x7ff);
    if (!(bound->insn.rex & REX_W)) {
        store_le32(image + XSAVE_FIP + 4, 0);
        store_le32(image + XSAVE_FDP + 4, 0);
    }
}

// ---- FXSAVE, FXRSTOR, MXCSR ----

int interp_fxsave(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t header[32];
    const uint8_t *image = interp_xsave_image(vcpu);
    struct area area;
    if (check_available(vcpu, true) || area_open(vcpu, bound, XSAVE_LEGACY_BYTES, 16, true, &area))
        return INTERP_FAULT;
    legacy_header(vcpu, bound, header);
    store_le32(header + XSAVE_MXCSR, load_le32(image + XSAVE_MXCSR));
    store_le32(header + XSAVE_MXCSR_MASK, MXCSR_MASK);
    if (area_write(vcpu, &area, 0, header, sizeof(header)) ||
        area_write(vcpu, &area, XSAVE_ST, image + XSAVE_ST, 128))
        return INTERP_FAULT;
    return area_write(vcpu, &area, XSAVE_XMM, image + XSAVE_XMM, xmm_bytes(bound));
}

int interp_fxrstor(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t legacy[XSAVE_LEGACY_BYTES], *image = interp_xsave_image(vcpu);
    struct area area;
    if (check_available(vcpu, true) ||
        area_open(vcpu, bound, XSAVE_LEGACY_BYTES, 16, false, &area) ||
        area_read(vcpu, &area, 0, legacy, sizeof(legacy)))
        return INTERP_FAULT;
    if (load_le32(legacy + XSAVE_MXCSR) & ~MXCSR_MASK)
        return raise_gp(vcpu, 0);
    take_legacy_header(vcpu, bound, legacy);
    store_le32(image + XSAVE_MXCSR, load_le32(legacy + XSAVE_MXCSR));
    memcpy(image + XSAVE_ST, legacy + XSAVE_ST, 128);
    memcpy(image + XSAVE_XMM, legacy + XSAVE_XMM, xmm_bytes(bound));
    return INTERP_DONE;
}

int interp_ldmxcsr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    if (operand_read(vcpu, bound, 0, &value))
        return INTERP_FAULT;
    if (value & ~(uint64_t)MXCSR_MASK)
        return raise_gp(vcpu, 0);
    store_le32(interp_xsave_image(vcpu) + XSAVE_MXCSR, (uint32_t)value);
    return INTERP_DONE;
}

int interp_stmxcsr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return operand_write(vcpu, bound, 0, load_le32(interp_xsave_image(vcpu) + XSAVE_MXCSR));
}

// ---- XSAVE, XSAVEC, XRSTOR ----

static bool all_zero(const uint8_t *bytes, unsigned length)
{
    for (unsigned i = 0; i < length; i += 8)
        if (load_le64(bytes + i))
            return false;
    return true;
}

uint64_t interp_xinuse(const struct vcpu *vcpu)
{
    const uint8_t *image = interp_xsave_image((struct vcpu *)(uintptr_t)vcpu);
    bool x87_initial = load_le64(image) == FCW_INIT && all_zero(image + XSAVE_FIP, 16) &&
                       all_zero(image + XSAVE_ST, 128);
    bool sse_initial =
        all_zero(image + XSAVE_XMM, 256) && load_le32(image + XSAVE_MXCSR) == MXCSR_INIT;
    bool avx_initial = all_zero(image + XSAVE_YMM_HIGH, 256);
    return (x87_initial ? 0 : XSTATE_X87) | (sse_initial ? 0 : XSTATE_SSE) |
           (avx_initial ? 0 : XSTATE_AVX);
}

// CR4.OSXSAVE, CR0.TS; then which components the instruction is about.
static int xsave_begin(struct vcpu *vcpu, uint64_t *requested)
{
    if (!(vcpu->state.cr4 & CR4_OSXSAVE))
        return raise_ud(vcpu);
    if (check_available(vcpu, false))
        return -1;
    uint64_t edx_eax = vcpu->state.gpr[RDX] << 32 | (uint32_t)vcpu->state.gpr[RAX];
    *requested = edx_eax & vcpu->state.xcr0;
    return 0;
}

static unsigned xsave_bytes(const struct vcpu *vcpu, uint64_t requested)
{
    return requested & XSTATE_AVX ? XSAVE_BYTES : XSAVE_YMM_HIGH;
}

static int write_components(struct vcpu *vcpu, const struct bound_insn *bound,
                            const struct area *area, uint64_t components, uint64_t requested)
{
    const uint8_t *image = interp_xsave_image(vcpu);
    uint8_t header[24], mxcsr[8];
    legacy_header(vcpu, bound, header);
    store_le32(mxcsr, load_le32(image + XSAVE_MXCSR));
    store_le32(mxcsr + 4, MXCSR_MASK);
    if ((components & XSTATE_X87) && (area_write(vcpu, area, 0, header, sizeof(header)) ||
                                      area_write(vcpu, area, XSAVE_ST, image + XSAVE_ST, 128)))
        return -1;
    if ((requested & (XSTATE_SSE | XSTATE_AVX)) &&
        area_write(vcpu, area, XSAVE_MXCSR, mxcsr, sizeof(mxcsr)))
        return -1;
    if ((components & XSTATE_SSE) &&
        area_write(vcpu, area, XSAVE_XMM, image + XSAVE_XMM, xmm_bytes(bound)))
        return -1;
    if ((components & XSTATE_AVX) &&
        area_write(vcpu, area, XSAVE_YMM_HIGH, image + XSAVE_YMM_HIGH, xmm_bytes(bound)))
        return -1;
    return 0;
}

// XSAVE and XSAVEOPT (which may, but need not, leave out what has not changed).
int interp_xsave(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t requested, present;
    struct area area;
    if (xsave_begin(vcpu, &requested) ||
        area_open(vcpu, bound, xsave_bytes(vcpu, requested), 64, true, &area) ||
        area_read(vcpu, &area, XSAVE_BV, &present, sizeof(present)))
        return INTERP_FAULT;
    if (write_components(vcpu, bound, &area, requested, requested))
        return INTERP_FAULT;
    present = (present & ~requested) | (interp_xinuse(vcpu) & requested);
    return area_write(vcpu, &area, XSAVE_BV, &present, sizeof(present));
}

// The compacted form. With x87, SSE and AVX only, AVX state stands at the same place in both.
int interp_xsavec(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t requested, header[2];
    struct area area;
    if (xsave_begin(vcpu, &requested) ||
        area_open(vcpu, bound, xsave_bytes(vcpu, requested), 64, true, &area))
        return INTERP_FAULT;
    header[0] = interp_xinuse(vcpu) & requested;
    header[1] = requested | 1ull << 63;
    if (write_components(vcpu, bound, &area, header[0], requested))
        return INTERP_FAULT;
    return area_write(vcpu, &area, XSAVE_BV, header, sizeof(header));
}

// SDM vol. 1, 13.8 and 13.12: what makes XRSTOR fault.
static bool header_is_valid(const struct vcpu *vcpu, const uint8_t header[64])
{
    uint64_t present = load_le64(header), format = load_le64(header + 8),
             allowed = vcpu->state.xcr0;
    bool compacted = format >> 63;
    const struct cpu_feature_set *features = cpu_model_features(vcpu->system->model);
    if (compacted)
        return (cpu_feature_set_has(features, CPU_FEATURE_XSAVEC) ||
                cpu_feature_set_has(features, CPU_FEATURE_XSAVES)) &&
               !((format << 1 >> 1) & ~allowed) && !(present & ~format) &&
               all_zero(header + 16, 48);
    return !(present & ~allowed) && format == 0 && all_zero(header + 16, 8);
}

static void initialize_components(uint8_t *image, uint64_t components)
{
    store_le64(image + XSAVE_BV, XCR0_SUPPORTED & ~components);
}

int interp_xrstor(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t guest[XSAVE_BYTES] = {0}, *image = interp_xsave_image(vcpu);
    uint64_t requested;
    struct area area;
    if (xsave_begin(vcpu, &requested))
        return INTERP_FAULT;
    unsigned bytes = xsave_bytes(vcpu, requested);
    if (area_open(vcpu, bound, bytes, 64, false, &area) || area_read(vcpu, &area, 0, guest, bytes))
        return INTERP_FAULT;
    uint64_t loaded = requested & load_le64(guest + XSAVE_BV), initial = requested & ~loaded;
    bool compacted = load_le64(guest + XSAVE_COMP_BV) >> 63;
    bool with_mxcsr = compacted ? loaded & XSTATE_SSE : requested & (XSTATE_SSE | XSTATE_AVX);
    if (!header_is_valid(vcpu, guest + XSAVE_BV) ||
        (with_mxcsr && (load_le32(guest + XSAVE_MXCSR) & ~MXCSR_MASK)))
        return raise_gp(vcpu, 0);
    if (with_mxcsr)
        store_le32(image + XSAVE_MXCSR, load_le32(guest + XSAVE_MXCSR));
    else if (initial & XSTATE_SSE)
        store_le32(image + XSAVE_MXCSR, MXCSR_INIT);
    initialize_components(image, initial);
    image = interp_xsave_image(vcpu); // fills in what is initial
    if (loaded & XSTATE_X87) {
        take_legacy_header(vcpu, bound, guest);
        memcpy(image + XSAVE_ST, guest + XSAVE_ST, 128);
    }
    if (loaded & XSTATE_SSE)
        memcpy(image + XSAVE_XMM, guest + XSAVE_XMM, xmm_bytes(bound));
    if (loaded & XSTATE_AVX)
        memcpy(image + XSAVE_YMM_HIGH, guest + XSAVE_YMM_HIGH, xmm_bytes(bound));
    return INTERP_DONE;
}

// ---- The x87 environment ----

// The full tag word: 0 valid, 1 zero, 2 special, 3 empty, by physical register.
static uint16_t full_tags(const uint8_t *image)
{
    unsigned top = (load_le16(image + XSAVE_FSW) >> 11) & 7, tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *value = image + XSAVE_ST + 16 * ((i - top) & 7);
        uint64_t mantissa = load_le64(value);
        unsigned exponent = load_le16(value + 8) & 0x7fff, tag;
        if (!(image[XSAVE_FTW] >> i & 1))
            tag = 3;
        else if (exponent == 0 && mantissa == 0)
            tag = 1;
        else
            tag = exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
        tags |= tag << (2 * i);
    }
    return (uint16_t)tags;
}

static uint8_t abridged_tags(uint16_t tags)
{
    unsigned abridged = 0;
    for (unsigned i = 0; i < 8; i++)
        abridged |= (unsigned)((tags >> (2 * i) & 3) != 3) << i;
    return (uint8_t)abridged;
}

// 28 or 14 bytes; in protected mode pointers are offset and selector, elsewhere linear addresses (SDM vol. 1, figures 8-9 to 8-12).
static unsigned environment_bytes(const struct bound_insn *bound)
{
    return bound->insn.operand_size == 2 ? 14 : 28;
}

static void environment_encode(struct vcpu *vcpu, const struct bound_insn *bound,
                               uint8_t environment[28])
{
    const uint8_t *image = interp_xsave_image(vcpu);
    uint16_t words[4] = {load_le16(image + XSAVE_FCW), load_le16(image + XSAVE_FSW),
                         full_tags(image), load_le16(image + XSAVE_FOP)};
    uint32_t fip = load_le32(image + XSAVE_FIP), fdp = load_le32(image + XSAVE_FDP);
    bool is_protected = cpu_in_protected_mode(&vcpu->state);
    memset(environment, 0, 28);
    if (environment_bytes(bound) == 14) {
        for (unsigned i = 0; i < 3; i++)
            store_le16(environment + 2 * i, words[i]);
        store_le16(environment + 6, (uint16_t)fip);
        store_le16(environment + 10, (uint16_t)fdp);
        if (!is_protected) {
            store_le16(environment + 8, (uint16_t)((fip >> 4 & 0xf000) | words[3]));
            store_le16(environment + 12, (uint16_t)(fdp >> 4 & 0xf000));
        }
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        store_le32(environment + 4 * i, 0xffff0000u | words[i]);
    if (is_protected) {
        store_le32(environment + 12, fip);
        store_le32(environment + 16, (uint32_t)words[3] << 16);
        store_le32(environment + 20, fdp);
        store_le32(environment + 24, 0xffff0000u);
    } else {
        store_le32(environment + 12, fip & 0xffff);
        store_le32(environment + 16, (fip >> 16) << 12 | words[3]);
        store_le32(environment + 20, fdp & 0xffff);
        store_le32(environment + 24, (fdp >> 16) << 12);
    }
}

static void environment_decode(struct vcpu *vcpu, const struct bound_insn *bound,
                               const uint8_t environment[28])
{
    uint8_t *image = interp_xsave_image(vcpu);
    bool narrow = environment_bytes(bound) == 14,
         is_protected = cpu_in_protected_mode(&vcpu->state);
    unsigned stride = narrow ? 2 : 4;
    uint32_t fip, fdp, fop;
    take_control_word(image, load_le16(environment));
    take_status_word(image, load_le16(environment + stride));
    image[XSAVE_FTW] = abridged_tags(load_le16(environment + 2 * stride));
    if (narrow) {
        fip = load_le16(environment + 6) |
              (is_protected ? 0u : (load_le16(environment + 8) & 0xf000u) << 4);
        fdp = load_le16(environment + 10) |
              (is_protected ? 0u : (load_le16(environment + 12) & 0xf000u) << 4);
        fop = is_protected ? 0u : load_le16(environment + 8);
    } else if (is_protected) {
        fip = load_le32(environment + 12);
        fop = load_le16(environment + 18);
        fdp = load_le32(environment + 20);
    } else {
        fip = load_le16(environment + 12) | (load_le32(environment + 16) << 4 & 0xffff0000u);
        fop = load_le16(environment + 16);
        fdp = load_le16(environment + 20) | (load_le32(environment + 24) << 4 & 0xffff0000u);
    }
    store_le16(image + XSAVE_FOP, fop & 0x7ff);
    store_le64(image + XSAVE_FIP, fip);
    store_le64(image + XSAVE_FDP, fdp);
}

int interp_fnstenv(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t environment[28], *image = interp_xsave_image(vcpu);
    environment_encode(vcpu, bound, environment);
    if (memory_write_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), environment,
                           environment_bytes(bound)))
        return INTERP_FAULT;
    store_le16(image + XSAVE_FCW, load_le16(image + XSAVE_FCW) | 0x3f);
    settle_status(image);
    return INTERP_DONE;
}

int interp_fldenv(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t environment[28] = {0};
    if (memory_read_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), environment,
                          environment_bytes(bound)))
        return INTERP_FAULT;
    environment_decode(vcpu, bound, environment);
    return INTERP_DONE;
}

static void x87_initialize(uint8_t *image)
{
    take_status_word(image, 0);
    memset(image, 0, XSAVE_MXCSR);
    store_le16(image + XSAVE_FCW, FCW_INIT);
}

int interp_fninit(struct vcpu *vcpu, const struct bound_insn *bound)
{
    x87_initialize(interp_xsave_image(vcpu));
    return INTERP_DONE;
}

// The environment, then the eight registers of 10 bytes in stack order.
int interp_fnsave(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t state[28 + 80], *image = interp_xsave_image(vcpu);
    unsigned bytes = environment_bytes(bound);
    struct area area;
    environment_encode(vcpu, bound, state);
    for (unsigned i = 0; i < 8; i++)
        memcpy(state + bytes + 10 * i, image + XSAVE_ST + 16 * i, 10);
    if (area_open(vcpu, bound, bytes + 80, 1, true, &area) ||
        area_write(vcpu, &area, 0, state, bytes + 80))
        return INTERP_FAULT;
    x87_initialize(image);
    return INTERP_DONE;
}

int interp_frstor(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t state[28 + 80] = {0}, *image = interp_xsave_image(vcpu);
    unsigned bytes = environment_bytes(bound);
    struct area area;
    if (area_open(vcpu, bound, bytes + 80, 1, false, &area) ||
        area_read(vcpu, &area, 0, state, bytes + 80))
        return INTERP_FAULT;
    environment_decode(vcpu, bound, state);
    for (unsigned i = 0; i < 8; i++) {
        memset(image + XSAVE_ST + 16 * i + 8, 0, 8);
        memcpy(image + XSAVE_ST + 16 * i, state + bytes + 10 * i, 10);
    }
    return INTERP_DONE;
}

int interp_fwait(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return INTERP_DONE; // interp_vector_check() has reported what is pending
}
