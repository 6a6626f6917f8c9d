// SPDX-License-Identifier: Apache-2.0
//
// Opening what a machine's disks and networks name: for a machine that starts and one that runs (`plug`) in the same way. A disk is its whole chain of images, each checked,
// locked and open; what is not there yet is never made.
#ifndef WIRT_LAUNCH_FILES_H
#define WIRT_LAUNCH_FILES_H

#include <jansson.h>

#include "base/err.h"

// Who gets the descriptors: hands one over and puts its number into the object under `member`. Takes the descriptor over; -1 for a descriptor that is -1.
struct launch_files {
    int (*give)(void *context, json_t *object, const char *member, int fd, struct err *err);
    void *context;
    const char *const
        *backing_folders; // where backing images may lie, ends with NULL; NULL: beside the image
};

// The disk's object gets `status_fd` where it is remote, `format`, its whole path, and `backing`. -1 and *err.
int launch_open_disk(const struct launch_files *to, json_t *disk, struct err *err);
int launch_open_tap(const struct launch_files *to, json_t *net, struct err *err);

#endif
