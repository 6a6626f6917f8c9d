// SPDX-License-Identifier: Apache-2.0
//
// Thin over the system calls, with one idea: a transfer is all or nothing for the caller. Short
// transfers happen at the end of a file, on signals and on full disks; the loop distinguishes them
// by what the next call says. Holes use fallocate() on files and BLKDISCARD or BLKZEROOUT on block
// devices.
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/units.h"

#define HUGE_PAGE_BYTES (2 * MIB)
#define HUGE_FROM_BYTES MIB

int os_file_open(const char *path, unsigned flags, struct err *err)
{
    int mode = O_CLOEXEC | O_NOCTTY | ((flags & OS_FILE_WRITE) ? O_RDWR : O_RDONLY);
    if (flags & OS_FILE_CREATE)
        mode |= O_CREAT;
    if (flags & OS_FILE_EXCLUSIVE)
        mode |= O_EXCL;
    if (flags & OS_FILE_TRUNCATE)
        mode |= O_TRUNC;
    if (flags & OS_FILE_APPEND)
        mode |= O_APPEND;
    if (flags & OS_FILE_NO_FOLLOW)
        mode |= O_NOFOLLOW;
    if (flags & OS_FILE_NO_WAIT)
        mode |= O_NONBLOCK;
    int fd = -1;
    if (flags & OS_FILE_DIRECT)
        fd = open(path, mode | O_DIRECT, 0644);
    // EINVAL is how tmpfs and others say that they have no O_DIRECT.
    if (fd < 0 && (!(flags & OS_FILE_DIRECT) || errno == EINVAL))
        fd = open(path, mode, 0644);
    if (fd < 0)
        err_set_errno(err, errno, "cannot open '%s'", path);
    else if (flags &
             OS_FILE_NO_WAIT) // for the opening only: io_uring answers EAGAIN to such descriptors
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

void os_file_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int os_file_duplicate(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

bool os_file_real_path(const char *path, char *real, size_t size)
{
    char resolved[PATH_MAX];
    if (!realpath(path, resolved) || strlen(resolved) >= size)
        return false;
    memcpy(real, resolved, strlen(resolved) + 1);
    return true;
}

bool os_file_descriptor_path(int fd, char *real, size_t size)
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, size);
    if (n <= 0 || (size_t)n >= size)
        return false;
    real[n] = 0;
    return real[0] == '/';
}

static int block_device_facts(int fd, struct os_file_facts *facts)
{
    int logical = 512;
    unsigned physical = 512;
    if (ioctl(fd, BLKGETSIZE64, &facts->size_bytes) != 0)
        return -errno;
    if (ioctl(fd, BLKSSZGET, &logical) == 0 && logical >= 512)
        facts->logical_block_size = (uint32_t)logical;
    if (ioctl(fd, BLKPBSZGET, &physical) == 0 && physical >= 512)
        facts->physical_block_size = physical;
    return 0;
}

int os_file_facts(int fd, struct os_file_facts *facts)
{
    struct stat st;
    *facts = (struct os_file_facts){
        .logical_block_size = 512, .physical_block_size = 512, .direct_alignment = 1};
    int mode = fcntl(fd, F_GETFL);
    if (mode < 0 || fstat(fd, &st) != 0)
        return -errno;
    facts->block_device = S_ISBLK(st.st_mode);
    facts->regular = S_ISREG(st.st_mode);
    if (!facts->block_device && !facts->regular)
        return -EINVAL;
    facts->writable = (mode & O_ACCMODE) != O_RDONLY;
    facts->size_bytes = (uint64_t)st.st_size;
    facts->device = facts->block_device ? st.st_rdev : st.st_dev;
    facts->inode = st.st_ino;
    if (facts->block_device) {
        int rc = block_device_facts(fd, facts);
        if (rc)
            return rc;
    } else {
        facts->allocated_bytes = (uint64_t)st.st_blocks * 512;
        facts->physical_block_size = 4096;
    }
    if (mode & O_DIRECT) {
        // 4096 satisfies every device in use; finer alignment would only save a bounce now and
        // then.
        facts->direct_alignment = facts->block_device ? facts->logical_block_size : 4096;
        struct statx stx;
        if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
            (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align) {
            uint32_t memory = stx.stx_dio_mem_align, offset = stx.stx_dio_offset_align;
            facts->direct_alignment = memory > offset ? memory : offset;
        }
    }
    return 0;
}

int os_file_size(int fd, uint64_t *bytes)
{
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < 0)
        return -errno;
    *bytes = (uint64_t)end;
    return 0;
}

// Drop `done` bytes from the front of the array.
static void advance(struct iovec **iov, int *count, size_t done)
{
    while (*count && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    if (*count) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
}

int os_preadv(int fd, struct iovec *iov, int count, uint64_t offset)
{
    advance(&iov, &count, 0);
    while (count) {
        ssize_t n = preadv(fd, iov, count < IOV_MAX ? count : IOV_MAX, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            for (int i = 0; i < count; i++)
                memset(iov[i].iov_base, 0, iov[i].iov_len);
            return 0;
        }
        offset += (uint64_t)n;
        advance(&iov, &count, (size_t)n);
    }
    return 0;
}

int os_pwritev(int fd, struct iovec *iov, int count, uint64_t offset)
{
    advance(&iov, &count, 0);
    while (count) {
        ssize_t n = pwritev(fd, iov, count < IOV_MAX ? count : IOV_MAX, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENOSPC;
        offset += (uint64_t)n;
        advance(&iov, &count, (size_t)n);
    }
    return 0;
}

int os_pread(int fd, void *buffer, size_t length, uint64_t offset)
{
    struct iovec iov = {buffer, length};
    return os_preadv(fd, &iov, 1, offset);
}

int os_pwrite(int fd, const void *buffer, size_t length, uint64_t offset)
{
    struct iovec iov = {(void *)(uintptr_t)buffer, length};
    return os_pwritev(fd, &iov, 1, offset);
}

int os_fdatasync(int fd)
{
    return fdatasync(fd) ? -errno : 0;
}

int os_file_truncate(int fd, uint64_t size)
{
    if (size > INT64_MAX)
        return -EFBIG;
    return ftruncate(fd, (off_t)size) ? -errno : 0;
}

static int device_range(int fd, unsigned long request, uint64_t offset, uint64_t length)
{
    uint64_t range[2] = {offset, length};
    if (ioctl(fd, request, range) == 0)
        return 0;
    return errno == ENOTTY ? -EOPNOTSUPP : -errno;
}

int os_file_punch_hole(int fd, const struct os_file_facts *facts, uint64_t offset, uint64_t length)
{
    if (facts->block_device) {
        uint64_t block = facts->logical_block_size, end = (offset + length) / block * block;
        offset = (offset + block - 1) / block * block;
        return offset < end ? device_range(fd, BLKDISCARD, offset, end - offset) : 0;
    }
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) ==
        0)
        return 0;
    return -errno;
}

int os_file_zero_range(int fd, const struct os_file_facts *facts, uint64_t offset, uint64_t length)
{
    if (facts->block_device) {
        if ((offset | length) % facts->logical_block_size)
            return -EOPNOTSUPP;
        return device_range(fd, BLKZEROOUT, offset, length);
    }
    if (fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)offset, (off_t)length) == 0)
        return 0;
    return -errno;
}

int os_file_allocate(int fd, uint64_t offset, uint64_t length)
{
    return fallocate(fd, 0, (off_t)offset, (off_t)length) ? -errno : 0;
}

int os_file_share_range(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t length)
{
    struct file_clone_range range = {
        .src_fd = from, .src_offset = from_offset, .src_length = length, .dest_offset = to_offset};
    return ioctl(to, FICLONERANGE, &range) ? -errno : 0;
}

int os_file_extent(int fd, uint64_t offset, uint64_t limit, bool *data, uint64_t *end)
{
    *data = true;
    *end = limit;
    off_t found = lseek(fd, (off_t)offset, SEEK_DATA);
    if (found < 0) {
        // ENXIO: a hole up to the end of the file. Others: no such notion here, so all is data.
        *data = errno != ENXIO;
        return 0;
    }
    *data = (uint64_t)found == offset;
    if (*data)
        found = lseek(fd, (off_t)offset, SEEK_HOLE);
    if (found > 0 && (uint64_t)found < limit && (uint64_t)found > offset)
        *end = (uint64_t)found;
    return 0;
}

void os_file_drop_cache(int fd)
{
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

// A direct transfer of a MiB from small pages is 256 pieces, each found, pinned and handed to the device alone, and more than many devices
// take in one request: the kernel then splits it, and io_uring gives it to a thread. From a huge page it is one piece.
void *os_aligned_alloc(size_t length)
{
    void *memory = NULL;
    if (length < HUGE_FROM_BYTES)
        return posix_memalign(&memory, 4096, length) ? NULL : memory;
    length = align_up(length, HUGE_PAGE_BYTES);
    if (posix_memalign(&memory, HUGE_PAGE_BYTES, length))
        return NULL;
    (void)madvise(memory, length, MADV_HUGEPAGE);
    return memory;
}

void os_aligned_free(void *memory)
{
    free(memory);
}
