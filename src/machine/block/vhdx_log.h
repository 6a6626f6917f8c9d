// SPDX-License-Identifier: Apache-2.0
//
// The log of a VHDX image that was not closed: changes of its tables that may not have reached their place.
#ifndef WIRT_MACHINE_BLOCK_VHDX_LOG_H
#define WIRT_MACHINE_BLOCK_VHDX_LOG_H

#include "machine/block/block_driver.h"

struct vhdx_log {
    uint8_t guid[16];        // of the entries that count
    uint64_t offset, length; // in the file; whole sectors of 4 KiB, inside it
};

// A node that reads as the file does once the log is applied. It takes the file over, whatever happens.
struct block_node *vhdx_log_replay(struct block_node *file, const struct vhdx_log *log,
                                   struct err *err);

#endif
