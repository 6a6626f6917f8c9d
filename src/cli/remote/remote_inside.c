// SPDX-License-Identifier: Apache-2.0
//
// Into a VM: commands and files through its guest agent, a shell by ssh to an address that the agent tells.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cli/remote/remote.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/process.h"
#include "os/tty.h"

#define INPUT_BYTES_MAX 1000000
#define FILE_BYTES_MAX  (16u << 20) // what the agent takes and gives at once
#define POLL_NS         50000000u
#define POLL_LAST_NS    500000000u
#define EXEC_SECONDS    300

// ---- the agent: in a guest that is still starting it is waited for

#define AGENT_SECONDS 300

static bool is_absent(const struct err *err)
{
    return strstr(err->text, "QEMU guest agent is not running") != NULL;
}

// Whether it is worth waiting: the VM runs, and has a port for an agent.
static bool may_come(struct remote *remote, const struct remote_guest *guest)
{
    json_t *config = NULL;
    struct err ignored = {0};
    if (strcmp(guest->status, "running") != 0 ||
        remote_call(remote, "GET", NULL, &config, &ignored, "%s/config", guest->path))
        return false;
    const json_t *agent = json_object_get(config, "agent");
    const char *text = json_string_value(agent);
    bool enabled =
        text ? *text == '1' || strstr(text, "enabled=1") : json_integer_value(agent) == 1;
    json_decref(config);
    return enabled;
}

// Returns 0 when the agent of the guest called `name` answers.
static int find_agent(struct remote *remote, const char *name, struct remote_guest *guest,
                      struct err *err)
{
    uint64_t seconds = AGENT_SECONDS;
    const char *given = cli_word(remote->words, "wait");
    if (given && !units_parse_number(given, 0, 86400, &seconds))
        return err_set(err, ERR_USAGE, "--wait %s: a number of seconds, 0 to 86400", given);
    if (remote_find(remote, name, guest, err))
        return -1;
    uint64_t end = os_clock_monotonic_ns() + seconds * 1000000000u;
    for (bool first = true;; first = false) {
        if (!remote_call(remote, "POST", NULL, NULL, err, "%s/agent/ping", guest->path))
            return 0;
        if (!is_absent(err))
            return -1;
        if (first && !may_come(remote, guest))
            return err_wrap(err, "%s has no agent enabled (`wirt set %s agent=1` and a new start)",
                            guest->name, guest->name);
        if (os_clock_monotonic_ns() >= end)
            return err_wrap(err, "waited %llu s for %s", (unsigned long long)seconds, guest->name);
        if (first && os_tty_is_terminal(2))
            fprintf(stderr, "%s is starting: waiting for its agent\n", guest->name);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + POLL_LAST_NS);
    }
}

// ---- exec

static char *read_input(struct err *err)
{
    char *text = malloc(INPUT_BYTES_MAX + 1);
    size_t length = fread(text, 1, INPUT_BYTES_MAX + 1, stdin);
    if (length > INPUT_BYTES_MAX) {
        free(text);
        err_set(err, ERR_LIMIT, "the agent takes at most %d bytes of input", INPUT_BYTES_MAX);
        return NULL;
    }
    text[length] = 0;
    return text;
}

static void print_output(const json_t *status, const char *key, FILE *to)
{
    const json_t *text = json_object_get(status, key);
    if (json_is_string(text))
        fwrite(json_string_value(text), 1, json_string_length(text), to);
}

// Asks until the command has ended; its output is printed, its exit status is ours.
static int await_command(struct remote *remote, const struct remote_guest *guest, json_int_t pid,
                         uint64_t seconds, struct err *err)
{
    uint64_t end = os_clock_monotonic_ns() + seconds * 1000000000u, pause = POLL_NS;
    for (;;) {
        json_t *status = NULL;
        if (remote_call(remote, "GET", json_pack("{s:I}", "pid", pid), &status, err,
                        "%s/agent/exec-status", guest->path))
            return -1;
        if (json_integer_value(json_object_get(status, "exited"))) {
            if (remote->json) {
                remote_json(remote, status);
            } else {
                print_output(status, "out-data", stdout);
                print_output(status, "err-data", stderr);
            }
            json_t *signal = json_object_get(status, "signal");
            remote->status = signal ? 128 + (int)json_integer_value(signal)
                                    : (int)json_integer_value(json_object_get(status, "exitcode"));
            json_decref(status);
            return 0;
        }
        json_decref(status);
        if (os_clock_monotonic_ns() >= end)
            return err_set(err, ERR_BUSY,
                           "the command (process %lld in the guest) still runs after %llu s",
                           (long long)pid, (unsigned long long)seconds);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + pause);
        pause = pause * 2 < POLL_LAST_NS ? pause * 2 : POLL_LAST_NS;
    }
}

int remote_exec(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    uint64_t seconds = EXEC_SECONDS;
    const char *timeout = cli_word(remote->words, "timeout");
    json_t *started = NULL;
    if (!remote->words->rest_count)
        return err_set(err, ERR_USAGE, "the command stands after \"--\": wirt exec VM -- uname -a");
    if (timeout && !units_parse_number(timeout, 1, 86400, &seconds))
        return err_set(err, ERR_USAGE, "--timeout %s: a number of seconds, 1 to 86400", timeout);
    if (find_agent(remote, remote->words->operand[0], &guest, err))
        return -1;
    json_t *command = json_array();
    for (int i = 0; i < remote->words->rest_count; i++)
        json_array_append_new(command, json_string(remote->words->rest[i]));
    json_t *parameters = json_pack("{s:o}", "command", command);
    if (cli_has(remote->words, "input")) {
        char *input = read_input(err);
        if (!input) {
            json_decref(parameters);
            return -1;
        }
        json_object_set_new(parameters, "input-data", json_string(input));
        free(input);
    }
    if (remote_call(remote, "POST", parameters, &started, err, "%s/agent/exec", guest.path))
        return -1;
    json_int_t pid = json_integer_value(json_object_get(started, "pid"));
    json_decref(started);
    return await_command(remote, &guest, pid, seconds, err);
}

// ---- cp: one of the two is VM:PATH

static const char *inside_path(const char *word, char name[NAME_BYTES])
{
    const char *colon = strchr(word, ':');
    // "./a:b" and "/a:b" are paths here.
    if (!colon || colon == word || colon - word >= NAME_BYTES ||
        memchr(word, '/', (size_t)(colon - word)))
        return NULL;
    snprintf(name, NAME_BYTES, "%.*s", (int)(colon - word), word);
    return colon + 1;
}

static int copy_in(struct remote *remote, const char *from, const struct remote_guest *guest,
                   const char *to, struct err *err)
{
    size_t length;
    char *content = os_file_read_all(from, FILE_BYTES_MAX, &length, err);
    if (!content)
        return -1;
    json_t *text = json_stringn(content, length);
    free(content);
    if (!text)
        return err_set(
            err, ERR_UNSUPPORTED,
            "%s is no text (UTF-8): copy it with scp (`wirt shell` shows how the guest is reached)",
            from);
    return remote_call(remote, "POST", json_pack("{s:s, s:o}", "file", to, "content", text), NULL,
                       err, "%s/agent/file-write", guest->path);
}

static int copy_out(struct remote *remote, const struct remote_guest *guest, const char *from,
                    const char *to, struct err *err)
{
    json_t *answer = NULL;
    if (remote_call(remote, "GET", json_pack("{s:s}", "file", from), &answer, err,
                    "%s/agent/file-read", guest->path))
        return -1;
    json_t *content = json_object_get(answer, "content");
    int result = -1;
    if (json_integer_value(json_object_get(answer, "truncated")))
        err_set(err, ERR_LIMIT, "%s is larger than what the agent gives at once; use scp", from);
    else if (!json_is_string(content))
        err_set(err, ERR_INPUT, "the agent gave no content");
    else
        result = os_file_write_whole(to, json_string_value(content), json_string_length(content),
                                     0644, err);
    json_decref(answer);
    return result;
}

int remote_cp(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    char name[NAME_BYTES], other[NAME_BYTES];
    const char *from = remote->words->operand[0], *to = remote->words->operand[1];
    const char *inside_from = inside_path(from, name), *inside_to = inside_path(to, other);
    if (!inside_from == !inside_to)
        return err_set(err, ERR_USAGE, "one of the two is VM:PATH, the other a path here");
    if (find_agent(remote, inside_from ? name : other, &guest, err))
        return -1;
    return inside_from ? copy_out(remote, &guest, inside_from, to, err)
                       : copy_in(remote, from, &guest, inside_to, err);
}

// ---- shell

// The first address that is not of the loopback or a link.
static bool find_address(const json_t *interfaces, char address[NAME_BYTES])
{
    size_t i, k;
    json_t *one, *ip;
    json_array_foreach(interfaces, i, one)
    {
        json_array_foreach(json_object_get(one, "ip-addresses"), k, ip)
        {
            const char *text = json_string_value(json_object_get(ip, "ip-address"));
            if (!text || !strncmp(text, "127.", 4) || !strcmp(text, "::1") ||
                !strncmp(text, "fe80:", 5))
                continue;
            snprintf(address, NAME_BYTES, "%s", text);
            return true;
        }
    }
    return false;
}

int remote_shell(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    char address[NAME_BYTES], login[NAME_BYTES * 2];
    const char *user = cli_word(remote->words, "user");
    json_t *answer = NULL;
    pid_t pid;
    if (find_agent(remote, remote->words->operand[0], &guest, err) ||
        remote_call(remote, "GET", NULL, &answer, err, "%s/agent/network-get-interfaces",
                    guest.path))
        return -1;
    bool found = find_address(json_object_get(answer, "result"), address);
    json_decref(answer);
    if (!found)
        return err_set(err, ERR_NOT_FOUND, "%s has no address yet; `wirt console %s` needs none",
                       guest.name, guest.name);
    snprintf(login, sizeof(login), "%s@%s", user ? user : "root", address);
    char *const arguments[] = {(char[]){"ssh"}, login, NULL};
    if (os_process_start("/usr/bin/ssh", arguments, NULL, 0, &pid, err))
        return -1;
    remote->status = os_process_wait(pid);
    return 0;
}
