// SPDX-License-Identifier: Apache-2.0
//
// `wirt disk`: what its commands share. Each command is a function over parsed words; disk.c has the table of
// commands and flags.
#ifndef WIRT_CLI_DISK_H
#define WIRT_CLI_DISK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/block/block_image.h"

#define DISK_OPERANDS_MAX 4

struct block_bitmap;
struct block_node;

struct disk_words {
    const char *operand[DISK_OPERANDS_MAX];
    int operands;
    // NULL where the flag was not given.
    const char *format, *source_format, *backing, *backing_format, *preallocate, *cluster_size,
        *compression, *version, *refcount_bits, *workers, *granularity, *snapshot, *depth, *block,
        *backing_folder, *seconds, *count, *step;
    bool compress, repair, json, force, unsafe, shrink, write, lazy_refcounts, direct, random,
        no_lock, bitmaps, one_buffer;
};

// Each returns 0 and prints its result, or -1 with err set; *status may be set to another exit status.
int disk_create(const struct disk_words *words, int *status, struct err *err);
int disk_convert(const struct disk_words *words, int *status, struct err *err);
int disk_info(const struct disk_words *words, int *status, struct err *err);
int disk_map(const struct disk_words *words, int *status, struct err *err);
int disk_check(const struct disk_words *words, int *status, struct err *err);
int disk_resize(const struct disk_words *words, int *status, struct err *err);
int disk_commit(const struct disk_words *words, int *status, struct err *err);
int disk_rebase(const struct disk_words *words, int *status, struct err *err);
int disk_compare(const struct disk_words *words, int *status, struct err *err);
int disk_snapshot(const struct disk_words *words, int *status, struct err *err);
int disk_bitmap(const struct disk_words *words, int *status, struct err *err);
int disk_bench(const struct disk_words *words, int *status, struct err *err);

// ---- Shared by them (disk_open.c)
struct disk_opening {
    const char *format; // NULL: by header
    bool read_only;
    bool alone; // without its backing chain
    bool repair;
    bool direct;
    bool no_lock;
    enum block_durability durability;
};
// Backing files may lie in that directory (NULL: none), besides that of the image that names them. One command is one process.
void disk_allow_backing(const char *folder);
struct block_disk *disk_open(const char *path, const struct disk_opening *how,
                             struct block_chain *chain, struct err *err);
void disk_print_names(void); // of the commands, for completion (disk.c)
// Makes a new file for an image; an existing one only with `force`. Returns the descriptor, locked for writing.
int disk_new_file(const char *path, bool force, struct err *err);
// The format stated, or by suffix.
const char *disk_target_format(const char *path, const char *stated, struct err *err);
int disk_parse_size(const char *what, const char *text, uint64_t *bytes, struct err *err);
void disk_print_json(json_t *value);                      // takes it over
json_t *disk_bitmaps_json(const struct block_node *node); // disk_bitmap.c
const char *disk_bitmap_state(const struct block_bitmap *bitmap);

// ---- Progress on standard error, when that is a terminal (disk_progress.c)
struct disk_progress {
    const char *what;
    bool shown;        // is it a terminal?
    uint64_t start_ns; // when it began
};
void disk_progress_begin(struct disk_progress *progress, const char *what);
// For block_copy and its like: `user` is the struct.
bool disk_progress_tell(void *user, uint64_t done, uint64_t total);
void disk_progress_end(struct disk_progress *progress);
// From now on the signals that ask a command to end are noticed by disk_progress_tell(), which says stop. Before any thread is started.
void disk_heed_signals(void);
int disk_interrupted(void); // the signal that came, or 0

#endif
