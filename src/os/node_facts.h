// SPDX-License-Identifier: Apache-2.0
//
// What /proc and the kernel say about this machine. Thread safe.
#ifndef WIRT_OS_NODE_FACTS_H
#define WIRT_OS_NODE_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct os_node_facts {
    unsigned cpus;
    double cpu; // busy share since the last call
    double load[3];
    uint64_t memory_bytes, memory_free_bytes; // free: available without swapping
    uint64_t root_bytes, root_used_bytes;
    uint64_t uptime_s;
    char kernel[256], cpu_model[128], cpu_mhz[16], cpu_flags[4096];
    bool kvm;
};
void os_node_facts(struct os_node_facts *facts);

void os_node_name(char *name, size_t size);       // without its domain
void os_node_address(char *address, size_t size); // the first that is not loopback, or 127.0.0.1

struct os_node_interface {
    char name[16], address[46], netmask[46];
    unsigned prefix;
    bool up, bridge;
};
void os_node_interfaces(bool (*each)(void *user, const struct os_node_interface *interface),
                        void *user);

#endif
