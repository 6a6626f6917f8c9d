// SPDX-License-Identifier: Apache-2.0
//
// What the guest's kernel does for a program: system calls, signals, switches, page faults, processes, files, sockets.
#include "workload.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PIECE 65536

static char piece[PIECE];

static void getppid_calls(uint64_t iterations)
{
    for (uint64_t i = 0; i < iterations; i++)
        syscall(SYS_getppid);
}

static void vdso_time(uint64_t iterations)
{
    struct timespec now = {0};
    for (uint64_t i = 0; i < iterations; i++)
        clock_gettime(CLOCK_MONOTONIC, &now);
    bench_sink = (uint64_t)now.tv_nsec;
}

static void rdtsc(uint64_t iterations)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++)
        sum ^= __rdtsc();
    bench_sink = sum;
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals = signals + 1;
}

static void signal_calls(uint64_t iterations)
{
    signal(SIGUSR1, on_signal);
    for (uint64_t i = 0; i < iterations; i++)
        kill(getpid(), SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
}

// A child, for its exit status to be waited for; the parent gets its pid, the child 0.
static pid_t child(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        bench_die("fork");
    return pid;
}

// A byte to another process and back.
static void pipe_turns(uint64_t iterations)
{
    int there[2], back[2];
    char byte = 1;
    if (pipe(there) || pipe(back))
        bench_die("pipe");
    pid_t pid = child();
    if (pid == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
            continue;
        _exit(0);
    }
    for (uint64_t i = 0; i < iterations; i++)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            bench_die("pipe");
    close(there[1]);
    waitpid(pid, NULL, 0);
    close(there[0]);
    close(back[0]);
    close(back[1]);
}

static _Atomic uint32_t turn;
static uint64_t turns;

static void hand_over(uint32_t mine, uint32_t other)
{
    for (uint64_t i = 0; i < turns; i++) {
        while (atomic_load(&turn) != mine)
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, other, NULL, NULL, 0);
        atomic_store(&turn, other);
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void *second_thread(void *unused)
{
    (void)unused;
    hand_over(1, 0);
    return NULL;
}

// Two threads of one process on one CPU take turns.
static void ctxsw(uint64_t iterations)
{
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    turns = iterations;
    atomic_store(&turn, 0);
    pthread_t thread;
    if (pthread_create(&thread, NULL, second_thread, NULL))
        bench_die("pthread_create");
    hand_over(0, 1);
    pthread_join(thread, NULL);
    sched_setaffinity(0, sizeof all, &all);
}

static void pagefault(uint64_t iterations)
{
    const size_t bytes = 256 * 4096;
    for (uint64_t i = 0; i < iterations; i++) {
        volatile char *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            bench_die("mmap");
        madvise((void *)memory, bytes, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < bytes; at += 4096)
            memory[at] = 1;
        munmap((void *)memory, bytes);
    }
}

static void mprotect_calls(uint64_t iterations)
{
    const size_t bytes = 16 * 4096;
    volatile char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        bench_die("mmap");
    for (uint64_t i = 0; i < iterations; i++) {
        mprotect((void *)memory, bytes, PROT_READ);
        mprotect((void *)memory, bytes, PROT_READ | PROT_WRITE);
        memory[(i & 15) << 12] = 1;
    }
    munmap((void *)memory, bytes);
}

static void fork_calls(uint64_t iterations)
{
    for (uint64_t i = 0; i < iterations; i++) {
        pid_t pid = child();
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

static void forkexec(uint64_t iterations)
{
    for (uint64_t i = 0; i < iterations; i++) {
        pid_t pid = child();
        if (pid == 0) {
            execl("/proc/self/exe", "wirt-bench", "nothing", (char *)NULL);
            _exit(1);
        }
        waitpid(pid, NULL, 0);
    }
}

static void tmpfs(uint64_t iterations)
{
    for (uint64_t i = 0; i < iterations; i++) {
        char name[64];
        struct stat status;
        snprintf(name, sizeof name, "/dev/shm/wirt-bench-%u", (unsigned)(i & 63));
        int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
        if (fd < 0 || write(fd, name, 32) != 32)
            bench_die(name);
        close(fd);
        stat(name, &status);
        unlink(name);
    }
}

static void fileread(uint64_t iterations)
{
    int fd = memfd_create("wirt-bench", 0);
    for (int i = 0; i < 64; i++)
        if (write(fd, piece, PIECE) != PIECE)
            bench_die("memfd");
    for (uint64_t i = 0; i < iterations; i++)
        if (pread(fd, piece, PIECE, (off_t)(i & 63) * PIECE) != PIECE)
            bench_die("pread");
    close(fd);
}

static void send_all(const struct sockaddr_in *to, uint64_t pieces)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to))
        _exit(1);
    for (uint64_t left = pieces * PIECE; left > 0;) {
        ssize_t sent = write(fd, piece, left < PIECE ? left : PIECE);
        if (sent <= 0)
            _exit(1);
        left -= (uint64_t)sent;
    }
    _exit(0);
}

static void tcp_lo(uint64_t iterations)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &length))
        bench_die("loopback");
    pid_t pid = child();
    if (pid == 0)
        send_all(&address, iterations);
    int fd = accept(listener, NULL, NULL);
    uint64_t got = 0;
    for (ssize_t n; (n = read(fd, piece, PIECE)) > 0;)
        got += (uint64_t)n;
    if (got != iterations * PIECE)
        bench_die("loopback: bytes are missing");
    close(fd);
    close(listener);
    waitpid(pid, NULL, 0);
}

// How late a short timer is.
static void sleep200us(uint64_t iterations)
{
    const struct timespec while_ = {.tv_nsec = 200000};
    for (uint64_t i = 0; i < iterations; i++)
        nanosleep(&while_, NULL);
}

const struct workload kernel_workloads[] = {
    {"getppid", getppid_calls, 10000000, NULL},
    {"vdso_time", vdso_time, 40000000, NULL},
    {"rdtsc", rdtsc, 60000000, NULL},
    {"signal", signal_calls, 600000, NULL},
    {"pipe", pipe_turns, 300000, NULL},
    {"ctxsw", ctxsw, 400000, NULL},
    {"pagefault", pagefault, 3000, NULL},
    {"mprotect", mprotect_calls, 400000, NULL},
    {"fork", fork_calls, 6000, NULL},
    {"forkexec", forkexec, 3000, NULL},
    {"tmpfs", tmpfs, 150000, NULL},
    {"fileread", fileread, 150000, NULL},
    {"tcp_lo", tcp_lo, 60000, NULL},
    {"sleep200us", sleep200us, 2000, NULL},
    {0},
};
