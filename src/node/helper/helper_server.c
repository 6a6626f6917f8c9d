// SPDX-License-Identifier: Apache-2.0
//
// The helper's side: what comes is checked by the schemas below, member by member, before anything is done with it.
#define LOG_MODULE "helper"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/helper/helper_internal.h"
#include "os/file.h"
#include "os/process.h"
#include "os/unix_socket.h"
#include "wire/schema.h"

#define FDS_MAX   250
#define WORDS_MAX 128

static const char *const programs[] = {"wirt-vm", "wirt-net", NULL};
static const struct schema_object spawn_schema = {
    "spawn",
    (const struct schema_member[]){
        {.name = "do", .type = SCHEMA_STRING, .required = true, .max = 16},
        {.name = "program", .type = SCHEMA_STRING, .required = true, .max = 16, .values = programs},
        {.name = "words",
         .type = SCHEMA_ARRAY,
         .element_type = SCHEMA_STRING,
         .required = true,
         .max = WORDS_MAX},
        {.name = "numbers",
         .type = SCHEMA_ARRAY,
         .element_type = SCHEMA_INTEGER,
         .required = true,
         .max = FDS_MAX},
        {.name = "scope", .type = SCHEMA_STRING, .required = true, .min = 1, .max = 32},
        {.name = NULL}}};
static const struct schema_object kill_schema = {
    "kill", (const struct schema_member[]){
                {.name = "do", .type = SCHEMA_STRING, .required = true, .max = 16},
                {.name = "pid", .type = SCHEMA_INTEGER, .required = true, .min = 2, .max = 1 << 22},
                {.name = NULL}}};
static const struct schema_object pam_schema = {
    "pam", (const struct schema_member[]){
               {.name = "do", .type = SCHEMA_STRING, .required = true, .max = 16},
               {.name = "user", .type = SCHEMA_STRING, .required = true, .min = 1, .max = 60},
               {.name = "password", .type = SCHEMA_STRING, .required = true, .min = 1, .max = 1024},
               {.name = NULL}}};
static const struct schema_object *const schemas[] = {&spawn_schema, &kill_schema, &pam_schema};

static const char *text_of(const json_t *request, const char *name)
{
    return json_string_value(json_object_get(request, name));
}

// A scope becomes a folder's name.
static bool plain(const char *name)
{
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '-')
            return false;
    return true;
}

static int check_spawn(const json_t *request, size_t fd_count, struct err *err)
{
    const json_t *numbers = json_object_get(request, "numbers");
    if (json_array_size(numbers) != fd_count || !plain(text_of(request, "scope")))
        return err_set(err, ERR_INPUT, "the descriptors or the scope are wrong");
    size_t index;
    json_t *number;
    json_array_foreach(numbers, index, number)
    {
        json_int_t value = json_integer_value(number);
        if (value != 1 && (value < 3 || value > 1023))
            return err_set(err, ERR_INPUT, "a descriptor's number is wrong");
    }
    return json_array_size(json_object_get(request, "words"))
               ? 0
               : err_set(err, ERR_INPUT, "there are no words");
}

json_t *helper_parse(const char *packet, size_t length, size_t fd_count, struct err *err)
{
    json_t *request = json_loadb(packet, length, JSON_REJECT_DUPLICATES, NULL);
    const char *verb = text_of(request, "do");
    const struct schema_object *schema = NULL;
    for (size_t i = 0; verb && i < sizeof(schemas) / sizeof(schemas[0]); i++)
        if (!strcmp(schemas[i]->name, verb))
            schema = schemas[i];
    int result = schema ? schema_check(schema, request, "", err)
                        : err_set(err, ERR_INPUT, "this is no request");
    if (!result && schema == &spawn_schema)
        result = check_spawn(request, fd_count, err);
    else if (!result && fd_count)
        result = err_set(err, ERR_INPUT, "descriptors that nobody wants");
    if (!result)
        return request;
    json_decref(request);
    return NULL;
}

static void answer(int socket, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text)
        (void)!os_unix_send(socket, text, strlen(text), NULL, 0);
    free(text);
    json_decref(object);
}

static void answer_error(int socket, const struct err *err)
{
    answer(socket, json_pack("{s:{s:i, s:s}}", "error", "code", (int)err->code, "text", err->text));
}

static int do_spawn(const struct helper_server *server, const json_t *request, const int *fds,
                    size_t count, pid_t *pid, struct err *err)
{
    const json_t *words = json_object_get(request, "words");
    const json_t *numbers = json_object_get(request, "numbers");
    bool vm = !strcmp(text_of(request, "program"), "wirt-vm");
    char *arguments[WORDS_MAX + 1] = {0};
    int places[FDS_MAX];
    for (size_t i = 0; i < json_array_size(words); i++)
        arguments[i] = (char *)(uintptr_t)json_string_value(json_array_get(words, i));
    for (size_t i = 0; i < count; i++)
        places[i] = (int)json_integer_value(json_array_get(numbers, i));
    struct os_process_detached what = {.program = vm ? server->vm_program : server->net_program,
                                       .arguments = arguments,
                                       .fds = fds,
                                       .numbers = places,
                                       .count = count};
    return os_process_detach(&what, pid, err);
}

static int do_kill(const struct helper_server *server, pid_t pid, struct err *err)
{
    int watch = os_process_watch(pid);
    if (watch < 0)
        return 0; // it has ended
    // The pid cannot become another process's between the look and the signal: the descriptor holds on to it.
    int result = os_process_is(pid, server->vm_program) || os_process_is(pid, server->net_program)
                     ? 0
                     : err_set(err, ERR_DENIED, "process %d is none of wirt's", (int)pid);
    if (!result && os_process_kill(watch))
        result = err_set(err, ERR_HOST, "process %d cannot be killed", (int)pid);
    os_file_close(&watch);
    return result;
}

// PAM takes its time for wrong passwords: in a process of its own.
struct pam_job {
    const json_t *request;
    int socket;
};

static void pam_main(void *context)
{
    const struct pam_job *job = context;
    struct err err = {0};
    os_process_heed_children(); // modules wait for programs of their own
    if (helper_pam_check(text_of(job->request, "user"), text_of(job->request, "password"), &err))
        answer_error(job->socket, &err);
    else
        answer(job->socket, json_object());
}

static void handle(const struct helper_server *server, const char *packet, size_t length,
                   const int *fds, size_t count)
{
    struct err err = {0};
    pid_t pid = 0;
    json_t *request = helper_parse(packet, length, count - 1, &err);
    const char *verb = request ? text_of(request, "do") : "";
    int result = request ? 0 : -1;
    if (!result && !strcmp(verb, "spawn"))
        result = do_spawn(server, request, fds + 1, count - 1, &pid, &err);
    else if (!result && !strcmp(verb, "kill"))
        result = do_kill(server, (pid_t)json_integer_value(json_object_get(request, "pid")), &err);
    else if (!result) {
        struct pam_job job = {request, fds[0]};
        result = os_process_run_forked(pam_main, &job, &pid, &err);
        json_decref(request);
        if (result)
            answer_error(fds[0], &err);
        return;
    }
    json_decref(request);
    if (result)
        answer_error(fds[0], &err);
    else
        answer(fds[0], json_pack("{s:i}", "pid", (int)pid));
}

void helper_serve(int socket)
{
    static char packet[HELPER_MESSAGE_BYTES];
    static struct helper_server server;
    struct err err = {0};
    int fds[FDS_MAX];
    size_t count;
    os_process_ignore_children();
    if (os_process_find_program("wirt-vm", server.vm_program, sizeof(server.vm_program), &err) ||
        os_process_find_program("wirt-net", server.net_program, sizeof(server.net_program), &err)) {
        log_error("%s", err.text);
        return;
    }
    for (;;) {
        ssize_t n = os_unix_receive(socket, packet, sizeof(packet), fds, FDS_MAX, &count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        if (count)
            handle(&server, packet, (size_t)n, fds, count);
        explicit_bzero(packet, (size_t)n);
        for (size_t i = 0; i < count; i++)
            os_file_close(&fds[i]);
    }
}
