// SPDX-License-Identifier: Apache-2.0
//
// Bytes as what a client of wirtd writes in a query, a form, a JSON body, a cookie or a multipart upload: refused with a reason, or within the
// bounds that http.h promises to everything behind it. The first byte chooses the parser.
//
// A multipart body is read twice, whole and in pieces of any size: what comes out must not depend on how the network cut it.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/http.h"
#include "node/http/http_multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void demand(bool true_of_it)
{
    if (!true_of_it)
        abort();
}

// What handlers read by json_string_value() is all of the string.
static void check_string(const json_t *value)
{
    demand(json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value));
}

static void check_params(const json_t *object)
{
    const char *name;
    json_t *value, *element;
    size_t index;
    demand(json_object_size(object) <= HTTP_PARAMS_MAX);
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        demand(*name && strlen(name) < 128);
        if (!json_is_array(value))
            check_string(value);
        demand(json_array_size(value) <= HTTP_PARAMS_MAX);
        json_array_foreach(value, index, element) check_string(element);
    }
}

static unsigned depth_of(const json_t *value)
{
    unsigned deepest = 0, depth;
    const char *name;
    json_t *inner;
    size_t index;
    json_object_foreach((json_t *)(uintptr_t)value, name, inner)
    {
        depth = depth_of(inner);
        deepest = depth > deepest ? depth : deepest;
    }
    json_array_foreach(value, index, inner)
    {
        depth = depth_of(inner);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + (json_is_object(value) || json_is_array(value));
}

static void try_form(const char *text, size_t length)
{
    struct err err = {0};
    json_t *object = json_object();
    if (http_parse_form(text, length, object, &err))
        demand(err.text[0] != 0);
    check_params(object);
    json_decref(object);
}

static void try_json(const char *text, size_t length)
{
    struct err err = {0};
    json_t *value = http_parse_json(text, length, &err);
    demand(value ? json_is_object(value) && json_object_size(value) <= HTTP_PARAMS_MAX
                 : err.text[0] != 0);
    demand(depth_of(value) <= HTTP_DEPTH_MAX);
    json_decref(value);
}

static void try_words(const char *bytes, size_t length)
{
    char value[64], *text = strndup(bytes, length);
    if (http_cookie(text, "PVEAuthCookie", value, sizeof(value)))
        demand(strlen(value) < sizeof(value));
    size_t before = strlen(text);
    if (http_percent_decode(text, length & 1))
        demand(strlen(text) <= before);
    free(text);
}

// ---- Uploads.

struct sink {
    uint64_t length, sum;
};

static int swallow(void *user, const void *bytes, size_t length, struct err *err)
{
    struct sink *sink = user;
    (void)err;
    for (size_t i = 0; i < length; i++)
        sink->sum = sink->sum * 31 + ((const uint8_t *)bytes)[i];
    sink->length += length;
    return 0;
}

// The fields, or NULL.
static json_t *read_upload(const char *type, const char *body, size_t length, size_t piece,
                           struct sink *sink)
{
    struct err err = {0};
    json_t *fields = NULL;
    struct http_multipart *multipart = http_multipart_create(type, swallow, sink, &err);
    int failed = multipart ? 0 : -1;
    while (length && !failed) {
        size_t n = piece < length ? piece : length;
        failed = http_multipart_feed(multipart, body, n, &err);
        body += n;
        length -= n;
    }
    if (!failed)
        fields = http_multipart_finish(multipart, &err);
    demand(fields || err.text[0]);
    http_multipart_destroy(multipart);
    return fields;
}

// A byte for the size of the pieces, the content type, a line's end, the body.
static void try_upload(const char *bytes, size_t length)
{
    const char *line = length ? memchr(bytes, '\n', length) : NULL;
    if (!line)
        return;
    struct sink once = {0}, cut = {0};
    size_t piece = (uint8_t)bytes[0] % 97 + 1u;
    char *type = strndup(bytes + 1, line > bytes ? (size_t)(line - bytes) - 1 : 0);
    size_t rest = length - (size_t)(line + 1 - bytes);
    json_t *whole = read_upload(type, line + 1, rest, rest + 1, &once);
    json_t *pieces = read_upload(type, line + 1, rest, piece, &cut);
    demand(!whole == !pieces);
    if (whole) {
        demand(json_equal(whole, pieces));
        demand(once.length == cut.length && once.sum == cut.sum && once.length <= rest);
        check_params(whole);
    }
    json_decref(whole);
    json_decref(pieces);
    free(type);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (length < 1)
        return 0;
    const char *text = (const char *)bytes + 1;
    switch (bytes[0] % 4) {
    case 0:
        try_form(text, length - 1);
        break;
    case 1:
        try_json(text, length - 1);
        break;
    case 2:
        try_upload(text, length - 1);
        break;
    default:
        try_words(text, length - 1);
    }
    return 0;
}
