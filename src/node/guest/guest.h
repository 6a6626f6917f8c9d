// SPDX-License-Identifier: Apache-2.0
//
// Virtual machines as managed things: their records in the store, their processes, what one can do with them.
//
// Owns the keys /guest/VMID: {"config": {…}, "lock": "clone", "snapshots": {…}}, and the folder run/VMID of each machine that runs, with its
// sockets (control, console, agent) and its log. A machine is a `wirt-vm` process that belongs to nobody: when wirtd comes back it finds the
// folders, connects to the control sockets, and knows again what runs. What the store says is what shall be; what the sockets say is what is.
//
// One operation at a time works on a guest: guest_lock() is taken by tasks (several that only read may share it). An operation that a crash must
// not leave half done also writes `lock` into the record, and guests_create() undoes or finishes it by that:
//
//     create, clone       the guest goes, with its volumes
//     destroy             the same
//     move                the disk is the volume that the machine writes, else the one that was written last; the other stays, unused
//     snapshot            a machine that runs is told to go on with its new images
//
// Threads: any, but what waits (all that takes a task) must not run on the event loop.
#ifndef WIRT_NODE_GUEST_GUEST_H
#define WIRT_NODE_GUEST_GUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node/helper/helper.h"
#include "node/storage/storage.h"
#include "node/store/store.h"
#include "node/task/task.h"

#define GUEST_ID_MIN 100
#define GUEST_ID_MAX 999999999

struct guests;
struct os_loop;

struct guests_options {
    struct store *store;
    struct storage *storage;
    struct helper *helper;
    struct os_loop *loop;
    const char *node, *run_folder;
    const char *accel; // "auto", "engine", …: how machines execute
};
// Finds what runs, cleans up what a predecessor left half done.
struct guests *guests_create(const struct guests_options *options, struct err *err);
void guests_destroy(struct guests *guests); // machines go on

// ---- Records.
json_t *guest_get(struct guests *guests, int64_t vmid); // NULL: there is none
bool guest_exists(struct guests *guests, int64_t vmid);
int guest_missing(struct guests *guests, int64_t vmid,
                  struct err *err); // the words that clients know
void guest_digest(const json_t *config, char digest[41]);
// The lowest number from 100 up that is neither taken nor promised. Promises last some minutes and are `who`'s.
int64_t guest_next_id(struct guests *guests, const char *who);

// ---- What is.
struct guest_status {
    bool running;
    char state[16]; // "running", "paused", "stopped"
    int64_t pid;
    uint64_t uptime_s;
    uint64_t memory_bytes; // as its guest tells it, or else what is resident
    double cpu;            // of its CPUs, 0 to 1
    int64_t counters[4];   // guest_set_counters()
};
void guest_status(struct guests *guests, int64_t vmid, struct guest_status *status);
// The same word alone: nothing is measured for it.
bool guest_is_running(struct guests *guests, int64_t vmid);
// Bytes of its disks and networks since its start, as its rows show them: read, written, received, sent.
void guest_set_counters(struct guests *guests, int64_t vmid, const double counters[4]);
// What is used of its RAM, by the guest's own word or by what the host keeps for it; 0: nobody tells.
void guest_set_memory(struct guests *guests, int64_t vmid, uint64_t bytes);
// A row of lists: vmid, name, status, cpus, maxmem, …
json_t *guest_row(struct guests *guests, int64_t vmid, const json_t *record);

// ---- One operation at a time. Waits for at most `seconds`; -1 and who holds it.
int guest_lock(struct guests *guests, int64_t vmid, const char *what, bool shared, double seconds,
               struct err *err);
void guest_unlock(struct guests *guests, int64_t vmid, bool shared);

// ---- Configuration (guest_config.c). `changes` has keys and values as the interface checked them; `remove` names keys.
struct guest_change {
    const json_t *changes;
    const json_t *remove; // array of strings, or NULL
    const char *digest;   // that the configuration must have, or NULL
    bool force;           // removed disks go for good, instead of becoming unused
    struct task *task;    // told how far copies are, or NULL
};
int guest_configure(struct guests *guests, int64_t vmid, const struct guest_change *change,
                    struct err *err);
// The disks among the keys: virtio0, scsi1, …
bool guest_is_disk_key(const char *key);
bool guest_is_unused_key(const char *key);
// Does a guest's configuration, now or in a snapshot, name the volume or file?
bool guests_use_volume(struct guests *guests, const char *volid);
bool guests_use_storage(struct guests *guests, const char *id);
// The volume of a disk's string, when it is a guest's own; false for CD-ROMs and "none".
bool guest_disk_volume(const char *text, char volid[VOLUME_ID_BYTES], bool *cdrom);

// ---- The node's network (guest_net.c), as lists of interfaces have it.
#define GUEST_BRIDGE "vmbr0"
json_t *guests_network(struct guests *guests);
// All cards: {vmid, name?, card, mac, bridge?, address?}. The address is the one that vmbr0 has for it since it was first used there.
json_t *guests_cards(struct guests *guests);

// ---- Life (guest_life.c, guest_clone.c, guest_snapshot.c). Each as a task, the lock is taken inside.
int guest_claim(struct guests *guests, int64_t vmid, const char *lock, struct err *err);
int guest_create(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                 struct err *err);
int guest_destroy(struct guests *guests, struct task *task, int64_t vmid, struct err *err);
int guest_make_template(struct guests *guests, struct task *task, int64_t vmid, struct err *err);
int guest_resize_disk(struct guests *guests, struct task *task, int64_t vmid, const char *disk,
                      const char *size, struct err *err);
// To another datastore or format; the machine may run meanwhile. guest_move.c
struct guest_move {
    const char *disk, *storage;
    const char *format; // NULL: as it is
    bool remove;        // the old volume goes, instead of becoming unused
    uint64_t bytes_per_s;
};
int guest_move_disk(struct guests *guests, struct task *task, int64_t vmid,
                    const struct guest_move *move, struct err *err);
struct guest_clone {
    int64_t from, to;
    const char *name, *description; // NULL: as the source
    const char *storage, *format;   // NULL: as the source
    const char *snapshot;           // NULL: as it is now
    int full;                       // -1: whatever the source allows; 0, 1
    uint64_t bytes_per_s;           // of a machine that runs; 0: as fast as it goes
};
int guest_clone(struct guests *guests, struct task *task, const struct guest_clone *clone,
                struct err *err);
int guest_snapshot_take(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        const char *description, struct err *err);
int guest_snapshot_back(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        bool start, struct err *err);
// Layers of dropped snapshots that a predecessor did not come to merge: are there such, and (a task's work) they go.
bool guests_layers_left(struct guests *guests);
int guests_merge_layers(struct guests *guests, struct task *task, struct err *err);
int guest_snapshot_describe(struct guests *guests, int64_t vmid, const char *name,
                            const char *description, struct err *err);
int guest_snapshot_drop(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                        struct err *err);

// ---- Backups (guest_backup.c).
struct guest_backup {
    const char *storage;
    const char *notes; // or NULL
    bool protect;
    uint64_t bytes_per_s; // of a running machine's disks; 0: as fast as it goes
};
int guest_backup(struct guests *guests, struct task *task, int64_t vmid,
                 const struct guest_backup *how, char volid[VOLUME_ID_BYTES], struct err *err);
struct guest_restore {
    const char *archive;   // a volume of content backup, or an absolute path
    const char *storage;   // NULL: where the disks were
    bool unique;           // cards get new addresses
    bool replace;          // the guest is there, and goes
    const json_t *changes; // keys that shall be different
    // Backups come from strangers: may this key and value be taken over?
    bool (*permitted)(void *user, const char *key, const json_t *value);
    void *user;
};
int guest_restore(struct guests *guests, struct task *task, int64_t vmid,
                  const struct guest_restore *how, struct err *err);
// What stands at a backup's beginning: {"vmid", "config", "disks", …}.
json_t *guest_backup_config(struct guests *guests, const char *volid, struct err *err);
bool guest_wants_agent(const json_t *config);

// ---- Running (guest_run.c).
int guest_start(struct guests *guests, struct task *task, int64_t vmid, struct err *err);
// `overrule`: a shutdown that waits for the guest gives up.
int guest_stop(struct guests *guests, struct task *task, int64_t vmid, bool overrule,
               struct err *err);
// Asked by its agent or the power button (guest_shutdown.c). `force`: after the time its plug is pulled.
int guest_shutdown(struct guests *guests, struct task *task, int64_t vmid, unsigned timeout_s,
                   bool force, struct err *err);
int guest_reboot(struct guests *guests, struct task *task, int64_t vmid, unsigned timeout_s,
                 struct err *err);
// "pause", "resume", "reset".
int guest_command(struct guests *guests, struct task *task, int64_t vmid, const char *command,
                  struct err *err);
// One command of the control protocol, waited for; the answer's `ok`, or NULL.
json_t *guest_control(struct guests *guests, int64_t vmid, json_t *request, double seconds,
                      struct err *err);
// A connection to the serial console or the agent's port; the descriptor is the caller's.
int guest_connect(struct guests *guests, int64_t vmid, const char *what, struct err *err);

// ---- All of them (guest_all.c), as tasks that start one for each guest and show a list of results.
struct guest_all {
    struct tasks *tasks;
    const json_t *only; // numbers, or NULL
    bool force; // starting: also those without `onboot`; stopping: pull the plug after the time
    unsigned timeout_s; // stopping; 0: as each says
};
int guests_start_all(struct guests *guests, struct task *task, const struct guest_all *all,
                     struct err *err);
int guests_stop_all(struct guests *guests, struct task *task, const struct guest_all *all,
                    struct err *err);

// ---- The guest agent (guest_agent.c): one command, its `return`. NULL and "QEMU guest agent is not running".
json_t *guest_agent(struct guests *guests, int64_t vmid, const char *command, json_t *arguments,
                    double seconds, struct err *err);

// ---- The machine that a configuration stands for (guest_machine.c): what wirt-vm is started with. NULL and *err.
json_t *guest_machine(struct guests *guests, int64_t vmid, const json_t *config,
                      const char *run_folder, struct err *err);

#endif
