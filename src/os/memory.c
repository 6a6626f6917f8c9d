// SPDX-License-Identifier: Apache-2.0
//
// mmap() and its family.
#include "os/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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

#define NAMES_MAX 32

static struct {
    uint64_t start, end;
    const char *name;
} names[NAMES_MAX]; // an entry without a name is free

void os_memory_name(const void *at, size_t length, const char *name)
{
    unsigned i = 0;
    while (i < NAMES_MAX && names[i].name)
        i++;
    if (i < NAMES_MAX) {
        names[i].start = (uintptr_t)at;
        names[i].end = names[i].start + length;
        names[i].name = name;
    }
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, length, name); // Linux 5.17, where it is built in
}

static void forget_name(const void *at)
{
    for (unsigned i = 0; i < NAMES_MAX; i++)
        if (names[i].start == (uintptr_t)at)
            names[i].name = NULL;
}

const char *os_memory_name_at(uint64_t address)
{
    for (unsigned i = 0; i < NAMES_MAX; i++)
        if (names[i].name && address >= names[i].start && address < names[i].end)
            return names[i].name;
    return NULL;
}

#define GUARD_BYTES 4096u

void *os_memory_reserve(size_t length, struct err *err)
{
    void *at = mmap(NULL, length + GUARD_BYTES, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED)
        return at;
    err_set_errno(err, errno, "cannot reserve %zu bytes of address space", length);
    return NULL;
}

void os_memory_release(void *at, size_t length)
{
    if (!at)
        return;
    forget_name(at);
    munmap(at, length + GUARD_BYTES);
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
