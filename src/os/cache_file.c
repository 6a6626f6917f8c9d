// SPDX-License-Identifier: Apache-2.0
#include "os/cache_file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_own(int fd, mode_t kind)
{
    struct stat about;
    return !fstat(fd, &about) && (about.st_mode & S_IFMT) == kind && about.st_uid == geteuid() &&
           !(about.st_mode & (S_IWGRP | S_IWOTH));
}

static int make_path(char *path, size_t bytes)
{
    const char *run = getenv("XDG_RUNTIME_DIR"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n;
    if (geteuid() == 0)
        n = snprintf(path, bytes, "/run/wirt");
    else if (run && run[0] == '/')
        n = snprintf(path, bytes, "%s/wirt", run);
    else if (cache && cache[0] == '/')
        n = snprintf(path, bytes, "%s/wirt", cache);
    else if (home && home[0] == '/')
        n = snprintf(path, bytes, "%s/.cache/wirt", home);
    else
        return -1;
    return n > 0 && (size_t)n < bytes ? 0 : -1;
}

// The folder, made if it is not there (its parent too: ~/.cache may be missing). -1: none that is ours alone.
static int open_folder(bool make)
{
    char path[PATH_MAX];
    if (make_path(path, sizeof(path)))
        return -1;
    if (make) {
        char *last = strrchr(path, '/');
        *last = 0;
        mkdir(path, 0700);
        *last = '/';
        mkdir(path, 0700);
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && !is_own(fd, S_IFDIR)) {
        close(fd);
        return -1;
    }
    return fd;
}

int os_cache_read(const char *name, char *text, size_t bytes)
{
    int folder = open_folder(false);
    if (folder < 0)
        return -1;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    close(folder);
    if (fd < 0)
        return -1;
    ssize_t n = is_own(fd, S_IFREG) ? read(fd, text, bytes) : -1;
    close(fd);
    if (n < 0 || (size_t)n >= bytes)
        return -1;
    text[n] = 0;
    return 0;
}

void os_cache_write(const char *name, const char *text)
{
    char temporary[64];
    size_t length = strlen(text);
    int folder = open_folder(true);
    if (folder < 0)
        return;
    snprintf(temporary, sizeof(temporary), ".%.32s.%d", name, (int)getpid());
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool whole = fd >= 0 && write(fd, text, length) == (ssize_t)length;
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && (!whole || renameat(folder, temporary, folder, name)))
        unlinkat(folder, temporary, 0);
    close(folder);
}
