// SPDX-License-Identifier: Apache-2.0
//
// `wirt disk info`, `map`, `check` and `compare`: they look and tell.
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "cli/disk.h"
#include "machine/block/bitmap.h"
#include "machine/block/block_copy.h"
#include "machine/block/block_driver.h"
#include "os/file.h"

static const struct block_image_ops *image_ops(const struct block_chain *chain)
{
    return block_format_find(chain->image[0].format)->image;
}

// ---- info

static void fact_to_json(void *user, const char *name, const char *value)
{
    json_object_set_new(user, name, json_string(value));
}

static void fact_to_text(void *user, const char *name, const char *value)
{
    printf("  %-16s %s\n", name, value);
}

static void allocated_text(const struct block_chain *chain, struct block_disk *disk,
                           uint64_t *bytes)
{
    struct block_node *file = block_disk_node(disk);
    struct os_file_facts facts = {0};
    while (file->next)
        file = file->next;
    os_file_facts(block_file_fd(file), &facts);
    *bytes = facts.allocated_bytes;
}

static void info_json(struct block_disk *disk, const struct block_chain *chain, uint64_t allocated)
{
    const struct block_image_ops *ops = image_ops(chain);
    json_t *facts = json_object(), *backing = json_array();
    if (ops && ops->info)
        ops->info(block_disk_node(disk), fact_to_json, facts);
    for (size_t i = 1; i < chain->length; i++)
        json_array_append_new(backing, json_pack("{s:s, s:s}", "file", chain->image[i].name,
                                                 "format", chain->image[i].format));
    disk_print_json(json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "file", chain->image[0].name,
                              "format", chain->image[0].format, "size",
                              (json_int_t)block_disk_size(disk), "allocated", (json_int_t)allocated,
                              "chain", backing, "details", facts, "bitmaps",
                              disk_bitmaps_json(block_disk_node(disk))));
}

static void info_text(struct block_disk *disk, const struct block_chain *chain, uint64_t allocated)
{
    const struct block_image_ops *ops = image_ops(chain);
    char size[UNITS_SIZE_TEXT_BYTES], taken[UNITS_SIZE_TEXT_BYTES];
    printf("%s\n", chain->image[0].name);
    printf("  %-16s %s\n", "format", chain->image[0].format);
    printf("  %-16s %s (%llu bytes)\n", "size", units_format_size(block_disk_size(disk), size),
           (unsigned long long)block_disk_size(disk));
    printf("  %-16s %s\n", "on disk", units_format_size(allocated, taken));
    if (ops && ops->info)
        ops->info(block_disk_node(disk), fact_to_text, NULL);
    for (size_t i = 1; i < chain->length; i++)
        printf("  %-16s %s (%s)\n", i == 1 ? "backing chain" : "", chain->image[i].name,
               chain->image[i].format);
    struct err err;
    int snapshots =
        ops && ops->snapshot_list ? ops->snapshot_list(block_disk_node(disk), NULL, 0, &err) : 0;
    if (snapshots > 0)
        printf("  %-16s %d\n", "snapshots", snapshots);
    for (const struct block_bitmap *b = block_disk_node(disk)->bitmaps; b; b = b->next)
        printf("  %-16s '%s': %s dirty, marks of %s, %s\n", "bitmap", b->name,
               units_format_size(block_bitmap_dirty_bytes(b), size),
               units_format_size(BIT(b->granularity_bits), taken), disk_bitmap_state(b));
}

int disk_info(const struct disk_words *w, int *status, struct err *err)
{
    struct block_chain chain;
    struct disk_opening how = {.format = w->format, .read_only = true, .no_lock = w->no_lock};
    struct block_disk *disk = disk_open(w->operand[0], &how, &chain, err);
    uint64_t allocated;
    if (!disk)
        return -1;
    allocated_text(&chain, disk, &allocated);
    if (w->json)
        info_json(disk, &chain, allocated);
    else
        info_text(disk, &chain, allocated);
    block_disk_close(disk);
    block_chain_close(&chain);
    return 0;
}

// ---- map

static const char *kind_of(const struct block_extent *e)
{
    return e->zero ? (e->allocated ? "zeros" : "nothing") : e->compressed ? "compressed" : "data";
}

static bool same_kind(const struct block_extent *a, const struct block_extent *b)
{
    bool joins = !a->host_valid || a->host_offset + a->length == b->host_offset;
    return a->zero == b->zero && a->allocated == b->allocated && a->compressed == b->compressed &&
           a->depth == b->depth && a->host_valid == b->host_valid && joins;
}

static void print_extent(json_t *list, const struct block_chain *chain, uint64_t at,
                         const struct block_extent *e)
{
    const char *file = e->allocated && e->depth < chain->length ? chain->image[e->depth].name : "";
    if (list) {
        json_t *row = json_pack("{s:I, s:I, s:s, s:i}", "start", (json_int_t)at, "length",
                                (json_int_t)e->length, "kind", kind_of(e), "depth", (int)e->depth);
        if (e->host_valid)
            json_object_set_new(row, "offset", json_integer((json_int_t)e->host_offset));
        json_array_append_new(list, row);
    } else if (e->host_valid) {
        printf("%#14llx %#14llx  %-10s %#14llx  %s\n", (unsigned long long)at,
               (unsigned long long)e->length, kind_of(e), (unsigned long long)e->host_offset, file);
    } else {
        printf("%#14llx %#14llx  %-10s %14s  %s\n", (unsigned long long)at,
               (unsigned long long)e->length, kind_of(e), "", file);
    }
}

static int map(struct block_disk *disk, const struct block_chain *chain, json_t *list)
{
    uint64_t size = block_disk_size(disk), start = 0;
    struct block_extent whole = {0};
    for (uint64_t at = 0; at < size;) {
        struct block_extent next;
        int rc = block_disk_extent(disk, at, size - at, &next);
        if (rc)
            return rc;
        at += next.length;
        if (whole.length && same_kind(&whole, &next)) {
            whole.length += next.length;
            continue;
        }
        if (whole.length)
            print_extent(list, chain, start, &whole);
        start = at - next.length;
        whole = next;
    }
    if (whole.length)
        print_extent(list, chain, start, &whole);
    return 0;
}

int disk_map(const struct disk_words *w, int *status, struct err *err)
{
    struct block_chain chain;
    struct disk_opening how = {.format = w->format, .read_only = true, .no_lock = w->no_lock};
    struct block_disk *disk = disk_open(w->operand[0], &how, &chain, err);
    if (!disk)
        return -1;
    json_t *list = w->json ? json_array() : NULL;
    if (!list)
        printf("%14s %14s  %-10s %14s  %s\n", "START", "LENGTH", "KIND", "OFFSET", "FILE");
    int rc = map(disk, &chain, list);
    if (list)
        disk_print_json(list);
    block_disk_close(disk);
    block_chain_close(&chain);
    return rc ? err_set_errno(err, -rc, "cannot map '%s'", w->operand[0]) : 0;
}

// ---- check

#define CHECK_MEMORY (1 * GIB)

static void print_finding(void *user, const char *finding)
{
    printf("  %s\n", finding);
}

static void check_verdict(const struct disk_words *w, const struct block_check *r)
{
    if (w->json) {
        disk_print_json(
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "file", w->operand[0],
                      "corruptions", (json_int_t)r->corruptions, "leaks", (json_int_t)r->leaks,
                      "needless copies", (json_int_t)r->needless_copies, "fixed",
                      (json_int_t)r->fixed, "clusters", (json_int_t)r->clusters, "allocated",
                      (json_int_t)r->allocated, "compressed", (json_int_t)r->compressed));
        return;
    }
    if (r->fixed)
        printf("%s: %llu faults repaired\n", w->operand[0], (unsigned long long)r->fixed);
    if (r->corruptions)
        printf("%s: %llu errors: data may be lost; copy what can be read, then try --repair\n",
               w->operand[0], (unsigned long long)r->corruptions);
    if (r->leaks + r->needless_copies)
        printf("%s: %llu clusters leaked, %llu would be copied needlessly: no data is in danger, "
               "--repair gives them back\n",
               w->operand[0], (unsigned long long)r->leaks, (unsigned long long)r->needless_copies);
    if (!r->corruptions && !r->leaks && !r->needless_copies)
        printf("%s: no faults; %llu of %llu clusters allocated, %llu compressed\n", w->operand[0],
               (unsigned long long)r->allocated, (unsigned long long)r->clusters,
               (unsigned long long)r->compressed);
}

int disk_check(const struct disk_words *w, int *status, struct err *err)
{
    struct block_chain chain;
    struct disk_opening how = {.format = w->format,
                               .read_only = !w->repair,
                               .repair = true,
                               .alone = true,
                               .no_lock = w->no_lock};
    struct block_disk *disk = disk_open(w->operand[0], &how, &chain, err);
    if (!disk)
        return -1;
    const struct block_image_ops *ops = image_ops(&chain);
    struct block_check result = {.report = w->json ? NULL : print_finding,
                                 .memory_limit = CHECK_MEMORY};
    int rc = 0;
    if (!ops || !ops->check)
        rc = err_set(err, ERR_UNSUPPORTED, "an image of format '%s' has nothing to check",
                     chain.image[0].format);
    else
        rc = ops->check(block_disk_node(disk), w->repair, &result, err);
    if (!rc)
        check_verdict(w, &result);
    int closed = block_disk_close(disk);
    block_chain_close(&chain);
    if (!rc && closed)
        rc = err_set_errno(err, -closed, "cannot write '%s'", w->operand[0]);
    *status = result.corruptions ? err_exit_status(ERR_INPUT) : 0;
    return rc;
}

// ---- compare

int disk_compare(const struct disk_words *w, int *status, struct err *err)
{
    disk_heed_signals();
    struct block_chain chain[2] = {{.length = 0}, {.length = 0}};
    struct block_disk *disk[2] = {NULL, NULL};
    struct disk_opening how = {.format = w->format, .read_only = true, .no_lock = w->no_lock};
    struct disk_progress progress;
    bool equal = false;
    uint64_t at = 0;
    disk[0] = disk_open(w->operand[0], &how, &chain[0], err);
    disk[1] = disk[0] ? disk_open(w->operand[1], &how, &chain[1], err) : NULL;
    int rc = disk[1] ? 0 : -1;
    if (!rc) {
        disk_progress_begin(&progress, "comparing");
        rc = block_compare(disk[0], disk[1], disk_progress_tell, &progress, &equal, &at);
        disk_progress_end(&progress);
        if (rc)
            rc = err_set_errno(err, -rc, "cannot compare '%s' and '%s'", w->operand[0],
                               w->operand[1]);
        else if (w->json)
            disk_print_json(equal ? json_pack("{s:b}", "equal", 1)
                                  : json_pack("{s:b, s:I}", "equal", 0, "offset", (json_int_t)at));
        else if (equal)
            puts("equal");
        else
            printf("they differ first at offset %llu\n", (unsigned long long)at);
    }
    for (int i = 0; i < 2; i++) {
        block_disk_close(disk[i]);
        block_chain_close(&chain[i]);
    }
    if (!rc && !equal)
        *status = err_exit_status(ERR_INPUT);
    return rc;
}
