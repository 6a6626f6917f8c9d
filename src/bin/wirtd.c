// SPDX-License-Identifier: Apache-2.0
//
// wirtd: keeps the node's virtual machines, behind Proxmox VE's interface.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "node/api/api.h"
#include "node/daemon/daemon.h"
#include "node/rest/rest.h"
#include "os/directory.h"

static const char usage[] =
    "usage: wirtd [OPTION]...\n"
    "Keeps virtual machines behind an HTTPS interface that clients of Proxmox VE know.\n"
    "  --state DIR            where everything is kept (/var/lib/wirt; for users below their "
    "data)\n"
    "  --listen [ADDRESS:]PORT  8006 on all addresses\n"
    "  --socket PATH          Unix socket for the node's owner (STATE/wirtd.sock)\n"
    "  --cert FILE --key FILE  certificate; one is made when none is given\n"
    "  --node NAME            the node's name (the host's)\n"
    "  --web DIR              the page's files\n"
    "  --accel HOW            how machines execute: auto, kvm, engine (auto)\n"
    "  --log-level LEVEL      error, warn, info or debug (info)\n"
    "  --check-replies        answers that break the interface's table are errors: for tests\n"
    "  --stop-guests          have the wirtd that runs shut all guests down, wait, and end\n"
    "  --describe             print the interface's table as JSON and end\n"
    "  --describe-page FOLDER  write it as a page to read, api.html and api.js, and end\n"
    "Example: wirtd --state ~/wirt --listen 127.0.0.1:8006\n";

struct words {
    struct daemon_options options;
    bool stop_guests;
    char state[4096], address[256];
};

static int set_listen(struct words *words, const char *value)
{
    const char *colon = strrchr(value, ':');
    uint64_t port;
    if (!units_parse_number(colon ? colon + 1 : value, 1, 65535, &port))
        return -1;
    words->options.port = (int)port;
    if (colon) {
        snprintf(words->address, sizeof(words->address), "%.*s", (int)(colon - value), value);
        words->options.address = words->address;
    }
    return 0;
}

static int set_word(struct words *words, const char *flag, const char *value)
{
    struct daemon_options *options = &words->options;
    enum log_level level;
    if (!strcmp(flag, "--listen"))
        return set_listen(words, value);
    if (!strcmp(flag, "--log-level")) {
        if (!log_level_parse(value, &level))
            return -1;
        log_set_level(level);
        return 0;
    }
    const struct {
        const char *flag;
        const char **to;
    } texts[] = {{"--state", &options->state},      {"--socket", &options->socket},
                 {"--cert", &options->certificate}, {"--key", &options->key},
                 {"--node", &options->node},        {"--web", &options->web},
                 {"--accel", &options->accel}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (!strcmp(texts[i].flag, flag)) {
            *texts[i].to = value;
            return 0;
        }
    return -1;
}

static int describe(void)
{
    json_t *table = api_describe(rest_tables, rest_common);
    json_dumpf(table, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(table);
    return 0;
}

static int write_page(const char *folder, struct err *err)
{
    char path[4096];
    size_t length;
    char *page = api_document(rest_tables, rest_common, &length);
    snprintf(path, sizeof(path), "%.4000s/api.html", folder);
    int result = os_file_write_whole(path, page, length, 0644, err);
    free(page);
    snprintf(path, sizeof(path), "%.4000s/api.js", folder);
    return result ? result
                  : os_file_write_whole(path, api_document_script, strlen(api_document_script),
                                        0644, err);
}

static int finish(int failed, const struct err *err)
{
    if (!failed)
        return 0;
    fprintf(stderr, "wirtd: %s\n", err->text);
    return err_exit_status(err->code);
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct words words = {.options = {.port = 8006, .accel = "auto"}};
    log_set_level(LOG_INFO);
    daemon_default_state(words.state, sizeof(words.state));
    words.options.state = words.state;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) {
            fputs(usage, stdout);
            return 0;
        }
        if (!strcmp(argv[i], "--describe"))
            return describe();
        if (!strcmp(argv[i], "--describe-page") && i + 1 < argc)
            return finish(write_page(argv[i + 1], &err), &err);
        if (!strcmp(argv[i], "--check-replies")) {
            words.options.check_replies = true;
            continue;
        }
        if (!strcmp(argv[i], "--stop-guests")) {
            words.stop_guests = true;
            continue;
        }
        if (i + 1 == argc || set_word(&words, argv[i], argv[i + 1])) {
            fprintf(stderr, "wirtd: %s: unknown, or its value is wrong; see wirtd --help\n",
                    argv[i]);
            return err_exit_status(ERR_USAGE);
        }
        i++;
    }
    int failed = words.stop_guests
                     ? daemon_stop_guests(words.options.state, words.options.socket, &err)
                     : daemon_run(&words.options, &err);
    return finish(failed, &err);
}
