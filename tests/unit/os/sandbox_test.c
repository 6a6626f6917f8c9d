// SPDX-License-Identifier: Apache-2.0
//
// Each test does something forbidden in a child process and looks at how it dies.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/sandbox.h"

#define EXIT_ALLOWED 77
#define NO_THREAD    OS_SANDBOX_THREAD_COUNT // only the first stage

static void open_a_file(void)
{
    (void)!open("/etc/passwd", O_RDONLY);
}

static void make_a_socket(void)
{
    (void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void run_a_program(void)
{
    execl("/bin/true", "true", NULL);
}

static void signal_the_parent(void)
{
    kill(getppid(), 0);
}

static void map_writable_code(void)
{
    mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void make_a_ring(void)
{
    (void)!syscall(SYS_io_uring_setup, 1, NULL);
}

static void register_buffers_of_a_ring(void)
{
    (void)!syscall(SYS_io_uring_register, -1, IORING_REGISTER_BUFFERS, NULL, 0);
}

static void register_files_of_a_ring(void)
{
    (void)!syscall(SYS_io_uring_register, -1, IORING_REGISTER_FILES_UPDATE, NULL, 0);
}

static void duplicate_a_descriptor(void)
{
    dup(1);
}

static void write_a_message(void)
{
    (void)!write(2, "", 0);
}

// How the child ends: the signal that killed it, or 0 when it was allowed.
static int try_in_child(enum os_sandbox_thread kind, void (*act)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (os_sandbox_enter(NULL) || (kind != NO_THREAD && os_sandbox_thread(kind, NULL)))
            _exit(1);
        act();
        _exit(EXIT_ALLOWED);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        return WTERMSIG(status);
    assert_int_equal(WEXITSTATUS(status), EXIT_ALLOWED);
    return 0;
}

static void a_forbidden_call_kills_on_every_kind_of_thread(void **state)
{
    void (*const forbidden[])(void) = {open_a_file, make_a_socket, run_a_program, signal_the_parent,
                                       map_writable_code};
    for (int kind = 0; kind <= (int)NO_THREAD; kind++)
        for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
            assert_int_equal(try_in_child((enum os_sandbox_thread)kind, forbidden[i]), SIGSYS);
}

static void a_kind_may_do_only_what_it_needs(void **state)
{
    assert_int_equal(try_in_child(OS_SANDBOX_MAIN, duplicate_a_descriptor), 0);
    assert_int_equal(try_in_child(OS_SANDBOX_VCPU, duplicate_a_descriptor), SIGSYS);
    assert_int_equal(try_in_child(OS_SANDBOX_IO, duplicate_a_descriptor), SIGSYS);
}

static void every_kind_can_speak(void **state)
{
    for (int kind = 0; kind <= (int)NO_THREAD; kind++)
        assert_int_equal(try_in_child((enum os_sandbox_thread)kind, write_a_message), 0);
}

static void rings_are_made_before_threads_take_their_filters(void **state)
{
    (void)state;
    assert_int_equal(try_in_child(NO_THREAD, make_a_ring), 0);
    for (enum os_sandbox_thread kind = 0; kind < NO_THREAD; kind++) {
        assert_int_equal(try_in_child(kind, make_a_ring), SIGSYS);
        assert_int_equal(try_in_child(kind, register_buffers_of_a_ring), SIGSYS);
    }
    assert_int_equal(try_in_child(OS_SANDBOX_IO, register_files_of_a_ring), 0);
    assert_int_equal(try_in_child(OS_SANDBOX_VCPU, register_files_of_a_ring), SIGSYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forbidden_call_kills_on_every_kind_of_thread),
        cmocka_unit_test(a_kind_may_do_only_what_it_needs),
        cmocka_unit_test(every_kind_can_speak),
        cmocka_unit_test(rings_are_made_before_threads_take_their_filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
