// SPDX-License-Identifier: Apache-2.0
//
// What the machine did, in numbers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/vm/vm_control.h"
#include "machine/vm/vm_internal.h"
#include "os/clock.h"
#include "os/self.h"

static json_t *exits_by_reason(const struct vm *vm)
{
    const struct vcpu_backend_ops *backend = vm->system.backend;
    json_t *exits = json_object();
    for (unsigned reason = 0; reason < backend->exit_reasons; reason++) {
        uint64_t total = 0;
        for (unsigned i = 0; i < vm->config->cpus; i++)
            total += backend->exits(vm->vcpus[i], reason);
        json_object_set_new(exits, backend->exit_name(reason), json_integer((json_int_t)total));
    }
    return exits;
}

// The host's memory by what it is for. *beyond: all of it but guest RAM.
static json_t *memory_by_use(json_int_t *beyond)
{
    struct os_self_part parts[OS_SELF_PARTS_MAX];
    unsigned count = os_self_memory(parts);
    json_t *memory = json_object();
    *beyond = 0;
    for (unsigned i = 0; i < count; i++) {
        json_object_set_new(memory, parts[i].name, json_integer((json_int_t)parts[i].bytes));
        if (strcmp(parts[i].name, GUEST_MEMORY_NAME))
            *beyond += (json_int_t)parts[i].bytes;
    }
    return memory;
}

// By all vCPUs, or INSTRUCTIONS_NOT_COUNTED.
static uint64_t instructions_of(struct vm *vm, enum vcpu_tier tier)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < vm->config->cpus; i++) {
        uint64_t more = vm->system.backend->instructions(vm->vcpus[i], tier);
        if (more == INSTRUCTIONS_NOT_COUNTED)
            return more;
        sum += more;
    }
    return sum;
}

// An object that json_pack()'s "o*" leaves out when it is NULL.
static json_t *if_counted(uint64_t instructions)
{
    return instructions == INSTRUCTIONS_NOT_COUNTED ? NULL : json_integer((json_int_t)instructions);
}

json_t *vm_statistics(struct vm *vm)
{
    json_int_t beyond;
    json_t *memory = memory_by_use(&beyond);
    uint64_t interpreted = instructions_of(vm, TIER_INTERPRETED);
    uint64_t translated = instructions_of(vm, TIER_TRANSLATED);
    uint64_t all = interpreted == INSTRUCTIONS_NOT_COUNTED || translated == INSTRUCTIONS_NOT_COUNTED
                       ? INSTRUCTIONS_NOT_COUNTED
                       : interpreted + translated;
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:o*, s:o*, s:o*, s:o, s:I, s:o, s:o, s:o, s:I, s:o}", //
        "started_ns", (json_int_t)vm->start_ns, "wall_ns",
        (json_int_t)(os_clock_monotonic_ns() - vm->start_ns),                                 //
        "first_instruction_ns", (json_int_t)vm->first_instruction_ns,                         //
        "first_output_ns", (json_int_t)vm->first_output_ns,                                   //
        "instructions", if_counted(all), "instructions_interpreted", if_counted(interpreted), //
        "instructions_translated", if_counted(translated), "exits", exits_by_reason(vm),      //
        "main_wakeups", (json_int_t)os_loop_turns(vm->loop), "disks",
        vm_devices_statistics(vm, "disk"), "nets", vm_devices_statistics(vm, "net"), //
        "balloon", vm_balloon_statistics(vm), "host_memory_bytes", beyond, "host_memory", memory);
}

static void print_member(const char *name, const json_t *value)
{
    const char *inner;
    json_t *member;
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            print_member(name, json_array_get(value, i));
        return;
    }
    if (!json_is_object(value)) {
        fprintf(stderr, "  %-26s %15lld\n", name, json_integer_value(value));
        return;
    }
    json_object_foreach((json_t *)value, inner, member)
    {
        char both[64];
        snprintf(both, sizeof(both), "%s %s", name, inner);
        print_member(both, member);
    }
}

void vm_print_statistics(struct vm *vm, bool as_json)
{
    json_t *statistics = vm_statistics(vm);
    if (as_json) {
        char *text = json_dumps(statistics, JSON_INDENT(2));
        fprintf(stderr, "%s\n", text);
        free(text);
    } else {
        const char *name;
        json_t *value;
        fputs("statistics:\n", stderr);
        json_object_foreach(statistics, name, value) print_member(name, value);
    }
    json_decref(statistics);
}
