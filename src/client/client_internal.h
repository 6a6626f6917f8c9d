// SPDX-License-Identifier: Apache-2.0
#ifndef WIRT_CLIENT_CLIENT_INTERNAL_H
#define WIRT_CLIENT_CLIENT_INTERNAL_H

#include <curl/curl.h>

#include "client/client.h"

struct client {
    CURL *curl;
    char *socket, *url, *token, *certificate;
    char curl_error[CURL_ERROR_SIZE];
};

// Resets the handle and sets what every connection needs: where, which certificate, who asks (*headers is extended).
void client_prepare(struct client *client, struct curl_slist **headers);

// curl's error as ours, naming the node.
int client_fail(struct client *client, CURLcode code, struct err *err);

// Parameters as a form; NULL when there are none. The caller frees it with curl_free-compatible free().
char *client_encode(CURL *curl, const json_t *parameters);

#endif
