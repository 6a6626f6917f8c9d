// SPDX-License-Identifier: Apache-2.0
//
// A guest that plays a program of bytes against one device of each kind: sets up queues the right way or not, writes
// descriptors and rings, registers and configuration space, and notifies. For random tests and for the fuzzer.
#ifndef WIRT_TESTS_UNIT_VIRTIO_HOSTILE_H
#define WIRT_TESTS_UNIT_VIRTIO_HOSTILE_H

#include <stddef.h>
#include <stdint.h>

// Runs the program on a machine that is made once and reset before each. Everything happens on this thread.
void hostile_run(const uint8_t *program, size_t length);
void hostile_end(void);

#endif
