// SPDX-License-Identifier: Apache-2.0
//
// Bytes as the configuration of a machine: it is refused with a reason, or everything that the machine is built from is within its limits.
#include <stdint.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/vm/vm_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void check(const struct vm_config *config)
{
    if (config->cpus < 1 || config->cpus > VM_MAX_CPUS || config->memory_bytes < 16 * MIB ||
        config->memory_bytes % MIB)
        abort();
    if (config->disk_count > VM_MAX_DISKS || config->net_count > VM_MAX_NETS ||
        config->initrd_count > VM_MAX_INITRDS)
        abort();
    for (unsigned i = 0; i < config->disk_count; i++)
        if (config->disks[i].fd < 0 || !config->disks[i].name || !config->disks[i].format)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct vm_config config;
    struct err err = {0};
    json_t *json = json_loadb((const char *)bytes, length, JSON_REJECT_DUPLICATES, NULL);
    if (!json)
        return 0;
    if (!vm_config_parse(&config, json, &err)) {
        check(&config);
        vm_config_fini(&config);
    } else if (!err.text[0]) {
        abort();
    }
    json_decref(json);
    return 0;
}
