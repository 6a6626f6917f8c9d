// SPDX-License-Identifier: Apache-2.0
#include "os/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

int os_directory_make(const char *path, unsigned mode, struct err *err)
{
    if (!mkdir(path, mode) || errno == EEXIST)
        return 0;
    return err_set_errno(err, errno, "cannot make the folder '%s'", path);
}

int os_directory_make_all(const char *path, unsigned mode, struct err *err)
{
    char part[PATH_MAX];
    if ((size_t)snprintf(part, sizeof(part), "%s", path) >= sizeof(part))
        return err_set(err, ERR_USAGE, "the folder's path is too long");
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(part, mode) && errno != EEXIST)
            return err_set_errno(err, errno, "cannot make the folder '%s'", part);
        *slash = '/';
    }
    return os_directory_make(path, mode, err);
}

int os_directory_remove(const char *path)
{
    return rmdir(path) && errno != ENOENT ? -errno : 0;
}

int os_directory_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int result = fsync(fd) ? -errno : 0;
    close(fd);
    return result;
}

int os_directory_list(const char *path, bool (*entry)(void *user, const char *name), void *user,
                      struct err *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return err_set_errno(err, errno, "cannot read the folder '%s'", path);
    const struct dirent *found;
    bool more = true;
    while (more && (found = readdir(dir)))
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0)
            more = entry(user, found->d_name);
    closedir(dir);
    return 0;
}

int os_file_remove(const char *path)
{
    return unlink(path) && errno != ENOENT ? -errno : 0;
}

int os_file_rename(const char *from, const char *to, struct err *err)
{
    return rename(from, to) ? err_set_errno(err, errno, "cannot rename '%s' to '%s'", from, to) : 0;
}

bool os_file_exists(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

static ssize_t read_some(int fd, char *at, size_t length)
{
    ssize_t n;
    do
        n = read(fd, at, length);
    while (n < 0 && errno == EINTR);
    return n;
}

// Files of /proc tell no size: read until the end.
char *os_file_read_all(const char *path, size_t max, size_t *length, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *bytes = fd < 0 ? NULL : malloc(max + 2);
    size_t used = 0;
    ssize_t n = bytes ? 1 : -1;
    while (n > 0 && used <= max) {
        n = read_some(fd, bytes + used, max + 1 - used);
        used += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        err_set_errno(err, errno, "cannot read '%s'", path);
    else if (used > max)
        err_set(err, ERR_LIMIT, "'%s' is longer than %zu bytes", path, max);
    if (fd >= 0)
        close(fd);
    if (n < 0 || used > max) {
        free(bytes);
        return NULL;
    }
    bytes[used] = 0;
    if (length)
        *length = used;
    char *fitting = realloc(bytes, used + 1);
    return fitting ? fitting : bytes;
}

static int write_all(int fd, const char *bytes, size_t length)
{
    while (length) {
        ssize_t n = write(fd, bytes, length);
        if (n < 0 && errno != EINTR)
            return -1;
        bytes += n > 0 ? n : 0;
        length -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int os_file_write_whole(const char *path, const void *bytes, size_t length, unsigned mode,
                        struct err *err)
{
    char temporary[PATH_MAX], folder[PATH_MAX];
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary))
        return err_set(err, ERR_USAGE, "the file's path is too long");
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot make '%s'", temporary);
    int failed = write_all(fd, bytes, length) || fsync(fd) ? errno : 0;
    close(fd);
    if (!failed && rename(temporary, path))
        failed = errno;
    if (failed) {
        unlink(temporary);
        return err_set_errno(err, failed, "cannot write '%s'", path);
    }
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    os_directory_sync(slash ? folder : ".");
    return 0;
}

int os_file_open_append(const char *path, unsigned mode, struct err *err)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, mode);
    return fd < 0 ? err_set_errno(err, errno, "cannot open '%s'", path) : fd;
}

int os_file_append_line(int fd, const char *line)
{
    struct iovec parts[] = {{(void *)(uintptr_t)line, strlen(line)}, {(void *)(uintptr_t) "\n", 1}};
    ssize_t n = writev(fd, parts, 2);
    return n < 0 ? -errno : n != (ssize_t)(parts[0].iov_len + 1) ? -ENOSPC : 0;
}

int os_directory_space(const char *path, struct os_space *space)
{
    struct statvfs vfs;
    if (statvfs(path, &vfs))
        return -errno;
    *space = (struct os_space){.total = (uint64_t)vfs.f_blocks * vfs.f_frsize,
                               .available = (uint64_t)vfs.f_bavail * vfs.f_frsize};
    return 0;
}

uint64_t os_file_changed_s(const char *path)
{
    struct stat st;
    return lstat(path, &st) ? 0 : (uint64_t)st.st_mtime;
}

// nftw() hands nothing on to its function.
static _Thread_local struct {
    uid_t uid;
    gid_t gid;
} new_owner;

static int give_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)kind;
    (void)where;
    if (st->st_uid == new_owner.uid && st->st_gid == new_owner.gid)
        return 0;
    return lchown(path, new_owner.uid, new_owner.gid);
}

int os_directory_give(const char *path, uid_t uid, gid_t gid, struct err *err)
{
    new_owner.uid = uid;
    new_owner.gid = gid;
    if (nftw(path, give_one, 32, FTW_PHYS | FTW_MOUNT))
        return err_set_errno(err, errno, "cannot give '%s' to uid %u", path, uid);
    return 0;
}
