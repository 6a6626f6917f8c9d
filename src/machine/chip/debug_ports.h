// SPDX-License-Identifier: Apache-2.0
//
// Ports by which guests talk to whoever watches them:
//     0x80   POST codes, and Linux's delay: ignored
//     0xE9   a console, as Bochs has it; 0x402 the same for SeaBIOS's messages. Reading either gives 0xE9: it is there.
//     0xF4   debug exit: the value written ends the machine with status (value << 1) | 1
//     0x505  pvpanic (QEMU's specification, docs/specs/pvpanic): reading gives the events offered
#ifndef WIRT_MACHINE_CHIP_DEBUG_PORTS_H
#define WIRT_MACHINE_CHIP_DEBUG_PORTS_H

#include "machine/chip/chip.h"
#include "machine/device/char_backend.h"

struct debug_ports;

// They have no state. `console` gets the bytes of 0xE9, `firmware` those of 0x402; both must take
// all.
struct debug_ports *debug_ports_create(struct bus *ports, struct char_backend console,
                                       struct char_backend firmware, struct machine_events events,
                                       struct err *err);
void debug_ports_destroy(struct debug_ports *debug_ports);

#endif
