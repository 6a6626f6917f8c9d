// SPDX-License-Identifier: Apache-2.0
#include "launch/user_net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/file.h"
#include "os/unix_socket.h"

#define WORD_BYTES 32

// The words of wirt-net: its descriptor's number, then a word for each forward. To be freed with its texts.
static char **words_of(const json_t *net, int number, char (**texts)[WORD_BYTES])
{
    const json_t *forwards = json_object_get(net, "forward");
    size_t count = json_array_size(forwards);
    char **words = calloc(count + 4, sizeof(*words));
    *texts = calloc(count + 1, sizeof(**texts));
    if (!words || !*texts)
        abort();
    snprintf((*texts)[0], WORD_BYTES, "%d", number);
    words[0] = (char *)"wirt-net";
    words[1] = (char *)"--fd";
    words[2] = (*texts)[0];
    for (size_t i = 0; i < count; i++) {
        const json_t *forward = json_array_get(forwards, i);
        snprintf((*texts)[i + 1], WORD_BYTES, "--forward=tcp:%lld:%lld",
                 json_integer_value(json_object_get(forward, "host_port")),
                 json_integer_value(json_object_get(forward, "guest_port")));
        words[3 + i] = (*texts)[i + 1];
    }
    return words;
}

// Its first packet (machine/net/slirp_host.h): a byte when all forwards stand, else an error.
static int wait_until_ready(int socket, struct err *err)
{
    char told[ERR_TEXT_BYTES];
    size_t none;
    ssize_t n;
    do
        n = os_unix_receive(socket, told, sizeof(told) - 1, NULL, 0, &none);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        return 0;
    if (n < 2 || told[0] <= ERR_NONE || told[0] >= ERR_CODE_COUNT)
        return err_set(err, ERR_HOST, "wirt-net ended before it was ready");
    told[n] = 0;
    return err_set(err, (enum err_code)told[0], "%s", told + 1);
}

int launch_user_net(const json_t *net, launch_start_function *start, void *user, int number,
                    pid_t *pid, struct err *err)
{
    int ends[2];
    char(*texts)[WORD_BYTES];
    *pid = 0;
    if (os_unix_pair(ends, true, err))
        return -1;
    char **words = words_of(net, number ? number : ends[1], &texts);
    int result = start(user, "wirt-net", words, &ends[1], 1, pid, err);
    free(words);
    free(texts);
    os_file_close(&ends[1]);
    if (!result)
        result = wait_until_ready(ends[0], err);
    if (result)
        os_file_close(&ends[0]);
    return ends[0];
}
