// SPDX-License-Identifier: Apache-2.0
#include "machine/boot/elf_image.h"

#include <elf.h>
#include <string.h>

#include "base/bits.h"

// A page of zeros is written at a time: memory behind a segment's file bytes.
#define ZERO_BYTES 4096u

bool elf_image_matches(const struct boot_file *file)
{
    return file->length >= EI_NIDENT && !memcmp(file->bytes, ELFMAG, SELFMAG);
}

static void read_segment_64(struct elf_segment *segment, const uint8_t *at)
{
    Elf64_Phdr h;
    memcpy(&h, at, sizeof(h));
    *segment =
        (struct elf_segment){h.p_type, h.p_offset, h.p_filesz, h.p_paddr, h.p_memsz, h.p_vaddr};
}

static void read_segment_32(struct elf_segment *segment, const uint8_t *at)
{
    Elf32_Phdr h;
    memcpy(&h, at, sizeof(h));
    *segment =
        (struct elf_segment){h.p_type, h.p_offset, h.p_filesz, h.p_paddr, h.p_memsz, h.p_vaddr};
}

static int read_segments(struct elf_image *image, bool wide, uint64_t table, unsigned count,
                         unsigned entry_bytes, struct err *err)
{
    const struct boot_file *file = image->file;
    if (entry_bytes != (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || count == 0 ||
        count > ELF_MAX_SEGMENTS ||
        !range_within(table, (uint64_t)count * entry_bytes, file->length))
        return err_set(err, ERR_INPUT, "its ELF program headers are malformed");
    image->segment_count = count;
    image->low = UINT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        struct elf_segment *segment = &image->segments[i];
        const uint8_t *at = file->bytes + table + (uint64_t)i * entry_bytes;
        if (wide)
            read_segment_64(segment, at);
        else
            read_segment_32(segment, at);
        if (segment->type != PT_LOAD && segment->type != PT_NOTE)
            continue;
        if (!range_within(segment->offset, segment->file_bytes, file->length))
            return err_set(err, ERR_INPUT,
                           "the file is truncated: ELF segment %u reaches beyond its %zu bytes", i,
                           file->length);
        if (segment->type == PT_NOTE)
            continue;
        uint64_t end;
        if (segment->memory_bytes < segment->file_bytes ||
            __builtin_add_overflow(segment->physical, segment->memory_bytes, &end))
            return err_set(err, ERR_INPUT, "ELF segment %u has a malformed size", i);
        if (segment->physical < image->low)
            image->low = segment->physical;
        if (end > image->high)
            image->high = end;
    }
    if (!image->high)
        return err_set(err, ERR_INPUT, "the ELF file has nothing to load");
    return 0;
}

int elf_image_parse(struct elf_image *image, const struct boot_file *file, struct err *err)
{
    *image = (struct elf_image){.file = file};
    const uint8_t *bytes = file->bytes;
    if (file->length < sizeof(Elf32_Ehdr) || bytes[EI_DATA] != ELFDATA2LSB)
        return err_set(err, ERR_INPUT, "the ELF header is truncated or not little-endian");
    if (bytes[EI_CLASS] == ELFCLASS64 && file->length >= sizeof(Elf64_Ehdr)) {
        Elf64_Ehdr h;
        memcpy(&h, bytes, sizeof(h));
        image->entry = h.e_entry;
        if (h.e_machine != EM_X86_64)
            return err_set(err, ERR_INPUT, "the ELF file is for machine type %u, not for x86-64",
                           h.e_machine);
        return read_segments(image, true, h.e_phoff, h.e_phnum, h.e_phentsize, err);
    }
    Elf32_Ehdr h;
    memcpy(&h, bytes, sizeof(h));
    image->entry = h.e_entry;
    if (bytes[EI_CLASS] != ELFCLASS32 || h.e_machine != EM_386)
        return err_set(err, ERR_INPUT, "the ELF file is neither for i386 nor for x86-64");
    return read_segments(image, false, h.e_phoff, h.e_phnum, h.e_phentsize, err);
}

static int put_zeros(struct guest_memory *memory, uint64_t at, uint64_t length)
{
    static const uint8_t zeros[ZERO_BYTES];
    while (length) {
        uint64_t n = length < ZERO_BYTES ? length : ZERO_BYTES;
        if (guest_memory_write(memory, gpa(at), zeros, n))
            return -1;
        at += n;
        length -= n;
    }
    return 0;
}

int elf_image_load(const struct elf_image *image, struct guest_memory *memory, struct err *err)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type != PT_LOAD || !s->memory_bytes)
            continue;
        // What the loader itself puts into low memory must not be overwritten.
        if (s->physical < MIB ||
            !range_within(s->physical, s->memory_bytes, guest_memory_low_bytes(memory)))
            return err_set(err, ERR_USAGE,
                           "it wants memory from 0x%llx to 0x%llx, which is not all RAM above 1 "
                           "MiB; try more --memory",
                           (unsigned long long)s->physical,
                           (unsigned long long)s->physical + s->memory_bytes);
        if (guest_memory_write(memory, gpa(s->physical), image->file->bytes + s->offset,
                               s->file_bytes) ||
            put_zeros(memory, s->physical + s->file_bytes, s->memory_bytes - s->file_bytes))
            return err_set(err, ERR_LIMIT, "guest memory refused ELF segment %u", i);
    }
    return 0;
}

uint64_t elf_image_physical(const struct elf_image *image, uint64_t virtual)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type == PT_LOAD && virtual >= s->virtual && virtual - s->virtual < s->memory_bytes)
            return s->physical + (virtual - s->virtual);
    }
    return virtual;
}

static const uint8_t *find_note(const uint8_t *notes, uint64_t length, const char *name,
                                uint32_t type, size_t min_bytes)
{
    while (length >= sizeof(Elf32_Nhdr)) {
        Elf32_Nhdr h;
        memcpy(&h, notes, sizeof(h));
        uint64_t name_at = sizeof(h);
        uint64_t contents_at = name_at + align_up(h.n_namesz, 4);
        uint64_t end = contents_at + align_up(h.n_descsz, 4);
        if (contents_at > length || h.n_descsz > length - contents_at)
            return NULL;
        if (h.n_type == type && h.n_namesz == strlen(name) + 1 &&
            !memcmp(notes + name_at, name, h.n_namesz) && h.n_descsz >= min_bytes)
            return notes + contents_at;
        if (end >= length)
            return NULL;
        notes += end;
        length -= end;
    }
    return NULL;
}

const uint8_t *elf_image_note(const struct elf_image *image, const char *name, uint32_t type,
                              size_t min_bytes)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type != PT_NOTE)
            continue;
        const uint8_t *note =
            find_note(image->file->bytes + s->offset, s->file_bytes, name, type, min_bytes);
        if (note)
            return note;
    }
    return NULL;
}
