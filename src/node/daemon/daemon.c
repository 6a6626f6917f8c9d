// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "wirtd"
#include "node/daemon/daemon.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/auth/secret.h"
#include "node/daemon/front.h"
#include "node/rest/metrics.h"
#include "node/rest/resource_rows.h"
#include "os/clock.h"
#include "os/detach.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/host.h"
#include "os/loop.h"
#include "os/node_facts.h"

#define REQUEST_THREADS 8
#define STOP_SECONDS    10
#define PATH_BYTES      4096
#define PATHS_MAX       24
#define FIRST_FREE_UID  64600

struct daemon {
    const struct daemon_options *options;
    char paths[PATHS_MAX][PATH_BYTES];
    size_t path_count;
    char name[64], fingerprint[96];
    char instance[8]; // what the helper tells this node from others on the machine by
    int lock_fd;
    struct helper *helper;
    struct os_loop *loop;
    struct work_pool *pool;
    struct node node;
    struct metrics *metrics;
    struct api *api;
    struct front front;
    struct http_server *http;
    struct os_loop_watch signals;
};

// A path below the state directory, kept as long as the daemon.
static const char *below(struct daemon *daemon, const char *name)
{
    assert(daemon->path_count < PATHS_MAX);
    char *path = daemon->paths[daemon->path_count++];
    snprintf(path, PATH_BYTES, "%.3000s/%s", daemon->options->state, name);
    return path;
}

void daemon_default_state(char *path, unsigned long size)
{
    const char *home = getenv("HOME"), *data = getenv("XDG_DATA_HOME");
    if (os_process_is_root())
        snprintf(path, size, "/var/lib/wirt");
    else if (data && data[0] == '/')
        snprintf(path, size, "%s/wirt", data);
    else
        snprintf(path, size, "%s/.local/share/wirt", home ? home : "/tmp");
}

// ---- Beginning, in the order of need.

// By the state directory, so that it is the same at each start.
static int name_instance(struct daemon *daemon, struct err *err)
{
    char path[PATH_BYTES], hash[SECRET_HASH_BYTES];
    if (os_directory_make_all(daemon->options->state, 0700, err))
        return -1;
    if (!os_file_real_path(daemon->options->state, path, sizeof(path)))
        return err_set(err, ERR_HOST, "where '%s' lies cannot be told", daemon->options->state);
    secret_hash(path, hash);
    snprintf(daemon->instance, sizeof(daemon->instance), "%.6s", hash);
    return 0;
}

static int lock_state(struct daemon *daemon, struct err *err)
{
    daemon->lock_fd = os_file_open(below(daemon, "lock"), OS_FILE_WRITE | OS_FILE_CREATE, err);
    if (daemon->lock_fd < 0)
        return -1;
    return os_file_lock(daemon->lock_fd, 0, 1, true)
               ? err_set(err, ERR_BUSY, "another wirtd runs on '%s'", daemon->options->state)
               : 0;
}

// Somebody that nobody is, where there is no user `wirt`.
static void find_user(uid_t *uid, gid_t *gid)
{
    if (os_process_find_user("wirt", uid, gid))
        return;
    *uid = FIRST_FREE_UID;
    while (os_process_uid_is_used(*uid))
        (*uid)++;
    *gid = *uid;
}

static int give_up_root(struct daemon *daemon, struct err *err)
{
    uid_t uid;
    gid_t gid;
    os_process_private_files(); // the Unix socket first of all
    if (!os_process_is_root())
        return 0;
    find_user(&uid, &gid);
    if (os_directory_give(daemon->options->state, uid, gid, err) ||
        os_process_become(uid, gid, err))
        return -1;
    if (!os_file_exists(daemon->options->state))
        return err_set(
            err, ERR_HOST,
            "%s cannot be reached by uid %u, as which wirtd goes on: a folder above it is "
            "closed to others; open that (chmod o+x), or choose another by --state",
            daemon->options->state, uid);
    log_info("runs as uid %u; the helper keeps root", uid);
    return 0;
}

static void told_to_end(void *context, unsigned events)
{
    struct daemon *daemon = context;
    (void)events;
    log_info("asked to end");
    http_stop(daemon->http);
}

static int open_base(struct daemon *daemon, struct err *err)
{
    struct node *node = &daemon->node;
    int signals = os_process_end_signals(err);
    daemon->signals = (struct os_loop_watch){.ready = told_to_end, .context = daemon};
    if (signals < 0 || !(daemon->loop = os_loop_create(err)) ||
        os_loop_watch(daemon->loop, &daemon->signals, signals, OS_LOOP_READ, err) ||
        !(daemon->pool = work_pool_create(REQUEST_THREADS, err)) ||
        !(node->store = store_open(below(daemon, "store.db"), err)))
        return -1;
    node->loop = daemon->loop;
    node->rows = resource_rows_create();
    node->name = daemon->name;
    node->started_s = os_clock_wall_ns() / 1000000000u;
    node->fingerprint = daemon->fingerprint;
    return 0;
}

static int open_parts(struct daemon *daemon, struct err *err)
{
    struct node *node = &daemon->node;
    struct auth_options auth = {.store = node->store,
                                .key_path = below(daemon, "auth.key"),
                                .audit_path = below(daemon, "audit.log"),
                                .pam = helper_pam,
                                .pam_user = daemon->helper};
    struct tasks_options tasks = {
        .store = node->store, .log_folder = below(daemon, "tasks"), .node = daemon->name};
    if (!(node->auth = auth_create(&auth, err)) || !(node->tasks = tasks_create(&tasks, err)) ||
        !(node->storage = storage_create(node->store, daemon->options->state, err)))
        return -1;
    struct guests_options guests = {.store = node->store,
                                    .storage = node->storage,
                                    .helper = daemon->helper,
                                    .loop = daemon->loop,
                                    .node = daemon->name,
                                    .run_folder = below(daemon, "run"),
                                    .accel = daemon->options->accel};
    node->audit_path = below(daemon, "audit.log");
    return (node->guests = guests_create(&guests, err)) &&
                   (daemon->metrics = metrics_start(node, below(daemon, "metrics"), err))
               ? 0
               : -1;
}

// The page beside the program: in the build tree, or installed. NULL when there is none.
static const char *find_page(struct daemon *daemon)
{
    static const char *const places[] = {"../../web", "../share/wirt/web"};
    char program[PATH_BYTES], index[PATH_BYTES + 16];
    if (daemon->options->web)
        return daemon->options->web;
    if (!os_process_folder(program, sizeof(program)))
        return NULL;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char *path = daemon->paths[daemon->path_count];
        snprintf(path, PATH_BYTES, "%.3000s/%s", program, places[i]);
        snprintf(index, sizeof(index), "%s/index.html", path);
        if (os_file_exists(index)) {
            daemon->path_count++;
            return path;
        }
    }
    return NULL;
}

static int open_front(struct daemon *daemon, struct err *err)
{
    const struct daemon_options *options = daemon->options;
    const char *certificate =
        options->certificate ? options->certificate : below(daemon, "cert.pem");
    const char *key = options->key ? options->key : below(daemon, "key.pem");
    const char *socket = options->socket ? options->socket : below(daemon, "wirtd.sock");
    if (http_certificate_make(certificate, key, daemon->name, err) ||
        http_certificate_fingerprint(certificate, daemon->fingerprint, err))
        return -1;
    struct api_options api = {.tables = rest_tables,
                              .common = rest_common,
                              .node = &daemon->node,
                              .node_name = daemon->name,
                              .auth = daemon->node.auth,
                              .tasks = daemon->node.tasks,
                              .pool = daemon->pool,
                              .loop = daemon->loop,
                              .check_replies = options->check_replies};
    daemon->api = api_create(&api);
    daemon->front =
        (struct front){.api = daemon->api, .node = &daemon->node, .web = find_page(daemon)};
    struct http_options http = {.ops = &front_ops,
                                .user = &daemon->front,
                                .loop = daemon->loop,
                                .address = options->address,
                                .port = options->port,
                                .certificate = certificate,
                                .key = key,
                                .socket = socket};
    return (daemon->http = http_create(&http, err)) ? 0 : -1;
}

static void tell_first_steps(struct daemon *daemon)
{
    log_info("listens on https://%s:%d/, certificate %s",
             daemon->options->address ? daemon->options->address : daemon->name,
             daemon->options->port, daemon->fingerprint);
    if (auth_has_admin(daemon->node.auth))
        return;
    secret_uuid(daemon->node.setup_token);
    log_warn("there is no administrator yet: wirt init --state %s --admin root@wirt, or POST "
             "/access/setup with the one-time token %s",
             daemon->options->state, daemon->node.setup_token);
}

// ---- Guests that start with the node: once after each start of the machine, whenever wirtd comes up. A restart of wirtd alone starts nobody.

#define BOOT_KEY "/boot"

static bool boot_id(char id[64])
{
    return os_host_read("/proc/sys/kernel/random/boot_id", id, 64);
}

static int work_autostart(struct task *task, void *argument, struct err *err)
{
    char id[64];
    struct node *node = argument;
    struct guest_all all = {.tasks = node->tasks};
    int result = guests_start_all(node->guests, task, &all, err);
    // Only now: when we are killed in between, those that are left are started later.
    if (boot_id(id) && task_wanted(task))
        store_put_now(node->store, BOOT_KEY, json_pack("{s:s}", "id", id), NULL);
    return result;
}

static void autostart(struct node *node)
{
    char id[64], upid[TASK_UPID_BYTES];
    struct err err = {0};
    json_t *last = store_get(node->store, BOOT_KEY, NULL);
    const char *last_id = json_string_value(json_object_get(last, "id"));
    bool again = boot_id(id) && last_id && !strcmp(id, last_id);
    json_decref(last);
    struct task_start start = {
        .type = "startall", .id = "", .user = "root@pam", .work = work_autostart, .argument = node};
    if (!again && tasks_start(node->tasks, &start, upid, &err))
        log_error("guests are not started: %s", err.text);
}

// ---- What dropped snapshots kept, and a predecessor that was killed did not come to merge.

static int work_merge_layers(struct task *task, void *argument, struct err *err)
{
    const struct node *node = argument;
    return guests_merge_layers(node->guests, task, err);
}

static void merge_layers(struct node *node)
{
    char upid[TASK_UPID_BYTES];
    struct err err = {0};
    struct task_start start = {.type = "qmmerge",
                               .id = "",
                               .user = "root@pam",
                               .work = work_merge_layers,
                               .argument = node};
    if (guests_layers_left(node->guests) && tasks_start(node->tasks, &start, upid, &err))
        log_error("layers of snapshots stay for now: %s", err.text);
}

// ---- End, in the opposite order.

static void stop(struct daemon *daemon)
{
    struct node *node = &daemon->node;
    bool quiet = !node->tasks || tasks_stop(node->tasks, STOP_SECONDS);
    if (!quiet) { // tasks still use everything: they end with the process, as in a crash
        log_warn("tasks do not stop: ending without them");
        exit(0);
    }
    metrics_stop(daemon->metrics);
    work_pool_destroy(daemon->pool);
    http_destroy(daemon->http);
    api_destroy(daemon->api);
    resource_rows_destroy(node->rows);
    guests_destroy(node->guests);
    storage_destroy(node->storage);
    tasks_destroy(node->tasks);
    auth_destroy(node->auth);
    store_close(node->store);
    os_loop_destroy(daemon->loop);
    helper_stop(daemon->helper);
    os_file_close(&daemon->lock_fd);
}

int daemon_run(const struct daemon_options *options, struct err *err)
{
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    if (!daemon)
        abort();
    daemon->options = options;
    daemon->lock_fd = -1;
    if (options->node)
        snprintf(daemon->name, sizeof(daemon->name), "%s", options->node);
    else
        os_node_name(daemon->name, sizeof(daemon->name));
    int result = -1;
    // The helper before the lock: it must not inherit it.
    if (!name_instance(daemon, err) &&
        (daemon->helper = helper_start(daemon->instance, below(daemon, "helper.lock"), err)) &&
        !lock_state(daemon, err) && !give_up_root(daemon, err) && !open_base(daemon, err) &&
        !open_parts(daemon, err) && !open_front(daemon, err)) {
        tell_first_steps(daemon);
        autostart(&daemon->node);
        merge_layers(&daemon->node);
        http_run(daemon->http);
        result = 0;
    }
    stop(daemon);
    free(daemon);
    return result;
}
