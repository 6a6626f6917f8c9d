// SPDX-License-Identifier: Apache-2.0
#include "os/layout.h"

#include "os/process.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LOADER        "/lib64/ld-linux-x86-64.so.2"
#define ASK           0xFFFFFFFFul
#define MAX_ARGUMENTS 16
#define PAGE          4096u

static bool in_slot(void)
{
    void *fresh = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return false;
    munmap(fresh, PAGE);
    // Our own code, the C library's, and what is mapped from now on.
    return os_layout_in_slot((const void *)(uintptr_t)os_layout_enter) &&
           os_layout_in_slot((const void *)(uintptr_t)malloc) && os_layout_in_slot(fresh);
}

// A page that nobody may touch right behind the heap: brk() fails, malloc maps instead.
static void block_heap(void)
{
    uintptr_t end = ((uintptr_t)sbrk(0) + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    (void)!mmap((void *)end, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                0);
}

// The personality is the caller's for a moment, and the child's for good.
int os_layout_start(const char *program, char *const arguments[], const int *fds, size_t fd_count,
                    const int standard[3], pid_t *pid, struct err *err)
{
    char *words[MAX_ARGUMENTS + 3] = {(char *)LOADER, (char *)(uintptr_t)program};
    for (unsigned i = 1; i <= MAX_ARGUMENTS && arguments[i]; i++)
        words[i + 1] = arguments[i];
    int before = personality(ASK);
    if (before == -1 || access(LOADER, X_OK) ||
        personality((unsigned long)before | ADDR_COMPAT_LAYOUT) == -1)
        return os_process_start_with(program, arguments, fds, fd_count, standard, pid, err);
    int result = os_process_start_with(LOADER, words, fds, fd_count, standard, pid, err);
    personality((unsigned long)before);
    return result;
}

// The loader, our file, and the words that we were given. Returns only on failure.
static void start_again(char **argv, const char *program)
{
    char *words[MAX_ARGUMENTS + 3] = {(char *)LOADER, (char *)(uintptr_t)program};
    unsigned count = 2;
    for (char **word = argv + 1; *word && count < MAX_ARGUMENTS + 2; word++)
        words[count++] = *word;
    execv(LOADER, words);
}

bool os_layout_enter(char **argv)
{
    int before = personality(ASK);
    if (in_slot()) {
        prctl(PR_SET_NAME, "wirt-vm"); // the loader's name otherwise
        block_heap();
        return true;
    }
    if (before == -1 || (before & ADDR_NO_RANDOMIZE))
        return false;
    char path[PATH_MAX] = {0};
    bool first = !(before & ADDR_COMPAT_LAYOUT);
    // Under the loader /proc/self/exe is the loader, and our path the first word.
    if (first && readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
        return false;
    unsigned long wanted =
        (unsigned long)before | ADDR_COMPAT_LAYOUT | (first ? 0 : ADDR_NO_RANDOMIZE);
    if (personality(wanted) != -1)
        start_again(argv, first ? path : argv[0]);
    personality((unsigned long)before);
    return false;
}
