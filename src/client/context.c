// SPDX-License-Identifier: Apache-2.0
#include "client/context.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client_internal.h"
#include "os/directory.h"

#define FILE_NAME      "contexts.json"
#define FILE_BYTES_MAX (1u << 20)
#define PATH_BYTES     1024

static int folder_path(char *path, size_t size, struct err *err)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = config && *config ? snprintf(path, size, "%s/wirt", config)
            : home            ? snprintf(path, size, "%s/.config/wirt", home)
                              : -1;
    if (n < 0 || (size_t)n >= size)
        return err_set(err, ERR_NOT_FOUND, "HOME is not set: there is no place for contexts");
    return 0;
}

static int file_path(char *path, size_t size, struct err *err)
{
    char folder[PATH_BYTES - sizeof(FILE_NAME)];
    if (folder_path(folder, sizeof(folder), err))
        return -1;
    snprintf(path, size, "%s/" FILE_NAME, folder);
    return 0;
}

json_t *context_load(struct err *err)
{
    char path[PATH_BYTES];
    json_error_t where = {0};
    size_t length;
    if (file_path(path, sizeof(path), err))
        return NULL;
    if (!os_file_exists(path))
        return json_pack("{s:{}}", "contexts");
    char *text = os_file_read_all(path, FILE_BYTES_MAX, &length, err);
    if (!text)
        return NULL;
    json_t *contexts = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (json_is_object(json_object_get(contexts, "contexts")))
        return contexts;
    json_decref(contexts);
    err_set(err, ERR_INPUT, "%s: line %d: %s", path, where.line,
            *where.text ? where.text : "\"contexts\" is missing");
    return NULL;
}

int context_save(const json_t *contexts, struct err *err)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    if (folder_path(folder, sizeof(folder), err) || file_path(path, sizeof(path), err) ||
        os_directory_make_all(folder, 0700, err))
        return -1;
    char *text = json_dumps(contexts, JSON_INDENT(2) | JSON_SORT_KEYS);
    int result = os_file_write_whole(path, text, strlen(text), 0600, err);
    free(text);
    return result;
}

// ---- certificates

static char *fingerprint_of(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (!certificate || !X509_digest(certificate, EVP_sha256(), digest, &length))
        length = 0;
    X509_free(certificate);
    if (!length)
        return NULL;
    size_t room = 3 * (size_t)length;
    char *text = malloc(room);
    for (size_t i = 0; i < length; i++)
        snprintf(text + 3 * i, room - 3 * i, "%02X%s", digest[i], i + 1 < length ? ":" : "");
    return text;
}

static char *first_certificate(CURL *curl)
{
    struct curl_certinfo *info = NULL;
    if (curl_easy_getinfo(curl, CURLINFO_CERTINFO, &info) != CURLE_OK || !info ||
        info->num_of_certs < 1)
        return NULL;
    for (struct curl_slist *line = info->certinfo[0]; line; line = line->next)
        if (!strncmp(line->data, "Cert:", 5))
            return strdup(line->data + 5);
    return NULL;
}

int context_fetch_certificate(const char *url, char **pem, char **fingerprint, struct err *err)
{
    struct client_target target = {.url = url};
    struct curl_slist *headers = NULL;
    struct client *client = client_open(&target, err);
    if (!client)
        return -1;
    client_prepare(client, &headers);
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_SSL_VERIFYPEER, 0L); // to look at, not to talk
    curl_easy_setopt(client->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(client->curl, CURLOPT_CERTINFO, 1L);
    curl_easy_setopt(client->curl, CURLOPT_CONNECT_ONLY, 1L);
    CURLcode code = curl_easy_perform(client->curl);
    int result = 0;
    *pem = *fingerprint = NULL;
    if (code != CURLE_OK)
        result = client_fail(client, code, err);
    else if (!(*pem = first_certificate(client->curl)) || !(*fingerprint = fingerprint_of(*pem)))
        result = err_set(err, ERR_INPUT, "%s shows no certificate", url);
    client_close(client);
    return result;
}

// ---- which node is meant

void context_url(const char *host, char *url, size_t size)
{
    bool whole = strstr(host, "://");
    const char *rest = whole ? strstr(host, "://") + 3 : host;
    const char *after_address = strchr(rest, ']') ? strchr(rest, ']') : rest;
    snprintf(url, size, "%s%s%s", whole ? "" : "https://", host,
             strchr(after_address, ':') ? "" : ":8006");
}

static struct client *open_named(const json_t *contexts, const char *name, struct err *err)
{
    json_t *found = json_object_get(json_object_get(contexts, "contexts"), name);
    if (!found) {
        err_set(err, ERR_NOT_FOUND, "there is no context \"%s\"; `wirt context list` shows them",
                name);
        return NULL;
    }
    struct client_target target = {
        .url = json_string_value(json_object_get(found, "url")),
        .token = json_string_value(json_object_get(found, "token")),
        .certificate = json_string_value(json_object_get(found, "certificate")),
    };
    if (!target.url) {
        err_set(err, ERR_INPUT, "context \"%s\" has no url; add it again", name);
        return NULL;
    }
    return client_open(&target, err);
}

static struct client *open_host(const char *host, struct err *err)
{
    char url[512];
    struct client_target target = {.url = url, .token = getenv("WIRT_TOKEN")};
    context_url(host, url, sizeof(url));
    if (!target.token) {
        err_set(err, ERR_USAGE,
                "--host needs a token in WIRT_TOKEN (user@realm!name=secret); `wirt context add` "
                "keeps both");
        return NULL;
    }
    return client_open(&target, err);
}

struct client *context_open(const char *host, const char *name, const char *local_socket,
                            struct err *err)
{
    if (host)
        return open_host(host, err);
    json_t *contexts = context_load(err);
    if (!contexts)
        return NULL;
    struct client *client = NULL;
    if (!name)
        name = getenv("WIRT_CONTEXT");
    if (!name && !getenv("WIRT_SOCKET"))
        name = json_string_value(json_object_get(contexts, "current"));
    client = name ? open_named(contexts, name, err)
                  : client_open(&(struct client_target){.socket = local_socket}, err);
    json_decref(contexts);
    return client;
}
