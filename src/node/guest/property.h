// SPDX-License-Identifier: Apache-2.0
//
// Property strings: "local:100/vm-100-disk-0.qcow2,size=32G,ssd=1". Some have a first part without a name (their default key), network cards
// one whose name is their model. Printed, the first part stays first (with its key where it would be misread without) and the others follow in alphabetical order: clients compare strings.
//
// Pure.
#ifndef WIRT_NODE_GUEST_PROPERTY_H
#define WIRT_NODE_GUEST_PROPERTY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// Into {key: string}; `default_key` names the part without a name (NULL: there must be none). NULL and *err.
json_t *property_parse(const char *text, const char *default_key, struct err *err);
// To be freed. The default key's value comes first, bare.
char *property_print(const json_t *properties, const char *default_key);

// A network card: {"model": "virtio", "macaddr": "BC:24:11:…", "bridge": …}. An address is made where there is none.
json_t *property_parse_net(const char *text, struct err *err);
bool property_flag(const json_t *properties, const char *key); // "1", "on", "yes", "true"
char *property_print_net(const json_t *net);

// "32G", "4M", "528K", or bytes; as Proxmox prints sizes.
void property_size(uint64_t bytes, char text[24]);

#endif
