// SPDX-License-Identifier: Apache-2.0
//
// See native.h. The handler runs with whatever FS base the instruction left and must not use thread-local storage:
// it restores the base first and is compiled without stack protection.
#include "native.h"

#include "base/bits.h"
#include <asm/ldt.h>
#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

// Bases of the cases' code; the host's own FS base is put back first thing in the handler.
#define FS_BASE      (DATA_ADDRESS + 0x200)
#define GS_BASE      (DATA_ADDRESS + 0x100)
#define XSTATE_BV_AT 512

// A case takes microseconds: one that is running at two of these ticks of processor time never ends.
enum { TICK_US = 200000 };

static const int frame_of_gpr[GPR_COUNT] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                            REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                            REG_R12, REG_R13, REG_R14, REG_R15};

// The child's own: the case being run and the frame to go back to.
static struct {
    const struct diff_case *current;
    struct diff_result *result;
    bool running; // the instruction was started
    unsigned ticks;
    uint64_t fs_base;
    greg_t registers[NGREG];
    uint8_t xsave[XSAVE_BYTES];
} run;

static uint8_t *code_page; // where to write it

// CS and SS come from the frame (its lowest and highest 16 bits), DS and ES stay as they are loaded here.
static void load_selectors(mcontext_t *frame, enum code_mode mode)
{
    uint64_t code = mode == CODE_64   ? SELECTOR_CODE_64
                    : mode == CODE_32 ? SELECTOR_CODE_32
                                      : SELECTOR_CODE_16;
    uint64_t data = mode == CODE_16 ? SELECTOR_DATA_16 : SELECTOR_DATA;
    uint64_t others = (uint64_t)frame->gregs[REG_CSGSFS] & 0x0000FFFFFFFF0000;
    frame->gregs[REG_CSGSFS] = (greg_t)(others | data << 48 | code);
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"((uint32_t)data));
}

static void load_state(mcontext_t *frame)
{
    const struct diff_state *state = &run.current->before;
    memcpy(run.registers, frame->gregs, sizeof(run.registers));
    memcpy(run.xsave, frame->fpregs, sizeof(run.xsave));
    for (unsigned i = 0; i < GPR_COUNT; i++)
        frame->gregs[frame_of_gpr[i]] = (greg_t)state->gpr[i];
    frame->gregs[REG_RIP] = (greg_t)state->rip;
    frame->gregs[REG_EFL] = (greg_t)state->rflags;
    load_selectors(frame, run.current->mode);
    uint8_t *xsave = (uint8_t *)frame->fpregs;
    // The frame's own marks (bytes 464 to 511 of the legacy region) stay: by them the kernel knows the extended part.
    memcpy(xsave, state->xsave, 464);
    memcpy(xsave + XSTATE_BV_AT, state->xsave + XSTATE_BV_AT, XSAVE_BYTES - XSTATE_BV_AT);
}

static void save_state(const mcontext_t *frame, struct diff_state *state)
{
    for (unsigned i = 0; i < GPR_COUNT; i++)
        state->gpr[i] = (uint64_t)frame->gregs[frame_of_gpr[i]];
    state->rip = (uint64_t)frame->gregs[REG_RIP];
    state->rflags = (uint64_t)frame->gregs[REG_EFL];
    memcpy(state->xsave, frame->fpregs, XSAVE_BYTES);
}

static void take_result(const mcontext_t *frame)
{
    struct diff_result *result = run.result;
    save_state(frame, &result->after);
    memcpy(result->data, (const void *)DATA_ADDRESS, DATA_BYTES);
    result->after.rip += diff_code_base(run.current->mode);
    result->vector = (uint8_t)frame->gregs[REG_TRAPNO];
    result->error = (uint32_t)frame->gregs[REG_ERR];
    result->cr2 = (uint64_t)frame->gregs[REG_CR2];
    if (result->vector == EXC_BP) { // the INT3 behind
        result->vector = EXC_NONE;
        result->after.rip--;
    } else if (result->after.rip - run.current->code >=
               run.current->length) { // the next instruction could not be fetched
        result->vector = EXC_NONE;
    }
}

static void leave(mcontext_t *frame)
{
    memcpy(frame->gregs, run.registers, sizeof(run.registers));
    memcpy(frame->fpregs, run.xsave, sizeof(run.xsave));
}

__attribute__((no_stack_protector)) static void handle(int signal, siginfo_t *info, void *context)
{
    __asm__ volatile("wrfsbase %0; wrgsbase %1" ::"r"(run.fs_base), "r"(GS_BASE));
    __builtin_ia32_writeeflags_u64(FLAG_FIXED1 | FLAG_IF); // the frame does not restore NT and ID
    mcontext_t *frame = &((ucontext_t *)context)->uc_mcontext;
    if (!run.current)
        _exit(99);
    run.running = !run.running;
    if (run.running) {
        load_state(frame);
        __asm__ volatile(
            "wrfsbase %0" ::"r"(FS_BASE)); // nothing after it may use thread-local storage
    } else {
        take_result(frame);
        leave(frame);
    }
}

__attribute__((no_stack_protector)) static void on_tick(int signal, siginfo_t *info, void *context)
{
    if (!run.running || ++run.ticks < 2)
        return;
    __asm__ volatile("wrfsbase %0; wrgsbase %1" ::"r"(run.fs_base), "r"(GS_BASE));
    run.result->endless = true;
    run.running = false;
    leave(&((ucontext_t *)context)->uc_mcontext);
}

// Pages that can be written here whatever the case's code may do: returns where.
static uint8_t *map_pages(uint64_t address, size_t bytes, int protection)
{
    int fd = memfd_create("diff", MFD_CLOEXEC);
    int status = ftruncate(fd, (off_t)bytes);
    void *at = mmap((void *)address, bytes, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    uint8_t *alias = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert(status == 0 && at == (void *)address && alias != MAP_FAILED);
    for (size_t i = 0; i < bytes;
         i += AREA_PAGE) // in the page table, so that the first fault is the case's
        (void)*(volatile uint8_t *)(address + i);
    return alias;
}

static void set_up_child(void)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
    code_page = map_pages(CODE_ADDRESS, AREA_PAGE, PROT_READ | PROT_EXEC);
    map_pages(DATA_ADDRESS, DATA_BYTES, PROT_READ | PROT_WRITE);
    diff_fill_read_only(map_pages(READ_ONLY_ADDRESS, AREA_PAGE, PROT_READ));
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = handle,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    struct sigaction tick = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct itimerval ticks = {{0, TICK_US}, {0, TICK_US}};
    sigaddset(&action.sa_mask, SIGVTALRM);
    for (unsigned i = 0; i < ARRAY_LENGTH(signals); i++)
        sigaction(signals[i], &action, NULL);
    sigaction(SIGVTALRM, &tick, NULL);
    setitimer(ITIMER_VIRTUAL, &ticks, NULL);
    __asm__ volatile("rdfsbase %0" : "=r"(run.fs_base));
}

static void run_case(const struct diff_case *c, struct diff_result *result)
{
    memset(code_page, 0xCC, AREA_PAGE);
    uint64_t room = CODE_ADDRESS + AREA_PAGE - c->code;
    memcpy(code_page + (c->code - CODE_ADDRESS), c->bytes, c->length < room ? c->length : room);
    diff_case_fill_data(c, (uint8_t *)DATA_ADDRESS);
    run.current = c;
    run.result = result;
    run.ticks = 0;
    result->endless = false;
    __asm__ volatile("int3" ::: "memory");
    run.current = NULL;
}

// Shared with the parent: how far the child has come.
static atomic_uint *progress;

unsigned native_run(const struct diff_case *cases, struct diff_result *results, unsigned count)
{
    if (!progress)
        progress = native_shared_alloc(sizeof(*progress));
    atomic_store(progress, 0);
    pid_t child = fork();
    assert(child >= 0);
    if (child == 0) {
        set_up_child();
        for (unsigned i = 0; i < count; i++) {
            run_case(&cases[i], &results[i]);
            atomic_store(progress, i + 1);
        }
        _exit(0);
    }
    int status;
    pid_t done = waitpid(child, &status, 0);
    assert(done == child);
    return atomic_load(progress);
}

void *native_shared_alloc(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(memory != MAP_FAILED);
    return memory;
}

static bool set_descriptor(unsigned number, uint64_t base, unsigned contents, bool wide)
{
    struct user_desc descriptor = {.entry_number = number,
                                   .base_addr = (unsigned)base,
                                   .limit = 0xFFFF,
                                   .seg_32bit = wide,
                                   .contents = contents & 3,
                                   .useable = 1};
    return syscall(SYS_modify_ldt, 0x11, &descriptor, sizeof(descriptor)) == 0;
}

// The child inherits the LDT. The stack's segment is a 32-bit one: ESP's upper half does not survive the return from a
// signal to a 16-bit one.
bool native_offers_16_bit(void)
{
    return set_descriptor(SELECTOR_CODE_16 >> 3, CODE_BASE_16, MODIFY_LDT_CONTENTS_CODE, false) &&
           set_descriptor(SELECTOR_DATA_16 >> 3, DATA_BASE_16, MODIFY_LDT_CONTENTS_DATA, true);
}

uint64_t native_fs_base(void)
{
    return FS_BASE;
}

uint64_t native_gs_base(void)
{
    return GS_BASE;
}
