// SPDX-License-Identifier: Apache-2.0
//
// `wirt images`: templates. Built here out of a distribution's packages, or out of an image that there is already; sent to the node,
// made a VM of, and that a template.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "os/directory.h"
#include "os/process.h"
#include "os/random.h"

static const struct cli_column image_columns[] = {
    {"ID", "vmid", CELL_NUMBER},    {"NAME", "name", CELL_TEXT},     {"NODE", "node", CELL_TEXT},
    {"DISK", "maxdisk", CELL_SIZE}, {"MEMORY", "maxmem", CELL_SIZE}, {NULL, NULL, CELL_TEXT},
};

int remote_images_list(struct remote *remote, struct err *err)
{
    json_t *all = NULL, *one, *templates = json_array();
    size_t i;
    int result = remote_call(remote, "GET", json_pack("{s:s}", "type", "vm"), &all, err,
                             "/cluster/resources");
    json_array_foreach(all, i, one)
    {
        if (json_integer_value(json_object_get(one, "template")) == 1)
            json_array_append(templates, one);
    }
    if (!result && !json_array_size(templates) && !remote->json)
        puts("no templates yet: `wirt images build debian-12` makes one");
    else if (!result)
        remote_table(remote, templates, image_columns);
    json_decref(templates);
    json_decref(all);
    return result;
}

static int run_program(const char *name, char *const *arguments, struct err *err)
{
    char program[PATH_BYTES];
    pid_t pid;
    if (os_process_find_program(name, program, sizeof(program), err) ||
        os_process_start(program, arguments, NULL, 0, &pid, err))
        return -1;
    int status = os_process_wait(pid);
    return status ? err_set(err, ERR_HOST, "%s ended with status %d", name, status) : 0;
}

// A VM whose disk is the image, made a template.
static int make_template(struct remote *remote, const char *node, const char *store,
                         const char *volume, const char *name, struct err *err)
{
    char disk[PATH_BYTES], drive[NAME_BYTES];
    json_t *id = NULL;
    if (remote_call(remote, "GET", NULL, &id, err, "/cluster/nextid"))
        return -1;
    snprintf(disk, sizeof(disk), "%s:0,import-from=%s:import/%s", store, store, volume);
    snprintf(drive, sizeof(drive), "%s:cloudinit", store);
    json_t *vm =
        json_pack("{s:O, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:s}", "vmid", id, "name", name,
                  "virtio0", disk, "ide2", drive, "net0", "virtio,bridge=vmbr0", "serial0",
                  "socket", "cores", 1, "memory", 1024, "agent", "1", "boot", "order=virtio0");
    int result =
        remote_task(remote, "make the template's VM", "POST", vm, err, "/nodes/%s/qemu", node);
    if (!result)
        result = remote_task(remote, "make it a template", "POST", NULL, err,
                             "/nodes/%s/qemu/%s/template", node, json_string_value(id));
    json_decref(id);
    return result;
}

static int install(struct remote *remote, const char *file, const char *name, struct err *err)
{
    char node[NAME_BYTES], volume[NAME_BYTES];
    const char *store = remote_store(remote);
    const char *suffix = strrchr(file, '.');
    if (!suffix || strchr(suffix, '/'))
        return err_set(err, ERR_USAGE, "%s: its suffix must tell the format (.raw, .qcow2, .vmdk)",
                       file);
    snprintf(volume, sizeof(volume), "%.100s%s", name, suffix);
    if (remote_node(remote, node, err) ||
        remote_upload(remote, "send the image", node, "import", file, volume, err))
        return -1;
    int result = make_template(remote, node, store, volume, name, err);
    struct err ignored; // the disk has been copied out of it; what is left is only in the way
    remote_task(remote, "clear the sent file away", "DELETE", NULL, result ? &ignored : err,
                "/nodes/%s/storage/%s/content/%s:import/%s", node, store, store, volume);
    if (!result && !remote->json)
        printf("template %s is there: wirt launch %s NAME\n", name, name);
    return result;
}

int remote_images_import(struct remote *remote, struct err *err)
{
    return install(remote, remote->words->operand[0], remote->words->operand[1], err);
}

int remote_images_build(struct remote *remote, struct err *err)
{
    const char *release = remote->words->operand[0], *name = cli_word(remote->words, "name");
    const char *keep = cli_word(remote->words, "output");
    char folder[64], raw[128], qcow2[PATH_BYTES];
    uint64_t random;
    os_random_bytes(&random, sizeof(random));
    snprintf(folder, sizeof(folder), "/var/tmp/wirt-image-%016llx", (unsigned long long)random);
    snprintf(raw, sizeof(raw), "%s/image.raw", folder);
    snprintf(qcow2, sizeof(qcow2), "%s%s", keep ? keep : folder, keep ? "" : "/image.qcow2");
    if (os_directory_make(folder, 0700, err))
        return -1;
    char *const build[] = {(char[]){"wirt-image"}, (char *)release, raw, NULL};
    char *const convert[] = {
        (char[]){"wirt"}, (char[]){"disk"}, (char[]){"convert"}, raw, qcow2, NULL};
    int result = run_program("wirt-image", build, err);
    if (!result)
        result = run_program("wirt-remote", convert, err);
    if (!result && !keep)
        result = install(remote, qcow2, name ? name : release, err);
    os_file_remove(raw);
    if (!keep)
        os_file_remove(qcow2);
    os_directory_remove(folder);
    return result;
}
