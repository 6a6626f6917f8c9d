// SPDX-License-Identifier: Apache-2.0
//
// switch_test GUEST.elf FROM TO: the guest tests/guest/tiny/compute.c is stopped in the middle of its computation under one backend, its state and memory are
// put into a new machine under another, and the result is what this program computes itself. Dirty tracking, on all the while, names what the guest wrote.
#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "machine/memory/guest_memory.h"
#include "machine/vm/vm_internal.h"
#include "machine/vm/vm_state.h"
#include "os/kvm.h"

#define RAM    (32 * MIB)
#define ROUNDS 6000000u
#define WORDS  4096u

static struct state_buffer state;
static uint8_t *memory;
static int saved;

struct machine {
    struct vm_config config;
    struct vm *vm;
    FILE *console; // what the guest prints
    pthread_t thread;
    struct os_loop_post save;
    int status;
};

static void fail(const char *what, const struct err *err)
{
    fprintf(stderr, "%s: %s\n", what, err ? err->text : "");
    exit(1);
}

static void create(struct machine *machine, const char *guest, const char *accel)
{
    struct err err;
    int ends[2];
    int kernel = open(guest, O_RDONLY | O_CLOEXEC);
    bool kvm = !strcmp(accel, "kvm");
    if (kernel < 0 || pipe(ends))
        fail(guest, NULL);
    json_t *json = json_pack("{s:s, s:I, s:{s:{s:s, s:i}}, s:{s:s, s:s, s:i}}", "accel", accel,
                             "memory", (json_int_t)RAM, "boot", "kernel", "file", guest, "fd",
                             kernel, "console", "kind", "file", "path", "pipe", "fd", ends[1]);
    if (kvm)
        json_object_set_new(json, "kvm",
                            json_pack("{s:s, s:i}", "file", "/dev/kvm", "fd", os_kvm_open(&err)));
    if (vm_config_parse(&machine->config, json, &err) ||
        !(machine->vm = vm_create(&machine->config, &err)))
        fail(accel, &err);
    json_decref(json);
    machine->console = fdopen(ends[0], "r");
}

static void *run(void *context)
{
    struct machine *machine = context;
    struct err err;
    machine->status = vm_run(machine->vm, &err);
    if (machine->status < 0)
        fail("run", &err);
    return NULL;
}

// The guest has written to its words all the time, and never to the end of its memory.
static void check_dirty(struct machine *machine)
{
    static uint64_t dirty[RAM / PAGE_BYTES / 64];
    const unsigned words = 0x800000 / PAGE_BYTES, untouched = (RAM - MIB) / PAGE_BYTES;
    int64_t found = guest_memory_collect_dirty(vm_memory(machine->vm), dirty);
    if (found < 8 || !(dirty[words / 64] >> words % 64 & 1) ||
        dirty[untouched / 64] >> untouched % 64 & 1)
        fail("the dirty pages are not those that the guest wrote", NULL);
    memset(dirty, 0, sizeof(dirty));
    if (guest_memory_collect_dirty(vm_memory(machine->vm), dirty))
        fail("pages are dirty although the guest stood still", NULL);
}

// On the machine's loop.
static void save(void *context)
{
    struct machine *machine = context;
    struct err err;
    vm_pause(machine->vm);
    check_dirty(machine);
    if (vm_state_save(machine->vm, &state, &err))
        fail("save", &err);
    saved = !guest_memory_read(vm_memory(machine->vm), gpa(0), memory, RAM);
    vm_request_end(machine->vm, VM_END_STOP, 0);
}

static void expect_line(struct machine *machine, const char *expected)
{
    char line[128] = "";
    if (!fgets(line, sizeof(line), machine->console))
        snprintf(line, sizeof(line), "(the end)");
    line[strcspn(line, "\r\n")] = 0;
    if (!strcmp(line, expected))
        return;
    fprintf(stderr, "expected \"%s\", the guest printed \"%s\"\n", expected, line);
    exit(1);
}

static void expect_value(struct machine *machine, const char *name, uint64_t value)
{
    char text[64];
    snprintf(text, sizeof(text), "%s: %llx", name, (unsigned long long)value);
    expect_line(machine, text);
}

static void expect_results(struct machine *machine)
{
    static uint64_t words[WORDS];
    const uint64_t seed = 0x9E3779B97F4A7C15ull;
    uint64_t x = seed, sum = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        words[x % WORDS] += x;
        sum += words[(x >> 20) % WORDS];
    }
    expect_value(machine, "x", x);
    expect_value(machine, "sum", sum);
    expect_value(machine, "vector", seed * ROUNDS);
    expect_value(machine, "pi", 3);
    expect_value(machine, "ticked", 1);
}

int main(int argc, char **argv)
{
    static struct machine first, second;
    struct err err;
    if (argc != 4)
        fail("usage: switch_test GUEST FROM TO", NULL);
    memory = malloc(RAM);
    create(&first, argv[1], argv[2]);
    guest_memory_track_dirty(vm_memory(first.vm), true);
    pthread_create(&first.thread, NULL, run, &first);
    expect_line(&first, "in the middle");
    first.save = (struct os_loop_post){.function = save, .context = &first};
    os_loop_post(first.vm->loop, &first.save);
    pthread_join(first.thread, NULL);
    if (!saved || first.status != 0)
        fail("the first machine was not saved", NULL);
    create(&second, argv[1], argv[3]);
    if (vm_state_load(second.vm, state.bytes, state.length, &err) ||
        guest_memory_write(vm_memory(second.vm), gpa(0), memory, RAM))
        fail("load", &err);
    pthread_create(&second.thread, NULL, run, &second);
    expect_results(&second);
    pthread_join(second.thread, NULL);
    if (second.status != 1)
        fail("the second machine did not end by the debug exit", NULL);
    vm_destroy(first.vm);
    vm_destroy(second.vm);
    vm_config_fini(&first.config);
    vm_config_fini(&second.config);
    state_buffer_fini(&state);
    free(memory);
    printf("%s to %s: the result is right\n", argv[2], argv[3]);
    return 0;
}
