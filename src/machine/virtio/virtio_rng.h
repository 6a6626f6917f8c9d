// SPDX-License-Identifier: Apache-2.0
//
// A virtio entropy source (virtio 1.2, 5.4): the host kernel's random bytes, or in a deterministic machine
// those of a generator that is part of the machine's state.
#ifndef WIRT_MACHINE_VIRTIO_VIRTIO_RNG_H
#define WIRT_MACHINE_VIRTIO_VIRTIO_RNG_H

#include "machine/virtio/virtio_device.h"

struct virtio_rng_params {
    const char *name;
    uint64_t seed; // 0: from the host
};

struct virtio_rng;

struct virtio_rng *virtio_rng_create(const struct virtio_environment *environment,
                                     const struct virtio_rng_params *params, struct err *err);
void virtio_rng_destroy(struct virtio_rng *rng); // unplugged; NULL is fine
struct virtio_device *virtio_rng_device(struct virtio_rng *rng);

#endif
