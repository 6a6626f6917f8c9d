// SPDX-License-Identifier: Apache-2.0
//
// Sections stand in the order in which they must be loaded: the clock first, because timers look at it; a CPU before its local APIC, whose mode is in the CPU.
#include "machine/vm/vm_state.h"

#include <string.h>

#include "base/bits.h"
#include "machine/vm/vm_chips.h"
#include "machine/vm/vm_devices.h"

struct clock_section {
    uint64_t now_ns;
};
static const struct field clock_fields[] = {FIELD_U64(struct clock_section, now_ns)};
static const struct device_ops clock_ops = {.kind = "clock",
                                            .version = 1,
                                            .fields = clock_fields,
                                            .field_count = ARRAY_LENGTH(clock_fields)};

// What is done with each device; not 0 ends the walk.
typedef int device_visit(struct device *device, void *context);

static int for_each(struct vm *vm, device_visit *visit, void *context)
{
    int result = 0;
    for (unsigned i = 0; i < vm->config->cpus && !result; i++)
        result = visit(&vm->vcpus[i]->device, context);
    for (unsigned i = 0; i < vm->config->cpus && !result; i++)
        result = visit(lapic_device(vm->vcpus[i]->lapic), context);
    for (unsigned i = 0; i < VM_CHIP_DEVICES && !result; i++)
        result = visit(vm->chips->devices[i], context);
    for (struct device *device = vm->devices->saved; device && !result; device = device->next)
        result = visit(device, context);
    return result;
}

struct saving {
    struct state_buffer *buffer;
    struct err *err;
};

static int save_one(struct device *device, void *context)
{
    struct saving *saving = context;
    return state_save_device(device, saving->buffer, saving->err);
}

int vm_state_save(struct vm *vm, struct state_buffer *buffer, struct err *err)
{
    struct clock_section clock = {.now_ns = vm_clock_now_ns(vm->clock)};
    struct device clock_device = {.ops = &clock_ops, .name = "clock", .self = &clock};
    struct saving saving = {buffer, err};
    if (vm->system.backend->save_begin)
        vm->system.backend->save_begin(&vm->system);
    return state_save_device(&clock_device, buffer, err) ? -1 : for_each(vm, save_one, &saving);
}

struct loading {
    const uint8_t *bytes;
    size_t left;
    struct err *err;
};

static int load_one(struct device *device, void *context)
{
    struct loading *loading = context;
    struct state_section section;
    size_t used;
    if (state_read_section(loading->bytes, loading->left, &section, loading->err))
        return -1;
    if (strcmp(section.kind, device->ops->kind) || strcmp(section.name, device->name))
        return err_set(loading->err, ERR_INPUT,
                       "the saved machine has %.60s where this one has %.60s", section.name,
                       device->name);
    if (state_load_device(device, loading->bytes, loading->left, &used, loading->err))
        return -1;
    loading->bytes += used;
    loading->left -= used;
    return 0;
}

int vm_state_load(struct vm *vm, const uint8_t *bytes, size_t length, struct err *err)
{
    struct clock_section clock = {0};
    struct device clock_device = {.ops = &clock_ops, .name = "clock", .self = &clock};
    struct loading loading = {bytes, length, err};
    if (load_one(&clock_device, &loading))
        return -1;
    vm_clock_set_ns(vm->clock, clock.now_ns);
    if (for_each(vm, load_one, &loading))
        return -1;
    if (loading.left)
        return err_set(err, ERR_INPUT, "the saved machine has more devices than this one");
    if (vm->system.backend->chips_changed)
        vm->system.backend->chips_changed(&vm->system);
    return 0;
}

struct guest_memory *vm_memory(struct vm *vm)
{
    return vm->memory;
}
