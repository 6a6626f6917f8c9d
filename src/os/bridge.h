// SPDX-License-Identifier: Apache-2.0
//
// Bridges of the kernel, and TAP interfaces on them. For processes with the rights of a network's administrator. IPv4 addresses are in the host's order.
#ifndef WIRT_OS_BRIDGE_H
#define WIRT_OS_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define OS_INTERFACE_BYTES 16

// Makes the bridge, or takes the one that is there; it gets the hardware address, the address, and goes up.
int os_bridge_make(const char *name, const uint8_t mac[6], uint32_t address, unsigned prefix,
                   struct err *err);
void os_bridge_remove(const char *name);
// A new TAP interface on the bridge, up, as os_tap_open() gives it; `pattern` is its name with "%d" for a number that the kernel chooses. It goes when
// the descriptor is closed. -1 and *err.
int os_bridge_tap(const char *bridge, const char *pattern, char name[OS_INTERFACE_BYTES],
                  struct err *err);

bool os_interface_exists(const char *name);
// How many interfaces have names that begin so.
size_t os_interface_count(const char *prefix);
// Has another interface than this one an address that overlaps with the network?
bool os_interface_overlaps(uint32_t network, unsigned prefix, const char *but);
// Packets are routed from one interface to another. 0 or -errno.
int os_forwarding_enable(void);

#endif
