// SPDX-License-Identifier: Apache-2.0
//
// The saved form of devices and CPUs: self-describing sections of named fields.
//
// A section is: kind, instance name, version, then for each field its name, type, count and
// little-endian values, and a CRC-32C of it all. Loading finds fields by name, checks type, count
// and range of every value, and writes the device only when the whole section is good. Unknown,
// missing and doubled fields are errors, and so is another version than the table's.
// doc/formats/state.md describes the bytes.
//
// The caller stands the vCPUs still. Loading a section calls the table's `check` with a scratch
// copy of the device's struct that reaches to the end of its last field, and `loaded` when all is
// written.
#ifndef WIRT_MACHINE_STATE_STATE_H
#define WIRT_MACHINE_STATE_STATE_H

#include "machine/device/device.h"

#define STATE_NAME_BYTES 256 // of kinds, instances and fields, with the terminating zero

// Append the device's section to a growing buffer (owned by the caller, free() it).
struct state_buffer {
    uint8_t *bytes;
    size_t length, capacity;
};
void state_buffer_fini(struct state_buffer *buffer);
int state_save_device(const struct device *device, struct state_buffer *buffer, struct err *err);

// Load one section at `bytes` into `device`; *used is its length. Nothing of the device changes on
// failure.
int state_load_device(struct device *device, const uint8_t *bytes, size_t length, size_t *used,
                      struct err *err);

// Whose section stands at `bytes`, and how long it is. The checksum is checked.
struct state_section {
    char kind[STATE_NAME_BYTES], name[STATE_NAME_BYTES];
    uint32_t version;
    size_t length;
};
int state_read_section(const uint8_t *bytes, size_t length, struct state_section *section,
                       struct err *err);

// A whole list of devices, and back: each device of the list has exactly one section, in any order.
// When loading fails, devices whose sections came before the bad one have been written: such a
// machine must not run.
int state_save_devices(const struct device *first, struct state_buffer *buffer, struct err *err);
int state_load_devices(struct device *first, const uint8_t *bytes, size_t length, struct err *err);

#endif
