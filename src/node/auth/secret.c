// SPDX-License-Identifier: Apache-2.0
#include "node/auth/secret.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/random.h"

#define TOTP_STEP_S       30
#define TOTP_SECRET_BYTES 128

bool secret_equal(const char *a, const char *b)
{
    size_t length = strlen(a);
    return length == strlen(b) && !CRYPTO_memcmp(a, b, length);
}

int secret_password_hash(const char *password, char stored[SECRET_PASSWORD_BYTES], struct err *err)
{
    char random[32], setting[CRYPT_GENSALT_OUTPUT_SIZE];
    os_random_bytes(random, sizeof(random));
    struct crypt_data *data = calloc(1, sizeof(*data));
    const char *hash = NULL;
    if (data && crypt_gensalt_rn("$y$", 0, random, sizeof(random), setting, sizeof(setting)))
        hash = crypt_rn(password, setting, data, sizeof(*data));
    int length = hash ? snprintf(stored, SECRET_PASSWORD_BYTES, "%s", hash) : -1;
    free(data);
    if (length < 0 || length >= SECRET_PASSWORD_BYTES)
        return err_set(err, ERR_HOST, "the password cannot be hashed (yescrypt)");
    return 0;
}

bool secret_password_check(const char *password, const char *stored)
{
    struct crypt_data *data = calloc(1, sizeof(*data));
    const char *hash = data ? crypt_rn(password, stored, data, sizeof(*data)) : NULL;
    bool equal = hash && secret_equal(hash, stored);
    free(data);
    return equal;
}

void secret_sign(const uint8_t key[SECRET_KEY_BYTES], const char *text,
                 char signature[SECRET_SIGNATURE_BYTES])
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    HMAC(EVP_sha256(), key, SECRET_KEY_BYTES, (const uint8_t *)text, strlen(text), mac, &length);
    EVP_EncodeBlock((uint8_t *)signature, mac, 32);
}

void secret_hash(const char *text, char hash[SECRET_HASH_BYTES])
{
    uint8_t digest[32];
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hash + 2 * i, 3, "%02x", digest[i]);
}

void secret_uuid(char uuid[SECRET_UUID_BYTES])
{
    uint8_t b[16];
    os_random_bytes(b, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
    snprintf(uuid, SECRET_UUID_BYTES,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
}

// Returns the number of bytes, 0 for anything that is not base32.
static size_t base32_decode(const char *text, uint8_t *bytes, size_t room)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint32_t bits = 0;
    unsigned count = 0;
    size_t used = 0;
    for (; *text && *text != '='; text++) {
        char upper = *text >= 'a' && *text <= 'z' ? (char)(*text - 'a' + 'A') : *text;
        const char *at = strchr(digits, upper);
        if (!at || used == room)
            return 0;
        bits = bits << 5 | (uint32_t)(at - digits);
        count += 5;
        if (count >= 8) {
            count -= 8;
            bytes[used++] = (uint8_t)(bits >> count);
        }
    }
    return used;
}

int secret_totp_code(const char *base32, uint64_t step, char digits[7], struct err *err)
{
    uint8_t secret[TOTP_SECRET_BYTES], message[8], mac[EVP_MAX_MD_SIZE];
    size_t length = base32_decode(base32, secret, sizeof(secret));
    unsigned mac_length = 0;
    if (!length)
        return err_set(err, ERR_USAGE, "the secret is not base32");
    for (unsigned i = 0; i < 8; i++)
        message[i] = (uint8_t)(step >> (56 - 8 * i));
    HMAC(EVP_sha1(), secret, (int)length, message, sizeof(message), mac, &mac_length);
    const uint8_t *at = mac + (mac[mac_length - 1] & 0x0F);
    uint32_t code =
        ((uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]) & 0x7FFFFFFF;
    snprintf(digits, 7, "%06u", code % 1000000);
    return 0;
}

uint64_t secret_totp_check(const char *base32, const char *digits, uint64_t now_s)
{
    uint64_t now = now_s / TOTP_STEP_S;
    for (uint64_t step = now - 1; step <= now + 1; step++) {
        char code[7];
        if (!secret_totp_code(base32, step, code, NULL) && secret_equal(code, digits))
            return step;
    }
    return 0;
}
