// SPDX-License-Identifier: Apache-2.0
//
// The operations that the decoder tells apart: one per mnemonic, or finer where one mnemonic means
// different work (MOV to a segment register is not MOV). X(enumerator suffix, name to print).
//
// The condition of JCC, SETCC and CMOVCC is the opcode's low nibble (insn->opcode & 15). Sizes are
// never part of an operation: MOVS is MOVSB to MOVSQ, CBW is CBW, CWDE and CDQE, IRET is all three.
#ifndef WIRT_MACHINE_ENGINE_INSN_OP_H
#define WIRT_MACHINE_ENGINE_INSN_OP_H

// Lists, one line a family.
// clang-format off

// General registers, control flow, strings, stack.
#define INSN_OPS_INTEGER(X)                                                                        \
    X(ADD, "add") X(OR, "or") X(ADC, "adc") X(SBB, "sbb")                                          \
    X(AND, "and") X(SUB, "sub") X(XOR, "xor") X(CMP, "cmp")                                        \
    X(TEST, "test") X(MOV, "mov") X(MOVZX, "movzx") X(MOVSX, "movsx") X(MOVSXD, "movsxd")          \
    X(XCHG, "xchg") X(NOP, "nop") X(PAUSE, "pause") X(ENDBR32, "endbr32") X(ENDBR64, "endbr64")    \
    X(INC, "inc") X(DEC, "dec") X(NEG, "neg") X(NOT, "not")                                        \
    X(MUL, "mul") X(IMUL, "imul") /* one operand: AX, DX:AX */                                     \
    X(IMUL2, "imul") /* two or three operands */                                                   \
    X(DIV, "div") X(IDIV, "idiv") X(LEA, "lea")                                                    \
    X(ROL, "rol") X(ROR, "ror") X(RCL, "rcl") X(RCR, "rcr")                                        \
    X(SHL, "shl") X(SHR, "shr") X(SAR, "sar") X(SHLD, "shld") X(SHRD, "shrd")                      \
    X(BT, "bt") X(BTS, "bts") X(BTR, "btr") X(BTC, "btc") X(BSF, "bsf") X(BSR, "bsr")              \
    X(TZCNT, "tzcnt") X(LZCNT, "lzcnt") X(POPCNT, "popcnt") X(BSWAP, "bswap")                      \
    X(CMPXCHG, "cmpxchg") X(CMPXCHG8B, "cmpxchg8b") X(CMPXCHG16B, "cmpxchg16b") X(XADD, "xadd")    \
    X(CBW, "cbw") /* sign-extend AL, AX, EAX into AX, EAX, RAX */                                  \
    X(CWD, "cwd") /* sign of AX, EAX, RAX into DX, EDX, RDX */                                     \
    X(SAHF, "sahf") X(LAHF, "lahf") X(SALC, "salc") X(XLAT, "xlat")                                \
    X(DAA, "daa") X(DAS, "das") X(AAA, "aaa") X(AAS, "aas") X(AAM, "aam") X(AAD, "aad")            \
    X(CMC, "cmc") X(CLC, "clc") X(STC, "stc") X(CLD, "cld") X(STD, "std")                          \
    X(SETCC, "set") X(CMOVCC, "cmov") X(MOVBE, "movbe") X(CRC32, "crc32") X(MOVNTI, "movnti")      \
    X(ADCX, "adcx") X(ADOX, "adox") X(ANDN, "andn") X(BLSR, "blsr") X(BLSMSK, "blsmsk")            \
    X(BLSI, "blsi") X(BEXTR, "bextr") X(BZHI, "bzhi") X(PDEP, "pdep") X(PEXT, "pext")              \
    X(RORX, "rorx") X(SARX, "sarx") X(SHLX, "shlx") X(SHRX, "shrx") X(MULX, "mulx")                \
    X(RDRAND, "rdrand") X(RDSEED, "rdseed")                                                        \
    X(PREFETCH, "prefetch") /* every prefetch hint, exclusive and write ones too */                \
    X(LFENCE, "lfence") X(MFENCE, "mfence") X(SFENCE, "sfence")                                    \
    X(CLFLUSH, "clflush") X(CLFLUSHOPT, "clflushopt") X(CLWB, "clwb") X(CLZERO, "clzero")          \
    X(JCC, "j") X(JCXZ, "jcxz") X(LOOP, "loop") X(LOOPE, "loope") X(LOOPNE, "loopne")              \
    X(JMP, "jmp") /* near, relative */ X(JMP_INDIRECT, "jmp")                                      \
    X(CALL, "call") /* near, relative */ X(CALL_INDIRECT, "call")                                  \
    X(RET, "ret") /* near, with or without an immediate */                                         \
    X(JMP_FAR, "jmp far") /* pointer in the instruction */ X(JMP_FAR_INDIRECT, "jmp far")          \
    X(CALL_FAR, "call far") X(CALL_FAR_INDIRECT, "call far") X(RET_FAR, "ret far")                 \
    X(IRET, "iret") X(INT, "int") X(INT3, "int3") X(INT1, "int1") X(INTO, "into")                  \
    X(BOUND, "bound") X(ARPL, "arpl")                                                              \
    X(PUSH, "push") X(POP, "pop") X(PUSH_SEG, "push") X(POP_SEG, "pop")                            \
    X(PUSHA, "pusha") X(POPA, "popa") X(PUSHF, "pushf") X(POPF, "popf")                            \
    X(ENTER, "enter") X(LEAVE, "leave")                                                            \
    X(MOVS, "movs") X(CMPS, "cmps") X(STOS, "stos") X(LODS, "lods") X(SCAS, "scas")                \
    X(INS, "ins") X(OUTS, "outs") X(IN, "in") X(OUT, "out")

// Segments, control state, privileged instructions, calls into the system.
#define INSN_OPS_SYSTEM(X)                                                                         \
    X(MOV_FROM_SEG, "mov") X(MOV_TO_SEG, "mov")                                                    \
    X(LES, "les") X(LDS, "lds") X(LSS, "lss") X(LFS, "lfs") X(LGS, "lgs")                          \
    X(MOV_FROM_CR, "mov") X(MOV_TO_CR, "mov") X(MOV_FROM_DR, "mov") X(MOV_TO_DR, "mov")            \
    X(CLI, "cli") X(STI, "sti") X(HLT, "hlt") X(CLTS, "clts") X(CLAC, "clac") X(STAC, "stac")      \
    X(SLDT, "sldt") X(STR, "str") X(LLDT, "lldt") X(LTR, "ltr") X(VERR, "verr") X(VERW, "verw")    \
    X(SGDT, "sgdt") X(SIDT, "sidt") X(LGDT, "lgdt") X(LIDT, "lidt") X(SMSW, "smsw")                \
    X(LMSW, "lmsw") X(LAR, "lar") X(LSL, "lsl") X(INVLPG, "invlpg") X(INVPCID, "invpcid")          \
    X(INVD, "invd") X(WBINVD, "wbinvd") X(WBNOINVD, "wbnoinvd")                                    \
    X(RDMSR, "rdmsr") X(WRMSR, "wrmsr") X(RDTSC, "rdtsc") X(RDTSCP, "rdtscp") X(RDPMC, "rdpmc")    \
    X(RDPID, "rdpid") X(CPUID, "cpuid") X(SWAPGS, "swapgs")                                        \
    X(RDFSBASE, "rdfsbase") X(RDGSBASE, "rdgsbase") X(WRFSBASE, "wrfsbase")                        \
    X(WRGSBASE, "wrgsbase") X(XGETBV, "xgetbv") X(XSETBV, "xsetbv")                                \
    X(SYSCALL, "syscall") X(SYSRET, "sysret") X(SYSENTER, "sysenter") X(SYSEXIT, "sysexit")        \
    X(VMCALL, "vmcall") X(VMMCALL, "vmmcall") X(RSM, "rsm")                                        \
    X(MONITOR, "monitor") X(MWAIT, "mwait") X(MONITORX, "monitorx") X(MWAITX, "mwaitx")            \
    X(UD0, "ud0") X(UD1, "ud1") X(UD2, "ud2")                                                      \
    X(FXSAVE, "fxsave") X(FXRSTOR, "fxrstor") X(XSAVE, "xsave") X(XRSTOR, "xrstor")                \
    X(XSAVEOPT, "xsaveopt") X(XSAVEC, "xsavec") X(XSAVES, "xsaves") X(XRSTORS, "xrstors")          \
    X(LDMXCSR, "ldmxcsr") X(STMXCSR, "stmxcsr") X(VLDMXCSR, "vldmxcsr") X(VSTMXCSR, "vstmxcsr")

// x87. FN... without waiting; FWAIT is an instruction of its own.
#define INSN_OPS_X87(X)                                                                            \
    X(FWAIT, "fwait") X(FADD, "fadd") X(FMUL, "fmul") X(FCOM, "fcom") X(FCOMP, "fcomp")            \
    X(FSUB, "fsub") X(FSUBR, "fsubr") X(FDIV, "fdiv") X(FDIVR, "fdivr")                            \
    X(FADDP, "faddp") X(FMULP, "fmulp") X(FCOMPP, "fcompp") X(FSUBP, "fsubp")                      \
    X(FSUBRP, "fsubrp") X(FDIVP, "fdivp") X(FDIVRP, "fdivrp")                                      \
    X(FIADD, "fiadd") X(FIMUL, "fimul") X(FICOM, "ficom") X(FICOMP, "ficomp")                      \
    X(FISUB, "fisub") X(FISUBR, "fisubr") X(FIDIV, "fidiv") X(FIDIVR, "fidivr")                    \
    X(FLD, "fld") X(FST, "fst") X(FSTP, "fstp") X(FILD, "fild") X(FIST, "fist")                    \
    X(FISTP, "fistp") X(FISTTP, "fisttp") X(FBLD, "fbld") X(FBSTP, "fbstp")                        \
    X(FXCH, "fxch") X(FNOP, "fnop") X(FCHS, "fchs") X(FABS, "fabs") X(FTST, "ftst")                \
    X(FXAM, "fxam") X(FLD1, "fld1") X(FLDL2T, "fldl2t") X(FLDL2E, "fldl2e") X(FLDPI, "fldpi")      \
    X(FLDLG2, "fldlg2") X(FLDLN2, "fldln2") X(FLDZ, "fldz") X(F2XM1, "f2xm1")                      \
    X(FYL2X, "fyl2x") X(FPTAN, "fptan") X(FPATAN, "fpatan") X(FXTRACT, "fxtract")                  \
    X(FPREM1, "fprem1") X(FDECSTP, "fdecstp") X(FINCSTP, "fincstp") X(FPREM, "fprem")              \
    X(FYL2XP1, "fyl2xp1") X(FSQRT, "fsqrt") X(FSINCOS, "fsincos") X(FRNDINT, "frndint")            \
    X(FSCALE, "fscale") X(FSIN, "fsin") X(FCOS, "fcos") X(FCMOVCC, "fcmov")                        \
    X(FUCOM, "fucom") X(FUCOMP, "fucomp") X(FUCOMPP, "fucompp") X(FUCOMI, "fucomi")                \
    X(FCOMI, "fcomi") X(FUCOMIP, "fucomip") X(FCOMIP, "fcomip") X(FFREE, "ffree")                  \
    X(FFREEP, "ffreep") X(FLDENV, "fldenv") X(FNSTENV, "fnstenv") X(FLDCW, "fldcw")                \
    X(FNSTCW, "fnstcw") X(FNSTSW, "fnstsw") X(FRSTOR, "frstor") X(FNSAVE, "fnsave")                \
    X(FNCLEX, "fnclex") X(FNINIT, "fninit") X(FNENI, "feni") X(FNDISI, "fdisi")                    \
    X(FNSETPM, "fsetpm")

// clang-format on

#endif
