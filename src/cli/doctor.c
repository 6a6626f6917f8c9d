// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char *const state_names[] = {"good", "partly", "no"};
_Static_assert(sizeof(state_names) / sizeof(state_names[0]) == DOCTOR_STATE_COUNT,
               "a name for each state");

static void print_line(const char *what, const char *text)
{
    if (text)
        printf("%24s %s: %s\n", "", what, text);
}

static void print_text(const struct doctor_finding *finding)
{
    printf("%-16s %-7s %s\n", finding->name, state_names[finding->state], finding->found);
    print_line("wirt uses", finding->use);
    print_line("lost", finding->lost);
    print_line("to change", finding->change);
}

static json_t *as_json(const struct doctor_finding *finding)
{
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s}", "name", finding->name, "state",
                  state_names[finding->state], "found", finding->found, "use", finding->use);
    if (finding->lost)
        json_object_set_new(object, "lost", json_string(finding->lost));
    if (finding->change)
        json_object_set_new(object, "change", json_string(finding->change));
    return object;
}

static void print_end(bool runs, const char *accel)
{
    if (runs)
        printf("\nMachines run here, by %s.\n", accel);
    else
        puts("\nNo machine can run here: see what is marked \"no\".");
}

int cli_doctor(int argc, char **argv)
{
    bool json = argc == 2 && !strcmp(argv[1], "--json"), runs = true;
    const char *accel = "the engine";
    json_t *checks = json_array();
    if (argc > 1 && !json) {
        fprintf(stderr, "wirt doctor: %s: takes --json alone\n", argv[1]);
        json_decref(checks);
        return err_exit_status(ERR_USAGE);
    }
    for (unsigned i = 0; i < doctor_check_count; i++) {
        struct doctor_finding finding = {0};
        doctor_checks[i](&finding);
        if (i == 0 && finding.state == DOCTOR_GOOD)
            accel = "KVM";
        if (finding.vital && finding.state == DOCTOR_MISSING)
            runs = false;
        if (!json)
            print_text(&finding);
        json_array_append_new(checks, as_json(&finding));
    }
    json_t *all = json_pack("{s:b, s:s, s:o}", "runs", runs, "accel",
                            strcmp(accel, "KVM") ? "engine" : "kvm", "checks", checks);
    if (json) {
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_end(runs, accel);
    }
    json_decref(all);
    return runs ? 0 : err_exit_status(ERR_HOST);
}
