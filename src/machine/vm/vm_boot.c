// SPDX-License-Identifier: Apache-2.0
//
// What happens at power-on and at each reset: memory contents and the bootstrap CPU's first state.
#include <string.h>

#include "base/bits.h"
#include "machine/boot/acpi.h"
#include "machine/boot/boot.h"
#include "machine/vm/vm_internal.h"
#include "os/file_map.h"

static int put_tables(struct vm *vm, struct err *err)
{
    uint8_t bytes[BOOT_TABLES_BYTES];
    struct acpi_machine machine = {.vcpus = vm->config->cpus};
    struct acpi_block block = {.bytes = bytes, .capacity = sizeof(bytes)};
    if (acpi_build(&machine, BOOT_TABLES, &block, err))
        return -1;
    if (guest_memory_write(vm->memory, gpa(BOOT_TABLES), bytes, block.length))
        return err_set(err, ERR_USAGE, "guest memory is too small for the ACPI tables");
    return 0;
}

static int map_file(const struct vm_file *from, const char *flag, struct boot_file *to,
                    struct err *err)
{
    *to = (struct boot_file){.name = from->name, .arguments = from->arguments};
    if (os_file_map(from->fd, &to->bytes, &to->length, err))
        return err_wrap(err, "%s %s", flag, from->name);
    return 0;
}

static int load_kernel(struct vm *vm, struct boot_entry *entry, struct err *err)
{
    const struct vm_config *config = vm->config;
    struct boot_file initrds[VM_MAX_INITRDS] = {0};
    struct boot_images images = {
        .initrds = initrds, .command_line = config->append, .rsdp = BOOT_TABLES};
    int result = map_file(&config->kernel, "--kernel", &images.kernel, err);
    for (unsigned i = 0; i < config->initrd_count && !result; i++, images.initrd_count++)
        result = map_file(&config->initrds[i], "--initrd", &initrds[i], err);
    if (!result)
        result = boot_load_kernel(vm->memory, &images, entry, err);
    for (unsigned i = 0; i < images.initrd_count; i++)
        os_file_unmap(initrds[i].bytes, initrds[i].length);
    os_file_unmap(images.kernel.bytes, images.kernel.length);
    return result;
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
        if (vm_firmware_load(vm, vm->state == VM_PREPARED, err))
            return -1;
    } else {
        if (load_kernel(vm, &entry, err) || put_tables(vm, err))
            return -1;
        vm_devices_assign(vm);
    }
    if (boot_entry_apply(&entry, vm->memory, &vm->vcpus[0]->state, err))
        return -1;
    for (unsigned i = 0; i < vm->config->cpus; i++)
        vcpu_state_changed(vm->vcpus[i]);
    return 0;
}
