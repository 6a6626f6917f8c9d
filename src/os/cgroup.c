// SPDX-License-Identifier: Apache-2.0
#include "os/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"

#define PERIOD_US  100000
#define TEXT_BYTES 8192

// ---- Small files. Those of control groups are written by one write() of a whole value.

static int put(const char *folder, const char *file, const char *text)
{
    char path[OS_CGROUP_PATH_BYTES + 64];
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, strlen(text));
    int result = n < 0 ? -errno : 0;
    close(fd);
    return result;
}

static bool get(const char *folder, const char *file, char *text, size_t bytes)
{
    char path[OS_CGROUP_PATH_BYTES + 64];
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, bytes - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    return n >= 0;
}

// ---- Finding the trees.

// "cpu" in "rw,cpu,cpuacct", "memory" in "cpuset cpu memory\n".
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (; *list; list += strspn(list, ", \n")) {
        size_t length = strcspn(list, ", \n");
        if (length == n && !strncmp(list, word, n))
            return true;
        list += length;
    }
    return false;
}

struct mount {
    char root[256], folder[256], kind[32], options[256];
};

// "36 25 0:31 / /sys/fs/cgroup/cpu rw,… shared:9 - cgroup cgroup rw,cpu"
static bool parse_mount(const char *line, struct mount *mount)
{
    const char *rest = strstr(line, " - ");
    return rest && sscanf(line, "%*s %*s %*s %255s %255s", mount->root, mount->folder) == 2 &&
           sscanf(rest, " - %31s %*s %255s", mount->kind, mount->options) == 2;
}

static bool each_mount(FILE *file, struct mount *mount)
{
    char line[4096];
    while (fgets(line, sizeof(line), file))
        if (parse_mount(line, mount) && !strncmp(mount->kind, "cgroup", 6))
            return true;
    return false;
}

static int make_slice(struct os_cgroups *groups, const struct mount *mount, const char *slice,
                      bool cpu, bool memory)
{
    if (groups->count == OS_CGROUP_TREES)
        return -ENOSPC;
    struct os_cgroup_tree *tree = &groups->trees[groups->count];
    *tree = (struct os_cgroup_tree){.cpu = cpu, .memory = memory};
    snprintf(tree->folder, sizeof(tree->folder), "%s/%s", mount->folder, slice);
    if (mkdir(tree->folder, 0755) && errno != EEXIST)
        return -errno;
    if (access(tree->folder, W_OK))
        return -errno;
    groups->count++;
    return 0;
}

// A controller works in a group when the group above it hands it down: the top to the slice, the slice to its groups.
static int make_unified(struct os_cgroups *groups, const struct mount *mount, const char *slice)
{
    static const char *const words[] = {"+cpu", "+memory"};
    bool works[2];
    char text[256];
    for (size_t i = 0; i < 2; i++)
        put(mount->folder, "cgroup.subtree_control", words[i]);
    int result = make_slice(groups, mount, slice, false, false);
    if (result)
        return result;
    struct os_cgroup_tree *tree = &groups->trees[groups->count - 1];
    for (size_t i = 0; i < 2; i++)
        works[i] = get(tree->folder, "cgroup.controllers", text, sizeof(text)) &&
                   has_word(text, words[i] + 1) &&
                   !put(tree->folder, "cgroup.subtree_control", words[i]);
    tree->cpu = works[0];
    tree->memory = works[1];
    return 0;
}

int os_cgroups_open(struct os_cgroups *groups, const char *mountinfo, const char *slice,
                    struct err *err)
{
    int reason = -ENOENT;
    struct mount mount, unified = {.folder = ""};
    *groups = (struct os_cgroups){0};
    FILE *file = fopen(mountinfo, "re");
    while (file && each_mount(file, &mount)) {
        bool cpu = has_word(mount.options, "cpu"), memory = has_word(mount.options, "memory");
        if (!strcmp(mount.kind, "cgroup2"))
            unified = mount;
        else if (cpu || memory || has_word(mount.options, "cpuacct"))
            reason = make_slice(groups, &mount, slice, cpu, memory);
    }
    if (file)
        fclose(file);
    if (groups->count) {
        groups->version = 1;
        return 0;
    }
    if (unified.folder[0])
        reason = make_unified(groups, &unified, slice);
    groups->version = groups->count ? 2 : 0;
    return groups->count ? 0 : err_set_errno(err, -reason, "no control group can be made");
}

void os_cgroups_remove(const struct os_cgroups *groups)
{
    for (size_t i = 0; i < groups->count; i++)
        rmdir(groups->trees[i].folder);
}

// ---- Groups.

static int set_cpu(unsigned version, const char *folder, const struct os_cgroup_limits *limits)
{
    char text[64];
    unsigned weight = limits->cpu_weight ? limits->cpu_weight : 100;
    unsigned long long quota = (unsigned long long)limits->cpu_percent * PERIOD_US / 100;
    // 100 is as much as a group has that nobody gave a weight: 1024 shares in version 1.
    snprintf(text, sizeof(text), "%llu",
             version == 2 ? (unsigned long long)weight : weight * 1024ull / 100);
    int result = put(folder, version == 2 ? "cpu.weight" : "cpu.shares", text);
    if (result)
        return result;
    if (version == 2) {
        if (quota)
            snprintf(text, sizeof(text), "%llu %d", quota, PERIOD_US);
        else
            snprintf(text, sizeof(text), "max %d", PERIOD_US);
        return put(folder, "cpu.max", text);
    }
    snprintf(text, sizeof(text), "%lld", quota ? (long long)quota : -1);
    return put(folder, "cpu.cfs_quota_us", text);
}

static int set_memory(unsigned version, const char *folder, const struct os_cgroup_limits *limits)
{
    char text[32] = "max";
    if (limits->memory_bytes)
        snprintf(text, sizeof(text), "%llu", (unsigned long long)limits->memory_bytes);
    else if (version == 1)
        snprintf(text, sizeof(text), "-1");
    return put(folder, version == 2 ? "memory.max" : "memory.limit_in_bytes", text);
}

static void group_folder(const struct os_cgroup_tree *tree, const char *name,
                         char path[OS_CGROUP_PATH_BYTES])
{
    snprintf(path, OS_CGROUP_PATH_BYTES, "%.400s/%.64s", tree->folder, name);
}

int os_cgroup_make(const struct os_cgroups *groups, const char *name,
                   const struct os_cgroup_limits *limits, struct err *err)
{
    for (size_t i = 0; i < groups->count; i++) {
        const struct os_cgroup_tree *tree = &groups->trees[i];
        char folder[OS_CGROUP_PATH_BYTES];
        group_folder(tree, name, folder);
        int result = mkdir(folder, 0755) && errno != EEXIST ? -errno : 0;
        if (!result && tree->cpu)
            result = set_cpu(groups->version, folder, limits);
        if (!result && tree->memory)
            result = set_memory(groups->version, folder, limits);
        if (result)
            return err_set_errno(err, -result, "cannot make the control group %s", folder);
    }
    return 0;
}

int os_cgroup_enter(const struct os_cgroups *groups, const char *name)
{
    int result = 0;
    for (size_t i = 0; i < groups->count && !result; i++) {
        char folder[OS_CGROUP_PATH_BYTES];
        group_folder(&groups->trees[i], name, folder);
        result = put(folder, "cgroup.procs", "0");
    }
    return result;
}

void os_cgroup_remove(const struct os_cgroups *groups, const char *name)
{
    for (size_t i = 0; i < groups->count; i++) {
        char folder[OS_CGROUP_PATH_BYTES];
        group_folder(&groups->trees[i], name, folder);
        rmdir(folder);
    }
}

void os_cgroups_sweep(const struct os_cgroups *groups)
{
    for (size_t i = 0; i < groups->count; i++) {
        DIR *folder = opendir(groups->trees[i].folder);
        struct dirent *entry;
        while (folder && (entry = readdir(folder)))
            if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
                unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
        if (folder)
            closedir(folder);
    }
}

// ---- Usage.

// Where the tree with this controller ("" for version 2) is mounted.
static bool find_mount(const char *controller, char folder[256])
{
    struct mount mount;
    bool found = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file && !found && each_mount(file, &mount))
        found = *controller ? has_word(mount.options, controller) : !strcmp(mount.kind, "cgroup2");
    if (file)
        fclose(file);
    if (found)
        snprintf(folder, 256, "%s", mount.folder);
    return found;
}

// The group of the process in that tree; "" when it is none of ours.
static void find_group(const char *text, const char *controller, const char *prefix,
                       char place[OS_CGROUP_PATH_BYTES])
{
    char wanted[64], folder[256];
    snprintf(wanted, sizeof(wanted), "/%s", prefix);
    place[0] = 0;
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char controllers[128] = "", path[200] = "";
        const char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;
        if (!second || second - first > (long)sizeof(controllers))
            continue;
        snprintf(controllers, sizeof(controllers), "%.*s", (int)(second - first - 1), first + 1);
        snprintf(path, sizeof(path), "%.*s", (int)strcspn(second + 1, "\n"), second + 1);
        bool ours = *controller ? has_word(controllers, controller) : !controllers[0];
        if (ours && strstr(path, wanted) && find_mount(controller, folder))
            snprintf(place, OS_CGROUP_PATH_BYTES, "%s%s", folder, path);
    }
}

bool os_cgroup_find(pid_t pid, const char *prefix, struct os_cgroup_place *place)
{
    char folder[64], text[TEXT_BYTES];
    *place = (struct os_cgroup_place){0};
    snprintf(folder, sizeof(folder), "/proc/%d", (int)pid);
    if (!get(folder, "cgroup", text, sizeof(text)))
        return false;
    find_group(text, "cpuacct", prefix, place->cpu);
    find_group(text, "memory", prefix, place->memory);
    if (!place->cpu[0]) {
        find_group(text, "", prefix, place->cpu);
        place->unified = place->cpu[0] != 0;
        if (place->unified)
            snprintf(place->memory, sizeof(place->memory), "%s", place->cpu);
    }
    return place->cpu[0] || place->memory[0];
}

bool os_cgroup_name(pid_t pid, const char *prefix, char name[OS_CGROUP_NAME_BYTES])
{
    struct os_cgroup_place place;
    if (!os_cgroup_find(pid, prefix, &place))
        return false;
    const char *last = strrchr(place.cpu[0] ? place.cpu : place.memory, '/');
    snprintf(name, OS_CGROUP_NAME_BYTES, "%.255s", last ? last + 1 : "");
    return !strncmp(name, prefix, strlen(prefix));
}

static bool field(const char *text, const char *name, uint64_t *value)
{
    size_t n = strlen(name);
    for (const char *at = text; (at = strstr(at, name)); at += n)
        if ((at == text || at[-1] == '\n') && at[n] == ' ') {
            *value = strtoull(at + n, NULL, 10);
            return true;
        }
    return false;
}

bool os_cgroup_usage(const struct os_cgroup_place *place, uint64_t *cpu_ns, uint64_t *memory_bytes)
{
    char text[TEXT_BYTES];
    uint64_t used = 0, shared = 0;
    if (!get(place->cpu, place->unified ? "cpu.stat" : "cpuacct.usage", text, sizeof(text)))
        return false;
    if (!place->unified)
        used = strtoull(text, NULL, 10);
    else if (field(text, "usage_usec", &used))
        used *= 1000;
    *cpu_ns = used;
    if (!get(place->memory, "memory.stat", text, sizeof(text)) ||
        !field(text, place->unified ? "anon" : "total_rss", &used) ||
        !field(text, place->unified ? "shmem" : "total_shmem", &shared))
        return false;
    *memory_bytes = used + shared;
    return true;
}
