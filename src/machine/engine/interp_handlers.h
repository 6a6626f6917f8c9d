// SPDX-License-Identifier: Apache-2.0
//
// Tier 0's handlers and what they share. Each INTERP_HANDLERS entry is the operation of insn_op.h and its handler,
// interp_<name>; the operations on vector and x87 registers are in interp_vector.h's care, by class.
#ifndef WIRT_MACHINE_ENGINE_INTERP_HANDLERS_H
#define WIRT_MACHINE_ENGINE_INTERP_HANDLERS_H

#include "machine/engine/interp.h"
#include "machine/engine/interp_insn.h"

// clang-format off
#define INTERP_HANDLERS(X)                                                                         \
    X(ADD, add) X(OR, or) X(ADC, adc) X(SBB, sbb) X(AND, and) X(SUB, sub) X(XOR, xor)              \
    X(CMP, cmp) X(TEST, test) X(INC, inc) X(DEC, dec) X(NEG, neg) X(NOT, not)                      \
    X(ADCX, adcx) X(ADOX, adox) X(MUL, mul) X(IMUL, imul) X(IMUL2, imul2) X(DIV, div)              \
    X(IDIV, idiv) X(MULX, mulx) X(CBW, cbw) X(CWD, cwd) X(DAA, daa) X(DAS, das) X(AAA, aaa)        \
    X(AAS, aas) X(AAM, aam) X(AAD, aad) X(SALC, salc)                                              \
    X(ROL, rol) X(ROR, ror) X(RCL, rcl) X(RCR, rcr) X(SHL, shl) X(SHR, shr) X(SAR, sar)            \
    X(SHLD, shld) X(SHRD, shrd) X(SARX, sarx) X(SHLX, shlx) X(SHRX, shrx) X(RORX, rorx)            \
    X(BT, bt) X(BTS, bts) X(BTR, btr) X(BTC, btc) X(BSF, bsf) X(BSR, bsr) X(TZCNT, tzcnt)          \
    X(LZCNT, lzcnt) X(POPCNT, popcnt) X(BSWAP, bswap) X(ANDN, andn) X(BLSR, blsr)                  \
    X(BLSMSK, blsmsk) X(BLSI, blsi) X(BEXTR, bextr) X(BZHI, bzhi) X(PDEP, pdep) X(PEXT, pext)      \
    X(CRC32, crc32) X(RDRAND, rdrand) X(RDSEED, rdseed)                                            \
    X(MOV, mov) X(MOVSX, movsx) X(LEA, lea) X(NOP, nop) X(PAUSE, pause) X(XCHG, xchg) X(XADD, xadd)\
    X(CMPXCHG, cmpxchg) X(CMPXCHG8B, cmpxchg8b) X(CMPXCHG16B, cmpxchg16b) X(SETCC, setcc)          \
    X(CMOVCC, cmovcc) X(MOVBE, movbe) X(XLAT, xlat) X(LAHF, lahf) X(SAHF, sahf)                    \
    X(CMC, cmc) X(CLC, clc) X(STC, stc) X(CLD, cld) X(STD, std)                                    \
    X(PUSH, push) X(POP, pop) X(PUSH_SEG, push_seg) X(POP_SEG, pop_seg) X(PUSHA, pusha)            \
    X(POPA, popa) X(PUSHF, pushf) X(POPF, popf) X(ENTER, enter) X(LEAVE, leave)                    \
    X(JMP, jmp) X(JCC, jcc) X(JMP_INDIRECT, jmp_indirect) X(JCXZ, jcxz) X(LOOP, loop)              \
    X(LOOPE, loope) X(LOOPNE, loopne) X(CALL, call) X(CALL_INDIRECT, call_indirect) X(RET, ret)    \
    X(JMP_FAR, jmp_far) X(JMP_FAR_INDIRECT, jmp_far_indirect) X(CALL_FAR, call_far)                \
    X(CALL_FAR_INDIRECT, call_far_indirect) X(RET_FAR, ret_far) X(IRET, iret) X(INT, int)          \
    X(INT3, int3) X(INTO, into) X(INT1, int1) X(BOUND, bound)                                      \
    X(SYSCALL, syscall) X(SYSRET, sysret) X(SYSENTER, sysenter) X(SYSEXIT, sysexit)                \
    X(MOVS, movs) X(STOS, stos) X(LODS, lods) X(CMPS, cmps) X(SCAS, scas) X(IN, in) X(OUT, out)    \
    X(INS, ins) X(OUTS, outs)                                                                      \
    X(MOV_FROM_SEG, mov_from_seg) X(MOV_TO_SEG, mov_to_seg) X(LES, les) X(LDS, lds) X(LSS, lss)    \
    X(LFS, lfs) X(LGS, lgs) X(LAR, lar) X(LSL, lsl) X(VERR, verr) X(VERW, verw) X(ARPL, arpl)      \
    X(SLDT, sldt) X(STR, str) X(SMSW, smsw) X(LLDT, lldt) X(LTR, ltr) X(LMSW, lmsw)                \
    X(SGDT, sgdt) X(SIDT, sidt) X(LGDT, lgdt) X(LIDT, lidt)                                        \
    X(MOV_FROM_CR, mov_from_cr) X(MOV_TO_CR, mov_to_cr) X(MOV_FROM_DR, mov_from_dr)                \
    X(MOV_TO_DR, mov_to_dr) X(CLTS, clts) X(RDMSR, rdmsr) X(WRMSR, wrmsr) X(XGETBV, xgetbv)        \
    X(XSETBV, xsetbv) X(RDTSC, rdtsc) X(RDTSCP, rdtscp) X(RDPID, rdpid) X(RDPMC, rdpmc)            \
    X(CPUID, cpuid) X(RDFSBASE, rdfsbase) X(RDGSBASE, rdgsbase) X(WRFSBASE, wrfsbase)              \
    X(WRGSBASE, wrgsbase) X(SWAPGS, swapgs) X(CLI, cli) X(STI, sti) X(CLAC, clac) X(STAC, stac)    \
    X(HLT, hlt) X(MONITOR, monitor) X(INVLPG, invlpg) X(INVPCID, invpcid) X(CLFLUSH, clflush)      \
    X(CLZERO, clzero) X(MFENCE, mfence) X(VMCALL, vmcall)                                          \
    X(FXSAVE, fxsave) X(FXRSTOR, fxrstor) X(XSAVE, xsave) X(XRSTOR, xrstor) X(XSAVEC, xsavec)      \
    X(LDMXCSR, ldmxcsr) X(STMXCSR, stmxcsr) X(FNSTENV, fnstenv) X(FLDENV, fldenv)                  \
    X(FNSAVE, fnsave) X(FRSTOR, frstor) X(FNINIT, fninit) X(FWAIT, fwait)                          \
    X(MASKMOVDQU, maskmov)

// Operations that are done by another's handler.
#define INTERP_ALIASES(X)                                                                          \
    X(MOVZX, mov) X(MOVNTI, mov) X(MOVSXD, movsx) X(ENDBR32, nop) X(ENDBR64, nop)    \
    X(PREFETCH, nop) X(LFENCE, mfence) X(SFENCE, mfence) X(CLFLUSHOPT, clflush) X(CLWB, clflush)   \
    X(INVD, nop) X(WBINVD, nop) X(WBNOINVD, nop) X(MWAIT, nop) X(MONITORX, monitor)                \
    X(MWAITX, nop) X(VMMCALL, vmcall) X(XSAVEOPT, xsave) X(XSAVES, xsavec) X(XRSTORS, xrstor) X(VLDMXCSR, ldmxcsr)                      \
    X(VSTMXCSR, stmxcsr) X(MASKMOVQ, maskmov) X(VMASKMOVDQU, maskmov)                              \
    X(FNENI, nop) X(FNDISI, nop) X(FNSETPM, nop)                                                   \
    X(VMASKMOVPS, maskmov_elements) X(VMASKMOVPD, maskmov_elements)                                \
    X(VPMASKMOVD, maskmov_elements) X(VPMASKMOVQ, maskmov_elements)                                \
    X(VPGATHERDD, gather) X(VPGATHERDQ, gather) X(VPGATHERQD, gather) X(VPGATHERQQ, gather)        \
    X(VGATHERDPS, gather) X(VGATHERDPD, gather) X(VGATHERQPS, gather) X(VGATHERQPD, gather)
// clang-format on

#define INTERP_DECLARE(op, name)                                                                   \
    int interp_##name(struct vcpu *vcpu, const struct bound_insn *bound);
INTERP_HANDLERS(INTERP_DECLARE)
#undef INTERP_DECLARE
int interp_maskmov_elements(struct vcpu *vcpu, const struct bound_insn *bound);
int interp_gather(struct vcpu *vcpu, const struct bound_insn *bound);
int interp_vector(
    struct vcpu *vcpu,
    const struct bound_insn *bound); // any instruction on x87, MMX, XMM, YMM registers
int interp_undefined(struct vcpu *vcpu, const struct bound_insn *bound); // #UD

// interp_stack.c: PUSH and POP of `bytes` with all checks; RSP changes on success only.
int interp_push_value(struct vcpu *vcpu, unsigned bytes, uint64_t value);
int interp_pop_value(struct vcpu *vcpu, unsigned bytes, uint64_t *value);

// interp_arith.c: the flags of a - b.
void interp_set_compare_flags(struct vcpu *vcpu, uint64_t a, uint64_t b, unsigned bytes);

// interp_fpu.c: which components of the extended state are not in their initial configuration.
uint64_t interp_xinuse(const struct vcpu *vcpu);

#endif
