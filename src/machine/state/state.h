// SPDX-License-Identifier: Apache-2.0
//
// The saved form of devices and CPUs: self-describing sections of named fields.
//
// A section is: kind, instance name, version, then for each field its name, type, count and little-endian values, and a
// CRC-32C of it all. Loading finds fields by name, checks type, count and range of every value, and writes the device only when
// the whole section is good. Unknown fields are an error (a newer machine), missing ones too unless the table says since
// which version they exist. doc/formats/state.md describes the bytes.
#ifndef WIRT_MACHINE_STATE_STATE_H
#define WIRT_MACHINE_STATE_STATE_H

#include "machine/device/device.h"

// Append the device's section to a growing buffer (owned by the caller, free() it).
struct state_buffer {
    uint8_t *bytes;
    size_t length, capacity;
};
void state_buffer_fini(struct state_buffer *buffer);
int state_save_device(const struct device *device, struct state_buffer *buffer, struct err *err);

// Load one section at `bytes` into `device`; *used is its length. Nothing of the device changes on failure.
int state_load_device(struct device *device, const uint8_t *bytes, size_t length, size_t *used, struct err *err);

#endif
