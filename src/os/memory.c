// SPDX-License-Identifier: Apache-2.0
//
// mmap() and its family.
#include "os/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int os_memfd_create(const char *name, uint64_t bytes, struct err *err)
{
    if (bytes > INT64_MAX)
        return err_set(err, ERR_LIMIT, "%llu bytes of memory are more than a file can have",
                       (unsigned long long)bytes);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot create anonymous memory");
    // Without the seals a process that shares the descriptor could shrink the file under our feet
    // (SIGBUS).
    if (ftruncate(fd, (off_t)bytes) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        err_set_errno(err, errno, "cannot size anonymous memory to %llu bytes",
                      (unsigned long long)bytes);
        close(fd);
        return -1;
    }
    return fd;
}

static int protection(unsigned access)
{
    assert((access & (OS_MEMORY_WRITE | OS_MEMORY_EXECUTE)) !=
           (OS_MEMORY_WRITE | OS_MEMORY_EXECUTE));
    int prot = PROT_NONE;
    if (access & OS_MEMORY_READ)
        prot |= PROT_READ;
    if (access & OS_MEMORY_WRITE)
        prot |= PROT_WRITE;
    if (access & OS_MEMORY_EXECUTE)
        prot |= PROT_EXEC;
    return prot;
}

void *os_memory_reserve(size_t length, struct err *err)
{
    void *at = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED)
        return at;
    err_set_errno(err, errno, "cannot reserve %zu bytes of address space", length);
    return NULL;
}

void os_memory_release(void *at, size_t length)
{
    if (at)
        munmap(at, length);
}

int os_memory_place_file(void *at, size_t length, unsigned access, int fd, uint64_t offset,
                         struct err *err)
{
    assert(at);
    if (mmap(at, length, protection(access), MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd,
             (off_t)offset) == MAP_FAILED)
        return err_set_errno(err, errno, "cannot map %zu bytes of shared memory", length);
    return 0;
}

int os_memory_place_zeroed(void *at, size_t length, unsigned access, struct err *err)
{
    assert(at);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    if (mmap(at, length, protection(access), flags, -1, 0) == MAP_FAILED)
        return err_set_errno(err, errno, "cannot map %zu bytes of memory", length);
    return 0;
}

int os_memory_protect(void *at, size_t length, unsigned access, struct err *err)
{
    if (mprotect(at, length, protection(access)) != 0)
        return err_set_errno(err, errno, "cannot change the protection of %zu bytes", length);
    return 0;
}

int os_memory_discard_shared(void *at, size_t length)
{
    return madvise(at, length, MADV_REMOVE) ? -errno : 0;
}
