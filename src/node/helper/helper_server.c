// SPDX-License-Identifier: Apache-2.0
//
// The helper's side: what comes is checked by the schemas below, member by member, before anything is done with it.
#define LOG_MODULE "helper"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "node/helper/helper_internal.h"
#include "os/file.h"
#include "os/poll_set.h"
#include "os/process.h"
#include "os/unix_socket.h"
#include "wire/schema.h"

#define FDS_MAX   250
#define WORDS_MAX 128
#define TURN_MS   10

#define LIMIT_MEMBERS                                                                              \
    {.name = "cpu_weight", .type = SCHEMA_INTEGER, .max = 10000},                                  \
        {.name = "cpu_percent", .type = SCHEMA_INTEGER, .max = 100000},                            \
    {                                                                                              \
        .name = "memory", .type = SCHEMA_INTEGER, .max = 1ll << 50                                 \
    }

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
        LIMIT_MEMBERS,
        {.name = NULL}}};
static const struct schema_object limit_schema = {
    "limit",
    (const struct schema_member[]){
        {.name = "do", .type = SCHEMA_STRING, .required = true, .max = 16},
        {.name = "scope", .type = SCHEMA_STRING, .required = true, .min = 1, .max = 32},
        {.name = "pid", .type = SCHEMA_INTEGER, .required = true, .min = 2, .max = 1 << 22},
        LIMIT_MEMBERS,
        {.name = NULL}}};
static const struct schema_object release_schema = {
    "release", (const struct schema_member[]){
                   {.name = "do", .type = SCHEMA_STRING, .required = true, .max = 16},
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
static const struct schema_object bridge_schema = {
    "bridge", (const struct schema_member[]){
                  {.name = "do", .type = SCHEMA_STRING, .required = true, .max = 16},
                  {.name = "subnet", .type = SCHEMA_STRING, .required = true, .max = 15},
                  {.name = NULL}}};
static const struct schema_object tap_schema = {
    "tap", (const struct schema_member[]){
               {.name = "do", .type = SCHEMA_STRING, .required = true, .max = 16},
               {.name = "mac", .type = SCHEMA_STRING, .required = true, .min = 17, .max = 17},
               {.name = "address", .type = SCHEMA_STRING, .required = true, .max = 15},
               {.name = "name", .type = SCHEMA_STRING, .required = true, .max = 63},
               {.name = NULL}}};
static const struct schema_object *const schemas[] = {&spawn_schema, &limit_schema, &release_schema,
                                                      &kill_schema,  &pam_schema,   &bridge_schema,
                                                      &tap_schema};

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
    if (json_array_size(numbers) != fd_count)
        return err_set(err, ERR_INPUT, "the descriptors are not as many as their numbers");
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

// One of the 1,024 networks below 10.64.0.0/10 that begin where one can.
static int check_bridge(const json_t *request, struct err *err)
{
    uint32_t network;
    if (!helper_net_parse_address(text_of(request, "subnet"), &network) ||
        network >> 22 != (10u << 24 | 64u << 16) >> 22 ||
        network & ~(UINT32_MAX << (32 - HELPER_NET_PREFIX)))
        return err_set(err, ERR_INPUT, "the subnet is wrong");
    return 0;
}

static int check_tap(const json_t *request, struct err *err)
{
    const char *mac = text_of(request, "mac");
    uint32_t address;
    for (int i = 0; i < 17; i++)
        if (i % 3 == 2 ? mac[i] != ':' : !isxdigit((unsigned char)mac[i]))
            return err_set(err, ERR_INPUT, "the hardware address is wrong");
    if (!helper_net_parse_address(text_of(request, "address"), &address))
        return err_set(err, ERR_INPUT, "the address is wrong");
    return plain(text_of(request, "name")) ? 0
                                           : err_set(err, ERR_INPUT, "the machine's name is wrong");
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
    if (!result && text_of(request, "scope") && !plain(text_of(request, "scope")))
        result = err_set(err, ERR_INPUT, "the scope is no plain name");
    if (!result && schema == &spawn_schema)
        result = check_spawn(request, fd_count, err);
    else if (!result && fd_count)
        result = err_set(err, ERR_INPUT, "descriptors that nobody wants");
    if (!result && schema == &bridge_schema)
        result = check_bridge(request, err);
    if (!result && schema == &tap_schema)
        result = check_tap(request, err);
    if (!result)
        return request;
    json_decref(request);
    return NULL;
}

static void answer_with(int socket, json_t *object, const int *fds, size_t count)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text)
        (void)!os_unix_send(socket, text, strlen(text), fds, count);
    free(text);
    json_decref(object);
}

static void answer(int socket, json_t *object)
{
    answer_with(socket, object, NULL, 0);
}

static void answer_error(int socket, const struct err *err)
{
    answer(socket, json_pack("{s:{s:i, s:s}}", "error", "code", (int)err->code, "text", err->text));
}

struct entering {
    const struct scopes *scopes;
    const char *name;
};

static void enter_scope(void *user)
{
    const struct entering *entering = user;
    scopes_enter(entering->scopes, entering->name);
}

static int64_t number_of(const json_t *request, const char *name)
{
    return json_integer_value(json_object_get(request, name));
}

static struct os_cgroup_limits limits_of(const json_t *request)
{
    return (struct os_cgroup_limits){.cpu_weight = (unsigned)number_of(request, "cpu_weight"),
                                     .cpu_percent = (unsigned)number_of(request, "cpu_percent"),
                                     .memory_bytes = (uint64_t)number_of(request, "memory")};
}

static int do_spawn(const struct helper_server *server, const json_t *request, const int *fds,
                    size_t count, pid_t *pid, struct err *err)
{
    const json_t *words = json_object_get(request, "words");
    const json_t *numbers = json_object_get(request, "numbers");
    const char *scope = text_of(request, "scope");
    bool vm = !strcmp(text_of(request, "program"), "wirt-vm");
    struct os_cgroup_limits limits = limits_of(request);
    struct entering entering = {&server->scopes, scope};
    struct scope_words before = {.count = 0};
    char *arguments[WORDS_MAX + 1 + ARRAY_LENGTH(before.words)] = {0};
    int places[FDS_MAX];
    size_t n = 0;
    if (scopes_make(&server->scopes, scope, &limits, err))
        return -1;
    const char *program = vm ? server->vm_program : server->net_program;
    program = scopes_wrap(&server->scopes, scope, &limits, program, &before);
    for (size_t i = 0; i < before.count; i++)
        arguments[n++] = (char *)(uintptr_t)before.words[i];
    // Behind systemd-run's words the program's path stands in the place of its name.
    for (size_t i = before.count ? 1 : 0; i < json_array_size(words); i++)
        arguments[n++] = (char *)(uintptr_t)json_string_value(json_array_get(words, i));
    for (size_t i = 0; i < count; i++)
        places[i] = (int)json_integer_value(json_array_get(numbers, i));
    struct os_process_detached what = {.program = program,
                                       .arguments = arguments,
                                       .fds = fds,
                                       .numbers = places,
                                       .count = count,
                                       .enter = enter_scope,
                                       .user = &entering};
    return os_process_detach(&what, pid, err);
}

static int do_limit(const struct helper_server *server, const json_t *request, struct err *err)
{
    struct os_cgroup_limits limits = limits_of(request);
    pid_t pid = (pid_t)number_of(request, "pid");
    if (!os_process_is(pid, server->vm_program))
        return err_set(err, ERR_DENIED, "process %d is no machine", (int)pid);
    return scopes_limit(&server->scopes, text_of(request, "scope"), pid, &limits, err);
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

static int do_bridge(struct helper_server *server, const json_t *request, json_t **reply,
                     struct err *err)
{
    if (helper_net_up(&server->net, &server->scopes, text_of(request, "subnet"), err))
        return -1;
    *reply = json_pack("{s:s}", "interface", server->net.bridge);
    return 0;
}

static int do_tap(struct helper_server *server, const json_t *request, json_t **reply, int *fd,
                  struct err *err)
{
    char name[OS_INTERFACE_BYTES];
    const struct helper_card card = {.mac = text_of(request, "mac"),
                                     .address = text_of(request, "address"),
                                     .name = text_of(request, "name")};
    *fd = helper_net_tap(&server->net, &server->scopes, &card, name, err);
    if (*fd < 0)
        return -1;
    *reply = json_pack("{s:s}", "interface", name);
    return 0;
}

// What is done at once. *reply becomes what is told, *fd what goes beside it.
static int act(struct helper_server *server, const json_t *request, const int *fds, size_t count,
               json_t **reply, int *fd, struct err *err)
{
    const char *verb = text_of(request, "do");
    pid_t pid = 0;
    if (!strcmp(verb, "bridge"))
        return do_bridge(server, request, reply, err);
    if (!strcmp(verb, "tap"))
        return do_tap(server, request, reply, fd, err);
    if (!strcmp(verb, "spawn")) {
        if (do_spawn(server, request, fds, count, &pid, err))
            return -1;
        *reply = json_pack("{s:i, s:s}", "pid", (int)pid, "scope", scopes_name(&server->scopes));
        return 0;
    }
    *reply = json_object();
    if (!strcmp(verb, "release"))
        scopes_release(&server->scopes, text_of(request, "scope"));
    else if (!strcmp(verb, "limit"))
        return do_limit(server, request, err);
    else
        return do_kill(server, (pid_t)number_of(request, "pid"), err);
    return 0;
}

static void handle(struct helper_server *server, const char *packet, size_t length, const int *fds,
                   size_t count)
{
    struct err err = {0};
    pid_t pid = 0;
    int fd = -1;
    json_t *reply = NULL, *request = helper_parse(packet, length, count - 1, &err);
    const char *verb = request ? text_of(request, "do") : "";
    int result = -1;
    if (!strcmp(verb, "pam")) {
        struct pam_job job = {request, fds[0]};
        result = os_process_run_forked(pam_main, &job, &pid, &err);
    } else if (request) {
        result = act(server, request, fds + 1, count - 1, &reply, &fd, &err);
    }
    json_decref(request);
    if (!result && reply)
        answer_with(fds[0], json_incref(reply), &fd, fd >= 0);
    if (result)
        answer_error(fds[0], &err);
    json_decref(reply);
    os_file_close(&fd);
}

// A predecessor does what it was asked and ends; it does not wait for anybody.
static void wait_turn(int socket, int lock)
{
    while (os_file_lock(lock, 0, 1, true) && !os_unix_hung_up(socket))
        os_poll(NULL, 0, TURN_MS);
}

void helper_serve(int socket, const char *instance, int lock)
{
    static char packet[HELPER_MESSAGE_BYTES];
    static struct helper_server server;
    struct err err = {0};
    int fds[FDS_MAX];
    size_t count;
    os_process_ignore_children();
    wait_turn(socket, lock);
    if (os_process_find_program("wirt-vm", server.vm_program, sizeof(server.vm_program), &err) ||
        os_process_find_program("wirt-net", server.net_program, sizeof(server.net_program), &err)) {
        log_error("%s", err.text);
        return;
    }
    scopes_open(&server.scopes, instance);
    helper_net_init(&server.net, instance);
    for (;;) {
        struct pollfd polls[] = {{.fd = socket, .events = POLLIN},
                                 {.fd = server.net.server, .events = POLLIN}};
        os_poll(polls, 2, -1);
        if (polls[1].revents)
            helper_net_mend(&server.net, &server.scopes);
        if (!polls[0].revents)
            continue;
        ssize_t n = os_unix_receive(socket, packet, sizeof(packet), fds, FDS_MAX, &count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (count)
            handle(&server, packet, (size_t)n, fds, count);
        explicit_bzero(packet, (size_t)n);
        for (size_t i = 0; i < count; i++)
            os_file_close(&fds[i]);
    }
    if (server.net.address)
        helper_net_down(&server.net);
    scopes_close(&server.scopes);
}
