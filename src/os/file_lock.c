// SPDX-License-Identifier: Apache-2.0
//
// Open-file-description locks: they belong to the open file, not to the process, so two opens in
// one process exclude each other, and a descriptor handed to another process carries its locks
// along. The kernel does not say which process holds such a lock (l_pid is -1), so the holder is
// looked for among the descriptors in /proc that show the same file.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

static int lock_call(int fd, int command, short type, uint64_t offset, uint64_t length,
                     struct flock *lock)
{
    *lock = (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = (off_t)length};
    if (fcntl(fd, command, lock) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

int os_file_lock(int fd, uint64_t offset, uint64_t length, bool exclusive)
{
    struct flock lock;
    return lock_call(fd, F_OFD_SETLK, exclusive ? F_WRLCK : F_RDLCK, offset, length, &lock);
}

int os_file_unlock(int fd, uint64_t offset, uint64_t length)
{
    struct flock lock;
    return lock_call(fd, F_OFD_SETLK, F_UNLCK, offset, length, &lock);
}

int os_file_lock_test(int fd, uint64_t offset, uint64_t length, bool exclusive)
{
    struct flock lock;
    int rc = lock_call(fd, F_OFD_GETLK, exclusive ? F_WRLCK : F_RDLCK, offset, length, &lock);
    if (rc)
        return rc;
    return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

// How many descriptors of process `pid` are the file's.
static unsigned descriptors_of(int pid, const struct stat *wanted)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *descriptors = opendir(path);
    if (!descriptors)
        return 0;
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(descriptors));) {
        struct stat st;
        count += entry->d_name[0] != '.' &&
                 fstatat(dirfd(descriptors), entry->d_name, &st, 0) == 0 &&
                 st.st_dev == wanted->st_dev && st.st_ino == wanted->st_ino;
    }
    closedir(descriptors);
    return count;
}

static void process_name(int pid, char *name, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    snprintf(name, size, "a process");
    FILE *comm = fopen(path, "re");
    if (!comm)
        return;
    if (fgets(name, (int)size, comm))
        name[strcspn(name, "\n")] = 0;
    fclose(comm);
}

bool os_file_find_holder(int fd, int *pid, char *name, size_t name_size)
{
    struct stat wanted;
    DIR *processes = fstat(fd, &wanted) == 0 ? opendir("/proc") : NULL;
    if (!processes)
        return false;
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(processes));) {
        *pid = (int)strtol(entry->d_name, NULL, 10);
        found = *pid > 0 && *pid != getpid() && descriptors_of(*pid, &wanted);
    }
    closedir(processes);
    if (found)
        process_name(*pid, name, name_size);
    return found;
}

bool os_file_is_open_again(int fd)
{
    struct stat wanted;
    return fstat(fd, &wanted) == 0 && descriptors_of(getpid(), &wanted) > 1;
}
