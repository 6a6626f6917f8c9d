// SPDX-License-Identifier: Apache-2.0
//
// Secrets: passwords by yescrypt, keyed signatures, one-time passwords, comparing without telling how far. Pure but for random bytes;
// any thread.
#ifndef WIRT_NODE_AUTH_SECRET_H
#define WIRT_NODE_AUTH_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SECRET_KEY_BYTES       32
#define SECRET_SIGNATURE_BYTES 45 // base64 of 32 bytes, with its end
#define SECRET_HASH_BYTES      65 // hexadecimal, with its end
#define SECRET_UUID_BYTES      37
#define SECRET_PASSWORD_BYTES  384 // of the stored form

bool secret_equal(const char *a, const char *b);

// Takes about 50 ms: not on the event loop.
int secret_password_hash(const char *password, char stored[SECRET_PASSWORD_BYTES], struct err *err);
bool secret_password_check(const char *password, const char *stored);

void secret_sign(const uint8_t key[SECRET_KEY_BYTES], const char *text,
                 char signature[SECRET_SIGNATURE_BYTES]);
void secret_hash(const char *text, char hash[SECRET_HASH_BYTES]); // SHA-256
void secret_uuid(char uuid[SECRET_UUID_BYTES]);                   // random

// A time-based one-time password (RFC 6238, SHA-1, 6 digits, 30 seconds) of a secret in base32. Returns the step that matched, the one
// before `now_s` to the one after it, or 0: a step is used once, later ones must be greater.
uint64_t secret_totp_check(const char *base32, const char *digits, uint64_t now_s);
int secret_totp_code(const char *base32, uint64_t step, char digits[7], struct err *err);

#endif
