// SPDX-License-Identifier: Apache-2.0
#include "sequence.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "os/file.h"

static const char *name;
static uint64_t sequence_seed, random_state;

void sequence_failed(const char *file, int line, const char *condition, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: %s; ", file, line, condition);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nrepeat with: %s 1 %" PRIu64 "\n", name, sequence_seed);
    va_end(arguments);
    exit(1);
}

uint64_t random_u64(void)
{
    random_state += 0x9e3779b97f4a7c15ull;
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t below(uint64_t n)
{
    return random_u64() % n;
}

void sequence_begin(const char *program, uint64_t seed)
{
    name = program;
    random_state = sequence_seed = seed;
}

void sequences_run(const char *program, int argc, char **argv, uint64_t count, void (*run)(void))
{
    const char *given = argc > 1 ? argv[1] : getenv("SEED");
    if (argc > 0)
        count = strtoull(argv[0], NULL, 10);
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000;
    printf("%s: %" PRIu64 " sequences from seed %" PRIu64 "\n", name, count, seed);
    fflush(stdout);
    for (uint64_t i = 0; i < count; i++) {
        sequence_begin(program, seed + i);
        run();
    }
}

int memory_file(void)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    CHECK(fd >= 0, "memfd");
    return fd;
}

void copy_file(int from, int to)
{
    uint64_t size;
    CHECK(os_file_size(from, &size) == 0, "size");
    uint8_t *bytes = malloc(size + 1);
    CHECK(os_pread(from, bytes, size, 0) == 0 && os_file_truncate(to, 0) == 0, "copy");
    CHECK(os_pwrite(to, bytes, size, 0) == 0, "copy");
    free(bytes);
}
