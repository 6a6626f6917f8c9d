// SPDX-License-Identifier: Apache-2.0
//
// The bootstrap CPU's first state: what the Linux boot protocol, PVH and multiboot ask for is nearly the same, flat segments
// from a small descriptor table and, for a 64-bit entry, page tables that map the first 4 GiB one to one with 2 MiB pages.
#include <assert.h>

#include "base/bits.h"
#include "machine/boot/boot.h"

#define GDT_ENTRIES       5
#define PTE_PRESENT_WRITE 3u
#define PTE_LARGE         0x80u
#define TSS_BYTES         0x68u

#define CODE64 0x00AF9B000000FFFFull
#define CODE32 0x00CF9B000000FFFFull
#define DATA32 0x00CF93000000FFFFull

static int put_page_tables(struct guest_memory *memory, struct err *err)
{
    uint64_t table[512] = {BOOT_PAGE_TABLES + 0x1000 + PTE_PRESENT_WRITE};
    if (boot_put(memory, BOOT_PAGE_TABLES, table, sizeof(table), err))
        return -1;
    table[0] = 0;
    for (unsigned i = 0; i < 4; i++)
        table[i] = BOOT_PAGE_TABLES + 0x2000 + i * 0x1000 + PTE_PRESENT_WRITE;
    if (boot_put(memory, BOOT_PAGE_TABLES + 0x1000, table, sizeof(table), err))
        return -1;
    for (unsigned directory = 0; directory < 4; directory++) {
        for (unsigned i = 0; i < 512; i++)
            table[i] =
                ((uint64_t)directory << 30 | (uint64_t)i << 21) | PTE_LARGE | PTE_PRESENT_WRITE;
        if (boot_put(memory, BOOT_PAGE_TABLES + 0x2000 + directory * 0x1000, table, sizeof(table),
                     err))
            return -1;
    }
    return 0;
}

static struct segment flat(uint16_t selector, uint32_t attributes)
{
    return (struct segment){.limit = UINT32_MAX, .attributes = attributes, .selector = selector};
}

static void set_flat_segments(const struct boot_entry *entry, struct cpu_state *cpu)
{
    uint32_t common = SEG_P | SEG_S | SEG_G | SEG_ACCESSED | SEG_WRITABLE;
    bool long_mode = entry->mode == BOOT_LONG_64;
    cpu->segment[SEG_CS] =
        flat(entry->code_selector, common | SEG_CODE | (long_mode ? SEG_L : SEG_DB));
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        if (i != SEG_CS)
            cpu->segment[i] = flat(entry->data_selector, common | SEG_DB);
    cpu->segment[SEG_TR] = (struct segment){.limit = TSS_BYTES - 1, .attributes = SEG_P | 0xB};
    cpu->segment[SEG_LDTR] = (struct segment){.attributes = SEG_UNUSABLE};
}

int boot_entry_apply(const struct boot_entry *entry, struct guest_memory *memory,
                     struct cpu_state *cpu, struct err *err)
{
    if (entry->mode == BOOT_RESET)
        return 0;
    uint64_t gdt[GDT_ENTRIES] = {0};
    assert(entry->code_selector / 8 < GDT_ENTRIES && entry->data_selector / 8 < GDT_ENTRIES);
    gdt[entry->code_selector / 8] = entry->mode == BOOT_LONG_64 ? CODE64 : CODE32;
    gdt[entry->data_selector / 8] = DATA32;
    if (boot_put(memory, BOOT_GDT, gdt, sizeof(gdt), err))
        return -1;
    cpu->gdtr = (struct descriptor_table){BOOT_GDT, sizeof(gdt) - 1};
    cpu->idtr = (struct descriptor_table){0, 0};
    set_flat_segments(entry, cpu);
    cpu->cr0 = CR0_PE | CR0_ET;
    if (entry->mode == BOOT_LONG_64) {
        if (put_page_tables(memory, err))
            return -1;
        cpu->cr0 |= CR0_PG;
        cpu->cr3 = BOOT_PAGE_TABLES;
        cpu->cr4 = CR4_PAE;
        cpu->efer = EFER_LME | EFER_LMA;
    }
    cpu->rflags = FLAG_FIXED1;
    for (unsigned i = 0; i < GPR_COUNT; i++)
        cpu->gpr[i] = 0;
    cpu->gpr[RAX] = entry->rax;
    cpu->gpr[RBX] = entry->rbx;
    cpu->gpr[RSI] = entry->rsi;
    cpu->rip = entry->rip;
    return 0;
}
