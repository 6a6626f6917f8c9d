// SPDX-License-Identifier: Apache-2.0
//
// Folders and whole small files by path, for processes that own a state directory (wirtd, its helper). Thread safe.
#ifndef WIRT_OS_DIRECTORY_H
#define WIRT_OS_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

// Makes the folder; one that is there already is fine. 0, or -1 and *err.
int os_directory_make(const char *path, unsigned mode, struct err *err);
// The same with all folders above it.
int os_directory_make_all(const char *path, unsigned mode, struct err *err);
// Removes an empty folder; one that is missing is fine. 0 or a negative errno.
int os_directory_remove(const char *path);
// Makes names made, renamed or removed in the folder durable. 0 or a negative errno.
int os_directory_sync(const char *path);

// Calls `entry` for each name but "." and "..", until it returns false. -1 and *err when the folder cannot be read.
int os_directory_list(const char *path, bool (*entry)(void *user, const char *name), void *user,
                      struct err *err);

// Removes a file; one that is missing is fine. 0 or a negative errno.
int os_file_remove(const char *path);
int os_file_rename(const char *from, const char *to, struct err *err);
bool os_file_exists(const char *path);

// The whole file, at most `max` bytes, with a zero byte behind it, to be freed; NULL and *err.
char *os_file_read_all(const char *path, size_t max, size_t *length, struct err *err);
// Puts the file in place whole or not at all, durably, with the mode given.
int os_file_write_whole(const char *path, const void *bytes, size_t length, unsigned mode,
                        struct err *err);

// A file that only grows: opened for appending, made when missing. -1 and *err.
int os_file_open_append(const char *path, unsigned mode, struct err *err);
// The line and a newline in one write, so that writers do not mix. 0 or a negative errno.
int os_file_append_line(int fd, const char *line);

// What the file system under `path` has, in bytes. 0 or a negative errno.
struct os_space {
    uint64_t total, available;
};
int os_directory_space(const char *path, struct os_space *space);

// Seconds since 1970 of the last change of the content; 0 when there is no such file.
uint64_t os_file_changed_s(const char *path);

// Gives the folder and all that stands in it to another user; symbolic links are not followed.
int os_directory_give(const char *path, uid_t uid, gid_t gid, struct err *err);

#endif
