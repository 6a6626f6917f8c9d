// SPDX-License-Identifier: Apache-2.0
#include "os/file_load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "os/file.h"

#define SEND_BYTES (1ull << 30) // at once

int os_file_length(int fd, uint64_t *length, struct err *err)
{
    struct os_file_facts facts;
    int result = os_file_facts(fd, &facts);
    if (result)
        return err_set_errno(err, -result, "cannot be read");
    if (!facts.regular)
        return err_set(err, ERR_INPUT, "is not a regular file");
    *length = facts.size_bytes;
    return 0;
}

int os_file_load(int fd, size_t limit, uint8_t **bytes, size_t *length, struct err *err)
{
    uint64_t size = 0;
    if (os_file_length(fd, &size, err))
        return -1;
    if (size > limit)
        return err_set(err, ERR_INPUT, "has %llu bytes, %zu are the most", (unsigned long long)size,
                       limit);
    *bytes = malloc(size ? size : 1);
    *length = (size_t)size;
    if (!*bytes)
        return err_set(err, ERR_LIMIT, "has %zu bytes, for which there is no memory", *length);
    int result = os_pread(fd, *bytes, *length, 0);
    if (!result)
        return 0;
    free(*bytes);
    return err_set_errno(err, -result, "cannot be read");
}

int os_file_send(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t length)
{
    off_t at = (off_t)from_offset;
    if (lseek(to, (off_t)to_offset, SEEK_SET) < 0)
        return -errno;
    while (length) {
        ssize_t n = sendfile(to, from, &at, length < SEND_BYTES ? length : SEND_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENODATA;
        length -= (uint64_t)n;
    }
    return 0;
}
