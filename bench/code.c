// SPDX-License-Identifier: Apache-2.0
//
// Code that changes: an instruction patched in place, and pages of fresh functions, as a JIT makes them.
#include "workload.h"

#include <stddef.h>

#include <string.h>
#include <sys/mman.h>

#define PAGE           4096
#define FUNCTION_BYTES 64

typedef int made_function(int);

static uint8_t *code_page(int protection)
{
    void *page = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        bench_die("page for code");
    return page;
}

static int call(const uint8_t *code, int argument)
{
    made_function *function;
    memcpy(&function, &code, sizeof function); // data and code pointers do not convert in ISO C
    return function(argument);
}

// lea eax, [rdi + N]; ret, with N rewritten before each call.
static void smc(uint64_t iterations)
{
    static const uint8_t code[] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3};
    uint8_t *page = code_page(PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(page, code, sizeof code);
    int sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        uint32_t number = (uint32_t)i & 1023;
        memcpy(page + 2, &number, sizeof number);
        __asm__ volatile("" : : : "memory");
        sum = call(page, sum & 0xffff);
    }
    bench_sink = (uint64_t)sum;
    munmap(page, PAGE);
}

// A page of 64 functions is written, made executable, called four times and dropped.
static void jitpages(uint64_t iterations)
{
    int sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        uint8_t *page = code_page(PROT_READ | PROT_WRITE);
        for (uint8_t n = 0; n < PAGE / FUNCTION_BYTES; n++) {
            // lea eax, [rdi + N]; xor eax, 0x30201; ret
            const uint8_t code[] = {0x8d, 0x87, n, (uint8_t)i, 0, 0, 0x35, 1, 2, 3, 0, 0xc3};
            memcpy(page + n * FUNCTION_BYTES, code, sizeof code);
        }
        if (mprotect(page, PAGE, PROT_READ | PROT_EXEC))
            bench_die("mprotect");
        for (int round = 0; round < 4; round++)
            for (int n = 0; n < PAGE / FUNCTION_BYTES; n++)
                sum = call(page + n * FUNCTION_BYTES, sum & 0xffff);
        munmap(page, PAGE);
    }
    bench_sink = (uint64_t)sum;
}

const struct workload code_workloads[] = {
    {"smc", smc, 500000, NULL}, {"jitpages", jitpages, 25000, NULL}, {0}};
