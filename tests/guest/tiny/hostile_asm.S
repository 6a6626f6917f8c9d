// SPDX-License-Identifier: Apache-2.0
//
// The second CPU starts as in the test of two CPUs.
#include "smp_asm.S"
