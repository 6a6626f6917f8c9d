// SPDX-License-Identifier: Apache-2.0
//
// Datastores and what lies in them: volumes of guests (which have a record each), and plain files (ISO images, templates, snippets, backups).
//
// Owns the keys /storage/ID and /volume/VOLID. A volume id is "store:name"; of a guest's volume the name is "100/vm-100-disk-0.qcow2". The record
// of a guest's volume holds what must never be guessed from the file: its format, its owner, the volume it stands on; and its state:
//
//     making  there may be a file, whole or not; nobody refers to it. Removed at the next start.
//     ready   somebody refers to it, or is about to within the same transaction.
//     going   the reference is gone, the file may be there still. Removed at the next start.
//
// So a crash at any moment leaves either the old state or the new. A volume that others stand on, or that a guest refers to, is not removed.
//
// Threads: any. What copies takes a task, for progress and for being stopped.
#ifndef WIRT_NODE_STORAGE_STORAGE_H
#define WIRT_NODE_STORAGE_STORAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node/store/store.h"
#include "node/task/task.h"

#define VOLUME_ID_BYTES   256
#define VOLUME_PATH_BYTES 4096

struct storage;

// Makes the datastore `local` when there is none; removes what a predecessor left half done.
struct storage *storage_create(struct store *store, const char *state_folder, struct err *err);
void storage_destroy(struct storage *storage);

// ---- Datastores. [{"storage": "local", "type": "dir", …}]
json_t *storage_list(struct storage *storage);
json_t *storage_get(struct storage *storage, const char *id); // NULL: no such datastore
// {"total", "used", "avail", "active", …}
json_t *storage_status(struct storage *storage, const char *id, struct err *err);
bool storage_takes(struct storage *storage, const char *id, const char *content);

// ---- Volumes and files.
// [{"volid", "content", "format", "size", …}]; content and vmid may be NULL and 0: all.
json_t *storage_content(struct storage *storage, const char *id, const char *content, int64_t vmid,
                        struct err *err);
// Does "STORE:…" begin with what can be a datastore's name?
bool volume_names_storage(const char *text);
// Path of the volume or file; its format too when wanted.
int volume_path(struct storage *storage, const char *volid, char path[VOLUME_PATH_BYTES],
                char format[16], struct err *err);
json_t *volume_record(struct storage *storage, const char *volid); // NULL: no guest's volume
// Folders in which the images that a guest's disks stand on may lie; ends with NULL; freed by free() on the array alone.
const char **storage_image_folders(struct storage *storage);
// [{"volid", "record"}] of a guest.
json_t *volumes_of(struct storage *storage, int64_t vmid);

// Each makes a volume in state `making` with its file, and writes its id.
int volume_make(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                const char *format, uint64_t size, char volid[VOLUME_ID_BYTES], struct err *err);
// On top of another, without copying.
int volume_make_linked(struct storage *storage, const char *base, const char *store_id,
                       int64_t vmid, char volid[VOLUME_ID_BYTES], struct err *err);
// A whole copy of a volume, of a file of content `import`, or of a file by its absolute path (its format follows from its name; it must stand
// alone, as it may name other people's files).
int volume_make_copy(struct storage *storage, const char *source, const char *store_id,
                     int64_t vmid, const char *format, struct task *task,
                     char volid[VOLUME_ID_BYTES], struct err *err);
// Steps for the transaction in which the reference comes or goes.
void volume_ready(struct storage *storage, struct store_txn *txn, const char *volid);
void volume_going(struct storage *storage, struct store_txn *txn, const char *volid);
// Removes the file, then the record. Refused while another volume stands on it.
int volume_remove(struct storage *storage, const char *volid, struct err *err);
bool volume_is_base(struct storage *storage, const char *volid); // does another stand on it?
// Do only volumes of this guest stand on it?
bool volume_owned_chain(struct storage *storage, const char *volid, int64_t vmid);

// ---- Volumes in backups (volume_archive.c). Progress is told as `done` of `total` bytes, of which this one's size is a part.
struct archive_writer;
struct archive_reader;
// `source` is a volume or an image by its absolute path.
int volume_save(struct storage *storage, const char *source, struct archive_writer *writer,
                uint32_t disk, struct task *task, uint64_t done, uint64_t total, struct err *err);
// All records of the backup into the volumes, which are new, in the order of its disks.
int volumes_load(struct storage *storage, struct archive_reader *reader,
                 const char (*volids)[VOLUME_ID_BYTES], size_t count, struct task *task,
                 uint64_t archive_size, struct err *err);

// What is known of a plain file beside itself: {"notes", "protected"}; NULL: nothing.
json_t *storage_file_facts(struct storage *storage, const char *volid);
int storage_set_file_facts(struct storage *storage, const char *volid, json_t *facts,
                           struct err *err); // takes them over; NULL: none

// ---- Images that a job of a machine is to write. The descriptor, with the locks that writers have; -1 and *err.
int storage_image_make(const char *path, uint64_t size,
                       struct err *err); // qcow2, where there is none
int storage_image_open(const char *path, struct err *err);

// ---- Changes in place; nobody has the volume open.
int volume_size(struct storage *storage, const char *volid, uint64_t *bytes, struct err *err);
// Whoever has it open has changed its size.
int volume_note_size(struct storage *storage, const char *volid, uint64_t bytes, struct err *err);
int volume_resize(struct storage *storage, const char *volid, uint64_t bytes, struct err *err);

// ---- Layers (volume_layer.c): a volume's state at a moment is kept as a volume of its own, on which the volume goes on. What stands on one is
// never written again, so a layer can be read at any time, also while a machine writes above it.
struct volume_layer {
    char volid[VOLUME_ID_BYTES];  // the volume, which goes on
    char below[VOLUME_ID_BYTES];  // the new volume with what it had
    char path[VOLUME_PATH_BYTES]; // of the new, empty image that becomes the volume's
    int fd;                       // it, open and locked for writing; the caller's
};
// Makes the new image upon the volume. Nothing refers to it yet.
int volume_layer_make(struct storage *storage, const char *volid, const char *name,
                      struct volume_layer *layer, struct err *err);
// Steps that make it so: the volume goes on with the new image. And back again: nothing has been written to it.
void volume_layer_ready(struct storage *storage, struct store_txn *txn,
                        const struct volume_layer *layer);
int volume_layer_undo(struct storage *storage, const struct volume_layer *layer, struct err *err);
// A new image upon a layer becomes the volume's, which loses what it had: the steps for it. The volume is made when it is not there any more.
int volume_layer_back(struct storage *storage, struct store_txn *txn, const char *below,
                      const char *volid, struct err *err);
// A layer that nobody refers to goes: what stands on it takes over what it holds. `live` is asked when a machine has the upper one open: 1: it did
// it, 0: nobody has it open, do it here; -1. What several stand on stays: 1.
size_t volume_layer_uppers(struct storage *storage, const char *below); // how many stand on it
struct volume_merge {
    char upper[VOLUME_ID_BYTES];
    char base[VOLUME_PATH_BYTES]; // image that the upper one shall stand on then; "": none
};
int volume_layer_drop(struct storage *storage, const char *below,
                      int (*live)(void *user, const struct volume_merge *merge, struct err *err),
                      void *user, struct err *err);
// Removes volumes that stand on each other, those above first. What cannot go now goes at the next start.
void volumes_remove(struct storage *storage, const json_t *rows, struct task *task);

// ---- Files that come from outside (storage_file.c). They gather in the datastore's folder `.incoming`, which is emptied at the start, and are
// put in place whole.
// An open, empty file for `bytes` that are about to come, and its path.
int storage_spool(struct storage *storage, const char *id, uint64_t bytes,
                  char path[VOLUME_PATH_BYTES], struct err *err);
struct storage_arrival {
    const char *id, *content, *name;  // where to
    const char *path;                 // where it lies; it is gone afterwards in any case
    const char *checksum, *algorithm; // NULL: not given
};
// Checks the sum and puts the file in place; what stood there under the name goes.
int storage_arrive(struct storage *storage, const struct storage_arrival *arrival,
                   struct task *task, struct err *err);
bool storage_known_sum(const char *algorithm);
// Gets a URL (http, https) into the file. `verify`: the certificate must be good.
int storage_download(const char *url, const char *path, bool verify, struct task *task,
                     struct err *err);
// {"filename", "size", "mimetype"} of a URL.
json_t *storage_url_facts(const char *url, bool verify, struct err *err);

// Changes of datastores. `record` as in the list, without its id.
int storage_add(struct storage *storage, const char *id, json_t *record, struct err *err);
int storage_change(struct storage *storage, const char *id, const json_t *changes,
                   const json_t *remove, struct err *err);
int storage_remove(struct storage *storage, const char *id, struct err *err);

// Where a file of this content and name lies in the datastore; its folder is made.
int storage_file_path(struct storage *storage, const char *id, const char *content,
                      const char *name, char path[VOLUME_PATH_BYTES], struct err *err);

#endif
