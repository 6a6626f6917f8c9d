// SPDX-License-Identifier: Apache-2.0
//
// A hostile guest against one virtio device of each kind: see tests/unit/virtio/hostile.h. The devices' own asserts and
// the sanitizers are the oracle.
#include "hostile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= 4096)
        hostile_run(data, size);
    return 0;
}
