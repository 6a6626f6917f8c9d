// SPDX-License-Identifier: Apache-2.0
//
// Filters: nodes that look like the one they stand on and do one thing more. They are test
// instruments and live in the product, because a test should exercise the product.
#ifndef WIRT_MACHINE_BLOCK_FILTER_H
#define WIRT_MACHINE_BLOCK_FILTER_H

#include "machine/block/block_driver.h"

// Those that the options ask for; takes `node` over, whatever happens.
struct block_node *block_filters_add(struct block_node *node, const struct block_options *options,
                                     struct err *err);

// Records to `fd` (borrowed) what passes, in order: struct block_log_record. Writes, discards and
// flushes pass one at a time, so that the record is the order in which the storage saw them. A
// flush is recorded after it succeeded; a write that then failed may stand in the record too.
struct block_node *block_filter_log(struct block_node *node, int fd);

// Fails operations by countdown, see struct block_fault.
struct block_node *block_filter_fault(struct block_node *node, const struct block_fault *fault);

// Each operation takes at least so long.
struct block_node *block_filter_delay(struct block_node *node, uint64_t delay_ns);

#define BLOCK_LOG_MAGIC 0x31676f4c6b6c4277ull // "wBlkLog1"
// Little-endian; a write's bytes follow the record.
struct block_log_record {
    uint64_t magic;
    uint32_t op; // enum block_op; a resize is op BLOCK_OP_COUNT with the new size as offset
    uint32_t flags;
    uint64_t offset;
    uint64_t length;
};

#endif
