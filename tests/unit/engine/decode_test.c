// SPDX-License-Identifier: Apache-2.0
//
// The decoder against Zydis: every opcode with every ModRM byte under the mandatory prefixes, every VEX opcode, and
// random sequences; and what Zydis cannot say. DECODE_CASES and SEED in the environment make the random part
// longer and other.
#include "decode_zydis.h"

#include "base/bits.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const enum code_mode modes[3] = {CODE_16, CODE_32, CODE_64};

// ---- Collecting differences ----

// Differences seen, by kind and mnemonic, so that a wrong line of the table is told once.
struct tally {
    uint64_t cases;
    uint64_t explained;
    uint64_t unexplained;
    struct {
        enum difference difference;
        char zydis_name[24];
    } seen[400];
    unsigned seen_count;
};

static bool seen_before(struct tally *tally, const struct comparison *comparison)
{
    for (unsigned i = 0; i < tally->seen_count; i++) {
        if (tally->seen[i].difference == comparison->difference &&
            strcmp(tally->seen[i].zydis_name, comparison->zydis_name) == 0)
            return true;
    }
    if (tally->seen_count == ARRAY_LENGTH(tally->seen))
        return true;
    tally->seen[tally->seen_count].difference = comparison->difference;
    memcpy(tally->seen[tally->seen_count++].zydis_name, comparison->zydis_name,
           sizeof(comparison->zydis_name));
    return false;
}

static void check(struct tally *tally, const uint8_t *bytes, size_t available, enum code_mode mode)
{
    static const char *const names[DIFFERENCE_COUNT] = {"same",
                                                        "only we accept",
                                                        "only Zydis accepts",
                                                        "length",
                                                        "name",
                                                        "operands",
                                                        "access",
                                                        "memory size",
                                                        "flags read",
                                                        "flags changed",
                                                        "flags undefined",
                                                        "registers read",
                                                        "registers written"};
    struct comparison comparison;
    tally->cases++;
    compare_with_zydis(bytes, available, mode, &comparison);
    if (comparison.difference == SAME)
        return;
    if (comparison.reason) {
        tally->explained++;
        return;
    }
    tally->unexplained++;
    if (!seen_before(tally, &comparison))
        print_message("%s: %s\n", names[comparison.difference], comparison.text);
}

static void finish(const struct tally *tally)
{
    print_message("%llu sequences, %llu known differences\n", (unsigned long long)tally->cases,
                  (unsigned long long)tally->explained);
    assert_int_equal(tally->unexplained, 0);
}

// ---- Making sequences ----

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill_random(uint64_t *state, uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(next_random(state) >> 24);
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

// The opcode bytes of a map; returns how many.
static unsigned put_opcode(uint8_t *bytes, enum insn_map map, uint8_t opcode)
{
    unsigned at = 0;
    if (map != MAP_ONE)
        bytes[at++] = 0x0F;
    if (map == MAP_0F38 || map == MAP_0F3A)
        bytes[at++] = map == MAP_0F38 ? 0x38 : 0x3A;
    bytes[at++] = opcode;
    return at;
}

static void put_vex(uint8_t *bytes, unsigned map, uint8_t opcode, unsigned w_vvvv_l_pp,
                    unsigned rxb)
{
    bytes[0] = 0xC4;
    bytes[1] = (uint8_t)(rxb << 5 | map);
    bytes[2] = (uint8_t)w_vvvv_l_pp;
    bytes[3] = opcode;
}

// ---- Tests ----

static void test_every_opcode_and_modrm(void **state)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xF3, 0xF2};
    struct tally tally = {0};
    uint64_t random = 0x9E3779B97F4A7C15;
    for (unsigned i = 0; i < 3 * 4 * ARRAY_LENGTH(prefixes) * 65536; i++) {
        uint8_t bytes[16];
        unsigned modrm = i & 255, opcode = i >> 8 & 255, rest = i >> 16;
        enum code_mode mode = modes[rest % 3];
        enum insn_map map = rest / 3 % 4;
        uint8_t prefix = prefixes[rest / 12];
        fill_random(&random, bytes, sizeof(bytes));
        bytes[0] = prefix;
        unsigned at = prefix ? 1 : 0;
        at += put_opcode(bytes + at, map, (uint8_t)opcode);
        bytes[at] = (uint8_t)modrm;
        check(&tally, bytes, sizeof(bytes), mode);
    }
    finish(&tally);
}

static void test_every_vex_opcode(void **state)
{
    struct tally tally = {0};
    uint64_t random = 0x2545F4914F6CDD1D;
    for (unsigned i = 0; i < 3 * 3 * 16 * 2 * 32 * 256; i++) {
        uint8_t bytes[16];
        unsigned opcode = i & 255, modrm = i >> 8 & 31, vvvv = i >> 13 & 1, w_l_pp = i >> 14 & 15;
        unsigned map = (i >> 18) % 3, mode = (i >> 18) / 3;
        fill_random(&random, bytes, sizeof(bytes));
        put_vex(bytes, map + 1, (uint8_t)opcode,
                (w_l_pp & 8) << 4 | (vvvv ? 15u : bytes[2] & 15u) << 3 | (w_l_pp & 7),
                mode == 2 ? bytes[1] & 7u : 7);
        bytes[4] = (uint8_t)((modrm & 24) << 3 | (bytes[4] & 0x38) | (modrm & 7));
        check(&tally, bytes, sizeof(bytes), modes[mode]);
    }
    finish(&tally);
}

// Some prefixes, some map, some opcode, anything after it.
static void test_random_sequences(void **state)
{
    static const uint8_t prefixes[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x66, 0x67,
                                       0xF0, 0xF2, 0xF3, 0x40, 0x41, 0x44, 0x48, 0x4C, 0x4F};
    struct tally tally = {0};
    uint64_t seed = number_from_environment("SEED", 1), random = seed * 0x9E3779B97F4A7C15 | 1;
    uint64_t cases = number_from_environment("DECODE_CASES", 3000000);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < cases; i++) {
        uint8_t bytes[24];
        uint64_t choice = next_random(&random);
        unsigned at = 0, prefix_count = choice & 3;
        fill_random(&random, bytes, sizeof(bytes));
        for (; at < prefix_count; at++)
            bytes[at] = prefixes[bytes[at] % ARRAY_LENGTH(prefixes)];
        if (choice & 4)
            put_vex(bytes + at, (unsigned)(choice >> 8) % 3 + 1, bytes[at + 3], bytes[at + 2],
                    bytes[at + 1] & 7);
        else if (choice & 8)
            put_opcode(bytes + at, choice >> 8 & 3, bytes[at + 4]);
        size_t available = (choice >> 16) % 16 == 0 ? (choice >> 24) % 16 : 16;
        check(&tally, bytes, available, modes[(choice >> 32) % 3]);
    }
    finish(&tally);
}

// ---- What Zydis does not say ----

static int decode_text(enum code_mode mode, const char *text, size_t length, struct insn *insn)
{
    return decode((const uint8_t *)text, length, mode, insn);
}

// Every beginning of an instruction asks for more, or is known to be invalid; none reads beyond.
static void test_truncated_instructions_need_more(void **state)
{
    static const char text[] = "\x66\x2E\x48\x81\x84\x8B\x11\x22\x33\x44\x55\x66\x77\x01";
    struct insn insn;
    int length = decode_text(CODE_64, text, sizeof(text) - 1, &insn);
    assert_int_equal(length, 14);
    for (int i = 0; i < length; i++)
        assert_int_equal(decode_text(CODE_64, text, (size_t)i, &insn), DECODE_NEED_MORE);
}

static void test_sixteen_bytes_are_too_long(void **state)
{
    uint8_t bytes[16];
    struct insn insn;
    memset(bytes, 0x66, sizeof(bytes));
    assert_int_equal(decode(bytes, 15, CODE_32, &insn), DECODE_TOO_LONG);
    assert_int_equal(decode(bytes, 14, CODE_32, &insn), DECODE_NEED_MORE);
    bytes[14] = 0x90;
    assert_int_equal(decode(bytes, 15, CODE_32, &insn), 15);
    bytes[14] = 0x04; // ADD AL, with its immediate in the 16th byte
    assert_int_equal(decode(bytes, 16, CODE_32, &insn), DECODE_TOO_LONG);
}

// What is refused has a length, too, as processors count it: expected are NEED_MORE up to there, #UD, and #GP when prefixes
// make it 16 bytes.
static void check_refused(enum code_mode mode, const char *text, unsigned length)
{
    struct insn insn;
    for (unsigned i = 1; i < length; i++)
        assert_int_equal(decode_text(mode, text, i, &insn), DECODE_NEED_MORE);
    uint8_t bytes[INSN_MAX_BYTES + 16];
    for (unsigned prefixes = 0; prefixes <= INSN_MAX_BYTES - 3; prefixes++) {
        memset(bytes, 0x67, prefixes);
        memcpy(bytes + prefixes, text, length);
        assert_int_equal(decode(bytes, prefixes + length, mode, &insn),
                         prefixes + length > INSN_MAX_BYTES ? DECODE_TOO_LONG : DECODE_INVALID);
    }
}

static void test_refused_instructions_are_fetched_whole(void **state)
{
    check_refused(CODE_64, "\xC7\xF8\x01\x02\x03\x04", 6); // group 11 has /0 alone
    check_refused(CODE_64, "\xC7\xBC\x05\x01\x02\x03\x04\x05\x06\x07\x08", 11);
    check_refused(CODE_64, "\xF0\x81\xF8\x01\x02\x03\x04", 7); // LOCK CMP
    check_refused(CODE_64, "\xEA\x01\x02\x03\x04\x05\x06", 7); // far JMP
    check_refused(CODE_64, "\x82\x80\x01\x02\x03\x04\x05", 7);
    check_refused(CODE_64, "\x0F\x78\xC0\x01\x02", 5);             // EXTRQ without 66
    check_refused(CODE_64, "\x0F\x38\xFE\x88\x01\x02\x03\x04", 8); // no opcode of the table
    check_refused(CODE_64, "\x0F\x3A\xFE\x88\x01\x02\x03\x04\x05", 9);
    check_refused(CODE_64, "\xC4\xE3\x7D\x82\x80\x01\x02\x03\x04\x05", 10);
    check_refused(CODE_64, "\xF0\xC5\xF8\xC6\x80\x01\x02\x03\x04\x05", 10); // LOCK VSHUFPS
    check_refused(CODE_64, "\x48\xC5\xF8\xC6\x80\x01\x02\x03\x04\x05", 10); // REX before VEX
    check_refused(CODE_32, "\xC7\xF8\x01\x02\x03\x04", 6);
}

// VEX.W is no more ignored in 32-bit code than in 64-bit code: VPERMQ and VPERMPD have W1.
static void test_permutations_need_w(void **state)
{
    static const enum code_mode with_vex[] = {CODE_32, CODE_64};
    struct insn insn;
    for (unsigned i = 0; i < ARRAY_LENGTH(with_vex); i++) {
        assert_int_equal(decode_text(with_vex[i], "\xC4\xE3\xFD\x00\xC1\x1B", 6, &insn), 6);
        assert_int_equal(decode_text(with_vex[i], "\xC4\xE3\x7D\x00\xC1\x1B", 6, &insn),
                         DECODE_INVALID);
        assert_int_equal(decode_text(with_vex[i], "\xC4\xE3\xFD\x01\xC1\x1B", 6, &insn), 6);
        assert_int_equal(decode_text(with_vex[i], "\xC4\xE3\x7D\x01\xC1\x1B", 6, &insn),
                         DECODE_INVALID);
    }
}

static void test_offsets_point_at_the_fields(void **state)
{
    static const char text[] = "\x65\x66\x41\xC7\x84\xC8\x78\x56\x34\x12\xCD\xAB";
    struct insn insn;
    assert_int_equal(decode_text(CODE_64, text, sizeof(text) - 1, &insn), 12);
    assert_int_equal(insn.form->op, OP_MOV);
    assert_int_equal(insn.opcode_at, 3);
    assert_int_equal(insn.modrm_at, 4);
    assert_int_equal(insn.displacement_at, 6);
    assert_int_equal(insn.displacement_bytes, 4);
    assert_int_equal(insn.immediate_at, 10);
    assert_int_equal(insn.immediate_bytes, 2);
    assert_int_equal(insn.base, R8);
    assert_int_equal(insn.index, RCX);
    assert_int_equal(insn.scale, 3);
    assert_int_equal(insn.segment, SEG_GS);
}

static void test_second_immediates(void **state)
{
    struct insn insn;
    assert_int_equal(decode_text(CODE_64, "\xC8\x34\x12\x05", 4, &insn), 4); // ENTER
    assert_int_equal(insn.immediate, 0x1234);
    assert_int_equal(insn.immediate2, 5);
    assert_int_equal(insn.immediate2_at, 3);
    assert_int_equal(decode_text(CODE_16, "\xEA\x34\x12\x00\xF0", 5, &insn), 5); // JMP far
    assert_int_equal(insn.immediate, 0x1234);
    assert_int_equal(insn.immediate2, 0xF000);
    assert_int_equal(insn.immediate2_bytes, 2);
}

static void test_older_meanings(void **state)
{
    struct insn insn;
    assert_int_equal(decode_text(CODE_64, "\xF3\x0F\xBC\xC1", 4, &insn), 4);
    assert_int_equal(insn.form->op, OP_TZCNT);
    assert_true(insn_fall_back(&insn));
    assert_int_equal(insn.form->op, OP_BSF);
    assert_int_equal(decode_text(CODE_64, "\xF3\x0F\xBD\xC1", 4, &insn), 4);
    assert_true(insn_fall_back(&insn));
    assert_int_equal(insn.form->op, OP_BSR);
    assert_int_equal(decode_text(CODE_64, "\xF3\x0F\xB8\xC1", 4, &insn), 4);
    assert_int_equal(insn.form->op, OP_POPCNT);
    assert_false(insn_fall_back(&insn));
}

static void test_lock_needs_memory_and_a_lockable_operation(void **state)
{
    struct insn insn;
    assert_int_equal(decode_text(CODE_64, "\xF0\x01\x03", 3, &insn), 3);  // ADD [RBX], EAX
    assert_int_equal(decode_text(CODE_64, "\xF0\x01\xC3", 3, &insn), -2); // ADD EBX, EAX
    assert_int_equal(decode_text(CODE_64, "\xF0\x03\x03", 3, &insn), -2); // ADD EAX, [RBX]
    assert_int_equal(decode_text(CODE_64, "\xF0\x89\x03", 3, &insn), -2); // MOV [RBX], EAX
}

static void test_address_only_operands_are_no_access(void **state)
{
    struct insn insn;
    assert_int_equal(decode_text(CODE_64, "\x48\x8D\x04\x8B", 4, &insn), 4); // LEA RAX, [RBX+RCX*4]
    assert_int_equal(insn_memory_access(&insn).access, ACCESS_NONE);
    assert_int_equal(insn_registers_read(&insn), 1 << RBX | 1 << RCX);
    assert_int_equal(decode_text(CODE_64, "\x0F\x1F\x40\x00", 4, &insn), 4); // NOP [RAX]
    assert_int_equal(insn_memory_access(&insn).access, ACCESS_NONE);
    assert_int_equal(decode_text(CODE_64, "\x48\xA5", 2, &insn), 2); // MOVSQ
    assert_int_equal(insn_memory_access(&insn).access, ACCESS_WRITE);
    assert_int_equal(insn_memory_access(&insn).bytes, 8);
}

static void test_lock_mov_cr0_is_cr8(void **state)
{
    struct insn insn;
    assert_int_equal(decode_text(CODE_32, "\xF0\x0F\x20\xC0", 4, &insn), 4);
    assert_int_equal(insn.reg, 8);
    assert_int_equal(insn.form->feature, CPU_FEATURE_CR8_LEGACY);
    assert_int_equal(decode_text(CODE_32, "\xF0\x0F\x20\xD8", 4, &insn), DECODE_INVALID); // CR3
    assert_int_equal(decode_text(CODE_32, "\x0F\x20\xC0", 3, &insn), 3);
    assert_int_equal(insn.reg, 0);
}

// A shift by 0 changes nothing, by CL perhaps nothing: neither kills the flags before it.
static void test_flags_killed_by_shifts(void **state)
{
    struct insn insn;
    assert_int_equal(decode_text(CODE_64, "\xC1\xE0\x00", 3, &insn), 3);
    assert_int_equal(insn_flags_written(&insn) | insn_flags_undefined(&insn), 0);
    assert_int_equal(decode_text(CODE_64, "\xC1\xE0\x05", 3, &insn), 3);
    assert_int_equal(insn_flags_killed(&insn), FLAGS_STATUS);
    assert_int_equal(decode_text(CODE_64, "\x48\xC0\xE0\x20", 4, &insn),
                     4); // SHL AL, 32: W is ignored
    assert_int_equal(insn_flags_killed(&insn), 0);
    assert_int_equal(decode_text(CODE_64, "\xD3\xE0", 2, &insn), 2);
    assert_int_equal(insn_flags_killed(&insn), 0);
    assert_int_equal(decode_text(CODE_64, "\xF3\xA6", 2, &insn), 2); // REPE CMPSB
    assert_int_equal(insn_flags_killed(&insn), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_opcode_and_modrm),
        cmocka_unit_test(test_every_vex_opcode),
        cmocka_unit_test(test_random_sequences),
        cmocka_unit_test(test_truncated_instructions_need_more),
        cmocka_unit_test(test_sixteen_bytes_are_too_long),
        cmocka_unit_test(test_refused_instructions_are_fetched_whole),
        cmocka_unit_test(test_permutations_need_w),
        cmocka_unit_test(test_offsets_point_at_the_fields),
        cmocka_unit_test(test_second_immediates),
        cmocka_unit_test(test_older_meanings),
        cmocka_unit_test(test_lock_needs_memory_and_a_lockable_operation),
        cmocka_unit_test(test_lock_mov_cr0_is_cr8),
        cmocka_unit_test(test_address_only_operands_are_no_access),
        cmocka_unit_test(test_flags_killed_by_shifts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
