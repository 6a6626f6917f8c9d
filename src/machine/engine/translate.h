// SPDX-License-Identifier: Apache-2.0
//
// Tier 1, the translator: blocks of guest code become host code.
//
// translate.c           which instructions make a block, what each one needs, and the block as a whole
// translate_flags.c     where look-ups may spoil the status flags, and how they come back
// translate_registers.c scratch registers: taken from guest registers that stay away in the context meanwhile
// translate_memory.c    the soft TLB look-up, and instructions with a memory operand
// translate_system.c    flags, time
// translate_string.c    MOVS, STOS, LODS
// translate_branch.c    jumps, calls, returns, the stack
// translate_run.c       the backend: run loop, exits, what became of the mappings
// fault.c               faults of generated code
//
// The idea: a guest instruction is its own translation where it touches neither memory nor privileged state. An instruction with a memory
// operand is emitted again with the operand replaced by a host address that an inline look-up computed. Whatever the translator
// does not know, and every look-up that misses, leaves the cache with the guest's state as it was before the instruction, has tier 0 execute it, and comes
// back behind it. So each instruction may be translated, or not, with the same meaning.
//
// Precision: at each point where code can leave or fault within an instruction, every guest register has its old value either in its host register or
// (when it is in `evicted` there) in state.gpr, and its status flags can be had (translate_flags.c). Between blocks they are in the host's.
#ifndef WIRT_MACHINE_ENGINE_TRANSLATE_H
#define WIRT_MACHINE_ENGINE_TRANSLATE_H

#include <pthread.h>

#include "machine/engine/code_cache.h"
#include "machine/engine/decode.h"
#include "machine/engine/engine.h"
#include "machine/engine/trampoline.h"

#define BLOCK_INSNS_MAX 64
#define COLD_BITS       17

// What of the vCPU's state a translation depends on. 0: translated code does not run in this state; tier 0 does.
enum translate_mode {
    TRANSLATE_MODE_TLB = 3u,       // enum tlb_mode
    TRANSLATE_MODE_USER = 1u << 2, // enum fetch_mode
    TRANSLATE_MODE_64 = 1u << 3,   // 64-bit code, flat
    TRANSLATE_MODE_X87 = 1u << 4,  // x87 and MMX execute without an exception of availability
    TRANSLATE_MODE_SSE = 1u << 5,
    TRANSLATE_MODE_AVX = 1u << 6,
    TRANSLATE_MODE_SMAP = 1u << 7, // CR4.SMAP
    TRANSLATE_MODE_TSC = 1u << 8,  // RDTSC may be executed as it is
};

// Hears of each new translation (--trace translate).
typedef void translate_trace(void *context, const struct code_cache *cache,
                             const struct block *block, const uint8_t *guest);

// The machine's part of tier 1, in cpu_system.backend_data.
struct translator {
    pthread_mutex_t
        lock; // protects all that follows but what code_cache.h exempts; innermost, see translate_smp.h
    struct code_cache cache;
    struct trampolines trampolines;
    struct cpu_system *system; // borrowed
    bool real_time;            // the TSC is the host's
    bool counts;               // instructions are counted, approximately (--stats)
    bool
        exact; // a deterministic machine: no more instructions are executed than translate.budget says
    unsigned users; // vCPUs; the last one destroys it
    // How often code was found untranslated, by a hash of its physical address; any thread, and no harm where two meet.
    uint8_t runs[1u << COLD_BITS];
    translate_trace *trace;
    void *trace_context;
};

// What the decoder and the passes say of one instruction.
enum plan {
    PLAN_COPY,      // as it is
    PLAN_NOTHING,   // no effect
    PLAN_MEMORY,    // with another memory operand
    PLAN_ADDRESS,   // LEA of a constant
    PLAN_STACK,     // PUSH, POP, LEAVE
    PLAN_STRING,    // MOVS, STOS, LODS, if translate_string.c agrees
    PLAN_SYSTEM,    // one of translate_system.c, if that agrees
    PLAN_BRANCH,    // ends the block: jumps, calls, returns
    PLAN_INTERPRET, // by tier 0
    PLAN_STOP,      // by tier 0, and control does not come back behind it
};

// How the guest's status flags are had at a point of the block (translate_flags.c).
enum flags_way {
    FLAGS_KEPT,        // in the host's flags
    FLAGS_FROM_SOURCE, // by executing the instruction that wrote them once more
    FLAGS_SAVED,       // in translate.saved_flags
    FLAGS_AT_ENTRY,    // either of the two: where the block jumps back to its own start
};

struct planned_insn {
    struct insn insn;
    uint8_t bytes[INSN_MAX_BYTES];
    uint8_t plan;
    uint64_t rip;
    uint64_t next_rip;
    uint16_t reads; // general registers
    uint16_t writes;
    bool flags_live;   // before it: status flags may be read, or shown, before they are overwritten
    uint8_t flags_way; // enum flags_way: what its look-up may do with them
    int8_t flags_source; // which instruction wrote them, -1: one before the block
};

// Far code to be emitted at the end.
struct far_exit {
    uint8_t *jumps[4]; // displacements that lead here
    unsigned jump_count;
    uint16_t evicted; // guest registers to load first
    uint8_t kind;
    uint8_t link;
    uint8_t undone;
    uint8_t flags_way; // enum flags_way, with flags_source
    int8_t flags_source;
    uint8_t site; // the fault site that leaves here, counted from 1
    uint64_t rip;
    uint64_t next_rip;
    uint32_t resume;
};

// A page that was looked up and is likely to be accessed again by the same base register: host registers, borrowed until the block's end at most, hold its
// negated address and the addend, so that the next access compares and needs no table. See translate_memory.c.
#define KNOWN_PAGES 3
struct known_page {
    bool valid;
    bool write; // holds for writes, too
    uint8_t base;
    uint8_t tag, addend;
};

// Operands of instructions, as a look-up sees them.
struct guest_address {
    int8_t base, index; // guest registers or HOST_NONE
    uint8_t scale;
    bool constant;   // base and index absent, or RIP-relative: `displacement` is the offset
    uint8_t segment; // SEG_FS, SEG_GS, or SEG_NONE: base 0
    int64_t displacement;
};

// Far code behind a look-up that did not hit: it looks for another page of a known_page, or among the victims, and goes back to the access.
enum renewal_kind {
    RENEWAL_PAGE,   // another page of a known_page
    RENEWAL_VICTIM, // of a known_page whose own entry did not hit
    RENEWAL_QUICK,  // emit_quick()'s, and so on
    RENEWAL_CAREFUL,
    RENEWAL_CONSTANT,
};
struct renewal {
    uint8_t kind;        // enum renewal_kind
    uint8_t *jump;       // displacement that leads here
    const uint8_t *back; // where it returns
    struct far_exit *miss;
    struct known_page page;
    struct guest_address address;
    int32_t displacement;
    uint8_t size;
    int8_t a; // registers of the look-up
    uint8_t b;
    uint8_t scratch;
    uint8_t tlb_mode; // there
    bool write;
    bool flags_live;
};

#define RENEWALS_MAX (BLOCK_INSNS_MAX * 3)

#define FAR_EXITS_MAX (BLOCK_INSNS_MAX * 4 + 8)

struct translation {
    struct vcpu *vcpu;
    struct translator *translator;
    struct block *block;
    struct emitter near, far;
    enum tlb_mode tlb_mode; // STAC and CLAC change it
    enum fetch_mode fetch_mode;
    const uint8_t *page; // host address of the guest's page
    uint64_t page_rip;   // its linear address
    unsigned count;
    unsigned current; // instruction being emitted
    bool uses_vectors;
    bool smap;
    bool native_tsc;
    bool open_end; // the last instruction does not end control: go on at end_rip
    uint64_t end_rip;
    uint16_t evicted; // guest registers whose value is in state.gpr only
    int8_t
        loop_source; // the block jumps back to its start with the flags of this instruction, spoiled; -1: no such loop
    int8_t poll_source; // the same, where nothing can leave before they are overwritten there
    uint8_t flags_now;  // enum flags_way, here
    int8_t flags_source;
    struct planned_insn insns[BLOCK_INSNS_MAX];
    struct far_exit exits[FAR_EXITS_MAX];
    unsigned exit_count;
    struct known_page pages[KNOWN_PAGES];
    unsigned next_page; // to be overwritten when all are valid
    struct renewal renewals[RENEWALS_MAX];
    unsigned renewal_count;
    struct fault_site sites[BLOCK_INSNS_MAX * 2];
    unsigned site_count;
};

// translate.c
// With the lock held. NULL: no room.
struct block *translate_block(struct vcpu *vcpu, uint64_t rip, uint64_t physical,
                              const uint8_t *host_page, uint32_t mode);
struct far_exit *translate_exit(struct translation *t, enum exit_kind kind, uint64_t rip);
void translate_exit_jump(struct far_exit *exit, uint8_t *displacement);
// An exit that has tier 0 execute the current instruction; control comes back where translate_resume_here() is called at the end of it.
struct far_exit *translate_miss(struct translation *t);
// The host instruction emitted next may fault for reasons of the guest, if such an instruction may at all.
bool translate_may_fault(const struct insn *insn);
void translate_fault_site(struct translation *t);

// translate_flags.c
void translate_plan_flags(struct translation *t);
// May the current instruction's code spoil the status flags now? To be asked before its exits are made.
bool translate_may_spoil_flags(struct translation *t);
// What a loop does with the flags on its entry from elsewhere.
void translate_loop_entry(struct translation *t);
// At the jump back: may the flags be spoiled there?
bool translate_loop_back(struct translation *t);
// The current instruction has been emitted.
void translate_flags_written(struct translation *t);
// The instruction `source` once more, for its flags.
void translate_emit_source(struct emitter *e, const struct planned_insn *source);

// translate_registers.c
#define REGISTER_BIT(n)  ((uint16_t)(1u << (n)))
#define NO_REX_REGISTERS 0x00FFu
void translate_evict(struct translation *t, unsigned reg);
void translate_need(struct translation *t, uint16_t registers);
// A scratch register out of `allowed`; its guest value is in state.gpr then.
unsigned translate_scratch(struct translation *t, uint16_t allowed);
void translate_wrote(struct translation *t, uint16_t registers);
// A scratch register that no instruction touches in the next `distance`, or HOST_NONE.
int translate_spare(struct translation *t, uint16_t allowed, unsigned distance);
// Host registers get other contents: what is known of pages by them is not any more.
void translate_forget(struct translation *t, uint16_t registers);
bool translate_knows_pages(const struct translation *t);

// translate_memory.c
struct look_up {
    struct guest_address address;
    unsigned size;
    bool write;
    bool flags_live;
    uint16_t forbidden; // registers that hold their value until the access
    uint16_t
        overwritten;  // registers that the access overwrites: good for the last scratch register
    uint16_t allowed; // registers that can be encoded
};
// Emit a look-up; misses leave through `miss`. Returns the host operand; translate_scratch()es it uses stay evicted.
bool translate_look_up(struct translation *t, const struct look_up *look_up, struct far_exit *miss,
                       struct host_memory *host);
bool translate_address(const struct planned_insn *p, struct guest_address *address);
void translate_emit_renewals(struct translation *t);
void translate_note_x87(struct translation *t, const struct planned_insn *p);
bool translate_memory_insn(struct translation *t, const struct planned_insn *p);
void translate_emit_with(struct translation *t, const struct planned_insn *p,
                         struct host_memory operand);

// translate_branch.c
bool translate_stack_insn(struct translation *t, const struct planned_insn *p);
bool translate_branch_insn(struct translation *t, const struct planned_insn *p);
void translate_goto(struct translation *t, uint64_t target, unsigned link, uint64_t from);

// Store the scratch register `value` below RSP and lower RSP.
bool translate_push_scratch(struct translation *t, const struct planned_insn *p, unsigned value);

// translate_string.c; false: tier 0 does it
bool translate_string_insn(struct translation *t, const struct planned_insn *p);

// translate_system.c; false: tier 0 does it
bool translate_system_insn(struct translation *t, const struct planned_insn *p);

// translate_run.c
uint32_t translate_mode(struct vcpu *vcpu);
struct translator *translator_of(struct vcpu *vcpu);

#endif
