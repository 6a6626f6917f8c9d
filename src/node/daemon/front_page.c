// SPDX-License-Identifier: Apache-2.0
//
// The page's files, read from one folder. A path is letters, digits and a few marks, so that it cannot lead out of it.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/daemon/front.h"
#include "os/directory.h"

#define FILE_MAX (16 * 1024 * 1024)
#define POLICY                                                                                     \
    "Content-Security-Policy: default-src 'self'; style-src 'self' 'unsafe-inline'; img-src "      \
    "'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action "           \
    "'self'; frame-ancestors 'none'\r\n"

static const struct {
    const char *suffix, *type;
} types[] = {{".html", "text/html; charset=utf-8"},
             {".js", "text/javascript; charset=utf-8"},
             {".css", "text/css; charset=utf-8"},
             {".json", "application/json"},
             {".svg", "image/svg+xml"},
             {".png", "image/png"},
             {".ico", "image/x-icon"},
             {".woff2", "font/woff2"},
             {".txt", "text/plain; charset=utf-8"}};

static const char *type_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
        if (!strcmp(types[i].suffix, dot))
            return types[i].type;
    return NULL;
}

static bool plain(const char *path)
{
    for (const char *c = path; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("/-_.", *c))
            return false;
    return path[0] == '/' && !strstr(path, "..") && !strstr(path, "/.");
}

// The interface's documentation, from its table: what stands at the path, or NULL.
static char *documentation(const char *path, size_t *length)
{
    if (!strcmp(path, "/api.html"))
        return api_document(rest_tables, rest_common, length);
    if (strcmp(path, "/api.js") != 0)
        return NULL;
    *length = strlen(api_document_script);
    return strdup(api_document_script);
}

void front_page(struct front *front, struct http_exchange *exchange,
                const struct http_request *request)
{
    char path[4096];
    const char *name = !strcmp(request->path, "/") ? "/index.html" : request->path;
    size_t length;
    bool read = !strcmp(request->method, "GET") || !strcmp(request->method, "HEAD");
    char *bytes = read ? documentation(name, &length) : NULL;
    if (!bytes && front->web && read && plain(name) && type_of(name)) {
        snprintf(path, sizeof(path), "%.2000s%.2000s", front->web, name);
        bytes = os_file_read_all(path, FILE_MAX, &length, NULL);
    }
    if (!bytes) {
        front_error(exchange, 404, "Not Found");
        return;
    }
    bool fingerprinted = !strncmp(name, "/assets/", 8); // named after their content by the build
    struct http_reply reply = {.status = 200,
                               .type = type_of(name),
                               .headers = fingerprinted ? POLICY
                                              "Cache-Control: max-age=31536000\r\n"
                                                        : POLICY "Cache-Control: no-cache\r\n",
                               .body = bytes,
                               .length = length};
    http_answer(exchange, &reply);
}
