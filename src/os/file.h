// SPDX-License-Identifier: Apache-2.0
//
// Files and block devices by descriptor: whole transfers at an offset, durability, holes, locks.
//
// The transfer functions either move everything or fail: they go on after short transfers and
// interruptions, and a read past the end of the file gives zeros. All functions are thread safe,
// keep no state, and return 0 or a negative errno, except those that take a `struct err`.
#ifndef WIRT_OS_FILE_H
#define WIRT_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;

enum os_file_flags {
    OS_FILE_WRITE = 1,     // for reading and writing; otherwise for reading
    OS_FILE_CREATE = 2,    // make it when it is missing
    OS_FILE_EXCLUSIVE = 4, // with CREATE: fail when it exists
    OS_FILE_TRUNCATE = 8,
    OS_FILE_DIRECT = 16,    // O_DIRECT; falls back to buffered where the file system refuses it
    OS_FILE_NO_FOLLOW = 32, // fail on a symbolic link as the last component
    OS_FILE_APPEND = 64,    // every write goes to the end
    OS_FILE_NO_WAIT = 128   // a FIFO opens at once, whoever has its other end
};

// Opens close-on-exec; a new file gets mode 0644. Returns the descriptor or -1 with err set.
int os_file_open(const char *path, unsigned flags, struct err *err);
// Closes a descriptor that is not -1 and makes it so.
void os_file_close(int *fd);
int os_file_duplicate(int fd);

// The path with symbolic links resolved; false when it cannot be told or does not fit.
bool os_file_real_path(const char *path, char *real, size_t size);
// The same for an open descriptor, as /proc shows it.
bool os_file_descriptor_path(int fd, char *real, size_t size);

// What a descriptor is, asked once when it is opened.
struct os_file_facts {
    uint64_t size_bytes;
    uint64_t allocated_bytes;    // what the file takes on its file system; 0 for a block device
    uint64_t device, inode;      // identity
    uint32_t logical_block_size; // 512 for a file
    uint32_t physical_block_size;
    uint32_t direct_alignment; // of offset, length and memory when opened with O_DIRECT, else 1
    bool block_device;
    bool regular;
    bool writable;
};
int os_file_facts(int fd, struct os_file_facts *facts);
int os_file_size(int fd, uint64_t *bytes);

int os_pread(int fd, void *buffer, size_t length, uint64_t offset);
int os_pwrite(int fd, const void *buffer, size_t length, uint64_t offset);
// The arrays are used as scratch and changed.
int os_preadv(int fd, struct iovec *iov, int count, uint64_t offset);
int os_pwritev(int fd, struct iovec *iov, int count, uint64_t offset);

int os_fdatasync(int fd);
int os_file_truncate(int fd, uint64_t size);
// Give the range's space back: reads as zeros afterwards. -EOPNOTSUPP where there are no holes.
int os_file_punch_hole(int fd, const struct os_file_facts *facts, uint64_t offset, uint64_t length);
// Make the range read as zeros, keeping its space; -EOPNOTSUPP where only writing zeros will do.
int os_file_zero_range(int fd, const struct os_file_facts *facts, uint64_t offset, uint64_t length);
// Take space for a range without writing it; the file grows to cover it.
int os_file_allocate(int fd, uint64_t offset, uint64_t length);
// Let both files have the same blocks from now on, until one of them writes (reflink). Offsets and length are whole blocks of the file system.
// -EOPNOTSUPP, -EXDEV, -EINVAL and others where it cannot: nothing has changed then.
int os_file_share_range(int from, uint64_t from_offset, int to, uint64_t to_offset,
                        uint64_t length);
// Is there data at `offset`, and where does that stretch (data or hole) end? Everything is data
// where the file system cannot tell. *end is at most `limit`.
int os_file_extent(int fd, uint64_t offset, uint64_t limit, bool *data, uint64_t *end);
// Drop clean cached pages of the whole file.
void os_file_drop_cache(int fd);

// Open-file-description locks on single bytes or ranges. Try returns -EAGAIN when somebody else
// holds it.
int os_file_lock(int fd, uint64_t offset, uint64_t length, bool exclusive);
int os_file_unlock(int fd, uint64_t offset, uint64_t length);
// Would the lock be refused now? 0 or -EAGAIN.
int os_file_lock_test(int fd, uint64_t offset, uint64_t length, bool exclusive);

// The process that has the same file open, other than ourselves, when /proc lets it be found:
// writes its pid and name. Returns false when nobody is found.
bool os_file_find_holder(int fd, int *pid, char *name, size_t name_size);
// Does this very process have the file open by another descriptor, too?
bool os_file_is_open_again(int fd);

// Page-aligned memory for O_DIRECT; NULL when there is none. A MiB and more lies in huge pages where the kernel has them.
void *os_aligned_alloc(size_t length);
void os_aligned_free(void *memory);

#endif
