// SPDX-License-Identifier: Apache-2.0
//
// Bytes as the saved state of a machine's chips. What is accepted must be saved again as the same
// values, and the chips must bear being used with it. The checksum, which would stop nearly every
// input, is made right first.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "all_chips.h"
#include "base/bits.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "machine/state/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void drop_line(enum log_level level, const char *line)
{
}

// Give each section that has a frame the checksum it ought to have.
static void seal(uint8_t *bytes, size_t length)
{
    while (length >= 12) {
        uint32_t size = load_le32(bytes + 4);
        if (size < 12 || size > length)
            return;
        store_le32(bytes + size - 4, crc32c(0, bytes, size - 4));
        bytes += size;
        length -= size;
    }
}

static struct device *find(struct all_chips *chips, const struct state_section *section)
{
    for (struct device *d = chips->devices; d; d = d->next)
        if (!strcmp(d->ops->kind, section->kind) && !strcmp(d->name, section->name))
            return d;
    return NULL;
}

static void load_section(struct all_chips *chips, const uint8_t *bytes, size_t length)
{
    struct state_section section;
    struct state_buffer again = {0};
    size_t used = 0;
    if (state_read_section(bytes, length, &section, NULL) != 0)
        return;
    struct device *device = find(chips, &section);
    if (!device || state_load_device(device, bytes, length, &used, NULL) != 0)
        return;
    if (used != section.length || state_save_device(device, &again, NULL) != 0 ||
        again.length != used)
        abort();
    state_buffer_fini(&again);
}

static void use(struct all_chips *chips)
{
    uint64_t random = 1;
    for (unsigned i = 0; i < 300; i++) {
        uint8_t step[8];
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        store_le64(step, random ^ random >> 29);
        all_chips_step(chips, step);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct all_chips chips;
    uint8_t *copy = malloc(length + 1);
    log_set_sink(drop_line);
    memcpy(copy, bytes, length);
    seal(copy, length);
    all_chips_init(&chips);
    for (size_t at = 0; at + 12 <= length;) {
        uint32_t size = load_le32(copy + at + 4);
        if (size < 12 || size > length - at)
            break;
        load_section(&chips, copy + at, length - at);
        at += size;
    }
    use(&chips);
    all_chips_fini(&chips);
    free(copy);
    return 0;
}
