// SPDX-License-Identifier: Apache-2.0
//
// `wirt ls`, `show`, `start`, `stop` and their like.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cli/remote/remote.h"
#include "cli/table.h"
#include "os/clock.h"
#include "os/tty.h"

static const struct cli_column guest_columns[] = {
    {"ID", "vmid", CELL_NUMBER},  {"NAME", "name", CELL_TEXT},     {"STATE", "status", CELL_STATE},
    {"NODE", "node", CELL_TEXT},  {"CPUS", "maxcpu", CELL_NUMBER}, {"CPU", "cpu", CELL_FRACTION},
    {"MEMORY", "mem", CELL_SIZE}, {"OF", "maxmem", CELL_SIZE},     {"UP", "uptime", CELL_SECONDS},
    {"TAGS", "tags", CELL_TEXT},  {NULL, NULL, CELL_TEXT},
};

// ---- ls: a filter is KEY=VALUE, or a part of the name, number or tags

static bool passes(const json_t *guest, const char *filter)
{
    char text[CLI_CELL_BYTES];
    const char *equals = strchr(filter, '=');
    if (equals) {
        char key[64];
        snprintf(key, sizeof(key), "%.*s", (int)(equals - filter), filter);
        return !strcmp(cli_cell_text(json_object_get(guest, key), CELL_TEXT, text), equals + 1);
    }
    static const char *const keys[] = {"name", "vmid", "tags", "pool"};
    for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
        if (strstr(cli_cell_text(json_object_get(guest, keys[k]), CELL_TEXT, text), filter))
            return true;
    return false;
}

static int by_number(const void *a, const void *b)
{
    json_int_t left = json_integer_value(json_object_get(*(json_t *const *)a, "vmid"));
    json_int_t right = json_integer_value(json_object_get(*(json_t *const *)b, "vmid"));
    return (left > right) - (left < right);
}

static int by_load(const void *a, const void *b)
{
    double left = json_number_value(json_object_get(*(json_t *const *)a, "cpu"));
    double right = json_number_value(json_object_get(*(json_t *const *)b, "cpu"));
    return (right > left) - (right < left);
}

// The rows in another order; takes `rows` over.
static json_t *sorted(json_t *rows, int (*compare)(const void *, const void *))
{
    size_t count = json_array_size(rows);
    json_t **list = calloc(count + 1, sizeof(*list));
    json_t *result = json_array();
    for (size_t i = 0; i < count; i++)
        list[i] = json_array_get(rows, i);
    qsort(list, count, sizeof(*list), compare);
    for (size_t i = 0; i < count; i++)
        json_array_append(result, list[i]);
    free(list);
    json_decref(rows);
    return result;
}

// A VM that does not run uses nothing: people see that better by a dash than by zeros.
static void forget_unused(json_t *guest)
{
    const char *status = json_string_value(json_object_get(guest, "status"));
    if (!status || strcmp(status, "stopped") != 0)
        return;
    json_object_del(guest, "cpu");
    json_object_del(guest, "mem");
    json_object_del(guest, "uptime");
}

static json_t *guests(struct remote *remote, struct err *err)
{
    json_t *all = NULL, *one;
    json_t *passed = json_array();
    size_t i;
    if (remote_call(remote, "GET", json_pack("{s:s}", "type", "vm"), &all, err,
                    "/cluster/resources")) {
        json_decref(passed);
        return NULL;
    }
    json_array_foreach(all, i, one)
    {
        bool pass = true;
        json_object_set_new(one, "status", json_string(remote_guest_status(one)));
        for (int f = 0; f < remote->words->operands && pass; f++)
            pass = passes(one, remote->words->operand[f]);
        if (pass)
            json_array_append(passed, one);
        if (pass && !remote->json)
            forget_unused(one);
    }
    json_decref(all);
    return passed;
}

int remote_ls(struct remote *remote, struct err *err)
{
    json_t *rows = guests(remote, err);
    if (!rows)
        return -1;
    rows = sorted(rows, by_number);
    if (!json_array_size(rows) && !remote->json)
        puts(remote->words->operands ? "no VM matches"
                                     : "no VMs yet: `wirt launch TEMPLATE NAME` makes one");
    else
        remote_table(remote, rows, guest_columns);
    json_decref(rows);
    return 0;
}

#define TOP_EVERY_NS 2000000000u

int remote_top(struct remote *remote, struct err *err)
{
    bool terminal = os_tty_is_terminal(1);
    do {
        json_t *rows = guests(remote, err);
        if (!rows)
            return -1;
        rows = sorted(rows, by_load);
        unsigned lines = os_tty_rows(1);
        while (terminal && lines > 3 && json_array_size(rows) > lines - 2)
            json_array_remove(rows, json_array_size(rows) - 1);
        if (terminal)
            fputs("\033[H\033[J", stdout);
        remote_table(remote, rows, guest_columns);
        fflush(stdout);
        json_decref(rows);
        if (terminal)
            os_clock_sleep_until_ns(os_clock_monotonic_ns() + TOP_EVERY_NS);
    } while (terminal);
    return 0;
}

// What runs, in units for people. The addresses are those that the node keeps for its cards.
static void print_status(const struct remote_guest *guest, const json_t *status,
                         const json_t *cards)
{
    static const struct cli_column running[] = {
        {"up for", "uptime", CELL_SECONDS},
        {"CPUs", "cpus", CELL_NUMBER},
        {"CPUs used", "cpu", CELL_FRACTION},
        {"memory used", "mem", CELL_SIZE},
        {"memory", "maxmem", CELL_SIZE},
        {"read from disks", "diskread", CELL_SIZE},
        {"written to disks", "diskwrite", CELL_SIZE},
        {"received", "netin", CELL_SIZE},
        {"sent", "netout", CELL_SIZE},
        {"process", "pid", CELL_NUMBER},
        {NULL, NULL, CELL_TEXT},
    };
    static const struct cli_column always[] = {{"is busy with", "lock", CELL_TEXT},
                                               {NULL, NULL, CELL_TEXT}};
    size_t i;
    json_t *card;
    json_array_foreach(cards, i, card)
    {
        const char *address = json_string_value(json_object_get(card, "address"));
        if (address)
            printf("%-18s %s\n", json_string_value(json_object_get(card, "card")), address);
    }
    if (strcmp(guest->status, "stopped") != 0)
        cli_facts_print(status, running, false);
    cli_facts_print(status, always, false);
}

int remote_show(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    json_t *status = NULL, *config = NULL, *cards = NULL;
    if (remote_find(remote, remote->words->operand[0], &guest, err) ||
        remote_call(remote, "GET", NULL, &status, err, "%s/status/current", guest.path))
        return -1;
    int result = remote_call(remote, "GET", NULL, &config, err, "%s/config", guest.path);
    if (!result && remote->json) {
        json_t *both = json_pack("{s:O, s:O}", "status", status, "config", config);
        remote_json(remote, both);
        json_decref(both);
    } else if (!result) {
        result = remote_call(remote, "GET", json_pack("{s:i}", "vmid", guest.vmid), &cards, err,
                             "/nodes/%s/cards", guest.node);
        json_object_del(config, "digest");
        printf("%s (%d) on %s: %s\n", guest.name, guest.vmid, guest.node, guest.status);
        print_status(&guest, status, cards);
        puts("\nConfiguration:");
        cli_facts_print(config, NULL, false);
    }
    json_decref(status);
    json_decref(config);
    json_decref(cards);
    return result;
}

// ---- states: one task for each VM named; the first failure ends it

typedef json_t *parameters_of(const struct remote *remote);

static int each(struct remote *remote, const char *text, const char *verb,
                parameters_of *parameters, struct err *err)
{
    for (int i = 0; i < remote->words->operands; i++) {
        struct remote_guest guest;
        char what[NAME_BYTES * 2];
        if (remote_find(remote, remote->words->operand[i], &guest, err))
            return -1;
        snprintf(what, sizeof(what), "%s %s", text, guest.name);
        if (remote_task(remote, what, "POST", parameters ? parameters(remote) : NULL, err,
                        "%s/status/%s", guest.path, verb))
            return -1;
    }
    return 0;
}

static json_t *shutdown_parameters(const struct remote *remote)
{
    const char *timeout = cli_word(remote->words, "timeout");
    return json_pack("{s:s}", "timeout", timeout ? timeout : "60");
}

static json_t *stop_parameters(const struct remote *remote)
{
    (void)remote;
    return json_pack("{s:i}", "overrule-shutdown", 1);
}

int remote_start(struct remote *remote, struct err *err)
{
    return each(remote, "start", "start", NULL, err);
}

int remote_stop(struct remote *remote, struct err *err)
{
    if (cli_has(remote->words, "force"))
        return each(remote, "stop", "stop", stop_parameters, err);
    if (each(remote, "shut down", "shutdown", shutdown_parameters, err))
        return err_wrap(err, "the guest did not shut down (--force pulls the plug)");
    return 0;
}

int remote_restart(struct remote *remote, struct err *err)
{
    return each(remote, "restart", "reboot", NULL, err);
}

int remote_pause(struct remote *remote, struct err *err)
{
    return each(remote, "pause", "suspend", NULL, err);
}

int remote_resume(struct remote *remote, struct err *err)
{
    return each(remote, "resume", "resume", NULL, err);
}

static int remove_one(struct remote *remote, const char *name, struct err *err)
{
    struct remote_guest guest;
    char text[NAME_BYTES * 3];
    if (remote_find(remote, name, &guest, err))
        return -1;
    snprintf(text, sizeof(text), "Delete %s (%d) with its disks and snapshots?", guest.name,
             guest.vmid);
    if (!remote_confirm(remote, text, err))
        return -1;
    snprintf(text, sizeof(text), "stop %s", guest.name);
    if (cli_has(remote->words, "force") && strcmp(guest.status, "stopped") != 0 &&
        remote_task(remote, text, "POST", stop_parameters(remote), err, "%s/status/stop",
                    guest.path))
        return -1;
    snprintf(text, sizeof(text), "delete %s", guest.name);
    return remote_task(remote, text, "DELETE", json_pack("{s:i}", "purge", 1), err, "%s",
                       guest.path);
}

int remote_rm(struct remote *remote, struct err *err)
{
    for (int i = 0; i < remote->words->operands; i++)
        if (remove_one(remote, remote->words->operand[i], err))
            return -1;
    return 0;
}
