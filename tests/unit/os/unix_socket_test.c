// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/unix_socket.h"

#define FOLDERS 100

static char folder[] = "/tmp/wirt-unix-socket-XXXXXX";
static char socket_path[64];

static void listen_and_close(void)
{
    struct err err = {0};
    int fd = os_unix_listen(socket_path, &err);
    assert_true(fd >= 0);
    close(fd);
}

static void a_socket_is_its_owners_alone(void **state)
{
    struct stat about;
    mode_t before = umask(0);
    listen_and_close();
    umask(before);
    assert_int_equal(stat(socket_path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    os_unix_remove(socket_path);
}

static void *listen_again_and_again(void *ended)
{
    while (!atomic_load((atomic_bool *)ended)) {
        listen_and_close();
        os_unix_remove(socket_path);
    }
    return NULL;
}

// wirtd starts many machines at once: the folder of one is made while another's sockets are.
static void folders_made_meanwhile_have_their_modes(void **state)
{
    char path[64];
    pthread_t thread;
    unsigned wrong = 0;
    atomic_bool ended = false;
    struct stat about;
    snprintf(path, sizeof(path), "%s/made", folder);
    assert_int_equal(pthread_create(&thread, NULL, listen_again_and_again, &ended), 0);
    for (int i = 0; i < FOLDERS; i++) {
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(stat(path, &about), 0);
        wrong += (about.st_mode & 07777) != 0700;
        assert_int_equal(rmdir(path), 0);
    }
    atomic_store(&ended, true);
    pthread_join(thread, NULL);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_is_its_owners_alone),
        cmocka_unit_test(folders_made_meanwhile_have_their_modes),
    };
    if (!mkdtemp(folder))
        return 1;
    snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
