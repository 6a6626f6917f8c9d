// SPDX-License-Identifier: Apache-2.0
//
// System state: control and debug registers, MSRs, segment loads and far control transfers, with the checks of the manual.
// Used by tier 0's handlers and by tier 1's helpers. All return 0, or -1 with an exception recorded and nothing changed.
#ifndef WIRT_MACHINE_ENGINE_SYSTEM_H
#define WIRT_MACHINE_ENGINE_SYSTEM_H

#include "base/bits.h"
#include "machine/engine/mmu.h"

enum segment_access { SEGMENT_READ, SEGMENT_WRITE };
enum task_switch_kind { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_INTERRUPT };

// MOV to and from CRn / DRn; CLTS, LMSW. Flushes the TLB as the manual says and recomputes the mode.
int system_read_cr(struct vcpu *vcpu, unsigned number, uint64_t *value);
int system_write_cr(struct vcpu *vcpu, unsigned number, uint64_t value);
int system_read_dr(struct vcpu *vcpu, unsigned number, uint64_t *value);
int system_write_dr(struct vcpu *vcpu, unsigned number, uint64_t value);
int system_write_xcr(struct vcpu *vcpu, uint32_t number, uint64_t value);
int system_read_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
int system_write_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value);
// MSRs that hold nothing of the guest's: what reading gives, and which a guest may write without effect. False: #GP, or another MSR. KVM leaves them to
// us, so that they are the same there.
bool msr_fixed_read(uint32_t msr, uint64_t *value);
bool msr_fixed_write(uint32_t msr);
// May EFER become `value` where it is `old`?
bool msr_efer_allows(const struct vcpu *vcpu, uint64_t cr0, uint64_t old, uint64_t value);
int system_invlpg(struct vcpu *vcpu, struct gva address);
int system_invpcid(struct vcpu *vcpu, uint64_t type, uint64_t pcid, struct gva address);

// Segment registers. MOV Sreg / POP Sreg / LxS in every mode; LLDT, LTR.
int segment_load(struct vcpu *vcpu, enum segment_name name, uint16_t selector);
int segment_load_ldtr(struct vcpu *vcpu, uint16_t selector);
int segment_load_tr(struct vcpu *vcpu, uint16_t selector);
// LAR, LSL, VERR, VERW: true and the result where visible.
bool segment_lar(struct vcpu *vcpu, uint16_t selector, uint32_t *rights, int *fault);
bool segment_lsl(struct vcpu *vcpu, uint16_t selector, uint32_t *limit, int *fault);
bool segment_verify(struct vcpu *vcpu, uint16_t selector, bool write, int *fault);

// Segment check and linear address of an access of `size` bytes at `offset` in segment `name`: limit, type, null, canonical. Raises #SS(0)
// for SS-relative, else #GP(0). The fast case (64-bit, flat) is inline in mmu_access.h.
int segment_linear(struct vcpu *vcpu, enum segment_name name, uint64_t offset, unsigned size,
                   enum segment_access access, struct gva *linear);

// Far transfers. `operand_size` is 2, 4 or 8. They set RIP and CS (and the stack) or raise. `next_rip`
// is saved by task switches.
int far_jump(struct vcpu *vcpu, uint16_t selector, uint64_t offset, unsigned operand_size,
             uint64_t next_rip);
int far_call(struct vcpu *vcpu, uint16_t selector, uint64_t offset, unsigned operand_size,
             uint64_t return_rip);
int far_return(struct vcpu *vcpu, unsigned operand_size, uint16_t extra_bytes);
int interrupt_return(struct vcpu *vcpu, unsigned operand_size,
                     uint64_t next_rip); // IRET, all forms
int system_syscall(struct vcpu *vcpu, uint64_t next_rip);
int system_sysret(struct vcpu *vcpu, unsigned operand_size);
int system_sysenter(struct vcpu *vcpu);
int system_sysexit(struct vcpu *vcpu, unsigned operand_size);
int task_switch(struct vcpu *vcpu, uint16_t selector, enum task_switch_kind kind, uint64_t next_rip,
                bool has_error, uint32_t error);

// I/O permission: CPL <= IOPL or the TSS bitmap. 0 or -1 (#GP).
int system_check_io(struct vcpu *vcpu, uint16_t port, unsigned size);

// DR6 bits that are recorded in engine_cpu.debug_hits.
#define DR6_BREAKPOINTS 0xFu
#define DR6_BD          BIT(13)
#define DR6_BS          BIT(14)
#define DR6_BT          BIT(15)
#define DR7_GD          BIT(13)
#define DR7_FIXED       BIT(10)
#define DR6_FIXED       0xFFFF0FF0ull

// Debug registers. Instruction breakpoints are faults: debug_before_instruction() returns -1 with #DB recorded (RF suppresses them).
// debug_after_instruction() clears RF (unless the instruction set it: `sets_rf` for IRET and task switches) and records the single-step trap when TF
// was set in `rflags_before`. Data and I/O breakpoints are recorded by the access and delivered by engine_take_events().
enum debug_kind { DEBUG_EXECUTE, DEBUG_DATA, DEBUG_IO };
bool debug_armed(const struct cpu_state *cpu,
                 enum debug_kind kind); // does DR7 arm a breakpoint of the kind?
int debug_before_instruction(struct vcpu *vcpu);
void debug_after_instruction(struct vcpu *vcpu, uint64_t rflags_before, bool sets_rf);
void debug_check_data(struct vcpu *vcpu, struct gva address, unsigned size, enum mmu_access access);
void debug_check_io(struct vcpu *vcpu, uint16_t port, unsigned size);
bool debug_page_watched(struct vcpu *vcpu, struct gva page);

#endif
