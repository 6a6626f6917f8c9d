// SPDX-License-Identifier: Apache-2.0
//
// Several vCPUs on threads of their own, and threads of devices: nobody waits for ever, no old code is executed, and a code cache that is much too small
// changes nothing but the time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "engine_machine.h"
#include "machine/engine/translate.h"

#define DEVICE        0xE0000000ull // physical, and where the guest sees it:
#define DEVICE_LINEAR 0x3FE00000ull
#define FUNCTIONS     0x800000ull
#define PAGES         8u
#define HANG_SECONDS  150 // the machine may be busy with other things

#define GUEST(name, text)                                                                          \
    extern const uint8_t guest_##name[], guest_##name##_end[];                                     \
    __asm__(".pushsection .rodata\n"                                                               \
            "guest_" #name ":\n" text "\nguest_" #name "_end:\n"                                   \
            ".popsection\n");

static struct engine_machine machine;

static void write_guest(uint64_t at, const void *bytes, size_t length)
{
    assert_int_equal(guest_memory_write(machine.system.memory, gpa(at), bytes, length), 0);
}

static uint32_t data(unsigned offset)
{
    const uint32_t *at = guest_memory_map(machine.system.memory, gpa(TEST_DATA + offset), 4, false);
    return *(const volatile uint32_t *)at;
}

// nop; nop; nop; mov $0, %eax; ret: the immediate is aligned, at + 4.
static void write_function(uint64_t at)
{
    static const uint8_t code[] = {0x90, 0x90, 0x90, 0xB8, 0, 0, 0, 0, 0xC3};
    write_guest(at, code, sizeof(code));
}

struct processor {
    unsigned index;
    enum vcpu_exit exit;
};

static void *run_processor(void *argument)
{
    struct processor *processor = argument;
    processor->exit = machine.system.backend->run(machine.vcpus[processor->index]);
    return NULL;
}

static void run_all(unsigned count)
{
    struct processor processors[TEST_CPUS_MAX];
    pthread_t threads[TEST_CPUS_MAX];

    alarm(HANG_SECONDS);
    for (unsigned i = 0; i < count; i++) {
        processors[i] = (struct processor){.index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_processor, &processors[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(processors[i].exit, VCPU_EXIT_HALT);
    }
    alarm(0);
}

static unsigned long rounds_of(const char *variable, unsigned long usual)
{
    const char *text = getenv(variable);
    return text ? strtoul(text, NULL, 0) : usual;
}

static void create(unsigned cpus, uint32_t code_cache_bytes)
{
    engine_machine_create_smp(&machine, &engine_backend, cpus, code_cache_bytes);
}

static void load(const uint8_t *code, const uint8_t *end)
{
    write_guest(TEST_CODE, code, (size_t)(end - code));
}

// ---- Locks ----

// Each CPU executes pages that everybody writes to, writes to them, and asks the device for something.
GUEST(busy, "1: mov %ebp, %eax\n and $7, %eax\n shl $12, %eax\n lea (%r8,%rax), %rbx\n call *%rbx\n"
            "lea (%rbp,%rdi), %ecx\n and $7, %ecx\n shl $12, %ecx\n test $1, %ebp\n jz 2f\n"
            "mov %ebp, 4(%r8,%rcx)\n"
            "2: test $3, %ebp\n jnz 3f\n mov %eax, (%r9)\n"
            "3: dec %ebp\n jnz 1b\n hlt\n")

static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool device_ends;

static void device_writes(unsigned *number)
{
    uint32_t value = ++*number;

    pthread_mutex_lock(&device_lock);
    guest_memory_write(machine.system.memory, gpa(FUNCTIONS + value % PAGES * 4096 + 4), &value,
                       sizeof(value));
    pthread_mutex_unlock(&device_lock);
}

static void *device_thread(void *argument)
{
    unsigned number = 0;

    while (!atomic_load(&device_ends)) {
        device_writes(&number);
        sched_yield();
    }
    return NULL;
}

static void device_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    static _Thread_local unsigned number;
    device_writes(&number);
}

static void a_device_that_writes_code_under_its_lock_holds_nobody_up(void **state)
{
    static const struct bus_ops ops = {.write = device_write};
    struct bus_range range = {.name = "writer", .start = DEVICE, .length = 4096, .ops = &ops};
    struct err err = {0};
    pthread_t threads[2];
    uint64_t large = DEVICE | 0x87;

    create(3, 0);
    assert_int_equal(bus_add(machine.system.mmio, &range, &err), 0);
    write_guest(TEST_TABLE + 8 * (DEVICE_LINEAR >> 21), &large, sizeof(large));
    load(guest_busy, guest_busy_end);
    for (unsigned i = 0; i < PAGES; i++)
        write_function(FUNCTIONS + 4096 * i);
    for (unsigned i = 0; i < 3; i++) {
        engine_machine_start_at(&machine, i, TEST_CODE);
        uint64_t *gpr = machine.vcpus[i]->state.gpr;
        gpr[RBP] = rounds_of("WIRT_SMP_ROUNDS", 20000);
        gpr[RDI] = i;
        gpr[R8] = FUNCTIONS;
        gpr[R9] = DEVICE_LINEAR;
    }
    atomic_store(&device_ends, false);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, device_thread, NULL), 0);
    run_all(3);
    atomic_store(&device_ends, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    bus_remove(machine.system.mmio, &range);
    engine_machine_destroy(&machine);
}

// ---- Cross-modifying code ----

// Writes ever greater numbers into the function, and says so at 0 of the data; until 8 there is not 0.
GUEST(changes,
      "1: inc %ecx\n mov %ecx, 4(%r8)\n mov %ecx, (%rsi)\n cmpl $0, 8(%rsi)\n je 1b\n hlt\n")
// Reads what was said, serializes, executes: neither less than that, nor more than one above what is said afterwards.
GUEST(executes,
      "1: mov (%rsi), %r10d\n xor %eax, %eax\n cpuid\n call *%r8\n mov (%rsi), %r11d\n"
      "inc %r11d\n cmp %r10d, %eax\n jb 2f\n cmp %r11d, %eax\n ja 2f\n dec %ebp\n jnz 1b\n"
      "movl $1, 8(%rsi)\n hlt\n"
      "2: mov %eax, 12(%rsi)\n movl $2, 8(%rsi)\n hlt\n")

static void changed_code_is_executed_after_serializing(void **state)
{
    create(2, 0);
    load(guest_changes, guest_changes_end);
    write_guest(TEST_CODE + 4096, guest_executes, (size_t)(guest_executes_end - guest_executes));
    write_function(FUNCTIONS);
    for (unsigned i = 0; i < 2; i++) {
        engine_machine_start_at(&machine, i, TEST_CODE + 4096 * i);
        machine.vcpus[i]->state.gpr[R8] = FUNCTIONS;
    }
    machine.vcpus[1]->state.gpr[RBP] = rounds_of("WIRT_SMP_ROUNDS", 200000);
    run_all(2);
    if (data(8) != 1)
        fail_msg("executed %u, though %u had been said before", data(12),
                 (unsigned)machine.vcpus[1]->state.gpr[R10]);
    assert_true(data(0) > 0);
    engine_machine_destroy(&machine);
}

// ---- A small cache ----

#define FUNCTION_COUNT 2048u // powers of two, as the guest's code wants them
#define FUNCTION_BYTES 256u
#define ADDITIONS      40u

GUEST(calls,
      "1: imul $1103515245, %r12d, %r12d\n add $12345, %r12d\n mov %r12d, %ebx\n shr $9, %ebx\n"
      "and $2047, %ebx\n shl $8, %ebx\n add %r8, %rbx\n call *%rbx\n dec %ebp\n jnz 1b\n hlt\n")

// add $number, %rax; lea 1(%rax), %rax as often as ADDITIONS says; ret
static void write_adder(unsigned number)
{
    static const uint8_t lea[] = {0x48, 0x8D, 0x40, 0x01};
    uint8_t code[FUNCTION_BYTES] = {0x48, 0x05};

    memcpy(code + 2, &number, 4);
    for (unsigned i = 0; i < ADDITIONS; i++)
        memcpy(code + 6 + 4 * i, lea, 4);
    code[6 + 4 * ADDITIONS] = 0xC3;
    write_guest(FUNCTIONS + number * FUNCTION_BYTES, code, sizeof(code));
}

static uint64_t expected_sum(uint32_t seed, unsigned long rounds)
{
    uint64_t sum = 0;

    for (; rounds; rounds--) {
        seed = seed * 1103515245u + 12345u;
        sum += (seed >> 9) % FUNCTION_COUNT + ADDITIONS;
    }
    return sum;
}

static void a_cache_that_is_too_small_is_used_again_and_again(void **state)
{
    unsigned long rounds = rounds_of("WIRT_SMP_ROUNDS", 150000);

    create(3, CODE_CACHE_MINIMUM);
    load(guest_calls, guest_calls_end);
    for (unsigned i = 0; i < FUNCTION_COUNT; i++)
        write_adder(i);
    for (unsigned i = 0; i < 3; i++) {
        engine_machine_start_at(&machine, i, TEST_CODE);
        uint64_t *gpr = machine.vcpus[i]->state.gpr;
        gpr[RBP] = rounds;
        gpr[R8] = FUNCTIONS;
        gpr[R12] = i;
    }
    run_all(3);
    const struct translator *translator = machine.system.backend_data;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(machine.vcpus[i]->state.gpr[RAX], expected_sum(i, rounds));
    print_message("%lu regions used again, %lu refusals\n", (unsigned long)translator->cache.reuses,
                  (unsigned long)translator->cache.refusals);
    assert_true(translator->cache.reuses > 10); // how often depends on who has a processor
    engine_machine_destroy(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_that_writes_code_under_its_lock_holds_nobody_up),
        cmocka_unit_test(changed_code_is_executed_after_serializing),
        cmocka_unit_test(a_cache_that_is_too_small_is_used_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
