// SPDX-License-Identifier: Apache-2.0
#include "os/native_code.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
#define SIGNAL_STACK_BYTES (64u * 1024u)
#define HWCAP2_FSGSBASE    2u

#define FAULT_HANDLERS 4
static os_fault_handler *_Atomic fault_handlers[FAULT_HANDLERS]; // filled from the front
static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

// Where the kernel puts RAX, RCX … R15 in a signal frame.
static const uint8_t frame_index[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                        REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                        REG_R12, REG_R13, REG_R14, REG_R15};

static bool ask_handlers(struct os_fault *fault)
{
    for (unsigned i = 0; i < FAULT_HANDLERS && fault_handlers[i]; i++)
        if (fault_handlers[i](fault))
            return true;
    return false;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    greg_t *frame = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct os_fault fault = {.signal = number,
                             .address = (uint64_t)(uintptr_t)info->si_addr,
                             .pc = (uint64_t)frame[REG_RIP],
                             .flags = (uint64_t)frame[REG_EFL]};

    for (unsigned i = 0; i < 16; i++)
        fault.gpr[i] = (uint64_t)frame[frame_index[i]];
    if (ask_handlers(&fault)) {
        for (unsigned i = 0; i < 16; i++)
            frame[frame_index[i]] = (greg_t)fault.gpr[i];
        frame[REG_RIP] = (greg_t)fault.pc;
        frame[REG_EFL] = (greg_t)fault.flags;
    } else {
        signal(number, SIG_DFL); // the faulting instruction is executed again, and ends the process
    }
    errno = saved_errno;
}

static bool add_handler(os_fault_handler *handler)
{
    unsigned i = 0;
    pthread_mutex_lock(&fault_lock);
    while (i < FAULT_HANDLERS && fault_handlers[i] && fault_handlers[i] != handler)
        i++;
    if (i < FAULT_HANDLERS)
        fault_handlers[i] = handler;
    pthread_mutex_unlock(&fault_lock);
    return i < FAULT_HANDLERS;
}

int os_fault_handler_install(os_fault_handler *handler, struct err *err)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    if (!add_handler(handler))
        return err_set(err, ERR_LIMIT, "too many fault handlers");
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof(fault_signals) / sizeof(fault_signals[0]); i++) {
        if (sigaction(fault_signals[i], &action, NULL) != 0)
            return err_set_errno(err, errno, "cannot handle signal %d", fault_signals[i]);
    }
    return 0;
}

int os_signal_stack_enter(void **stack, struct err *err)
{
    void *at =
        mmap(NULL, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return err_set_errno(err, errno, "cannot make a signal stack");
    stack_t alternate = {
        .ss_sp = at, .ss_size = SIGNAL_STACK_BYTES, .ss_flags = (int)SS_AUTODISARM};
    if (sigaltstack(&alternate, NULL) != 0) {
        err_set_errno(err, errno, "cannot use a signal stack");
        munmap(at, SIGNAL_STACK_BYTES);
        return -1;
    }
    *stack = at;
    return 0;
}

void os_signal_stack_leave(void *stack)
{
    stack_t none = {.ss_flags = SS_DISABLE};

    if (!stack)
        return;
    sigaltstack(&none, NULL);
    munmap(stack, SIGNAL_STACK_BYTES);
}

static bool may_write_gs_base(void)
{
    return (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
}

void os_gs_base_set(void *base)
{
    if (may_write_gs_base())
        __asm__ volatile("wrgsbase %0" : : "r"(base) : "memory");
    else
        syscall(SYS_arch_prctl, ARCH_SET_GS, base);
}

void *os_gs_base_get(void)
{
    void *base = NULL;

    if (may_write_gs_base())
        __asm__ volatile("rdgsbase %0" : "=r"(base));
    else
        syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
    return base;
}

int os_code_sync_prepare(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)
               ? -errno
               : 0;
}

int os_code_sync(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) ? -errno : 0;
}

// IRET to the next instruction: serializing (SDM vol. 3, 8.3) and allowed to programs, unlike most; CPUID is, too, but may be trapped. The
// red zone is stepped over.
void os_code_serialize(void)
{
    uint64_t scratch;

    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "mov %%rsp, %0\n\t"
                     "push $0\n\t"
                     "mov %%ss, (%%rsp)\n\t"
                     "push %0\n\t"
                     "pushfq\n\t"
                     "push $0\n\t"
                     "mov %%cs, (%%rsp)\n\t"
                     "lea 1f(%%rip), %0\n\t"
                     "push %0\n\t"
                     "iretq\n"
                     "1:\n\t"
                     "lea 128(%%rsp), %%rsp"
                     : "=&r"(scratch)
                     :
                     : "memory", "cc");
}
