// SPDX-License-Identifier: Apache-2.0
#include "wire/request.h"

int wire_request_parse(struct wire_request *request, const char *line, size_t length,
                       struct err *err)
{
    json_error_t error;
    *request =
        (struct wire_request){.members = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error)};
    if (!request->members)
        return err_set(err, ERR_USAGE, "not a JSON object: %s", error.text);
    if (!json_is_object(request->members))
        return err_set(err, ERR_USAGE, "not a JSON object");
    request->id = json_incref(json_object_get(request->members, "id"));
    const char *name = json_string_value(json_object_get(request->members, "do"));
    request->command = name ? schema_find_command(name) : NULL;
    if (!request->command)
        return err_set(err, ERR_USAGE, "do: \"%.40s\" is no command", name ? name : "");
    json_object_del(request->members, "id");
    json_object_del(request->members, "do");
    return schema_check(&request->command->request, request->members, "", err);
}

void wire_request_fini(struct wire_request *request)
{
    json_decref(request->id);
    json_decref(request->members);
    *request = (struct wire_request){0};
}
