// SPDX-License-Identifier: Apache-2.0
//
// /nodes/{node}/qemu/{vmid}/agent: what QEMU's agent in the guest can be asked.
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "node/rest/rest.h"

#define ANSWER_SECONDS 4 // below what clients wait for

static json_t *ask(struct api_call *call, const char *command, json_t *arguments, struct err *err)
{
    return guest_agent(rest_node(call)->guests, api_integer(call, "vmid", 0), command, arguments,
                       ANSWER_SECONDS, err);
}

// The last word of the path is the command without "guest-".
static int plain(struct api_call *call, struct err *err)
{
    char command[64] = "guest-";
    strncat(command, strrchr(call->endpoint->path, '/') + 1, sizeof(command) - 8);
    json_t *result = ask(call, command, NULL, err);
    if (!result)
        return -1;
    call->data = json_pack("{s:o}", "result", result);
    return 0;
}

static json_t *base64(const char *text)
{
    size_t length = strlen(text);
    char *encoded = malloc(4 * (length / 3 + 1) + 4);
    if (!encoded)
        abort();
    EVP_EncodeBlock((uint8_t *)encoded, (const uint8_t *)text, (int)length);
    json_t *string = json_string(encoded);
    free(encoded);
    return string;
}

// Into a string, whatever bytes there are: what is no UTF-8 becomes '?'.
static json_t *from_base64(const char *text)
{
    size_t length = strlen(text);
    char *bytes = calloc(1, length + 4);
    if (!bytes)
        abort();
    int n = EVP_DecodeBlock((uint8_t *)bytes, (const uint8_t *)text, (int)length);
    while (n > 0 && length && text[--length] == '=')
        n--;
    n = n < 0 ? 0 : n;
    json_t *string = json_stringn(bytes, (size_t)n);
    for (int i = 0; !string && i < n; i++)
        if ((unsigned char)bytes[i] >= 128)
            bytes[i] = '?';
    if (!string)
        string = json_stringn(bytes, (size_t)n);
    free(bytes);
    return string;
}

static int post_exec(struct api_call *call, struct err *err)
{
    const json_t *words = json_object_get(call->params, "command");
    json_t *arguments = json_array();
    for (size_t i = 1; i < json_array_size(words); i++)
        json_array_append(arguments, json_array_get(words, i));
    json_t *request = json_pack("{s:O, s:o, s:b}", "path", json_array_get(words, 0), "arg",
                                arguments, "capture-output", 1);
    if (!request)
        return api_refuse(call, err, "command", "is empty");
    if (api_string(call, "input-data"))
        json_object_set_new(request, "input-data", base64(api_string(call, "input-data")));
    call->data = ask(call, "guest-exec", request, err);
    return call->data ? 0 : -1;
}

static int get_exec_status(struct api_call *call, struct err *err)
{
    static const char *const outputs[] = {"out-data", "err-data"};
    json_t *status = ask(call, "guest-exec-status",
                         json_pack("{s:O}", "pid", json_object_get(call->params, "pid")), err);
    if (!status)
        return -1;
    for (size_t i = 0; i < 2; i++) {
        const char *text = api_param_string(status, outputs[i]);
        if (text)
            json_object_set_new(status, outputs[i], from_base64(text));
    }
    json_object_set_new(status, "exited",
                        json_integer(json_is_true(json_object_get(status, "exited"))));
    call->data = status;
    return 0;
}

static int64_t open_file(struct api_call *call, const char *mode, struct err *err)
{
    json_t *handle = ask(
        call, "guest-file-open",
        json_pack("{s:O, s:s}", "path", json_object_get(call->params, "file"), "mode", mode), err);
    int64_t number = handle ? json_integer_value(handle) : -1;
    json_decref(handle);
    return number;
}

static void close_file(struct api_call *call, int64_t handle)
{
    json_decref(
        ask(call, "guest-file-close", json_pack("{s:I}", "handle", (json_int_t)handle), NULL));
}

static int get_file_read(struct api_call *call, struct err *err)
{
    int64_t handle = open_file(call, "r", err);
    if (handle < 0)
        return -1;
    json_t *part =
        ask(call, "guest-file-read",
            json_pack("{s:I, s:i}", "handle", (json_int_t)handle, "count", 1 << 20), err);
    close_file(call, handle);
    if (!part)
        return -1;
    const char *text = api_param_string(part, "buf-b64");
    call->data = json_pack("{s:o, s:I}", "content", from_base64(text ? text : ""), "bytes-read",
                           (json_int_t)api_param_integer(part, "count", 0));
    if (!json_is_true(json_object_get(part, "eof")) &&
        api_param_integer(part, "count", 0) == 1 << 20)
        json_object_set_new(call->data, "truncated", json_integer(1));
    json_decref(part);
    return 0;
}

static int post_file_write(struct api_call *call, struct err *err)
{
    const char *content = api_string(call, "content");
    int64_t handle = open_file(call, "w", err);
    if (handle < 0)
        return -1;
    json_t *encoded = api_boolean(call, "encode") ? base64(content) : json_string(content);
    json_t *done =
        ask(call, "guest-file-write",
            json_pack("{s:I, s:o}", "handle", (json_int_t)handle, "buf-b64", encoded), err);
    close_file(call, handle);
    json_decref(done);
    return done ? 0 : -1;
}

static int post_set_password(struct api_call *call, struct err *err)
{
    json_t *done =
        ask(call, "guest-set-user-password",
            json_pack("{s:O, s:o, s:b}", "username", json_object_get(call->params, "username"),
                      "password", base64(api_string(call, "password")), "crypted",
                      (int)api_boolean(call, "crypted")),
            err);
    if (!done)
        return -1;
    call->data = json_pack("{s:o}", "result", done);
    return 0;
}

#define AGENT       "/nodes/{node}/qemu/{vmid}/agent/"
#define RIGHT(NAME) "/vms/{vmid} VM.Monitor|VM.GuestAgent." NAME "|VM.GuestAgent.Unrestricted"
#define ASK(METHOD, WORD, ABOUT, PRIVILEGE)                                                        \
    {                                                                                              \
        .method = METHOD, .path = AGENT WORD, .about = ABOUT, .permission = RIGHT(PRIVILEGE),      \
        .returns = "{result:any}", .slow = true, .handler = plain                                  \
    }
#define TEXT(NAME, MAX, ABOUT)                                                                     \
    {                                                                                              \
        .name = NAME, .type = API_STRING, .min = 1, .max = MAX, .about = ABOUT                     \
    }

const struct endpoint rest_agent[] = {
    ASK("POST", "ping", "Is the agent there?", "Audit"),
    ASK("GET", "info", "The agent's version and commands.", "Audit"),
    ASK("GET", "network-get-interfaces", "The guest's network interfaces.", "Audit"),
    ASK("GET", "get-osinfo", "Which system the guest is.", "Audit"),
    ASK("GET", "get-host-name", "The guest's name.", "Audit"),
    ASK("GET", "get-fsinfo", "The guest's file systems.", "Audit"),
    ASK("GET", "get-memory-blocks", "The guest's memory blocks.", "Audit"),
    ASK("GET", "get-time", "The guest's time.", "Audit"),
    ASK("GET", "get-timezone", "The guest's time zone.", "Audit"),
    ASK("GET", "get-users", "Who is logged in.", "Audit"),
    ASK("GET", "get-vcpus", "The guest's CPUs.", "Audit"),
    ASK("POST", "fsfreeze-status", "Are the file systems frozen?", "FileSystemMgmt"),
    ASK("POST", "fsfreeze-freeze", "Freeze the file systems.", "FileSystemMgmt"),
    ASK("POST", "fsfreeze-thaw", "Thaw the file systems.", "FileSystemMgmt"),
    ASK("POST", "fstrim", "Give free blocks back.", "FileSystemMgmt"),
    {.method = "POST",
     .path = AGENT "exec",
     .about = "Run a program in the guest.",
     .permission = RIGHT("Unrestricted"),
     .returns = "{pid:int}",
     .slow = true,
     .handler = post_exec,
     .params =
         (const struct api_param[]){
             {.name = "command", .type = API_WORDS, .about = "program and words"},
             {.name = "input-data",
              .type = API_STRING,
              .optional = true,
              .max = 65536,
              .secret = true,
              .about = "its standard input"},
             {.name = NULL}}},
    {.method = "GET",
     .path = AGENT "exec-status",
     .about = "How a program is doing.",
     .permission = RIGHT("Unrestricted"),
     .returns = "{exited:int, *}",
     .slow = true,
     .handler = get_exec_status,
     .params = (const struct api_param[]){{.name = "pid",
                                           .type = API_INTEGER,
                                           .min = 0,
                                           .max = INT32_MAX,
                                           .about = "as exec gave it"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = AGENT "file-read",
     .about = "Read a file of the guest, a megabyte at most.",
     .permission = RIGHT("FileRead"),
     .returns = "{content:string, bytes-read:int, truncated?:int}",
     .slow = true,
     .handler = get_file_read,
     .params = (const struct api_param[]){TEXT("file", 4095, "its path"), {.name = NULL}}},
    {.method = "POST",
     .path = AGENT "file-write",
     .about = "Write a file of the guest.",
     .permission = RIGHT("FileWrite"),
     .returns = "null",
     .slow = true,
     .handler = post_file_write,
     .params = (const struct api_param[]){TEXT("file", 4095, "its path"),
                                          {.name = "content",
                                           .type = API_STRING,
                                           .max = 61440,
                                           .secret = true,
                                           .about = "what to write"},
                                          {.name = "encode",
                                           .type = API_BOOLEAN,
                                           .fallback = "1",
                                           .about = "encode it as base64; else it is already"},
                                          {.name = NULL}}},
    {.method = "POST",
     .path = AGENT "set-user-password",
     .about = "Set a password in the guest.",
     .permission = RIGHT("Unrestricted"),
     .returns = "{result:any}",
     .slow = true,
     .handler = post_set_password,
     .params = (const struct api_param[]){TEXT("username", 64, "whose"),
                                          {.name = "password",
                                           .type = API_STRING,
                                           .min = 5,
                                           .max = 1024,
                                           .secret = true,
                                           .about = "which"},
                                          {.name = "crypted",
                                           .type = API_BOOLEAN,
                                           .optional = true,
                                           .about = "it is crypt(3)ed"},
                                          {.name = NULL}}},
    {.method = NULL},
};
