// SPDX-License-Identifier: Apache-2.0
//
// /nodes/{node}/qemu/{vmid}/termproxy, vncproxy: promises of a console, redeemed by the WebSocket.
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "node/auth/secret.h"
#include "node/rest/rest.h"
#include "os/clock.h"

#define PROMISES   64
#define FIRST_PORT 5900
#define SECONDS    40

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct promise {
    int64_t vmid;
    uint64_t until_s; // 0: free or used
    char user[AUTH_ID_BYTES];
    char hash[SECRET_HASH_BYTES];
} promises[PROMISES]; // under the lock

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

// A free place, else the one that ends first.
static int place(void)
{
    int best = 0;
    for (int i = 0; i < PROMISES; i++)
        if (promises[i].until_s < promises[best].until_s)
            best = i;
    return best;
}

static int post_termproxy(struct api_call *call, struct err *err)
{
    char ticket[AUTH_TICKET_BYTES], port[16], purpose[64];
    struct node *node = rest_node(call);
    int64_t vmid = api_integer(call, "vmid", 0);
    if (rest_no_guest(call, err))
        return -1;
    if (!guest_is_running(node->guests, vmid))
        return err_set(err, ERR_BUSY, "VM %lld is not running", (long long)vmid);
    char nonce[SECRET_UUID_BYTES];
    secret_uuid(nonce);
    snprintf(purpose, sizeof(purpose), "vnc:%s", nonce);
    auth_purpose_ticket(node->auth, call->who.user, purpose, ticket);
    pthread_mutex_lock(&lock);
    int at = place();
    struct promise *promise = &promises[at];
    *promise = (struct promise){.vmid = vmid, .until_s = now_s() + SECONDS};
    snprintf(promise->user, sizeof(promise->user), "%s", call->who.id);
    secret_hash(ticket, promise->hash);
    pthread_mutex_unlock(&lock);
    snprintf(port, sizeof(port), "%d", FIRST_PORT + at);
    call->data = json_pack("{s:s, s:s, s:s, s:s}", "port", port, "ticket", ticket, "user",
                           call->who.id, "upid", "");
    return 0;
}

bool rest_console_redeem(struct node *node, int64_t vmid, int64_t port, const char *ticket,
                         char user[AUTH_ID_BYTES])
{
    char hash[SECRET_HASH_BYTES];
    (void)node;
    if (port < FIRST_PORT || port >= FIRST_PORT + PROMISES)
        return false;
    secret_hash(ticket, hash);
    pthread_mutex_lock(&lock);
    struct promise *promise = &promises[port - FIRST_PORT];
    bool good =
        promise->until_s > now_s() && promise->vmid == vmid && secret_equal(promise->hash, hash);
    if (good) {
        promise->until_s = 0;
        snprintf(user, AUTH_ID_BYTES, "%s", promise->user);
    }
    pthread_mutex_unlock(&lock);
    return good;
}

#define PROXY(WORD, ABOUT)                                                                         \
    {                                                                                              \
        .method = "POST", .path = "/nodes/{node}/qemu/{vmid}/" WORD, .about = ABOUT,               \
        .permission = "/vms/{vmid} VM.Console", .handler = post_termproxy,                         \
        .returns = "{port:string, ticket:string, user:string, upid:string}",                       \
        .params = (const struct api_param[])                                                       \
        {                                                                                          \
            {.name = "serial",                                                                     \
             .type = API_STRING,                                                                   \
             .optional = true,                                                                     \
             .max = 16,                                                                            \
             .about = "there is one"},                                                             \
                {.name = "websocket",                                                              \
                 .type = API_BOOLEAN,                                                              \
                 .optional = true,                                                                 \
                 .about = "it always is one"},                                                     \
                {.name = "generate-password",                                                      \
                 .type = API_BOOLEAN,                                                              \
                 .optional = true,                                                                 \
                 .about = "accepted"},                                                             \
            {                                                                                      \
                .name = NULL                                                                       \
            }                                                                                      \
        }                                                                                          \
    }

// Whoever comes here asked for no WebSocket: those are taken before.
static int get_websocket(struct api_call *call, struct err *err)
{
    (void)call;
    return err_set(err, ERR_USAGE, "a WebSocket is opened here: Upgrade is missing");
}

static int no_display(struct api_call *call, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED,
                   "VM %lld has no display: termproxy opens its serial console",
                   (long long)api_integer(call, "vmid", 0));
}
#define NO_DISPLAY(WORD)                                                                           \
    {                                                                                              \
        .method = "POST", .path = VM "/" WORD,                                                     \
        .about = "Refused: there is no display; termproxy opens the serial console.",              \
        .permission = "/vms/{vmid} VM.Console", .returns = "null", .handler = no_display,          \
        .params = (const struct api_param[])                                                       \
        {                                                                                          \
            P_BOOLEAN("websocket", "accepted"), P_BOOLEAN("generate-password", "accepted"),        \
                P_STRING("proxy", 255, "accepted"),                                                \
            {                                                                                      \
                .name = NULL                                                                       \
            }                                                                                      \
        }                                                                                          \
    }

const struct endpoint rest_console[] = {
    PROXY("termproxy",
          "A console, to be opened by GET vncwebsocket with this port and ticket, once."),
    {.method = "GET",
     .path = VM "/vncwebsocket",
     .about =
         "The console itself: a WebSocket of the subprotocol `binary`, opened once. The ticket "
         "is enough.",
     .permission = "/vms/{vmid} VM.Console",
     .returns = "null",
     .handler = get_websocket,
     .params =
         (const struct api_param[]){
             {.name = "port", .type = API_STRING, .max = 8, .about = "as the console's promise"},
             {.name = "vncticket",
              .type = API_STRING,
              .max = AUTH_TICKET_BYTES,
              .secret = true,
              .about = "as the console's promise"},
             {.name = NULL}}},
    NO_DISPLAY("vncproxy"),
    NO_DISPLAY("spiceproxy"),
    {.method = NULL},
};
