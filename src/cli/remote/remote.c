// SPDX-License-Identifier: Apache-2.0
#include "cli/remote/remote.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "client/context.h"
#include "client/task.h"
#include "node/daemon/daemon.h"
#include "os/directory.h"
#include "os/tty.h"

const struct cli_option remote_common_options[] = {
    {"host", "HOST", "the node at this address (token in WIRT_TOKEN)"},
    {"context", "NAME", "the node kept under this name"},
    {"json", NULL, "print JSON"},
    {NULL, NULL, NULL},
};

// ---- finding a verb and running it

static size_t first_word(const char *name)
{
    return strcspn(name, " ");
}

// How many of the words name the verb: 1 or 2, or 0.
static int matches(const struct remote_verb *verb, int argc, char **argv)
{
    size_t length = first_word(verb->name);
    if (argc < 1 || strlen(argv[0]) != length || memcmp(argv[0], verb->name, length) != 0)
        return 0;
    if (!verb->name[length])
        return 1;
    return argc > 1 && !strcmp(argv[1], verb->name + length + 1) ? 2 : 0;
}

static bool is_group(const char *word)
{
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (v->name[first_word(v->name)] && strlen(word) == first_word(v->name) &&
            !memcmp(word, v->name, strlen(word)))
            return true;
    return false;
}

static void print_verb_help(const struct remote_verb *verb)
{
    printf("Usage: wirt %s %s%s\n\n%s\n\n", verb->name, verb->operands,
           verb->options || !verb->local ? " [OPTION]…" : "", verb->summary);
    for (int which = 0; which < 2; which++)
        for (const struct cli_option *o = which ? remote_common_options : verb->options;
             o && o->name; o++) {
            char left[64];
            snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value ? " " : "",
                     o->value ? o->value : "");
            printf("  %-24s %s\n", left, o->about);
        }
    printf("\nExample: %s\n", verb->example);
}

static void print_group(FILE *to, const char *word)
{
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (strlen(word) == first_word(v->name) && !memcmp(word, v->name, strlen(word)))
            fprintf(to, "  wirt %-16s %s\n", v->name, v->summary);
}

void remote_print_verbs(FILE *to)
{
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        fprintf(to, "  wirt %-16s %s\n", v->name, v->summary);
}

bool remote_help(const char *name)
{
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (!strcmp(v->name, name)) {
            print_verb_help(v);
            return true;
        }
    if (!is_group(name))
        return false;
    print_group(stdout, name);
    return true;
}

static int check_operands(const struct remote_verb *verb, const struct cli_words *words,
                          struct err *err)
{
    if (words->operands >= verb->least && words->operands <= verb->most)
        return 0;
    return err_set(err, ERR_USAGE, "it goes: wirt %s %s (for example: %s)", verb->name,
                   verb->operands, verb->example);
}

// $WIRT_SOCKET, else that of this user's node, else that of the machine's.
static void local_socket(char *path, size_t size)
{
    char state[PATH_BYTES];
    const char *given = getenv("WIRT_SOCKET");
    daemon_default_state(state, sizeof(state));
    snprintf(path, size, "%s%s", given && *given ? given : state,
             given && *given ? "" : "/wirtd.sock");
    if (!(given && *given) && !os_file_exists(path))
        snprintf(path, size, "/var/lib/wirt/wirtd.sock");
}

// What to try, where the node's own words do not say it.
static void add_advice(struct err *err)
{
    static const char *const advice[][2] = {
        {" is not running", "`wirt start VM` starts it"},
        {"Permission check failed", "in the brackets: who, where, and which privilege is missing; "
                                    "`wirt acl add` gives a role"},
        {"no ticket", "give a token: `wirt context add`, or WIRT_TOKEN with --host"},
        {"token value", "a new one: `wirt token add`, then `wirt context add`"},
    };
    size_t used = strlen(err->text);
    for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++)
        if (strstr(err->text, advice[i][0]) && !strstr(err->text, "agent is not running")) {
            snprintf(err->text + used, sizeof(err->text) - used, " (%s)", advice[i][1]);
            return;
        }
}

static int run_verb(const struct remote_verb *verb, int argc, char **argv)
{
    static const struct cli_option none[] = {{NULL, NULL, NULL}};
    const struct cli_option *tables[] = {verb->options ? verb->options : none,
                                         remote_common_options, NULL};
    struct cli_words words;
    struct err err = {0};
    struct remote remote = {.words = &words, .tasks = json_array()};
    int result = cli_words_parse(tables, argc, argv, &words, &err);
    if (!result)
        result = check_operands(verb, &words, &err);
    remote.json = !result && cli_has(&words, "json");
    if (!result && !verb->local) {
        char socket[PATH_BYTES + 16];
        local_socket(socket, sizeof(socket));
        remote.client =
            context_open(cli_word(&words, "host"), cli_word(&words, "context"), socket, &err);
        result = remote.client ? 0 : -1;
    }
    if (!result)
        result = verb->run(&remote, &err);
    client_close(remote.client);
    if (!result && remote.json && !remote.printed)
        cli_json_print(remote.tasks);
    json_decref(remote.tasks);
    if (result)
        add_advice(&err);
    return result ? cli_fail(verb->name, &err) : remote.status;
}

bool remote_try(int argc, char **argv, int *status)
{
    for (const struct remote_verb *verb = remote_verbs; verb->name; verb++) {
        int words = matches(verb, argc, argv);
        if (!words)
            continue;
        for (int i = words; i < argc && strcmp(argv[i], "--"); i++)
            if (!strcmp(argv[i], "--help")) {
                print_verb_help(verb);
                *status = 0;
                return true;
            }
        *status = run_verb(verb, argc - words, argv + words);
        return true;
    }
    // "wirt disk create" is another file's: only a group that has no other verb is shown here.
    if (argc < 1 || cli_find_verb(argv[0]) || !is_group(argv[0]))
        return false;
    bool asked = argc == 1 || !strcmp(argv[1], "--help");
    if (asked)
        printf("wirt %s:\n", argv[0]);
    else
        fprintf(stderr, "wirt %s: there is no command \"%s %s\"; there are:\n", argv[0], argv[0],
                argv[1]);
    print_group(asked ? stdout : stderr, argv[0]);
    *status = asked ? 0 : err_exit_status(ERR_USAGE);
    return true;
}

// ---- requests

static int call(struct remote *remote, const char *method, json_t *parameters, json_t **data,
                struct err *err, const char *path)
{
    json_t *answer = NULL;
    int result = client_call(remote->client, method, path, parameters, &answer, err);
    json_decref(parameters);
    if (!result && data)
        *data = answer;
    else
        json_decref(answer);
    return result;
}

int remote_call(struct remote *remote, const char *method, json_t *parameters, json_t **data,
                struct err *err, const char *path_format, ...)
{
    char path[PATH_BYTES * 2];
    va_list args;
    va_start(args, path_format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above
    vsnprintf(path, sizeof(path), path_format, args);
    va_end(args);
    return call(remote, method, parameters, data, err, path);
}

void remote_table(struct remote *remote, const json_t *rows, const struct cli_column *columns)
{
    cli_table_print(rows, columns, remote->json);
    remote->printed = true;
}

void remote_json(struct remote *remote, const json_t *value)
{
    cli_json_print(value);
    remote->printed = true;
}

int remote_print_list(struct remote *remote, json_t *query, const struct cli_column *columns,
                      struct err *err, const char *path_format, ...)
{
    char path[PATH_BYTES * 2];
    json_t *list = NULL;
    va_list args;
    va_start(args, path_format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above
    vsnprintf(path, sizeof(path), path_format, args);
    va_end(args);
    if (call(remote, "GET", query, &list, err, path))
        return -1;
    remote_table(remote, list, columns);
    json_decref(list);
    return 0;
}

struct waiting {
    const char *what;
    bool terminal, with_log;
    char last[64]; // line of the task's log
};

// One line of the terminal, written over the one before.
static void show_progress(const struct waiting *waiting, double seconds, double done)
{
    char percent[16] = "", text[PATH_BYTES];
    unsigned columns = os_tty_columns(2);
    if (done >= 0)
        snprintf(percent, sizeof(percent), ", %.0f %%", done * 100);
    snprintf(text, sizeof(text), "%s: %.0f s%s  %s", waiting->what, seconds, percent,
             waiting->last);
    fprintf(stderr, "\r%.*s\033[K", columns > 1 ? (int)columns - 1 : 79, text);
}

static void tell(void *user, const char *line, double seconds, double done)
{
    struct waiting *waiting = user;
    char plain[CLI_CELL_BYTES];
    if (line)
        cli_plain_text(line, waiting->last, sizeof(waiting->last));
    if (line && waiting->with_log)
        printf("%s\n", cli_plain_text(line, plain, sizeof(plain)));
    else if (!waiting->with_log && waiting->terminal && seconds > 0.5)
        show_progress(waiting, seconds, done);
    fflush(stdout);
}

int remote_wait(struct remote *remote, const char *what, const char *upid, bool with_log,
                struct err *err)
{
    struct waiting waiting = {what, os_tty_is_terminal(2) && !remote->json, with_log, ""};
    bool tells = waiting.terminal || with_log;
    int result = client_task_wait(remote->client, upid, tells ? tell : NULL, &waiting, err);
    if (waiting.terminal && !with_log)
        fputs("\r\033[K", stderr);
    return result ? err_wrap(err, "%s", what) : 0;
}

int remote_task(struct remote *remote, const char *what, const char *method, json_t *parameters,
                struct err *err, const char *path_format, ...)
{
    char path[PATH_BYTES * 2];
    json_t *upid = NULL;
    va_list args;
    va_start(args, path_format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above
    vsnprintf(path, sizeof(path), path_format, args);
    va_end(args);
    if (call(remote, method, parameters, &upid, err, path))
        return err_wrap(err, "%s", what);
    // Some changes are done when they are answered.
    int result =
        json_is_string(upid) ? remote_wait(remote, what, json_string_value(upid), false, err) : 0;
    if (!result && !remote->json)
        fprintf(stderr, "%s: done\n", what);
    else if (!result)
        json_array_append_new(remote->tasks, json_pack("{s:s, s:O}", "done", what, "task",
                                                       json_is_string(upid) ? upid : json_null()));
    json_decref(upid);
    return result;
}

// ---- guests and nodes

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool is_named(const json_t *guest, const char *name)
{
    char number[16];
    snprintf(number, sizeof(number), "%lld",
             (long long)json_integer_value(json_object_get(guest, "vmid")));
    return !strcmp(number, name) || !strcmp(text_of(guest, "name"), name);
}

const char *remote_guest_status(const json_t *row)
{
    const char *told = text_of(row, "qmpstatus");
    return *told ? told : text_of(row, "status");
}

static void fill_guest(struct remote_guest *guest, const json_t *from)
{
    guest->vmid = (int)json_integer_value(json_object_get(from, "vmid"));
    guest->is_template = json_integer_value(json_object_get(from, "template")) == 1;
    snprintf(guest->node, sizeof(guest->node), "%s", text_of(from, "node"));
    snprintf(guest->name, sizeof(guest->name), "%s", text_of(from, "name"));
    snprintf(guest->status, sizeof(guest->status), "%s", remote_guest_status(from));
    snprintf(guest->path, sizeof(guest->path), "/nodes/%s/qemu/%d", guest->node, guest->vmid);
}

int remote_find(struct remote *remote, const char *name, struct remote_guest *guest,
                struct err *err)
{
    json_t *guests = NULL, *one;
    size_t i;
    int found = 0;
    if (remote_call(remote, "GET", json_pack("{s:s}", "type", "vm"), &guests, err,
                    "/cluster/resources"))
        return -1;
    json_array_foreach(guests, i, one)
    {
        if (is_named(one, name) && !found++)
            fill_guest(guest, one);
    }
    json_decref(guests);
    if (found > 1)
        return err_set(err, ERR_USAGE, "%d VMs are called \"%s\"; say its number (`wirt ls %s`)",
                       found, name, name);
    return found ? 0
                 : err_set(err, ERR_NOT_FOUND,
                           "there is no VM \"%s\", or you may not see it; `wirt ls` lists them",
                           name);
}

int remote_node(struct remote *remote, char node[NAME_BYTES], struct err *err)
{
    const char *given = cli_word(remote->words, "node");
    json_t *nodes = NULL;
    if (!given && remote_call(remote, "GET", NULL, &nodes, err, "/nodes"))
        return -1;
    snprintf(node, NAME_BYTES, "%s", given ? given : text_of(json_array_get(nodes, 0), "node"));
    json_decref(nodes);
    return *node ? 0 : err_set(err, ERR_NOT_FOUND, "no node is listed: you may see none");
}

// ---- words

json_t *remote_pairs(const struct cli_words *words, int first, const char *key, struct err *err)
{
    json_t *pairs = json_object();
    for (int i = first; i < words->operands; i++) {
        const char *word = words->operand[i], *equals = strchr(word, '=');
        if (!equals || equals == word) {
            json_decref(pairs);
            err_set(err, ERR_USAGE, "%s: give %s=VALUE", word, key);
            return NULL;
        }
        json_object_setn_new(pairs, word, (size_t)(equals - word), json_string(equals + 1));
    }
    return pairs;
}

json_t *remote_list_add(json_t *list, const char *word)
{
    json_t *longer =
        json_sprintf("%s%s%s", json_string_value(list), json_string_length(list) ? "," : "", word);
    json_decref(list);
    return longer;
}

void remote_add_word(const struct remote *remote, json_t *parameters, const char *name)
{
    const char *value = cli_word(remote->words, name);
    if (value)
        json_object_set_new(parameters, name, json_string(value));
}

// ---- asking

bool remote_confirm(struct remote *remote, const char *question, struct err *err)
{
    char answer[16];
    if (cli_has(remote->words, "yes"))
        return true;
    if (!os_tty_is_terminal(0)) {
        err_set(err, ERR_USAGE, "%s Give --yes, as nobody can be asked here", question);
        return false;
    }
    fprintf(stderr, "%s [y/N] ", question);
    if (fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y'))
        return true;
    err_set(err, ERR_CANCELLED, "left as it is");
    return false;
}

char *remote_secret(struct remote *remote, const char *prompt, struct err *err)
{
    char line[1024];
    bool from_stdin = cli_has(remote->words, "password-stdin");
    if (!from_stdin && !os_tty_is_terminal(0)) {
        err_set(err, ERR_USAGE, "give --password-stdin, as nobody can be asked here");
        return NULL;
    }
    struct os_tty_state terminal;
    os_tty_save(&terminal, 0);
    if (!from_stdin) {
        fprintf(stderr, "%s: ", prompt);
        os_tty_hide(&terminal);
    }
    char *got = fgets(line, sizeof(line), stdin);
    os_tty_restore(&terminal);
    if (!from_stdin)
        fputc('\n', stderr);
    if (!got) {
        err_set(err, ERR_USAGE, "no password came");
        return NULL;
    }
    line[strcspn(line, "\n")] = 0;
    return strdup(line);
}
