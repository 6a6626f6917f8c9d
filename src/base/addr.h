// SPDX-License-Identifier: Apache-2.0
//
// Guest addresses as types of their own, so that a guest physical address, a guest linear address and a
// host pointer never convert into one another by accident. (Segment-relative offsets are plain uint64_t.)
#ifndef WIRT_BASE_ADDR_H
#define WIRT_BASE_ADDR_H

#include <stdint.h>

// Guest physical address.
struct gpa {
    uint64_t at;
};

// Guest linear ("virtual") address, after segmentation, before paging.
struct gva {
    uint64_t at;
};

static inline struct gpa gpa(uint64_t at)
{
    return (struct gpa){at};
}

static inline struct gva gva(uint64_t at)
{
    return (struct gva){at};
}

static inline struct gpa gpa_add(struct gpa a, uint64_t n)
{
    return (struct gpa){a.at + n};
}

static inline struct gva gva_add(struct gva a, uint64_t n)
{
    return (struct gva){a.at + n};
}

#endif
