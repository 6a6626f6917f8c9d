// SPDX-License-Identifier: Apache-2.0
//
// Lines of KEY=VALUE as a guest's configuration, of which only what the API would take gets in: disks and network cards read back as they were
// printed, and whatever cloud-init's keys hold becomes documents that are JSON and fit on the drive.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_cloudinit.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"
#include "node/rest/rest.h"
#include "node/storage/iso_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void demand(bool true_of_it)
{
    if (!true_of_it)
        abort();
}

static void check_property(const char *text, const char *first)
{
    struct err err = {0};
    json_t *properties = property_parse(text, first, &err);
    if (!properties) {
        demand(err.text[0] != 0);
        return;
    }
    char *printed = property_print(properties, first);
    json_t *again = property_parse(printed, first, &err);
    demand(again && json_equal(properties, again));
    json_decref(again);
    json_decref(properties);
    free(printed);
}

static void check_net(const char *text)
{
    struct err err = {0};
    json_t *net = property_parse_net(text, &err);
    if (!net) {
        demand(err.text[0] != 0);
        return;
    }
    char *printed = property_print_net(net);
    json_t *again = property_parse_net(printed, &err);
    demand(again && json_equal(net, again));
    json_decref(again);
    json_decref(net);
    free(printed);
}

static void check_volume(const char *text)
{
    char volid[VOLUME_ID_BYTES] = "";
    bool cdrom;
    if (guest_disk_volume(text, volid, &cdrom)) {
        demand(strchr(volid, ':') != NULL);
        cloudinit_is_drive(volid);
    }
}

// In order, once each, and the same again when they are read back.
static void check_tags(const char *text)
{
    char joined[GUEST_TAGS_BYTES], again[GUEST_TAGS_BYTES], *save = NULL;
    guest_join_tags(text, joined);
    guest_join_tags(joined, again);
    demand(!strcmp(joined, again) && strlen(joined) <= strlen(text));
    demand(!strpbrk(joined, ", ") && !strstr(joined, ";;"));
    json_t *string = json_string(joined);
    demand(string != NULL); // no letter was cut in two
    json_decref(string);
    const char *last = NULL;
    for (const char *tag = strtok_r(again, ";", &save); tag; tag = strtok_r(NULL, ";", &save)) {
        demand(!last || strcmp(last, tag) < 0);
        last = tag;
    }
}

static void add_line(json_t *config, const char *line, size_t length)
{
    const char *equals = memchr(line, '=', length);
    if (!equals || equals == line || equals - line > 40)
        return;
    char *key = strndup(line, (size_t)(equals - line));
    json_t *value = json_stringn(equals + 1, length - (size_t)(equals + 1 - line));
    const char *text = json_string_value(value);
    if (text && strlen(text) == json_string_length(value)) {
        check_property(text, "file");
        check_property(text, NULL);
        check_net(text);
        check_volume(text);
        check_tags(text);
        if (api_value_fits(rest_guest_keys, key, value))
            json_object_set(config, key, value);
    }
    json_decref(value);
    free(key);
}

static void check_documents(const json_t *config)
{
    char *texts[CLOUDINIT_COUNT] = {0};
    struct iso_file parts[CLOUDINIT_COUNT];
    size_t count = 0, length = 0;
    for (enum cloudinit_document d = 0; d < CLOUDINIT_COUNT; d++) {
        texts[d] = cloudinit_compose(d, 100, config);
        demand(texts[d] || d == CLOUDINIT_VENDOR);
        if (!texts[d])
            continue;
        const char *json = texts[d][0] == '#' ? strchr(texts[d], '\n') : texts[d];
        json_t *document = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
        demand(json_is_object(document));
        if (d == CLOUDINIT_USER)
            demand(json_is_string(json_object_get(document, "fqdn")) &&
                   json_is_array(json_object_get(document, "users")));
        json_decref(document);
        parts[count++] = (struct iso_file){"part", texts[d], strlen(texts[d])};
    }
    uint8_t *image = iso_image_make("CIDATA", parts, count, 1, &length);
    demand(image && length <= CLOUDINIT_BYTES);
    free(image);
    for (enum cloudinit_document d = 0; d < CLOUDINIT_COUNT; d++)
        free(texts[d]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const char *at = (const char *)bytes, *end = at + length;
    json_t *config = json_object();
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        add_line(config, at, (size_t)(stop - at));
        at = stop + 1;
    }
    check_documents(config);
    json_decref(config);
    return 0;
}
