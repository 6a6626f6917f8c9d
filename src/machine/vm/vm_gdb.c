// SPDX-License-Identifier: Apache-2.0
//
// `--gdb SOCKET`: a debugger's view of the machine by gdb's remote serial protocol. Each vCPU is a thread, numbered from 1.
//
// All of this runs on the main thread, with the vCPUs parked whenever their state is looked at. A vCPU that reaches a breakpoint, touches what is
// watched or has done its step leaves its backend (VCPU_EXIT_BREAKPOINT), calls vm_gdb_stopped(), and parks with the others; the main thread then
// tells the debugger. Where several have stopped, it hears of one at a time: of the next when it goes on, unless that stop has lost its reason.
// Memory is read and written through the selected vCPU's page tables, without faults or side effects.
//
// One debugger at a time. A machine with --gdb waits for it before its first instruction. When it leaves, the machine goes on without breakpoints.
#define LOG_MODULE "gdb"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/engine/mmu.h"
#include "machine/vm/gdb_packet.h"
#include "machine/vm/gdb_registers.h"
#include "machine/vm/vm_internal.h"
#include "os/file.h"
#include "os/unix_socket.h"

#define MAX_BREAKPOINTS 64
#define MAX_WATCHES     64
#define SIGNAL_TRAP     5
#define SIGNAL_INT      2
#define MEMORY_BYTES    2048 // at most, of one packet

struct vm_gdb {
    struct vm *vm;
    struct os_loop_watch listener, watch;
    struct os_loop_post stopped_post;
    int fd; // -1: nobody
    bool acknowledge;
    bool running;        // the debugger waits for a stop
    unsigned selected;   // vCPU, of `g`, `m` and their like
    atomic_uint stopped; // vCPUs that hit something and were not told of yet, a bit each
    uint64_t breakpoints[MAX_BREAKPOINTS];
    unsigned breakpoint_count;
    struct vcpu_watch watches[MAX_WATCHES];
    unsigned watch_count;
    struct gdb_input input;
    struct gdb_output output;
};

static struct vcpu *selected(const struct vm_gdb *gdb)
{
    return gdb->vm->vcpus[gdb->selected];
}

// ---- Stopping and going on ----

static unsigned most_breakpoints(const struct vm_gdb *gdb)
{
    unsigned most = gdb->vm->system.backend->breakpoints;
    return most ? most : MAX_BREAKPOINTS;
}

static bool offers_watches(const struct vm_gdb *gdb)
{
    return !gdb->vm->system.backend->breakpoints;
}

static void set_breakpoints(struct vm_gdb *gdb)
{
    for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
        gdb->vm->vcpus[i]->breakpoints = gdb->breakpoints;
        gdb->vm->vcpus[i]->breakpoint_count = gdb->breakpoint_count;
    }
}

static void set_watches(struct vm_gdb *gdb)
{
    if (!offers_watches(gdb))
        return;
    for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
        gdb->vm->vcpus[i]->watches = gdb->watches;
        gdb->vm->vcpus[i]->watch_count = gdb->watch_count;
        vcpu_raise(gdb->vm->vcpus[i], VCPU_EVENT_DEBUG);
    }
}

static void send_text(struct vm_gdb *gdb);

// `T05thread:1;watch:1000;`, as the last stop of the selected vCPU was.
static void put_stop(struct vm_gdb *gdb, unsigned signal)
{
    const struct vcpu_watch *hit = &selected(gdb)->watch_hit;
    char text[64];
    snprintf(text, sizeof(text), "T%02xthread:%x;", signal, gdb->selected + 1);
    gdb_put(&gdb->output, text);
    if (!hit->length)
        return;
    const char *kind = hit->read && hit->write ? "awatch" : hit->read ? "rwatch" : "watch";
    snprintf(text, sizeof(text), "%s:%llx;", kind, (unsigned long long)hit->start);
    gdb_put(&gdb->output, text);
}

static void report_stop(struct vm_gdb *gdb, unsigned signal)
{
    gdb->running = false;
    gdb->output.length = 0;
    put_stop(gdb, signal);
    send_text(gdb);
}

static void select_stopped(struct vm_gdb *gdb, unsigned index)
{
    gdb->stopped &= ~(1u << index);
    gdb->selected = index;
}

static bool is_breakpoint(const struct vm_gdb *gdb, uint64_t address)
{
    for (unsigned i = 0; i < gdb->breakpoint_count; i++) {
        if (gdb->breakpoints[i] == address)
            return true;
    }
    return false;
}

// Stopped, but not told of yet: is there still a breakpoint, or something that is watched? Done steps are not told later.
static bool stop_is_due(const struct vm_gdb *gdb, const struct vcpu *vcpu)
{
    const struct cpu_state *cpu = &vcpu->state;
    uint64_t base = cpu->segment[SEG_CS].base + cpu->rip;
    if (is_breakpoint(gdb, cpu_in_64bit_code(cpu) ? cpu->rip : (uint32_t)base))
        return true;
    for (unsigned i = 0; i < gdb->watch_count; i++) {
        if (vcpu->watch_hit.length && gdb->watches[i].start == vcpu->watch_hit.start)
            return true;
    }
    return false;
}

// What the vCPUs shall do was set in their `held` and `single_step`. Where one has a stop left to tell, that is the command's answer.
static void go_on(struct vm_gdb *gdb)
{
    gdb->running = true;
    for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
        struct vcpu *vcpu = gdb->vm->vcpus[i];
        bool pending = gdb->stopped >> i & 1;
        if (pending && !vcpu->held && gdb->fd >= 0 && stop_is_due(gdb, vcpu)) {
            select_stopped(gdb, i);
            gdb->running = false;
            put_stop(gdb, SIGNAL_TRAP);
            return;
        }
    }
    for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
        if (!gdb->vm->vcpus[i]->held) {
            gdb->vm->vcpus[i]->watch_hit.length = 0;
            gdb->stopped &= ~(1u << i);
        }
    }
    vm_resume(gdb->vm);
}

static void all_go_on(struct vm_gdb *gdb, bool step)
{
    for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
        gdb->vm->vcpus[i]->held = false;
        gdb->vm->vcpus[i]->single_step = step && i == gdb->selected;
    }
    go_on(gdb);
}

// Of a vCPU that is held nothing is told before it may go on.
static void on_stopped(void *context)
{
    struct vm_gdb *gdb = context;
    unsigned index = 0, count = gdb->vm->system.vcpu_count;
    while (index < count && (!(gdb->stopped >> index & 1) || gdb->vm->vcpus[index]->held))
        index++;
    if (index == count || vm_state(gdb->vm) != VM_RUNNING)
        return;
    vm_pause(gdb->vm);
    if (gdb->fd < 0 || !gdb->running)
        return;
    select_stopped(gdb, index);
    report_stop(gdb, SIGNAL_TRAP);
}

void vm_gdb_stopped(struct vm *vm, struct vcpu *vcpu)
{
    atomic_fetch_or(&vm->gdb->stopped, 1u << vcpu->index);
    vcpu_raise(vcpu, VCPU_EVENT_PAUSE);
    pthread_mutex_lock(&vm->park_lock);
    vm->park = true;
    pthread_mutex_unlock(&vm->park_lock);
    os_loop_post(vm->loop, &vm->gdb->stopped_post);
}

static void forget_debugger(struct vm_gdb *gdb)
{
    os_loop_unwatch(gdb->vm->loop, &gdb->watch);
    os_file_close(&gdb->fd);
    gdb->breakpoint_count = gdb->watch_count = 0;
    if (vm_state(gdb->vm) == VM_RUNNING)
        vm_pause(gdb->vm);
    set_breakpoints(gdb);
    set_watches(gdb);
    all_go_on(gdb, false);
}

static void send_bytes(struct vm_gdb *gdb, const char *bytes, size_t length)
{
    if (gdb->fd >= 0 && os_unix_send_ready(gdb->fd, bytes, length) != (ssize_t)length) {
        log_warn("the debugger does not read its answers: closed");
        forget_debugger(gdb);
    }
}

static void send_text(struct vm_gdb *gdb)
{
    char frame[GDB_TEXT_BYTES + 4];
    send_bytes(gdb, frame, gdb_frame(&gdb->output, frame));
}

// ---- Memory ----

// Each page by itself; false when one is not mapped or not RAM.
static bool access_memory(struct vm_gdb *gdb, uint64_t address, uint8_t *bytes, size_t length,
                          bool write)
{
    const struct vcpu_backend_ops *backend = gdb->vm->system.backend;
    if (backend->inspect)
        backend->inspect(selected(gdb));
    while (length) {
        size_t piece = PAGE_BYTES - address % PAGE_BYTES;
        piece = piece < length ? piece : length;
        struct gpa physical;
        if (!mmu_debug_translate(selected(gdb), gva(address), &physical))
            return false;
        int result = write ? guest_memory_write(gdb->vm->memory, physical, bytes, piece)
                           : guest_memory_read(gdb->vm->memory, physical, bytes, piece);
        if (result)
            return false;
        address += piece;
        bytes += piece;
        length -= piece;
    }
    return true;
}

// ---- Commands: each gets the text behind its letter, and writes the answer ----

typedef void gdb_command(struct vm_gdb *gdb, const char *text);

static void ok(struct vm_gdb *gdb)
{
    gdb_put(&gdb->output, "OK");
}

static void fail(struct vm_gdb *gdb)
{
    gdb->output.length = 0;
    gdb_put(&gdb->output, "E01");
}

static void why_stopped(struct vm_gdb *gdb, const char *text)
{
    put_stop(gdb, SIGNAL_TRAP);
}

static void read_registers(struct vm_gdb *gdb, const char *text)
{
    uint8_t value[GDB_REGISTER_BYTES_MAX];
    for (unsigned i = 0; i < gdb_register_count(); i++) {
        gdb_register_read(&selected(gdb)->state, i, value);
        gdb_put_bytes(&gdb->output, value, gdb_register_bytes(i));
    }
}

static void state_written(struct vm_gdb *gdb)
{
    vcpu_state_changed(selected(gdb));
    ok(gdb);
}

static void write_registers(struct vm_gdb *gdb, const char *text)
{
    uint8_t value[GDB_REGISTER_BYTES_MAX];
    for (unsigned i = 0; i < gdb_register_count(); i++) {
        if (!gdb_take_bytes(&text, value, gdb_register_bytes(i)))
            break; // the registers that gdb leaves out keep their values
        gdb_register_write(&selected(gdb)->state, i, value);
    }
    state_written(gdb);
}

static void read_register(struct vm_gdb *gdb, const char *text)
{
    uint8_t value[GDB_REGISTER_BYTES_MAX];
    uint64_t number;
    if (!gdb_take_number(&text, &number) || number >= gdb_register_count()) {
        fail(gdb);
        return;
    }
    gdb_register_read(&selected(gdb)->state, (unsigned)number, value);
    gdb_put_bytes(&gdb->output, value, gdb_register_bytes((unsigned)number));
}

static void write_register(struct vm_gdb *gdb, const char *text)
{
    uint8_t value[GDB_REGISTER_BYTES_MAX];
    uint64_t number;
    if (!gdb_take_number(&text, &number) || number >= gdb_register_count() ||
        !gdb_take_char(&text, '=') ||
        !gdb_take_bytes(&text, value, gdb_register_bytes((unsigned)number))) {
        fail(gdb);
        return;
    }
    gdb_register_write(&selected(gdb)->state, (unsigned)number, value);
    state_written(gdb);
}

static bool take_range(const char **text, uint64_t *address, uint64_t *length)
{
    return gdb_take_number(text, address) && gdb_take_char(text, ',') &&
           gdb_take_number(text, length) && *length <= MEMORY_BYTES;
}

static void read_memory(struct vm_gdb *gdb, const char *text)
{
    uint8_t bytes[MEMORY_BYTES];
    uint64_t address, length;
    if (!take_range(&text, &address, &length) || !access_memory(gdb, address, bytes, length, false))
        fail(gdb);
    else
        gdb_put_bytes(&gdb->output, bytes, length);
}

static void write_memory(struct vm_gdb *gdb, const char *text)
{
    uint8_t bytes[MEMORY_BYTES];
    uint64_t address, length;
    if (!take_range(&text, &address, &length) || !gdb_take_char(&text, ':') ||
        !gdb_take_bytes(&text, bytes, length) || !access_memory(gdb, address, bytes, length, true))
        fail(gdb);
    else
        ok(gdb);
}

static bool same_watch(const struct vcpu_watch *a, const struct vcpu_watch *b)
{
    return a->start == b->start && a->length == b->length && a->read == b->read &&
           a->write == b->write;
}

// Z2, Z3 and Z4: writes, reads, both.
static void change_watch(struct vm_gdb *gdb, const struct vcpu_watch *watch, bool insert)
{
    unsigned i = 0;
    while (i < gdb->watch_count && !same_watch(&gdb->watches[i], watch))
        i++;
    bool there = i < gdb->watch_count;
    if (watch->length - 1 >= PAGE_BYTES || (insert && !there && gdb->watch_count == MAX_WATCHES)) {
        fail(gdb);
        return;
    }
    if (insert && !there)
        gdb->watches[gdb->watch_count++] = *watch;
    if (!insert && there)
        gdb->watches[i] = gdb->watches[--gdb->watch_count];
    set_watches(gdb);
    ok(gdb);
}

// Z0 and Z1, software and hardware breakpoints, are the same here: memory is not changed.
static void change_breakpoint(struct vm_gdb *gdb, const char *text, bool insert)
{
    uint64_t kind, address, length;
    if (!gdb_take_number(&text, &kind) || kind > (offers_watches(gdb) ? 4 : 1))
        return; // no answer: not offered
    if (!gdb_take_char(&text, ',') || !gdb_take_number(&text, &address) ||
        !gdb_take_char(&text, ',') || !gdb_take_number(&text, &length)) {
        fail(gdb);
        return;
    }
    if (kind > 1) {
        struct vcpu_watch watch = {address, length, .read = kind != 2, .write = kind != 3};
        change_watch(gdb, &watch, insert);
        return;
    }
    unsigned i = 0;
    while (i < gdb->breakpoint_count && gdb->breakpoints[i] != address)
        i++;
    bool there = i < gdb->breakpoint_count;
    if (insert && !there && gdb->breakpoint_count == most_breakpoints(gdb)) {
        fail(gdb);
        return;
    }
    if (insert && !there)
        gdb->breakpoints[gdb->breakpoint_count++] = address;
    if (!insert && there)
        gdb->breakpoints[i] = gdb->breakpoints[--gdb->breakpoint_count];
    set_breakpoints(gdb);
    ok(gdb);
}

static void insert_breakpoint(struct vm_gdb *gdb, const char *text)
{
    change_breakpoint(gdb, text, true);
}

static void remove_breakpoint(struct vm_gdb *gdb, const char *text)
{
    change_breakpoint(gdb, text, false);
}

// `c` and `s` are answered by the stop that follows.
static void set_pc_if_given(struct vm_gdb *gdb, const char *text)
{
    uint64_t address;
    if (!gdb_take_number(&text, &address))
        return;
    selected(gdb)->state.rip = address;
    vcpu_state_changed(selected(gdb));
}

static void go(struct vm_gdb *gdb, const char *text)
{
    set_pc_if_given(gdb, text);
    all_go_on(gdb, false);
}

static void step(struct vm_gdb *gdb, const char *text)
{
    set_pc_if_given(gdb, text);
    all_go_on(gdb, true);
}

static bool take_thread(struct vm_gdb *gdb, const char **text, unsigned *index)
{
    uint64_t number;
    if (gdb_take_char(text, '-')) { // -1: all; the selected one will do
        *index = gdb->selected;
        return gdb_take_number(text, &number);
    }
    if (!gdb_take_number(text, &number) || number > gdb->vm->system.vcpu_count)
        return false;
    *index = number == 0 ? gdb->selected : (unsigned)number - 1;
    return true;
}

static void select_thread(struct vm_gdb *gdb, const char *text)
{
    unsigned index;
    if ((*text != 'g' && *text != 'c') || (text++, !take_thread(gdb, &text, &index))) {
        fail(gdb);
        return;
    }
    gdb->selected = index;
    ok(gdb);
}

static void is_thread_alive(struct vm_gdb *gdb, const char *text)
{
    unsigned index;
    if (take_thread(gdb, &text, &index))
        ok(gdb);
    else
        fail(gdb);
}

// One action of vCont, `s:1` or `c`: for all vCPUs that no earlier one has named (in `*left`). False: it is none.
static bool take_action(struct vm_gdb *gdb, const char **text, unsigned *left)
{
    uint64_t ignored;
    unsigned index, all = (1u << gdb->vm->system.vcpu_count) - 1, named = all;
    char what = **text;
    if (!what || !strchr("cCsS", what))
        return false;
    ++*text;
    if ((what == 'C' || what == 'S') && !gdb_take_number(text, &ignored))
        return false; // a signal
    bool everyone = !gdb_take_char(text, ':') || !strncmp(*text, "-1", 2);
    if (everyone)
        *text += strcspn(*text, ";");
    else if (!take_thread(gdb, text, &index))
        return false;
    else
        named = 1u << index;
    for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
        if (!(named & *left & 1u << i))
            continue;
        gdb->vm->vcpus[i]->held = false;
        gdb->vm->vcpus[i]->single_step = what == 's' || what == 'S';
    }
    *left &= ~named;
    return true;
}

// vCont;s:1;c: the first action that names a vCPU is its own; those that none names stay where they are.
static void verbose(struct vm_gdb *gdb, const char *text)
{
    if (!strcmp(text, "Cont?")) {
        gdb_put(&gdb->output, "vCont;c;C;s;S");
        return;
    }
    if (strncmp(text, "Cont;", 5) != 0)
        return;
    unsigned all = (1u << gdb->vm->system.vcpu_count) - 1, left = all;
    for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
        gdb->vm->vcpus[i]->held = true;
        gdb->vm->vcpus[i]->single_step = false;
    }
    text += 4;
    while (gdb_take_char(&text, ';')) {
        if (!take_action(gdb, &text, &left)) {
            fail(gdb);
            return;
        }
    }
    if (left == all)
        fail(gdb); // nobody would ever stop
    else
        go_on(gdb);
}

static void send_features(struct vm_gdb *gdb, const char *text)
{
    const char *xml = gdb_target_xml();
    uint64_t offset, length, total = strlen(xml);
    if (!gdb_take_number(&text, &offset) || !gdb_take_char(&text, ',') ||
        !gdb_take_number(&text, &length) || offset > total) {
        fail(gdb);
        return;
    }
    if (length > 4096)
        length = 4096;
    bool last = total - offset <= length;
    char piece[4097];
    snprintf(piece, sizeof(piece), "%.*s", (int)(last ? total - offset : length), xml + offset);
    gdb_put(&gdb->output, last ? "l" : "m");
    gdb_put(&gdb->output, piece);
}

static void query(struct vm_gdb *gdb, const char *text)
{
    static const char features[] = "Xfer:features:read:target.xml:";
    char answer[64] = "";
    if (!strncmp(text, "Supported", 9)) {
        snprintf(answer, sizeof(answer), "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+",
                 GDB_TEXT_BYTES);
    } else if (!strncmp(text, features, sizeof(features) - 1)) {
        send_features(gdb, text + sizeof(features) - 1);
    } else if (!strcmp(text, "fThreadInfo")) {
        for (unsigned i = 0; i < gdb->vm->system.vcpu_count; i++) {
            snprintf(answer, sizeof(answer), "%c%x", i ? ',' : 'm', i + 1);
            gdb_put(&gdb->output, answer);
        }
        return;
    } else if (!strcmp(text, "sThreadInfo")) {
        snprintf(answer, sizeof(answer), "l");
    } else if (!strcmp(text, "C")) {
        snprintf(answer, sizeof(answer), "QC%x", gdb->selected + 1);
    } else if (!strncmp(text, "Attached", 8)) {
        snprintf(answer, sizeof(answer), "1");
    }
    gdb_put(&gdb->output, answer);
}

static void set(struct vm_gdb *gdb, const char *text)
{
    if (strcmp(text, "StartNoAckMode") != 0)
        return;
    gdb->acknowledge = false;
    ok(gdb);
}

static void detach(struct vm_gdb *gdb, const char *text)
{
    ok(gdb);
    send_text(gdb);
    if (gdb->fd >= 0)
        forget_debugger(gdb);
}

static void kill_machine(struct vm_gdb *gdb, const char *text)
{
    vm_request_end(gdb->vm, VM_END_STOP, 0);
    gdb->running = true;
}

static const struct {
    char letter;
    gdb_command *run;
} commands[] = {
    {'?', why_stopped},
    {'g', read_registers},
    {'G', write_registers},
    {'p', read_register},
    {'P', write_register},
    {'m', read_memory},
    {'M', write_memory},
    {'Z', insert_breakpoint},
    {'z', remove_breakpoint},
    {'c', go},
    {'s', step},
    {'H', select_thread},
    {'T', is_thread_alive},
    {'v', verbose},
    {'q', query},
    {'Q', set},
    {'D', detach},
    {'k', kill_machine},
};

// An unknown command gets the empty answer, as the protocol wants it.
static void run_command(struct vm_gdb *gdb)
{
    gdb->output.length = 0;
    gdb->output.overflow = false;
    for (unsigned i = 0; i < ARRAY_LENGTH(commands); i++)
        if (gdb->input.length && gdb->input.text[0] == commands[i].letter)
            commands[i].run(gdb, gdb->input.text + 1);
    if (gdb->fd < 0 || gdb->running)
        return; // gone, or the answer is the next stop
    if (gdb->output.overflow)
        fail(gdb);
    send_text(gdb);
}

// ---- The connection ----

static void handle_byte(struct vm_gdb *gdb, char byte)
{
    switch (gdb_input_byte(&gdb->input, byte)) {
    case GDB_NOTHING:
        break;
    case GDB_INTERRUPT:
        if (!gdb->running)
            break;
        vm_pause(gdb->vm);
        report_stop(gdb, SIGNAL_INT);
        break;
    case GDB_BAD_PACKET:
        if (gdb->acknowledge)
            send_bytes(gdb, "-", 1);
        break;
    case GDB_PACKET:
        if (gdb->acknowledge)
            send_bytes(gdb, "+", 1);
        if (gdb->fd >= 0 && !gdb->running)
            run_command(gdb);
        break;
    }
}

static void connection_ready(void *context, unsigned events)
{
    struct vm_gdb *gdb = context;
    char bytes[4096];
    size_t fds;
    ssize_t n = os_unix_receive(gdb->fd, bytes, sizeof(bytes), NULL, 0, &fds);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        forget_debugger(gdb);
        return;
    }
    for (ssize_t i = 0; i < n && gdb->fd >= 0; i++)
        handle_byte(gdb, bytes[i]);
}

static void listener_ready(void *context, unsigned events)
{
    struct vm_gdb *gdb = context;
    int fd = os_unix_accept(gdb->vm->config->gdb_fd, false);
    if (fd < 0)
        return;
    if (gdb->fd >= 0 || os_loop_watch(gdb->vm->loop, &gdb->watch, fd, OS_LOOP_READ, NULL)) {
        os_file_close(&fd);
        return;
    }
    vm_pause(gdb->vm);
    gdb->fd = fd;
    gdb->acknowledge = true;
    gdb->running = false;
    gdb->selected = 0;
    gdb->input = (struct gdb_input){0};
}

int vm_gdb_create(struct vm *vm, struct err *err)
{
    if (vm->config->gdb_fd < 0)
        return 0;
    struct vm_gdb *gdb = vm->gdb = calloc(1, sizeof(*gdb));
    if (!gdb)
        return err_set(err, ERR_LIMIT, "out of memory");
    gdb->vm = vm;
    gdb->fd = -1;
    gdb->listener = (struct os_loop_watch){.ready = listener_ready, .context = gdb};
    gdb->watch = (struct os_loop_watch){.ready = connection_ready, .context = gdb};
    gdb->stopped_post = (struct os_loop_post){.function = on_stopped, .context = gdb};
    return os_loop_watch(vm->loop, &gdb->listener, vm->config->gdb_fd, OS_LOOP_READ, err);
}

void vm_gdb_destroy(struct vm *vm)
{
    struct vm_gdb *gdb = vm->gdb;
    if (!gdb)
        return;
    if (gdb->fd >= 0) {
        gdb->output.length = 0;
        gdb_put(&gdb->output, "W00");
        char frame[16];
        os_unix_send_ready(gdb->fd, frame, gdb_frame(&gdb->output, frame));
        os_loop_unwatch(vm->loop, &gdb->watch);
        os_file_close(&gdb->fd);
    }
    os_loop_unwatch(vm->loop, &gdb->listener);
    free(gdb);
    vm->gdb = NULL;
}
