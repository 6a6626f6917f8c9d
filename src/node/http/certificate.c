// SPDX-License-Identifier: Apache-2.0
//
// A self-signed certificate for a node that was given none: P-256, ten years, for its name and localhost.
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/http.h"
#include "os/directory.h"
#include "os/random.h"

#define YEARS_S (10L * 365 * 86400)

static int write_pem(BIO *bio, const char *path, unsigned mode, struct err *err)
{
    char *bytes;
    long length = BIO_get_mem_data(bio, &bytes);
    return os_file_write_whole(path, bytes, (size_t)length, mode, err);
}

static void add_extension(X509 *x509, int kind, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, x509, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    if (extension)
        X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
}

static X509 *make_x509(EVP_PKEY *key, const char *name)
{
    uint8_t serial[16];
    char names[512];
    X509 *x509 = X509_new();
    if (!x509)
        return NULL;
    os_random_bytes(serial, sizeof(serial));
    serial[0] &= 0x7F;
    BIGNUM *number = BN_bin2bn(serial, sizeof(serial), NULL);
    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509));
    BN_free(number);
    X509_set_version(x509, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), YEARS_S);
    X509_set_pubkey(x509, key);
    X509_NAME *subject = X509_get_subject_name(x509);
    X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const uint8_t *)"wirt", -1, -1, 0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(x509, subject);
    snprintf(names, sizeof(names), "DNS:%.200s,DNS:localhost,IP:127.0.0.1,IP:::1", name);
    add_extension(x509, NID_subject_alt_name, names);
    add_extension(x509, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(x509, NID_ext_key_usage, "serverAuth");
    if (X509_sign(x509, key, EVP_sha256()))
        return x509;
    X509_free(x509);
    return NULL;
}

int http_certificate_make(const char *certificate, const char *key_path, const char *name,
                          struct err *err)
{
    if (os_file_exists(certificate) && os_file_exists(key_path))
        return 0;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x509 = key ? make_x509(key, name) : NULL;
    BIO *key_text = BIO_new(BIO_s_mem()), *x509_text = BIO_new(BIO_s_mem());
    int result;
    if (!x509 || !PEM_write_bio_PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) ||
        !PEM_write_bio_X509(x509_text, x509))
        result = err_set(err, ERR_HOST, "no certificate can be made");
    else
        result =
            write_pem(key_text, key_path, 0600, err) || write_pem(x509_text, certificate, 0644, err)
                ? -1
                : 0;
    BIO_free(key_text);
    BIO_free(x509_text);
    X509_free(x509);
    EVP_PKEY_free(key);
    return result;
}

int http_certificate_fingerprint(const char *path, char text[96], struct err *err)
{
    size_t length;
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    char *pem = os_file_read_all(path, 65536, &length, err);
    if (!pem)
        return -1;
    BIO *bio = BIO_new_mem_buf(pem, (int)length);
    X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    int result = x509 && X509_digest(x509, EVP_sha256(), digest, &size)
                     ? 0
                     : err_set(err, ERR_INPUT, "'%s' is no certificate", path);
    for (unsigned i = 0; i < size; i++)
        snprintf(text + 3 * i, 4, "%02X%s", digest[i], i + 1 < size ? ":" : "");
    X509_free(x509);
    BIO_free(bio);
    free(pem);
    return result;
}
