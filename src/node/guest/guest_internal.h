// SPDX-License-Identifier: Apache-2.0
#ifndef WIRT_NODE_GUEST_GUEST_INTERNAL_H
#define WIRT_NODE_GUEST_GUEST_INTERNAL_H

#include <pthread.h>

#include "node/guest/guest.h"
#include "os/loop.h"

// What is known of a machine beside its record; made when first needed, kept.
struct live {
    int64_t vmid;
    struct guests *guests;
    // Under guests->lock.
    bool running, paused;
    pid_t pid;
    int watch_fd; // becomes readable at its end; -1
    uint64_t started_s;
    struct os_cgroup_place place; // what its scope uses is read there
    bool in_scope;
    uint64_t cpu_ns, sampled_ns; // for the share of CPU
    double cpu;
    uint64_t memory_bytes;
    uint64_t memory_told_bytes; // guest_set_memory(); 0: nobody told
    int64_t counters[4];
    bool exclusive;
    unsigned shared;
    char holder[64];
    bool ending, overruled; // a shutdown waits for it; somebody wants it to give up
    // Event loop.
    struct os_loop_watch watch;
    struct os_loop_post post;
};

struct promise {
    int64_t vmid;
    uint64_t until_s;
    char who[64];
};

struct guests {
    struct guests_options options;
    char *node, *run_folder, *accel;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct live **live; // in the order of their numbers
    size_t live_count;
    struct promise promises[64];
    // Constant once guests_network_open() is done.
    char bridge[16];     // the interface that is vmbr0
    uint32_t subnet;     // its network; 0: there is none
    char no_bridge[256]; // why
};

struct live *guest_live(struct guests *guests, int64_t vmid); // under the lock; made when missing
int64_t guest_number(const json_t *config, const char *key,
                     int64_t missing); // a number, or a string that is one
void guest_key(int64_t vmid, char key[40]);
void guest_folder(struct guests *guests, int64_t vmid, char path[4096]);
// Puts a changed copy of the record, if it is still at `revision`. Takes the record over. Volumes' steps may be in txn already.
int guest_put(struct guests *guests, struct store_txn *txn, int64_t vmid, int64_t revision,
              json_t *record, struct err *err);
json_t *guest_get_at(struct guests *guests, int64_t vmid, int64_t *revision);
// Changes one member of the record, and nothing else. Takes the value over; NULL: the member goes.
int guest_set_member(struct guests *guests, int64_t vmid, const char *member, json_t *value,
                     struct err *err);
bool guest_wait_end(struct guests *guests, struct task *task, int64_t vmid, double seconds);
// guest_config.c: "b;A,c" becomes "a;b;c", in lower case, once each.
#define GUEST_TAGS_BYTES 4096
void guest_join_tags(const char *text, char joined[GUEST_TAGS_BYTES]);
// ---- guest_machine.c: a disk's limits ("mbps=10,iops=100"), as members of a machine's disk.
int guest_disk_limits(const json_t *properties, json_t *limits, struct err *err);
// Says which options of the configuration have no effect, of those that somebody may rely on.
void guest_tell_unheeded(struct task *task, const json_t *config);
// guest_run.c: what the guest is asked to keep of the memory that its machine has.
int guest_set_balloon(struct guests *guests, int64_t vmid, const json_t *config, int64_t memory_mib,
                      struct err *err);
// ---- guest_net.c
void guests_network_open(struct guests *guests);
// A card of a machine that is about to start, {"id", "mac", "bridge"}: its kind becomes "tap", with the descriptor (*tap too, to be closed when the machine has
// it), or "user", said in the task's log. Without "bridge" nothing is done. -1 and *err.
int guest_net_open(struct guests *guests, const char *name, json_t *net, struct task *task,
                   int *tap, struct err *err);
// guest_control() with descriptors beside the request.
json_t *guest_control_with(struct guests *guests, int64_t vmid, json_t *request, const int *fds,
                           size_t count, double seconds, struct err *err);
// guest_run.c: the far end of a card's network, for a machine that runs; -1 in *fd where there is none.
int guest_open_net(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                   json_t *net, int *fd, struct err *err);
// guest_run.c: of the machine's scope, by its configuration.
struct os_cgroup_limits guest_limits(const json_t *config);
// guest_run.c, at the start of the daemon.
void guests_find_running(struct guests *guests);
// guest_life.c: by the locks in the records.
void guests_recover(struct guests *guests);
int guest_remove_record(struct guests *guests, int64_t vmid, struct task *task, struct err *err);
int guest_snapshot_forget(struct guests *guests, int64_t vmid, const char *name, struct err *err);
int guest_snapshot_resume(struct guests *guests, int64_t vmid, struct err *err);
// guest_move.c: after a crash.
int guest_move_resume(struct guests *guests, int64_t vmid, struct err *err);
// guest_clone.c: the card into another guest's configuration. `fresh`: with an address of its own.
void guest_copy_net(json_t *config, const char *key, const char *text, bool fresh);
bool guest_record_names(const json_t *record, const char *volid); // now or in a snapshot
// Volumes that go, or that nobody came to refer to.
void guest_remove_leftovers(struct guests *guests, int64_t vmid);
// Calls `act` at an instant: the guest's file systems are frozen by its agent, or else the machine stands still. guest_rest.c
int guest_at_rest(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                  int (*act)(void *user, struct err *err), void *user, struct err *err);

// As long as this file stands beside the machine's sockets, the guest is to rest for an instant only: guest_rest.c.
#define GUEST_REST_FILE "rest"
// A guest that a predecessor of the daemon left so goes on; `paused`: the machine stands still.
void guest_wake_left(struct guests *guests, int64_t vmid, bool paused);
// Beside the machine's sockets, and empty when it has ended.
void guest_run_file(struct guests *guests, int64_t vmid, const char *name, char path[4096]);

void guest_note_paused(struct guests *guests, int64_t vmid, bool paused); // guest_run.c

// ---- guest_agent.c: the agent's port, for those who wait for other things beside it. What is sent before the agent is there waits for it in the port.
#define AGENT_SYNC_SECONDS 3 // an agent that is there answers within
struct agent_port {
    int fd;     // -1: the machine has no such port, or it has gone
    char *text; // owned: what has come
    size_t used;
    json_int_t sync; // the number by which we know answers to us
};
// Takes the port, which nobody else can have meanwhile. -1: the machine has none.
int agent_port_open(struct guests *guests, int64_t vmid, struct agent_port *port);
void agent_port_close(struct agent_port *port);
// Takes the arguments over.
int agent_port_send(struct agent_port *port, const char *command, json_t *arguments);
// May be sent again.
int agent_port_sync(struct agent_port *port);
// What came, without waiting; false at the port's end, which is also what comes when somebody else has it.
bool agent_port_receive(struct agent_port *port);
json_t *agent_port_next(struct agent_port *port); // the next object of what came; NULL
bool agent_port_is_synced(const struct agent_port *port, const json_t *answer);

// ---- guest_shutdown.c: the guest is asked to end, through its agent or by the power button, until it does. -1 and *err: it did not in time, or another stop overruled
// it (guest_overrule()). The caller has the lock.
int guest_end_gently(struct guests *guests, struct task *task, int64_t vmid, unsigned timeout_s,
                     struct err *err);
// A shutdown that works on the guest gives up.
void guest_overrule(struct guests *guests, int64_t vmid);

// ---- guest_job.c: jobs on the disks of a machine that runs.
// Starts a job; its id goes to `job`. `request` is taken over; the descriptor stays the caller's; -1: none.
int guest_job_start(struct guests *guests, int64_t vmid, json_t *request, int fd, char job[32],
                    struct err *err);
// Waits until a backup keeps the disk as it is, or the job has ended. The machine must be at rest until then where several disks are to be of one instant.
int guest_job_hold(struct guests *guests, int64_t vmid, const char *job, struct err *err);
// Waits until it has ended or is ready, telling the task; it is cancelled when the task is. "done" or "ready" is well.
int guest_job_wait(struct guests *guests, struct task *task, int64_t vmid, const char *job,
                   uint64_t done, uint64_t total, struct err *err);
int guest_job_complete(struct guests *guests, int64_t vmid, const char *job, bool pivot,
                       struct err *err);
// Disks of the machine as they are at one instant (guest_at_rest()), into images that read as zeros. Progress is told as a part of `total` bytes.
struct guest_copy {
    const char *disk, *path, *format; // borrowed: its id; the image
    int fd;                           // of the image, open for writing; the caller's
    uint64_t size;
    char job[32]; // set
};
struct guest_copying {
    struct guest_copy *copies;
    size_t count;
    uint64_t bytes_per_s, total; // 0: as fast as it goes
};
int guest_copy_disks(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                     const struct guest_copying *copying, struct err *err);
// Those that a predecessor of the daemon began and that write to files which go now: backups, mirrors. Does not wait for their end.
void guest_jobs_disown(struct guests *guests, int64_t vmid);
// Ends all jobs.
void guest_jobs_cancel(struct guests *guests, int64_t vmid);

#endif
