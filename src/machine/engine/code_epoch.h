// SPDX-License-Identifier: Apache-2.0
//
// Epochs: when memory that others execute, or look at without a lock, may be used for something else.
//
// Whoever takes something out of the cache first makes it unreachable, then advances the epoch: from then on it lies in limbo under that number.
// A reader tells now and then that it holds nothing it found before (code_reader_pass(): a quiescent point), and notes the epoch it saw
// then; one that is not in the cache at all is "away". What lies in limbo under an epoch that every reader has seen, or is away
// from, is nobody's any more. Nobody ever waits for a reader: memory that is not free yet is not used yet.
//
// A core may still hold instructions that it fetched before: each reader has executed a serializing instruction since it left, by membarrier
// (PRIVATE_EXPEDITED_SYNC_CORE) when the memory is taken into use again, or where that is refused by itself in code_reader_pass().
//
// Threads: a reader belongs to its thread; the rest needs the translator's lock. Readers are added before they run.
#ifndef WIRT_MACHINE_ENGINE_CODE_EPOCH_H
#define WIRT_MACHINE_ENGINE_CODE_EPOCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CODE_READER_AWAY UINT64_MAX

struct code_reader {
    _Atomic uint64_t seen;    // epoch, or CODE_READER_AWAY
    struct code_reader *next; // of the same cache
};

struct code_epochs {
    _Atomic uint64_t now;
    struct code_reader *readers; // borrowed
    bool membarrier;             // else readers serialize their cores themselves
};

void code_epochs_init(struct code_epochs *epochs);
void code_epochs_add(struct code_epochs *epochs, struct code_reader *reader); // it is away
void code_epochs_remove(struct code_epochs *epochs, struct code_reader *reader);

// What was made unreachable before this call lies in limbo under the epoch that it returns.
uint64_t code_epochs_advance(struct code_epochs *epochs);
bool code_epochs_passed(const struct code_epochs *epochs, uint64_t epoch);
// Before memory is used again, after code_epochs_passed(): every core fetches it anew.
void code_epochs_reuse(const struct code_epochs *epochs);

// A quiescent point, in two parts: what the reader does between them (forgetting what it remembers of the cache) comes after the epoch was read and before it
// is told. code_reader_passing() is false where there is nothing new to tell.
static inline bool code_reader_passing(const struct code_epochs *epochs,
                                       const struct code_reader *reader, uint64_t *epoch)
{
    *epoch = atomic_load_explicit(&epochs->now, memory_order_acquire);
    return *epoch != atomic_load_explicit(&reader->seen, memory_order_relaxed);
}
void code_reader_pass(const struct code_epochs *epochs, struct code_reader *reader, uint64_t epoch);

void code_reader_away(struct code_reader *reader);

#endif
