// SPDX-License-Identifier: Apache-2.0
//
// Work that may hang or crash, in a process of its own with a time limit. For programs of one thread.
#ifndef WIRT_OS_CHILD_H
#define WIRT_OS_CHILD_H

#include <stddef.h>

// `work` runs in a child and fills `answer`, a text; it comes back here. -1 when the child died or took longer than `limit_ms`: it is killed then.
typedef void os_child_work(void *context, char *answer, size_t bytes);
// Afterwards the child may still be ending.
int os_child_answer(os_child_work *work, void *context, unsigned limit_ms, char *answer,
                    size_t bytes);

// In the child: it is killed when it has used so much processor time more.
void os_child_limit(unsigned limit_ms);

#endif
