// SPDX-License-Identifier: Apache-2.0
#include "machine/block/block_remote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "os/file.h"
#include "os/process.h"
#include "os/unix_socket.h"

#define PATH_BYTES 4096

static const char *const schemes[] = {"nbd", "iscsi", "nfs"};

static const char *scheme_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LENGTH(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (!strncmp(name, schemes[i], n) && !strncmp(name + n, "://", 3))
            return schemes[i];
    }
    return NULL;
}

bool block_is_remote(const char *name)
{
    return scheme_of(name);
}

static int start(const char *url, bool read_only, int data, int status, struct err *err)
{
    char name[32], program[PATH_BYTES], numbers[2][16];
    snprintf(name, sizeof(name), "wirt-io-%s", scheme_of(url));
    if (os_process_find_program(name, program, sizeof(program), err))
        return err_wrap(err, "this build has no %s", name);
    snprintf(numbers[0], sizeof(numbers[0]), "%d", data);
    snprintf(numbers[1], sizeof(numbers[1]), "%d", status);
    char *const words[] = {program,
                           (char *)"--fd",
                           numbers[0],
                           (char *)"--status-fd",
                           numbers[1],
                           (char *)(uintptr_t)url,
                           read_only ? (char *)"--readonly" : NULL,
                           NULL};
    const int fds[] = {data, status};
    return os_process_start_detached(program, words, fds, ARRAY_LENGTH(fds), err);
}

// Its first word says how it went.
static int wait_until_connected(const char *url, int status, struct err *err)
{
    char word[ERR_TEXT_BYTES];
    size_t none;
    ssize_t n;
    do
        n = os_unix_receive(status, word, sizeof(word) - 1, NULL, 0, &none);
    while (n < 0 && errno == EINTR);
    word[n < 0 ? 0 : n] = 0;
    if (!strcmp(word, "connected"))
        return 0;
    return err_set(err, ERR_IO, "cannot use '%s': %s", url,
                   strncmp(word, "failed ", 7) ? "its process did not start" : word + 7);
}

int block_remote_start(const char *url, bool read_only, int *status, struct err *err)
{
    int data[2], told[2];
    if (os_unix_pair(data, false, err))
        return -1;
    if (os_unix_pair(told, true, err)) {
        os_file_close(&data[0]);
        os_file_close(&data[1]);
        return -1;
    }
    int rc = start(url, read_only, data[1], told[1], err);
    os_file_close(&data[1]);
    os_file_close(&told[1]);
    if (!rc)
        rc = wait_until_connected(url, told[0], err);
    if (rc)
        os_file_close(&data[0]);
    if (rc || !status)
        os_file_close(&told[0]);
    if (status)
        *status = told[0];
    return rc ? -1 : data[0];
}
