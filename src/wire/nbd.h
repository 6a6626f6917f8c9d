// SPDX-License-Identifier: Apache-2.0
//
// The NBD protocol, as far as wirt-vm and its wirt-io processes speak it: fixed newstyle negotiation by NBD_OPT_GO, then requests and simple
// replies. Bytes to structs and back; pure. All numbers are big-endian on the wire.
#ifndef WIRT_WIRE_NBD_H
#define WIRT_WIRE_NBD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NBD_GREETING_BYTES      18
#define NBD_OPTION_HEADER_BYTES 16
#define NBD_OPTION_REPLY_BYTES  20
#define NBD_REQUEST_BYTES       28
#define NBD_REPLY_BYTES         16
#define NBD_OPTION_DATA_MAX     4096
#define NBD_TRANSFER_MAX        (32u << 20) // of one request

enum nbd_option { NBD_OPT_EXPORT_NAME = 1, NBD_OPT_ABORT = 2, NBD_OPT_INFO = 6, NBD_OPT_GO = 7 };
enum nbd_info { NBD_INFO_EXPORT = 0, NBD_INFO_BLOCK_SIZE = 3 };
#define NBD_REP_ACK       1u
#define NBD_REP_INFO      3u
#define NBD_REP_ERR_UNSUP 0x80000001u
#define NBD_REP_ERROR     0x80000000u // this bit: an error

enum nbd_transmission_flags {
    NBD_HAS_FLAGS = 1,
    NBD_READ_ONLY = 2,
    NBD_SEND_FLUSH = 4,
    NBD_SEND_FUA = 8,
    NBD_SEND_TRIM = 32,
    NBD_SEND_WRITE_ZEROES = 64
};

enum nbd_command {
    NBD_CMD_READ,
    NBD_CMD_WRITE,
    NBD_CMD_DISC,
    NBD_CMD_FLUSH,
    NBD_CMD_TRIM,
    NBD_CMD_CACHE,
    NBD_CMD_WRITE_ZEROES
};
enum nbd_command_flags { NBD_FLAG_FUA = 1, NBD_FLAG_NO_HOLE = 2 };

// What a server offers under a name.
struct nbd_export {
    uint64_t size;
    uint16_t flags; // enum nbd_transmission_flags
    uint32_t block_min, block_good,
        block_max; // powers of two, the last at least a multiple of the first
};

struct nbd_request {
    uint16_t flags;
    uint16_t command;
    uint64_t cookie;
    uint64_t offset;
    uint32_t length;
};

struct nbd_reply {
    uint64_t cookie;
    int error; // 0 or a negative errno
};

void nbd_greeting_encode(uint8_t bytes[NBD_GREETING_BYTES]);
int nbd_greeting_check(const uint8_t bytes[NBD_GREETING_BYTES], struct err *err);

void nbd_option_encode(uint8_t bytes[NBD_OPTION_HEADER_BYTES], uint32_t option, uint32_t length);
// False: not an option, or longer than NBD_OPTION_DATA_MAX.
bool nbd_option_decode(const uint8_t bytes[NBD_OPTION_HEADER_BYTES], uint32_t *option,
                       uint32_t *length);

void nbd_option_reply_encode(uint8_t bytes[NBD_OPTION_REPLY_BYTES], uint32_t option, uint32_t type,
                             uint32_t length);
bool nbd_option_reply_decode(const uint8_t bytes[NBD_OPTION_REPLY_BYTES], uint32_t option,
                             uint32_t *type, uint32_t *length);

// The data of an NBD_REP_INFO: fills in what it tells, and ignores what we do not know.
int nbd_info_decode(const uint8_t *bytes, size_t length, struct nbd_export *offer, struct err *err);
size_t nbd_info_export_encode(const struct nbd_export *offer, uint8_t bytes[12]);
size_t nbd_info_block_size_encode(const struct nbd_export *offer, uint8_t bytes[14]);
// Is all of it sane, once negotiation is through?
int nbd_export_check(const struct nbd_export *offer, struct err *err);

void nbd_request_encode(const struct nbd_request *request, uint8_t bytes[NBD_REQUEST_BYTES]);
bool nbd_request_decode(const uint8_t bytes[NBD_REQUEST_BYTES], struct nbd_request *request);
void nbd_reply_encode(const struct nbd_reply *reply, uint8_t bytes[NBD_REPLY_BYTES]);
bool nbd_reply_decode(const uint8_t bytes[NBD_REPLY_BYTES], struct nbd_reply *reply);

#endif
