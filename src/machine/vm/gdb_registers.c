// SPDX-License-Identifier: Apache-2.0
#include "machine/vm/gdb_registers.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"

enum place { AT_STATE, AT_SELECTOR, AT_XSAVE, AT_TAGS, AT_NOWHERE };

struct gdb_register {
    const char *name;
    const char *type;
    uint8_t bits;
    uint8_t place;
    bool writable;
    uint16_t offset; // in struct cpu_state; AT_SELECTOR: the segment; AT_XSAVE: in the image
};

// clang-format off
#define STATE(name_, type_, bits_, member, writable_)                                              \
    {name_, type_, bits_, AT_STATE, writable_, (uint16_t)offsetof(struct cpu_state, member)}
#define GPR(name_, number, type_)     STATE(name_, type_, 64, gpr[number], true)
#define SELECTOR(name_, segment_)     {name_, "int32", 32, AT_SELECTOR, false, segment_}
#define ST(name_, n)                  {name_, "i387_ext", 80, AT_XSAVE, true, 32 + 16 * (n)}
#define XMM(name_, n)                 {name_, "uint128", 128, AT_XSAVE, true, 160 + 16 * (n)}
#define CONTROL(name_, member)        STATE(name_, "int64", 64, member, false)
#define X87(name_, offset_, writable_) {name_, "int", 32, AT_XSAVE, writable_, offset_}

// The order within a feature is gdb's (its 64bit-core.xml and 64bit-sse.xml); the numbers follow from it.
static const struct gdb_register core[] = {
    GPR("rax", RAX, "int64"), GPR("rbx", RBX, "int64"), GPR("rcx", RCX, "int64"), GPR("rdx", RDX, "int64"),
    GPR("rsi", RSI, "int64"), GPR("rdi", RDI, "int64"), GPR("rbp", RBP, "data_ptr"), GPR("rsp", RSP, "data_ptr"),
    GPR("r8", R8, "int64"), GPR("r9", R9, "int64"), GPR("r10", R10, "int64"), GPR("r11", R11, "int64"),
    GPR("r12", R12, "int64"), GPR("r13", R13, "int64"), GPR("r14", R14, "int64"), GPR("r15", R15, "int64"),
    STATE("rip", "code_ptr", 64, rip, true), STATE("eflags", "int32", 32, rflags, true),
    SELECTOR("cs", SEG_CS), SELECTOR("ss", SEG_SS), SELECTOR("ds", SEG_DS),
    SELECTOR("es", SEG_ES), SELECTOR("fs", SEG_FS), SELECTOR("gs", SEG_GS),
    ST("st0", 0), ST("st1", 1), ST("st2", 2), ST("st3", 3), ST("st4", 4), ST("st5", 5), ST("st6", 6), ST("st7", 7),
    X87("fctrl", 0, true), X87("fstat", 2, true), {"ftag", "int", 32, AT_TAGS, false, 0},
    {"fiseg", "int", 32, AT_NOWHERE, false, 0}, X87("fioff", 8, false), {"foseg", "int", 32, AT_NOWHERE, false, 0},
    X87("fooff", 16, false), X87("fop", 6, false),
};

static const struct gdb_register sse[] = {
    XMM("xmm0", 0), XMM("xmm1", 1), XMM("xmm2", 2), XMM("xmm3", 3), XMM("xmm4", 4), XMM("xmm5", 5), XMM("xmm6", 6),
    XMM("xmm7", 7), XMM("xmm8", 8), XMM("xmm9", 9), XMM("xmm10", 10), XMM("xmm11", 11), XMM("xmm12", 12),
    XMM("xmm13", 13), XMM("xmm14", 14), XMM("xmm15", 15), {"mxcsr", "int", 32, AT_XSAVE, true, 24},
};

static const struct gdb_register segments[] = {
    STATE("fs_base", "int64", 64, segment[SEG_FS].base, true), STATE("gs_base", "int64", 64, segment[SEG_GS].base, true),
};

static const struct gdb_register control[] = {
    CONTROL("k_gs_base", kernel_gs_base), CONTROL("cr0", cr0), CONTROL("cr2", cr2), CONTROL("cr3", cr3),
    CONTROL("cr4", cr4), CONTROL("efer", efer), CONTROL("cs_base", segment[SEG_CS].base),
    CONTROL("gdt_base", gdtr.base), CONTROL("idt_base", idtr.base),
};

// clang-format on

static const struct gdb_feature {
    const char *name;
    const struct gdb_register *registers;
    unsigned count;
} features[] = {
    {"org.gnu.gdb.i386.core", core, ARRAY_LENGTH(core)},
    {"org.gnu.gdb.i386.sse", sse, ARRAY_LENGTH(sse)},
    {"org.gnu.gdb.i386.segments", segments, ARRAY_LENGTH(segments)},
    {"org.wirt.control", control, ARRAY_LENGTH(control)},
};

static const struct gdb_register *find(unsigned number)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(features); i++) {
        if (number < features[i].count)
            return &features[i].registers[number];
        number -= features[i].count;
    }
    return NULL;
}

unsigned gdb_register_count(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < ARRAY_LENGTH(features); i++)
        count += features[i].count;
    return count;
}

unsigned gdb_register_bytes(unsigned number)
{
    const struct gdb_register *found = find(number);
    return found ? found->bits / 8u : 0;
}

// x87 control words have 16 bits in the image, MXCSR and the offsets 32.
static unsigned bytes_in_image(const struct gdb_register *r)
{
    bool narrow = r->bits == 32 && (r->offset == 0 || r->offset == 2 || r->offset == 6);
    return narrow ? 2 : r->bits / 8u;
}

void gdb_register_read(const struct cpu_state *cpu, unsigned number, uint8_t *value)
{
    const struct gdb_register *r = find(number);
    memset(value, 0, GDB_REGISTER_BYTES_MAX);
    switch ((enum place)r->place) {
    case AT_STATE:
        memcpy(value, (const uint8_t *)cpu + r->offset, r->bits / 8u);
        break;
    case AT_SELECTOR:
        store_le16(value, cpu->segment[r->offset].selector);
        break;
    case AT_XSAVE:
        memcpy(value, cpu->xsave + r->offset, bytes_in_image(r));
        break;
    case AT_TAGS: // abridged: 1 is not empty; gdb wants two bits each, 3 for empty
        for (unsigned i = 0; i < 8; i++)
            store_le16(value, (uint16_t)(load_le16(value) | (cpu->xsave[4] >> i & 1 ? 0u : 3u)
                                                                << (2 * i)));
        break;
    case AT_NOWHERE:
        break;
    }
}

void gdb_register_write(struct cpu_state *cpu, unsigned number, const uint8_t *value)
{
    const struct gdb_register *r = find(number);
    if (!r->writable)
        return;
    if (r->place == AT_STATE)
        memcpy((uint8_t *)cpu + r->offset, value, r->bits / 8u);
    else if (r->place == AT_XSAVE)
        memcpy(cpu->xsave + r->offset, value, bytes_in_image(r));
    cpu->rflags |= FLAG_FIXED1;
}

// ---- The description ----

static char xml[8192];
static pthread_once_t xml_once = PTHREAD_ONCE_INIT;

static void write_xml(void)
{
    FILE *out = fmemopen(xml, sizeof(xml), "w");
    fputs(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">"
        "<architecture>i386:x86-64</architecture>",
        out);
    for (unsigned i = 0; i < ARRAY_LENGTH(features); i++) {
        fprintf(out, "<feature name=\"%s\">", features[i].name);
        for (unsigned j = 0; j < features[i].count; j++) {
            const struct gdb_register *r = &features[i].registers[j];
            fprintf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"/>", r->name, r->bits,
                    r->type);
        }
        fputs("</feature>", out);
    }
    fputs("</target>", out);
    fclose(out);
}

const char *gdb_target_xml(void)
{
    pthread_once(&xml_once, write_xml);
    return xml;
}
