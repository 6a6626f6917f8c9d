// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/code_epoch.h"

#include "os/native_code.h"

void code_epochs_init(struct code_epochs *epochs)
{
    *epochs = (struct code_epochs){.now = 1, .membarrier = os_code_sync_prepare() == 0};
}

void code_epochs_add(struct code_epochs *epochs, struct code_reader *reader)
{
    atomic_store(&reader->seen, CODE_READER_AWAY);
    reader->next = epochs->readers;
    epochs->readers = reader;
}

void code_epochs_remove(struct code_epochs *epochs, struct code_reader *reader)
{
    struct code_reader **at = &epochs->readers;

    while (*at && *at != reader)
        at = &(*at)->next;
    if (*at)
        *at = reader->next;
}

uint64_t code_epochs_advance(struct code_epochs *epochs)
{
    return atomic_fetch_add(&epochs->now, 1) + 1;
}

bool code_epochs_passed(const struct code_epochs *epochs, uint64_t epoch)
{
    for (const struct code_reader *reader = epochs->readers; reader; reader = reader->next) {
        if (atomic_load(&reader->seen) < epoch) // away is above all
            return false;
    }
    return true;
}

void code_epochs_reuse(const struct code_epochs *epochs)
{
    if (epochs->membarrier)
        os_code_sync();
}

// The store is a full barrier: a reader that was away is seen, or sees what has been made unreachable.
void code_reader_pass(const struct code_epochs *epochs, struct code_reader *reader, uint64_t epoch)
{
    if (!epochs->membarrier)
        os_code_serialize();
    atomic_store(&reader->seen, epoch);
}

void code_reader_away(struct code_reader *reader)
{
    atomic_store(&reader->seen, CODE_READER_AWAY);
}
