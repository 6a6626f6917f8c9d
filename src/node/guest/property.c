// SPDX-License-Identifier: Apache-2.0
#include "node/guest/property.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "os/random.h"

#define PARTS_MAX 64

static const char *const models[] = {"virtio", "e1000", "e1000e", "rtl8139", "vmxnet3", NULL};

static bool is_key(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && text[i] != '_' && text[i] != '-')
            return false;
    return length > 0 && length < 40;
}

static int add_part(json_t *object, const char *part, size_t length, const char *default_key,
                    struct err *err)
{
    char key[40];
    const char *equals = memchr(part, '=', length);
    size_t key_length = equals ? (size_t)(equals - part) : 0;
    const char *value = equals ? equals + 1 : part;
    if (equals && is_key(part, key_length))
        snprintf(key, sizeof(key), "%.*s", (int)key_length, part);
    else if (default_key && !json_object_get(object, default_key)) {
        snprintf(key, sizeof(key), "%s", default_key);
        value = part;
    } else
        return err_set(err, ERR_USAGE, "'%.*s' is no KEY=VALUE", (int)length, part);
    size_t value_length = length - (size_t)(value - part);
    if (json_object_get(object, key))
        return err_set(err, ERR_USAGE, "'%s' is given twice", key);
    if (json_object_size(object) >= PARTS_MAX)
        return err_set(err, ERR_USAGE, "too many parts");
    if (json_object_set_new(object, key, json_stringn(value, value_length)))
        return err_set(err, ERR_USAGE, "'%s' is not UTF-8", key);
    return 0;
}

json_t *property_parse(const char *text, const char *default_key, struct err *err)
{
    json_t *object = json_object();
    while (*text) {
        size_t length = strcspn(text, ",");
        if (length && add_part(object, text, length, default_key, err)) {
            json_decref(object);
            return NULL;
        }
        text += length + (text[length] != 0);
    }
    return object;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void append(char **text, size_t *length, const char *part)
{
    size_t n = strlen(part);
    *text = realloc(*text, *length + n + 1);
    if (!*text)
        abort();
    memcpy(*text + *length, part, n + 1);
    *length += n;
}

// The rest in alphabetical order, behind what stands in *text.
static void append_sorted(char **text, size_t *length, const json_t *properties,
                          const char *without_a, const char *without_b)
{
    const char *names[PARTS_MAX] = {NULL};
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)properties, name, value)
    {
        if ((!without_a || strcmp(name, without_a) != 0) &&
            (!without_b || strcmp(name, without_b) != 0) && count < PARTS_MAX)
            names[count++] = name;
    }
    qsort(names, count, sizeof(*names), by_name);
    for (size_t i = 0; i < count; i++) {
        if (*length)
            append(text, length, ",");
        append(text, length, names[i]);
        append(text, length, "=");
        append(text, length, json_string_value(json_object_get(properties, names[i])));
    }
}

// Would the default key's value be read as such without its key?
static bool stands_bare(const char *value)
{
    const char *equals = strchr(value, '=');
    return *value && !(equals && is_key(value, (size_t)(equals - value)));
}

char *property_print(const json_t *properties, const char *default_key)
{
    char *text = calloc(1, 1);
    size_t length = 0;
    const char *first =
        default_key ? json_string_value(json_object_get(properties, default_key)) : NULL;
    if (first && !stands_bare(first)) {
        append(&text, &length, default_key);
        append(&text, &length, "=");
    }
    if (first)
        append(&text, &length, first);
    append_sorted(&text, &length, properties, default_key, NULL);
    return text;
}

static bool is_mac(const char *text)
{
    if (strlen(text) != 17)
        return false;
    for (size_t i = 0; i < 17; i++)
        if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
            return false;
    return strchr("02468aAcCeE", text[1]); // no group's
}

static void make_mac(char mac[18])
{
    uint8_t random[3];
    os_random_bytes(random, sizeof(random));
    snprintf(mac, 18, "BC:24:11:%02X:%02X:%02X", random[0], random[1], random[2]);
}

static const char *const flags_on[] = {"1", "on", "yes", "true", NULL};
static const char *const flags_off[] = {"0", "off", "no", "false", NULL};

static bool is_one_of(const char *text, const char *const words[])
{
    for (size_t i = 0; text && words[i]; i++)
        if (!strcmp(text, words[i]))
            return true;
    return false;
}

bool property_flag(const json_t *properties, const char *key)
{
    return is_one_of(json_string_value(json_object_get(properties, key)), flags_on);
}

json_t *property_parse_net(const char *text, struct err *err)
{
    json_t *net = property_parse(text, "model", err);
    if (!net)
        return NULL;
    for (size_t i = 0; models[i]; i++) { // "virtio=MAC" is model and address in one
        const char *mac = json_string_value(json_object_get(net, models[i]));
        if (mac) {
            json_object_set_new(net, "macaddr", json_string(mac));
            json_object_set_new(net, "model", json_string(models[i]));
            json_object_del(net, models[i]);
        }
    }
    const char *model = json_string_value(json_object_get(net, "model"));
    bool known = false;
    for (size_t i = 0; models[i] && model; i++)
        known |= !strcmp(models[i], model);
    char mac[18];
    const char *given = json_string_value(json_object_get(net, "macaddr"));
    if (given)
        snprintf(mac, sizeof(mac), "%.17s", given);
    else
        make_mac(mac);
    if (!known || (given && !is_mac(given))) {
        err_set(err, ERR_USAGE, "%s: no such model of a network card, or no MAC address", text);
        json_decref(net);
        return NULL;
    }
    const char *down = json_string_value(json_object_get(net, "link_down"));
    if (down && !is_one_of(down, flags_on) && !is_one_of(down, flags_off)) {
        err_set(err, ERR_USAGE, "%s: link_down is 0 or 1", text);
        json_decref(net);
        return NULL;
    }
    for (char *c = mac; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    json_object_set_new(net, "macaddr", json_string(mac));
    return net;
}

char *property_print_net(const json_t *net)
{
    char *text = calloc(1, 1);
    size_t length = 0;
    append(&text, &length, json_string_value(json_object_get(net, "model")));
    append(&text, &length, "=");
    append(&text, &length, json_string_value(json_object_get(net, "macaddr")));
    append_sorted(&text, &length, net, "model", "macaddr");
    return text;
}

void property_size(uint64_t bytes, char text[24])
{
    static const char units[] = "TGMK";
    for (size_t i = 0; i < 4; i++) {
        uint64_t unit = UINT64_C(1) << (40 - 10 * i);
        if (bytes >= unit && bytes % unit == 0) {
            snprintf(text, 24, "%llu%c", (unsigned long long)(bytes / unit), units[i]);
            return;
        }
    }
    snprintf(text, 24, "%llu", (unsigned long long)bytes);
}
