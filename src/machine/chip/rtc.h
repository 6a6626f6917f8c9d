// SPDX-License-Identifier: Apache-2.0
//
// MC146818 real-time clock and CMOS memory (Motorola MC146818A data sheet) at ports 0x70 and 0x71:
// time in BCD or binary, 12 or 24 hours, daily saving not offered; periodic, alarm and update-ended
// interrupts on IRQ 8; century at 0x32. The memory bytes tell firmware how much RAM there is.
//
// The clock shows the host's wall time plus an offset that the guest sets by setting the time.
#ifndef WIRT_MACHINE_CHIP_RTC_H
#define WIRT_MACHINE_CHIP_RTC_H

#include "machine/chip/chip.h"

struct rtc;

struct rtc *rtc_create(struct bus *ports, struct vm_clock *clock, struct irq_line irq8,
                       struct err *err);
void rtc_destroy(struct rtc *rtc);
struct device *rtc_device(struct rtc *rtc);

// Before the machine runs: RAM below and above 4 GiB as firmware reads it, and the number of CPUs
// (0x5F).
void rtc_set_memory(struct rtc *rtc, uint64_t low_bytes, uint64_t high_bytes);
void rtc_set_cpus(struct rtc *rtc, unsigned cpus);

// The HPET's legacy replacement takes IRQ 8 over.
void rtc_set_disconnected(struct rtc *rtc, bool disconnected);

#endif
