// SPDX-License-Identifier: Apache-2.0
//
// wirt-bench: runs workloads and prints a line for each.
//
//     wirt-bench list                            names
//     wirt-bench run SCALE [NAME...]             "BENCH name seconds iterations" each; all without a name
//     wirt-bench time NAME ITERATIONS COMMAND... the same for a command
//     wirt-bench data FILE MIB                   a file of words, half of it compressible, always the same
//     wirt-bench nothing                         ends at once (what forkexec runs)
//
// Time is CLOCK_MONOTONIC. A workload that cannot run here prints "SKIP name why".
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

volatile uint64_t bench_sink;

static const struct workload *const groups[] = {integer_workloads, floating_workloads,
                                                memory_workloads,  code_workloads,
                                                kernel_workloads,  thread_workloads};

void bench_die(const char *what)
{
    fprintf(stderr, "wirt-bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void report(const char *name, double took, uint64_t iterations)
{
    printf("BENCH %s %.4f %llu\n", name, took, (unsigned long long)iterations);
    fflush(stdout);
}

static void run(const struct workload *workload, double scale)
{
    const char *why = workload->missing ? workload->missing() : NULL;
    if (why) {
        printf("SKIP %s %s\n", workload->name, why);
        return;
    }
    uint64_t iterations = (uint64_t)((double)workload->unit * scale);
    if (iterations == 0)
        iterations = 1;
    double start = seconds();
    workload->run(iterations);
    report(workload->name, seconds() - start, iterations);
}

static int is_wanted(const char *name, char **names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return count == 0;
}

static void for_each(double scale, char **names, int count)
{
    for (size_t group = 0; group < sizeof groups / sizeof groups[0]; group++)
        for (const struct workload *workload = groups[group]; workload->name; workload++)
            if (is_wanted(workload->name, names, count)) {
                if (scale > 0)
                    run(workload, scale);
                else
                    puts(workload->name);
            }
}

static int time_command(const char *name, uint64_t iterations, char **command)
{
    double start = seconds();
    pid_t pid = fork();
    if (pid == 0) {
        int nothing = open("/dev/null", O_RDWR);
        dup2(nothing, 0);
        dup2(nothing, 1);
        execvp(command[0], command);
        _exit(127);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    if (status == 0)
        report(name, seconds() - start, iterations);
    else
        printf("FAIL %s status %d\n", name, status);
    return status != 0;
}

static int write_data(const char *path, uint64_t mib)
{
    static char words[4096][12];
    uint64_t random = 5;
    for (size_t i = 0; i < 4096; i++) {
        size_t length = 3 + bench_random(&random) % 8;
        for (size_t c = 0; c < length; c++)
            words[i][c] = (char)('a' + bench_random(&random) % 26);
    }
    FILE *file = fopen(path, "w");
    if (!file)
        bench_die(path);
    for (uint64_t left = mib << 20; left > 0;) {
        // Small indices come more often, as some words do; each 32nd word is noise.
        uint64_t r = bench_random(&random), skewed = (r >> 8) % 4096 * ((r >> 20) % 4096) / 4096;
        char text[32];
        int length = r % 32 ? snprintf(text, sizeof text, "%s ", words[skewed])
                            : snprintf(text, sizeof text, "%llx\n",
                                       (unsigned long long)bench_random(&random));
        size_t count = (size_t)length < left ? (size_t)length : left;
        fwrite(text, 1, count, file);
        left -= count;
    }
    return fclose(file) ? 1 : 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "nothing") == 0)
        return 0;
    if (strcmp(verb, "list") == 0) {
        for_each(0, NULL, 0);
        return 0;
    }
    if (strcmp(verb, "run") == 0 && argc > 2 && strtod(argv[2], NULL) > 0) {
        for_each(strtod(argv[2], NULL), argv + 3, argc - 3);
        return 0;
    }
    if (strcmp(verb, "time") == 0 && argc > 4)
        return time_command(argv[2], strtoull(argv[3], NULL, 10), argv + 4);
    if (strcmp(verb, "data") == 0 && argc == 4)
        return write_data(argv[2], strtoull(argv[3], NULL, 10));
    fputs("wirt-bench: list | run SCALE [NAME...] | time NAME ITERATIONS COMMAND... | data FILE "
          "MIB\n",
          stderr);
    return 2;
}
