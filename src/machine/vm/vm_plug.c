// SPDX-License-Identifier: Apache-2.0
//
// The commands `plug` and `unplug`.
#include <stdio.h>
#include <stdlib.h>

#include "machine/vm/vm_control.h"
#include "machine/vm/vm_devices.h"
#include "os/file.h"

int vm_passed_take(struct vm_passed *passed, const json_t *request, const char *member,
                   struct err *err)
{
    const json_t *number = json_object_get(request, member);
    json_int_t index = number ? json_integer_value(number) : -1;
    if (index < 0 || (size_t)index >= *passed->count || passed->fds[index] < 0)
        return err_set(err, ERR_USAGE,
                       "%s: no descriptor came beside the request under this number", member);
    int fd = passed->fds[index];
    passed->fds[index] = -1;
    return fd;
}

// The descriptors of these objects become the machine's, all or none.
static int take_all(struct vm_passed *passed, json_t *const *objects, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        int fd = vm_passed_take(passed, objects[i], "fd", err);
        if (fd < 0) {
            while (i--) {
                fd = (int)json_integer_value(json_object_get(objects[i], "fd"));
                os_file_close(&fd);
            }
            return -1;
        }
        json_object_set_new(objects[i], "fd", json_integer(fd));
    }
    return 0;
}

// The image, what it stands on, and its log.
static int take_disk(struct vm_passed *passed, json_t *disk, struct err *err)
{
    json_t *objects[2 + VM_MAX_BACKING], *image;
    json_t *log = json_object_get(disk, "log");
    size_t count = 0, index;
    objects[count++] = disk;
    json_array_foreach(json_object_get(disk, "backing"), index, image)
    {
        objects[count++] = image;
    }
    if (log)
        objects[count++] = log;
    return take_all(passed, objects, count, err);
}

// The first free of "disk0", "disk1" …
static void free_id(struct vm *vm, const char *kind, char id[12])
{
    unsigned n = 0;
    do
        snprintf(id, 12, "%s%u", kind, n++ % 1000);
    while (vm_device_find(vm, id));
}

static int plug_disk(struct vm *vm, json_t *json, struct vm_passed *passed, char id[32],
                     struct err *err)
{
    struct vm_disk_config config = {.fd = -1};
    int result = -1;
    if (take_disk(passed, json, err))
        return -1;
    int status_fd = -1;
    if (json_object_get(json, "status_fd")) {
        status_fd = vm_passed_take(passed, json, "status_fd", err);
        json_object_del(json, "status_fd");
    }
    if (!vm_config_parse_disk(&config, json, 0, vm->config->cpus, err)) {
        free_id(vm, "disk", config.default_id);
        snprintf(id, 32, "%s", config.id ? config.id : config.default_id);
        result = vm_add_disk(vm, &config, err);
    }
    if (!result && status_fd >= 0)
        result = vm_remote_watch(vm, id, status_fd, err);
    else
        os_file_close(&status_fd);
    free(config.backing);
    return result;
}

static int plug_net(struct vm *vm, json_t *json, struct vm_passed *passed, char id[32],
                    struct err *err)
{
    struct vm_net_config config = {.fd = -1};
    bool cable = json_object_get(json, "fd");
    if (cable && take_all(passed, &json, 1, err))
        return -1;
    if (vm_config_parse_net(&config, json, vm->config->name, 0, err))
        return -1;
    free_id(vm, "net", config.default_id);
    snprintf(id, 32, "%s", config.id ? config.id : config.default_id);
    return vm_add_net(vm, &config, err);
}

json_t *vm_do_plug(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    json_t *disk = json_object_get(request, "disk");
    json_t *net = json_object_get(request, "net");
    char id[32];
    if (!disk == !net) {
        err_set(err, ERR_USAGE, "plug: either disk or net must be given");
        return NULL;
    }
    if (disk ? plug_disk(vm, disk, passed, id, err) : plug_net(vm, net, passed, id, err))
        return NULL;
    return json_pack("{s:s}", "id", id);
}

static void let_go(void *context)
{
    struct vm_device *device = context;
    struct vm *vm = device->vm;
    json_t *members = json_pack("{s:s}", "id", device->id);
    vm_device_destroy(device);
    vm_control_event(vm, "unplugged", members);
}

// On a vCPU's thread: the guest ejected it.
static void on_ejected(void *context, struct pci_function *function)
{
    struct vm_device *device = context;
    (void)function;
    device->ejected = (struct os_loop_post){.function = let_go, .context = device};
    os_loop_post(device->vm->loop, &device->ejected);
}

json_t *vm_do_unplug(struct vm *vm, const json_t *request, struct vm_passed *passed,
                     struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "device"));
    struct vm_device *device = vm_device_find(vm, id);
    (void)passed;
    if (!device || !device->removable) {
        err_set(err, ERR_NOT_FOUND, "there is no device %s that could be unplugged", id);
        return NULL;
    }
    if (pci_hotplug_unplug(&device->virtio->pci, on_ejected, device, err))
        return NULL;
    return json_object();
}
