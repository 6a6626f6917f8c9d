// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "machine/net/net_end.h"
#include "machine/virtio/virtio_net.h"
#include "machine/vm/vm_control.h"
#include "machine/vm/vm_devices.h"
#include "os/file.h"

static void destroy_net(struct vm_device *device)
{
    virtio_net_destroy(device->kind);
}

static json_t *net_statistics(struct vm_device *device)
{
    struct virtio_net_stats stats;
    virtio_net_stats(device->kind, &stats);
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "sent_frames", (json_int_t)stats.sent_frames,
                     "sent_bytes", (json_int_t)stats.sent_bytes, "received_frames",
                     (json_int_t)stats.received_frames, "received_bytes",
                     (json_int_t)stats.received_bytes, "dropped_frames",
                     (json_int_t)stats.dropped_frames);
}

static const struct vm_device_ops net_ops = {
    .kind = "net", .destroy = destroy_net, .statistics = net_statistics};

struct end_request {
    struct vm *vm;
    const struct vm_net_config *config;
    struct net_end *end;
    struct err *err;
};

static void destroy_end(void *context)
{
    net_end_destroy(context);
}

// On the I/O loop, as ends want it. Takes the descriptor over.
static void create_end(void *context)
{
    struct end_request *r = context;
    struct os_loop *loop = r->vm->devices->io_loop;
    if (r->config->kind == VM_NET_NONE)
        r->end = net_none_create(r->err);
    else if (!loop)
        err_set(r->err, ERR_USAGE, "a deterministic machine has no network");
    else if (r->config->kind == VM_NET_TAP)
        r->end = net_tap_create(loop, r->config->fd, r->err);
    else
        r->end = net_user_create(loop, r->config->fd, r->err);
}

int vm_add_net(struct vm *vm, const struct vm_net_config *config, struct err *err)
{
    struct end_request request = {vm, config, NULL, err};
    if (vm->devices->io_loop)
        os_loop_call(vm->devices->io_loop, create_end, &request);
    else
        create_end(&request);
    if (!request.end)
        return err_wrap(err, "--net");
    struct vm_device *device =
        vm_device_create(vm, &net_ops, config->id ? config->id : config->default_id, err);
    if (!device) {
        if (vm->devices->io_loop)
            os_loop_call(vm->devices->io_loop, destroy_end, request.end);
        else
            destroy_end(request.end);
        return -1;
    }
    struct virtio_net_params params = {
        .name = device->id, .link_down = config->link_down, .end = request.end};
    memcpy(params.mac, config->mac, sizeof(params.mac));
    device->removable = true;
    device->kind = virtio_net_create(&vm->devices->environment, &params, err);
    if (!device->kind) {
        vm_device_destroy(device);
        return err_wrap(err, "--net");
    }
    device->virtio = virtio_net_device(device->kind);
    return vm_device_plug(device, err);
}

json_t *vm_do_net_link(struct vm *vm, const json_t *request, struct vm_passed *passed,
                       struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "device"));
    struct vm_device *device = vm_device_find(vm, id);
    (void)passed;
    if (!device || device->ops != &net_ops) {
        err_set(err, ERR_NOT_FOUND, "there is no network card %s", id);
        return NULL;
    }
    virtio_net_set_link(device->kind, json_is_true(json_object_get(request, "up")));
    return json_object();
}
