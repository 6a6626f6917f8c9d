// SPDX-License-Identifier: Apache-2.0
#include "os/file_map.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

int os_file_map(int fd, const uint8_t **bytes, size_t *length, struct err *err)
{
    struct stat st;
    *bytes = NULL;
    *length = 0;
    if (fstat(fd, &st))
        return err_set_errno(err, errno, "cannot be read");
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INPUT, "is not a regular file");
    if (!st.st_size)
        return 0;
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        return err_set_errno(err, errno, "cannot be mapped");
    *bytes = at;
    *length = (size_t)st.st_size;
    return 0;
}

void os_file_unmap(const uint8_t *bytes, size_t length)
{
    if (bytes)
        munmap((void *)(uintptr_t)bytes, length);
}
