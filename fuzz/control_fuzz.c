// SPDX-License-Identifier: Apache-2.0
//
// Bytes as a line of the control protocol: what passes names a command, and can be written as JSON and read again.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct wire_request request;
    struct err err = {0};
    if (wire_request_parse(&request, (const char *)bytes, length, &err)) {
        if (!err.text[0])
            abort(); // refused without a reason
    } else {
        char *text = json_dumps(request.members, JSON_COMPACT);
        json_t *again = json_loads(text, 0, NULL);
        if (!again || schema_check(&request.command->request, again, "", &err))
            abort();
        json_decref(again);
        free(text);
    }
    wire_request_fini(&request);
    return 0;
}
