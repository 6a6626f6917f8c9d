// SPDX-License-Identifier: Apache-2.0
//
// What happens at power-on and at each reset: memory contents and the bootstrap CPU's first state.
#include <stdlib.h>

#include "base/bits.h"
#include "machine/boot/acpi.h"
#include "machine/boot/boot.h"
#include "machine/vm/vm_internal.h"
#include "os/file_load.h"

int vm_boot_prepare(struct vm *vm, struct err *err)
{
    if (vm->config->kernel.fd < 0)
        return 0; // firmware asks for the tables: vm_firmware.c
    struct acpi_machine machine = {.vcpus = vm->config->cpus};
    struct acpi_block block = {.bytes = malloc(BOOT_TABLES_BYTES), .capacity = BOOT_TABLES_BYTES};
    vm->tables = block.bytes;
    if (!block.bytes)
        return err_set(err, ERR_LIMIT, "out of memory");
    if (acpi_build(&machine, BOOT_TABLES, &block, err))
        return -1;
    vm->tables_bytes = block.length;
    return 0;
}

void vm_boot_finish(struct vm *vm)
{
    free(vm->tables);
}

static int open_file(const struct vm_file *from, const char *flag, struct boot_file *to,
                     struct err *err)
{
    uint64_t length;
    if (os_file_length(from->fd, &length, err))
        return err_wrap(err, "%s %s", flag, from->name);
    *to = (struct boot_file){
        .name = from->name, .arguments = from->arguments, .fd = from->fd, .length = length};
    return 0;
}

static int load_kernel(struct vm *vm, struct boot_entry *entry, struct err *err)
{
    const struct vm_config *config = vm->config;
    struct boot_file initrds[VM_MAX_INITRDS] = {0};
    struct boot_images images = {.initrds = initrds,
                                 .initrd_count = config->initrd_count,
                                 .command_line = config->append,
                                 .rsdp = BOOT_TABLES};
    if (open_file(&config->kernel, "--kernel", &images.kernel, err))
        return -1;
    for (unsigned i = 0; i < config->initrd_count; i++)
        if (open_file(&config->initrds[i], "--initrd", &initrds[i], err))
            return -1;
    if (boot_load_kernel(vm->memory, &images, entry, err))
        return -1;
    return boot_put(vm->memory, BOOT_TABLES, vm->tables, vm->tables_bytes, err);
}

static void reset_cpus(struct vm *vm)
{
    for (unsigned i = 0; i < vm->config->cpus; i++) {
        struct vcpu *vcpu = vm->vcpus[i];
        cpu_state_reset(&vcpu->state, false, i == 0);
        lapic_reset(vcpu->lapic, false);
        atomic_fetch_and(&vcpu->events, (uint32_t)VCPU_EVENT_PAUSE);
    }
}

int vm_boot(struct vm *vm, struct err *err)
{
    struct boot_entry entry = {.mode = BOOT_RESET};
    reset_cpus(vm);
    if (vm->config->kernel.fd < 0) {
        if (vm_firmware_load(vm, err))
            return -1;
    } else {
        if (load_kernel(vm, &entry, err))
            return -1;
        vm_devices_assign(vm);
    }
    if (boot_entry_apply(&entry, vm->memory, &vm->vcpus[0]->state, err))
        return -1;
    for (unsigned i = 0; i < vm->config->cpus; i++)
        vcpu_state_changed(vm->vcpus[i]);
    return 0;
}
