// SPDX-License-Identifier: Apache-2.0
//
// The operations on MMX, XMM and YMM registers; see insn_op.h.
#ifndef WIRT_MACHINE_ENGINE_INSN_OP_VECTOR_H
#define WIRT_MACHINE_ENGINE_INSN_OP_VECTOR_H

#define INSN_OPS_VECTOR(X) X(EMMS, "emms")

#endif
