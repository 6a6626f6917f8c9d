// SPDX-License-Identifier: Apache-2.0
//
// One line of the control protocol, read and checked. Pure; any thread.
#ifndef WIRT_WIRE_REQUEST_H
#define WIRT_WIRE_REQUEST_H

#include <stddef.h>

#include "wire/schema.h"

struct wire_request {
    json_t *id; // as the caller chose it; NULL: none came
    const struct schema_command *command;
    json_t *members; // checked against command->request; without `id` and `do`
};

// Reads `length` bytes without their newline. On failure -1 and *err; `id` is filled in as far as it could be read, so that the error can be
// answered. wire_request_fini() in either case.
int wire_request_parse(struct wire_request *request, const char *line, size_t length,
                       struct err *err);
void wire_request_fini(struct wire_request *request);

#endif
