// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/translate_trace.h"

#include <Zydis/Zydis.h>

#include "machine/engine/translate.h"

struct line {
    uint64_t shown_address;
    const uint8_t *bytes;
    size_t left;
};

// Prints one instruction; returns its length, at least 1.
static unsigned print_insn(FILE *to, const ZydisDecoder *decoder, const ZydisFormatter *formatter,
                           const struct line *line, const char *indent)
{
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    char text[128] = "(bad)";
    unsigned length = 1;

    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, line->bytes, line->left, &insn, operands))) {
        length = insn.length;
        ZydisFormatterFormatInstruction(formatter, &insn, operands, insn.operand_count_visible,
                                        text, sizeof(text), line->shown_address, NULL);
    }
    fprintf(to, "%s%012llx  ", indent, (unsigned long long)line->shown_address);
    for (unsigned i = 0; i < length; i++)
        fprintf(to, "%02x", line->bytes[i]);
    fprintf(to, "%*s", length < 10 ? (int)(2 * (10 - length)) : 0, "");
    fprintf(to, "  %s\n", text);
    return length;
}

static void print_code(FILE *to, const ZydisDecoder *decoder, const ZydisFormatter *formatter,
                       struct line line, const char *indent)
{
    while (line.left) {
        unsigned length = print_insn(to, decoder, formatter, &line, indent);
        line.shown_address += length;
        line.bytes += length;
        line.left -= length;
    }
}

static void print_block(void *context, const struct code_cache *cache, const struct block *block,
                        const uint8_t *guest)
{
    FILE *to = context;
    ZydisDecoder decoder;
    ZydisFormatter formatter;

    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    fprintf(to, "translate %llx (physical %llx, mode %x): %u instructions, %u bytes become %u\n",
            (unsigned long long)block->rip, (unsigned long long)block_physical(block), block->mode,
            block->instructions, block->guest_bytes, block->code_bytes);
    print_code(to, &decoder, &formatter, (struct line){block->rip, guest, block->guest_bytes},
               "  ");
    fputs("  host:\n", to);
    print_code(to, &decoder, &formatter,
               (struct line){(uint64_t)(uintptr_t)(cache->execute + block->code),
                             cache->write + block->code, block->code_bytes},
               "    ");
}

void translate_trace_to(struct cpu_system *system, FILE *to)
{
    struct translator *translator =
        system->backend == &engine_backend ? system->backend_data : NULL;

    if (!translator)
        return;
    translator->trace_context = to;
    translator->trace = to ? print_block : NULL;
}
