// SPDX-License-Identifier: Apache-2.0
//
// The client before an NBD export, the same for disk-export and qemu-storage-daemon: requests at a fixed depth, then the seconds they took. What
// writes ends with a flush, which counts.
//
//     disk-load SOCKET read|write BLOCK STEP DEPTH COUNT
#include <libnbd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 64

struct load {
    struct nbd_handle *nbd;
    bool write;
    uint64_t block, step, size, next, left, in_flight;
    unsigned ended[DEPTH_MAX], ended_count; // buffers whose request is over
    void *buffer[DEPTH_MAX];
};

struct ending {
    struct load *load;
    unsigned buffer;
};

static void fail(const char *why)
{
    fprintf(stderr, "disk-load: %s\n", why);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// Runs inside the library, which must not be called from here.
static int on_end(void *user, int *error)
{
    const struct ending *ending = user;
    if (*error)
        fail(strerror(*error));
    ending->load->ended[ending->load->ended_count++] = ending->buffer;
    return 1;
}

static void start(struct load *l, struct ending *ending)
{
    nbd_completion_callback callback;
    memset(&callback, 0, sizeof(callback));
    callback.callback = on_end;
    callback.user_data = ending;
    void *buffer = l->buffer[ending->buffer];
    int64_t cookie = l->write ? nbd_aio_pwrite(l->nbd, buffer, l->block, l->next, callback, 0)
                              : nbd_aio_pread(l->nbd, buffer, l->block, l->next, callback, 0);
    if (cookie < 0)
        fail(nbd_get_error());
    l->next = (l->next + l->step) % l->size;
    l->left--;
    l->in_flight++;
}

static void run(struct load *l, unsigned depth)
{
    struct ending endings[DEPTH_MAX];
    for (unsigned i = 0; i < depth; i++) {
        endings[i] = (struct ending){l, i};
        l->buffer[i] = aligned_alloc(4096, l->block);
        memset(l->buffer[i], 0xa5, l->block);
        if (l->left)
            start(l, &endings[i]);
    }
    while (l->in_flight) {
        if (!l->ended_count && nbd_poll(l->nbd, -1) < 0)
            fail(nbd_get_error());
        l->in_flight -= l->ended_count;
        unsigned count = l->ended_count, ended[DEPTH_MAX];
        memcpy(ended, l->ended, sizeof(ended));
        l->ended_count = 0;
        for (unsigned i = 0; i < count && l->left; i++)
            start(l, &endings[ended[i]]);
    }
    if (l->write && nbd_flush(l->nbd, 0))
        fail(nbd_get_error());
}

int main(int argc, char **argv)
{
    if (argc != 7)
        fail("disk-load SOCKET read|write BLOCK STEP DEPTH COUNT");
    struct load l = {.nbd = nbd_create(),
                     .write = strcmp(argv[2], "write") == 0,
                     .block = strtoull(argv[3], NULL, 10),
                     .step = strtoull(argv[4], NULL, 10),
                     .left = strtoull(argv[6], NULL, 10)};
    unsigned depth = (unsigned)strtoul(argv[5], NULL, 10);
    if (!l.nbd || depth > DEPTH_MAX || nbd_connect_unix(l.nbd, argv[1]))
        fail(l.nbd ? nbd_get_error() : "no memory");
    l.size = (uint64_t)nbd_get_size(l.nbd);
    double begin = now();
    run(&l, depth);
    printf("{\"seconds\": %.6f}\n", now() - begin);
    nbd_shutdown(l.nbd, 0);
    nbd_close(l.nbd);
    return 0;
}
