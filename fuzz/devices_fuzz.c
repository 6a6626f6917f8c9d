// SPDX-License-Identifier: Apache-2.0
//
// Random guest traffic at all chips. Eight bytes of input are one step
// (tests/unit/chip/all_chips.c).
#include <stddef.h>
#include <stdint.h>

#include "all_chips.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void drop_line(enum log_level level, const char *line)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct all_chips chips;
    log_set_sink(drop_line);
    all_chips_init(&chips);
    for (; length >= 8; bytes += 8, length -= 8)
        all_chips_step(&chips, bytes);
    all_chips_fini(&chips);
    return 0;
}
