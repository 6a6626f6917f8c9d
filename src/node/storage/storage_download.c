// SPDX-License-Identifier: Apache-2.0
//
// Files from the net, by libcurl on the task's thread. Only http and https, a few redirections, and no file that is larger than the datastore.
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "node/storage/storage_internal.h"
#include "os/file.h"

#define REDIRECTIONS_MAX 5
#define CONNECT_SECONDS  20
#define STALL_SECONDS    60
#define FACTS_SECONDS    4 // below what clients wait for

struct download {
    int fd;
    uint64_t bytes;
    struct task *task;
    struct err *err;
};

static size_t take(char *bytes, size_t one, size_t count, void *user)
{
    struct download *download = user;
    int failed = os_pwrite(download->fd, bytes, one * count, download->bytes);
    if (failed) {
        err_set_errno(download->err, -failed, "the download cannot be written");
        return 0;
    }
    download->bytes += one * count;
    return one * count;
}

static int tell(void *user, curl_off_t total, curl_off_t done, curl_off_t up_total, curl_off_t up)
{
    const struct download *download = user;
    (void)up_total;
    (void)up;
    return task_progress(download->task, (uint64_t)done, (uint64_t)total) ? 0 : 1;
}

// What went wrong, with the server's status where there is one.
static int failed(CURL *curl, CURLcode code, const char *url, struct err *err)
{
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return code == CURLE_HTTP_RETURNED_ERROR
               ? err_set(err, ERR_HOST, "'%.200s': the server says %ld", url, status)
               : err_set(err, ERR_HOST, "'%.200s': %s", url, curl_easy_strerror(code));
}

static void begin_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static CURL *prepare(const char *url, bool verify, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, begin_curl);
    CURL *curl = curl_easy_init();
    if (!curl) {
        err_set(err, ERR_LIMIT, "libcurl does not start");
        return NULL;
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTIONS_MAX);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
    return curl;
}

int storage_download(const char *url, const char *path, bool verify, struct task *task,
                     struct err *err)
{
    struct download download = {.task = task, .err = err};
    CURL *curl = prepare(url, verify, err);
    download.fd = curl ? os_file_open(path, OS_FILE_WRITE | OS_FILE_TRUNCATE, err) : -1;
    if (download.fd < 0) {
        curl_easy_cleanup(curl);
        return -1;
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &download);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, tell);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &download);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    CURLcode code = curl_easy_perform(curl);
    int result = code == CURLE_OK                    ? 0
                 : code == CURLE_ABORTED_BY_CALLBACK ? task_cancelled(err)
                 : err->code                         ? -1
                                                     : failed(curl, code, url, err);
    if (!result)
        task_log(task, "%llu bytes from '%s'", (unsigned long long)download.bytes, url);
    curl_easy_cleanup(curl);
    os_file_close(&download.fd);
    return result;
}

// "…; filename=x" of a header, or the last part of the path.
static void set_name(json_t *facts, const char *url)
{
    size_t length = strcspn(url, "?#");
    const char *slash = memrchr(url, '/', length);
    const char *name = slash ? slash + 1 : url;
    json_object_set_new(facts, "filename", json_stringn(name, length - (size_t)(name - url)));
}

json_t *storage_url_facts(const char *url, bool verify, struct err *err)
{
    CURL *curl = prepare(url, verify, err);
    if (!curl)
        return NULL;
    json_t *facts = json_object();
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)FACTS_SECONDS);
    CURLcode code = curl_easy_perform(curl);
    curl_off_t size = -1;
    const char *type = NULL, *last = NULL;
    curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &last);
    set_name(facts, last ? last : url);
    if (size >= 0)
        json_object_set_new(facts, "size", json_integer(size));
    if (type)
        json_object_set_new(facts, "mimetype", json_stringn(type, strcspn(type, "; ")));
    if (code != CURLE_OK) {
        failed(curl, code, url, err);
        json_decref(facts);
        facts = NULL;
    }
    curl_easy_cleanup(curl);
    return facts;
}
