// SPDX-License-Identifier: Apache-2.0
#ifndef WIRT_NODE_STORAGE_STORAGE_INTERNAL_H
#define WIRT_NODE_STORAGE_STORAGE_INTERNAL_H

#include <pthread.h>

#include "machine/block/block.h"
#include "machine/block/block_image.h"
#include "node/storage/storage.h"

struct storage {
    struct store *store;
    char *state_folder;
    pthread_mutex_t name_lock; // choosing a name for a new volume
};

// "store:name" into its parts. -1 for what is none.
int volume_split(const char *volid, char store_id[64], const char **name, struct err *err);
void volume_key(const char *volid, char key[VOLUME_ID_BYTES + 16]);
// The datastore's folder.
int storage_folder(struct storage *storage, const char *id, char path[VOLUME_PATH_BYTES],
                   struct err *err);

// The format that an image file's name tells: "raw" when it is none of the others'.
const char *storage_format_of(const char *name);
// storage_file.c: what was on its way when the predecessor ended.
void storage_empty_spool(struct storage *storage, const char *id);

// ---- volume.c: making. Chooses a free name and records it; takes the record over.
json_t *volume_new_record(int64_t vmid, const char *format, uint64_t size);
int volume_claim(struct storage *storage, const char *store_id, int64_t vmid, const char *suffix,
                 json_t *record, char volid[VOLUME_ID_BYTES], struct err *err);

// ---- volume.c: opening. `chain` is large: not for a stack.
// An image by its path. One that is no volume of ours stands alone: what it names below itself is anybody's.
struct block_disk *volume_open_image(struct storage *storage, const char *path, const char *format,
                                     bool ours, bool read_only, struct block_chain *chain,
                                     struct err *err);
struct block_disk *volume_open(struct storage *storage, const char *volid, bool read_only,
                               struct block_chain *chain, struct err *err);
// A volume, or a file by its absolute path, to be read.
struct block_disk *volume_open_source(struct storage *storage, const char *source,
                                      struct block_chain *chain, struct err *err);
// `result`, or -1 when what was written does not become durable.
int volume_close(struct block_disk *disk, struct block_chain *chain, const char *volid, int result,
                 struct err *err);

#endif
