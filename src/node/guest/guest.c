// SPDX-License-Identifier: Apache-2.0
#include "node/guest/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/auth/secret.h"
#include "node/guest/guest_internal.h"
#include "os/clock.h"
#include "os/detach.h"
#include "os/directory.h"
#include "os/file.h"

#define PROMISE_S 300
#define SAMPLE_NS 1000000000u

void guest_key(int64_t vmid, char key[40])
{
    snprintf(key, 40, "/guest/%lld", (long long)vmid);
}

void guest_folder(struct guests *guests, int64_t vmid, char path[4096])
{
    snprintf(path, 4096, "%s/%lld", guests->run_folder, (long long)vmid);
}

json_t *guest_get_at(struct guests *guests, int64_t vmid, int64_t *revision)
{
    char key[40];
    guest_key(vmid, key);
    return store_get(guests->options.store, key, revision);
}

json_t *guest_get(struct guests *guests, int64_t vmid)
{
    return guest_get_at(guests, vmid, NULL);
}

bool guest_exists(struct guests *guests, int64_t vmid)
{
    json_t *record = guest_get(guests, vmid);
    json_decref(record);
    return record != NULL;
}

int guest_missing(struct guests *guests, int64_t vmid, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND,
                   "Configuration file 'nodes/%s/qemu-server/%lld.conf' does not exist",
                   guests->node, (long long)vmid);
}

int guest_put(struct guests *guests, struct store_txn *txn, int64_t vmid, int64_t revision,
              json_t *record, struct err *err)
{
    char key[40];
    guest_key(vmid, key);
    store_expect(txn, key, revision);
    store_put(txn, key, record);
    return store_commit(guests->options.store, txn, err);
}

int guest_set_member(struct guests *guests, int64_t vmid, const char *member, json_t *value,
                     struct err *err)
{
    int64_t revision;
    struct store_txn txn;
    json_t *record = guest_get_at(guests, vmid, &revision);
    if (!record) {
        json_decref(value);
        return guest_missing(guests, vmid, err);
    }
    json_t *changed = json_copy(record);
    json_decref(record);
    if (value)
        json_object_set_new(changed, member, value);
    else
        json_object_del(changed, member);
    store_txn_begin(&txn);
    return guest_put(guests, &txn, vmid, revision, changed, err);
}

void guest_digest(const json_t *config, char digest[41])
{
    char hash[SECRET_HASH_BYTES];
    char *text = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
    secret_hash(text, hash);
    free(text);
    snprintf(digest, 41, "%.40s", hash);
}

// ---- Ids.

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

// Under the lock.
static struct promise *promise_of(struct guests *guests, int64_t vmid)
{
    for (size_t i = 0; i < sizeof(guests->promises) / sizeof(guests->promises[0]); i++)
        if (guests->promises[i].vmid == vmid && guests->promises[i].until_s > now_s())
            return &guests->promises[i];
    return NULL;
}

int64_t guest_next_id(struct guests *guests, const char *who)
{
    int64_t vmid = GUEST_ID_MIN;
    pthread_mutex_lock(&guests->lock);
    while (guest_exists(guests, vmid) || promise_of(guests, vmid))
        vmid++;
    struct promise *oldest = &guests->promises[0];
    for (size_t i = 1; i < sizeof(guests->promises) / sizeof(guests->promises[0]); i++)
        if (guests->promises[i].until_s < oldest->until_s)
            oldest = &guests->promises[i];
    *oldest = (struct promise){.vmid = vmid, .until_s = now_s() + PROMISE_S};
    snprintf(oldest->who, sizeof(oldest->who), "%s", who);
    pthread_mutex_unlock(&guests->lock);
    return vmid;
}

// ---- What is known beside the records.

// Where it is, or belongs.
static size_t live_place(const struct guests *guests, int64_t vmid)
{
    size_t low = 0, high = guests->live_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (guests->live[middle]->vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct live *find_live(struct guests *guests, int64_t vmid)
{
    size_t at = live_place(guests, vmid);
    return at < guests->live_count && guests->live[at]->vmid == vmid ? guests->live[at] : NULL;
}

struct live *guest_live(struct guests *guests, int64_t vmid)
{
    struct live *live = find_live(guests, vmid);
    if (live)
        return live;
    struct live **more = realloc(guests->live, (guests->live_count + 1) * sizeof(struct live *));
    live = calloc(1, sizeof(*live));
    if (!more || !live)
        abort();
    *live = (struct live){.vmid = vmid, .guests = guests, .watch_fd = -1};
    guests->live = more;
    size_t at = live_place(guests, vmid);
    memmove(more + at + 1, more + at, (guests->live_count - at) * sizeof(*more));
    more[at] = live;
    guests->live_count++;
    return live;
}

static uint64_t deadline_ns(double seconds, struct timespec *until)
{
    uint64_t ns = os_clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
    *until = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                               .tv_nsec = (long)(ns % 1000000000u)};
    return ns;
}

int guest_lock(struct guests *guests, int64_t vmid, const char *what, bool shared, double seconds,
               struct err *err)
{
    struct timespec until;
    deadline_ns(seconds, &until);
    int late = 0;
    pthread_mutex_lock(&guests->lock);
    struct live *live = guest_live(guests, vmid);
    while ((live->exclusive || (live->shared && !shared)) && !late)
        late = pthread_cond_timedwait(&guests->changed, &guests->lock, &until);
    bool held = live->exclusive || (live->shared && !shared);
    int result = 0;
    if (held) {
        result = err_set(err, ERR_BUSY, "VM %lld is locked (%s)", (long long)vmid, live->holder);
    } else {
        live->exclusive = !shared;
        live->shared += shared;
        snprintf(live->holder, sizeof(live->holder), "%s", what);
    }
    pthread_mutex_unlock(&guests->lock);
    return result;
}

void guest_unlock(struct guests *guests, int64_t vmid, bool shared)
{
    pthread_mutex_lock(&guests->lock);
    struct live *live = guest_live(guests, vmid);
    if (shared)
        live->shared--;
    else
        live->exclusive = false;
    pthread_cond_broadcast(&guests->changed);
    pthread_mutex_unlock(&guests->lock);
}

bool guest_wait_end(struct guests *guests, struct task *task, int64_t vmid, double seconds)
{
    uint64_t end_ns = os_clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
    bool running = true;
    pthread_mutex_lock(&guests->lock);
    while ((running = guest_live(guests, vmid)->running) && os_clock_monotonic_ns() < end_ns &&
           (!task || task_wanted(task))) {
        struct timespec until;
        double left = (double)(end_ns - os_clock_monotonic_ns()) / 1e9;
        deadline_ns(left < 1 ? left : 1,
                    &until); // a second, to see whether the task is still wanted
        pthread_cond_timedwait(&guests->changed, &guests->lock, &until);
    }
    pthread_mutex_unlock(&guests->lock);
    return !running;
}

// What it uses, by its scope or else its process; looked at once a second at most. Under the lock.
static void sample(struct live *live)
{
    uint64_t cpu_ns = 0, now_ns = os_clock_monotonic_ns();
    if (live->sampled_ns && now_ns - live->sampled_ns < SAMPLE_NS)
        return;
    bool known = live->in_scope && os_cgroup_usage(&live->place, &cpu_ns, &live->memory_bytes);
    if (!known && os_process_usage(live->pid, &cpu_ns, &live->memory_bytes))
        return;
    if (live->sampled_ns && cpu_ns >= live->cpu_ns)
        live->cpu = (double)(cpu_ns - live->cpu_ns) / (double)(now_ns - live->sampled_ns);
    live->cpu_ns = cpu_ns;
    live->sampled_ns = now_ns;
}

void guest_status(struct guests *guests, int64_t vmid, struct guest_status *status)
{
    *status = (struct guest_status){0};
    pthread_mutex_lock(&guests->lock);
    struct live *live = find_live(guests, vmid);
    status->running = live && live->running;
    snprintf(status->state, sizeof(status->state), "%s",
             !status->running ? "stopped"
             : live->paused   ? "paused"
                              : "running");
    if (live && live->running) {
        status->pid = live->pid;
        status->uptime_s = now_s() > live->started_s ? now_s() - live->started_s : 0;
        sample(live);
        status->cpu = live->cpu;
        status->memory_bytes =
            live->memory_told_bytes ? live->memory_told_bytes : live->memory_bytes;
        memcpy(status->counters, live->counters, sizeof(status->counters));
    }
    pthread_mutex_unlock(&guests->lock);
}

bool guest_is_running(struct guests *guests, int64_t vmid)
{
    pthread_mutex_lock(&guests->lock);
    const struct live *live = find_live(guests, vmid);
    bool running = live && live->running;
    pthread_mutex_unlock(&guests->lock);
    return running;
}

void guest_set_counters(struct guests *guests, int64_t vmid, const double counters[4])
{
    pthread_mutex_lock(&guests->lock);
    struct live *live = guest_live(guests, vmid);
    for (size_t i = 0; i < 4; i++)
        live->counters[i] = (int64_t)counters[i];
    pthread_mutex_unlock(&guests->lock);
}

void guest_set_memory(struct guests *guests, int64_t vmid, uint64_t bytes)
{
    pthread_mutex_lock(&guests->lock);
    guest_live(guests, vmid)->memory_told_bytes = bytes;
    pthread_mutex_unlock(&guests->lock);
}

// ---- Rows.

int64_t guest_number(const json_t *config, const char *key, int64_t missing)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_string(value))
        return strtoll(json_string_value(value), NULL, 10);
    return value ? json_integer_value(value) : missing;
}

static uint64_t first_disk_bytes(struct guests *guests, const json_t *config)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        char volid[VOLUME_ID_BYTES];
        bool cdrom;
        uint64_t bytes;
        if (guest_is_disk_key(key) && guest_disk_volume(json_string_value(value), volid, &cdrom) &&
            !cdrom && !volume_size(guests->options.storage, volid, &bytes, NULL))
            return bytes;
    }
    return 0;
}

json_t *guest_row(struct guests *guests, int64_t vmid, const json_t *record)
{
    const json_t *config = json_object_get(record, "config");
    struct guest_status status;
    guest_status(guests, vmid, &status);
    char fallback[32];
    snprintf(fallback, sizeof(fallback), "VM%lld", (long long)vmid);
    const char *name = json_string_value(json_object_get(config, "name"));
    const json_t *running = status.running ? json_object_get(record, "running") : NULL;
    const json_t *machine = running ? running : config; // what it has, until its next start
    int64_t cpus = guest_number(machine, "cores", 1) * guest_number(machine, "sockets", 1);
    uint64_t memory = (uint64_t)guest_number(machine, "memory", 512) << 20;
    // The process has translated code and tables beside the guest's RAM.
    uint64_t used = status.memory_bytes < memory ? status.memory_bytes : memory;
    json_t *row =
        json_pack("{s:I, s:s, s:s, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "vmid",
                  (json_int_t)vmid, "name", name ? name : fallback, "status",
                  status.running ? "running" : "stopped", "cpus", (json_int_t)cpus, "cpu",
                  status.cpu / (double)cpus, "mem", (json_int_t)used, "maxmem", (json_int_t)memory,
                  "disk", (json_int_t)0, "maxdisk", (json_int_t)first_disk_bytes(guests, config),
                  "diskread", (json_int_t)status.counters[0], "diskwrite",
                  (json_int_t)status.counters[1], "netin", (json_int_t)status.counters[2], "netout",
                  (json_int_t)status.counters[3], "uptime", (json_int_t)status.uptime_s);
    if (status.running)
        json_object_set_new(row, "pid", json_integer(status.pid));
    json_object_set_new(row, "qmpstatus", json_string(status.state));
    if (json_object_get(config, "tags"))
        json_object_set(row, "tags", json_object_get(config, "tags"));
    if (json_object_get(config, "template"))
        json_object_set_new(row, "template", json_integer(1));
    if (json_object_get(record, "lock"))
        json_object_set(row, "lock", json_object_get(record, "lock"));
    return row;
}

// ---- Use.

// As the value itself, or as one of its properties ("user=local:snippets/x"); what ends with a colon is a datastore.
static bool names_volume(const char *text, const char *volid)
{
    size_t n = strlen(volid);
    bool storage = n && volid[n - 1] == ':';
    for (const char *at = text; at && (at = strstr(at, volid)); at += n)
        if ((at == text || at[-1] == '=' || at[-1] == ',') && (storage || !at[n] || at[n] == ','))
            return true;
    return false;
}

static bool config_names(const json_t *config, const char *volid)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key,
                        value) if (names_volume(json_string_value(value), volid)) return true;
    return false;
}

bool guest_record_names(const json_t *record, const char *volid)
{
    const char *name;
    json_t *snapshot;
    bool found = config_names(json_object_get(record, "config"), volid);
    json_object_foreach(json_object_get(record, "snapshots"), name, snapshot) found |=
        config_names(json_object_get(snapshot, "config"), volid) ||
        config_names(json_object_get(snapshot, "layers"), volid);
    return found;
}

bool guests_use_volume(struct guests *guests, const char *volid)
{
    struct store_list list;
    bool found = false;
    store_list(guests->options.store, "/guest/", &list);
    for (size_t i = 0; i < list.count && !found; i++)
        found = guest_record_names(list.entries[i].value, volid);
    store_list_free(&list);
    return found;
}

bool guests_use_storage(struct guests *guests, const char *id)
{
    char prefix[72];
    snprintf(prefix, sizeof(prefix), "%.63s:", id);
    return guests_use_volume(guests, prefix);
}

// ---- Beginning and end.

struct guests *guests_create(const struct guests_options *options, struct err *err)
{
    if (os_directory_make_all(options->run_folder, 0700, err))
        return NULL;
    struct guests *guests = calloc(1, sizeof(*guests));
    if (!guests)
        abort();
    guests->options = *options;
    guests->node = strdup(options->node);
    guests->run_folder = strdup(options->run_folder);
    guests->accel = strdup(options->accel);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&guests->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&guests->lock, NULL);
    guests_network_open(guests);
    guests_find_running(guests);
    guests_recover(guests);
    return guests;
}

void guests_destroy(struct guests *guests)
{
    if (!guests)
        return;
    for (size_t i = 0; i < guests->live_count; i++) {
        os_loop_unwatch(guests->options.loop, &guests->live[i]->watch);
        os_file_close(&guests->live[i]->watch_fd);
        free(guests->live[i]);
    }
    free(guests->live);
    free(guests->node);
    free(guests->run_folder);
    free(guests->accel);
    pthread_cond_destroy(&guests->changed);
    pthread_mutex_destroy(&guests->lock);
    free(guests);
}
