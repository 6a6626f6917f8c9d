// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/bits.h"
#include "machine/cpu/lapic_internal.h"

#define VERSION_VALUE 0x50014u // as lapic.c reads it
#define NS_PER_COUNT  1u       // the bus clock is 1 GHz

static unsigned divide_shift(uint32_t divide)
{
    unsigned code = (divide & 3) | (divide >> 1 & 4);
    return (code + 1) & 7;
}

static void put_bits(uint8_t *page, unsigned at, const uint32_t words[8])
{
    for (unsigned i = 0; i < 8; i++)
        store_le32(page + at + 16 * i, words[i]);
}

static void get_bits(const uint8_t *page, unsigned at, uint32_t words[8])
{
    for (unsigned i = 0; i < 8; i++)
        words[i] = load_le32(page + at + 16 * i);
}

void lapic_get_page(struct lapic *lapic, uint8_t page[LAPIC_PAGE_BYTES], uint64_t *tsc_deadline)
{
    uint32_t irr[8], tmr[8];
    for (unsigned i = 0; i < 8; i++) {
        irr[i] = lapic->irr[i];
        tmr[i] = lapic->tmr[i];
    }
    memset(page, 0, LAPIC_PAGE_BYTES);
    store_le32(page + APIC_ID, lapic_is_x2apic(lapic) ? lapic->vcpu->index : lapic->id);
    store_le32(page + APIC_VERSION, VERSION_VALUE);
    store_le32(page + APIC_TPR, lapic->tpr);
    uint32_t id = lapic->vcpu->index;
    store_le32(page + APIC_LDR,
               lapic_is_x2apic(lapic) ? (id >> 4) << 16 | 1u << (id & 15) : lapic->ldr);
    store_le32(page + APIC_DFR, lapic->dfr);
    store_le32(page + APIC_SVR, lapic->svr);
    put_bits(page, APIC_ISR, lapic->isr);
    put_bits(page, APIC_TMR, tmr);
    put_bits(page, APIC_IRR, irr);
    store_le32(page + APIC_ESR, lapic->esr >> 16);
    store_le32(page + APIC_ICR, (uint32_t)lapic->icr);
    store_le32(page + APIC_ICR_HIGH, (uint32_t)(lapic->icr >> 32));
    for (unsigned i = 0; i < LVT_COUNT; i++)
        store_le32(page + APIC_LVT_TIMER + 16 * i, lapic->lvt[i]);
    store_le32(page + APIC_TIMER_INITIAL, lapic->timer_initial);
    store_le32(page + APIC_TIMER_CURRENT, lapic_timer_current(lapic));
    store_le32(page + APIC_TIMER_DIVIDE, lapic->timer_divide);
    *tsc_deadline = lapic->timer_tsc_deadline;
}

void lapic_set_page(struct lapic *lapic, const uint8_t page[LAPIC_PAGE_BYTES],
                    uint64_t tsc_deadline)
{
    uint32_t irr[8], tmr[8];
    get_bits(page, APIC_ISR, lapic->isr);
    get_bits(page, APIC_TMR, tmr);
    get_bits(page, APIC_IRR, irr);
    for (unsigned i = 0; i < 8; i++) {
        lapic->irr[i] = irr[i];
        lapic->tmr[i] = tmr[i];
    }
    // In x2APIC mode the id and the logical destination follow from the CPU's number, and are kept as they were before.
    if (!lapic_is_x2apic(lapic)) {
        lapic->id = load_le32(page + APIC_ID);
        lapic->ldr = load_le32(page + APIC_LDR);
    }
    lapic->dfr = load_le32(page + APIC_DFR);
    lapic->svr = load_le32(page + APIC_SVR) & 0x1FF;
    lapic->tpr = load_le32(page + APIC_TPR) & 0xFF;
    lapic->esr = load_le32(page + APIC_ESR) << 16;
    lapic->icr = load_le32(page + APIC_ICR) | (uint64_t)load_le32(page + APIC_ICR_HIGH) << 32;
    pthread_mutex_lock(&lapic->timer_lock);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lapic->lvt[i] = load_le32(page + APIC_LVT_TIMER + 16 * i);
    lapic->timer_initial = load_le32(page + APIC_TIMER_INITIAL);
    lapic->timer_divide = load_le32(page + APIC_TIMER_DIVIDE) & 0xB;
    uint32_t counted = lapic->timer_initial - load_le32(page + APIC_TIMER_CURRENT);
    lapic->timer_start_ns = vm_clock_now_ns(lapic->timer.clock) -
                            ((uint64_t)counted * NS_PER_COUNT << divide_shift(lapic->timer_divide));
    lapic->timer_tsc_deadline = tsc_deadline;
    pthread_mutex_unlock(&lapic->timer_lock);
}
