// SPDX-License-Identifier: Apache-2.0
//
// What every device has: a name, a way to reset it, and its state as a table of fields.
//
// From the table come saving, loading with range checks, the dump for people, and the unit test
// that saves, loads and compares each device (tests/unit/state). A device keeps everything that a
// guest could ever see in fields of the table; what can be derived is derived again in `loaded`.
#ifndef WIRT_MACHINE_DEVICE_DEVICE_H
#define WIRT_MACHINE_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum field_type {
    FIELD_TYPE_U8,
    FIELD_TYPE_U16,
    FIELD_TYPE_U32,
    FIELD_TYPE_U64,
    FIELD_TYPE_BOOL,
    FIELD_TYPE_COUNT
};

struct field {
    const char *name;
    uint32_t offset; // in the device's struct
    uint32_t count;  // 1, or the array's length
    enum field_type type;
    uint64_t min, max; // inclusive, checked at load; BOOL: 0..1 always
};

#define FIELD_RANGE(type_, struct_, member, count_, min_, max_)                                    \
    {                                                                                              \
#member, (uint32_t)offsetof(struct_, member), (count_), (type_), (min_), (max_)            \
    }
#define FIELD_U8(s, m)           FIELD_RANGE(FIELD_TYPE_U8, s, m, 1, 0, UINT8_MAX)
#define FIELD_U16(s, m)          FIELD_RANGE(FIELD_TYPE_U16, s, m, 1, 0, UINT16_MAX)
#define FIELD_U32(s, m)          FIELD_RANGE(FIELD_TYPE_U32, s, m, 1, 0, UINT32_MAX)
#define FIELD_U64(s, m)          FIELD_RANGE(FIELD_TYPE_U64, s, m, 1, 0, UINT64_MAX)
#define FIELD_BOOL(s, m)         FIELD_RANGE(FIELD_TYPE_BOOL, s, m, 1, 0, 1)
#define FIELD_U8_MAX(s, m, max)  FIELD_RANGE(FIELD_TYPE_U8, s, m, 1, 0, max)
#define FIELD_U16_MAX(s, m, max) FIELD_RANGE(FIELD_TYPE_U16, s, m, 1, 0, max)
#define FIELD_U32_MAX(s, m, max) FIELD_RANGE(FIELD_TYPE_U32, s, m, 1, 0, max)
#define FIELD_U8S(s, m)                                                                            \
    FIELD_RANGE(FIELD_TYPE_U8, s, m, (uint32_t)sizeof(((s *)0)->m), 0, UINT8_MAX)
#define FIELD_U16S(s, m)                                                                           \
    FIELD_RANGE(FIELD_TYPE_U16, s, m, (uint32_t)(sizeof(((s *)0)->m) / 2), 0, UINT16_MAX)
#define FIELD_U32S(s, m)                                                                           \
    FIELD_RANGE(FIELD_TYPE_U32, s, m, (uint32_t)(sizeof(((s *)0)->m) / 4), 0, UINT32_MAX)
#define FIELD_U64S(s, m)                                                                           \
    FIELD_RANGE(FIELD_TYPE_U64, s, m, (uint32_t)(sizeof(((s *)0)->m) / 8), 0, UINT64_MAX)

// One per kind of device, static const. NULL: nothing to do.
struct device_ops {
    const char *kind; // "uart", as it stands in a saved machine
    uint32_t version; // of the field table
    const struct field *fields;
    size_t field_count;
    void (*reset)(void *device); // the machine's reset line
    int (*check)(const void *device,
                 struct err *err);    // before load, of a scratch copy: relations between fields
    void (*loaded)(void *device);     // derive what is not in the table: lines, timers
    void (*save_begin)(void *device); // before save: bring the fields up to date
};

// Embedded in each device's struct; linked into the machine's list.
struct device {
    const struct device_ops *ops;
    const char *name; // of this instance: "uart0", "virtio3"
    void *self;       // the struct that `fields` describe
    struct device *next;
};

#endif
