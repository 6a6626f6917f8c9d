// SPDX-License-Identifier: Apache-2.0
//
// The operations on MMX, XMM and YMM registers; see insn_op.h. A VEX form is an operation of its own.
#ifndef WIRT_MACHINE_ENGINE_INSN_OP_VECTOR_H
#define WIRT_MACHINE_ENGINE_INSN_OP_VECTOR_H

// Lists, one line a family.
// clang-format off

#define INSN_OPS_VECTOR(X)                                                                         \
    X(MOVUPS, "movups") X(VMOVUPS, "vmovups") X(MOVUPD, "movupd") X(VMOVUPD, "vmovupd")            \
    X(MOVSS, "movss") X(VMOVSS, "vmovss") X(MOVSD, "movsd") X(VMOVSD, "vmovsd")                    \
    X(MOVLPS, "movlps") X(VMOVLPS, "vmovlps") X(MOVHLPS, "movhlps") X(VMOVHLPS, "vmovhlps")        \
    X(MOVLPD, "movlpd") X(VMOVLPD, "vmovlpd") X(MOVSLDUP, "movsldup") X(VMOVSLDUP, "vmovsldup")    \
    X(MOVDDUP, "movddup") X(VMOVDDUP, "vmovddup") X(UNPCKLPS, "unpcklps")                          \
    X(VUNPCKLPS, "vunpcklps") X(UNPCKLPD, "unpcklpd") X(VUNPCKLPD, "vunpcklpd")                    \
    X(UNPCKHPS, "unpckhps") X(VUNPCKHPS, "vunpckhps") X(UNPCKHPD, "unpckhpd")                      \
    X(VUNPCKHPD, "vunpckhpd") X(MOVHPS, "movhps") X(VMOVHPS, "vmovhps") X(MOVLHPS, "movlhps")      \
    X(VMOVLHPS, "vmovlhps") X(MOVHPD, "movhpd") X(VMOVHPD, "vmovhpd") X(MOVSHDUP, "movshdup")      \
    X(VMOVSHDUP, "vmovshdup") X(MOVAPS, "movaps") X(VMOVAPS, "vmovaps") X(MOVAPD, "movapd")        \
    X(VMOVAPD, "vmovapd") X(CVTPI2PS, "cvtpi2ps") X(CVTPI2PD, "cvtpi2pd") X(CVTSI2SS, "cvtsi2ss")  \
    X(VCVTSI2SS, "vcvtsi2ss") X(CVTSI2SD, "cvtsi2sd") X(VCVTSI2SD, "vcvtsi2sd")                    \
    X(MOVNTPS, "movntps") X(VMOVNTPS, "vmovntps") X(MOVNTPD, "movntpd") X(VMOVNTPD, "vmovntpd")    \
    X(MOVNTSS, "movntss") X(MOVNTSD, "movntsd") X(CVTTPS2PI, "cvttps2pi")                          \
    X(CVTTPD2PI, "cvttpd2pi") X(CVTTSS2SI, "cvttss2si") X(VCVTTSS2SI, "vcvttss2si")                \
    X(CVTTSD2SI, "cvttsd2si") X(VCVTTSD2SI, "vcvttsd2si") X(CVTPS2PI, "cvtps2pi")                  \
    X(CVTPD2PI, "cvtpd2pi") X(CVTSS2SI, "cvtss2si") X(VCVTSS2SI, "vcvtss2si")                      \
    X(CVTSD2SI, "cvtsd2si") X(VCVTSD2SI, "vcvtsd2si") X(UCOMISS, "ucomiss")                        \
    X(VUCOMISS, "vucomiss") X(UCOMISD, "ucomisd") X(VUCOMISD, "vucomisd") X(COMISS, "comiss")      \
    X(VCOMISS, "vcomiss") X(COMISD, "comisd") X(VCOMISD, "vcomisd") X(MOVMSKPS, "movmskps")        \
    X(VMOVMSKPS, "vmovmskps") X(MOVMSKPD, "movmskpd") X(VMOVMSKPD, "vmovmskpd")                    \
    X(SQRTPS, "sqrtps") X(VSQRTPS, "vsqrtps") X(SQRTPD, "sqrtpd") X(VSQRTPD, "vsqrtpd")            \
    X(SQRTSS, "sqrtss") X(VSQRTSS, "vsqrtss") X(SQRTSD, "sqrtsd") X(VSQRTSD, "vsqrtsd")            \
    X(RSQRTPS, "rsqrtps") X(VRSQRTPS, "vrsqrtps") X(RSQRTSS, "rsqrtss") X(VRSQRTSS, "vrsqrtss")    \
    X(RCPPS, "rcpps") X(VRCPPS, "vrcpps") X(RCPSS, "rcpss") X(VRCPSS, "vrcpss") X(ANDPS, "andps")  \
    X(VANDPS, "vandps") X(ANDPD, "andpd") X(VANDPD, "vandpd") X(ANDNPS, "andnps")                  \
    X(VANDNPS, "vandnps") X(ANDNPD, "andnpd") X(VANDNPD, "vandnpd") X(ORPS, "orps")                \
    X(VORPS, "vorps") X(ORPD, "orpd") X(VORPD, "vorpd") X(XORPS, "xorps") X(VXORPS, "vxorps")      \
    X(XORPD, "xorpd") X(VXORPD, "vxorpd") X(ADDPS, "addps") X(VADDPS, "vaddps") X(ADDPD, "addpd")  \
    X(VADDPD, "vaddpd") X(ADDSS, "addss") X(VADDSS, "vaddss") X(ADDSD, "addsd")                    \
    X(VADDSD, "vaddsd") X(MULPS, "mulps") X(VMULPS, "vmulps") X(MULPD, "mulpd")                    \
    X(VMULPD, "vmulpd") X(MULSS, "mulss") X(VMULSS, "vmulss") X(MULSD, "mulsd")                    \
    X(VMULSD, "vmulsd") X(CVTPS2PD, "cvtps2pd") X(VCVTPS2PD, "vcvtps2pd") X(CVTPD2PS, "cvtpd2ps")  \
    X(VCVTPD2PS, "vcvtpd2ps") X(CVTSS2SD, "cvtss2sd") X(VCVTSS2SD, "vcvtss2sd")                    \
    X(CVTSD2SS, "cvtsd2ss") X(VCVTSD2SS, "vcvtsd2ss") X(CVTDQ2PS, "cvtdq2ps")                      \
    X(VCVTDQ2PS, "vcvtdq2ps") X(CVTPS2DQ, "cvtps2dq") X(VCVTPS2DQ, "vcvtps2dq")                    \
    X(CVTTPS2DQ, "cvttps2dq") X(VCVTTPS2DQ, "vcvttps2dq") X(SUBPS, "subps") X(VSUBPS, "vsubps")    \
    X(SUBPD, "subpd") X(VSUBPD, "vsubpd") X(SUBSS, "subss") X(VSUBSS, "vsubss") X(SUBSD, "subsd")  \
    X(VSUBSD, "vsubsd") X(MINPS, "minps") X(VMINPS, "vminps") X(MINPD, "minpd")                    \
    X(VMINPD, "vminpd") X(MINSS, "minss") X(VMINSS, "vminss") X(MINSD, "minsd")                    \
    X(VMINSD, "vminsd") X(DIVPS, "divps") X(VDIVPS, "vdivps") X(DIVPD, "divpd")                    \
    X(VDIVPD, "vdivpd") X(DIVSS, "divss") X(VDIVSS, "vdivss") X(DIVSD, "divsd")                    \
    X(VDIVSD, "vdivsd") X(MAXPS, "maxps") X(VMAXPS, "vmaxps") X(MAXPD, "maxpd")                    \
    X(VMAXPD, "vmaxpd") X(MAXSS, "maxss") X(VMAXSS, "vmaxss") X(MAXSD, "maxsd")                    \
    X(VMAXSD, "vmaxsd") X(PUNPCKLBW, "punpcklbw") X(VPUNPCKLBW, "vpunpcklbw")                      \
    X(PUNPCKLWD, "punpcklwd") X(VPUNPCKLWD, "vpunpcklwd") X(PUNPCKLDQ, "punpckldq")                \
    X(VPUNPCKLDQ, "vpunpckldq") X(PACKSSWB, "packsswb") X(VPACKSSWB, "vpacksswb")                  \
    X(PCMPGTB, "pcmpgtb") X(VPCMPGTB, "vpcmpgtb") X(PCMPGTW, "pcmpgtw") X(VPCMPGTW, "vpcmpgtw")    \
    X(PCMPGTD, "pcmpgtd") X(VPCMPGTD, "vpcmpgtd") X(PACKUSWB, "packuswb")                          \
    X(VPACKUSWB, "vpackuswb") X(PUNPCKHBW, "punpckhbw") X(VPUNPCKHBW, "vpunpckhbw")                \
    X(PUNPCKHWD, "punpckhwd") X(VPUNPCKHWD, "vpunpckhwd") X(PUNPCKHDQ, "punpckhdq")                \
    X(VPUNPCKHDQ, "vpunpckhdq") X(PACKSSDW, "packssdw") X(VPACKSSDW, "vpackssdw")                  \
    X(PUNPCKLQDQ, "punpcklqdq") X(VPUNPCKLQDQ, "vpunpcklqdq") X(PUNPCKHQDQ, "punpckhqdq")          \
    X(VPUNPCKHQDQ, "vpunpckhqdq") X(MOVD, "movd") X(VMOVD, "vmovd") X(MOVQ, "movq")                \
    X(MOVDQA, "movdqa") X(VMOVDQA, "vmovdqa") X(MOVDQU, "movdqu") X(VMOVDQU, "vmovdqu")            \
    X(VMOVQ, "vmovq") X(MOVQ2DQ, "movq2dq") X(MOVDQ2Q, "movdq2q") X(PSHUFW, "pshufw")              \
    X(PSHUFD, "pshufd") X(VPSHUFD, "vpshufd") X(PSHUFHW, "pshufhw") X(VPSHUFHW, "vpshufhw")        \
    X(PSHUFLW, "pshuflw") X(VPSHUFLW, "vpshuflw") X(PSRLW, "psrlw") X(VPSRLW, "vpsrlw")            \
    X(PSRAW, "psraw") X(VPSRAW, "vpsraw") X(PSLLW, "psllw") X(VPSLLW, "vpsllw") X(PSRLD, "psrld")  \
    X(VPSRLD, "vpsrld") X(PSRAD, "psrad") X(VPSRAD, "vpsrad") X(PSLLD, "pslld")                    \
    X(VPSLLD, "vpslld") X(PSRLQ, "psrlq") X(VPSRLQ, "vpsrlq") X(PSLLQ, "psllq")                    \
    X(VPSLLQ, "vpsllq") X(PSRLDQ, "psrldq") X(VPSRLDQ, "vpsrldq") X(PSLLDQ, "pslldq")              \
    X(VPSLLDQ, "vpslldq") X(PCMPEQB, "pcmpeqb") X(VPCMPEQB, "vpcmpeqb") X(PCMPEQW, "pcmpeqw")      \
    X(VPCMPEQW, "vpcmpeqw") X(PCMPEQD, "pcmpeqd") X(VPCMPEQD, "vpcmpeqd") X(EMMS, "emms")          \
    X(VZEROUPPER, "vzeroupper") X(VZEROALL, "vzeroall") X(EXTRQ, "extrq") X(INSERTQ, "insertq")    \
    X(HADDPD, "haddpd") X(VHADDPD, "vhaddpd") X(HADDPS, "haddps") X(VHADDPS, "vhaddps")            \
    X(HSUBPD, "hsubpd") X(VHSUBPD, "vhsubpd") X(HSUBPS, "hsubps") X(VHSUBPS, "vhsubps")            \
    X(CMPPS, "cmpps") X(VCMPPS, "vcmpps") X(CMPPD, "cmppd") X(VCMPPD, "vcmppd") X(CMPSS, "cmpss")  \
    X(VCMPSS, "vcmpss") X(CMPSD, "cmpsd") X(VCMPSD, "vcmpsd") X(PINSRW, "pinsrw")                  \
    X(VPINSRW, "vpinsrw") X(PEXTRW, "pextrw") X(VPEXTRW, "vpextrw") X(SHUFPS, "shufps")            \
    X(VSHUFPS, "vshufps") X(SHUFPD, "shufpd") X(VSHUFPD, "vshufpd") X(ADDSUBPD, "addsubpd")        \
    X(VADDSUBPD, "vaddsubpd") X(ADDSUBPS, "addsubps") X(VADDSUBPS, "vaddsubps") X(PADDQ, "paddq")  \
    X(VPADDQ, "vpaddq") X(PMULLW, "pmullw") X(VPMULLW, "vpmullw") X(PMOVMSKB, "pmovmskb")          \
    X(VPMOVMSKB, "vpmovmskb") X(PSUBUSB, "psubusb") X(VPSUBUSB, "vpsubusb") X(PSUBUSW, "psubusw")  \
    X(VPSUBUSW, "vpsubusw") X(PMINUB, "pminub") X(VPMINUB, "vpminub") X(PAND, "pand")              \
    X(VPAND, "vpand") X(PADDUSB, "paddusb") X(VPADDUSB, "vpaddusb") X(PADDUSW, "paddusw")          \
    X(VPADDUSW, "vpaddusw") X(PMAXUB, "pmaxub") X(VPMAXUB, "vpmaxub") X(PANDN, "pandn")            \
    X(VPANDN, "vpandn") X(PAVGB, "pavgb") X(VPAVGB, "vpavgb") X(PAVGW, "pavgw")                    \
    X(VPAVGW, "vpavgw") X(PMULHUW, "pmulhuw") X(VPMULHUW, "vpmulhuw") X(PMULHW, "pmulhw")          \
    X(VPMULHW, "vpmulhw") X(CVTTPD2DQ, "cvttpd2dq") X(VCVTTPD2DQ, "vcvttpd2dq")                    \
    X(CVTDQ2PD, "cvtdq2pd") X(VCVTDQ2PD, "vcvtdq2pd") X(CVTPD2DQ, "cvtpd2dq")                      \
    X(VCVTPD2DQ, "vcvtpd2dq") X(MOVNTQ, "movntq") X(MOVNTDQ, "movntdq") X(VMOVNTDQ, "vmovntdq")    \
    X(PSUBSB, "psubsb") X(VPSUBSB, "vpsubsb") X(PSUBSW, "psubsw") X(VPSUBSW, "vpsubsw")            \
    X(PMINSW, "pminsw") X(VPMINSW, "vpminsw") X(POR, "por") X(VPOR, "vpor") X(PADDSB, "paddsb")    \
    X(VPADDSB, "vpaddsb") X(PADDSW, "paddsw") X(VPADDSW, "vpaddsw") X(PMAXSW, "pmaxsw")            \
    X(VPMAXSW, "vpmaxsw") X(PXOR, "pxor") X(VPXOR, "vpxor") X(LDDQU, "lddqu") X(VLDDQU, "vlddqu")  \
    X(PMULUDQ, "pmuludq") X(VPMULUDQ, "vpmuludq") X(PMADDWD, "pmaddwd") X(VPMADDWD, "vpmaddwd")    \
    X(PSADBW, "psadbw") X(VPSADBW, "vpsadbw") X(MASKMOVQ, "maskmovq") X(MASKMOVDQU, "maskmovdqu")  \
    X(VMASKMOVDQU, "vmaskmovdqu") X(PSUBB, "psubb") X(VPSUBB, "vpsubb") X(PSUBW, "psubw")          \
    X(VPSUBW, "vpsubw") X(PSUBD, "psubd") X(VPSUBD, "vpsubd") X(PSUBQ, "psubq")                    \
    X(VPSUBQ, "vpsubq") X(PADDB, "paddb") X(VPADDB, "vpaddb") X(PADDW, "paddw")                    \
    X(VPADDW, "vpaddw") X(PADDD, "paddd") X(VPADDD, "vpaddd") X(PSHUFB, "pshufb")                  \
    X(VPSHUFB, "vpshufb") X(PHADDW, "phaddw") X(VPHADDW, "vphaddw") X(PHADDD, "phaddd")            \
    X(VPHADDD, "vphaddd") X(PHADDSW, "phaddsw") X(VPHADDSW, "vphaddsw") X(PMADDUBSW, "pmaddubsw")  \
    X(VPMADDUBSW, "vpmaddubsw") X(PHSUBW, "phsubw") X(VPHSUBW, "vphsubw") X(PHSUBD, "phsubd")      \
    X(VPHSUBD, "vphsubd") X(PHSUBSW, "phsubsw") X(VPHSUBSW, "vphsubsw") X(PSIGNB, "psignb")        \
    X(VPSIGNB, "vpsignb") X(PSIGNW, "psignw") X(VPSIGNW, "vpsignw") X(PSIGND, "psignd")            \
    X(VPSIGND, "vpsignd") X(PMULHRSW, "pmulhrsw") X(VPMULHRSW, "vpmulhrsw") X(PABSB, "pabsb")      \
    X(VPABSB, "vpabsb") X(PABSW, "pabsw") X(VPABSW, "vpabsw") X(PABSD, "pabsd")                    \
    X(VPABSD, "vpabsd") X(PBLENDVB, "pblendvb") X(BLENDVPS, "blendvps") X(BLENDVPD, "blendvpd")    \
    X(PTEST, "ptest") X(VPTEST, "vptest") X(PMOVSXBW, "pmovsxbw") X(VPMOVSXBW, "vpmovsxbw")        \
    X(PMOVSXBD, "pmovsxbd") X(VPMOVSXBD, "vpmovsxbd") X(PMOVSXBQ, "pmovsxbq")                      \
    X(VPMOVSXBQ, "vpmovsxbq") X(PMOVSXWD, "pmovsxwd") X(VPMOVSXWD, "vpmovsxwd")                    \
    X(PMOVSXWQ, "pmovsxwq") X(VPMOVSXWQ, "vpmovsxwq") X(PMOVSXDQ, "pmovsxdq")                      \
    X(VPMOVSXDQ, "vpmovsxdq") X(PMULDQ, "pmuldq") X(VPMULDQ, "vpmuldq") X(PCMPEQQ, "pcmpeqq")      \
    X(VPCMPEQQ, "vpcmpeqq") X(MOVNTDQA, "movntdqa") X(VMOVNTDQA, "vmovntdqa")                      \
    X(PACKUSDW, "packusdw") X(VPACKUSDW, "vpackusdw") X(PMOVZXBW, "pmovzxbw")                      \
    X(VPMOVZXBW, "vpmovzxbw") X(PMOVZXBD, "pmovzxbd") X(VPMOVZXBD, "vpmovzxbd")                    \
    X(PMOVZXBQ, "pmovzxbq") X(VPMOVZXBQ, "vpmovzxbq") X(PMOVZXWD, "pmovzxwd")                      \
    X(VPMOVZXWD, "vpmovzxwd") X(PMOVZXWQ, "pmovzxwq") X(VPMOVZXWQ, "vpmovzxwq")                    \
    X(PMOVZXDQ, "pmovzxdq") X(VPMOVZXDQ, "vpmovzxdq") X(PCMPGTQ, "pcmpgtq")                        \
    X(VPCMPGTQ, "vpcmpgtq") X(PMINSB, "pminsb") X(VPMINSB, "vpminsb") X(PMINSD, "pminsd")          \
    X(VPMINSD, "vpminsd") X(PMINUW, "pminuw") X(VPMINUW, "vpminuw") X(PMINUD, "pminud")            \
    X(VPMINUD, "vpminud") X(PMAXSB, "pmaxsb") X(VPMAXSB, "vpmaxsb") X(PMAXSD, "pmaxsd")            \
    X(VPMAXSD, "vpmaxsd") X(PMAXUW, "pmaxuw") X(VPMAXUW, "vpmaxuw") X(PMAXUD, "pmaxud")            \
    X(VPMAXUD, "vpmaxud") X(PMULLD, "pmulld") X(VPMULLD, "vpmulld") X(PHMINPOSUW, "phminposuw")    \
    X(VPHMINPOSUW, "vphminposuw") X(SHA1NEXTE, "sha1nexte") X(SHA1MSG1, "sha1msg1")                \
    X(SHA1MSG2, "sha1msg2") X(SHA256RNDS2, "sha256rnds2") X(SHA256MSG1, "sha256msg1")              \
    X(SHA256MSG2, "sha256msg2") X(GF2P8MULB, "gf2p8mulb") X(VGF2P8MULB, "vgf2p8mulb")              \
    X(AESIMC, "aesimc") X(VAESIMC, "vaesimc") X(AESENC, "aesenc") X(VAESENC, "vaesenc")            \
    X(AESENCLAST, "aesenclast") X(VAESENCLAST, "vaesenclast") X(AESDEC, "aesdec")                  \
    X(VAESDEC, "vaesdec") X(AESDECLAST, "aesdeclast") X(VAESDECLAST, "vaesdeclast")                \
    X(VPERMILPS, "vpermilps") X(VPERMILPD, "vpermilpd") X(VTESTPS, "vtestps")                      \
    X(VTESTPD, "vtestpd") X(VCVTPH2PS, "vcvtph2ps") X(VPERMPS, "vpermps")                          \
    X(VBROADCASTSS, "vbroadcastss") X(VBROADCASTSD, "vbroadcastsd")                                \
    X(VBROADCASTF128, "vbroadcastf128") X(VMASKMOVPS, "vmaskmovps") X(VMASKMOVPD, "vmaskmovpd")    \
    X(VPERMD, "vpermd") X(VPSRLVD, "vpsrlvd") X(VPSRLVQ, "vpsrlvq") X(VPSRAVD, "vpsravd")          \
    X(VPSLLVD, "vpsllvd") X(VPSLLVQ, "vpsllvq") X(VPBROADCASTD, "vpbroadcastd")                    \
    X(VPBROADCASTQ, "vpbroadcastq") X(VBROADCASTI128, "vbroadcasti128")                            \
    X(VPBROADCASTB, "vpbroadcastb") X(VPBROADCASTW, "vpbroadcastw") X(VPMASKMOVD, "vpmaskmovd")    \
    X(VPMASKMOVQ, "vpmaskmovq") X(VPGATHERDD, "vpgatherdd") X(VPGATHERDQ, "vpgatherdq")            \
    X(VPGATHERQD, "vpgatherqd") X(VPGATHERQQ, "vpgatherqq") X(VGATHERDPS, "vgatherdps")            \
    X(VGATHERDPD, "vgatherdpd") X(VGATHERQPS, "vgatherqps") X(VGATHERQPD, "vgatherqpd")            \
    X(VPDPBUSD, "vpdpbusd") X(VPDPBUSDS, "vpdpbusds") X(VPDPWSSD, "vpdpwssd")                      \
    X(VPDPWSSDS, "vpdpwssds") X(VFMADDSUB132PS, "vfmaddsub132ps")                                  \
    X(VFMADDSUB132PD, "vfmaddsub132pd") X(VFMSUBADD132PS, "vfmsubadd132ps")                        \
    X(VFMSUBADD132PD, "vfmsubadd132pd") X(VFMADD132PS, "vfmadd132ps")                              \
    X(VFMADD132PD, "vfmadd132pd") X(VFMADD132SS, "vfmadd132ss") X(VFMADD132SD, "vfmadd132sd")      \
    X(VFMSUB132PS, "vfmsub132ps") X(VFMSUB132PD, "vfmsub132pd") X(VFMSUB132SS, "vfmsub132ss")      \
    X(VFMSUB132SD, "vfmsub132sd") X(VFNMADD132PS, "vfnmadd132ps") X(VFNMADD132PD, "vfnmadd132pd")  \
    X(VFNMADD132SS, "vfnmadd132ss") X(VFNMADD132SD, "vfnmadd132sd")                                \
    X(VFNMSUB132PS, "vfnmsub132ps") X(VFNMSUB132PD, "vfnmsub132pd")                                \
    X(VFNMSUB132SS, "vfnmsub132ss") X(VFNMSUB132SD, "vfnmsub132sd")                                \
    X(VFMADDSUB213PS, "vfmaddsub213ps") X(VFMADDSUB213PD, "vfmaddsub213pd")                        \
    X(VFMSUBADD213PS, "vfmsubadd213ps") X(VFMSUBADD213PD, "vfmsubadd213pd")                        \
    X(VFMADD213PS, "vfmadd213ps") X(VFMADD213PD, "vfmadd213pd") X(VFMADD213SS, "vfmadd213ss")      \
    X(VFMADD213SD, "vfmadd213sd") X(VFMSUB213PS, "vfmsub213ps") X(VFMSUB213PD, "vfmsub213pd")      \
    X(VFMSUB213SS, "vfmsub213ss") X(VFMSUB213SD, "vfmsub213sd") X(VFNMADD213PS, "vfnmadd213ps")    \
    X(VFNMADD213PD, "vfnmadd213pd") X(VFNMADD213SS, "vfnmadd213ss")                                \
    X(VFNMADD213SD, "vfnmadd213sd") X(VFNMSUB213PS, "vfnmsub213ps")                                \
    X(VFNMSUB213PD, "vfnmsub213pd") X(VFNMSUB213SS, "vfnmsub213ss")                                \
    X(VFNMSUB213SD, "vfnmsub213sd") X(VFMADDSUB231PS, "vfmaddsub231ps")                            \
    X(VFMADDSUB231PD, "vfmaddsub231pd") X(VFMSUBADD231PS, "vfmsubadd231ps")                        \
    X(VFMSUBADD231PD, "vfmsubadd231pd") X(VFMADD231PS, "vfmadd231ps")                              \
    X(VFMADD231PD, "vfmadd231pd") X(VFMADD231SS, "vfmadd231ss") X(VFMADD231SD, "vfmadd231sd")      \
    X(VFMSUB231PS, "vfmsub231ps") X(VFMSUB231PD, "vfmsub231pd") X(VFMSUB231SS, "vfmsub231ss")      \
    X(VFMSUB231SD, "vfmsub231sd") X(VFNMADD231PS, "vfnmadd231ps") X(VFNMADD231PD, "vfnmadd231pd")  \
    X(VFNMADD231SS, "vfnmadd231ss") X(VFNMADD231SD, "vfnmadd231sd")                                \
    X(VFNMSUB231PS, "vfnmsub231ps") X(VFNMSUB231PD, "vfnmsub231pd")                                \
    X(VFNMSUB231SS, "vfnmsub231ss") X(VFNMSUB231SD, "vfnmsub231sd") X(ROUNDPS, "roundps")          \
    X(VROUNDPS, "vroundps") X(ROUNDPD, "roundpd") X(VROUNDPD, "vroundpd") X(ROUNDSS, "roundss")    \
    X(VROUNDSS, "vroundss") X(ROUNDSD, "roundsd") X(VROUNDSD, "vroundsd") X(BLENDPS, "blendps")    \
    X(VBLENDPS, "vblendps") X(BLENDPD, "blendpd") X(VBLENDPD, "vblendpd") X(PBLENDW, "pblendw")    \
    X(VPBLENDW, "vpblendw") X(PALIGNR, "palignr") X(VPALIGNR, "vpalignr") X(PEXTRB, "pextrb")      \
    X(VPEXTRB, "vpextrb") X(PEXTRD, "pextrd") X(VPEXTRD, "vpextrd") X(EXTRACTPS, "extractps")      \
    X(VEXTRACTPS, "vextractps") X(PINSRB, "pinsrb") X(VPINSRB, "vpinsrb") X(INSERTPS, "insertps")  \
    X(VINSERTPS, "vinsertps") X(PINSRD, "pinsrd") X(VPINSRD, "vpinsrd") X(DPPS, "dpps")            \
    X(VDPPS, "vdpps") X(DPPD, "dppd") X(VDPPD, "vdppd") X(MPSADBW, "mpsadbw")                      \
    X(VMPSADBW, "vmpsadbw") X(PCLMULQDQ, "pclmulqdq") X(VPCLMULQDQ, "vpclmulqdq")                  \
    X(PCMPESTRM, "pcmpestrm") X(VPCMPESTRM, "vpcmpestrm") X(PCMPESTRI, "pcmpestri")                \
    X(VPCMPESTRI, "vpcmpestri") X(PCMPISTRM, "pcmpistrm") X(VPCMPISTRM, "vpcmpistrm")              \
    X(PCMPISTRI, "pcmpistri") X(VPCMPISTRI, "vpcmpistri") X(SHA1RNDS4, "sha1rnds4")                \
    X(GF2P8AFFINEQB, "gf2p8affineqb") X(GF2P8AFFINEINVQB, "gf2p8affineinvqb")                      \
    X(VGF2P8AFFINEQB, "vgf2p8affineqb") X(VGF2P8AFFINEINVQB, "vgf2p8affineinvqb")                  \
    X(AESKEYGENASSIST, "aeskeygenassist") X(VAESKEYGENASSIST, "vaeskeygenassist")                  \
    X(VPERMQ, "vpermq") X(VPERMPD, "vpermpd") X(VPBLENDD, "vpblendd") X(VPERM2F128, "vperm2f128")  \
    X(VINSERTF128, "vinsertf128") X(VEXTRACTF128, "vextractf128") X(VCVTPS2PH, "vcvtps2ph")        \
    X(VINSERTI128, "vinserti128") X(VEXTRACTI128, "vextracti128") X(VPERM2I128, "vperm2i128")      \
    X(VBLENDVPS, "vblendvps") X(VBLENDVPD, "vblendvpd") X(VPBLENDVB, "vpblendvb")

// clang-format on

#endif
