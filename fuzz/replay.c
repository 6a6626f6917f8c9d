// SPDX-License-Identifier: Apache-2.0
//
// replay: gives files, or every file of folders, to a fuzz target, one after the other.
//
// This is what a fuzz target is linked with where there is no libFuzzer: the seed corpus becomes a test that runs with
// either compiler, and a crash that the fuzzer found is repeated by naming its file.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return -1;
    }
    size_t room = 1 << 20;
    uint8_t *bytes = malloc(room);
    size_t size = bytes ? fread(bytes, 1, room, file) : 0;
    // An exact allocation lets a sanitizer see a read past the end.
    uint8_t *exact = malloc(size ? size : 1);
    if (exact && bytes) {
        memcpy(exact, bytes, size);
        LLVMFuzzerTestOneInput(exact, size);
    }
    free(exact);
    free(bytes);
    fclose(file);
    return 0;
}

static int replay(const char *path, unsigned *count)
{
    DIR *folder = opendir(path);
    if (!folder) {
        *count += 1;
        return replay_file(path);
    }
    int result = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char inner[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (replay(inner, count))
            result = -1;
    }
    closedir(folder);
    return result;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    int result = LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        if (replay(argv[i], &count))
            result = 1;
    printf("%u inputs\n", count);
    return result ? 1 : 0;
}
