// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client_internal.h"

#define API              "/api2/json"
#define ANSWER_BYTES_MAX (256u << 20)
#define CONNECT_SECONDS  10L

struct text {
    char *bytes;
    size_t length, room;
};

static bool text_add(struct text *text, const char *bytes, size_t length)
{
    if (text->length + length + 1 > text->room) {
        size_t room = (text->length + length + 1) * 2;
        char *bigger = room > ANSWER_BYTES_MAX ? NULL : realloc(text->bytes, room);
        if (!bigger)
            return false;
        text->bytes = bigger;
        text->room = room;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = 0;
    return true;
}

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

struct client *client_open(const struct client_target *target, struct err *err)
{
    struct client *client = calloc(1, sizeof(*client));
    assert(target->socket || target->url);
    if (client)
        client->curl = curl_easy_init();
    if (!client || !client->curl) {
        free(client);
        err_set(err, ERR_LIMIT, "no memory for a connection");
        return NULL;
    }
    client->socket = copy(target->socket);
    client->url = copy(target->socket ? "http://localhost" : target->url);
    client->token = copy(target->token);
    client->certificate = copy(target->certificate);
    return client;
}

void client_close(struct client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    free(client->socket);
    free(client->url);
    free(client->token);
    free(client->certificate);
    free(client);
}

// ---- what is sent

static void add_pair(CURL *curl, struct text *form, const char *name, const char *value)
{
    char *escaped_name = curl_easy_escape(curl, name, 0);
    char *escaped = curl_easy_escape(curl, value, 0);
    if (form->length)
        text_add(form, "&", 1);
    text_add(form, escaped_name, strlen(escaped_name));
    text_add(form, "=", 1);
    text_add(form, escaped, strlen(escaped));
    curl_free(escaped_name);
    curl_free(escaped);
}

static void add_value(CURL *curl, struct text *form, const char *name, const json_t *value)
{
    char number[32];
    size_t i;
    const json_t *one;
    switch (json_typeof(value)) {
    case JSON_STRING:
        add_pair(curl, form, name, json_string_value(value));
        break;
    case JSON_INTEGER:
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        add_pair(curl, form, name, number);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        add_pair(curl, form, name, json_is_true(value) ? "1" : "0");
        break;
    case JSON_ARRAY:
        json_array_foreach(value, i, one) add_value(curl, form, name, one);
        break;
    case JSON_NULL:   // not given
    case JSON_OBJECT: // no parameter is one
    case JSON_REAL:
        break;
    }
}

char *client_encode(CURL *curl, const json_t *parameters)
{
    struct text form = {0};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)parameters, name, value) add_value(curl, &form, name, value);
    return form.bytes;
}

void client_prepare(struct client *client, struct curl_slist **headers)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->curl_error);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    client->curl_error[0] = 0;
    if (client->socket)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->socket);
    if (client->certificate) {
        // The very certificate is known: whatever name it carries.
        struct curl_blob blob = {client->certificate, strlen(client->certificate), CURL_BLOB_COPY};
        curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &blob);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (client->token) {
        char header[1024];
        snprintf(header, sizeof(header), "Authorization: PVEAPIToken=%s", client->token);
        *headers = curl_slist_append(*headers, header);
    }
}

// ---- what comes back

static size_t on_body(char *bytes, size_t size, size_t count, void *user)
{
    return text_add(user, bytes, size * count) ? count : 0;
}

// The status line carries the reason where the body has none: "HTTP/1.1 403 Permission check failed".
static size_t on_header(char *bytes, size_t size, size_t count, void *user)
{
    size_t length = size * count;
    if (length > 13 && !memcmp(bytes, "HTTP/", 5)) {
        const char *reason = memchr(bytes, ' ', length);
        reason = reason ? memchr(reason + 1, ' ', length - (size_t)(reason + 1 - bytes)) : NULL;
        struct text *text = user;
        text->length = 0;
        if (reason)
            text_add(text, reason + 1,
                     strcspn(reason + 1, "\r\n")); // a header always ends with a line end
    }
    return count;
}

int client_fail(struct client *client, CURLcode code, struct err *err)
{
    const char *where = client->socket ? client->socket : client->url;
    const char *why = client->curl_error[0] ? client->curl_error : curl_easy_strerror(code);
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return err_set(err, ERR_DENIED,
                       "%s: its certificate is not trusted (%s); `wirt context add` keeps it after "
                       "you have compared its fingerprint",
                       where, why);
    if (code == CURLE_COULDNT_CONNECT && client->socket)
        return err_set(err, ERR_NOT_FOUND,
                       "no node answers at %s: is wirtd running? For a node elsewhere give --host "
                       "or `wirt context add`",
                       where);
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT)
        return err_set(err, ERR_IO,
                       "%s: %s: does wirtd run there, and does a firewall let it be reached?",
                       where, why);
    if (code == CURLE_COULDNT_RESOLVE_HOST)
        return err_set(err, ERR_NOT_FOUND, "%s: %s: is the name right? An address does, too", where,
                       why);
    return err_set(err, ERR_IO, "%s: %s", where, why);
}

static enum err_code code_of(long status, const char *text)
{
    if (status == 400)
        return strstr(text, "already exists") ? ERR_EXISTS : ERR_INPUT;
    if (status == 401 || status == 403)
        return ERR_DENIED;
    if (status == 404 || strstr(text, "does not exist") || strstr(text, "no such"))
        return ERR_NOT_FOUND;
    if (status == 501)
        return ERR_UNSUPPORTED;
    return strstr(text, "lock") || strstr(text, "running") ? ERR_BUSY : ERR_IO;
}

// "Parameter verification failed. memory: value must be at least 16"
static int refuse(long status, const char *reason, const json_t *body, struct err *err)
{
    char text[ERR_TEXT_BYTES];
    const char *message = json_string_value(json_object_get(body, "message"));
    const char *name;
    json_t *why;
    if (!message || !*message)
        message = reason;
    int n = snprintf(text, sizeof(text), "%.*s", (int)strcspn(message, "\n"), message);
    json_object_foreach(json_object_get(body, "errors"), name, why)
    {
        if (n > 0 && (size_t)n < sizeof(text) - 1 && text[n - 1] != '.')
            text[n++] = ';';
        if (n > 0 && (size_t)n < sizeof(text))
            n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%s: %s", n ? " " : "", name,
                          json_is_string(why) ? json_string_value(why) : "refused");
    }
    return err_set(err, code_of(status, text), "%s", *text ? text : "the node refused it");
}

static int take_answer(CURL *curl, const struct text *body, const struct text *reason,
                       json_t **data, struct err *err)
{
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *json = body->bytes ? json_loadb(body->bytes, body->length, 0, NULL) : NULL;
    int result = 0;
    if (status != 200)
        result = refuse(status, reason->bytes ? reason->bytes : "", json, err);
    else if (!json_is_object(json))
        result = err_set(err, ERR_INPUT, "the answer is not the API's: is this a node of wirt?");
    else {
        json_t *found = json_object_get(json, "data");
        *data = found ? json_incref(found) : json_null();
    }
    json_decref(json);
    return result;
}

// Runs what is prepared and takes the answer.
static int perform(struct client *client, struct curl_slist *headers, json_t **data,
                   struct err *err)
{
    struct text body = {0}, reason = {0};
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &reason);
    CURLcode code = curl_easy_perform(curl);
    int result = code == CURLE_OK ? take_answer(curl, &body, &reason, data, err)
                                  : client_fail(client, code, err);
    free(body.bytes);
    free(reason.bytes);
    return result;
}

int client_call(struct client *client, const char *method, const char *path,
                const json_t *parameters, json_t **data, struct err *err)
{
    struct text url = {0};
    struct curl_slist *headers = NULL;
    bool in_query = !strcmp(method, "GET") || !strcmp(method, "DELETE");
    client_prepare(client, &headers);
    char *form = client_encode(client->curl, parameters);
    text_add(&url, client->url, strlen(client->url));
    text_add(&url, API, strlen(API));
    text_add(&url, path, strlen(path));
    if (in_query && form) {
        text_add(&url, "?", 1);
        text_add(&url, form, strlen(form));
    }
    curl_easy_setopt(client->curl, CURLOPT_URL, url.bytes);
    if (!in_query)
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, form ? form : "");
    if (strcmp(method, "GET") != 0)
        curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
    int result = perform(client, headers, data, err);
    curl_slist_free_all(headers);
    free(form);
    free(url.bytes);
    return result;
}

// ---- uploads

struct upload {
    client_progress *progress;
    void *user;
};

static int on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t total,
                       curl_off_t done)
{
    (void)down_total;
    (void)down;
    struct upload *upload = user;
    if (upload->progress && total > 0)
        upload->progress(upload->user, (uint64_t)done, (uint64_t)total);
    return 0;
}

static void add_part(curl_mime *mime, const char *name, const char *value)
{
    curl_mimepart *part = curl_mime_addpart(mime);
    curl_mime_name(part, name);
    curl_mime_data(part, value, CURL_ZERO_TERMINATED);
}

int client_upload(struct client *client, const char *path, const char *content,
                  const char *file_path, const char *name, client_progress *progress, void *user,
                  json_t **data, struct err *err)
{
    struct curl_slist *headers = NULL;
    struct upload upload = {progress, user};
    char url[2048];
    client_prepare(client, &headers);
    curl_mime *mime = curl_mime_init(client->curl);
    add_part(mime, "content",
             content); // before the file: the node decides by it where the file goes
    curl_mimepart *part = curl_mime_addpart(mime);
    curl_mime_name(part, "filename");
    int result = -1;
    if (curl_mime_filedata(part, file_path) != CURLE_OK) {
        err_set(err, ERR_NOT_FOUND, "%s: cannot be read", file_path);
    } else {
        curl_mime_filename(part, name);
        snprintf(url, sizeof(url), "%s" API "%s", client->url, path);
        curl_easy_setopt(client->curl, CURLOPT_URL, url);
        curl_easy_setopt(client->curl, CURLOPT_MIMEPOST, mime);
        curl_easy_setopt(client->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(client->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(client->curl, CURLOPT_XFERINFODATA, &upload);
        result = perform(client, headers, data, err);
    }
    curl_mime_free(mime);
    curl_slist_free_all(headers);
    return result;
}
