// SPDX-License-Identifier: Apache-2.0
//
// /nodes/{node}/storage/{storage}/upload, download-url and /nodes/{node}/query-url-metadata: files that come from outside.
#include <stdio.h>
#include <string.h>

#include "node/rest/rest.h"
#include "os/directory.h"
#include "os/file.h"

// Is this a place for it, and does no guest use what stands there?
static int check_place(struct api_call *call, const char *name, struct err *err)
{
    struct node *node = rest_node(call);
    char path[VOLUME_PATH_BYTES], volid[VOLUME_ID_BYTES];
    const char *id = api_string(call, "storage"), *content = api_string(call, "content");
    const char *algorithm = api_string(call, "checksum-algorithm");
    if (!name || !*name)
        return api_refuse(call, err, "filename", "is missing");
    if (storage_file_path(node->storage, id, content, name, path, err))
        return err->code == ERR_USAGE ? api_refuse(call, err, "filename", "%s", err->text) : -1;
    if (algorithm && !storage_known_sum(algorithm))
        return api_refuse(call, err, "checksum-algorithm",
                          "is none of md5, sha1, sha224, sha256, sha384, sha512");
    if (!algorithm != !api_string(call, "checksum"))
        return api_refuse(call, err, "checksum", "goes with checksum-algorithm");
    snprintf(volid, sizeof(volid), "%s:%s/%s", id, content, name);
    return guests_use_volume(node->guests, volid)
               ? err_set(err, ERR_BUSY, "volume '%s' is in use by a guest", volid)
               : 0;
}

static int arrive(struct node *node, const char *path, struct task *task, const json_t *params,
                  struct err *err)
{
    struct storage_arrival arrival = {.id = api_param_string(params, "storage"),
                                      .content = api_param_string(params, "content"),
                                      .name = api_param_string(params, "filename"),
                                      .path = path,
                                      .checksum = api_param_string(params, "checksum"),
                                      .algorithm = api_param_string(params, "checksum-algorithm")};
    return storage_arrive(node->storage, &arrival, task, err);
}

// ---- Upload. The file is there already; renamed, it is the task's.

static int check_upload(struct api_call *call, struct err *err)
{
    char kept[VOLUME_PATH_BYTES];
    if (!call->upload)
        return api_refuse(call, err, "filename", "is sent as multipart/form-data");
    if (check_place(call, api_string(call, "filename"), err))
        return -1;
    snprintf(kept, sizeof(kept), "%.4000s.task", call->upload);
    json_object_set_new(call->params, "upload", json_string(kept));
    return os_file_rename(call->upload, kept, err);
}

static int work_upload(struct task *task, void *context, const json_t *params, struct err *err)
{
    return arrive(context, api_param_string(params, "upload"), task, params, err);
}

// ---- Download.

static int check_url(struct api_call *call, struct err *err)
{
    const char *url = api_string(call, "url");
    return strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0
               ? api_refuse(call, err, "url", "begins with http:// or https://")
               : 0;
}

static int check_download(struct api_call *call, struct err *err)
{
    if (check_url(call, err))
        return -1;
    if (api_string(call, "compression"))
        return api_refuse(call, err, "compression", "files are kept as they come");
    return check_place(call, api_string(call, "filename"), err);
}

static int work_download(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    char path[VOLUME_PATH_BYTES];
    int fd = storage_spool(node->storage, api_param_string(params, "storage"), 0, path, err);
    if (fd < 0)
        return -1;
    os_file_close(&fd);
    if (!storage_download(api_param_string(params, "url"), path,
                          api_param_integer(params, "verify-certificates", 1) != 0, task, err))
        return arrive(node, path, task, params, err);
    os_file_remove(path);
    return -1;
}

static int get_url_facts(struct api_call *call, struct err *err)
{
    if (check_url(call, err))
        return -1;
    call->data = storage_url_facts(api_string(call, "url"),
                                   api_integer(call, "verify-certificates", 1) != 0, err);
    return call->data ? 0 : -1;
}

// ---- The table.

#define P_FILE(NAME)                                                                               \
    {.name = "content",                                                                            \
     .type = API_STRING,                                                                           \
     .values = "iso|vztmpl|import|snippets|backup",                                                \
     .about = "what it is; decides where it goes"},                                                \
        {.name = "filename", .type = API_STRING, .max = 200, .about = NAME},                       \
        {.name = "checksum",                                                                       \
         .type = API_STRING,                                                                       \
         .optional = true,                                                                         \
         .max = 130,                                                                               \
         .about = "of the file, in hexadecimal"},                                                  \
    {                                                                                              \
        .name = "checksum-algorithm", .type = API_STRING, .optional = true, .max = 16,             \
        .about = "md5, sha1, sha224, sha256, sha384, sha512"                                       \
    }
#define P_VERIFY                                                                                   \
    {                                                                                              \
        .name = "verify-certificates", .type = API_BOOLEAN, .fallback = "1", .about = "of https"   \
    }

const struct endpoint rest_storage_files[] = {
    {.method = "POST",
     .path = "/nodes/{node}/storage/{storage}/upload",
     .about = "Upload a file: multipart/form-data, `content` before the file, whose part is named "
              "filename.",
     .permission = "/storage/{storage} Datastore.AllocateTemplate",
     .task = "imgcopy",
     .upload = true,
     .handler = check_upload,
     .work = work_upload,
     .params = (const struct api_param[]){P_FILE("the file, under its name"),
                                          {.name = "tmpfilename",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 4096,
                                           .about = "accepted"},
                                          {.name = NULL}}},
    {.method = "POST",
     .path = "/nodes/{node}/storage/{storage}/download-url",
     .about = "Get a file from the net.",
     .permission = "/storage/{storage} Datastore.AllocateTemplate & / Sys.Modify|Sys.AccessNetwork",
     .task = "download",
     .task_id = "filename",
     .handler = check_download,
     .work = work_download,
     .params =
         (const struct api_param[]){
             {.name = "url", .type = API_STRING, .max = 4096, .about = "http or https"},
             P_FILE("its name here"),
             P_VERIFY,
             {.name = "compression",
              .type = API_STRING,
              .optional = true,
              .max = 16,
              .about = "refused: files are kept as they come"},
             {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/query-url-metadata",
     .about = "What a URL would give.",
     .permission = "/ Sys.Audit|Sys.Modify & / Sys.Modify|Sys.AccessNetwork",
     .returns = "{filename:string, size?:int, mimetype?:string}",
     .slow = true,
     .handler = get_url_facts,
     .params =
         (const struct api_param[]){
             {.name = "url", .type = API_STRING, .max = 4096, .about = "http or https"},
             P_VERIFY,
             {.name = NULL}}},
    {.method = NULL},
};
