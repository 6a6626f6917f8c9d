// SPDX-License-Identifier: Apache-2.0
//
// `wirt disk COMMAND`: the table of commands, and the words after them. Flags are one table for all commands; each
// command lists the letters of those that it takes.
#include "cli/disk.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "cli/cli.h"
#include "os/signals.h"

struct flag {
    const char *name;
    size_t member; // offset in struct disk_words
    char letter;   // how commands refer to it
    bool takes_value;
};

#define VALUE(letter, name, member)                                                                \
    {                                                                                              \
        name, offsetof(struct disk_words, member), letter, true                                    \
    }
#define SWITCH(letter, name, member)                                                               \
    {                                                                                              \
        name, offsetof(struct disk_words, member), letter, false                                   \
    }
static const struct flag flags[] = {
    VALUE('f', "--format", format),
    VALUE('s', "--source-format", source_format),
    VALUE('b', "--backing", backing),
    VALUE('B', "--backing-format", backing_format),
    VALUE('a', "--backing-folder", backing_folder),
    VALUE('p', "--preallocate", preallocate),
    VALUE('c', "--cluster-size", cluster_size),
    VALUE('z', "--compression", compression),
    VALUE('v', "--version", version),
    VALUE('r', "--refcount-bits", refcount_bits),
    VALUE('w', "--workers", workers),
    VALUE('g', "--granularity", granularity),
    VALUE('d', "--depth", depth),
    VALUE('k', "--block", block),
    VALUE('t', "--seconds", seconds),
    VALUE('n', "--count", count),
    VALUE('e', "--step", step),
    VALUE('o', "--snapshot", snapshot),
    SWITCH('C', "--compress", compress),
    SWITCH('R', "--repair", repair),
    SWITCH('j', "--json", json),
    SWITCH('F', "--force", force),
    SWITCH('u', "--unsafe", unsafe),
    SWITCH('S', "--shrink", shrink),
    SWITCH('W', "--write", write),
    SWITCH('L', "--lazy-refcounts", lazy_refcounts),
    SWITCH('D', "--direct", direct),
    SWITCH('x', "--random", random),
    SWITCH('U', "--no-lock", no_lock),
    SWITCH('m', "--bitmaps", bitmaps),
    SWITCH('O', "--one-buffer", one_buffer),
};

static const struct command {
    const char *name;
    int (*run)(const struct disk_words *words, int *status, struct err *err);
    int operands_min, operands_max;
    const char *flags;
    const char *usage;
    const char *about;
} commands[] = {
    {"create", disk_create, 1, 2, "fbBpczvrLjFa",
     "FILE [SIZE] [--format F] [--backing FILE] [--preallocate MODE]",
     "make an image; MODE is off, metadata, falloc or full"},
    {"convert", disk_convert, 2, 2, "sfbBpczvrLwCjFDUamo",
     "SOURCE TARGET [--source-format F] [--format F] [--compress]",
     "copy an image into another, of any format"},
    {"info", disk_info, 1, 1, "fjUa", "FILE", "what an image is, and what it stands on"},
    {"check", disk_check, 1, 1, "fRjU", "FILE [--repair]", "look for faults, and repair them"},
    {"map", disk_map, 1, 1, "fjUa", "FILE", "where its data lies"},
    {"resize", disk_resize, 2, 2, "fSjFa", "FILE SIZE [--shrink]",
     "make the disk larger, or smaller"},
    {"commit", disk_commit, 1, 1, "fja", "FILE", "write its content into its backing file"},
    {"rebase", disk_rebase, 1, 1, "fbBjua", "FILE --backing B [--unsafe]",
     "change the backing file, not the content; \"\" for none"},
    {"compare", disk_compare, 2, 2, "fjUa", "A B", "do two images hold the same?"},
    {"snapshot", disk_snapshot, 2, 3, "fjUa", "list|create|apply|delete FILE [NAME]",
     "snapshots inside a qcow2 image"},
    {"bitmap", disk_bitmap, 2, 4, "fgjU",
     "list|create|remove|clear|enable|disable|merge FILE [NAME [FROM]] [--granularity SIZE]",
     "dirty bitmaps in a qcow2 image, for incremental backups"},
    {"bench", disk_bench, 1, 1, "fdktneWxjFDaO",
     "FILE [--depth N] [--block SIZE] [--seconds N|--count N] [--random|--step SIZE] [--write] "
     "[--one-buffer]",
     "how fast requests go through the block layer"},
};

void disk_print_names(void)
{
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
        printf("%s ", commands[i].name);
}

bool cli_disk_has(const char *command)
{
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
        if (!strcmp(commands[i].name, command))
            return true;
    return false;
}

static void print_commands(FILE *to)
{
    fputs("Usage: wirt disk COMMAND …\n\n", to);
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
        fprintf(to, "  %-9s %s\n            %s\n", commands[i].name, commands[i].usage,
                commands[i].about);
    fputs("\nSizes are written as 10G or 512M. --json prints for programs. Nothing is overwritten "
          "without --force.\n",
          to);
}

static const struct flag *find_flag(const char *word, size_t length, const char *letters)
{
    for (size_t i = 0; i < ARRAY_LENGTH(flags); i++) {
        if (strlen(flags[i].name) == length && memcmp(flags[i].name, word, length) == 0)
            return strchr(letters, flags[i].letter) ? &flags[i] : NULL;
    }
    return NULL;
}

// --flag VALUE or --flag=VALUE; returns how many words it took, or -1.
static int take_flag(const struct command *command, char **words, int left, struct disk_words *w,
                     struct err *err)
{
    size_t length = strcspn(words[0], "=");
    const struct flag *flag = find_flag(words[0], length, command->flags);
    if (!flag)
        return err_set(err, ERR_USAGE, "%s: there is no such flag here; right is: wirt disk %s %s",
                       words[0], command->name, command->usage);
    char *member = (char *)w + flag->member;
    if (!flag->takes_value) {
        if (words[0][length])
            return err_set(err, ERR_USAGE, "%s takes no value", flag->name);
        *(bool *)(void *)member = true;
        return 1;
    }
    if (!words[0][length] && left < 2)
        return err_set(err, ERR_USAGE, "%s needs a value", flag->name);
    *(const char **)(void *)member = words[0][length] ? words[0] + length + 1 : words[1];
    return words[0][length] ? 1 : 2;
}

static int parse(const struct command *command, int argc, char **argv, struct disk_words *w,
                 struct err *err)
{
    bool only_operands = false;
    for (int i = 0; i < argc;) {
        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
            i++;
        } else if (!only_operands && argv[i][0] == '-' && argv[i][1] == '-') {
            int taken = take_flag(command, argv + i, argc - i, w, err);
            if (taken < 0)
                return -1;
            i += taken;
        } else if (w->operands < command->operands_max) {
            w->operand[w->operands++] = argv[i++];
        } else {
            return err_set(err, ERR_USAGE, "'%s' is too much; right is: wirt disk %s %s", argv[i],
                           command->name, command->usage);
        }
    }
    if (w->operands < command->operands_min)
        return err_set(err, ERR_USAGE, "something is missing; right is: wirt disk %s %s",
                       command->name, command->usage);
    return 0;
}

int cli_disk(int argc, char **argv)
{
    struct disk_words words = {.operands = 0};
    struct err err = {.code = ERR_NONE};
    int status = 0;
    if (argc < 2) {
        print_commands(stdout);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++) {
        if (strcmp(commands[i].name, argv[1]) != 0)
            continue;
        int rc = parse(&commands[i], argc - 2, argv + 2, &words, &err);
        disk_allow_backing(words.backing_folder);
        if (rc || commands[i].run(&words, &status, &err)) {
            err_wrap(&err, "%s", argv[1]);
            status = cli_fail("disk", &err);
            if (disk_interrupted()) // so that who started it sees why it ended
                os_signals_die(disk_interrupted());
            return status;
        }
        return status;
    }
    fprintf(stderr, "wirt disk: there is no command \"%s\"\n", argv[1]);
    print_commands(stderr);
    return err_exit_status(ERR_USAGE);
}
