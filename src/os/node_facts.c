// SPDX-License-Identifier: Apache-2.0
#include "os/node_facts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "os/directory.h"

#define PROC_MAX (256 * 1024)

static pthread_mutex_t sample_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned long long busy, total; // under the lock
    double share;
} sample;

static char *slurp(const char *path)
{
    return os_file_read_all(path, PROC_MAX, NULL, NULL);
}

static void read_cpu(struct os_node_facts *facts)
{
    unsigned long long t[8] = {0}, total = 0;
    char *text = slurp("/proc/stat");
    if (text)
        sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
               &t[4], &t[5], &t[6], &t[7]);
    free(text);
    for (size_t i = 0; i < 8; i++)
        total += t[i];
    unsigned long long busy = total - t[3] - t[4];
    pthread_mutex_lock(&sample_lock);
    if (total > sample.total + 20) { // two tenths of a second: less is noise
        if (sample.total)
            sample.share = (double)(busy - sample.busy) / (double)(total - sample.total);
        sample.busy = busy;
        sample.total = total;
    }
    facts->cpu = sample.share;
    pthread_mutex_unlock(&sample_lock);
}

// "name<tab>: value" of the first CPU.
static void cpu_field(const char *text, const char *name, char *to, size_t size)
{
    const char *at = text ? strstr(text, name) : NULL;
    at = at ? strchr(at, ':') : NULL;
    if (at && at[1] == ' ')
        snprintf(to, size, "%.*s", (int)strcspn(at + 2, "\n"), at + 2);
}

static uint64_t memory_field(const char *text, const char *name)
{
    const char *at = text ? strstr(text, name) : NULL;
    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

void os_node_facts(struct os_node_facts *facts)
{
    struct os_space root = {0};
    struct utsname name;
    double up = 0;
    *facts = (struct os_node_facts){.cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    read_cpu(facts);
    (void)!getloadavg(facts->load, 3);
    char *text = slurp("/proc/meminfo");
    facts->memory_bytes = memory_field(text, "MemTotal:");
    facts->memory_free_bytes = memory_field(text, "MemAvailable:");
    free(text);
    text = slurp("/proc/uptime");
    if (text && sscanf(text, "%lf", &up) == 1)
        facts->uptime_s = (uint64_t)up;
    free(text);
    text = slurp("/proc/cpuinfo");
    cpu_field(text, "model name", facts->cpu_model, sizeof(facts->cpu_model));
    cpu_field(text, "cpu MHz", facts->cpu_mhz, sizeof(facts->cpu_mhz));
    cpu_field(text, "flags", facts->cpu_flags, sizeof(facts->cpu_flags));
    free(text);
    if (!os_directory_space("/", &root)) {
        facts->root_bytes = root.total;
        facts->root_used_bytes = root.total - root.available;
    }
    if (!uname(&name))
        snprintf(facts->kernel, sizeof(facts->kernel), "%s %s %s", name.sysname, name.release,
                 name.machine);
    facts->kvm = os_file_exists("/dev/kvm");
}

void os_node_name(char *name, size_t size)
{
    if (gethostname(name, size))
        snprintf(name, size, "localhost");
    name[size - 1] = 0;
    name[strcspn(name, ".")] = 0;
}

void os_node_interfaces(bool (*each)(void *user, const struct os_node_interface *interface),
                        void *user)
{
    struct ifaddrs *list;
    bool more = true;
    if (getifaddrs(&list))
        return;
    for (const struct ifaddrs *at = list; at && more; at = at->ifa_next) {
        bool inet = at->ifa_addr && at->ifa_addr->sa_family == AF_INET;
        bool link = at->ifa_addr && at->ifa_addr->sa_family == AF_PACKET;
        struct os_node_interface found = {.up = at->ifa_flags & IFF_UP};
        char path[64];
        if ((!inet && !link) || at->ifa_flags & IFF_LOOPBACK)
            continue;
        // A link is told only where no address will be.
        bool addressed = false;
        for (const struct ifaddrs *other = list; other && link; other = other->ifa_next)
            addressed |= other->ifa_addr && other->ifa_addr->sa_family == AF_INET &&
                         !strcmp(other->ifa_name, at->ifa_name);
        if (link && addressed)
            continue;
        snprintf(found.name, sizeof(found.name), "%s", at->ifa_name);
        snprintf(path, sizeof(path), "/sys/class/net/%.15s/bridge", at->ifa_name);
        found.bridge = os_file_exists(path);
        if (inet && at->ifa_netmask) {
            struct sockaddr_in address, mask;
            memcpy(&address, at->ifa_addr, sizeof(address));
            memcpy(&mask, at->ifa_netmask, sizeof(mask));
            inet_ntop(AF_INET, &address.sin_addr, found.address, sizeof(found.address));
            inet_ntop(AF_INET, &mask.sin_addr, found.netmask, sizeof(found.netmask));
            found.prefix = (unsigned)__builtin_popcount(mask.sin_addr.s_addr);
        }
        more = each(user, &found);
    }
    freeifaddrs(list);
}

struct first {
    char *address;
    size_t size;
};

static bool take_first(void *user, const struct os_node_interface *interface)
{
    struct first *first = user;
    if (!*interface->address)
        return true;
    snprintf(first->address, first->size, "%s", interface->address);
    return false;
}

void os_node_address(char *address, size_t size)
{
    struct first first = {address, size};
    snprintf(address, size, "127.0.0.1");
    os_node_interfaces(take_first, &first);
}
