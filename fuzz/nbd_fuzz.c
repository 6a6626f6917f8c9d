// SPDX-License-Identifier: Apache-2.0
//
// The NBD client of a remote disk against a wirt-io process that was taken over: the input is all that the process ever says. The disk is opened, read
// and written. Whatever comes: no crash, no hang, nothing written outside a request's memory.
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/nbd_node.h"
#define LOG_MODULE "fuzz"
#include "base/log.h"
#include "wire/nbd.h"

#define INPUT_MAX (64 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum log_level level, const char *line)
{
}

// The server's own decoders, which read what a taken-over wirt-vm sends.
static void decode(const uint8_t *data, size_t size)
{
    struct nbd_request request, again;
    uint8_t bytes[NBD_REQUEST_BYTES];
    uint32_t option, length;
    if (size < NBD_REQUEST_BYTES)
        return;
    (void)nbd_option_decode(data, &option, &length);
    if (!nbd_request_decode(data, &request))
        return;
    nbd_request_encode(&request, bytes);
    if (!nbd_request_decode(bytes, &again) || memcmp(bytes, data, sizeof(bytes)) != 0)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buffer[64 * KIB];
    struct err err;
    int ends[2];
    log_set_sink(quiet);
    decode(data, size);
    size = size < INPUT_MAX ? size : INPUT_MAX;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        return 0;
    // All is said at once, then nothing more: requests are taken as far as the socket's buffer goes.
    if (write(ends[1], data, size) != (ssize_t)size)
        size = 0;
    shutdown(ends[1], SHUT_WR);
    struct block_node *node = block_nbd_open(ends[0], "fuzz", false, MIB, &err);
    if (node) {
        size_t n = node->size < sizeof(buffer) ? node->size : sizeof(buffer);
        (void)block_node_read_buffer(node, 0, buffer, n);
        (void)block_node_write_buffer(node, 0, buffer, n < 4096 ? n : 4096);
        (void)block_node_flush(node);
        (void)block_node_read_buffer(node, node->size - n, buffer, n);
        (void)block_node_zero(node, 0, n, BLOCK_UNMAP);
    }
    (void)block_node_close(node);
    close(ends[1]);
    return 0;
}
