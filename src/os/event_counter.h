// SPDX-License-Identifier: Apache-2.0
//
// A descriptor that becomes readable when another thread raises it (an eventfd), so that an event
// loop can wait for it among its other descriptors. Thread safe.
#ifndef WIRT_OS_EVENT_COUNTER_H
#define WIRT_OS_EVENT_COUNTER_H

// Returns the descriptor (close-on-exec, non-blocking) or a negative errno. Closed by
// os_file_close().
int os_event_counter_open(void);
// The same for one that a ring reads (os/uring.h), which waits until it is raised and clears it by that.
int os_event_counter_open_for_ring(void);
void os_event_counter_raise(int fd);
// Makes it unreadable again until the next raise.
void os_event_counter_clear(int fd);
// Blocks until it is raised; does not clear.
void os_event_counter_wait(int fd);

#endif
