// SPDX-License-Identifier: Apache-2.0
//
// Files from outside: written to `.incoming` of the datastore that they are for, summed, and renamed into place. A crash before the rename
// leaves what stood there before; what lies in `.incoming` at the start is removed.
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/storage/storage_internal.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/random.h"

#define SPOOL       ".incoming"
#define PIECE_BYTES (1024 * 1024)
#define SPARE_BYTES (64u * 1024 * 1024) // of the file system, for everybody else

static int spool_folder(struct storage *storage, const char *id, char path[VOLUME_PATH_BYTES],
                        struct err *err)
{
    char folder[VOLUME_PATH_BYTES];
    if (storage_folder(storage, id, folder, err))
        return -1;
    snprintf(path, VOLUME_PATH_BYTES, "%.3000s/" SPOOL, folder);
    return 0;
}

int storage_spool(struct storage *storage, const char *id, uint64_t bytes,
                  char path[VOLUME_PATH_BYTES], struct err *err)
{
    char folder[VOLUME_PATH_BYTES];
    uint64_t number;
    struct os_space space = {0};
    if (spool_folder(storage, id, folder, err) || os_directory_make_all(folder, 0700, err))
        return -1;
    if (!os_directory_space(folder, &space) && space.available < bytes + SPARE_BYTES)
        return err_set(err, ERR_LIMIT, "storage '%s' has no room for %llu bytes", id,
                       (unsigned long long)bytes);
    os_random_bytes(&number, sizeof(number));
    snprintf(path, VOLUME_PATH_BYTES, "%.3000s/%016llx", folder, (unsigned long long)number);
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, err);
    if (fd < 0)
        path[0] = 0;
    return fd;
}

static bool remove_one(void *user, const char *name)
{
    char path[VOLUME_PATH_BYTES];
    snprintf(path, sizeof(path), "%.3000s/%.200s", (const char *)user, name);
    os_file_remove(path);
    return true;
}

void storage_empty_spool(struct storage *storage, const char *id)
{
    char folder[VOLUME_PATH_BYTES];
    if (!spool_folder(storage, id, folder, NULL) && os_file_exists(folder))
        os_directory_list(folder, remove_one, folder, NULL);
}

// ---- Sums.

bool storage_known_sum(const char *algorithm)
{
    static const char *const known[] = {"md5", "sha1", "sha224", "sha256", "sha384", "sha512"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (!strcmp(algorithm, known[i]))
            return true;
    return false;
}

static int sum_pieces(int fd, uint64_t size, EVP_MD_CTX *context, struct task *task,
                      struct err *err)
{
    char *piece = malloc(PIECE_BYTES);
    int result = 0;
    if (!piece)
        abort();
    for (uint64_t at = 0; at < size && !result;) {
        size_t n = size - at < PIECE_BYTES ? (size_t)(size - at) : PIECE_BYTES;
        int failed = os_pread(fd, piece, n, at);
        if (failed)
            result = err_set_errno(err, -failed, "the file cannot be read");
        else if (!task_progress(task, at, size))
            result = task_cancelled(err);
        else
            EVP_DigestUpdate(context, piece, n);
        at += n;
    }
    free(piece);
    return result;
}

static int check_sum(const struct storage_arrival *arrival, struct task *task, struct err *err)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned length = 0;
    uint64_t size = 0;
    const EVP_MD *method = EVP_get_digestbyname(arrival->algorithm);
    int fd = os_file_open(arrival->path, 0, err);
    if (fd < 0 || !method) {
        os_file_close(&fd);
        return method ? -1
                      : err_set(err, ERR_UNSUPPORTED, "checksums by %s are not offered",
                                arrival->algorithm);
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    os_file_size(fd, &size);
    EVP_DigestInit_ex(context, method, NULL);
    int result = sum_pieces(fd, size, context, task, err);
    EVP_DigestFinal_ex(context, hash, &length);
    EVP_MD_CTX_free(context);
    os_file_close(&fd);
    for (unsigned i = 0; i < length; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    if (result)
        return -1;
    task_log(task, "%s: %s", arrival->algorithm, text);
    return strcasecmp(text, arrival->checksum) != 0
               ? err_set(err, ERR_INPUT, "checksum mismatch: got '%s', expected '%.130s'", text,
                         arrival->checksum)
               : 0;
}

// ---- Into place.

static int put_in_place(struct storage *storage, const struct storage_arrival *arrival,
                        struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    if (storage_file_path(storage, arrival->id, arrival->content, arrival->name, path, err))
        return -1;
    int fd = os_file_open(arrival->path, OS_FILE_WRITE, err);
    if (fd < 0)
        return -1;
    int failed = os_fdatasync(fd);
    os_file_close(&fd);
    if (failed)
        return err_set_errno(err, -failed, "the file cannot be written");
    if (os_file_rename(arrival->path, path, err))
        return -1;
    *strrchr(path, '/') = 0;
    os_directory_sync(path);
    return 0;
}

int storage_arrive(struct storage *storage, const struct storage_arrival *arrival,
                   struct task *task, struct err *err)
{
    int result = arrival->checksum ? check_sum(arrival, task, err) : 0;
    if (!result)
        result = put_in_place(storage, arrival, err);
    if (!result)
        task_log(task, "'%s:%s/%s' is there", arrival->id, arrival->content, arrival->name);
    os_file_remove(arrival->path);
    return result;
}

// ---- Facts.

static void facts_key(const char *volid, char key[VOLUME_ID_BYTES + 16])
{
    snprintf(key, VOLUME_ID_BYTES + 16, "/file/%s", volid);
}

json_t *storage_file_facts(struct storage *storage, const char *volid)
{
    char key[VOLUME_ID_BYTES + 16];
    facts_key(volid, key);
    return store_get(storage->store, key, NULL);
}

int storage_set_file_facts(struct storage *storage, const char *volid, json_t *facts,
                           struct err *err)
{
    char key[VOLUME_ID_BYTES + 16];
    facts_key(volid, key);
    return facts ? store_put_now(storage->store, key, facts, err)
                 : store_delete_now(storage->store, key, err);
}
