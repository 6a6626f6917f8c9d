// SPDX-License-Identifier: Apache-2.0
#include "os/self.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/memory.h"

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
    struct os_self_part *parts;
    unsigned count;
    struct os_self_part *current; // of the mapping whose lines are being read; NULL: no room for it
};

static struct os_self_part *part_named(struct summary *summary, const char *name, size_t length)
{
    if (length >= sizeof(summary->parts->name))
        length = sizeof(summary->parts->name) - 1;
    for (unsigned i = 0; i < summary->count; i++)
        if (!strncmp(summary->parts[i].name, name, length) && !summary->parts[i].name[length])
            return &summary->parts[i];
    if (summary->count == OS_SELF_PARTS_MAX)
        return NULL;
    struct os_self_part *part = &summary->parts[summary->count++];
    *part = (struct os_self_part){0};
    memcpy(part->name, name, length);
    return part;
}

static struct os_self_part *part_of(struct summary *summary, uint64_t start, const char *path)
{
    static const char memfd[] = "/memfd:";
    const char *name = os_memory_name_at(start);
    if (name)
        return part_named(summary, name, strlen(name));
    if (!strncmp(path, memfd, sizeof(memfd) - 1))
        return part_named(summary, path + sizeof(memfd) - 1,
                          strcspn(path + sizeof(memfd) - 1, " "));
    name = *path == '/' ? "program" : "heap and stacks";
    return part_named(summary, name, strlen(name));
}

static void add_line(struct summary *summary, const char *line)
{
    unsigned long long start, end, kib;
    int path = 0;
    if (sscanf(line, "%llx-%llx %*s %*s %*s %*s %n", &start, &end, &path) == 2 && path)
        summary->current = part_of(summary, start, line + path);
    else if (summary->current && sscanf(line, "Pss: %llu kB", &kib) == 1)
        summary->current->bytes += kib * 1024;
}

// Lines may cross the pieces that are read.
unsigned os_self_memory(struct os_self_part parts[OS_SELF_PARTS_MAX])
{
    struct summary summary = {.parts = parts};
    char text[4096];
    size_t used = 0;
    off_t at = 0;
    ssize_t n;
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
    return summary.count;
}
