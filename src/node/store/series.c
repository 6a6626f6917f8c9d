// SPDX-License-Identifier: Apache-2.0
#include "node/store/series.h"

#include <string.h>

#include "os/file.h"

#define SLOTS 70u

static const struct frame {
    const char *name;
    uint64_t seconds; // of a slot
} frames[] = {{"hour", 60}, {"day", 1800}, {"week", 10800}, {"month", 43200}, {"year", 604800}};
#define FRAMES (sizeof(frames) / sizeof(frames[0]))

// What a slot is in the file: of this machine's own byte order, as the file stays here.
struct slot {
    uint64_t number; // the slot's time, divided by its length: tells old content from new
    uint64_t samples;
    double sum[SERIES_VALUES_MAX], max[SERIES_VALUES_MAX];
};

static uint64_t offset_of(size_t frame, uint64_t number)
{
    return (frame * SLOTS + number % SLOTS) * sizeof(struct slot);
}

static int add_to(int fd, size_t frame, uint64_t time_s, const double *values, size_t count)
{
    struct slot slot;
    uint64_t number = time_s / frames[frame].seconds;
    int failed = os_pread(fd, &slot, sizeof(slot), offset_of(frame, number));
    if (failed)
        return failed;
    if (slot.number != number)
        slot = (struct slot){.number = number};
    for (size_t i = 0; i < count; i++) {
        slot.sum[i] += values[i];
        if (!slot.samples || values[i] > slot.max[i])
            slot.max[i] = values[i];
    }
    slot.samples++;
    return os_pwrite(fd, &slot, sizeof(slot), offset_of(frame, number));
}

int series_add(const char *path, uint64_t time_s, const double *values, size_t count,
               struct err *err)
{
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE, err);
    if (fd < 0)
        return -1;
    int failed = 0;
    for (size_t frame = 0; frame < FRAMES && !failed; frame++)
        failed = add_to(fd, frame, time_s, values, count);
    os_file_close(&fd);
    return failed ? err_set_errno(err, -failed, "measurements cannot be written to '%s'", path) : 0;
}

static json_t *row_of(const struct slot *slot, uint64_t time_s, bool maximum,
                      const char *const *names, size_t count)
{
    json_t *row = json_pack("{s:I}", "time", (json_int_t)time_s);
    for (size_t i = 0; i < count && slot->samples; i++)
        json_object_set_new(
            row, names[i],
            json_real(maximum ? slot->max[i] : slot->sum[i] / (double)slot->samples));
    return row;
}

json_t *series_read(const char *path, const char *timeframe, bool maximum, const char *const *names,
                    size_t count, uint64_t now_s)
{
    size_t frame = 0;
    while (frame < FRAMES && strcmp(frames[frame].name, timeframe) != 0)
        frame++;
    if (frame == FRAMES)
        return NULL;
    int fd = os_file_open(path, 0, NULL);
    json_t *rows = json_array();
    uint64_t last = now_s / frames[frame].seconds;
    for (uint64_t number = last - SLOTS + 1; number <= last; number++) {
        struct slot slot = {0};
        if (fd < 0 || os_pread(fd, &slot, sizeof(slot), offset_of(frame, number)) ||
            slot.number != number)
            slot.samples = 0;
        json_array_append_new(rows,
                              row_of(&slot, number * frames[frame].seconds, maximum, names, count));
    }
    os_file_close(&fd);
    return rows;
}
