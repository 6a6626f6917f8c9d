// SPDX-License-Identifier: Apache-2.0
#include "io/journal.h"

#include <stdlib.h>
#include <string.h>

#include "wire/nbd.h"

void journal_init(struct journal *journal)
{
    *journal = (struct journal){.last = &journal->first};
}

bool journal_add(struct journal *journal, uint16_t command, uint16_t flags, uint64_t offset,
                 uint32_t length, const void *bytes)
{
    size_t size = sizeof(struct journal_entry) + (bytes ? length : 0);
    struct journal_entry *entry = malloc(size);
    if (!entry)
        return false;
    *entry = (struct journal_entry){.number = ++journal->number,
                                    .offset = offset,
                                    .length = length,
                                    .command = command,
                                    .flags = flags};
    if (bytes)
        memcpy(entry->bytes, bytes, length);
    *journal->last = entry;
    journal->last = &entry->next;
    journal->bytes += size;
    return true;
}

bool journal_is_full(const struct journal *journal)
{
    return journal->bytes > JOURNAL_BYTES_MAX;
}

void journal_forget(struct journal *journal, uint64_t number)
{
    while (journal->first && journal->first->number <= number) {
        struct journal_entry *entry = journal->first;
        journal->first = entry->next;
        journal->bytes -= sizeof(*entry) + (entry->command == NBD_CMD_WRITE ? entry->length : 0);
        free(entry);
    }
    if (!journal->first)
        journal->last = &journal->first;
}
