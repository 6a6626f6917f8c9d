// SPDX-License-Identifier: Apache-2.0
//
// iscsi://[USER[%PASSWORD]@]HOST[:PORT]/TARGET/LUN by libiscsi.
#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "io/io.h"
#include "wire/nbd.h"

#define INITIATOR  "iqn.2026-11.org.wirt:io"
#define TIMEOUT_S  10
#define ATTENTIONS 8 // that a new session has to report before it works
#define LENGTH_MAX (1 * MIB)

struct session {
    struct iscsi_context *iscsi;
    int lun;
};

static struct session *session_of(struct remote *remote)
{
    return remote->handle;
}

static int meaning(int status, const struct scsi_task *task)
{
    switch (status) {
    case SCSI_STATUS_GOOD:
        return 0;
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL:
        return -EAGAIN;
    case SCSI_STATUS_CHECK_CONDITION:
        if (task->sense.key == SCSI_SENSE_ILLEGAL_REQUEST)
            return -EINVAL;
        return task->sense.key == SCSI_SENSE_DATA_PROTECTION ? -EPERM : -EIO;
    // Numbers of its own beside the status bytes: the transport failed.
    case SCSI_STATUS_ERROR:
    case SCSI_STATUS_CANCELLED:
    case SCSI_STATUS_TIMEOUT:
        return -ENOTCONN;
    default:
        return -EIO;
    }
}

static int result(struct scsi_task *task)
{
    int rc = task ? meaning(task->status, task) : -ENOTCONN;
    if (task)
        scsi_free_scsi_task(task);
    return rc;
}

static void remote_close(struct remote *remote)
{
    struct session *s = session_of(remote);
    if (s && s->iscsi) {
        if (iscsi_is_logged_in(s->iscsi))
            (void)iscsi_logout_sync(s->iscsi);
        iscsi_destroy_context(s->iscsi);
    }
    free(s);
    remote->handle = NULL;
}

// A new session reports that things may have changed, once or twice.
static int wait_until_ready(struct session *s, struct err *err)
{
    for (int i = 0; i < ATTENTIONS; i++) {
        if (!result(iscsi_testunitready_sync(s->iscsi, s->lun)))
            return 0;
    }
    return err_set(err, ERR_IO, "the unit is not ready");
}

static int describe(struct remote *remote, struct err *err)
{
    struct session *s = session_of(remote);
    struct scsi_task *task = iscsi_readcapacity16_sync(s->iscsi, s->lun);
    struct scsi_readcapacity16 *rc16 =
        task && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
    if (!rc16 || !is_power_of_two(rc16->block_length) || rc16->block_length < 512 ||
        rc16->block_length > 65536 || rc16->returned_lba >= (1ull << 62) / rc16->block_length) {
        if (task)
            scsi_free_scsi_task(task);
        return err_set(err, ERR_IO, "the unit does not tell its size");
    }
    remote->block = rc16->block_length;
    remote->size = (rc16->returned_lba + 1) * rc16->block_length;
    remote->length_max = LENGTH_MAX;
    remote->can_trim = rc16->lbpme;
    remote->can_zero = false;
    scsi_free_scsi_task(task);
    return 0;
}

static int connect_to(struct session *s, const char *text, struct err *err)
{
    struct iscsi_url *url = iscsi_parse_full_url(s->iscsi, text);
    if (!url)
        return err_set(err, ERR_USAGE, "%s", iscsi_get_error(s->iscsi));
    s->lun = url->lun;
    iscsi_set_session_type(s->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(s->iscsi, ISCSI_HEADER_DIGEST_NONE_CRC32C);
    iscsi_set_timeout(s->iscsi, TIMEOUT_S);
    iscsi_set_noautoreconnect(s->iscsi, 1);
    bool bad =
        iscsi_set_targetname(s->iscsi, url->target) ||
        (url->user[0] && iscsi_set_initiator_username_pwd(s->iscsi, url->user, url->passwd)) ||
        iscsi_full_connect_sync(s->iscsi, url->portal, url->lun);
    iscsi_destroy_url(url);
    return bad ? err_set(err, ERR_IO, "%s", iscsi_get_error(s->iscsi)) : 0;
}

static int remote_open(const char *url, bool read_only, struct remote *remote, struct err *err)
{
    struct session *s = calloc(1, sizeof(*s));
    remote->handle = s;
    if (s)
        s->iscsi = iscsi_create_context(INITIATOR);
    if (!s || !s->iscsi)
        err_set(err, ERR_LIMIT, "no memory");
    if (!s || !s->iscsi || connect_to(s, url, err) || wait_until_ready(s, err) ||
        describe(remote, err)) {
        remote_close(remote);
        return -1;
    }
    return 0;
}

static int take_data(struct remote_op *op, const struct scsi_task *task)
{
    if (task->datain.size < 0 || (uint32_t)task->datain.size != op->length)
        return -EIO;
    memcpy(op->bytes, task->datain.data, op->length);
    return 0;
}

// The task is ours, and goes here even when the storage is being closed: then the operation is nobody's any more.
static void completed(struct iscsi_context *iscsi, int status, void *data, void *user)
{
    struct remote_op *op = user;
    struct scsi_task *task = op->task;
    int rc = task ? meaning(status, task) : -ENOTCONN;
    if (!rc && op->command == NBD_CMD_READ && op->under_way)
        rc = take_data(op, task);
    op->task = NULL;
    if (task)
        scsi_free_scsi_task(task);
    remote_op_end(op, rc);
}

static struct scsi_task *begin(struct session *s, struct remote_op *op)
{
    uint32_t block = op->remote->block;
    uint64_t lba = op->offset / block;
    switch (op->command) {
    case NBD_CMD_READ:
        return iscsi_read16_task(s->iscsi, s->lun, lba, op->length, (int)block, 0, 0, 0, 0, 0,
                                 completed, op);
    case NBD_CMD_WRITE:
        return iscsi_write16_task(s->iscsi, s->lun, lba, op->bytes, op->length, (int)block, 0, 0, 0,
                                  0, 0, completed, op);
    case NBD_CMD_FLUSH:
        return iscsi_synchronizecache16_task(s->iscsi, s->lun, 0, 0, 0, 0, completed, op);
    default: {
        struct unmap_list list = {.lba = lba, .num = op->length / block};
        return iscsi_unmap_task(s->iscsi, s->lun, 0, 0, &list, 1, completed, op);
    }
    }
}

static void remote_submit(struct remote_op *op)
{
    op->task = begin(session_of(op->remote), op);
    if (!op->task)
        remote_op_end(op, -ENOTCONN);
}

static struct pollfd remote_wait_for(struct remote *remote)
{
    struct iscsi_context *iscsi = session_of(remote)->iscsi;
    return (struct pollfd){.fd = iscsi_get_fd(iscsi), .events = (short)iscsi_which_events(iscsi)};
}

static int remote_serve(struct remote *remote, short events)
{
    return iscsi_service(session_of(remote)->iscsi, events) < 0 ? -ENOTCONN : 0;
}

const struct remote_ops remote_ops = {
    .scheme = "iscsi",
    .open = remote_open,
    .close = remote_close,
    .submit = remote_submit,
    .wait_for = remote_wait_for,
    .serve = remote_serve,
};
