// SPDX-License-Identifier: Apache-2.0
//
// The three system calls and the two rings in shared memory. The kernel reads the submission ring only inside io_uring_enter()
// (there is no polling thread), so our tail needs to be visible only then; it writes the completion ring at any time.
#include "os/uring.h"

#include <assert.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

struct os_uring {
    int fd;           // owned
    unsigned entries; // constant: of the submission ring
    uint8_t *rings;   // owned mapping: both rings
    size_t rings_bytes;
    struct io_uring_sqe *sqes; // owned mapping
    // In the mapping. The tail of submissions and the head of completions are ours, the others the kernel's.
    _Atomic uint32_t *submit_head, *submit_tail, *complete_head, *complete_tail;
    uint32_t *submit_array;
    const struct io_uring_cqe *cqes;
    uint32_t submit_mask, complete_mask;
    uint32_t tail; // prepared up to here
};

static int enter(const struct os_uring *ring, unsigned submit, unsigned wait)
{
    return (int)syscall(SYS_io_uring_enter, ring->fd, submit, wait,
                        wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
}

static int call_register(const struct os_uring *ring, unsigned what, void *argument, unsigned count)
{
    return syscall(SYS_io_uring_register, ring->fd, what, argument, count) < 0 ? -errno : 0;
}

// ---- Making

// Started disabled: it does nothing before its restrictions are in force.
static int set_up(struct os_uring *ring, struct io_uring_params *params)
{
    // Later flags are left out where the kernel does not know them: completions interrupt us then.
    static const uint32_t flags[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0};
    for (unsigned i = 0; i < 2; i++) {
        *params = (struct io_uring_params){.flags = IORING_SETUP_R_DISABLED | flags[i]};
        ring->fd = (int)syscall(SYS_io_uring_setup, ring->entries, params);
        if (ring->fd >= 0 || errno != EINVAL)
            break;
    }
    if (ring->fd < 0)
        return -errno;
    const unsigned needed =
        IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
    return (params->features & needed) == needed ? 0 : -ENOSYS;
}

static void *map(const struct os_uring *ring, size_t bytes, off_t what)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, what);
    return memory == MAP_FAILED ? NULL : memory;
}

static int map_rings(struct os_uring *ring, const struct io_uring_params *params)
{
    size_t submit = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
    size_t complete = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    ring->rings_bytes = submit > complete ? submit : complete;
    ring->rings = map(ring, ring->rings_bytes, IORING_OFF_SQ_RING);
    ring->sqes = map(ring, params->sq_entries * sizeof(*ring->sqes), (off_t)IORING_OFF_SQES);
    if (!ring->rings || !ring->sqes)
        return -ENOMEM;
#define AT(type, offset) ((type *)(void *)(ring->rings + (offset)))
    ring->submit_head = AT(_Atomic uint32_t, params->sq_off.head);
    ring->submit_tail = AT(_Atomic uint32_t, params->sq_off.tail);
    ring->submit_array = AT(uint32_t, params->sq_off.array);
    ring->submit_mask = *AT(uint32_t, params->sq_off.ring_mask);
    ring->complete_head = AT(_Atomic uint32_t, params->cq_off.head);
    ring->complete_tail = AT(_Atomic uint32_t, params->cq_off.tail);
    ring->complete_mask = *AT(uint32_t, params->cq_off.ring_mask);
    ring->cqes = AT(const struct io_uring_cqe, params->cq_off.cqes);
#undef AT
    ring->entries = params->sq_entries;
    return 0;
}

static int make_table(const struct os_uring *ring, unsigned files)
{
    int *empty = malloc(files * sizeof(*empty));
    if (!empty)
        return -ENOMEM;
    memset(empty, 0xff, files * sizeof(*empty)); // -1: a place without a file
    int rc = call_register(ring, IORING_REGISTER_FILES, empty, files);
    free(empty);
    return rc;
}

static int restrict_it(const struct os_uring *ring)
{
    static const uint8_t operations[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV,
                                         IORING_OP_WRITEV};
    struct io_uring_restriction list[2 + sizeof(operations)];
    memset(list, 0, sizeof(list));
    list[0].opcode = IORING_RESTRICTION_REGISTER_OP;
    list[0].register_op = IORING_REGISTER_FILES_UPDATE;
    list[1].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
    list[1].sqe_flags = IOSQE_FIXED_FILE;
    for (size_t i = 0; i < sizeof(operations); i++) {
        list[2 + i].opcode = IORING_RESTRICTION_SQE_OP;
        list[2 + i].sqe_op = operations[i];
    }
    int rc =
        call_register(ring, IORING_REGISTER_RESTRICTIONS, list, sizeof(list) / sizeof(list[0]));
    return rc ? rc : call_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

struct os_uring *os_uring_create(unsigned entries, unsigned files, struct err *err)
{
    struct io_uring_params params;
    struct os_uring *ring = calloc(1, sizeof(*ring));
    if (!ring) {
        err_set(err, ERR_LIMIT, "no memory for a ring");
        return NULL;
    }
    ring->entries = entries;
    int rc = set_up(ring, &params);
    if (!rc)
        rc = map_rings(ring, &params);
    if (!rc)
        rc = make_table(ring, files);
    if (!rc)
        rc = restrict_it(ring);
    if (!rc)
        return ring;
    os_uring_destroy(ring);
    err_set_errno(err, -rc, "io_uring is not to be had");
    return NULL;
}

void os_uring_destroy(struct os_uring *ring)
{
    if (!ring)
        return;
    if (ring->sqes)
        munmap(ring->sqes, ring->entries * sizeof(*ring->sqes));
    if (ring->rings)
        munmap(ring->rings, ring->rings_bytes);
    if (ring->fd >= 0)
        close(ring->fd);
    free(ring);
}

int os_uring_fd(const struct os_uring *ring)
{
    return ring->fd;
}

int os_uring_set_file(struct os_uring *ring, unsigned file, int fd)
{
    struct io_uring_files_update update = {.offset = file, .fds = (uint64_t)(uintptr_t)&fd};
    return call_register(ring, IORING_REGISTER_FILES_UPDATE, &update, 1);
}

// ---- Using

bool os_uring_prepare(struct os_uring *ring, const struct os_uring_transfer *transfer)
{
    if (ring->tail - atomic_load_explicit(ring->submit_head, memory_order_acquire) == ring->entries)
        return false;
    uint32_t index = ring->tail & ring->submit_mask;
    bool one = transfer->count == 1;
    uint8_t operation = transfer->write ? (one ? IORING_OP_WRITE : IORING_OP_WRITEV)
                                        : (one ? IORING_OP_READ : IORING_OP_READV);
    ring->sqes[index] = (struct io_uring_sqe){
        .opcode = operation,
        .flags = IOSQE_FIXED_FILE,
        .fd = (int)transfer->file,
        .off = transfer->offset,
        .addr = (uint64_t)(uintptr_t)(one ? transfer->iov->iov_base : (const void *)transfer->iov),
        .len = one ? (uint32_t)transfer->iov->iov_len : (uint32_t)transfer->count,
        .user_data = transfer->tag};
    ring->submit_array[index] = index;
    ring->tail++;
    return true;
}

int os_uring_submit(struct os_uring *ring)
{
    atomic_store_explicit(ring->submit_tail, ring->tail, memory_order_release);
    for (;;) {
        uint32_t left = ring->tail - atomic_load_explicit(ring->submit_head, memory_order_acquire);
        if (!left)
            return 0;
        if (enter(ring, left, 0) < 0 && errno != EINTR)
            return -errno;
    }
}

void os_uring_wait(struct os_uring *ring)
{
    int rc = enter(ring, 0, 1);
    assert(rc >= 0 || errno == EINTR || errno == EAGAIN || errno == EBUSY);
    (void)rc;
}

bool os_uring_next(struct os_uring *ring, uint64_t *tag, int *result)
{
    uint32_t head = atomic_load_explicit(ring->complete_head, memory_order_relaxed);
    if (head == atomic_load_explicit(ring->complete_tail, memory_order_acquire))
        return false;
    const struct io_uring_cqe *cqe = &ring->cqes[head & ring->complete_mask];
    *tag = cqe->user_data;
    *result = cqe->res;
    atomic_store_explicit(ring->complete_head, head + 1, memory_order_release);
    return true;
}
