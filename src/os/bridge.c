// SPDX-License-Identifier: Apache-2.0
#include "os/bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/tap.h"

static int ask(unsigned long what, void *argument)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int result = ioctl(fd, what, argument) < 0 ? -errno : 0;
    close(fd);
    return result;
}

static struct ifreq request_for(const char *name)
{
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%.15s", name);
    return request;
}

static int set_address(const char *name, unsigned long what, uint32_t address)
{
    struct ifreq request = request_for(name);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    memcpy(&request.ifr_addr, &in, sizeof(in));
    return ask(what, &request);
}

static int set_up(const char *name, bool up)
{
    struct ifreq request = request_for(name);
    int result = ask(SIOCGIFFLAGS, &request);
    if (result)
        return result;
    request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    return ask(SIOCSIFFLAGS, &request);
}

static int set_mac(const char *name, const uint8_t mac[6])
{
    struct ifreq request = request_for(name);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, mac, 6);
    return ask(SIOCSIFHWADDR, &request);
}

int os_bridge_make(const char *name, const uint8_t mac[6], uint32_t address, unsigned prefix,
                   struct err *err)
{
    char text[OS_INTERFACE_BYTES];
    snprintf(text, sizeof(text), "%s", name);
    int result = ask(SIOCBRADDBR, text);
    if (result == -EEXIST)
        result = 0;
    // An address of its own: else it takes its ports', and changes it when they come and go.
    if (!result)
        result = set_mac(name, mac);
    if (!result)
        result = set_address(name, SIOCSIFADDR, address);
    if (!result)
        result = set_address(name, SIOCSIFNETMASK, UINT32_MAX << (32 - prefix));
    if (!result)
        result = set_up(name, true);
    return result ? err_set_errno(err, -result, "the bridge %s cannot be made", name) : 0;
}

void os_bridge_remove(const char *name)
{
    char text[OS_INTERFACE_BYTES];
    snprintf(text, sizeof(text), "%s", name);
    set_up(name, false);
    ask(SIOCBRDELBR, text);
}

static int join(const char *bridge, const char *name)
{
    struct ifreq request = request_for(bridge);
    request.ifr_ifindex = (int)if_nametoindex(name);
    int result = ask(SIOCBRADDIF, &request);
    return result ? result : set_up(name, true);
}

int os_bridge_tap(const char *bridge, const char *pattern, char name[OS_INTERFACE_BYTES],
                  struct err *err)
{
    int fd = os_tap_attach(pattern, name, err);
    if (fd < 0)
        return -1;
    int result = join(bridge, name);
    if (!result)
        return fd;
    close(fd);
    return err_set_errno(err, -result, "%s cannot join the bridge %s", name, bridge);
}

bool os_interface_exists(const char *name)
{
    return if_nametoindex(name) != 0;
}

size_t os_interface_count(const char *prefix)
{
    size_t count = 0;
    struct if_nameindex *list = if_nameindex();
    for (const struct if_nameindex *at = list; at && at->if_index; at++)
        count += !strncmp(at->if_name, prefix, strlen(prefix));
    if (list)
        if_freenameindex(list);
    return count;
}

static uint32_t host_order(const struct sockaddr *address)
{
    struct sockaddr_in in;
    memcpy(&in, address, sizeof(in));
    return ntohl(in.sin_addr.s_addr);
}

bool os_interface_overlaps(uint32_t network, unsigned prefix, const char *but)
{
    struct ifaddrs *list;
    uint32_t mask = UINT32_MAX << (32 - prefix);
    bool overlaps = false;
    if (getifaddrs(&list))
        return false;
    for (const struct ifaddrs *at = list; at && !overlaps; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || !at->ifa_netmask ||
            !strcmp(at->ifa_name, but))
            continue;
        uint32_t wider = mask & host_order(at->ifa_netmask);
        overlaps = (host_order(at->ifa_addr) & wider) == (network & wider);
    }
    freeifaddrs(list);
    return overlaps;
}

int os_forwarding_enable(void)
{
    int fd = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int result = write(fd, "1", 1) == 1 ? 0 : -errno;
    close(fd);
    return result;
}
