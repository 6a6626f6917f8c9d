// SPDX-License-Identifier: Apache-2.0
//
// /nodes/{node}/tasks.
#include <stdio.h>
#include <string.h>

#include "node/rest/rest.h"

static int get_tasks(struct api_call *call, struct err *err)
{
    uint64_t total;
    char vmid[24] = "";
    (void)err;
    const char *source = api_string(call, "source");
    bool all = api_permitted(call, "/nodes/{node} Sys.Audit", NULL);
    const char *status = api_boolean(call, "errors") ? "error" : api_string(call, "statusfilter");
    if (json_object_get(call->params, "vmid"))
        snprintf(vmid, sizeof(vmid), "%lld", (long long)api_integer(call, "vmid", 0));
    struct task_filter filter = {.type = api_string(call, "typefilter"),
                                 .user = api_string(call, "userfilter"),
                                 .vmid = *vmid ? vmid : NULL,
                                 .status = status,
                                 .owner = all ? NULL : call->who.id,
                                 .active = !source || strcmp(source, "archive") != 0,
                                 .archived = !source || strcmp(source, "active") != 0,
                                 .since = (uint64_t)api_integer(call, "since", 0),
                                 .until = (uint64_t)api_integer(call, "until", 0),
                                 .start = (uint64_t)api_integer(call, "start", 0),
                                 .limit = (uint64_t)api_integer(call, "limit", 50)};
    call->data = tasks_list(rest_node(call)->tasks, &filter, &total);
    call->extra = json_pack("{s:I}", "total", (json_int_t)total);
    return 0;
}

static int no_task(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no such task");
}

static int get_status(struct api_call *call, struct err *err)
{
    call->data = tasks_status(rest_node(call)->tasks, api_string(call, "upid"));
    return call->data ? 0 : no_task(err);
}

static int get_log(struct api_call *call, struct err *err)
{
    uint64_t total;
    call->data = tasks_log(rest_node(call)->tasks, api_string(call, "upid"),
                           (uint64_t)api_integer(call, "start", 0),
                           (uint64_t)api_integer(call, "limit", 50), &total);
    if (!call->data)
        return no_task(err);
    call->extra = json_pack("{s:I}", "total", (json_int_t)total);
    return 0;
}

static int delete_task(struct api_call *call, struct err *err)
{
    return tasks_cancel(rest_node(call)->tasks, api_string(call, "upid"), err);
}

#define COUNT(NAME, ABOUT)                                                                         \
    {                                                                                              \
        .name = NAME, .type = API_INTEGER, .optional = true, .min = 0, .max = INT64_MAX,           \
        .about = ABOUT                                                                             \
    }
#define MINE "task(upid) | /nodes/{node} "

const struct endpoint rest_tasks[] = {
    {.method = "GET",
     .path = "/nodes/{node}/tasks",
     .about = "Tasks, the latest first.",
     .permission = "user",
     .filter = "task(upid) | /nodes/{node} Sys.Audit",
     .returns = "[{upid:string, node:string, type:string, id:string, user:string, starttime:int, "
                "pid:int, pstart:int, endtime?:int, status?:string, progress?:number}]",
     .handler = get_tasks,
     .params =
         (const struct api_param[]){
             COUNT("start", "how many to pass over"),
             COUNT("limit", "how many at most"),
             COUNT("since", "started at or after"),
             COUNT("until", "started at or before"),
             {.name = "vmid",
              .type = API_INTEGER,
              .optional = true,
              .min = GUEST_ID_MIN,
              .max = GUEST_ID_MAX,
              .about = "of this guest"},
             {.name = "errors", .type = API_BOOLEAN, .optional = true, .about = "only failed ones"},
             {.name = "source",
              .type = API_STRING,
              .optional = true,
              .values = "all|active|archive",
              .about = "running ones, ended ones"},
             {.name = "typefilter",
              .type = API_STRING,
              .optional = true,
              .max = 64,
              .about = "of this type"},
             {.name = "userfilter",
              .type = API_STRING,
              .optional = true,
              .max = 120,
              .about = "of such a user"},
             {.name = "statusfilter",
              .type = API_STRING,
              .optional = true,
              .values = "ok|error",
              .about = "that ended so"},
             {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/tasks/{upid}/status",
     .about = "How a task is doing.",
     .permission = MINE "Sys.Audit",
     .handler = get_status,
     .returns = "{upid:string, node:string, type:string, id:string, user:string, starttime:int, "
                "pid:int, pstart:int, status:string, exitstatus?:string, endtime?:int, "
                "progress?:number, result?:any}"},
    {.method = "GET",
     .path = "/nodes/{node}/tasks/{upid}/log",
     .about = "A task's log.",
     .permission = MINE "Sys.Audit",
     .returns = "[{n:int, t:string}]",
     .handler = get_log,
     .params = (const struct api_param[]){COUNT("start", "lines to pass over"),
                                          COUNT("limit", "lines at most"),
                                          {.name = NULL}}},
    {.method = "DELETE",
     .path = "/nodes/{node}/tasks/{upid}",
     .about = "Ask a task to stop.",
     .permission = MINE "Sys.Modify",
     .returns = "null",
     .handler = delete_task},
    {.method = NULL},
};
