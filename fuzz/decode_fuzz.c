// SPDX-License-Identifier: Apache-2.0
//
// Any bytes into the decoder: the first chooses the mode, the rest is code. The sanitizers watch the reads; the
// asserts say what must hold of every answer, and that no answer depends on bytes that were not offered.
#include "machine/engine/decode.h"

#include "base/bits.h"
#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_field(const struct insn *insn, unsigned at, unsigned bytes)
{
    assert(at + bytes <= insn->length);
    assert(bytes == 0 || at > 0);
}

static void check_insn(const struct insn *insn)
{
    assert(insn->length >= 1 && insn->length <= INSN_MAX_BYTES);
    assert(insn->form && insn->form->op < INSN_OP_COUNT && insn->form->class < CLASS_COUNT);
    assert(insn->base == INSN_REG_NONE || insn->base <= INSN_REG_RIP);
    assert(insn->index == INSN_REG_NONE || insn->index < 16);
    assert(insn->reg < 16 && insn->rm < 16 && insn->vex_vvvv < 16 && insn->scale < 4);
    assert(insn->opcode_at < insn->length && insn->modrm_at < insn->length);
    check_field(insn, insn->displacement_at, insn->displacement_bytes);
    check_field(insn, insn->immediate_at, insn->immediate_bytes);
    check_field(insn, insn->immediate2_at, insn->immediate2_bytes);
    assert((insn_flags_written(insn) & insn_flags_undefined(insn)) == 0);
    assert(insn_memory_access(insn).bytes <= 512);
    (void)insn_registers_read(insn);
    (void)insn_registers_written(insn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum code_mode modes[3] = {CODE_16, CODE_32, CODE_64};
    if (size == 0)
        return 0;
    enum code_mode mode = modes[data[0] % 3];
    size_t count = size - 1;
    // In a block of its own size, so that the sanitizer sees a read beyond it.
    uint8_t *code = malloc(count ? count : 1);
    assert(code);
    memcpy(code, data + 1, count);
    struct insn insn, again;
    int length = decode(code, count, mode, &insn);
    if (length > 0) {
        assert((size_t)length <= count);
        check_insn(&insn);
        assert(decode(code, (size_t)length, mode, &again) == length);
        assert(decode(code, (size_t)length - 1, mode, &again) == DECODE_NEED_MORE);
    } else {
        assert(length == DECODE_NEED_MORE || length == DECODE_INVALID || length == DECODE_TOO_LONG);
        assert(length != DECODE_NEED_MORE || count < INSN_MAX_BYTES);
    }
    free(code);
    return 0;
}
