// SPDX-License-Identifier: Apache-2.0
//
// `wirt context`: the nodes known here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "cli/table.h"
#include "client/context.h"

int remote_context_list(struct remote *remote, struct err *err)
{
    static const struct cli_column columns[] = {
        {"NAME", "name", CELL_TEXT},       {"URL", "url", CELL_TEXT}, {"TOKEN", "token", CELL_TEXT},
        {"CURRENT", "current", CELL_TEXT}, {NULL, NULL, CELL_TEXT},
    };
    json_t *all = context_load(err), *rows = json_array(), *one;
    const char *name;
    if (!all) {
        json_decref(rows);
        return -1;
    }
    const char *current = json_string_value(json_object_get(all, "current"));
    json_object_foreach(json_object_get(all, "contexts"), name, one)
    {
        const char *token = json_string_value(json_object_get(one, "token"));
        char id[NAME_BYTES]; // whose token, not the secret
        snprintf(id, sizeof(id), "%.*s", token ? (int)strcspn(token, "=") : 0, token ? token : "");
        json_array_append_new(rows, json_pack("{s:s, s:O, s:s, s:s}", "name", name, "url",
                                              json_object_get(one, "url"), "token", id, "current",
                                              current && !strcmp(current, name) ? "*" : ""));
    }
    remote_table(remote, rows, columns);
    json_decref(rows);
    json_decref(all);
    return 0;
}

// Is it the certificate that the user expects? Asked, or compared with --fingerprint.
static bool is_trusted(struct remote *remote, const char *url, const char *fingerprint,
                       struct err *err)
{
    const char *expected = cli_word(remote->words, "fingerprint");
    char question[PATH_BYTES + 256];
    if (expected && !strcasecmp(expected, fingerprint))
        return true;
    if (expected) {
        err_set(err, ERR_DENIED, "%s shows the fingerprint %s, not the one given", url,
                fingerprint);
        return false;
    }
    snprintf(question, sizeof(question),
             "%s has a certificate with the SHA-256 fingerprint\n  %s\nIs that the node's?", url,
             fingerprint);
    return remote_confirm(remote, question, err);
}

static int store(const char *name, const char *url, const char *token, const char *certificate,
                 struct err *err)
{
    json_t *all = context_load(err);
    if (!all)
        return -1;
    json_t *one = json_pack("{s:s, s:s}", "url", url, "certificate", certificate);
    if (token)
        json_object_set_new(one, "token", json_string(token));
    json_object_set_new(json_object_get(all, "contexts"), name, one);
    json_object_set_new(all, "current", json_string(name));
    int result = context_save(all, err);
    json_decref(all);
    return result;
}

int remote_context_add(struct remote *remote, struct err *err)
{
    char url[PATH_BYTES], *certificate, *fingerprint;
    context_url(remote->words->operand[1], url, sizeof(url));
    if (context_fetch_certificate(url, &certificate, &fingerprint, err))
        return -1;
    int result = is_trusted(remote, url, fingerprint, err)
                     ? store(remote->words->operand[0], url, cli_word(remote->words, "token"),
                             certificate, err)
                     : -1;
    free(certificate);
    free(fingerprint);
    if (!result)
        fprintf(stderr, "%s is kept and in use; `wirt ls` asks it\n", remote->words->operand[0]);
    return result;
}

static int change(struct remote *remote, bool gone, struct err *err)
{
    const char *name = remote->words->operand[0];
    json_t *all = context_load(err);
    if (!all)
        return -1;
    json_t *contexts = json_object_get(all, "contexts");
    const char *current = json_string_value(json_object_get(all, "current"));
    int result = -1;
    if (!json_object_get(contexts, name)) {
        err_set(err, ERR_NOT_FOUND, "there is no context \"%s\"; `wirt context list` shows them",
                name);
    } else {
        if (gone && current && !strcmp(current, name))
            json_object_del(all, "current");
        if (gone)
            json_object_del(contexts, name);
        else
            json_object_set_new(all, "current", json_string(name));
        result = context_save(all, err);
    }
    json_decref(all);
    return result;
}

int remote_context_use(struct remote *remote, struct err *err)
{
    return change(remote, false, err);
}

int remote_context_rm(struct remote *remote, struct err *err)
{
    return change(remote, true, err);
}
