// SPDX-License-Identifier: Apache-2.0
#include "wire/nbd.h"

#include <errno.h>

#include "base/big_endian.h"

#define MAGIC_GREETING 0x4e42444d41474943ull // "NBDMAGIC"
#define MAGIC_OPTION   0x49484156454f5054ull // "IHAVEOPT"
#define MAGIC_ANSWER   0x0003e889045565a9ull
#define MAGIC_REQUEST  0x25609513u
#define MAGIC_REPLY    0x67446698u
#define HANDSHAKE      3u // fixed newstyle, no zeroes after the old option

void nbd_greeting_encode(uint8_t bytes[NBD_GREETING_BYTES])
{
    store_be64(bytes, MAGIC_GREETING);
    store_be64(bytes + 8, MAGIC_OPTION);
    store_be16(bytes + 16, HANDSHAKE);
}

int nbd_greeting_check(const uint8_t bytes[NBD_GREETING_BYTES], struct err *err)
{
    if (load_be64(bytes) != MAGIC_GREETING || load_be64(bytes + 8) != MAGIC_OPTION ||
        !(load_be16(bytes + 16) & 1))
        return err_set(err, ERR_INPUT, "the other end does not speak NBD's fixed newstyle");
    return 0;
}

void nbd_option_encode(uint8_t bytes[NBD_OPTION_HEADER_BYTES], uint32_t option, uint32_t length)
{
    store_be64(bytes, MAGIC_OPTION);
    store_be32(bytes + 8, option);
    store_be32(bytes + 12, length);
}

bool nbd_option_decode(const uint8_t bytes[NBD_OPTION_HEADER_BYTES], uint32_t *option,
                       uint32_t *length)
{
    *option = load_be32(bytes + 8);
    *length = load_be32(bytes + 12);
    return load_be64(bytes) == MAGIC_OPTION && *length <= NBD_OPTION_DATA_MAX;
}

void nbd_option_reply_encode(uint8_t bytes[NBD_OPTION_REPLY_BYTES], uint32_t option, uint32_t type,
                             uint32_t length)
{
    store_be64(bytes, MAGIC_ANSWER);
    store_be32(bytes + 8, option);
    store_be32(bytes + 12, type);
    store_be32(bytes + 16, length);
}

bool nbd_option_reply_decode(const uint8_t bytes[NBD_OPTION_REPLY_BYTES], uint32_t option,
                             uint32_t *type, uint32_t *length)
{
    *type = load_be32(bytes + 12);
    *length = load_be32(bytes + 16);
    return load_be64(bytes) == MAGIC_ANSWER && load_be32(bytes + 8) == option &&
           *length <= NBD_OPTION_DATA_MAX;
}

int nbd_info_decode(const uint8_t *bytes, size_t length, struct nbd_export *offer, struct err *err)
{
    uint16_t kind = length >= 2 ? load_be16(bytes) : UINT16_MAX;
    if (length < 2 || (kind == NBD_INFO_EXPORT && length != 12) ||
        (kind == NBD_INFO_BLOCK_SIZE && length != 14))
        return err_set(err, ERR_INPUT, "the NBD server's description is malformed");
    if (kind == NBD_INFO_EXPORT) {
        offer->size = load_be64(bytes + 2);
        offer->flags = load_be16(bytes + 10);
    } else if (kind == NBD_INFO_BLOCK_SIZE) {
        offer->block_min = load_be32(bytes + 2);
        offer->block_good = load_be32(bytes + 6);
        offer->block_max = load_be32(bytes + 10);
    }
    return 0;
}

size_t nbd_info_export_encode(const struct nbd_export *offer, uint8_t bytes[12])
{
    store_be16(bytes, NBD_INFO_EXPORT);
    store_be64(bytes + 2, offer->size);
    store_be16(bytes + 10, offer->flags);
    return 12;
}

size_t nbd_info_block_size_encode(const struct nbd_export *offer, uint8_t bytes[14])
{
    store_be16(bytes, NBD_INFO_BLOCK_SIZE);
    store_be32(bytes + 2, offer->block_min);
    store_be32(bytes + 6, offer->block_good);
    store_be32(bytes + 10, offer->block_max);
    return 14;
}

int nbd_export_check(const struct nbd_export *offer, struct err *err)
{
    if (!(offer->flags & NBD_HAS_FLAGS) || offer->size > INT64_MAX)
        return err_set(err, ERR_INPUT, "the NBD server did not say what it offers");
    if (!is_power_of_two(offer->block_min) || offer->block_min > 65536 ||
        !is_power_of_two(offer->block_good) || offer->block_good < offer->block_min ||
        offer->block_max < offer->block_good)
        return err_set(err, ERR_INPUT, "the NBD server's block sizes make no sense");
    return 0;
}

void nbd_request_encode(const struct nbd_request *request, uint8_t bytes[NBD_REQUEST_BYTES])
{
    store_be32(bytes, MAGIC_REQUEST);
    store_be16(bytes + 4, request->flags);
    store_be16(bytes + 6, request->command);
    store_be64(bytes + 8, request->cookie);
    store_be64(bytes + 16, request->offset);
    store_be32(bytes + 24, request->length);
}

bool nbd_request_decode(const uint8_t bytes[NBD_REQUEST_BYTES], struct nbd_request *request)
{
    *request = (struct nbd_request){.flags = load_be16(bytes + 4),
                                    .command = load_be16(bytes + 6),
                                    .cookie = load_be64(bytes + 8),
                                    .offset = load_be64(bytes + 16),
                                    .length = load_be32(bytes + 24)};
    return load_be32(bytes) == MAGIC_REQUEST;
}

// The protocol's error numbers are Linux's; those that it does not have are EIO.
static uint32_t error_number(int error)
{
    switch (-error) {
    case 0:
    case EPERM:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EOVERFLOW:
    case EOPNOTSUPP:
    case ESHUTDOWN:
        return (uint32_t)-error;
    default:
        return EIO;
    }
}

void nbd_reply_encode(const struct nbd_reply *reply, uint8_t bytes[NBD_REPLY_BYTES])
{
    store_be32(bytes, MAGIC_REPLY);
    store_be32(bytes + 4, error_number(reply->error));
    store_be64(bytes + 8, reply->cookie);
}

bool nbd_reply_decode(const uint8_t bytes[NBD_REPLY_BYTES], struct nbd_reply *reply)
{
    uint32_t error = load_be32(bytes + 4);
    *reply = (struct nbd_reply){.cookie = load_be64(bytes + 8),
                                .error = error < 4096 ? -(int)error : -EIO};
    reply->error = -(int)error_number(reply->error);
    return load_be32(bytes) == MAGIC_REPLY;
}
