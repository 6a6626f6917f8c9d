// SPDX-License-Identifier: Apache-2.0
#include "node/rest/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/store/series.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/node_facts.h"
#include "os/thread.h"

#define EVERY_S    10
#define PATH_BYTES 4096

static const char *const node_names[] = {"cpu",      "maxcpu",    "loadavg",   "memused",
                                         "memtotal", "rootused",  "roottotal", "iowait",
                                         "swapused", "swaptotal", "netin",     "netout"};
static const char *const guest_names[] = {"cpu",     "maxcpu",   "mem",       "maxmem", "disk",
                                          "maxdisk", "diskread", "diskwrite", "netin",  "netout"};
static const char *const storage_names[] = {"used", "total"};
#define COUNT(NAMES) (sizeof(NAMES) / sizeof((NAMES)[0]))

// Counters of a guest at its last sample, for rates.
struct counters {
    int64_t vmid;
    uint64_t time_ns;
    double values[4]; // diskread, diskwrite, netin, netout
};

struct metrics {
    struct node *node;
    char folder[PATH_BYTES - 300];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping; // under lock
    // The thread's own.
    struct counters *guests;
    size_t guest_count;
};

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

static void add(struct metrics *m, const char *name, const double *values, size_t count)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%.200s", m->folder, name);
    series_add(path, now_s(), values, count, NULL); // a lost sample is no reason for anything
}

// ---- Guests.

static double number(const json_t *object, const char *name, const char *member)
{
    const json_t *inner = member ? json_object_get(object, name) : object;
    return (double)json_integer_value(json_object_get(inner, member ? member : name));
}

// What is used of the guest's RAM: by its own word, else what the host keeps for it.
static uint64_t memory_of(const json_t *statistics)
{
    double total = number(statistics, "balloon", "total");
    double unused = number(statistics, "balloon", "free") + number(statistics, "balloon", "caches");
    double resident = number(statistics, "host_memory", "wirt-guest-ram");
    return (uint64_t)(total > unused ? total - unused : resident);
}

static bool read_counters(struct metrics *m, int64_t vmid, double values[4])
{
    json_t *ok =
        guest_control(m->node->guests, vmid, json_pack("{s:s}", "do", "statistics"), 2, NULL);
    json_t *row;
    size_t index;
    // To be told at the next look: who has no driver for it is not waited for.
    json_decref(
        guest_control(m->node->guests, vmid, json_pack("{s:s}", "do", "guest-memory"), 0, NULL));
    guest_set_memory(m->node->guests, vmid, memory_of(ok));
    memset(values, 0, 4 * sizeof(double));
    json_array_foreach(json_object_get(ok, "disks"), index, row)
    {
        values[0] += number(row, "read", "bytes");
        values[1] += number(row, "write", "bytes");
    }
    json_array_foreach(json_object_get(ok, "nets"), index, row)
    {
        values[2] += number(row, "received_bytes", NULL);
        values[3] += number(row, "sent_bytes", NULL);
    }
    json_decref(ok);
    return ok != NULL;
}

static struct counters *counters_of(struct metrics *m, int64_t vmid)
{
    for (size_t i = 0; i < m->guest_count; i++)
        if (m->guests[i].vmid == vmid)
            return &m->guests[i];
    struct counters *more = realloc(m->guests, (m->guest_count + 1) * sizeof(*more));
    if (!more)
        abort();
    m->guests = more;
    more[m->guest_count] = (struct counters){.vmid = vmid};
    return &more[m->guest_count++];
}

// Bytes a second since the last sample; zeros for the first, and when a counter began anew.
static void rates(struct metrics *m, int64_t vmid, double rate[4])
{
    double values[4];
    struct counters *before = counters_of(m, vmid);
    uint64_t time_ns = os_clock_monotonic_ns();
    memset(rate, 0, 4 * sizeof(double));
    if (!read_counters(m, vmid, values))
        return;
    double seconds = (double)(time_ns - before->time_ns) / 1e9;
    for (size_t i = 0; i < 4; i++)
        if (before->time_ns && values[i] >= before->values[i])
            rate[i] = (values[i] - before->values[i]) / seconds;
    before->time_ns = time_ns;
    memcpy(before->values, values, sizeof(values));
    guest_set_counters(m->node->guests, vmid, values);
}

static void sample_guests(struct metrics *m, double net[2])
{
    struct store_list list;
    store_list(m->node->store, "/guest/", &list);
    for (size_t i = 0; i < list.count; i++) {
        struct guest_status status;
        int64_t vmid = strtoll(list.entries[i].key + strlen("/guest/"), NULL, 10);
        guest_status(m->node->guests, vmid, &status);
        if (!status.running)
            continue;
        double rate[4];
        char name[40];
        rates(m, vmid, rate);
        json_t *row = guest_row(m->node->guests, vmid, list.entries[i].value);
        double values[COUNT(guest_names)] = {json_real_value(json_object_get(row, "cpu")),
                                             number(row, "cpus", NULL),
                                             number(row, "mem", NULL),
                                             number(row, "maxmem", NULL),
                                             number(row, "disk", NULL),
                                             number(row, "maxdisk", NULL),
                                             rate[0],
                                             rate[1],
                                             rate[2],
                                             rate[3]};
        json_decref(row);
        snprintf(name, sizeof(name), "qemu-%lld", (long long)vmid);
        add(m, name, values, COUNT(guest_names));
        net[0] += rate[2];
        net[1] += rate[3];
    }
    store_list_free(&list);
}

// ---- The node and its datastores.

static void sample_node(struct metrics *m, const double net[2])
{
    struct os_node_facts host;
    os_node_facts(&host);
    double values[COUNT(node_names)] = {host.cpu,
                                        host.cpus,
                                        host.load[0],
                                        (double)(host.memory_bytes - host.memory_free_bytes),
                                        (double)host.memory_bytes,
                                        (double)host.root_used_bytes,
                                        (double)host.root_bytes,
                                        0,
                                        0,
                                        0,
                                        net[0],
                                        net[1]};
    add(m, "node", values, COUNT(node_names));
}

static void sample_storages(struct metrics *m)
{
    json_t *list = storage_list(m->node->storage), *row;
    size_t index;
    json_array_foreach(list, index, row)
    {
        char name[100];
        const char *id = api_param_string(row, "storage");
        json_t *status = storage_status(m->node->storage, id, NULL);
        double values[COUNT(storage_names)] = {number(status, "used", NULL),
                                               number(status, "total", NULL)};
        snprintf(name, sizeof(name), "storage-%.64s", id);
        if (status)
            add(m, name, values, COUNT(storage_names));
        json_decref(status);
    }
    json_decref(list);
}

static void *run(void *argument)
{
    struct metrics *m = argument;
    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        double net[2] = {0};
        pthread_mutex_unlock(&m->lock);
        sample_guests(m, net);
        sample_node(m, net);
        sample_storages(m);
        uint64_t until_ns = os_clock_monotonic_ns() + EVERY_S * UINT64_C(1000000000);
        struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                                 .tv_nsec = (long)(until_ns % 1000000000u)};
        pthread_mutex_lock(&m->lock);
        while (!m->stopping && !pthread_cond_timedwait(&m->changed, &m->lock, &until))
            ;
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

struct metrics *metrics_start(struct node *node, const char *folder, struct err *err)
{
    struct metrics *m = calloc(1, sizeof(*m));
    pthread_condattr_t monotonic;
    if (!m)
        abort();
    m->node = node;
    snprintf(m->folder, sizeof(m->folder), "%s", folder);
    node->metrics_folder = m->folder;
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!os_directory_make_all(folder, 0700, err) &&
        !os_thread_start(&m->thread, "metrics", run, m, err))
        return m;
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
    return NULL;
}

void metrics_stop(struct metrics *metrics)
{
    if (!metrics)
        return;
    pthread_mutex_lock(&metrics->lock);
    metrics->stopping = true;
    pthread_cond_signal(&metrics->changed);
    pthread_mutex_unlock(&metrics->lock);
    pthread_join(metrics->thread, NULL);
    pthread_cond_destroy(&metrics->changed);
    pthread_mutex_destroy(&metrics->lock);
    free(metrics->guests);
    free(metrics);
}

// ---- Endpoints.

static int get_series(struct api_call *call, const char *name, const char *const *names,
                      size_t count)
{
    char path[PATH_BYTES];
    const char *how = api_string(call, "cf");
    snprintf(path, sizeof(path), "%.3000s/%.200s", rest_node(call)->metrics_folder, name);
    call->data = series_read(path, api_string(call, "timeframe"), how && !strcmp(how, "MAX"), names,
                             count, now_s());
    return 0;
}

static int get_node_series(struct api_call *call, struct err *err)
{
    (void)err;
    return get_series(call, "node", node_names, COUNT(node_names));
}

static int get_guest_series(struct api_call *call, struct err *err)
{
    char name[40];
    if (rest_no_guest(call, err))
        return -1;
    snprintf(name, sizeof(name), "qemu-%lld", (long long)api_integer(call, "vmid", 0));
    return get_series(call, name, guest_names, COUNT(guest_names));
}

static int get_storage_series(struct api_call *call, struct err *err)
{
    char name[100];
    (void)err;
    snprintf(name, sizeof(name), "storage-%.64s", api_string(call, "storage"));
    return get_series(call, name, storage_names, COUNT(storage_names));
}

#define SERIES(PATH, ABOUT, PERMISSION, HANDLER)                                                   \
    {                                                                                              \
        .method = "GET", .path = PATH "/rrddata", .about = ABOUT, .permission = PERMISSION,        \
        .returns = "[{time:int, *}]", .slow = true, .handler = HANDLER,                            \
        .params = (const struct api_param[])                                                       \
        {                                                                                          \
            {.name = "timeframe",                                                                  \
             .type = API_STRING,                                                                   \
             .values = "hour|day|week|month|year",                                                 \
             .about = "how far back"},                                                             \
                {.name = "cf",                                                                     \
                 .type = API_STRING,                                                               \
                 .optional = true,                                                                 \
                 .values = "AVERAGE|MAX",                                                          \
                 .about = "of each slot; AVERAGE"},                                                \
            {                                                                                      \
                .name = NULL                                                                       \
            }                                                                                      \
        }                                                                                          \
    }

const struct endpoint rest_metrics[] = {
    SERIES("/nodes/{node}", "What the node used over time.", "/nodes/{node} Sys.Audit",
           get_node_series),
    SERIES("/nodes/{node}/qemu/{vmid}", "What a VM used over time.", "/vms/{vmid} VM.Audit",
           get_guest_series),
    SERIES("/nodes/{node}/storage/{storage}", "What a datastore held over time.",
           "/storage/{storage} Datastore.Audit|Datastore.AllocateSpace", get_storage_series),
    {.method = NULL},
};
