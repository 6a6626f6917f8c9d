// SPDX-License-Identifier: Apache-2.0
//
// Instructions on the real processor and under a tier of the engine, compared.
//
//     diff_test [--tier interpreter|engine] [--absent MODEL] [--rounds N] [--sequences N] [--invalid N] [--vex] [--seed N] [--op NAME]
//               [--case SEED (--form N --mode 16|32|64 | --sequence | --invalid 1 | --vex)]
//
// Each round makes one case of each form in 64-, 32- and 16-bit mode; without --rounds one round follows the other until it is
// interrupted. --sequences makes that many cases of several instructions instead, --invalid that many of bytes that are no
// instruction, --vex one of each payload and opcode of VEX that is none; --absent checks that each form which that CPU model
// does not offer is #UD. --op limits it to operations of that name; --case repeats what a difference printed.
#include "compare.h"
#include "native.h"
#include "tier.h"

#include "base/bits.h"
#include "machine/engine/decode_table.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 1024, TOLD_AT_MOST = 40 };

struct options {
    const char *tier;
    const char *op;
    const char *absent; // CPU model
    uint64_t rounds;    // 0: without end
    uint64_t sequences; // this many, instead of rounds
    uint64_t invalid;   // this many, instead of rounds
    uint64_t seed;
    uint64_t case_seed;
    unsigned form;
    enum code_mode mode; // 0: both
    bool one;            // case_seed
    bool one_sequence;   // and it is a sequence
    bool vex;            // DIFF_VEX_CASES, instead of rounds
};

struct run {
    struct tier *tier;
    struct diff_case *cases;     // shared with the child
    struct diff_result *results; // native, shared with the child
    unsigned *forms;             // of each case
    unsigned count;
    uint64_t done, completed, endless, different, told;
    bool with_16_bit;
    const char *
        kind; // option of the cases, or NULL: they are of forms of the table, and one difference of a form is told
    bool *form_differs;
    bool *form_ran;
};

// ---- Comparing ----

static void judge(struct run *run, unsigned i, const char *tier_name)
{
    static struct diff_result mine;
    const struct diff_case *c = &run->cases[i];
    if (run->results[i].endless) {
        run->endless++;
        return;
    }
    tier_run(run->tier, c, &mine);
    const char *what = compare_results(c, &run->results[i], &mine);
    run->done++;
    run->completed += run->results[i].vector == EXC_NONE;
    if (!run->kind)
        run->form_ran[run->forms[i]] = true;
    if (!what)
        return;
    run->different++;
    if ((!run->kind && run->form_differs[run->forms[i]]) || run->told++ >= TOLD_AT_MOST)
        return;
    run->form_differs[run->forms[i]] = true;
    print_difference(c, &run->results[i], &mine, tier_name, what);
    printf("    repeat: --tier %s --case 0x%llx", tier_name, (unsigned long long)c->seed);
    if (run->kind)
        printf(" %s\n", run->kind);
    else
        printf(" --form %u --mode %u\n", run->forms[i], (unsigned)c->mode);
}

// The child died in a case: that is a difference of its own (the case should not have been made).
static void tell_death(struct run *run, unsigned i)
{
    const struct diff_case *c = &run->cases[i];
    printf("native: the child died in form %u, %u-bit, seed %llx, bytes", run->forms[i],
           (unsigned)c->mode, (unsigned long long)c->seed);
    for (unsigned k = 0; k < c->length; k++)
        printf(" %02x", c->bytes[k]);
    printf("\n");
    run->different++;
}

static void flush(struct run *run, const char *tier_name)
{
    for (unsigned at = 0; at < run->count;) {
        unsigned end = at + native_run(run->cases + at, run->results + at, run->count - at);
        for (; at < end; at++)
            judge(run, at, tier_name);
        if (at < run->count)
            tell_death(run, at++);
    }
    run->count = 0;
    fflush(stdout);
}

// ---- Choosing ----

static bool wanted(const struct run *run, const struct options *options, unsigned form)
{
    const struct insn_form *f = &insn_forms[form];
    return tier_offers(run->tier, f) &&
           (!options->op || strcmp(options->op, insn_op_name((enum insn_op)f->op)) == 0);
}

static void add(struct run *run, const struct options *options, unsigned form, enum code_mode mode,
                uint64_t seed)
{
    struct diff_case *c = &run->cases[run->count];
    c->fs_base = native_fs_base();
    c->gs_base = native_gs_base();
    if (!diff_case_make(c, form, mode, seed))
        return;
    run->forms[run->count++] = form;
    if (run->count == BATCH)
        flush(run, options->tier);
}

static bool offered(const void *context, const struct insn_form *form)
{
    return tier_offers(context, form);
}

static void add_other(struct run *run, const struct options *options, uint64_t seed)
{
    struct diff_case *c = &run->cases[run->count];
    c->fs_base = native_fs_base();
    c->gs_base = native_gs_base();
    bool made;
    if (options->vex)
        made = diff_invalid_vex(c, (uint32_t)seed);
    else if (options->invalid)
        made = diff_invalid_make(c, seed & 1 ? CODE_32 : CODE_64, seed);
    else
        made = diff_sequence_make(c, seed, offered, run->tier);
    if (!made)
        return;
    run->forms[run->count++] = 0;
    if (run->count == BATCH)
        flush(run, options->tier);
}

static void run_round(struct run *run, const struct options *options, uint64_t *random)
{
    static const enum code_mode modes[3] = {CODE_64, CODE_32, CODE_16};
    for (unsigned form = 0; form < insn_form_count; form++) {
        for (unsigned m = 0; m < ARRAY_LENGTH(modes); m++) {
            uint64_t seed = diff_random(random);
            bool mode_wanted =
                options->mode ? options->mode == modes[m] : modes[m] != CODE_16 || run->with_16_bit;
            if (mode_wanted && wanted(run, options, form))
                add(run, options, form, modes[m], seed);
        }
    }
}

// What the model does not offer is #UD, whatever the operands; unless the bytes had a meaning before that extension, or cannot
// even be fetched.
static void check_absent_form(struct run *run, unsigned form, uint64_t *random)
{
    static struct diff_result result;
    struct diff_case *c = &run->cases[0];
    c->fs_base = native_fs_base();
    c->gs_base = native_gs_base();
    if (!diff_case_make(c, form, CODE_64, diff_random(random)))
        return;
    tier_run(run->tier, c, &result);
    bool in_page = c->code - CODE_ADDRESS + c->length <= AREA_PAGE;
    run->done++;
    if (result.vector == EXC_UD || !in_page)
        return;
    run->different++;
    if (run->form_differs[form])
        return;
    run->form_differs[form] = true;
    printf("%s is not offered, but no #UD (%u)\n", insn_op_name((enum insn_op)insn_forms[form].op),
           result.vector);
}

static void check_absent(struct run *run, uint64_t *random)
{
    for (unsigned form = 0; form < insn_form_count; form++) {
        const struct insn_form *f = &insn_forms[form];
        bool older_meaning = f->attributes & INSN_FALLBACK;
        for (unsigned i = 0; i < 10 && !older_meaning && !tier_offers(run->tier, f); i++)
            check_absent_form(run, form, random);
    }
}

static void count_forms(const struct run *run)
{
    unsigned ran = 0, left_out = 0, not_offered = 0, rest = 0;
    for (unsigned i = 0; i < insn_form_count; i++) {
        if (run->form_ran[i])
            ran++;
        else if (diff_skip_reason(&insn_forms[i]))
            left_out++;
        else if (!tier_offers(run->tier, &insn_forms[i]))
            not_offered++;
        else
            rest++;
    }
    printf("forms: %u compared, %u left out with a reason, %u not offered, %u without a case\n",
           ran, left_out, not_offered, rest);
}

// ---- The program ----

static bool parse(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {{"tier", required_argument, NULL, 't'},
                                          {"rounds", required_argument, NULL, 'r'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"op", required_argument, NULL, 'o'},
                                          {"case", required_argument, NULL, 'c'},
                                          {"form", required_argument, NULL, 'f'},
                                          {"mode", required_argument, NULL, 'm'},
                                          {"sequences", required_argument, NULL, 'q'},
                                          {"invalid", required_argument, NULL, 'i'},
                                          {"absent", required_argument, NULL, 'a'},
                                          {"sequence", no_argument, NULL, 'Q'},
                                          {"vex", no_argument, NULL, 'v'},
                                          {0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        uint64_t number = optarg ? strtoull(optarg, NULL, 0) : 0;
        if (option == 't')
            options->tier = optarg;
        else if (option == 'r')
            options->rounds = number;
        else if (option == 's')
            options->seed = number;
        else if (option == 'q')
            options->sequences = number;
        else if (option == 'a')
            options->absent = optarg;
        else if (option == 'i')
            options->invalid = number;
        else if (option == 'Q')
            options->one_sequence = true;
        else if (option == 'o')
            options->op = optarg;
        else if (option == 'v')
            options->vex = true;
        else if (option == 'c')
            options->case_seed = number, options->one = true;
        else if (option == 'f')
            options->form = (unsigned)number;
        else if (option == 'm')
            options->mode = number == 16 ? CODE_16 : number == 32 ? CODE_32 : CODE_64;
        else
            return false;
    }
    return options->form < insn_form_count;
}

static const char *kind_of(const struct options *options)
{
    if (options->vex)
        return "--vex";
    if (options->invalid)
        return "--invalid 1";
    return options->one_sequence || options->sequences ? "--sequence" : NULL;
}

int main(int argc, char **argv)
{
    const char *seed = getenv("SEED");
    struct options options = {.tier = "interpreter", .seed = seed ? strtoull(seed, NULL, 0) : 1};
    if (!parse(argc, argv, &options))
        return 2;
    struct run run = {.tier = tier_create(options.tier, options.absent ? options.absent : "host"),
                      .cases = native_shared_alloc(BATCH * sizeof(struct diff_case)),
                      .results = native_shared_alloc(BATCH * sizeof(struct diff_result)),
                      .forms = calloc(BATCH, sizeof(unsigned)),
                      .form_differs = calloc(insn_form_count, sizeof(bool)),
                      .form_ran = calloc(insn_form_count, sizeof(bool))};
    if (!run.tier)
        return 1;
    run.kind = kind_of(&options);
    run.with_16_bit = native_offers_16_bit();
    if (!run.with_16_bit)
        printf("no 16-bit code: the kernel refuses an LDT\n");
    printf("seed %llu\n", (unsigned long long)options.seed);
    uint64_t random = options.seed;
    if (options.one && run.kind)
        add_other(&run, &options, options.case_seed);
    else if (options.one)
        add(&run, &options, options.form, options.mode, options.case_seed);
    if (options.absent)
        check_absent(&run, &random);
    uint64_t others = options.vex ? DIFF_VEX_CASES : options.sequences + options.invalid;
    bool single = !options.one && !others && !options.absent;
    for (uint64_t i = 0; !options.one && i < others; i++)
        add_other(&run, &options, options.vex ? i : diff_random(&random));
    for (uint64_t i = 0; single && (options.rounds == 0 || i < options.rounds); i++)
        run_round(&run, &options, &random);
    flush(&run, options.tier);
    printf("%llu cases (%llu without an exception), %llu differences\n",
           (unsigned long long)run.done, (unsigned long long)run.completed,
           (unsigned long long)run.different);
    if (run.endless)
        printf("%llu more never ended, and were left out\n", (unsigned long long)run.endless);
    if (single)
        count_forms(&run);
    tier_destroy(run.tier);
    free(run.forms);
    free(run.form_differs);
    free(run.form_ran);
    return run.different ? 1 : 0;
}
