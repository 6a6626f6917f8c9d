// SPDX-License-Identifier: Apache-2.0
//
// Uploads: the file in a multipart body goes to disk piece by piece, after whoever is behind the front door has said that its sender may.
#include <string.h>

#include "node/http/http_internal.h"
#include "os/directory.h"
#include "os/file.h"

static int write_bytes(void *user, const void *bytes, size_t length, struct err *err)
{
    struct http_exchange *exchange = user;
    int failed = os_pwrite(exchange->upload_fd, bytes, length, exchange->upload_bytes);
    if (failed)
        return err_set_errno(err, -failed, "the upload cannot be written");
    exchange->upload_bytes += length;
    return 0;
}

static int status_of(const struct err *err)
{
    return err->code == ERR_USAGE ? 400 : 500;
}

int http_upload_begin(struct http_exchange *exchange, uint64_t length, struct err *err)
{
    struct http_request *request = &exchange->request;
    const struct http_options *options = &exchange->server->options;
    int status = 415;
    exchange->multipart = http_multipart_create(request->content_type, write_bytes, exchange, err);
    if (!exchange->multipart)
        return 400;
    exchange->upload_fd =
        options->ops->upload(options->user, request, length, request->upload, &status, err);
    return exchange->upload_fd < 0 ? status : 0;
}

int http_upload_take(struct http_exchange *exchange, const void *bytes, size_t length,
                     struct err *err)
{
    return http_multipart_feed(exchange->multipart, bytes, length, err) ? status_of(err) : 0;
}

int http_upload_end(struct http_exchange *exchange, struct err *err)
{
    os_file_close(&exchange->upload_fd);
    exchange->request.body = http_multipart_finish(exchange->multipart, err);
    return exchange->request.body ? 0 : status_of(err);
}

void http_upload_forget(struct http_exchange *exchange)
{
    http_multipart_destroy(exchange->multipart);
    exchange->multipart = NULL;
    if (exchange->upload_fd > 0)
        os_file_close(&exchange->upload_fd);
    if (exchange->request.upload[0])
        os_file_remove(exchange->request.upload);
    exchange->request.upload[0] = 0;
}
