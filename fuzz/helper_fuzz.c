// SPDX-License-Identifier: Apache-2.0
//
// Bytes as a packet to the process that keeps root: it is refused with a reason, or what would be done is within what the helper may be asked. The first byte is
// how many descriptors come beside it.
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/helper/helper.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static const char *text(const json_t *request, const char *name)
{
    const char *found = json_string_value(json_object_get(request, name));
    if (!found)
        abort();
    return found;
}

static void demand(bool true_of_it)
{
    if (!true_of_it)
        abort();
}

// A name that becomes a folder's.
static void check_plain(const char *name, size_t max)
{
    demand(strlen(name) <= max);
    for (; *name; name++)
        demand(isalnum((unsigned char)*name) || *name == '-');
}

static void check_spawn(const json_t *request, size_t fd_count)
{
    const json_t *words = json_object_get(request, "words");
    const json_t *numbers = json_object_get(request, "numbers");
    const char *program = text(request, "program");
    size_t index;
    json_t *value;
    demand(!strcmp(program, "wirt-vm") || !strncmp(program, "wirt-", 5));
    demand(!strchr(program, '/'));
    demand(json_array_size(words) >= 1 && json_array_size(words) <= 128);
    json_array_foreach(words, index, value) demand(json_is_string(value));
    demand(json_array_size(numbers) == fd_count);
    json_array_foreach(numbers, index, value)
    {
        json_int_t number = json_integer_value(value);
        demand(json_is_integer(value) && (number == 1 || (number >= 3 && number <= 1023)));
    }
    demand(json_integer_value(json_object_get(request, "memory")) >= 0);
    check_plain(text(request, "scope"), 32);
    demand(text(request, "scope")[0] != 0);
}

static void check_network(const json_t *request, const char *verb)
{
    unsigned a, b, c, d;
    const char *address = text(request, !strcmp(verb, "tap") ? "address" : "subnet");
    demand(strlen(address) <= 15 && strspn(address, "0123456789.") == strlen(address));
    demand(sscanf(address, "%u.%u.%u.%u", &a, &b, &c, &d) == 4);
    demand(a < 256 && b < 256 && c < 256 && d < 256);
    if (!strcmp(verb, "bridge")) {
        demand(a == 10 && b >= 64 && b < 128 && c % 16 == 0 && d == 0);
        return;
    }
    demand(strlen(text(request, "mac")) == 17);
    demand(strspn(text(request, "mac"), "0123456789abcdefABCDEF:") == 17);
    check_plain(text(request, "name"), 63);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct err err = {0};
    if (length < 1)
        return 0;
    size_t fd_count = bytes[0] % 8;
    json_t *request = helper_parse((const char *)bytes + 1, length - 1, fd_count, &err);
    if (!request) {
        demand(err.text[0] != 0);
        return 0;
    }
    const char *verb = text(request, "do");
    if (!strcmp(verb, "spawn"))
        check_spawn(request, fd_count);
    else
        demand(fd_count == 0);
    if (!strcmp(verb, "tap") || !strcmp(verb, "bridge"))
        check_network(request, verb);
    if (!strcmp(verb, "kill"))
        demand(json_integer_value(json_object_get(request, "pid")) >= 2);
    if (!strcmp(verb, "release"))
        check_plain(text(request, "scope"), 32);
    json_decref(request);
    return 0;
}
