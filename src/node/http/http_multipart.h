// SPDX-License-Identifier: Apache-2.0
//
// A multipart/form-data body, taken apart while it arrives: fields become parameters, the bytes of the one file go to whoever wants them.
//
// Pure: it is fed by strangers and keeps at most a boundary's length of the file and HTTP_FIELD_MAX of a field. Each part's head is bounded.
#ifndef WIRT_NODE_HTTP_HTTP_MULTIPART_H
#define WIRT_NODE_HTTP_HTTP_MULTIPART_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define HTTP_FIELD_MAX 65536 // bytes of one field
#define HTTP_PARTS_MAX 64

struct http_multipart;

// The file's bytes, in order. -1 and *err ends it.
typedef int http_file_bytes(void *user, const void *bytes, size_t length, struct err *err);

// `content_type` is the request's. NULL and *err when it is no multipart form.
struct http_multipart *http_multipart_create(const char *content_type, http_file_bytes *bytes,
                                             void *user, struct err *err);
void http_multipart_destroy(struct http_multipart *multipart); // NULL is fine
int http_multipart_feed(struct http_multipart *multipart, const void *bytes, size_t length,
                        struct err *err);
// The body is over: the fields, and "filename" as the file's sender named it; owned by the caller. NULL and *err when something is missing.
json_t *http_multipart_finish(struct http_multipart *multipart, struct err *err);

#endif
