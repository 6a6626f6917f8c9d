// SPDX-License-Identifier: Apache-2.0
//
// How it works: bytes gather in a buffer until the state they are in can go on: a delimiter's end, a part's whole head, or bytes of a part of
// which it is certain that no delimiter begins in them.
#include "node/http/http_multipart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/http/http.h"

#define BOUNDARY_BYTES 80
#define HEAD_MAX       4096
#define BUFFER_BYTES   (64 * 1024 + HEAD_MAX)
#define NAME_BYTES     256

enum state {
    STATE_BEFORE, // the first delimiter has not come
    STATE_DELIMITED,
    STATE_HEAD,
    STATE_BODY,
    STATE_OVER
};

struct http_multipart {
    http_file_bytes *bytes;
    void *user;
    char delimiter[BOUNDARY_BYTES + 8]; // "\r\n--boundary"
    size_t delimiter_length;
    enum state state;
    char buffer[BUFFER_BYTES];
    size_t used;
    json_t *fields; // owned
    unsigned parts;
    // Of the part that is read.
    bool is_file, had_file;
    char name[NAME_BYTES];
    char *field; // owned
    size_t field_length;
};

// ---- Heads.

// The value of NAME="…" or NAME=word in a header's line; false when there is none.
static bool parameter(const char *line, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);
    for (const char *at = line; (at = strchr(at, ';'));) {
        at++;
        at += strspn(at, " \t");
        if (strncasecmp(at, name, n) != 0 || at[n] != '=')
            continue;
        at += n + 1;
        bool quoted = *at == '"';
        at += quoted;
        size_t length = strcspn(at, quoted ? "\"\r\n" : "; \t\r\n");
        if (length >= size)
            return false;
        memcpy(value, at, length);
        value[length] = 0;
        return true;
    }
    return false;
}

static int fail(struct err *err, const char *what)
{
    return err_set(err, ERR_USAGE, "the multipart body %s", what);
}

static int take_head(struct http_multipart *m, char *head, struct err *err)
{
    char file[NAME_BYTES];
    char *line = head, *save = NULL;
    bool disposed = false;
    if (++m->parts > HTTP_PARTS_MAX)
        return fail(err, "has too many parts");
    for (line = strtok_r(head, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        if (strncasecmp(line, "content-disposition:", 20) != 0)
            continue;
        disposed = parameter(line, "name", m->name, sizeof(m->name)) && m->name[0];
        m->is_file = parameter(line, "filename", file, sizeof(file));
    }
    if (!disposed)
        return fail(err, "has a part without a name");
    if (!m->is_file)
        return 0;
    if (m->had_file)
        return fail(err, "has more than one file");
    m->had_file = true;
    if (json_object_set_new(m->fields, "filename", json_string(file)))
        return fail(err, "has a file's name that is not UTF-8");
    return 0;
}

// ---- Bodies.

static int take_bytes(struct http_multipart *m, const char *bytes, size_t length, struct err *err)
{
    if (!length)
        return 0;
    if (m->is_file)
        return m->bytes(m->user, bytes, length, err);
    if (m->field_length + length > HTTP_FIELD_MAX)
        return fail(err, "has a field that is too long");
    char *more = realloc(m->field, m->field_length + length);
    if (!more)
        abort();
    memcpy(more + m->field_length, bytes, length);
    m->field = more;
    m->field_length += length;
    return 0;
}

static int end_part(struct http_multipart *m, struct err *err)
{
    int result = 0;
    if (!m->is_file)
        result = http_add_param(m->fields, m->name, strlen(m->name), m->field ? m->field : "",
                                m->field_length, err);
    free(m->field);
    m->field = NULL;
    m->field_length = 0;
    return result;
}

// ---- States. Each takes what it can from the buffer's beginning: bytes taken, 0 when it needs more, -1.

static ssize_t step_before(struct http_multipart *m)
{
    // The very first delimiter needs no line before it.
    const char *bare = m->delimiter + 2;
    size_t n = m->delimiter_length - 2;
    const char *at = memmem(m->buffer, m->used, bare, n);
    if (at) {
        m->state = STATE_DELIMITED;
        return at - m->buffer + (ssize_t)n;
    }
    return m->used >= n ? (ssize_t)(m->used - n + 1) : 0;
}

static ssize_t step_delimited(struct http_multipart *m, struct err *err)
{
    if (m->used < 2)
        return 0;
    if (!memcmp(m->buffer, "--", 2))
        m->state = STATE_OVER;
    else if (!memcmp(m->buffer, "\r\n", 2))
        m->state = STATE_HEAD;
    else
        return fail(err, "has a broken delimiter");
    return 2;
}

static ssize_t step_head(struct http_multipart *m, struct err *err)
{
    char head[HEAD_MAX];
    const char *end = memmem(m->buffer, m->used, "\r\n\r\n", 4);
    size_t length = end ? (size_t)(end - m->buffer) : m->used;
    if (length >= sizeof(head))
        return fail(err, "has a part whose head is too long");
    if (!end)
        return 0;
    memcpy(head, m->buffer, length);
    head[length] = 0;
    if (strlen(head) != length)
        return fail(err, "has a zero byte in a head");
    m->state = STATE_BODY;
    return take_head(m, head, err) ? -1 : (ssize_t)length + 4;
}

static ssize_t step_body(struct http_multipart *m, struct err *err)
{
    const char *end = memmem(m->buffer, m->used, m->delimiter, m->delimiter_length);
    if (end) {
        size_t length = (size_t)(end - m->buffer);
        m->state = STATE_DELIMITED;
        if (take_bytes(m, m->buffer, length, err) || end_part(m, err))
            return -1;
        return (ssize_t)(length + m->delimiter_length);
    }
    if (m->used < m->delimiter_length)
        return 0;
    size_t sure = m->used - m->delimiter_length + 1;
    return take_bytes(m, m->buffer, sure, err) ? -1 : (ssize_t)sure;
}

static ssize_t step(struct http_multipart *m, struct err *err)
{
    switch (m->state) {
    case STATE_BEFORE:
        return step_before(m);
    case STATE_DELIMITED:
        return step_delimited(m, err);
    case STATE_HEAD:
        return step_head(m, err);
    case STATE_BODY:
        return step_body(m, err);
    case STATE_OVER:
        break;
    }
    return (ssize_t)m->used; // what stands behind the last delimiter is nobody's
}

int http_multipart_feed(struct http_multipart *multipart, const void *bytes, size_t length,
                        struct err *err)
{
    const char *from = bytes;
    while (length) {
        size_t room = BUFFER_BYTES - multipart->used, n = length < room ? length : room;
        memcpy(multipart->buffer + multipart->used, from, n);
        multipart->used += n;
        from += n;
        length -= n;
        ssize_t taken;
        while (multipart->used && (taken = step(multipart, err)) != 0) {
            if (taken < 0)
                return -1;
            multipart->used -= (size_t)taken;
            memmove(multipart->buffer, multipart->buffer + taken, multipart->used);
        }
    }
    return 0;
}

json_t *http_multipart_finish(struct http_multipart *multipart, struct err *err)
{
    if (multipart->state != STATE_OVER) {
        fail(err, "ends before its last delimiter");
        return NULL;
    }
    return json_incref(multipart->fields);
}

struct http_multipart *http_multipart_create(const char *content_type, http_file_bytes *bytes,
                                             void *user, struct err *err)
{
    char boundary[BOUNDARY_BYTES];
    if (strncasecmp(content_type, "multipart/form-data", 19) != 0 ||
        !parameter(content_type, "boundary", boundary, sizeof(boundary)) || !boundary[0]) {
        err_set(err, ERR_USAGE, "an upload is multipart/form-data with a boundary");
        return NULL;
    }
    struct http_multipart *m = calloc(1, sizeof(*m));
    if (!m)
        abort();
    m->bytes = bytes;
    m->user = user;
    m->fields = json_object();
    m->delimiter_length =
        (size_t)snprintf(m->delimiter, sizeof(m->delimiter), "\r\n--%s", boundary);
    return m;
}

void http_multipart_destroy(struct http_multipart *multipart)
{
    if (!multipart)
        return;
    json_decref(multipart->fields);
    free(multipart->field);
    free(multipart);
}
