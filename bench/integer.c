// SPDX-License-Identifier: Apache-2.0
//
// Whole numbers and control flow: no system call, data in the first-level cache.
#include "workload.h"

#include <stddef.h>

#define BYTES 1024
#define SIDE  24

struct node {
    struct node *next;
    uint32_t key;
};

// Reverse a list in place and look for its largest key.
static uint32_t list_work(struct node *nodes, size_t count, uint32_t salt)
{
    struct node *head = NULL;
    for (size_t i = 0; i < count; i++) {
        nodes[i].key = (uint32_t)i * 0x9E3779B1u + salt;
        nodes[i].next = head;
        head = &nodes[i];
    }
    struct node *reversed = NULL;
    while (head) {
        struct node *next = head->next;
        head->next = reversed;
        reversed = head;
        head = next;
    }
    uint32_t best = 0;
    for (unsigned pass = 0; pass < 8; pass++)
        for (struct node *at = reversed; at; at = at->next)
            if ((at->key ^ pass) > best)
                best = at->key;
    return best;
}

static int matrix_work(int a[SIDE][SIDE], int b[SIDE][SIDE])
{
    int trace = 0;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            int sum = 0;
            for (int k = 0; k < SIDE; k++)
                sum += a[i][k] * b[k][j];
            trace ^= sum;
        }
    return trace;
}

static uint32_t crc_work(const uint8_t *bytes, size_t count)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

// A tokenizer of words, numbers and the rest.
static uint32_t token_work(const uint8_t *bytes, size_t count)
{
    enum { BETWEEN, WORD, NUMBER, QUOTED } state = BETWEEN;
    uint32_t seen[4] = {0};
    for (size_t i = 0; i < count; i++) {
        uint8_t c = bytes[i];
        switch (state) {
        case BETWEEN:
            state = c < 80 ? WORD : c < 120 ? NUMBER : c > 240 ? QUOTED : BETWEEN;
            break;
        case WORD:
            state = c & 1 ? WORD : BETWEEN;
            break;
        case NUMBER:
            state = c & 2 ? NUMBER : c & 4 ? WORD : BETWEEN;
            break;
        case QUOTED:
            state = c > 230 ? BETWEEN : QUOTED;
            break;
        }
        seen[state]++;
    }
    return seen[WORD] * 3 + seen[NUMBER] * 5 + seen[QUOTED];
}

static void int_core(uint64_t iterations)
{
    static struct node nodes[512];
    static int a[SIDE][SIDE], b[SIDE][SIDE];
    static uint8_t bytes[BYTES];
    uint64_t random = 1;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)bench_random(&random);
    for (int i = 0; i < SIDE * SIDE; i++) {
        a[i / SIDE][i % SIDE] = (int)(bench_random(&random) & 1023);
        b[i / SIDE][i % SIDE] = (int)(bench_random(&random) & 1023);
    }
    uint32_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        sum += list_work(nodes, 512, sum);
        sum ^= (uint32_t)matrix_work(a, b);
        sum += crc_work(bytes, 256);
        sum += token_work(bytes, BYTES);
        bytes[sum % BYTES] ^= (uint8_t)sum;
        a[i % SIDE][0] = (int)(sum & 1023);
    }
    bench_sink = sum;
}

// Branches that depend on data and cannot be foretold.
static void branchy(uint64_t iterations)
{
    static uint8_t bytes[65536];
    uint64_t random = 7, a = 0, b = 0, c = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(bench_random(&random) >> 20);
    for (uint64_t i = 0; i < iterations; i++) {
        uint8_t v = bytes[(i * 5) & 65535];
        if (v < 90)
            a += v;
        else if (v < 180)
            b ^= v * 3u;
        else
            c += a ^ b;
        if (v & 8)
            a--;
    }
    bench_sink = a + b + c;
}

#define TARGET(n)                                                                                  \
    __attribute__((noinline)) static uint64_t target_##n(uint64_t x)                               \
    {                                                                                              \
        return x * (2 * n + 3) + (x >> (n + 1));                                                   \
    }
TARGET(0)
TARGET(1)
TARGET(2)
TARGET(3)
TARGET(4)
TARGET(5)
TARGET(6)
TARGET(7)
TARGET(8)
TARGET(9)
TARGET(10)
TARGET(11)
TARGET(12)
TARGET(13)
TARGET(14)
TARGET(15)

// Calls through a pointer, to one of sixteen functions at random.
static void indirect(uint64_t iterations)
{
    static uint64_t (*const targets[16])(uint64_t) = {
        target_0, target_1, target_2,  target_3,  target_4,  target_5,  target_6,  target_7,
        target_8, target_9, target_10, target_11, target_12, target_13, target_14, target_15};
    uint64_t x = 1, which = 12345;
    for (uint64_t i = 0; i < iterations; i++) {
        which = which * 6364136223846793005ull + 1442695040888963407ull;
        x = targets[which >> 60](x);
    }
    bench_sink = x;
}

__attribute__((noinline)) static uint64_t fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

// Direct calls and returns, deep and many.
static void callret(uint64_t iterations)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        unsigned n = 24;
        __asm__ volatile("" : "+r"(n)); // or the compiler computes the call once
        sum += fibonacci(n);
    }
    bench_sink = sum;
}

// A byte-code interpreter: its program is a short loop, each operation ends with an indirect jump.
static void interp(uint64_t iterations)
{
    static const uint8_t program[] = {0, 3, 1, 4, 2, 5, 6, 0, 2, 3, 7, 1, 6, 4, 0, 5, 3, 1, 8};
    static const void *const operations[] = {&&add, &&xor, &&push,   &&pop, &&mul,
                                             &&low, &&odd, &&rotate, &&loop};
    const uint8_t *at = program;
    uint64_t a = 1, b = 7, stack[8] = {0};
    unsigned depth = 0;
#define NEXT goto *operations[*at++]
    NEXT;
add:
    a += b;
    NEXT;
    xor : b ^= a >> 3;
    NEXT;
push:
    stack[depth++ & 7] = a;
    NEXT;
pop:
    a ^= stack[--depth & 7];
    NEXT;
mul:
    a = a * 33 + 1;
    NEXT;
low:
    b += a & 255;
    NEXT;
odd:
    b += a & 1;
    NEXT;
rotate:
    a = a << 7 | a >> 57;
    NEXT;
loop:
    if (--iterations > 0) {
        at = program;
        NEXT;
    }
#undef NEXT
    bench_sink = a + b;
}

const struct workload integer_workloads[] = {
    {"int_core", int_core, 80000, NULL},     {"branchy", branchy, 100000000, NULL},
    {"indirect", indirect, 100000000, NULL}, {"callret", callret, 5000, NULL},
    {"interp", interp, 30000000, NULL},      {0},
};
