// SPDX-License-Identifier: Apache-2.0
//
// switch_test GUEST.elf BACKEND BACKEND...: the guest tests/guest/tiny/compute.c begins under the first backend; each time it says so, its state and memory
// are put into a new machine under the next, and the result is what this program computes itself.
//
// The first time it stands in its timer's handler, with the interrupt in service and the next one requested. Before it is stopped there for good,
// dirty tracking must name the pages that it writes when it is told to, and no others.
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>
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

#define RAM      (32 * MIB)
#define ROUNDS   6000000u
#define WORDS    4096u
#define WORDS_AT 0x800000u
#define GATE     0x80A000u // the guest waits there, see compute.c
#define PAGES_AT 0xA00000u
#define PAGES    20u
#define OWN_END  0x200000u // the guest's program with its stacks ends below this

static struct state_buffer state;
static uint8_t *memory;

struct machine {
    struct vm_config config;
    struct vm *vm;
    FILE *console; // what the guest prints
    pthread_t thread;
    struct os_loop_post post;
    sem_t posted; // it has run
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

// Main thread of the machine: what `function` does is done when this returns.
static void on_loop(struct machine *machine, void (*function)(void *context))
{
    machine->post = (struct os_loop_post){.function = function, .context = machine};
    os_loop_post(machine->vm->loop, &machine->post);
    sem_wait(&machine->posted);
}

static uint64_t dirty[RAM / PAGE_BYTES / 64];

static int64_t collect(struct machine *machine)
{
    memset(dirty, 0, sizeof(dirty));
    return guest_memory_collect_dirty(vm_memory(machine->vm), dirty);
}

static bool is_dirty(uint64_t address)
{
    uint64_t page = address / PAGE_BYTES;
    return dirty[page / 64] >> page % 64 & 1;
}

// It has written to all of its words. From here on only the gate's page, until it is let through.
static void open_gate(void *context)
{
    struct machine *machine = context;
    const uint8_t one[8] = {1};
    vm_pause(machine->vm);
    if (collect(machine) < 8)
        fail("too few pages are dirty", NULL);
    for (uint64_t at = WORDS_AT; at < WORDS_AT + 8 * WORDS; at += PAGE_BYTES)
        if (!is_dirty(at))
            fail("a page that the guest wrote is not dirty", NULL);
    if (collect(machine) != 0)
        fail("pages are dirty although the guest stood still", NULL);
    guest_memory_write(vm_memory(machine->vm), gpa(GATE), one, sizeof(one));
    vm_resume(machine->vm);
    sem_post(&machine->posted);
}

static bool is_expected(uint64_t address)
{
    uint64_t from = address - PAGES_AT;
    return address == GATE || (address >= PAGES_AT && from % 0x3000 == 0 && from / 0x3000 < PAGES);
}

static void check_pages(struct machine *machine)
{
    if (collect(machine) < (int64_t)PAGES + 1)
        fail("too few pages are dirty", NULL);
    for (uint64_t at = 0; at < RAM; at += PAGE_BYTES) {
        bool own = at >= MIB && at < OWN_END;
        if (!own && is_dirty(at) != is_expected(at)) {
            fprintf(stderr, "page %llx: %s\n", (unsigned long long)at,
                    is_dirty(at) ? "dirty" : "not dirty");
            exit(1);
        }
    }
}

static void save(void *context)
{
    struct machine *machine = context;
    struct err err;
    vm_pause(machine->vm);
    if (guest_memory_tracks_dirty(vm_memory(machine->vm)))
        check_pages(machine);
    state_buffer_fini(&state);
    state = (struct state_buffer){0};
    if (vm_state_save(machine->vm, &state, &err))
        fail("save", &err);
    if (guest_memory_read(vm_memory(machine->vm), gpa(0), memory, RAM))
        fail("guest memory cannot be read", NULL);
    vm_request_end(machine->vm, VM_END_STOP, 0);
    sem_post(&machine->posted);
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

static void expect_results(struct machine *machine, bool wide)
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
    expect_value(machine, "upper half", wide ? seed : 0);
    expect_value(machine, "pi", 3);
    expect_value(machine, "third", 4); // rounded up
    expect_value(machine, "ticked", 1);
}

static void start(struct machine *machine)
{
    sem_init(&machine->posted, 0, 0);
    pthread_create(&machine->thread, NULL, run, machine);
}

static void load(struct machine *machine)
{
    struct err err;
    store_le64(memory + GATE, 2);
    if (vm_state_load(machine->vm, state.bytes, state.length, &err) ||
        guest_memory_write(vm_memory(machine->vm), gpa(0), memory, RAM))
        fail("load", &err);
}

static void finish(struct machine *machine, int status)
{
    pthread_join(machine->thread, NULL);
    if (machine->status != status)
        fail("the machine did not end as it should", NULL);
    fclose(machine->console);
    vm_destroy(machine->vm);
    vm_config_fini(&machine->config);
}

// Where the host's vectors are wide and the guest's XCR0 is kept, the guest uses them.
static bool expect_wide(struct machine *machine, const char *accel)
{
    bool kept = strcmp(accel, "kvm") || !getenv("WIRT_BED");
    bool wide = kept && __builtin_cpu_supports("avx");
    expect_value(machine, "wide", wide);
    return wide;
}

static bool begin(const char *guest, const char *accel)
{
    static struct machine first;
    create(&first, guest, accel);
    guest_memory_track_dirty(vm_memory(first.vm), true);
    start(&first);
    bool wide = expect_wide(&first, accel);
    expect_line(&first, "in the middle");
    on_loop(&first, open_gate);
    expect_line(&first, "pages written");
    on_loop(&first, save);
    finish(&first, 0);
    return wide;
}

int main(int argc, char **argv)
{
    static struct machine machines[4];
    if (argc < 4 || argc > 6)
        fail("usage: switch_test GUEST FROM TO...", NULL);
    memory = malloc(RAM);
    bool wide = begin(argv[1], argv[2]);
    for (int i = 3; i < argc; i++) {
        struct machine *machine = &machines[i - 3];
        create(machine, argv[1], argv[i]);
        load(machine);
        start(machine);
        if (i == 3) {
            expect_value(machine, "in service", 1);
            expect_value(machine, "requested", 1);
            expect_line(machine, "further on");
        }
        if (i < argc - 1)
            on_loop(machine, save);
        else
            expect_results(machine, wide);
        finish(machine, i < argc - 1 ? 0 : 1);
    }
    state_buffer_fini(&state);
    free(memory);
    for (int i = 2; i < argc; i++)
        printf("%s%s", argv[i], i < argc - 1 ? " to " : ": the result is right");
    printf("%s\n", wide ? ", with registers of 256 bits" : "");
    return 0;
}
