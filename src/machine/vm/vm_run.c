// SPDX-License-Identifier: Apache-2.0
//
// The machine's run states and the main loop.
#define LOG_MODULE "vm"
#include <assert.h>

#include "base/log.h"
#include "machine/vm/vm_devices.h"
#include "machine/vm/vm_internal.h"
#include "os/clock.h"
#include "os/sandbox.h"

#define NS_PER_SECOND 1000000000ull
#define ALARM_MAX_NS  (24 * 3600 * NS_PER_SECOND)

static const char *const state_names[] = {"prepared", "running", "paused", "stopped"};
static_assert(sizeof(state_names) / sizeof(state_names[0]) == VM_STATE_COUNT,
              "a name for each state");

const char *vm_state_name(enum vm_state state)
{
    assert(state < VM_STATE_COUNT);
    return state_names[state];
}

enum vm_state vm_state(const struct vm *vm)
{
    return vm->state;
}

static void set_state(struct vm *vm, enum vm_state state)
{
    static const unsigned permitted[] = {
        [VM_PREPARED] = 1u << VM_RUNNING | 1u << VM_STOPPED,
        [VM_RUNNING] = 1u << VM_PAUSED | 1u << VM_STOPPED,
        [VM_PAUSED] = 1u << VM_RUNNING | 1u << VM_STOPPED,
        [VM_STOPPED] = 0,
    };
    assert(permitted[vm->state] >> state & 1);
    vm->state = state;
    vm_control_event(vm, "state", json_pack("{s:s}", "state", vm_state_name(state)));
}

void vm_pause(struct vm *vm)
{
    if (vm->state != VM_RUNNING)
        return;
    vm_threads_park(vm);
    vm_clock_pause(vm->clock);
    vm_devices_pause(vm);
    set_state(vm, VM_PAUSED);
}

void vm_resume(struct vm *vm)
{
    if (vm->state != VM_PREPARED && vm->state != VM_PAUSED)
        return;
    vm_devices_resume(vm);
    vm_clock_resume(vm->clock);
    for (unsigned i = 0; i < vm->config->cpus; i++)
        vcpu_clock_resumed(vm->vcpus[i]);
    set_state(vm, VM_RUNNING);
    vm_threads_release(vm);
}

void vm_power_button(struct vm *vm)
{
    vm_chips_power_button(vm);
}

// ---- Requests: the vCPUs stop before their next instruction, the rest is done by the main thread.

static void request(struct vm *vm, enum vm_request what)
{
    atomic_fetch_or(&vm->requests, what);
    pthread_mutex_lock(&vm->park_lock);
    vm->park = true;
    pthread_mutex_unlock(&vm->park_lock);
    vcpu_raise_all(&vm->system, VCPU_EVENT_PAUSE);
    os_loop_post(vm->loop, &vm->request_post);
}

void vm_request_reset(struct vm *vm)
{
    if (vm->config->exit_on_reboot)
        vm_request_end(vm, VM_END_RESET, 0);
    else
        request(vm, VM_REQUEST_RESET);
}

void vm_request_end(struct vm *vm, enum vm_end end, unsigned debug_value)
{
    enum vm_end none = VM_END_NONE;
    if (!atomic_compare_exchange_strong(&vm->end, &none, end))
        return;
    vm->debug_value = debug_value;
    request(vm, VM_REQUEST_END);
}

static void reset(struct vm *vm)
{
    struct err err;
    vm_devices_pause(vm);
    vm_devices_reset(vm);
    vm_chips_reset(vm);
    if (vm->system.backend->chips_changed)
        vm->system.backend->chips_changed(&vm->system);
    vm_devices_resume(vm);
    if (vm_boot(vm, &err)) {
        log_error("reset: %s", err.text);
        vm_request_end(vm, VM_END_FAILURE, 0);
        return;
    }
    vm_control_event(vm, "reset", NULL);
}

// A pause that was asked for before the request is kept: the reset machine stays paused.
static void handle_requests(void *context)
{
    struct vm *vm = context;
    unsigned requests = atomic_exchange(&vm->requests, 0);
    if (!requests || vm->state == VM_STOPPED)
        return;
    vm_threads_park(vm);
    // The end stays the end: another CPU may ask for a reset on its way to the park.
    if (atomic_load(&vm->end) != VM_END_NONE) {
        os_loop_stop(vm->loop);
        return;
    }
    reset(vm);
    if (vm->state == VM_RUNNING)
        vm_threads_release(vm);
}

// ---- The clock's timers run on the main loop (in a deterministic machine the vCPU runs them).
//
// An idle guest arms a timer whenever it has handled one. Whoever does sets the alarm: the main thread is not woken for that, but when the time has come.

// A guest's timer may be centuries away: the alarm then comes in between, for nothing.
static uint64_t wait_ns(uint64_t now, uint64_t deadline)
{
    uint64_t wait = deadline > now ? deadline - now : 0;
    return wait < ALARM_MAX_NS ? wait : ALARM_MAX_NS;
}

static void set_clock_alarm(struct vm *vm)
{
    pthread_mutex_lock(&vm->clock_alarm_lock); // who comes later sees what the others armed
    uint64_t deadline = vm_clock_next_deadline_ns(vm->clock);
    uint64_t now = vm_clock_now_ns(vm->clock);
    if (deadline != VM_CLOCK_NEVER)
        deadline = os_clock_monotonic_ns() + wait_ns(now, deadline);
    os_alarm_set(&vm->clock_alarm, deadline);
    pthread_mutex_unlock(&vm->clock_alarm_lock);
}

static void clock_alarm_expired(void *context, unsigned events)
{
    struct vm *vm = context;
    (void)events;
    vm_clock_run_timers(vm->clock);
    set_clock_alarm(vm);
}

int vm_clock_alarm_open(struct vm *vm, struct err *err)
{
    return vm->config->deterministic
               ? 0
               : os_alarm_open(&vm->clock_alarm, vm->loop, clock_alarm_expired, vm, err);
}

void vm_clock_woken(void *context)
{
    struct vm *vm = context;
    if (!vm_clock_is_deterministic(vm->clock))
        set_clock_alarm(vm);
}

static void timeout_expired(void *context)
{
    vm_request_end(context, VM_END_TIMEOUT, 0);
}

static void tell_panic(void *context)
{
    vm_control_event(context, "panic", NULL);
}

void vm_run_init(struct vm *vm)
{
    vm->clock_alarm.fd = -1;
    pthread_mutex_init(&vm->clock_alarm_lock, NULL);
    vm->timeout_timer = (struct os_loop_timer){.expired = timeout_expired, .context = vm};
    vm->panic_post = (struct os_loop_post){.function = tell_panic, .context = vm};
    vm->request_post = (struct os_loop_post){.function = handle_requests, .context = vm};
    pthread_mutex_init(&vm->park_lock, NULL);
    pthread_cond_init(&vm->parked_changed, NULL);
}

int vm_run(struct vm *vm, struct err *err)
{
    // The last thread is started: the main thread gives up starting more.
    if (vm_threads_start(vm, err) || os_sandbox_thread(OS_SANDBOX_MAIN, err)) {
        vm_threads_finish(vm);
        return -1;
    }
    if (vm->config->timeout_seconds)
        os_loop_timer_arm(vm->loop, &vm->timeout_timer,
                          os_clock_monotonic_ns() + vm->config->timeout_seconds * NS_PER_SECOND);
    if (!vm->gdb) // a debugger says when to begin
        vm_resume(vm);
    os_loop_run(vm->loop);
    vm_threads_finish(vm);
    vm_remotes_end(vm, NULL);
    vm_devices_pause(vm);
    enum vm_end end = atomic_load(&vm->end);
    int status = vm_end_status(end, vm->debug_value);
    set_state(vm, VM_STOPPED);
    vm_control_event(vm, "shutdown",
                     json_pack("{s:s, s:i}", "reason", vm_end_name(end), "status", status));
    return status;
}
