// SPDX-License-Identifier: Apache-2.0
#include "io/journal.h"

#include <string.h>

#include "base/bits.h"
#include "os/memory.h"
#include "wire/nbd.h"

#define UNITS       (JOURNAL_ROOM_BYTES / JOURNAL_UNIT)
#define JOURNAL_GAP UINT16_MAX               // up to the ring's end: the next entry did not fit
#define KEPT_UNITS  (4 * MIB / JOURNAL_UNIT) // of an empty journal's memory

struct span {
    uint32_t first, used;
};

static struct span span_of(const struct journal *journal)
{
    uint64_t word = atomic_load_explicit(&journal->room->span, memory_order_acquire);
    return (struct span){.first = (uint32_t)word, .used = (uint32_t)(word >> 32)};
}

// Whatever the entries say is written before.
static void set_span(struct journal *journal, struct span span)
{
    atomic_store_explicit(&journal->room->span, (uint64_t)span.used << 32 | span.first,
                          memory_order_release);
}

static struct journal_entry *entry_at(const struct journal *journal, uint32_t unit)
{
    return (struct journal_entry *)(void *)(journal->room->ring +
                                            (size_t)(unit % UNITS) * JOURNAL_UNIT);
}

static uint32_t unit_of(const struct journal *journal, const struct journal_entry *entry)
{
    return (uint32_t)((size_t)((const uint8_t *)entry - journal->room->ring) / JOURNAL_UNIT);
}

static uint64_t units_for(uint16_t command, uint32_t length)
{
    uint64_t bytes = offsetof(struct journal_entry, bytes);
    return align_up(bytes + (command == NBD_CMD_WRITE ? length : 0), JOURNAL_UNIT) / JOURNAL_UNIT;
}

bool journal_add(struct journal *journal, uint16_t command, uint16_t flags, uint64_t offset,
                 uint32_t length, const void *bytes)
{
    struct span span = span_of(journal);
    uint32_t end = (span.first + span.used) % UNITS;
    uint64_t units = units_for(command, length), gap = units > UNITS - end ? UNITS - end : 0;
    if (units + gap > UNITS - span.used)
        return false;
    if (gap)
        *entry_at(journal, end) = (struct journal_entry){
            .number = journal->number, .units = (uint32_t)gap, .command = JOURNAL_GAP};
    struct journal_entry *entry = entry_at(journal, end + (uint32_t)gap);
    *entry = (struct journal_entry){.number = ++journal->number,
                                    .offset = offset,
                                    .length = length,
                                    .units = (uint32_t)units,
                                    .command = command,
                                    .flags = flags};
    if (bytes)
        memcpy(entry->bytes, bytes, length);
    uint32_t behind = unit_of(journal, entry) + entry->units;
    if (journal->touched < behind)
        journal->touched = behind;
    span.used += (uint32_t)(gap + units);
    set_span(journal, span);
    return true;
}

bool journal_is_full(const struct journal *journal)
{
    return (size_t)span_of(journal).used * JOURNAL_UNIT > JOURNAL_BYTES_MAX;
}

void journal_forget(struct journal *journal, uint64_t number)
{
    struct span span = span_of(journal);
    while (span.used && entry_at(journal, span.first)->number <= number) {
        uint32_t units = entry_at(journal, span.first)->units;
        span.first = (span.first + units) % UNITS;
        span.used -= units;
    }
    if (!span.used)
        span.first = 0; // so that little is written again and again in few pages
    set_span(journal, span);
    if (span.used || journal->touched <= KEPT_UNITS)
        return;
    (void)os_memory_discard_shared(journal->room->ring, JOURNAL_ROOM_BYTES);
    journal->touched = 0;
}

struct journal_entry *journal_next(const struct journal *journal,
                                   const struct journal_entry *previous)
{
    struct span span = span_of(journal);
    uint32_t passed = 0;
    if (previous)
        passed = (unit_of(journal, previous) + UNITS - span.first) % UNITS + previous->units;
    while (passed < span.used) {
        struct journal_entry *entry = entry_at(journal, span.first + passed);
        if (entry->command != JOURNAL_GAP)
            return entry;
        passed += entry->units;
    }
    return NULL;
}

// ---- What another process left

// It may have been killed because of what it did to its memory.
static bool makes_sense(const struct journal_entry *entry, uint32_t unit, uint32_t left)
{
    if (!entry->units || entry->units > left || entry->units > UNITS - unit)
        return false;
    switch (entry->command) {
    case JOURNAL_GAP:
        return entry->units == UNITS - unit;
    case NBD_CMD_WRITE:
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        return entry->units == units_for(entry->command, entry->length);
    default:
        return false;
    }
}

void journal_init(struct journal *journal, struct journal_room *room)
{
    *journal = (struct journal){.room = room};
    struct span span = span_of(journal);
    if (!span.used)
        return;
    journal->touched = UNITS;
    bool sane = span.first < UNITS && span.used <= UNITS;
    for (uint32_t passed = 0; sane && passed < span.used;) {
        uint32_t unit = (span.first + passed) % UNITS;
        const struct journal_entry *entry = entry_at(journal, unit);
        sane = makes_sense(entry, unit, span.used - passed) && entry->number >= journal->number;
        passed += entry->units;
        journal->number = entry->number;
    }
    if (sane)
        return;
    room->lost = true;
    set_span(journal, (struct span){0});
}
