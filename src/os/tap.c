// SPDX-License-Identifier: Apache-2.0
#include "os/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VNET_HEADER_BYTES 12

int os_tap_attach(const char *pattern, char name[16], struct err *err)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open /dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    memcpy(request.ifr_name, pattern, strnlen(pattern, IFNAMSIZ));
    int header = VNET_HEADER_BYTES;
    if (ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETVNETHDRSZ, &header)) {
        int reason = errno;
        close(fd);
        return err_set_errno(err, reason, "cannot attach to the interface");
    }
    snprintf(name, IFNAMSIZ, "%.15s", request.ifr_name);
    return fd;
}

int os_tap_open(const char *name, struct err *err)
{
    // TUNSETIFF would make an interface that is missing, when the user may: a typing error must not.
    if (!if_nametoindex(name))
        return err_set(err, ERR_NOT_FOUND,
                       "there is no interface of this name; `ip tuntap add dev %s mode tap user "
                       "NAME` makes one",
                       name);
    char found[IFNAMSIZ];
    return os_tap_attach(name, found, err);
}

int os_tap_set_offload(int tap, bool checksum, bool tso4, bool tso6)
{
    unsigned long flags = 0;
    if (checksum)
        flags |= TUN_F_CSUM | (tso4 ? (unsigned long)TUN_F_TSO4 : 0) |
                 (tso6 ? (unsigned long)TUN_F_TSO6 : 0);
    return ioctl(tap, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}
