// SPDX-License-Identifier: Apache-2.0
//
// Stubs for vector and x87 instructions; see interp_vector.h.
#define LOG_MODULE "interp"
#include "machine/engine/interp_vector.h"

#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "machine/engine/interp_handlers.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/native_code.h"

// A stub is the instruction and a RET. The slot for it follows from its bytes, so a slot may be taken over by another.
#define STUB_BYTES  32u
#define STUB_COUNT  2048u
#define ARENA_BYTES (STUB_BYTES * STUB_COUNT)

struct stub {
    uint8_t code[STUB_BYTES];
    uint8_t length; // of the instruction
};

// What the assembly below reads and writes; its offsets are asserted.
struct vector_frame {
    void *xsave;
    const void *code;
    void *operand;
    uint64_t rax, rcx, rdx;
    uint64_t flags;
    uint32_t mxcsr; // the host's, meanwhile
    uint16_t fcw;
    uint8_t has_avx;
    uint8_t length;
    int signal; // of the fault, 0: none
};

_Static_assert(offsetof(struct vector_frame, flags) == 48 &&
                   offsetof(struct vector_frame, mxcsr) == 56 &&
                   offsetof(struct vector_frame, fcw) == 60 &&
                   offsetof(struct vector_frame, has_avx) == 62,
               "the assembly knows these");

struct interp_vector {
    void *arena; // reservation of both mappings
    uint8_t *write;
    const uint8_t *execute;
    bool has_avx;
    uint8_t bounce[64] __attribute__((aligned(64)));
    struct vector_frame frame;
};

// The stub that this thread is executing, for the fault handler.
static __thread struct vector_frame *running;

void interp_vector_enter(struct vector_frame *frame);

__asm__(".pushsection .text\n"
        ".type interp_vector_enter, @function\n"
        "interp_vector_enter:\n"
        "    push %rbx\n"
        "    mov %rdi, %rbx\n"
        "    stmxcsr 56(%rbx)\n"
        "    fnstcw 60(%rbx)\n"
        "    mov 0(%rbx), %r8\n"
        "    mov $7, %eax\n"
        "    xor %edx, %edx\n"
        "    xrstor64 (%r8)\n"
        "    mov 16(%rbx), %rdi\n"
        "    mov 24(%rbx), %rax\n"
        "    mov 32(%rbx), %rcx\n"
        "    mov 40(%rbx), %rdx\n"
        "    push 48(%rbx)\n"
        "    popfq\n"
        "    call *8(%rbx)\n"
        "    pushfq\n"
        "    pop 48(%rbx)\n"
        "    mov %rax, 24(%rbx)\n"
        "    mov %rcx, 32(%rbx)\n"
        "    mov %rdx, 40(%rbx)\n"
        "    mov 0(%rbx), %r8\n"
        "    mov $7, %eax\n"
        "    xor %edx, %edx\n"
        "    xsave64 (%r8)\n"
        "    fninit\n"
        "    fldcw 60(%rbx)\n"
        "    ldmxcsr 56(%rbx)\n"
        "    cmpb $0, 62(%rbx)\n"
        "    je 1f\n"
        "    vzeroupper\n"
        "1:  pop %rbx\n"
        "    ret\n"
        ".size interp_vector_enter, . - interp_vector_enter\n"
        ".popsection\n");

bool interp_vector_fault(struct os_fault *fault)
{
    struct vector_frame *frame = running;
    if (!frame || fault->pc != (uint64_t)(uintptr_t)frame->code)
        return false;
    frame->signal = fault->signal;
    fault->pc += frame->length; // to the stub's RET
    return true;
}

// ---- The arena ----

static bool host_has_avx(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return false;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & XSTATE_AVX) != 0;
}

static int arena_create(struct interp_vector *vector, struct err *err)
{
    int fd = os_memfd_create("wirt-stubs", ARENA_BYTES, err);
    if (fd < 0)
        return -1;
    vector->arena = os_memory_reserve(2 * ARENA_BYTES, err);
    int result = -1;
    if (vector->arena) {
        vector->write = vector->arena;
        vector->execute = vector->write + ARENA_BYTES;
        result = os_memory_place_file(vector->write, ARENA_BYTES, OS_MEMORY_READ | OS_MEMORY_WRITE,
                                      fd, 0, err);
        if (!result)
            result = os_memory_place_file(vector->write + ARENA_BYTES, ARENA_BYTES,
                                          OS_MEMORY_READ | OS_MEMORY_EXECUTE, fd, 0, err);
    }
    os_file_close(&fd);
    return result;
}

struct interp_vector *interp_vector_create(struct err *err)
{
    if (os_fault_handler_install(interp_vector_fault, err))
        return NULL;
    struct interp_vector *vector = aligned_alloc(64, align_up(sizeof(*vector), 64));
    if (!vector) {
        err_set(err, ERR_LIMIT, "no memory for the vector unit");
        return NULL;
    }
    *vector = (struct interp_vector){.has_avx = host_has_avx()};
    if (arena_create(vector, err)) {
        interp_vector_destroy(vector);
        return NULL;
    }
    return vector;
}

void interp_vector_destroy(struct interp_vector *vector)
{
    if (vector && vector->arena)
        os_memory_release(vector->arena, 2 * ARENA_BYTES);
    free(vector);
}

// What is written through one mapping and executed through another needs a serializing instruction in between (SDM vol. 3, 8.1.3); IRET
// is the one that costs no exit of a virtual machine.
void interp_serialize(void);

__asm__(".pushsection .text\n"
        ".type interp_serialize, @function\n"
        "interp_serialize:\n"
        "    mov %rsp, %rax\n"
        "    mov %ss, %ecx\n"
        "    push %rcx\n"
        "    push %rax\n"
        "    pushfq\n"
        "    mov %cs, %ecx\n"
        "    push %rcx\n"
        "    lea 1f(%rip), %rcx\n"
        "    push %rcx\n"
        "    iretq\n"
        "1:  ret\n"
        ".size interp_serialize, . - interp_serialize\n"
        ".popsection\n");

static const void *stub_place(struct interp_vector *vector, const struct stub *stub)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (unsigned i = 0; i < stub->length; i++)
        hash = (hash ^ stub->code[i]) * 0x100000001b3;
    size_t at = (hash >> 32) % STUB_COUNT * STUB_BYTES;
    if (memcmp(vector->write + at, stub->code, STUB_BYTES) != 0) {
        memcpy(vector->write + at, stub->code, STUB_BYTES);
        interp_serialize();
    }
    return vector->execute + at;
}

// ---- Making a stub ----

// Which of the instruction's registers is a general one: that becomes RAX.
struct register_use {
    bool reg, rm;
    bool wide_only_64; // a general register's width follows W, which counts in 64-bit mode only
};

static struct register_use registers_of(const struct insn *insn)
{
    struct register_use use = {0};
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = insn->form->operands[i].kind;
        use.reg |= kind == OPERAND_GPR;
        use.rm |= (kind == OPERAND_RM || kind == OPERAND_RM_GPR) && !insn_has_memory(insn);
        use.wide_only_64 |= insn->form->operands[i].size == SIZE_Y;
    }
    return use;
}

static void put(struct stub *stub, unsigned byte)
{
    stub->code[stub->length++] = (uint8_t)byte;
}

static void put_legacy_prefixes(struct stub *stub, const struct bound_insn *bound,
                                struct register_use use, unsigned escape_bytes)
{
    const struct insn *insn = &bound->insn;
    bool memory = insn_has_memory(insn);
    for (unsigned i = 0; i + escape_bytes < insn->opcode_at; i++)
        if (bound->bytes[i] == 0x66 || bound->bytes[i] == 0xf2 || bound->bytes[i] == 0xf3)
            put(stub, bound->bytes[i]);
    unsigned rex = insn->rex & (REX_W | REX_R | REX_B);
    if (use.reg)
        rex &= ~(unsigned)REX_R;
    if (use.rm || memory)
        rex &= ~(unsigned)REX_B;
    if (rex)
        put(stub, 0x40 | rex);
    for (unsigned i = escape_bytes; i > 0; i--)
        put(stub, bound->bytes[insn->opcode_at - i]);
}

// VEX keeps R, X, B and vvvv inverted. Outside 64-bit mode B and the top bit of vvvv do not count.
static void put_vex(struct stub *stub, const struct bound_insn *bound, struct register_use use)
{
    const struct insn *insn = &bound->insn;
    bool narrow = insn->mode != CODE_64;
    if (bound->bytes[insn->opcode_at - 2] == 0xc5) { // no second byte of the long form can be that
        unsigned byte = bound->bytes[insn->opcode_at - 1];
        put(stub, 0xc5);
        put(stub, byte | (use.reg ? 0x80u : 0) | (narrow ? 0x40u : 0));
        return;
    }
    unsigned first = bound->bytes[insn->opcode_at - 2], second = bound->bytes[insn->opcode_at - 1];
    first |= use.reg ? 0x80u : 0;
    if (use.rm || insn_has_memory(insn) || narrow)
        first |= 0x20;
    first |= 0x40; // no index in the stub
    unsigned op = insn->form->op;
    bool explicit_length = op == OP_VPCMPESTRI || op == OP_VPCMPESTRM; // W: 64-bit lengths
    if (narrow)
        second = (second | 0x40) & (use.wide_only_64 || explicit_length ? 0x7fu : 0xffu);
    put(stub, 0xc4);
    put(stub, first);
    put(stub, second);
}

static void stub_make(struct stub *stub, const struct bound_insn *bound)
{
    static const uint8_t escape_bytes[] = {
        [MAP_ONE] = 0, [MAP_0F] = 1, [MAP_0F38] = 2, [MAP_0F3A] = 2};
    const struct insn *insn = &bound->insn;
    struct register_use use = registers_of(insn);
    *stub = (struct stub){0};
    if (insn->encoding == ENCODING_VEX)
        put_vex(stub, bound, use);
    else
        put_legacy_prefixes(stub, bound, use, escape_bytes[insn->map]);
    put(stub, insn->opcode);
    if (insn->modrm_at) {
        unsigned modrm = insn->modrm;
        if (insn_has_memory(insn))
            modrm = (modrm & 0x38) | RDI;
        if (use.rm)
            modrm &= ~7u;
        if (use.reg)
            modrm &= ~0x38u;
        put(stub, modrm);
    }
    bool eight_registers = insn->mode != CODE_64 && insn->form->operands[3].kind == OPERAND_VEC_IMM;
    for (unsigned i = 0; i < insn->immediate_bytes; i++)
        put(stub, bound->bytes[insn->immediate_at + i] & (eight_registers ? 0x7fu : 0xffu));
    for (unsigned i = 0; i < insn->immediate2_bytes; i++)
        put(stub, bound->bytes[insn->immediate2_at + i]);
    stub->code[stub->length] = 0xc3; // RET
}

// ---- Whether it may run ----

// x87 instructions that do not wait for (report) a pending exception.
static bool is_non_waiting(unsigned op)
{
    return op == OP_FNINIT || op == OP_FNCLEX || op == OP_FNSTCW || op == OP_FNSTSW ||
           op == OP_FNSTENV || op == OP_FNSAVE || op == OP_FNENI || op == OP_FNDISI ||
           op == OP_FNSETPM;
}

static bool touches_mmx(const struct insn *insn)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = insn->form->operands[i].kind;
        if (kind == OPERAND_MMX_REG || kind == OPERAND_MMX_RM_REG)
            return true;
        // CVTPI2PD and CVTPI2PS from memory do not (SDM vol. 2, CVTPI2PD; for the other seen on Zen 5).
        if (kind == OPERAND_MMX_RM && !insn_has_memory(insn))
            return true;
    }
    return false;
}

static int check_pending(struct vcpu *vcpu)
{
    const uint8_t *image = interp_xsave_image(vcpu);
    unsigned pending =
        load_le16(image + XSAVE_FSW) & ~(unsigned)load_le16(image + XSAVE_FCW) & 0x3f;
    return pending ? raise_exception(vcpu, EXC_MF) : 0;
}

static int check_x87(struct vcpu *vcpu, const struct insn *insn)
{
    uint64_t cr0 = vcpu->state.cr0;
    bool device_missing =
        insn->form->op == OP_FWAIT ? (cr0 & CR0_MP) && (cr0 & CR0_TS) : cr0 & (CR0_EM | CR0_TS);
    if (device_missing)
        return raise_exception(vcpu, EXC_NM);
    return is_non_waiting(insn->form->op) ? 0 : check_pending(vcpu);
}

int interp_vector_check(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct cpu_state *cpu = &vcpu->state;
    unsigned checks = bound->checks;
    if (checks & CHECK_X87)
        return check_x87(vcpu, &bound->insn);
    if (checks & CHECK_AVX) {
        if (!(cpu->cr4 & CR4_OSXSAVE) ||
            (cpu->xcr0 & (XSTATE_SSE | XSTATE_AVX)) != (XSTATE_SSE | XSTATE_AVX))
            return raise_ud(vcpu);
    } else if ((cpu->cr0 & CR0_EM) || ((checks & CHECK_SSE) && !(cpu->cr4 & CR4_OSFXSR))) {
        return raise_ud(vcpu);
    }
    if (cpu->cr0 & CR0_TS)
        return raise_exception(vcpu, EXC_NM);
    return (checks & CHECK_MMX) || touches_mmx(&bound->insn) ? check_pending(vcpu) : 0;
}

// ---- Running it ----

// The memory operand as the stub sees it.
struct vector_operand {
    void *host;
    struct gva linear;
    unsigned bytes;
    enum operand_access access;
    bool bounced;
};

static int operand_map(struct vcpu *vcpu, const struct bound_insn *bound,
                       struct vector_operand *operand)
{
    const struct insn *insn = &bound->insn;
    struct insn_access access = insn_memory_access(insn);
    operand->bytes = access.bytes;
    operand->access = access.access;
    bool write = access.access & ACCESS_WRITE;
    uint64_t offset = effective_address(vcpu, bound);
    // Before the address is looked at: a misaligned operand is #GP even where a stack address would be #SS.
    if ((insn->form->attributes & INSN_ALIGNED) &&
        ((vcpu->state.segment[insn->segment].base + offset) & (access.bytes - 1)))
        return raise_gp(vcpu, 0);
    if (memory_linear(vcpu, insn->segment, offset, access.bytes, write, &operand->linear))
        return -1;
    static const enum mmu_access wanted[] = {[ACCESS_NONE] = MMU_READ,
                                             [ACCESS_READ] = MMU_READ,
                                             [ACCESS_WRITE] = MMU_WRITE,
                                             [ACCESS_RW] = MMU_READ_WRITE};
    operand->host = mmu_pointer(vcpu, operand->linear, access.bytes, wanted[access.access]);
    if (operand->host)
        return 0;
    if (engine_cpu_of(vcpu)->exception.vector != EXC_NONE)
        return -1;
    operand->bounced = true;
    operand->host = interp_vector_of(vcpu)->bounce;
    if (write && mmu_probe(vcpu, operand->linear, access.bytes, wanted[access.access], MMU_NORMAL))
        return -1;
    // An x87 store that an unmasked exception suppresses leaves memory as it is.
    bool fill = (access.access & ACCESS_READ) || insn->form->class == CLASS_X87;
    return fill ? mmu_read(vcpu, operand->linear, operand->host, access.bytes, MMU_NORMAL) : 0;
}

static int operand_unmap(struct vcpu *vcpu, const struct vector_operand *operand)
{
    if (!operand->bounced || !(operand->access & ACCESS_WRITE))
        return 0;
    return mmu_write(vcpu, operand->linear, operand->host, operand->bytes, MMU_NORMAL);
}

uint8_t *interp_xsave_image(struct vcpu *vcpu)
{
    uint8_t *image = vcpu->state.xsave;
    uint64_t present = load_le64(image + XSAVE_BV);
    if ((present & XCR0_SUPPORTED) == XCR0_SUPPORTED)
        return image;
    if (!(present & XSTATE_X87)) {
        memset(image, 0, XSAVE_MXCSR);
        memset(image + XSAVE_ST, 0, XSAVE_XMM - XSAVE_ST);
        store_le16(image + XSAVE_FCW, FCW_INIT);
    }
    if (!(present & XSTATE_SSE))
        memset(image + XSAVE_XMM, 0, 256);
    if (!(present & XSTATE_AVX))
        memset(image + XSAVE_YMM_HIGH, 0, 256);
    store_le64(image + XSAVE_BV, XCR0_SUPPORTED);
    store_le64(image + XSAVE_COMP_BV, 0);
    return image;
}

bool interp_is_x87_control(unsigned op)
{
    return is_non_waiting(op) || op == OP_FLDCW || op == OP_FLDENV || op == OP_FRSTOR ||
           op == OP_FWAIT || op == OP_FINCSTP || op == OP_FDECSTP || op == OP_FFREE ||
           op == OP_FNOP;
}

// The pointers to the last x87 instruction and operand; `saved` are those before it.
static void update_x87_pointers(struct vcpu *vcpu, const struct bound_insn *bound, uint8_t *image,
                                const uint8_t saved[18])
{
    const struct insn *insn = &bound->insn;
    memcpy(image + XSAVE_FOP, saved, 18); // FOP, FIP, FDP
    if (insn->form->class != CLASS_X87 || interp_is_x87_control(insn->form->op))
        return;
    bool real = !cpu_in_protected_mode(&vcpu->state); // there they are linear addresses
    store_le16(image + XSAVE_FOP, interp_x87_opcode(insn->opcode, insn->modrm));
    store_le64(image + XSAVE_FIP, vcpu->state.rip + (real ? vcpu->state.segment[SEG_CS].base : 0));
    if (insn_has_memory(insn))
        store_le64(image + XSAVE_FDP, effective_address(vcpu, bound) +
                                          (real ? vcpu->state.segment[insn->segment].base : 0));
}

static int raise_host_fault(struct vcpu *vcpu, const struct bound_insn *bound, int signal)
{
    if (signal == SIGFPE && bound->insn.form->class == CLASS_X87)
        return raise_exception(vcpu, EXC_MF);
    if (signal == SIGFPE)
        return vcpu->state.cr4 & CR4_OSXMMEXCPT ? raise_exception(vcpu, EXC_XM) : raise_ud(vcpu);
    log_warn("%s: the host refused it (signal %d)",
             insn_op_name((enum insn_op)bound->insn.form->op), signal);
    return raise_ud(vcpu);
}

// Execute with `host` as the memory operand. 0 or -1.
static int run_stub(struct vcpu *vcpu, const struct bound_insn *bound, void *host)
{
    struct interp_vector *vector = interp_vector_of(vcpu);
    struct vector_frame *frame = &vector->frame;
    uint8_t *image = interp_xsave_image(vcpu), pointers[18];
    struct stub stub;
    stub_make(&stub, bound);
    *frame = (struct vector_frame){
        .xsave = image,
        .code = stub_place(vector, &stub),
        .operand = host,
        .rax = vcpu->state.gpr[RAX],
        .rcx = vcpu->state.gpr[RCX],
        .rdx = vcpu->state.gpr[RDX],
        .flags = vcpu->state.rflags & FLAGS_STATUS,
        .has_avx = vector->has_avx,
        .length = stub.length,
    };
    for (unsigned i = 0; i < BOUND_OPERANDS; i++)
        if (bound->operand[i].place == PLACE_REGISTER)
            frame->rax = vcpu->state.gpr[bound->operand[i].number];
    memcpy(pointers, image + XSAVE_FOP, sizeof(pointers));
    store_le64(image + XSAVE_BV, vector->has_avx ? XCR0_SUPPORTED : XSTATE_X87 | XSTATE_SSE);
    running = frame;
    interp_vector_enter(frame);
    running = NULL;
    store_le64(image + XSAVE_BV, XCR0_SUPPORTED);
    if (frame->signal) {
        memcpy(image + XSAVE_FOP, pointers, sizeof(pointers));
        return raise_host_fault(vcpu, bound, frame->signal);
    }
    update_x87_pointers(vcpu, bound, image, pointers);
    return 0;
}

// General registers and flags that the instruction wrote.
static void take_results(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct vector_frame *frame = &interp_vector_of(vcpu)->frame;
    const struct insn_form *form = bound->insn.form;
    for (unsigned i = 0; i < BOUND_OPERANDS; i++)
        if (bound->operand[i].place == PLACE_REGISTER && (form->operands[i].access & ACCESS_WRITE))
            gpr_write(vcpu, bound->operand[i].number, bound->operand[i].bytes, frame->rax);
    if (form->implicit_written & BIT(RCX))
        vcpu->state.gpr[RCX] = frame->rcx;
    if (form->flags_written | form->flags_undefined)
        vcpu->state.rflags =
            (vcpu->state.rflags & ~(uint64_t)FLAGS_STATUS) | (frame->flags & FLAGS_STATUS);
}

// Outside 64-bit mode VZEROUPPER and VZEROALL reach eight registers; the stub reaches all sixteen.
static int zero_eight(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t saved[2][128], *image = interp_xsave_image(vcpu);
    memcpy(saved[0], image + XSAVE_XMM + 128, 128);
    memcpy(saved[1], image + XSAVE_YMM_HIGH + 128, 128);
    int result = run_stub(vcpu, bound, NULL);
    memcpy(image + XSAVE_XMM + 128, saved[0], 128);
    memcpy(image + XSAVE_YMM_HIGH + 128, saved[1], 128);
    return result ? INTERP_FAULT : INTERP_DONE;
}

int interp_vector(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct vector_operand operand = {0};
    unsigned op = bound->insn.form->op;
    if (__builtin_expect(bound->insn.mode != CODE_64, 0) &&
        (op == OP_VZEROUPPER || op == OP_VZEROALL))
        return zero_eight(vcpu, bound);
    if (insn_has_memory(&bound->insn) && operand_map(vcpu, bound, &operand))
        return INTERP_FAULT;
    if (run_stub(vcpu, bound, operand.host) || operand_unmap(vcpu, &operand))
        return INTERP_FAULT;
    take_results(vcpu, bound);
    return INTERP_DONE;
}

// ---- Instructions that access what a mask selects ----

static uint8_t *vector_lane(uint8_t *image, unsigned number, unsigned lane)
{
    return image + (lane ? XSAVE_YMM_HIGH : XSAVE_XMM) + 16 * (number & 15);
}

static void vector_read(struct vcpu *vcpu, unsigned number, uint8_t value[32])
{
    uint8_t *image = interp_xsave_image(vcpu);
    memcpy(value, vector_lane(image, number, 0), 16);
    memcpy(value + 16, vector_lane(image, number, 1), 16);
}

static void vector_write(struct vcpu *vcpu, unsigned number, const uint8_t value[32])
{
    uint8_t *image = interp_xsave_image(vcpu);
    memcpy(vector_lane(image, number, 0), value, 16);
    memcpy(vector_lane(image, number, 1), value + 16, 16);
}

// A store that faults in one element writes none.
static int probe_elements(struct vcpu *vcpu, const struct insn *insn, uint64_t offset,
                          const uint8_t mask[32], unsigned bytes, unsigned element)
{
    for (unsigned i = 0; i < bytes; i += element) {
        struct gva linear;
        if (!(mask[i + element - 1] & 0x80))
            continue;
        if (segment_linear(vcpu, (enum segment_name)insn->segment, offset + i, element,
                           SEGMENT_WRITE, &linear) ||
            mmu_probe(vcpu, linear, element, MMU_WRITE, MMU_NORMAL))
            return -1;
    }
    return 0;
}

// VMASKMOVPS and the like: the stub works on a copy, of which only selected elements are read or written.
int interp_maskmov_elements(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct insn *insn = &bound->insn;
    struct interp_vector *vector = interp_vector_of(vcpu);
    unsigned op = insn->form->op, element = op == OP_VMASKMOVPD || op == OP_VPMASKMOVQ ? 8 : 4;
    unsigned bytes = insn->vex_l ? 32 : 16;
    bool store = insn->form->operands[0].kind == OPERAND_MEM;
    uint64_t offset = effective_address(vcpu, bound), value;
    uint8_t mask[32];
    vector_read(vcpu, insn->vex_vvvv, mask);
    memset(vector->bounce, 0, sizeof(vector->bounce));
    if (store && (probe_elements(vcpu, insn, offset, mask, bytes, element) ||
                  run_stub(vcpu, bound, vector->bounce)))
        return INTERP_FAULT;
    for (unsigned i = 0; i < bytes; i += element) {
        if (!(mask[i + element - 1] & 0x80))
            continue;
        memcpy(&value, vector->bounce + i, sizeof(value));
        int result = store ? memory_write(vcpu, insn->segment, offset + i, element, value)
                           : memory_read(vcpu, insn->segment, offset + i, element, &value);
        if (result)
            return INTERP_FAULT;
        if (!store)
            memcpy(vector->bounce + i, &value, element);
    }
    return store ? INTERP_DONE : run_stub(vcpu, bound, vector->bounce);
}

struct gather {
    unsigned index_bytes, data_bytes, count;
};

static struct gather gather_shape(const struct insn *insn)
{
    bool qword_index = insn->opcode & 1;
    struct gather shape = {.index_bytes = qword_index ? 8 : 4,
                           .data_bytes = insn->rex & REX_W ? 8 : 4};
    unsigned widest = shape.index_bytes > shape.data_bytes ? shape.index_bytes : shape.data_bytes;
    shape.count = (insn->vex_l ? 32 : 16) / widest;
    return shape;
}

static uint64_t gather_offset(const struct vcpu *vcpu, const struct insn *insn,
                              const struct gather *shape, const uint8_t indices[32], unsigned i)
{
    int64_t index = shape->index_bytes == 8 ? (int64_t)load_le64(indices + 8 * i)
                                            : (int32_t)load_le32(indices + 4 * i);
    uint64_t base = insn->base == INSN_REG_NONE ? 0 : vcpu->state.gpr[insn->base];
    return (base + ((uint64_t)index << insn->scale) + (uint64_t)insn->displacement) &
           size_mask(insn->address_size);
}

// Elements that were loaded before a fault stay loaded, and their mask bits are cleared: so the instruction can begin again.
int interp_gather(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct insn *insn = &bound->insn;
    struct gather shape = gather_shape(insn);
    uint8_t data[32], mask[32], indices[32];
    if (insn->reg == insn->index || insn->reg == insn->vex_vvvv || insn->index == insn->vex_vvvv)
        return raise_ud(vcpu);
    vector_read(vcpu, insn->reg, data);
    vector_read(vcpu, insn->vex_vvvv, mask);
    vector_read(vcpu, insn->index, indices);
    int result = INTERP_DONE;
    for (unsigned i = 0; i < shape.count && !result; i++) {
        uint64_t value, at = i * shape.data_bytes;
        if (mask[at + shape.data_bytes - 1] & 0x80) {
            result = memory_read(vcpu, insn->segment, gather_offset(vcpu, insn, &shape, indices, i),
                                 shape.data_bytes, &value);
            if (result)
                break;
            memcpy(data + at, &value, shape.data_bytes);
        }
        memset(mask + at, 0, shape.data_bytes);
    }
    if (!result) {
        unsigned used = shape.count * shape.data_bytes;
        memset(data + used, 0, sizeof(data) - used);
        memset(mask, 0, sizeof(mask));
    }
    vector_write(vcpu, insn->reg, data);
    vector_write(vcpu, insn->vex_vvvv, mask);
    return result;
}

// MMX registers are the x87 registers by number; the image has them in stack order. Using them sets TOP to 0 and all tags to valid.
static void mmx_transition(uint8_t *image)
{
    uint8_t rotated[128];
    unsigned status = load_le16(image + XSAVE_FSW), top = (status >> 11) & 7;
    for (unsigned i = 0; i < 8; i++)
        memcpy(rotated + 16 * i, image + XSAVE_ST + 16 * ((i - top) & 7), 16);
    memcpy(image + XSAVE_ST, rotated, sizeof(rotated));
    store_le16(image + XSAVE_FSW, (uint16_t)(status & ~0x3800u));
    image[XSAVE_FTW] = 0xff;
}

// Nothing is written when a part faults. The processor reports the start of the access, or of its part in the second page,
// not the first byte selected there.
static int probe_masked(struct vcpu *vcpu, const struct bound_insn *bound, unsigned segment,
                        const uint8_t *mask, unsigned bytes)
{
    uint64_t start = vcpu->state.gpr[RDI] & size_mask(bound->insn.address_size);
    for (unsigned i = 0; i < bytes; i++) {
        struct gva linear;
        if (!(mask[i] & 0x80))
            continue;
        if (segment_linear(vcpu, (enum segment_name)segment, start + i, 1, SEGMENT_WRITE, &linear))
            return -1;
        uint64_t in_page = linear.at & 4095;
        struct gva part = gva(linear.at - (in_page < i ? in_page : i));
        if (mmu_probe(vcpu, part, 1, MMU_WRITE, MMU_NORMAL))
            return -1;
    }
    return 0;
}

// MASKMOVQ, MASKMOVDQU: bytes of a register to [rDI] where the mask's byte is negative.
int interp_maskmov(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct insn *insn = &bound->insn;
    uint8_t *image = interp_xsave_image(vcpu), data[32], mask[32];
    unsigned bytes = 16,
             segment = insn->segment_override != SEG_NONE ? insn->segment_override : SEG_DS;
    if (insn->form->op == OP_MASKMOVQ) {
        mmx_transition(image);
        bytes = 8;
        memcpy(data, image + XSAVE_ST + 16 * (insn->reg & 7), 8);
        memcpy(mask, image + XSAVE_ST + 16 * (insn->rm & 7), 8);
    } else {
        vector_read(vcpu, insn->reg, data);
        vector_read(vcpu, insn->rm, mask);
    }
    if (probe_masked(vcpu, bound, segment, mask, bytes))
        return INTERP_FAULT;
    for (unsigned i = 0; i < bytes; i++) {
        uint64_t offset = (vcpu->state.gpr[RDI] + i) & size_mask(insn->address_size);
        if ((mask[i] & 0x80) && memory_write(vcpu, segment, offset, 1, data[i]))
            return INTERP_FAULT;
    }
    return INTERP_DONE;
}
