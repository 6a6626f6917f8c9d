// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/help.h"
#include "cli/remote/remote.h"

const struct cli_verb cli_verbs[] = {
    {"run", cli_run, "run one virtual machine in the foreground", help_run},
    {"ctl", cli_ctl, "talk to a running machine through its control socket", help_ctl},
    {"disk", cli_disk, "make, convert, check and change disk images", help_disk},
    {"doctor", cli_doctor, "tell what this host can do, and what to change for more", help_doctor},
    {"init", cli_init, "make the first administrator of a node", help_init},
    {"help", cli_help, "explain a command", help_help},
    {"version", cli_version, "print the version", help_version},
    {NULL, NULL, NULL, NULL},
};

const struct cli_verb *cli_find_verb(const char *name)
{
    for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
        if (!strcmp(verb->name, name))
            return verb;
    return NULL;
}

static void print_verbs(FILE *to)
{
    for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
        fprintf(to, "  wirt %-16s %s\n", verb->name, verb->summary);
}

static void print_welcome(FILE *to)
{
    fputs(help_welcome, to);
    print_verbs(to);
    fputs("\nA node (wirtd) with its VMs:\n", to);
    remote_print_verbs(to);
    fputs("\n`wirt help VERB` explains one of them.\n", to);
}

int cli_help(int argc, char **argv)
{
    if (argc < 2) {
        print_welcome(stdout);
        return 0;
    }
    char name[64];
    snprintf(name, sizeof(name), "%s%s%s", argv[1], argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
    if (remote_help(name) && (argc > 2 || !cli_find_verb(argv[1])))
        return 0;
    const struct cli_verb *verb = cli_find_verb(argv[1]);
    if (!verb) {
        fprintf(stderr, "wirt help: there is no command \"%s\"; `wirt help` lists them\n", argv[1]);
        return err_exit_status(ERR_USAGE);
    }
    fputs(verb->help, stdout);
    return 0;
}

int cli_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("wirt " WIRT_VERSION);
    return 0;
}

static void guess_one(const char *word, const char *name, unsigned *nearest, char text[64])
{
    unsigned distance = cli_word_distance(word, name);
    if (distance >= *nearest)
        return;
    *nearest = distance;
    snprintf(text, 64, " (did you mean \"%s\"?)", name);
}

// The command that a mistyped one is most like, as " (did you mean …?)"; or nothing.
static void guess(const char *word, char text[64])
{
    unsigned nearest = strlen(word) > 4 ? 3 : 2; // less than so many letters are wrong
    *text = 0;
    for (const struct cli_verb *v = cli_verbs; v->name; v++)
        guess_one(word, v->name, &nearest, text);
    for (const struct remote_verb *v = remote_verbs; v->name; v++) {
        char first[CLI_DISTANCE_BYTES];
        snprintf(first, sizeof(first), "%.*s", (int)strcspn(v->name, " "), v->name);
        guess_one(word, first, &nearest, text);
    }
}

int cli_main(int argc, char **argv)
{
    if (argc < 2) {
        print_welcome(stdout);
        return 0;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h"))
        word = "help";
    if (!strcmp(word, "--version"))
        word = "version";
    int status;
    if (remote_try(argc - 1, argv + 1, &status))
        return status;
    const struct cli_verb *verb = cli_find_verb(word);
    if (!verb) {
        char guessed[64];
        guess(word, guessed);
        fprintf(stderr, "wirt: there is no command \"%s\"%s; `wirt help` lists them\n", word,
                guessed);
        return err_exit_status(ERR_USAGE);
    }
    return cli_run_verb(verb, argc - 1, argv + 1);
}
