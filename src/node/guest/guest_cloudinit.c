// SPDX-License-Identifier: Apache-2.0
#include "node/guest/guest_cloudinit.h"

#include <arpa/inet.h>
#include <crypt.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/auth/secret.h"
#include "node/guest/guest_internal.h"
#include "node/guest/property.h"
#include "node/storage/iso_image.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/random.h"

#define NETS_MAX 16

static const char *const names[] = {"user", "network", "meta", "vendor"};
static const char *const files[] = {"user-data", "network-config", "meta-data", "vendor-data"};
_Static_assert(sizeof(names) / sizeof(names[0]) == CLOUDINIT_COUNT, "names");
_Static_assert(sizeof(files) / sizeof(files[0]) == CLOUDINIT_COUNT, "files");

enum cloudinit_document cloudinit_document_named(const char *name)
{
    enum cloudinit_document document = 0;
    while (document < CLOUDINIT_COUNT && strcmp(names[document], name) != 0)
        document++;
    return document;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

// ---- Addresses.

// "10.0.0.2/24" with a mask of at most `bits`, or without one when 0.
static bool address_fits(const char *text, int family, int bits)
{
    char address[64];
    unsigned char binary[16];
    size_t n = strcspn(text, "/");
    if (n >= sizeof(address))
        return false;
    memcpy(address, text, n);
    address[n] = 0;
    if (inet_pton(family, address, binary) != 1)
        return false;
    if (!bits)
        return !text[n];
    char *end;
    long mask =
        text[n] && isdigit((unsigned char)text[n + 1]) ? strtol(text + n + 1, &end, 10) : -1;
    return mask >= 0 && mask <= bits && !*end;
}

static bool property_fits(const char *key, const char *value)
{
    if (!strcmp(key, "ip"))
        return !strcmp(value, "dhcp") || address_fits(value, AF_INET, 32);
    if (!strcmp(key, "ip6"))
        return !strcmp(value, "dhcp") || !strcmp(value, "auto") ||
               address_fits(value, AF_INET6, 128);
    if (!strcmp(key, "gw"))
        return address_fits(value, AF_INET, 0);
    return !strcmp(key, "gw6") && address_fits(value, AF_INET6, 0);
}

int cloudinit_check_address(const char *ipconfig, struct err *err)
{
    const char *key;
    json_t *value;
    json_t *properties = property_parse(ipconfig, NULL, err);
    int result = properties ? 0 : -1;
    json_object_foreach(properties, key,
                        value) if (!result && !property_fits(key, json_string_value(value)))
        result = err_set(err, ERR_USAGE,
                         "'%s=%.60s' is no address: ip=dhcp or ADDRESS/BITS, gw=ADDRESS, ip6=auto, "
                         "dhcp or ADDRESS/BITS, gw6=ADDRESS",
                         key, json_string_value(value));
    json_decref(properties);
    return result;
}

int cloudinit_check_custom(const char *cicustom, struct err *err)
{
    const char *key;
    json_t *value;
    json_t *properties = property_parse(cicustom, NULL, err);
    int result = properties ? 0 : -1;
    json_object_foreach(properties, key, value)
    {
        const char *volid = json_string_value(value), *colon = strchr(volid, ':');
        if (!result &&
            (cloudinit_document_named(key) == CLOUDINIT_COUNT || !volume_names_storage(volid) ||
             strncmp(colon, ":snippets/", 10) != 0 || strchr(colon + 10, '/')))
            result =
                err_set(err, ERR_USAGE,
                        "user=, network=, meta= and vendor= name snippets: STORE:snippets/FILE");
    }
    json_decref(properties);
    return result;
}

int cloudinit_hash_password(const char *password, char stored[256], struct err *err)
{
    char random[16], setting[64];
    if (password[0] == '$' && strchr(password + 1, '$') && strlen(password) < 256) {
        snprintf(stored, 256, "%s", password);
        return 0;
    }
    os_random_bytes(random, sizeof(random));
    struct crypt_data *data = calloc(1, sizeof(*data));
    // SHA-512, which guests of any age know.
    const char *hash =
        data && crypt_gensalt_rn("$6$", 0, random, sizeof(random), setting, sizeof(setting))
            ? crypt_rn(password, setting, data, sizeof(*data))
            : NULL;
    if (hash)
        snprintf(stored, 256, "%s", hash);
    free(data);
    return hash ? 0 : err_set(err, ERR_HOST, "the password cannot be hashed");
}

// ---- Documents.

static char percent_digit(char c)
{
    c = (char)toupper((unsigned char)c);
    return (char)(c >= 'A' ? c - 'A' + 10 : c - '0');
}

// The keys come percent-encoded, a line each.
static json_t *ssh_keys(const char *encoded)
{
    json_t *keys = json_array();
    char *text = strdup(encoded ? encoded : ""), *to = text, *save = NULL;
    if (!text)
        abort();
    for (const char *at = text; *at; at++) {
        if (*at == '%' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2])) {
            *to++ = (char)(percent_digit(at[1]) << 4 | percent_digit(at[2]));
            at += 2;
        } else {
            *to++ = *at;
        }
    }
    *to = 0;
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        json_t *key = json_string(line); // NULL for what is not UTF-8
        if (key && line[strspn(line, " \t")])
            json_array_append_new(keys, key);
        else
            json_decref(key);
    }
    free(text);
    return keys;
}

static json_t *words(const char *text)
{
    json_t *list = json_array();
    char *copy = strdup(text ? text : ""), *save = NULL;
    if (!copy)
        abort();
    for (char *word = strtok_r(copy, " ,;", &save); word; word = strtok_r(NULL, " ,;", &save))
        json_array_append_new(list, json_string(word));
    free(copy);
    return list;
}

static json_t *compose_user(int64_t vmid, const json_t *config)
{
    char fallback[32], *full = NULL;
    snprintf(fallback, sizeof(fallback), "VM%lld", (long long)vmid);
    const char *name = text_of(config, "name"), *user = text_of(config, "ciuser");
    const char *password = text_of(config, "cipassword"), *domain = text_of(config, "searchdomain");
    name = name ? name : fallback;
    if (asprintf(&full, "%s%s%.*s", name, domain ? "." : "",
                 domain ? (int)strcspn(domain, " ,;") : 0, domain ? domain : "") < 0)
        abort();
    json_t *document =
        json_pack("{s:s, s:s, s:b}", "hostname", name, "fqdn", full, "manage_etc_hosts", 1);
    free(full);
    if (user)
        json_object_set_new(document, "user", json_string(user));
    if (user && !strcmp(user, "root"))
        json_object_set_new(document, "disable_root", json_false());
    if (password)
        json_object_set_new(document, "password", json_string(password));
    json_object_set_new(document, "chpasswd", json_pack("{s:b}", "expire", 0));
    json_t *keys = ssh_keys(text_of(config, "sshkeys"));
    if (json_array_size(keys))
        json_object_set(document, "ssh_authorized_keys", keys);
    json_decref(keys);
    json_object_set_new(document, "users", json_pack("[s]", "default"));
    const json_t *upgrade = json_object_get(config, "ciupgrade");
    json_object_set_new(document, "package_upgrade",
                        json_boolean(upgrade && json_integer_value(upgrade)));
    return document;
}

static void add_subnet(json_t *subnets, const char *address, const char *gateway, bool six)
{
    if (!address)
        return;
    json_t *subnet;
    if (!strcmp(address, "dhcp"))
        subnet = json_pack("{s:s}", "type", six ? "dhcp6" : "dhcp4");
    else if (!strcmp(address, "auto"))
        subnet = json_pack("{s:s}", "type", "ipv6_slaac");
    else
        subnet = json_pack("{s:s, s:s, s:s*}", "type", six ? "static6" : "static", "address",
                           address, "gateway", gateway);
    json_array_append_new(subnets, subnet);
}

static json_t *compose_card(const json_t *config, int number)
{
    char key[24], name[16], mac[24] = "";
    snprintf(key, sizeof(key), "net%d", number);
    const char *text = text_of(config, key);
    json_t *net = text ? property_parse_net(text, NULL) : NULL;
    if (!net)
        return NULL;
    const char *address = text_of(net, "macaddr");
    for (size_t i = 0; address && address[i] && i + 1 < sizeof(mac); i++)
        mac[i] = (char)tolower((unsigned char)address[i]);
    json_decref(net);
    snprintf(key, sizeof(key), "ipconfig%d", number);
    snprintf(name, sizeof(name), "eth%d", number);
    const char *ipconfig = text_of(config, key);
    json_t *given = ipconfig ? property_parse(ipconfig, NULL, NULL) : NULL;
    json_t *subnets = json_array();
    add_subnet(subnets, text_of(given, "ip"), text_of(given, "gw"), false);
    add_subnet(subnets, text_of(given, "ip6"), text_of(given, "gw6"), true);
    if (!json_array_size(subnets))
        add_subnet(subnets, "dhcp", NULL, false);
    json_decref(given);
    return json_pack("{s:s, s:s, s:s, s:o}", "type", "physical", "name", name, "mac_address", mac,
                     "subnets", subnets);
}

static json_t *compose_network(const json_t *config)
{
    json_t *rows = json_array();
    for (int n = 0; n < NETS_MAX; n++) {
        json_t *card = compose_card(config, n);
        if (card)
            json_array_append_new(rows, card);
    }
    json_t *servers = words(text_of(config, "nameserver"));
    json_t *domains = words(text_of(config, "searchdomain"));
    if (json_array_size(servers) || json_array_size(domains))
        json_array_append_new(rows, json_pack("{s:s, s:O, s:O}", "type", "nameserver", "address",
                                              servers, "search", domains));
    json_decref(servers);
    json_decref(domains);
    return json_pack("{s:i, s:o}", "version", 1, "config", rows);
}

// Another id makes cloud-init begin anew, so it follows from what the documents say.
static json_t *compose_meta(int64_t vmid, const json_t *config)
{
    char hash[SECRET_HASH_BYTES];
    json_t *all = json_pack("[I, o, o]", (json_int_t)vmid, compose_user(vmid, config),
                            compose_network(config));
    char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    secret_hash(text, hash);
    free(text);
    json_decref(all);
    hash[40] = 0;
    return json_pack("{s:s}", "instance-id", hash);
}

char *cloudinit_compose(enum cloudinit_document document, int64_t vmid, const json_t *config)
{
    json_t *made = document == CLOUDINIT_USER      ? compose_user(vmid, config)
                   : document == CLOUDINIT_NETWORK ? compose_network(config)
                   : document == CLOUDINIT_META    ? compose_meta(vmid, config)
                                                   : NULL;
    if (!made)
        return NULL;
    char *json = json_dumps(made, JSON_INDENT(2) | JSON_ENSURE_ASCII), *text = NULL;
    json_decref(made);
    if (asprintf(&text, "%s%s\n", document == CLOUDINIT_USER ? "#cloud-config\n" : "", json) < 0)
        abort();
    free(json);
    return text;
}

// ---- With the datastores.

bool cloudinit_is_drive(const char *volid)
{
    const char *name = strrchr(volid, '/');
    return name && !strncmp(name, "/vm-", 4) && strstr(name, "-cloudinit.") != NULL;
}

char *cloudinit_document(struct guests *guests, int64_t vmid, const json_t *config,
                         enum cloudinit_document document, struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    const char *custom = text_of(config, "cicustom");
    json_t *given = custom ? property_parse(custom, NULL, err) : NULL;
    const char *volid = text_of(given, names[document]);
    char *text = NULL;
    if (!volid)
        text = cloudinit_compose(document, vmid, config);
    else if (!volume_path(guests->options.storage, volid, path, NULL, err))
        text = os_file_read_all(path, CLOUDINIT_SNIPPET, NULL, err);
    json_decref(given);
    return text;
}

static int write_image(const char *path, const void *image, size_t length, struct err *err)
{
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_NO_FOLLOW, err);
    if (fd < 0)
        return -1;
    int failed = os_file_truncate(fd, 0); // what an earlier, longer one had is gone
    if (!failed)
        failed = os_pwrite(fd, image, length, 0);
    if (!failed)
        failed = os_file_truncate(fd, CLOUDINIT_BYTES);
    if (!failed)
        failed = os_fdatasync(fd);
    os_file_close(&fd);
    return failed ? err_set_errno(err, -failed, "the cloud-init drive cannot be written") : 0;
}

static int write_drive(struct guests *guests, int64_t vmid, const json_t *config, const char *volid,
                       struct err *err)
{
    char path[VOLUME_PATH_BYTES];
    char *texts[CLOUDINIT_COUNT] = {0};
    struct iso_file parts[CLOUDINIT_COUNT];
    size_t count = 0, length = 0;
    struct err failed = {0};
    int result = volume_path(guests->options.storage, volid, path, NULL, err);
    for (enum cloudinit_document d = 0; d < CLOUDINIT_COUNT && !result; d++) {
        texts[d] = cloudinit_document(guests, vmid, config, d, &failed);
        if (texts[d])
            parts[count++] = (struct iso_file){files[d], texts[d], strlen(texts[d])};
        else if (failed.code)
            result = err_set(err, failed.code, "cloud-init: %.400s", failed.text);
    }
    uint8_t *image =
        result ? NULL
               : iso_image_make("CIDATA", parts, count, os_clock_wall_ns() / 1000000000u, &length);
    if (!result)
        result = image ? write_image(path, image, length, err)
                       : err_set(err, ERR_LIMIT, "cloud-init's documents are too large");
    free(image);
    for (enum cloudinit_document d = 0; d < CLOUDINIT_COUNT; d++)
        free(texts[d]);
    return result;
}

int cloudinit_write(struct guests *guests, int64_t vmid, const json_t *config, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        char volid[VOLUME_ID_BYTES];
        bool cdrom;
        if (guest_is_disk_key(key) && guest_disk_volume(json_string_value(value), volid, &cdrom) &&
            cdrom && cloudinit_is_drive(volid))
            return write_drive(guests, vmid, config, volid, err);
    }
    return 0;
}
