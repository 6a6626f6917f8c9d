// SPDX-License-Identifier: Apache-2.0
//
// The command `wirt`: a file per verb, each a function that takes its own words and returns the exit status.
//
// `wirt` itself runs `run`, `ctl` and what `disk` does with image files; for all other words it becomes the program wirt-remote, which has the
// libraries that speak to a node: loading them takes longer than a machine takes to start, or an image to be made.
//
// Exit status: 0 success; an odd one comes from the guest's debug exit device; ours are even: those of err_exit_status(), 124 timeout, and the
// ones named in vm/vm_status.h. Messages for people go to standard error, results to standard output.
#ifndef WIRT_CLI_CLI_H
#define WIRT_CLI_CLI_H

#include <stdbool.h>

#include "base/err.h"

// argv[0] is the verb.
int cli_run(int argc, char **argv);
int cli_ctl(int argc, char **argv);
int cli_disk(int argc, char **argv);
bool cli_disk_has(const char *command); // of image files
int cli_doctor(int argc, char **argv);
int cli_init(int argc, char **argv);
int cli_help(int argc, char **argv);
int cli_version(int argc, char **argv);

struct cli_verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; // one line for `wirt help`
    const char *help;    // what `wirt help VERB` prints
};
extern const struct cli_verb cli_verbs[]; // ends with a NULL name
const struct cli_verb *cli_find_verb(const char *name);

// argv[0] is the verb: runs it, or prints its help where --help is among its words.
int cli_run_verb(const struct cli_verb *verb, int argc, char **argv);

// All verbs: finds the one that is meant; no words at all show what to do next.
int cli_main(int argc, char **argv);

// "wirt run: text" on standard error; returns the error's exit status.
int cli_fail(const char *verb, const struct err *err);

#endif
