// SPDX-License-Identifier: Apache-2.0
//
// Disks on other machines: a wirt-io process speaks to the storage, and NBD over a Unix socket to whoever uses the disk, so that the sandbox of
// wirt-vm stays closed.
#ifndef WIRT_MACHINE_BLOCK_NBD_NODE_H
#define WIRT_MACHINE_BLOCK_NBD_NODE_H

#include "machine/block/block_driver.h"

// The lowest node on a socket to a wirt-io process, which it owns from here on, whatever it returns.
struct block_node *block_nbd_open(int fd, const char *name, bool read_only, uint64_t memory_limit,
                                  struct err *err);
bool block_node_is_remote(const struct block_node *node); // does it stand on such a one?

#endif
