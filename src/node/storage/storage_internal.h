// SPDX-License-Identifier: Apache-2.0
#ifndef WIRT_NODE_STORAGE_STORAGE_INTERNAL_H
#define WIRT_NODE_STORAGE_STORAGE_INTERNAL_H

#include <pthread.h>

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

#endif
