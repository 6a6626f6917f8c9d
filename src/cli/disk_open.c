// SPDX-License-Identifier: Apache-2.0
//
// Opening and making image files for the commands. Formats may be found by looking at headers here: a person
// asks about this file now, no guest has a word in it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bits.h"
#include "base/units.h"
#include "cli/disk.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_remote.h"
#include "os/file.h"

#define METADATA_BYTES                                                                             \
    (256 * MIB) // commands work on one or two disks: they may cache all of their tables

static const char *backing_folders[] = {"", NULL, NULL};

void disk_allow_backing(const char *folder)
{
    backing_folders[1] = folder;
}

// Suffixes that belong to one format. Images of any are called .img and .iso: there the header tells.
static const char *format_of(const char *path, const char *stated)
{
    const struct block_format *format = block_format_by_suffix(path);
    bool own =
        format && !block_is_remote(path) && !strcasecmp(strrchr(path, '.') + 1, format->name);
    return stated || !own ? stated : format->name;
}

struct block_disk *disk_open(const char *path, const struct disk_opening *how,
                             struct block_chain *chain, struct err *err)
{
    struct block_chain_rules rules = {
        .format = format_of(path, how->format),
        .probe = true,
        .read_only = how->read_only,
        .direct = how->direct,
        .no_lock = how->no_lock,
        .allowed = backing_folders,
        .depth_max = how->alone ? 1 : 0,
    };
    chain->length = 0;
    if (how->no_lock && !how->read_only) {
        err_set(err, ERR_USAGE, "--no-lock is for looking only: two writers would destroy '%s'",
                path);
        return NULL;
    }
    if (block_chain_open(chain, path, &rules, err))
        return NULL;
    struct block_options options = {
        .read_only = how->read_only,
        .repair = how->repair,
        .durability = how->durability,
        .metadata_bytes = METADATA_BYTES,
    };
    struct block_disk *disk = block_chain_disk(chain, &options, err);
    if (!disk)
        block_chain_close(chain);
    return disk;
}

int disk_new_file(const char *path, bool force, struct err *err)
{
    unsigned flags =
        OS_FILE_NO_WAIT | OS_FILE_WRITE | OS_FILE_CREATE | (force ? 0 : OS_FILE_EXCLUSIVE);
    int fd = os_file_open(path, flags, err);
    if (fd < 0) {
        if (err->code == ERR_EXISTS)
            err_set(err, ERR_EXISTS, "'%s' exists already; use --force to overwrite it", path);
        return -1;
    }
    // Emptied only after the lock, so that nobody's disk is lost by --force.
    struct os_file_facts facts;
    if (block_lock_take(fd, true, path, err)) {
        os_file_close(&fd);
        return -1;
    }
    int rc = os_file_facts(fd, &facts);
    if (!rc && facts.regular && facts.size_bytes)
        rc = os_file_truncate(fd, 0);
    if (rc) {
        err_set_errno(err, -rc, "cannot overwrite '%s'", path);
        os_file_close(&fd);
    }
    return fd;
}

const char *disk_target_format(const char *path, const char *stated, struct err *err)
{
    if (stated)
        return stated;
    if (block_is_remote(path))
        return "raw";
    const struct block_format *format = block_format_by_suffix(path);
    if (!format)
        err_set(err, ERR_USAGE, "the suffix of '%s' names no image format; state one with --format",
                path);
    return format ? format->name : NULL;
}

int disk_parse_size(const char *what, const char *text, uint64_t *bytes, struct err *err)
{
    if (units_parse_size(text, 1, bytes) && *bytes <= INT64_MAX)
        return 0;
    return err_set(err, ERR_USAGE, "%s '%s' is not a size; write it as 10G or 512M", what, text);
}

void disk_print_json(json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    puts(text ? text : "null");
    free(text);
    json_decref(value);
}
