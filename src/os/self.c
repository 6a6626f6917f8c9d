// SPDX-License-Identifier: Apache-2.0
#include "os/self.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

uint64_t os_self_memory_bytes(int except_fd)
{
    struct stat except;
    bool have = !fstat(except_fd, &except);
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (!smaps)
        return 0;
    char line[512];
    bool skip = false;
    uint64_t total = 0;
    unsigned long long start, end, offset, inode, kib;
    unsigned major, minor;
    while (fgets(line, sizeof(line), smaps)) {
        if (sscanf(line, "%llx-%llx %*s %llx %x:%x %llu", &start, &end, &offset, &major, &minor, &inode) == 6)
            skip = have && inode && inode == except.st_ino;
        else if (!skip && sscanf(line, "Pss: %llu kB", &kib) == 1)
            total += kib * 1024;
    }
    fclose(smaps);
    return total;
}
