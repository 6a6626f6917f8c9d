// SPDX-License-Identifier: Apache-2.0
#include "machine/boot/boot.h"

static const struct {
    bool (*matches)(const struct boot_file *file);
    int (*load)(struct guest_memory *memory, const struct boot_images *images,
                struct boot_entry *entry, struct err *err);
} loaders[] = {
    {boot_bzimage_matches, boot_load_bzimage},
    {boot_multiboot_matches, boot_load_multiboot},
    {boot_pvh_matches, boot_load_pvh},
};

int boot_put(struct guest_memory *memory, uint64_t at, const void *bytes, size_t length,
             struct err *err)
{
    if (guest_memory_write(memory, gpa(at), bytes, length))
        return err_set(err, ERR_USAGE, "guest memory is too small to boot");
    return 0;
}

int boot_load_kernel(struct guest_memory *memory, const struct boot_images *images,
                     struct boot_entry *entry, struct err *err)
{
    for (size_t i = 0; i < sizeof(loaders) / sizeof(loaders[0]); i++)
        if (loaders[i].matches(&images->kernel)) {
            if (!loaders[i].load(memory, images, entry, err))
                return 0;
            return err_wrap(err, "kernel \"%s\"", images->kernel.name);
        }
    return err_set(err, ERR_INPUT,
                   "kernel \"%s\": neither a Linux bzImage, an ELF file with a PVH note, nor a "
                   "multiboot image",
                   images->kernel.name);
}
