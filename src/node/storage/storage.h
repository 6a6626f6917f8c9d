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
// A whole copy; `done` of `total` bytes are those of other volumes of the same task.
int volume_make_copy(struct storage *storage, const char *source, const char *store_id,
                     int64_t vmid, const char *format, struct task *task,
                     char volid[VOLUME_ID_BYTES], struct err *err);
// Steps for the transaction in which the reference comes or goes.
void volume_ready(struct storage *storage, struct store_txn *txn, const char *volid);
void volume_going(struct storage *storage, struct store_txn *txn, const char *volid);
// Removes the file, then the record. Refused while another volume stands on it.
int volume_remove(struct storage *storage, const char *volid, struct err *err);
bool volume_is_base(struct storage *storage, const char *volid); // does another stand on it?

// ---- Changes in place; nobody has the volume open.
int volume_size(struct storage *storage, const char *volid, uint64_t *bytes, struct err *err);
int volume_resize(struct storage *storage, const char *volid, uint64_t bytes, struct err *err);
enum volume_snapshot { VOLUME_SNAPSHOT_TAKE, VOLUME_SNAPSHOT_BACK, VOLUME_SNAPSHOT_DROP };
// Taking one that is there, and dropping one that is not, is fine: the step may be taken again after a crash.
int volume_snapshot(struct storage *storage, const char *volid, enum volume_snapshot what,
                    const char *name, struct err *err);

// Where a file of this content and name lies in the datastore; its folder is made. For uploads and downloads.
int storage_file_path(struct storage *storage, const char *id, const char *content,
                      const char *name, char path[VOLUME_PATH_BYTES], struct err *err);

#endif
