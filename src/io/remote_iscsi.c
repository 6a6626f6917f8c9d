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

static int result(struct scsi_task *task)
{
    if (!task)
        return -ENOTCONN;
    int rc = -EIO;
    if (task->status == SCSI_STATUS_GOOD)
        rc = 0;
    else if (task->status == SCSI_STATUS_CHECK_CONDITION &&
             task->sense.key == SCSI_SENSE_ILLEGAL_REQUEST)
        rc = -EINVAL;
    else if (task->status == SCSI_STATUS_CHECK_CONDITION &&
             task->sense.key == SCSI_SENSE_DATA_PROTECTION)
        rc = -EPERM;
    // Ours are numbers of its own beside the status bytes: the transport failed.
    else if (task->status == SCSI_STATUS_ERROR || task->status == SCSI_STATUS_CANCELLED ||
             task->status == SCSI_STATUS_TIMEOUT)
        rc = -ENOTCONN;
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

static int remote_read(struct remote *remote, void *bytes, uint32_t length, uint64_t offset)
{
    struct session *s = session_of(remote);
    struct scsi_task *task = iscsi_read16_sync(s->iscsi, s->lun, offset / remote->block, length,
                                               (int)remote->block, 0, 0, 0, 0, 0);
    if (task && task->status == SCSI_STATUS_GOOD) {
        if (task->datain.size < 0 || (uint32_t)task->datain.size != length) {
            scsi_free_scsi_task(task);
            return -EIO;
        }
        memcpy(bytes, task->datain.data, length);
    }
    return result(task);
}

static int remote_write(struct remote *remote, const void *bytes, uint32_t length, uint64_t offset)
{
    struct session *s = session_of(remote);
    return result(iscsi_write16_sync(s->iscsi, s->lun, offset / remote->block,
                                     (unsigned char *)(uintptr_t)bytes, length, (int)remote->block,
                                     0, 0, 0, 0, 0));
}

static int remote_flush(struct remote *remote)
{
    struct session *s = session_of(remote);
    return result(iscsi_synchronizecache16_sync(s->iscsi, s->lun, 0, 0, 0, 0));
}

static int remote_trim(struct remote *remote, uint32_t length, uint64_t offset)
{
    struct session *s = session_of(remote);
    struct unmap_list list = {.lba = offset / remote->block, .num = length / remote->block};
    return result(iscsi_unmap_sync(s->iscsi, s->lun, 0, 0, &list, 1));
}

const struct remote_ops remote_ops = {
    .scheme = "iscsi",
    .open = remote_open,
    .close = remote_close,
    .read = remote_read,
    .write = remote_write,
    .flush = remote_flush,
    .trim = remote_trim,
};
