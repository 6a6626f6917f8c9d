// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "machine/boot/boot.h"
#include "os/file.h"

int boot_file_read(const struct boot_file *file, uint64_t offset, void *buffer, size_t length,
                   struct err *err)
{
    assert(range_within(offset, length, file->length));
    if (file->bytes) {
        memcpy(buffer, file->bytes + offset, length);
        return 0;
    }
    int result = os_pread(file->fd, buffer, length, offset);
    return result ? err_set_errno(err, -result, "\"%s\" cannot be read", file->name) : 0;
}

int boot_file_load(const struct boot_file *file, uint64_t offset, uint64_t length,
                   struct guest_memory *memory, uint64_t at, struct err *err)
{
    assert(range_within(offset, length, file->length));
    int result = file->bytes ? guest_memory_write(memory, gpa(at), file->bytes + offset, length)
                             : guest_memory_load(memory, gpa(at), file->fd, offset, length);
    switch (result) {
    case 0:
        return 0;
    case -EFAULT:
        return err_set(err, ERR_USAGE, "guest memory is too small to boot");
    case -ENODATA:
        return err_set(err, ERR_INPUT, "\"%s\" became shorter while it was read", file->name);
    default:
        return err_set_errno(err, -result, "\"%s\" cannot be read", file->name);
    }
}
