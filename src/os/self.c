// SPDX-License-Identifier: Apache-2.0
#include "os/self.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int smaps_fd = -1;

int os_self_pid(void)
{
    return getpid();
}

void os_self_open(void)
{
    smaps_fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
}

struct summary {
    ino_t skipped_inode; // mappings of this file do not count; 0: all do
    bool skip;
    uint64_t bytes;
};

static void add_line(struct summary *summary, const char *line)
{
    unsigned long long start, end, offset, inode, kib;
    unsigned major, minor;
    if (sscanf(line, "%llx-%llx %*s %llx %x:%x %llu", &start, &end, &offset, &major, &minor,
               &inode) == 6)
        summary->skip = summary->skipped_inode && inode == summary->skipped_inode;
    else if (!summary->skip && sscanf(line, "Pss: %llu kB", &kib) == 1)
        summary->bytes += kib * 1024;
}

// Lines may cross the pieces that are read.
uint64_t os_self_memory_bytes(int except_fd)
{
    struct summary summary = {0};
    struct stat except;
    char text[4096];
    size_t used = 0;
    off_t at = 0;
    ssize_t n;
    if (!fstat(except_fd, &except))
        summary.skipped_inode = except.st_ino;
    while (smaps_fd >= 0 && (n = pread(smaps_fd, text + used, sizeof(text) - 1 - used, at)) > 0) {
        at += n;
        used += (size_t)n;
        char *line = text;
        char *end;
        while ((end = memchr(line, '\n', used - (size_t)(line - text)))) {
            *end = 0;
            add_line(&summary, line);
            line = end + 1;
        }
        used -= (size_t)(line - text);
        if (used == sizeof(text) - 1)
            used = 0; // no line of smaps is so long
        memmove(text, line, used);
    }
    return summary.bytes;
}
