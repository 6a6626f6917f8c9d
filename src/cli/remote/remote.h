// SPDX-License-Identifier: Apache-2.0
//
// The verbs that talk to a node: `wirt ls`, `wirt start VM`, `wirt user add NAME`. Each is one entry of the table in remote_verbs.c (words,
// options, help, example) and a function; remote.c parses, connects, calls it and tells its error.
#ifndef WIRT_CLI_REMOTE_H
#define WIRT_CLI_REMOTE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "cli/table.h"
#include "cli/words.h"
#include "client/client.h"

#define NAME_BYTES 128
#define PATH_BYTES 512

struct remote {
    struct client *client; // NULL for verbs that are local
    const struct cli_words *words;
    bool json, printed; // `printed`: the verb has given its JSON
    json_t *tasks;      // with --json: what has been done, for verbs that have nothing else to tell
    int status;         // exit status of a verb that went well but has one of its own (`exec`)
};

struct remote_verb {
    const char *name;                 // one or two words: "ls", "user add"; NULL ends the table
    const char *operands;             // as the help shows them: "VM…"
    int least, most;                  // how many operands
    const struct cli_option *options; // or NULL
    int (*run)(struct remote *remote, struct err *err);
    const char *summary;
    const char *example;
    bool local; // needs no node
};
extern const struct remote_verb remote_verbs[];
extern const struct cli_option remote_common_options[]; // of every verb that talks to a node

// Is "argv[0]" or "argv[0] argv[1]" a verb of the table (or the first word of some)? Then runs it, or shows what there is: its exit status.
bool remote_try(int argc, char **argv, int *status);
// The help of one verb or of a group ("user"); false when there is none.
bool remote_help(const char *name);
void remote_print_verbs(FILE *to);

// ---- what the verbs share (remote.c)

// A guest by name or number. A name that several have is refused.
struct remote_guest {
    int vmid;
    char node[NAME_BYTES], name[NAME_BYTES], status[NAME_BYTES];
    bool is_template;
    char path[PATH_BYTES]; // "/nodes/NODE/qemu/ID"
};
int remote_find(struct remote *remote, const char *name, struct remote_guest *guest,
                struct err *err);
// "running", "stopped", or "paused" of what runs and stands still: of a row of /cluster/resources, as long as that lives.
const char *remote_guest_status(const json_t *row);

// The node that new things are made on: --node, else the first.
int remote_node(struct remote *remote, char node[NAME_BYTES], struct err *err);

// {KEY: "VALUE"} of the operands from `first` on, which are KEY=VALUE; NULL and *err when one is not, which calls the key `key`.
json_t *remote_pairs(const struct cli_words *words, int first, const char *key, struct err *err);

// The option's value as a parameter of its name, when it was given.
void remote_add_word(const struct remote *remote, json_t *parameters, const char *name);
// The text "A,B" with another word behind it. `list` is taken over; a new reference.
json_t *remote_list_add(json_t *list, const char *word);

// A request whose path is printed together; `parameters` is taken over (may be NULL), *data is the caller's (may be NULL).
int remote_call(struct remote *remote, const char *method, json_t *parameters, json_t **data,
                struct err *err, const char *path_format, ...)
    __attribute__((format(printf, 6, 7)));

// The same for what starts a task: waits for its end, and says `what` and how it went on standard error.
int remote_task(struct remote *remote, const char *what, const char *method, json_t *parameters,
                struct err *err, const char *path_format, ...)
    __attribute__((format(printf, 6, 7)));
int remote_wait(struct remote *remote, const char *what, const char *upid, bool with_log,
                struct err *err);

// Rows for people or programs, and a value for programs.
void remote_table(struct remote *remote, const json_t *rows, const struct cli_column *columns);
void remote_json(struct remote *remote, const json_t *value);

// GET of a list, printed as a table or JSON; `query` is taken over (may be NULL).
int remote_print_list(struct remote *remote, json_t *query, const struct cli_column *columns,
                      struct err *err, const char *path_format, ...)
    __attribute__((format(printf, 5, 6)));

// The datastore that is meant: --storage, else "local".
const char *remote_store(const struct remote *remote);
// Sends a file to it as `content` named `name`, with progress, and waits for the task, which is called `what`.
int remote_upload(struct remote *remote, const char *what, const char *node, const char *content,
                  const char *file, const char *name, struct err *err);

// Asks on the terminal unless --yes: false (and err) when the answer is no or nobody can be asked.
bool remote_confirm(struct remote *remote, const char *question, struct err *err);
// A secret from --password-stdin or the terminal, without showing it; to be freed.
char *remote_secret(struct remote *remote, const char *prompt, struct err *err);

// ---- the verbs, by file
int remote_ls(struct remote *, struct err *); // remote_guest.c
int remote_show(struct remote *, struct err *);
int remote_start(struct remote *, struct err *);
int remote_stop(struct remote *, struct err *);
int remote_restart(struct remote *, struct err *);
int remote_pause(struct remote *, struct err *);
int remote_resume(struct remote *, struct err *);
int remote_rm(struct remote *, struct err *);
int remote_top(struct remote *, struct err *);
int remote_launch(struct remote *, struct err *); // remote_make.c
int remote_clone(struct remote *, struct err *);
int remote_template(struct remote *, struct err *);
int remote_set(struct remote *, struct err *); // remote_edit.c
int remote_edit(struct remote *, struct err *);
int remote_snapshot_list(struct remote *, struct err *); // remote_keep.c
int remote_snapshot_create(struct remote *, struct err *);
int remote_snapshot_rm(struct remote *, struct err *);
int remote_restore(struct remote *, struct err *);
int remote_backup_create(struct remote *, struct err *);
int remote_backup_list(struct remote *, struct err *);
int remote_backup_restore(struct remote *, struct err *);
int remote_exec(struct remote *, struct err *); // remote_inside.c
int remote_cp(struct remote *, struct err *);
int remote_shell(struct remote *, struct err *);
int remote_console(struct remote *, struct err *);     // remote_console.c
int remote_disk_attach(struct remote *, struct err *); // remote_disk.c
int remote_disk_detach(struct remote *, struct err *);
int remote_disk_grow(struct remote *, struct err *);
int remote_net_list(struct remote *, struct err *); // remote_net.c
int remote_net_cards(struct remote *, struct err *);
int remote_net_attach(struct remote *, struct err *);
int remote_net_detach(struct remote *, struct err *);
int remote_storage_list(struct remote *, struct err *); // remote_storage.c
int remote_storage_content(struct remote *, struct err *);
int remote_storage_upload(struct remote *, struct err *);
int remote_storage_rm(struct remote *, struct err *);
int remote_storage_show(struct remote *, struct err *);
int remote_storage_add(struct remote *, struct err *);
int remote_storage_set(struct remote *, struct err *);
int remote_user_list(struct remote *, struct err *); // remote_access.c
int remote_user_add(struct remote *, struct err *);
int remote_user_set(struct remote *, struct err *);
int remote_user_rm(struct remote *, struct err *);
int remote_user_rights(struct remote *, struct err *);
int remote_factor_list(struct remote *, struct err *);
int remote_factor_rm(struct remote *, struct err *);
int remote_user_password(struct remote *, struct err *);
int remote_token_list(struct remote *, struct err *);
int remote_token_add(struct remote *, struct err *);
int remote_token_rm(struct remote *, struct err *);
int remote_acl_list(struct remote *, struct err *);
int remote_acl_add(struct remote *, struct err *);
int remote_acl_rm(struct remote *, struct err *);
int remote_group_list(struct remote *, struct err *); // remote_group.c
int remote_group_add(struct remote *, struct err *);
int remote_group_rm(struct remote *, struct err *);
int remote_group_join(struct remote *, struct err *);
int remote_group_leave(struct remote *, struct err *);
int remote_role_list(struct remote *, struct err *);
int remote_role_add(struct remote *, struct err *);
int remote_role_set(struct remote *, struct err *);
int remote_role_rm(struct remote *, struct err *);
int remote_pool_list(struct remote *, struct err *);
int remote_pool_show(struct remote *, struct err *);
int remote_pool_add(struct remote *, struct err *);
int remote_pool_rm(struct remote *, struct err *);
int remote_pool_join(struct remote *, struct err *);
int remote_pool_leave(struct remote *, struct err *);
int remote_task_list(struct remote *, struct err *); // remote_task.c
int remote_task_log(struct remote *, struct err *);
int remote_task_stop(struct remote *, struct err *);
int remote_events(struct remote *, struct err *);
int remote_api(struct remote *, struct err *);         // remote_api.c
int remote_images_list(struct remote *, struct err *); // remote_images.c
int remote_images_build(struct remote *, struct err *);
int remote_images_import(struct remote *, struct err *);
int remote_context_list(struct remote *, struct err *); // remote_context.c
int remote_context_add(struct remote *, struct err *);
int remote_context_use(struct remote *, struct err *);
int remote_context_rm(struct remote *, struct err *);
int remote_completion(struct remote *, struct err *); // remote_completion.c

#endif
