// SPDX-License-Identifier: Apache-2.0
//
// A storage in memory behind the server of a remote disk, as mean as one may be: it does operations in any order and answers in another, refuses some
// because it is busy, answers with errors, and loses its connection, with which go any of the writes that no flush made safe. A flush makes
// safe what was answered before the flush was asked for, and nothing else. It can also end the server as a kill does.
#ifndef WIRT_TEST_MADE_UP_STORAGE_H
#define WIRT_TEST_MADE_UP_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

struct made_up {
    // Set before the server begins.
    uint8_t *bytes; // what it holds
    uint64_t size;
    uint32_t block, length_max;
    uint32_t random;
    unsigned loss_after;   // operations: the most between two losses; 0: never lost
    unsigned fail_opening; // the how manieth opening fails
    // May be set while it runs: the next operation finds the connection lost, and everything that is not safe.
    _Atomic bool lose_all;
    // While a write begins with this number, it fails. 0: none.
    _Atomic uint64_t bad;
    // So often the server is ended, each time after at most so many operations more; and its socket with it.
    _Atomic unsigned kills;
    unsigned kill_after;
    _Atomic int server_fd;
    // Read afterwards.
    unsigned openings, flushes;
};
extern struct made_up made_up;

// Now everything is gone that no flush made safe.
void made_up_forget(void);
uint32_t made_up_below(uint32_t *random, uint32_t n);

#endif
